"""The page at /: a picture is tried in a browser, without any other host."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browsing import watched_page
from tests.service.served import Serving, picture, serving

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def served() -> Iterator[Serving]:
    with serving() as running:
        yield running


@pytest.fixture(params=[("light", 1280), ("dark", 360)], ids=lambda given: f"{given[0]}-{given[1]}")
def page(request: pytest.FixtureRequest, browser: Browser, served: Serving) -> Iterator[Page]:
    scheme, width = request.param
    size = (width, 800)
    with watched_page(browser, served.address, scheme=scheme, size=size, expected="status of 415") as opened:
        yield opened


def test_a_picture_is_tried(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "street.jpg"
    file.write_bytes(picture(size=(640, 400)))
    page.set_input_files("#file", str(file))
    expect(page.locator("#status")).to_have_text("Hidden: 1 car")
    expect(page.locator("#after")).to_have_js_property("naturalWidth", 640)
    assert page.evaluate("document.getElementById('save').download") == "street_anonymised.jpg"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    if folder := os.environ.get("ANONYMISE_TEST_SCREENSHOTS"):
        page.screenshot(path=f"{folder}/service_{page.viewport_size['width']}.png", full_page=True)  # type: ignore[index]
    found = Axe().run(page)
    assert [v["id"] for v in found.response["violations"] if v["impact"] in ("serious", "critical")] == []


def test_what_is_dropped_and_is_no_picture(page: Page) -> None:
    page.evaluate(
        """() => {
            const data = new DataTransfer();
            data.items.add(new File(["text"], "a.jpg", { type: "image/jpeg" }));
            document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
        }"""
    )
    expect(page.locator("#status")).to_have_text("Unknown content type")
    assert page.locator("#pair").is_hidden()
