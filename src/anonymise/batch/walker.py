"""The walk over the input folder: every image once, and what stands in the way.

Knows all files that an image may have, so that names that clash are found before anything is written.
"""

import os
import stat
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from anonymise.batch.paths import ERROR_NOTE, ERROR_RECORD, SUFFIXES, Paths, Places, way_out
from anonymise.config.files import PLACES_OF, FileKind, FileOptions

__all__ = ["TreeWalker", "WalkProblem", "folded", "is_own_output"]

_FOLDED_MARKER = ".ANONYMISE"
"""The folder that every tree of results has, in capitals: it is there where the file system does not know case."""


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
                ending = SUFFIXES.get(kind, ".png" if kind is FileKind.COLMAP_MASK else "")
                self._files.append((roots.index(root), kind in SUFFIXES, ending))

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

    Files that this program itself wrote next to the images (previews, masks) are passed over, as are the files that
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
        """Each image of the shard, lazily, and each problem where it is met."""
        shard = self._places.shard
        for item in self._walk():
            # A folder that cannot be read hides images of every shard.
            if shard is None or (isinstance(item, WalkProblem) and not item.is_clash) or shard.has(self._key(item)):
                yield item

    def _key(self, item: Paths | WalkProblem) -> str:
        return item.key if isinstance(item, Paths) else item.path.relative_to(self.root).as_posix()

    def _walk(self) -> Iterator[Paths | WalkProblem]:
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
            if is_image and is_own_output(path) and not _is_dir(entry):
                self.n_passed_over += 1
            elif _is_link(entry) and (problem := self._problem_of_link(path, is_image=is_image)) is not None:
                yield problem
            elif _is_dir(entry) and not _is_link(entry):
                if self._enters(path):
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

    def _enters(self, folder: Path) -> bool:  # noqa: ARG002 - for walks over some images
        return True

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


def is_own_output(path: Path) -> bool:
    """Whether a file has the name of a preview or a mask that this program writes next to images."""
    return path.name.lower().endswith((SUFFIXES[FileKind.PREVIEW], SUFFIXES[FileKind.MASK]))
