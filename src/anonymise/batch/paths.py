"""Where everything is: the folders of a run, and every path that belongs to one image.

`expected_files` alone says which files a finished image has on disk. Nothing here opens a file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from types import MappingProxyType
from typing import Any, TypeVar

from anonymise.batch.shards import Shard
from anonymise.config.files import PLACES_OF, FileKind, FileOptions, Place
from anonymise.core.errors import UsageError

__all__ = [
    "ERROR_NOTE",
    "ERROR_RECORD",
    "SUFFIXES",
    "ExpectedFile",
    "Paths",
    "Places",
    "all_files",
    "expected_files",
    "extended_length",
    "way_out",
]

_Path = TypeVar("_Path", bound=PurePath)

SUFFIXES: Mapping[FileKind, str] = MappingProxyType(
    {
        FileKind.JSON: ".json",
        FileKind.PREVIEW: "_preview.jpg",
        FileKind.MASK: "_mask.png",
        FileKind.INSTANCES: "_instances.json",
    }
)
"""What follows the image's name without its suffix. Files of other kinds keep the image's name."""

ERROR_NOTE = "_error.txt"
"""Ending of the note on a failed image in the error tree: after its name without its suffix, or after its whole name
where that would be the name of another image's note."""

ERROR_RECORD = "_error.json"
"""Ending of the incomplete record of a failed image in the error tree."""


_ROOTS = {
    Place.LOCAL: "input",
    Place.REMOTE: "output",
    Place.ARCHIVE: "archive",
    Place.PREVIEWS: "previews",
    Place.COLMAP: "colmap",
}
"""Which field of `Places` has the root of a place."""


@dataclass(frozen=True, slots=True)
class Places:
    """The roots of the trees, all mirrored from the input.

    Attributes:
        only: `Paths.key` of the images that the run is about; None is all.
        shard: the part of the images that the run does; None is all.

    Raises:
        UsageError: the input folder does not exist, or two of the folders are not apart.
    """

    input: Path
    output: Path
    archive: Path | None = None
    previews: Path | None = None
    colmap: Path | None = None
    only: frozenset[str] | None = None
    shard: Shard | None = None

    @classmethod
    def of(cls, input_: Path, output: Path, archive: Path | None, options: FileOptions) -> "Places":
        """The places of a run, with those that the configuration adds."""
        added = (options.separate_preview_directory, options.colmap_mask_directory)
        previews, colmap = (None if folder is None else Path(folder) for folder in added)
        return cls(input_, output, archive, previews, colmap)

    @classmethod
    def elsewhere(cls, roots: Mapping[Place, str], *, is_windows: bool) -> "Places":
        """The places of a run on another machine, for names and messages; here they may be no folders.

        Args:
            roots: place → root folder, as that machine sees it.
            is_windows: whether that machine runs Windows.
        """
        other = PureWindowsPath if is_windows else PurePosixPath
        kind: Any = Path if is_windows == (os.name == "nt") else other
        places = object.__new__(cls)  # without a look at the folders
        values = {name: kind(roots[place]) for place, name in _ROOTS.items() if place in roots}
        for field in fields(cls):
            object.__setattr__(places, field.name, values.get(field.name))
        return places

    def __post_init__(self) -> None:
        for name in _ROOTS.values():
            if (folder := getattr(self, name)) is not None:
                object.__setattr__(self, name, extended_length(Path(folder).absolute()))
        if not self.input.is_dir():
            raise UsageError(f"The input folder {self.input} does not exist or is no folder (-i).")
        named = [("input", self.input), ("output", self.output), ("archive", self.archive)]
        apart = [(name, folder) for name, folder in named if folder is not None]
        for key, folder in (("separate_preview_directory", self.previews), ("colmap_mask_directory", self.colmap)):
            if folder is not None and _contains(self.input, folder):
                raise UsageError(f"{key} {folder} lies inside the input folder; choose another.")
            if folder is not None and folder.exists() and not folder.is_dir():
                raise UsageError(f"{key} {folder} is no folder.")
        for index, (name, folder) in enumerate(apart):
            if folder.exists() and not folder.is_dir():
                raise UsageError(f"The {name} folder {folder} is no folder.")
            for other_name, other in apart[index + 1 :]:
                if _contains(folder, other) or _contains(other, folder):
                    raise UsageError(
                        f"The {name} folder {folder} and the {other_name} folder {other} are the same or one lies "
                        "inside the other; choose folders apart, so that no original ends up among the results."
                    )

    def root(self, place: Place) -> Path | None:
        """The root folder of a place, None where the run has none."""
        root: Path | None = getattr(self, _ROOTS[place])
        return root

    @property
    def errors(self) -> Path:
        """The root of what is left of failed images, next to the output folder."""
        return self.output.with_name(self.output.name + "_error")

    def written_to(self, options: FileOptions) -> tuple[Path, ...]:
        """The roots that a run with these options writes to; the input folder too if files go next to the images."""
        beside = any(options.wants(kind, Place.LOCAL) for kind in FileKind)
        return (*self.results, self.input) if beside else self.results

    @property
    def results(self) -> tuple[Path, ...]:
        """The roots that results go to, besides the input folder."""
        return tuple(root for root in (self.output, self.archive, self.previews, self.colmap) if root is not None)


