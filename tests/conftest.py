import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
