"""Where everything is: the walk over the input folder, and every path that belongs to one image.

`expected_files` alone says which files a finished image has on disk. Nothing here opens a file.

One long module: the walk must know all files that an image may have, to find names that clash before anything is
written.
"""

import os
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath, PureWindowsPath
from types import MappingProxyType
from typing import TypeVar

from anonymise.config.files import PLACES_OF, FileKind, FileOptions, Place
from anonymise.core.errors import UsageError

__all__ = [
    "ERROR_NOTE",
    "ERROR_RECORD",
    "ExpectedFile",
    "Paths",
    "Places",
    "TreeWalker",
    "WalkProblem",
    "all_files",
    "expected_files",
    "extended_length",
    "way_out",
]


_Path = TypeVar("_Path", bound=PurePath)


_ENDINGS: Mapping[FileKind, str] = MappingProxyType(
    {
        FileKind.JSON: ".json",
        FileKind.PREVIEW: "_preview.jpg",
        FileKind.MASK: "_mask.png",
        FileKind.INSTANCES: "_instances.json",
    }
)
"""What follows the image's name without its ending."""

ERROR_NOTE = "_error.txt"
"""Ending of the note on a failed image in the error tree: after its name without its suffix, or after its whole name
where that would be the name of another image's note."""

ERROR_RECORD = "_error.json"
"""Ending of the incomplete record of a failed image in the error tree."""

_FOLDED_MARKER = ".ANONYMISE"
"""The folder that every tree of results has, in capitals: it is there where the file system does not know case."""


@dataclass(frozen=True, slots=True)
class Places:
    """The roots of the trees, all mirrored from the input.

    Raises:
        UsageError: the input folder does not exist, or two of the folders are not apart.
    """

    input: Path
    output: Path
    archive: Path | None = None
    previews: Path | None = None
    colmap: Path | None = None

    @classmethod
    def of(cls, input_: Path, output: Path, archive: Path | None, options: FileOptions) -> "Places":
        """The places of a run, with those that the configuration adds."""
        added = (options.separate_preview_directory, options.colmap_mask_directory)
        return cls(input_, output, archive, *(Path(folder) if folder is not None else None for folder in added))

    def __post_init__(self) -> None:
        for name in ("input", "output", "archive", "previews", "colmap"):
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
        return {
            Place.LOCAL: self.input,
            Place.REMOTE: self.output,
            Place.ARCHIVE: self.archive,
            Place.PREVIEWS: self.previews,
            Place.COLMAP: self.colmap,
        }[place]

    @property
    def errors(self) -> Path:
        """The root of what is left of failed images, beside the output folder."""
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
        ending = _ENDINGS.get(kind)
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
        return self.relative.stem + _ENDINGS[FileKind.PREVIEW]


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


@dataclass(frozen=True, slots=True)
class WalkProblem:
    """Something that the walk could not enter or must not hand on.

    Attributes:
        path: the folder or file.
        reason: for the operator.
        hides_images: whether images may stay unseen because of it, so that the run did not do its whole job.
        is_clash: whether it is an image whose files would overwrite those of another.
    """

    path: Path
    reason: str
    hides_images: bool
    is_clash: bool = False


_Claims = dict[tuple[int, str], str]
"""(tree, folded name of a file) → name of the image that the file belongs to; of one folder in all trees."""


class _Names:
    """The names of all files that images get, so that no two images share one.

    Names that differ only in case or in the composition of their letters are one name, whatever the file systems,
    because results are copied to systems where that is so.
    """

    def __init__(self, places: Places, options: FileOptions) -> None:
        roots = [places.errors]
        # Per file: number of its tree, whether it is named by the image's stem, what follows.
        self._files = [(0, True, ERROR_NOTE), (0, True, ERROR_RECORD), (0, False, "")]
        for kind, places_of_kind in PLACES_OF.items():
            for place in places_of_kind:
                root = places.root(place)
                if root is None or not options.wants(kind, place):
                    continue
                if root not in roots:
                    roots.append(root)
                ending = _ENDINGS.get(kind, ".png" if kind is FileKind.COLMAP_MASK else "")
                self._files.append((roots.index(root), kind in _ENDINGS, ending))

    def claim(self, path: Path, claims: _Claims) -> tuple[str, str] | None:
        """Takes the names for an image, or, if one is taken, gives the image that has it, and the name."""
        stem, name = path.stem, path.name
        wanted = [(tree, f"{stem if by_stem else name}{ending}") for tree, by_stem, ending in self._files]
        keys = [(tree, folded(file)) for tree, file in wanted]
        for key, (_, file) in zip(keys, wanted, strict=True):
            if key in claims:
                claims.setdefault((0, folded(name + ERROR_NOTE)), name)  # its own note has its whole name
                return claims[key], file
        claims.update(dict.fromkeys(keys, name))
        return None


def folded(name: str) -> str:
    """A name as file systems compare it that know neither case nor the composition of letters."""
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


