"""What YAML files may hold, in every file that the program reads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from anonymise import config
from anonymise.batch.notify import read_email_account
from anonymise.core import yamlfile
from anonymise.core.errors import AnonymiseError, ConfigError
from anonymise.core.resources import CATALOG, CONFIG_FOLDER
from anonymise.database.settings import load_settings
from anonymise.database.table import load_table
from anonymise.models.catalog import load_catalog

ROOT = Path(__file__).parents[2]

_BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]\n"

WRONG = [
    ("x: 1\nfylkesnummer: 0301\n", ":2:15:", "a leading zero"),
    ("x: {y: 015}\n", ":1:8:", "a leading zero"),
    ("x: [08]\n", ":1:5:", "a leading zero"),
    ("x: -007\n", ":1:4:", "a leading zero"),
    ("x: {a: 1, b: 2, a: 3}\n", ":1:17:", "a is set twice"),
    ("x:\n  - {y: {a: 1, a: 2}}\n", ":2:16:", "a is set twice"),
    (f"x: {'9' * 5000}\n", ":1:4:", "5000 digits"),
    ("x: .nan\n", ":1:4:", "should be a finite number"),
    ("x: [-.inf]\n", ":1:5:", "should be a finite number"),
    ("x: 1e999\n", ":1:4:", "should be a finite number"),
    (_BOMB, ":2:8:", "an alias"),
    ("x: &x [*x]\n", ":1:8:", "an alias"),
    ("x:\n\ty: 1\n", ":2:1:", "a tab"),
    ("x: 1\n y: 2\n", ":2:3:", "not valid YAML"),
    ("x: [1\n", ":2:1:", "not valid YAML"),
    ("x: 'abc\n", ":2:1:", "not valid YAML"),
    ("x: a\x00b\n", ":1:5:", "cannot stand in a text file"),
    ("x: !!python/name:os.system y\n", ":1:4:", "tags"),
    ("x: !!timestamp 2024-13-45\n", ":1:4:", "tags"),
    ("x: !!binary aGk=\n", ":1:4:", "tags"),
    ("x: !!int abc\n", ":1:4:", "no number"),
    ("x: !!int '015'\n", ":1:4:", "a leading zero"),
    ("x: !!map 5\n", ":1:4:", "does not fit"),
    ("x: {[1, 2]: 3}\n", ":1:5:", "a key must be a word"),
    ("? {a: 1}\n: 2\n", ":1:3:", "a key must be a word"),
    ("x: 1\n---\ny: 2\n", ":2:1:", "not valid YAML"),
    (f"x: {'[' * 5000}\n", ":", "nested too deeply"),
]


def _email(file: Path) -> Any:
    return read_email_account(file, {})


def _table(file: Path) -> Any:
    return load_table(file.stem, file.parent)


READERS = {
    "config": lambda f: config.load([f]),
    "email": _email,
    "table": _table,
    "db": load_settings,
    "catalog": load_catalog,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("text", "place", "problem"), WRONG)
def test_a_file_that_could_mean_something_else_is_refused_with_its_place(
    tmp_path: Path, reader: str, text: str, place: str, problem: str
) -> None:
    file = tmp_path / "my.yml"
    file.write_text(text, "utf-8")
    with pytest.raises(AnonymiseError) as caught:
        READERS[reader](file)
    assert f"{file}{place}" in str(caught.value)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("blur: 30 # æ".encode("latin-1"), "my.yml:1:12: not UTF-8: save it as UTF-8"),
        ("\ufeffblur: 30".encode("utf-16-le"), "my.yml:1:1: not UTF-8: UTF-16, as Windows PowerShell writes it"),
        (b"#" * 2_000_000, "larger than 1 MB"),
    ],
)  # fmt: skip
def test_a_file_of_another_encoding_or_size_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "my.yml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as caught:
        config.load([file])
    assert message in str(caught.value)


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    (tmp_path / "my.yml").write_text("\ufeffblur: 30\n", "utf-8")
    assert config.load([tmp_path / "my.yml"]).appearance.blur == 30


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"), ("on", "on"), ("y", "y"), ("2024-01-31", "2024-01-31"), ("2024-13-45", "2024-13-45"),
        ("12:30:45", "12:30:45"), ("0x1F", "0x1F"), ("1_000", "1_000"), ("0b11", "0b11"), ("=", "="), ("<<", "<<"),
        ("'0301'", "0301"), ("!!str 0301", "0301"), ("1.2.3", "1.2.3"), ("0", 0), ("-5", -5), ("+7", 7),
        ("1e3", 1000.0), (".5", 0.5), ("1.", 1.0), ("0.25", 0.25), ("True", True), ("false", False), ("~", None),
        ("", None), ("null", None),
    ],
)  # fmt: skip
def test_values_are_what_they_look_like(tmp_path: Path, text: str, value: object) -> None:
    (tmp_path / "my.yml").write_text(f"x: {text}\n", "utf-8")
    found = yamlfile.load(tmp_path / "my.yml")["x"]
    assert (found, type(found)) == (value, type(value))


def test_yes_and_no_are_booleans_where_one_is_wanted_and_texts_elsewhere() -> None:
    loaded = config.load(overrides=["force_remask=yes", "draw_mask=Off", "data_eier=NO"])
    assert (loaded.run.force_remask, loaded.appearance.draw_mask, loaded.record.data_eier) == (True, False, "NO")


def test_a_single_key_is_read_like_a_file() -> None:
    with pytest.raises(ConfigError, match="--set fylkesnummer=0301: a number with a leading zero"):
        config.load(overrides=["fylkesnummer=0301"])


def test_what_a_secret_file_holds_is_in_no_message(tmp_path: Path) -> None:
    for number, text in enumerate(
        ["0123456", "*hunter2", "!hunter2 x", "'hunter2", "{a: hunter2, a: hunter2}", "9" * 40]
    ):
        file = tmp_path / f"{number}.yml"
        file.write_text(f"encrypted_password: {text}\n", "utf-8")
        with pytest.raises(ConfigError) as caught:
            load_settings(file)
        assert not any(secret in str(caught.value) for secret in ("hunter2", "0123456", "999"))


_TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=8)
_NUMBERS = st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS | st.from_regex(r"[-+0-9.e:_xYyNno~]{1,6}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_TEXTS, _VALUES, max_size=4))
@example({"a": "0301", "b": "1e3", "c": ".5", "d": "yes", "e": "2024-13-45", "f": "=", "g": 1e22, "h": "1_000"})
def test_what_is_written_is_read_as_the_same(values: dict[str, Any]) -> None:
    assert {entry.key: entry.value for entry in yamlfile.entries(yamlfile.dump(values), "x")} == values


@pytest.mark.parametrize("file", [CATALOG, *CONFIG_FOLDER.rglob("*.yml")], ids=lambda file: file.name)
def test_the_files_that_come_along_mean_the_same_to_others(file: Path) -> None:
    with file.open(encoding="utf-8") as stream:
        assert yamlfile.load(file) == yaml.safe_load(stream)


def test_a_huge_value_makes_no_huge_message() -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(overrides=[f"blur={'x' * 100_000}"])
    assert len(str(caught.value)) < 200_500  # once in the name of the option that it was given with
    assert str(caught.value).count("x" * 100) < 1002


def test_the_command_line_shows_it_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "my.yml").write_text("score_threshold:\n\tdefault: 0.3\n", "utf-8")
    call = [sys.executable, "-m", "anonymise", "-i", "in", "-o", "out", "-k", "my.yml"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "my.yml:2:1: not valid YAML: a tab" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_nothing_else_reads_yaml() -> None:
    files = [file for folder in ("src", "script") for file in (ROOT / folder).rglob("*.py")]
    assert [file.name for file in files if "import yaml\n" in file.read_text("utf-8")] == ["yamlfile.py"]
