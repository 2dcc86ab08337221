import sys
from pathlib import Path, PureWindowsPath

import pytest

from anonymise.batch.paths import Paths, Places, all_files, expected_files, extended_length
from anonymise.config import Place
from anonymise.core.errors import UsageError
from tests.batch.trees import options, touch


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "in").mkdir()
    return Places(tmp_path / "in", tmp_path / "out", tmp_path / "archive")


@pytest.mark.parametrize(
    ("output", "archive"),
    [("in", None), ("in/out", None), (".", None), ("out", "in"), ("out", "in/a"), ("out", "out"), ("out", "out/raw"),
     ("raw/out", "raw"), ("in/../in/x", None)],
)  # fmt: skip
def test_folders_inside_each_other_are_refused(tmp_path: Path, output: str, archive: str | None) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="inside the other"):
        Places(tmp_path / "in", tmp_path / output, tmp_path / archive if archive else None)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_folders_inside_each_other_by_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in", target_is_directory=True)
    with pytest.raises(UsageError, match="inside the other"):
        Places(tmp_path / "in", tmp_path / "link" / "out")


def test_a_sibling_with_the_same_beginning_is_no_subfolder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert Places(tmp_path / "in", tmp_path / "in_out").output == extended_length(tmp_path / "in_out")


def test_previews_inside_the_input_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match="separate_preview_directory"):
        Places(tmp_path / "in", tmp_path / "out", None, tmp_path / "in" / "previews")


def test_a_missing_input_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        Places(tmp_path / "in", tmp_path / "out")


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "in/1.jpg", "out")
    with pytest.raises(UsageError, match="is no folder"):
        Places(tmp_path / "in", tmp_path / "out")


def test_expected_files_follow_the_configuration(places: Places) -> None:
    paths = Paths(Path("a/1.png"), places)
    wanted = expected_files(paths, options(remote_json=True, local_preview=True, archive_mask=True))
    assert [f.path.relative_to(places.input.parent).as_posix() for f in wanted] == [
        "out/a/1.png",
        "archive/a/1.png",
        "out/a/1.json",
        "in/a/1_preview.jpg",
        "archive/a/1_mask.png",
    ]


def test_without_an_archive_nothing_is_expected_there(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    paths = Paths(Path("1.jpg"), Places(tmp_path / "in", tmp_path / "out"))
    assert [f.place for f in expected_files(paths, options())] == [Place.REMOTE]
    assert Place.ARCHIVE not in {f.place for f in all_files(paths)}


def test_separate_previews_mirror_the_tree(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    places = Places(tmp_path / "in", tmp_path / "out", None, tmp_path / "previews")
    files = expected_files(Paths(Path("a/1.jpg"), places), options(separate_preview_directory="previews"))
    assert files[-1].path == places.input.parent / "previews" / "a" / "1_preview.jpg"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (r"C:\images\in", r"\\?\C:\images\in"),
        (r"\\server\share\in", r"\\?\UNC\server\share\in"),
        (r"\\?\C:\images", r"\\?\C:\images"),
    ],
)
def test_windows_paths_may_be_longer_than_260_characters(path: str, expected: str) -> None:
    assert str(extended_length(PureWindowsPath(path))) == expected


def test_colmap_masks_keep_the_images_ending_in_a_tree_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    places = Places.of(tmp_path / "in", tmp_path / "out", None, options(colmap_mask_directory=str(tmp_path / "masks")))
    files = expected_files(Paths(Path("a/1.jpg"), places), options(colmap_mask_directory="masks"))
    assert files[-1].path == places.input.parent / "masks" / "a" / "1.jpg.png"
    assert places.results == (places.output, places.colmap)