class TreeWalker:
    """Finds the images below the input folder, in a stable order: a folder's files, then its subfolders, by name.

    Files that this program itself wrote beside the images (previews, masks) are passed over, as are the files that
    macOS leaves on shares (``._name``). An image whose files would overwrite those of another is a
    problem. Only regular files are images. A file with several names, by links within the input folder or by hard
    links, is one image. A link that leads out of the input folder is a problem, and nothing behind it is read.

    Attributes:
        root: the input folder.
        n_folders: number of folders with images seen so far.
        n_passed_over: number of previews and masks passed over so far.
        left_out: suffix → number of other files seen so far that are neither images nor of this program.
    """

    def __init__(self, places: Places, options: FileOptions) -> None:
        self._places = places
        self.root = places.input
        self._extensions = options.image_extensions
        self._names = _Names(places, options)
        self.n_folders = 0
        self.n_passed_over = 0
        self.left_out: Counter[str] = Counter()

    def walk(self) -> Iterator[Paths | WalkProblem]:
        """Each image, lazily, and each problem where it is met."""
        self._first_names: dict[tuple[int, int], Path] = {}
        # Folders that differ in case only are one folder where a tree of results does not tell them apart.
        is_folded = any((root / _FOLDED_MARKER).is_dir() for root in self._places.results)
        # Not recursive: folders may be nested deeper than Python's calls.
        waiting: list[tuple[Path, frozenset[tuple[int, int]], dict[str, _Claims] | None]]
        waiting = [(self.root, frozenset(), None)]
        while waiting:
            folder, above, shared = waiting.pop()
            try:
                status = folder.stat()
                with os.scandir(folder) as entries:
                    found = sorted(entries, key=lambda entry: entry.name)
            except OSError as error:
                yield WalkProblem(folder, f"this folder cannot be read: {error.strerror or error}", hides_images=True)
                continue
            here = status.st_dev, status.st_ino
            if here in above:  # mounted below itself; links are not entered at all
                yield WalkProblem(folder, "this is a folder above it once more", hides_images=False)
                continue
            subfolders: list[Path] = []
            claims: _Claims = {}
            if shared is not None:
                claims = shared.setdefault(folded(folder.relative_to(self.root).as_posix()), claims)
            yield from self._folder(folder, found, subfolders, claims)
            above |= {here}
            twins = Counter(folded(path.name) for path in subfolders) if is_folded else Counter[str]()
            shared_by_twins: dict[str, _Claims] = {}
            for path in reversed(subfolders):
                is_twin = twins[folded(path.name)] > 1
                waiting.append((path, above, shared_by_twins if shared is None and is_twin else shared))

    def _folder(
        self, folder: Path, found: list["os.DirEntry[str]"], subfolders: list[Path], claims: _Claims
    ) -> Iterator[Paths | WalkProblem]:
        """What is in a folder; appends the folders that are to be entered, and adds to the names that are taken."""
        stems: set[str] = set()
        others: list[Path] = []
        for entry in found:
            path = folder / entry.name
            is_image = path.suffix.lower() in self._extensions and not entry.name.startswith("._")
            if is_image and _is_own_output(path) and not _is_dir(entry):
                self.n_passed_over += 1
            elif _is_link(entry) and (problem := self._problem_of_link(path, is_image=is_image)) is not None:
                yield problem
            elif _is_dir(entry) and not _is_link(entry):
                subfolders.append(path)
            elif is_image:
                if (problem := self._problem_of_file(path)) is not None:
                    yield problem
                    continue
                if (clash := self._names.claim(path, claims)) is not None:
                    first, file = clash
                    reason = f"its results would overwrite those of {first} ({file}); rename one of the two"
                    yield WalkProblem(path, reason, hides_images=True, is_clash=True)
                    continue
                stems.add(path.stem.casefold())
                yield Paths(path.relative_to(self.root), self._places)
            elif not entry.name.startswith("."):
                others.append(path)
        for path in others:
            if path.suffix != ".json" or path.stem.removesuffix("_instances").casefold() not in stems:
                self.left_out[path.suffix.lower() or "without suffix"] += 1
        self.n_folders += bool(stems)

    def _problem_of_link(self, path: Path, *, is_image: bool) -> WalkProblem | None:
        """Why a link is not followed; None if it is the only name of an image, or of no interest."""
        target = Path(os.path.realpath(path))
        is_folder = os.path.isdir(target)  # noqa: PTH112 - is_dir may raise
        if not is_folder and not is_image:
            return None
        if (out := way_out(path, self.root)) is not None:
            reason = (
                f"this link leads out of the input folder, to {out}; copy what it leads to into the input folder, or "
                "give that folder as the input folder of another run (-i)"
            )
            return WalkProblem(path, reason, hides_images=True)
        if is_folder:
            return WalkProblem(path, f"this link leads to {target}, whose images are found there", hides_images=False)
        if target.suffix.lower() in self._extensions and not target.name.startswith("._") and _is_regular(target):
            return WalkProblem(path, f"this is another name of {target}", hides_images=False)
        return None

    def _problem_of_file(self, path: Path) -> WalkProblem | None:
        """Why something with the suffix of an image is not read; None if it is, or if reading it tells why not."""
        try:
            status = path.stat()
        except OSError:  # a link whose target is gone, so that its loss is reported
            return None
        if not stat.S_ISREG(status.st_mode):
            return WalkProblem(path, "this is no regular file, but a pipe, socket or device", hides_images=True)
        if status.st_nlink > 1:
            first = self._first_names.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                return WalkProblem(path, f"this is another name of {first}", hides_images=False)
        return None


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


def _is_link(entry: "os.DirEntry[str]") -> bool:
    """Whether this is a symbolic link, or a junction of Windows."""
    if sys.platform == "win32":
        tag = entry.stat(follow_symlinks=False).st_reparse_tag
        return tag in (stat.IO_REPARSE_TAG_SYMLINK, stat.IO_REPARSE_TAG_MOUNT_POINT)
    return entry.is_symlink()


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _is_dir(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_own_output(path: Path) -> bool:
    return path.name.lower().endswith((_ENDINGS[FileKind.PREVIEW], _ENDINGS[FileKind.MASK]))