def _contains(outer: Path, inner: Path) -> bool:
    """Whether ``inner`` is ``outer`` or below it, links and the system's case rules taken into account."""
    first, second = (Path(os.path.normcase(folder.resolve())) for folder in (outer, inner))
    if second.is_relative_to(first):
        return True
    # Case-insensitive file systems on a case-sensitive system, and shares mounted twice.
    return outer.exists() and any(parent.exists() and parent.samefile(outer) for parent in (inner, *inner.parents))


def extended_length(path: _Path) -> _Path:
    r"""On Windows, an absolute path in the form that may be longer than 260 characters (``\\?\``); elsewhere as it is.

    Source: https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation
    """
    if isinstance(path, PureWindowsPath) and not str(path).startswith("\\\\?\\"):
        text = str(path)
        return type(path)("\\\\?\\UNC" + text[1:] if text.startswith("\\\\") else "\\\\?\\" + text)
    return path


@dataclass(frozen=True, slots=True)
class Paths:
    """One image of the input folder, and every path that derives from it.

    Attributes:
        relative: path of the image below the input folder.
        places: the roots of the trees.
    """

    relative: PurePath
    places: Places

    @property
    def source(self) -> Path:
        """The input image."""
        return self.places.input / self.relative

    def file(self, kind: FileKind, place: Place) -> Path | None:
        """Where this image's file of a kind stands in a place, None where the run has no such place."""
        root = self.places.root(place)
        return None if root is None else self.below(root, kind)

    def below(self, root: Path, kind: FileKind) -> Path:
        """Where this image's file of a kind stands in the tree with a root."""
        if kind is FileKind.COLMAP_MASK:
            # https://colmap.github.io/faq.html: the image's whole name, then .png
            return root / self.relative.with_name(self.relative.name + ".png")
        ending = SUFFIXES.get(kind)
        name = self.relative if ending is None else self.relative.with_name(self.relative.stem + ending)
        return root / name

    @property
    def output_image(self) -> Path:
        """The anonymised image."""
        return self.places.output / self.relative

    @property
    def key(self) -> str:
        """What the journal knows this image by: its path below the input folder, with ``/``."""
        return self.relative.as_posix()

    @property
    def preview_name(self) -> str:
        """File name of the preview."""
        return self.relative.stem + SUFFIXES[FileKind.PREVIEW]


@dataclass(frozen=True, slots=True)
class ExpectedFile:
    """A file that a finished image has on disk; ``root`` is that of the tree that it stands in."""

    kind: FileKind
    place: Place
    path: Path
    root: Path


def all_files(paths: Paths) -> tuple[ExpectedFile, ...]:
    """Every file that an image could have besides the input image, in the places of this run."""
    files = []
    for kind, places in PLACES_OF.items():
        for place in places:
            root, path = paths.places.root(place), paths.file(kind, place)
            if root is not None and path is not None:
                files.append(ExpectedFile(kind, place, path, root))
    return tuple(files)


def expected_files(paths: Paths, options: FileOptions) -> tuple[ExpectedFile, ...]:
    """The files that a finished image has on disk with this configuration."""
    return tuple(file for file in all_files(paths) if options.wants(file.kind, file.place))


def way_out(path: Path, root: Path) -> Path | None:
    """What a path below a root folder stands for if links make that something outside of it; None if they do not."""
    target = Path(os.path.realpath(path))
    if target.is_relative_to(os.path.realpath(root)):
        return None
    try:
        # File systems that fold case, and folders that are mounted twice.
        is_inside = any(parent.samefile(root) for parent in target.parents)
    except OSError:
        is_inside = False
    return None if is_inside else target
