"""The page of the review in a browser: keys, drawing, what is stored, what is kept when the server goes away."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect

from anonymise.core.detections import Box
from anonymise.corrections.store import Correction, Store
from anonymise.review.decisions import Decisions
from tests.browsing import watched_page
from tests.fakes import read_image, street
from tests.review.published import FLAGS, PLAIN, on_its_side, publish
from tests.review.served import Serving, serving

pytestmark = pytest.mark.slow

KEYS = (*PLAIN, *FLAGS)
CAR = Box(40, 40, 90, 80)


@contextmanager
def opened(
    browser: Browser, server: Serving, *, scheme: str = "light", size: tuple[int, int] = (1280, 800)
) -> Iterator[Page]:
    """A tab with the page, which has asked nobody else and complained of nothing in the end."""
    token = f"#{server.token}"
    with watched_page(
        browser, server.address, scheme=scheme, size=size, opens=token, expected="Failed to load"
    ) as page:
        expect(page.locator("#relative")).not_to_be_empty(timeout=30_000)
        shown(page)
        yield page


def shown(page: Page) -> str:
    """Path of the picture that is seen, once it is."""
    expect(page.locator("#empty")).to_be_hidden(timeout=30_000)
    expect(page.locator("#decide")).to_be_enabled()  # once it was there for long enough to be looked at
    return page.locator("#relative").inner_text()


def shown_of_all(page: Page) -> str:
    """Path of the picture that is seen once the queue of all pictures is opened."""
    page.get_by_role("button", name="All").click()
    return shown(page)


def decided(folder: Path) -> list[tuple[str, str]]:
    """Path and verdict of each decision that was not undone, in their order."""
    with Store(folder / "store") as store:
        return [(row.relative, str(row.verdict)) for row in Decisions(store).in_force()]


def corrections(folder: Path) -> list[Correction]:
    with Store(folder / "store") as store:
        return store.select("kind IS NOT NULL AND status IN ('accepted', 'drawn') ORDER BY id")


def next_picture(page: Page, key: str) -> str:
    before = shown(page)
    page.keyboard.press(key)
    expect(page.locator("#relative")).not_to_have_text(before)
    return shown(page)


def on_screen(page: Page, x: float, y: float, size: tuple[int, int] = (160, 120)) -> tuple[float, float]:
    """Where an upright pixel of a picture is that fits the stage."""
    stage = page.locator("#stage").bounding_box()
    assert stage is not None
    scale = min(stage["width"] / size[0], stage["height"] / size[1])
    left = stage["x"] + (stage["width"] - size[0] * scale) / 2
    top = stage["y"] + (stage["height"] - size[1] * scale) / 2
    return left + x * scale, top + y * scale


def drag(page: Page, start: tuple[float, float], end: tuple[float, float], size: tuple[int, int] = (160, 120)) -> None:
    page.mouse.move(*on_screen(page, *start, size))
    page.mouse.down()
    page.mouse.move(*on_screen(page, *end, size), steps=5)
    page.mouse.up()


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ready")
    publish(folder, {f"a/{n:02d}.png": street(seed=n) for n in range(20)}, *FLAGS)
    return folder


@pytest.fixture
def folder(ready: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(ready, tmp_path / "copy"))


def test_twenty_pictures_by_the_keyboard_alone(browser: Browser, folder: Path) -> None:
    """Acceptance 2, with undo; and 3: looking on and leaving stores nothing, Enter exactly one."""
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        page.get_by_role("button", name="All").press("Enter")
        first = shown(page)
        expected: dict[str, str] = {}
        for key in ("Space", "ArrowRight", "ArrowLeft", "ArrowLeft", "s"):
            page.keyboard.press(key)
        expect(page.locator("#previous")).to_be_disabled()
        assert shown(page) == first
        assert decided(folder) == []
        for n in range(20):
            name = shown(page)
            if n in (3, 8, 12):
                page.keyboard.press("n")
                page.keyboard.press("1")
                for _ in range(5):
                    page.keyboard.press("Shift+Alt+ArrowUp")
                expected[name] = "missed"
            elif n == 5:
                page.locator("#stage").focus()
                page.keyboard.press("Tab")
                page.keyboard.press("Delete")
                page.keyboard.press("s")
                expected[name] = "false"
            else:
                expected[name] = "good"
            if n == 10:  # twice fast
                page.evaluate("for (let n = 0; n < 2; n++) document.getElementById('decide').click()")
            else:
                page.keyboard.press("Enter")
            if n < 19:
                expect(page.locator("#relative")).not_to_have_text(name)
        expect(page.locator("#empty")).to_be_visible()
        assert dict(decided(folder)) == expected
        assert len(decided(folder)) == 20
        rows = corrections(folder)
        assert [(row.kind, row.category) for row in rows].count(("add", "person")) == 3
        assert [(row.kind, row.category, row.reason) for row in rows].count(("remove", "car", "sign")) == 1
        assert {row.shape for row in rows if row.kind == "add"} == {'{"box": [60, 0, 40, 40]}'}
        for n in (19, 18, 17):
            page.keyboard.press("u")
            expect(page.locator("#progress-text")).to_have_text(f"looked at {n} of 20")
        assert len(decided(folder)) == 17
        page.keyboard.press("Control+y")
        expect(page.locator("#status")).to_have_text("Saved again.")
        assert len(decided(folder)) == 18


def test_keys_and_clicks_that_are_faster_than_the_pictures_lose_none(browser: Browser, folder: Path) -> None:
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        assert shown_of_all(page) == "a/00.png"
        pressed = "new KeyboardEvent('keydown', { key: ' ', bubbles: true })"
        page.evaluate(f"for (let n = 0; n < 6; n++) document.getElementById('stage').dispatchEvent({pressed})")
        for n in (6, 5, 4, 3, 2, 1, 0):
            expect(page.locator("#relative")).to_have_text(f"a/0{n}.png")
            page.keyboard.press("ArrowLeft")
        clicked = "document.querySelector(`[data-kind=${kind}]`).click()"
        page.evaluate(f"for (const kind of ['sample', 'all', 'sample', 'all']) {clicked}")
        for n in range(20):
            expect(page.locator("#relative")).to_have_text(f"a/{n:02}.png")
            expect(page.locator("#decide")).to_be_enabled()
            expect(page.locator("#finds")).to_contain_text("car")
            page.locator("#decide").click()
        expect(page.locator("#empty")).to_be_visible()
    assert len(decided(folder)) == 20


@contextmanager
def held(page: Page, pattern: str) -> Iterator[list[Route]]:
    """Answers that match wait until the block ends; gives what waits."""
    waiting: list[Route] = []
    holds = True
    page.route(pattern, lambda route: waiting.append(route) if holds else route.continue_())
    yield waiting
    holds = False
    for route in waiting:
        route.continue_()


def wait_for(page: Page, waiting: list[Route]) -> None:
    while not waiting:
        page.wait_for_timeout(20)


def test_a_second_key_decides_nothing_in_a_picture_that_has_just_appeared(browser: Browser, folder: Path) -> None:
    """Acceptance 3: Enter, pressed twice fast, is one decision, however fast the server is."""
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        page.get_by_role("button", name="All").click()
        expect(page.locator("#relative")).to_have_text("a/00.png")
        shown(page)
        page.evaluate(
            """() => new MutationObserver(() => {
                if (!document.getElementById("empty").hidden) return;
                for (const key of ["Enter", "b", "f"])
                    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
            }).observe(document.getElementById("empty"), { attributes: true })"""
        )
        page.keyboard.press("Enter")
        expect(page.locator("#relative")).to_have_text("a/01.png")
        assert shown(page) == "a/01.png"
        expect(page.locator("#progress-text")).to_have_text("looked at 1 of 20")
    assert decided(folder) == [("a/00.png", "good")]


def test_what_others_have_is_not_called_looked_at(browser: Browser, folder: Path) -> None:
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        page.get_by_role("button", name="All").click()
        expect(page.locator("#relative")).to_have_text("a/00.png")
        shown(page)
        page.keyboard.press("Enter")
        expect(page.locator("#progress-text")).to_have_text("looked at 1 of 20")
        other = server.person("other")
        while other.claim("all") is not None:
            pass
        for _ in range(20):
            page.keyboard.press("Space")
        expect(page.locator("#empty-text")).to_contain_text("Without a decision: 19")


def test_a_tab_that_is_left_gives_up_its_pictures(browser: Browser, folder: Path) -> None:
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        page.get_by_role("button", name="All").click()
        expect(page.locator("#relative")).to_have_text("a/00.png")
        shown(page)
        page.goto("about:blank")
        other = server.person("other")
        for _ in range(200):
            if (first := other.claim("all")["relative"]) == "a/00.png":
                break
            other.get("session")
            page.wait_for_timeout(50)
        assert first == "a/00.png"


def test_a_claim_that_comes_late_takes_nothing_from_the_queue_that_is_open_now(browser: Browser, folder: Path) -> None:
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        page.get_by_role("button", name="All").click()
        expect(page.locator("#relative")).to_have_text("a/00.png")
        shown(page)
        waiting: list[Route] = []
        page.route("**/api/claim", lambda route: route.continue_() if waiting else waiting.append(route))
        page.keyboard.press("Space")
        wait_for(page, waiting)
        page.get_by_role("button", name="Sample").click()
        page.wait_for_timeout(500)  # in which a page that does not wait for that claim makes the next one
        waiting[0].continue_()
        expect(page.locator("#progress-text")).to_have_text("looked at 0 of 20")
        before = shown(page)
        with page.expect_response("**/decision") as answer:
            page.keyboard.press("Enter")
        assert answer.value.status == 201
        expect(page.locator("#relative")).not_to_have_text(before)


def test_undo_goes_on_after_what_somebody_else_has_undone(browser: Browser, folder: Path) -> None:
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        page.get_by_role("button", name="All").click()
        for n in range(2):
            expect(page.locator("#relative")).to_have_text(f"a/{n:02}.png")
            shown(page)
            page.keyboard.press("Enter")
        expect(page.locator("#progress-text")).to_have_text("looked at 2 of 20")
        with Store(folder / "store") as store:
            last = Decisions(store).in_force()[-1].id
        assert server.person("lead").post("undo", decision=last).status_code == 200
        for n in (1, 0):
            page.keyboard.press("u")
            expect(page.locator("#relative")).to_have_text(f"a/{n:02}.png")
        expect(page.locator("#progress-text")).to_have_text("looked at 0 of 20")
    assert decided(folder) == []


def test_what_is_done_while_a_decision_is_under_way_is_done_after_it(browser: Browser, folder: Path) -> None:
    """Undo takes that decision back whole; a second key, a drawing and a step do not touch what is being saved."""
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        name = shown_of_all(page)
        drag(page, (100, 20), (140, 60))
        with held(page, "**/decision") as waiting:
            page.keyboard.press("Enter")
            wait_for(page, waiting)
            drag(page, (20, 20), (60, 60))
            expect(page.locator("#status")).to_contain_text("being saved")
            page.keyboard.press("Enter")
            page.keyboard.press("u")
            expect(page.locator("#relative")).to_have_text(name)
        expect(page.locator("#status")).to_have_text(f"Undone: {name}")
        assert shown(page) == name
        expect(page.locator("#finds")).to_contain_text("drawn by you")
        assert decided(folder) == []
        page.keyboard.press("Enter")
        expect(page.locator("#relative")).not_to_have_text(name)
        assert decided(folder) == [(name, "missed")]
        assert len({row.shape for row in corrections(folder)}) == 1


def test_nothing_is_drawn_or_decided_in_a_picture_that_is_not_seen_yet(browser: Browser, folder: Path) -> None:
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        page.get_by_role("button", name="All").click()
        for n in range(4):
            expect(page.locator("#relative")).to_have_text(f"a/{n:02}.png")
            shown(page)
            if n < 3:
                page.keyboard.press("Space")
        with held(page, "**/image?*") as waiting:
            for _ in range(4):
                page.keyboard.press("Space")
            expect(page.locator("#relative")).to_have_text("a/07.png")
            wait_for(page, waiting)
            drag(page, (100, 20), (140, 60))
            for key in ("n", "Enter", "f"):
                page.keyboard.press(key)
            expect(page.locator("#decide")).to_be_disabled()
            # The picture comes late, when one that was loaded before is open: it stays.
            for n in (6, 5, 4, 3):
                page.keyboard.press("ArrowLeft")
                expect(page.locator("#relative")).to_have_text(f"a/0{n}.png")
        expect(page.locator("#decide")).to_be_enabled()
        assert shown(page) == "a/03.png"
        expect(page.locator("#finds")).not_to_contain_text("drawn by you")
    assert decided(folder) == []


def test_a_drawing_in_a_picture_that_is_decided_is_refused_and_not_lost_silently(
    browser: Browser, folder: Path
) -> None:
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        name = shown_of_all(page)
        page.keyboard.press("Enter")
        expect(page.locator("#relative")).not_to_have_text(name)
        shown(page)
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#relative")).to_have_text(name)
        shown(page)
        page.keyboard.press("n")
        expect(page.locator("#status")).to_contain_text("undo that to change it")
        page.keyboard.press("u")
        expect(page.locator("#progress-text")).to_have_text("looked at 0 of 20")
        shown(page)
        page.keyboard.press("n")
        page.keyboard.press("Enter")
        expect(page.locator("#relative")).not_to_have_text(name)
    assert decided(folder) == [(name, "missed")]


def test_a_drag_is_a_miss_and_drawing_now_hides_it(browser: Browser, folder: Path) -> None:
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        name = shown_of_all(page)
        before = {file: file.read_bytes() for file in (folder / "out").rglob("*.png")}
        drag(page, (100, 20), (140, 60))
        page.keyboard.press("9" if page.locator("#category option").count() > 8 else "1")
        page.mouse.dblclick(*on_screen(page, 20, 100))
        page.keyboard.press("Delete")
        page.keyboard.press("Enter")
        expect(page.locator("#relative")).not_to_have_text(name)
        (row,) = corrections(folder)
        left, top, width, height = json.loads(str(row.shape))["box"]
        assert np.abs(np.array([left, top, width, height]) - (100, 20, 40, 40)).max() <= 1
        page.get_by_role("button", name="Draw now (1)").click()
        expect(page.locator("#status")).to_have_text("1 pictures were drawn.", timeout=60_000)
        changed = [file for file, data in before.items() if file.read_bytes() != data]
        assert [file.relative_to(folder / "out").as_posix() for file in changed] == [name]
        first, second = (read_image(folder / tree / name)[25:55, 105:135] for tree in ("archive", "out"))
        assert (first == second).all(axis=2).mean() < 0.05
        page.keyboard.press("ArrowLeft")
        expect(page.locator("#finds")).to_contain_text("from a review")


def test_nothing_is_lost_when_the_server_goes_away(browser: Browser, folder: Path) -> None:
    """Acceptance 9."""
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        name = shown_of_all(page)
        drag(page, (100, 20), (140, 60))
        server.process.kill()
        server.process.wait()
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("Not saved")
        expect(page.locator("#relative")).to_have_text(name)
        expect(page.locator("#finds")).to_contain_text("drawn by you")
    assert decided(folder) == []


def test_a_picture_that_was_drawn_again_meanwhile(browser: Browser, folder: Path) -> None:
    """Acceptance 6."""
    with serving(folder, *KEYS) as server, opened(browser, server) as page:
        name = shown_of_all(page)
        drag(page, (100, 20), (140, 60))
        shape = '{"box": [5, 90, 20, 20]}'
        with Store(folder / "store") as store:
            row = Correction(
                relative=name, width=160, height=120, kind="add", category="other", shape=shape, source="external",
                batch="b", author="a",
            )  # fmt: skip
            store.add([row], "tester")
        publish(folder, {}, *FLAGS, f"corrections={json.dumps(str(folder / 'store'))}")
        page.keyboard.press("Enter")
        expect(page.locator("#status")).to_contain_text("The picture has changed")
        assert decided(folder) == []
        expect(page.locator("#finds")).to_contain_text("drawn by you")
        expect(page.locator("#decide")).to_be_enabled()
        page.keyboard.press("Enter")
        expect(page.locator("#relative")).not_to_have_text(name)
        assert decided(folder) == [(name, "missed")]


def test_boxes_over_the_seam_and_on_a_picture_on_its_side(browser: Browser, tmp_path: Path) -> None:
    """Acceptance 7: the box is where it was drawn."""
    publish(tmp_path, {"sphere.png": street((200, 100), ())}, *FLAGS, "projection=equirectangular")
    with serving(tmp_path, *KEYS, "projection=equirectangular") as server, opened(browser, server) as page:
        shown_of_all(page)
        stage = page.locator("#stage").bounding_box()
        assert stage is not None
        # The sphere goes on at its edges once it is moved: the seam comes into the middle.
        page.keyboard.down("Shift")
        drag(page, (0, 50), (100, 50), (200, 100))
        page.keyboard.up("Shift")
        drag(page, (90, 40), (110, 60), (200, 100))
        page.keyboard.press("Enter")
        expect(page.locator("#empty")).to_be_visible()
        page.keyboard.press("ArrowLeft")
        (row,) = corrections(tmp_path)
        assert np.abs(np.array(json.loads(str(row.shape))["box"]) - (190, 40, 20, 20)).max() <= 1
    side = tmp_path / "side"
    publish(side, {"turned.jpg": on_its_side(street((160, 120), ()))}, *FLAGS)
    with serving(side, *KEYS) as server, opened(browser, server) as page:
        shown_of_all(page)
        # Orientation 6: what is seen at (u, v) is stored at (v, 120 − u).
        drag(page, (20, 30), (50, 80), (120, 160))
        page.keyboard.press("Enter")
        expect(page.locator("#empty")).to_be_visible()
    (row,) = corrections(side)
    assert np.abs(np.array(json.loads(str(row.shape))["box"]) - (30, 70, 50, 30)).max() <= 1


def test_a_perspective_view_turns_and_is_drawn_in(browser: Browser, tmp_path: Path) -> None:
    publish(tmp_path, {"sphere.png": street((400, 200), ())}, *FLAGS, "projection=equirectangular")
    with serving(tmp_path, *KEYS, "projection=equirectangular") as server, opened(browser, server) as page:
        shown_of_all(page)
        page.keyboard.press("v")
        expect(page.locator("#view-toggle")).to_have_attribute("aria-pressed", "true")
        stage = page.locator("#stage").bounding_box()
        assert stage is not None
        middle = stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2
        page.mouse.move(middle[0] - 50, middle[1] - 50)
        page.mouse.down()
        page.mouse.move(middle[0] + 50, middle[1] + 50, steps=4)
        page.mouse.up()
        page.keyboard.press("Enter")
        expect(page.locator("#empty")).to_be_visible()
    (row,) = corrections(tmp_path)
    points = np.array(json.loads(str(row.shape))["polygon"])
    assert np.abs(points.mean(axis=0) - (200, 100)).max() < 1
    # 50 pixels of a view of 90° that is as wide as the stage: atan(50 / (width / 2)).
    half = np.degrees(np.arctan(100 / stage["width"])) / 360 * 400
    assert abs(points[:, 0].max() - 200 - half) < 0.5


def test_any_name_is_text(browser: Browser, tmp_path: Path) -> None:
    """Acceptance 11."""
    name = "<img src=x onerror=alert(1)>'\" & b.png" if os.name != "nt" else "&lt;b&gt;'.png"
    publish(tmp_path, {name: street(cars=())}, *FLAGS)
    with serving(tmp_path, *KEYS) as server, opened(browser, server) as page:
        assert shown_of_all(page) == name
        page.keyboard.press("n")
        page.keyboard.press("Enter")
        expect(page.locator("#empty")).to_be_visible()
    assert decided(tmp_path) == [(name, "missed")]


@pytest.mark.parametrize(("scheme", "size"), [("light", (1280, 800)), ("dark", (1280, 800)), ("dark", (360, 740))])
def test_it_can_be_read_and_used_by_everybody(
    browser: Browser, ready: Path, scheme: str, size: tuple[int, int]
) -> None:
    """axe finds nothing serious, also in the dialogs; nothing is wider than the screen."""
    with serving(ready, *KEYS) as server, opened(browser, server, scheme=scheme, size=size) as page:
        shown_of_all(page)
        for dialog in (None, "#help-open", "#numbers-open", "#filter-open"):
            if dialog is not None:
                page.locator(dialog).click()
                expect(page.locator("dialog[open]")).to_be_visible()
                assert page.locator("dialog[open]").evaluate("dialog => dialog.scrollTop") == 0
            found = Axe().run(page).response["violations"]
            serious = [violation["id"] for violation in found if violation["impact"] in ("serious", "critical")]
            assert serious == [], dialog
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            if folder := os.environ.get("ANONYMISE_TEST_SCREENSHOTS"):
                name = (dialog or "page").strip("#")
                page.screenshot(path=f"{folder}/review_{name}_{scheme}_{size[0]}.png")
            page.keyboard.press("Escape")


def test_without_its_token_the_page_says_what_is_missing(browser: Browser, ready: Path) -> None:
    with serving(ready, *KEYS) as server:
        page = browser.new_page()
        page.goto(server.address)
        expect(page.locator("#empty")).to_contain_text("This page needs the address that the command printed")
        page.close()
