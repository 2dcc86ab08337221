"""The table of all keys in docs/configuration.md."""

import re
from pathlib import Path

import pytest

from anonymise.config.config import KEYS
from anonymise.config.reference import page

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_what_the_options_classes_say() -> None:
    assert DOCUMENT.read_text("utf-8") == page(), "run: make docs"


def test_the_page_has_every_key_once() -> None:
    assert re.findall(r"^\| `(\w+)` \|", page(), re.MULTILINE) == list(KEYS)


def test_every_key_says_what_it_means() -> None:
    meanings = {row.split("`")[1]: row.split(" | ")[-1] for row in page().splitlines() if row.startswith("| `")}
    assert [key for key, text in meanings.items() if not re.fullmatch(r"[A-Z\d`].+\. \|", text)] == []


@pytest.mark.parametrize(
    "row",
    [
        "| `blur` | `15` | whole number from 1 to 100, or null |",
        "| `projection` | `auto` | `auto`, `planar`, `equirectangular` |",
        "| `preview_dim` | `[2520, 1400]` | [width, height] of whole number, or null |",
        "| `mask_color` | `null` | list of 3: whole number from 0 to 255, or null |",
        "| `image_type` | `Planar` | text of at most 8 characters |",
    ],
)
def test_defaults_and_types_are_as_in_a_configuration_file(row: str) -> None:
    assert row in page()
