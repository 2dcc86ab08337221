import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anonymise.batch.paths import Paths, Places
from anonymise.batch.walker import TreeWalker, WalkProblem
from anonymise.config import FileKind, Place
from tests.batch.trees import options, touch


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "in").mkdir()
    return Places(tmp_path / "in", tmp_path / "out", tmp_path / "archive")


def walk(places: Places, **changed: object) -> list[Paths | WalkProblem]:
    return list(TreeWalker(places, options(**changed)).walk())


def names(found: list[Paths | WalkProblem]) -> list[str]:
    return [p.relative.as_posix() for p in found if isinstance(p, Paths)]


def test_images_come_in_a_stable_order_files_before_subfolders(places: Places) -> None:
    touch(places.input, "b/2.jpg", "b/1.PNG", "a/x.JPEG", "z.Jpg", "a/notes.txt", "b/c/0.png")
    assert names(walk(places)) == ["z.Jpg", "a/x.JPEG", "b/1.PNG", "b/2.jpg", "b/c/0.png"]


def test_the_walk_is_lazy(places: Places) -> None:
    touch(places.input, "a/1.jpg", "b/1.jpg")
    walking = TreeWalker(places, options()).walk()
    next(walking)
    touch(places.input, "c/1.jpg", "b/2.jpg")
    assert names(list(walking)) == ["b/1.jpg", "b/2.jpg"]  # the list of folders at the top was made, b's was not


def test_only_the_configured_endings_are_images(places: Places) -> None:
    touch(places.input, "a.jpg", "b.png")
    assert names(walk(places, image_extensions=[".PNG"])) == ["b.png"]


def test_an_ending_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot read gif"):
        options(image_extensions=["jpg", "gif"])


def test_own_previews_and_masks_and_files_of_macos_are_passed_over(places: Places) -> None:
    touch(places.input, "a.jpg", "a_preview.jpg", "a_mask.png", "A_PREVIEW.JPG", "._a.jpg", "preview.jpg", "a_mask.jpg")
    walker = TreeWalker(places, options())
    assert names(list(walker.walk())) == ["a.jpg", "a_mask.jpg", "preview.jpg"]
    assert (walker.n_passed_over, walker.n_folders) == (3, 1)


_LEGAL = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters='/\\:*?"<>|'), min_size=1, max_size=40
).filter(lambda name: name.strip(". ") == name and not name.startswith("._") and len(name.encode()) < 200)


@settings(max_examples=50, deadline=None)
@given(st.lists(_LEGAL, min_size=1, max_size=6, unique_by=str.casefold))
def test_any_legal_name_is_found_and_mirrored(stems: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "in").mkdir()
        places = Places(Path(folder, "in"), Path(folder, "out"))
        stems = [s for s in stems if not s.lower().endswith(("_preview", "_mask"))]
        for stem in stems:
            touch(places.input, f"{stem}/{stem}.jpg")
        found = [p for p in walk(places) if isinstance(p, Paths)]
        assert {p.relative.as_posix() for p in found} == {f"{stem}/{stem}.jpg" for stem in stems}
        for paths in found:
            assert paths.source.read_bytes() == b"x"
            assert paths.output_image == places.output / paths.relative
            assert paths.file(FileKind.JSON, Place.REMOTE) == places.output / paths.relative.parent / (
                paths.relative.name[: -len(".jpg")] + ".json"
            )


@pytest.mark.parametrize("stem", ["100 % # {year}", "Damåsen æøå", "街道", "x" * 200, "a.b.c", "-k"])
def test_names_that_scripts_stumble_over(places: Places, stem: str) -> None:
    touch(places.input, f"{stem}.jpg")
    (paths,) = walk(places, remote_preview=True)
    assert isinstance(paths, Paths)
    assert paths.preview_name == f"{stem}_preview.jpg"
    assert paths.file(FileKind.MASK, Place.REMOTE) == places.output / f"{stem}_mask.png"


def test_two_images_with_the_same_results_are_told_apart_aloud(places: Places) -> None:
    touch(places.input, "a.jpg", "a.png", "A.jpeg")
    found = walk(places)
    assert names(found) == ["A.jpeg"]
    problems = [p for p in found if isinstance(p, WalkProblem)]
    assert [p.path.name for p in problems] == ["a.jpg", "a.png"]
    assert all("overwrite those of A.jpeg" in p.reason and p.hides_images for p in problems)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_link_loops_are_reported_and_not_followed(places: Places) -> None:
    touch(places.input, "a/1.jpg")
    (places.input / "a" / "back").symlink_to(places.input, target_is_directory=True)
    found = walk(places)
    assert names(found) == ["a/1.jpg"]
    (problem,) = (p for p in found if isinstance(p, WalkProblem))
    assert problem.path.name == "back"
    assert not problem.hides_images


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_to_a_folder_elsewhere_is_a_problem_and_a_broken_one_is_handed_on(
    places: Places, tmp_path: Path
) -> None:
    touch(tmp_path / "elsewhere", "1.jpg")
    (places.input / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (places.input / "gone.jpg").symlink_to(places.input / "nothing.jpg")
    image, problem = walk(places)
    assert names([image]) == ["gone.jpg"]
    assert isinstance(problem, WalkProblem)
    assert (problem.path, problem.hides_images) == (places.input / "link", True)
    assert str(tmp_path / "elsewhere") in problem.reason


@pytest.mark.skipif(sys.platform == "win32", reason="permissions work otherwise there")
def test_an_unreadable_folder_is_reported_and_the_walk_goes_on() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        touch(Path(folder), "in/a/1.jpg", "in/b/1.jpg", "in/c/1.jpg")
        places = Places(Path(folder, "in"), Path(folder, "out"))
        closed = places.input / "b"
        closed.chmod(0)
        found = as_somebody(lambda: walk(places))
        closed.chmod(0o755)
    assert names(found) == ["a/1.jpg", "c/1.jpg"]
    assert [p for p in found if isinstance(p, WalkProblem)] == [
        WalkProblem(closed, "this folder cannot be read: Permission denied", hides_images=True)
    ]


def as_somebody(function: Callable[[], list[Paths | WalkProblem]]) -> list[Paths | WalkProblem]:
    """Calls a function without the superuser's right to read everything."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return function()
    os.seteuid(65534)
    try:
        return function()
    finally:
        os.seteuid(0)
