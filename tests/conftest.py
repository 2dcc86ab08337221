import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# How long it takes to draw examples depends on how busy the machine is, and says nothing about the program.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

SHARED = Path(os.environ.get("ANONYMISE_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The measuring pictures, which are no part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the folder of shared test pictures is not here (ANONYMISE_SHARED)")
    return SHARED


@pytest.fixture(scope="module")  # its event loop must not be there for other modules
def browser() -> "Iterator[Browser]":
    """Chromium, without a screen, which contacts nobody by itself."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        reason = "Chromium is not installed (Debian: apt-get install chromium)"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{reason}, and in CI its tests must run")
        pytest.skip(reason)
    off = ("gpu", "quic", "background-networking", "component-update", "sync")
    flags = ["--headless", "--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in off)]
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=flags)
        yield launched
        launched.close()
