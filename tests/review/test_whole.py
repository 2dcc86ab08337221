"""From photographs to a reviewed folder with the real model, by the commands that the document names."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from anonymise.core.detections import Size
from samples.scene import draw_scene
from tests.fakes import read_image, write_image
from tests.review.served import ROOT, serving
from tests.review.test_page import opened

pytestmark = pytest.mark.slow

LITE = ["-k", str(ROOT / "config" / "lite_config.yml")]
KEYS = ("remote_instances=True", "archive_instances=True", "keep_doubtful=True", "enable_async=False")


def run(folder: Path, *arguments: str) -> str:
    call = [sys.executable, "-m", "anonymise", *arguments]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, encoding="utf-8", check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_model_missed_is_drawn_by_hand_and_a_later_run_keeps_it(browser: Browser, tmp_path: Path) -> None:
    for n in range(2):
        write_image(tmp_path / "in" / f"{n}.jpg", draw_scene(n, Size(640, 360), cars=2, people=1).image)
    keys = [part for key in (*KEYS, f"corrections='{tmp_path / 'store'}'") for part in ("--set", key)]
    folders = ["-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-a", str(tmp_path / "archive")]
    run(tmp_path, *folders, "--create-archive", *LITE, *keys[:-2])
    assert run(tmp_path, "sheet", "-o", str(tmp_path / "out"), *LITE).startswith(
        f"Contact sheet: {tmp_path / 'out_sheet'}"
    )
    with serving(tmp_path, *KEYS, options=LITE) as server:
        person = server.person()
        item = person.claim("all")
        assert (item["relative"], item["width"], item["height"]) == ("0.jpg", 640, 360)
        assert {find["category"] for find in item["finds"]} >= {"car"}
        added = [{"category": "plate", "shape": {"box": [20, 20, 60, 40]}}]
        assert person.decide(item, "missed", added=added).status_code == 201
        assert person.draw() == {"state": "done", "done": 1, "total": 1, "reason": ""}
        published = {name: (tmp_path / "out" / name).read_bytes() for name in ("0.jpg", "1.jpg")}
        with opened(browser, server) as page:
            expect(page.locator("#finds")).to_contain_text("car")
            expect(page.locator("#decide")).to_be_enabled()  # the picture is on the screen
            page.keyboard.press("n")
            expect(page.locator("#decide")).to_contain_text("1 missed: save")
            if screenshots := os.environ.get("ANONYMISE_TEST_SCREENSHOTS"):
                page.screenshot(path=f"{screenshots}/review.png")  # docs/review.jpg
    original, hidden = (read_image(tmp_path / tree / "0.jpg").astype(int) for tree in ("in", "out"))
    assert np.abs(original - hidden)[20:60, 20:80].mean() > np.abs(original - hidden)[100:150, 20:80].mean() + 3
    said = run(tmp_path, *folders, *LITE, *keys)
    assert "Skipped (finished):  2" in said
    assert {name: (tmp_path / "out" / name).read_bytes() for name in published} == published
