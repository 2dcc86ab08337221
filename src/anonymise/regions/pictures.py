"""What another system calls a picture → the image below the input folder, its size, and whether its edges meet."""

import json
import math
import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from string import Formatter
from typing import NamedTuple

from anonymise import images
from anonymise.anonymiser import projection_of
from anonymise.batch.paths import SUFFIXES
from anonymise.batch.walker import folded, is_own_output
from anonymise.config import Config
from anonymise.config.files import FileKind
from anonymise.core.detections import Size
from anonymise.core.errors import ImageError, UsageError

__all__ = ["Picture", "Pictures"]

_HEADER_BYTES = 1 << 18
"""A JPEG's size and metadata are nearly always within these; files on a share are slow to read whole."""


class Picture(NamedTuple):
    """An image that regions belong to.

    Attributes:
        relative: path below the input folder, with ``/``.
        size: as it is stored.
        wraps: whether its left and right edge meet.
    """

    relative: str
    size: Size
    wraps: bool


@dataclass(slots=True)
class Pictures:
    """The images of folders, by the names that another system has for them. Reads the folders once.

    Case and the composition of letters do not count in names, as systems differ in both.

    Args:
        roots: input folder and archive; an image of several is the first one's.
        config: says which files are images, and which are panoramas.
        rule: what the other system calls a picture, of ``{mission}`` (name of any folder above it), ``{stem}`` and
            ``{relative}``; where several missions fit, the longest one counts.
        records: output folder, where records are looked for first.

    Raises:
        UsageError: the rule names something else, or a folder cannot be read.
    """

    roots: tuple[Path, ...]
    config: Config
    rule: str = "{mission}_{stem}"
    records: Path | None = None
    _named: dict[str, list[str]] = field(init=False)
    _files: dict[str, Path] = field(init=False)
    _known: dict[str, Picture] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.rule = {"stem": "{stem}", "relative": "{relative}"}.get(self.rule, self.rule)
        try:
            fields = {name for _, name, _, _ in Formatter().parse(self.rule) if name is not None}
        except ValueError as error:
            raise UsageError(f"--names {self.rule}: {error}") from error
        if not fields or fields - {"mission", "stem", "relative"}:
            raise UsageError(f"--names {self.rule}: it is made of {{mission}}, {{stem}} and {{relative}}")
        self._named, self._files = defaultdict(list), {}
        for root in self.roots:
            self._index(root, "mission" in fields)

    def _index(self, root: Path, by_mission: bool) -> None:
        def complain(error: OSError) -> None:
            raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error

        extensions = self.config.files.image_extensions
        for folder, _, names in os.walk(root, onerror=complain):
            parts = Path(folder).relative_to(root).parts
            for name in names:
                file = Path(folder, name)
                if file.suffix.lower() not in extensions or is_own_output(file) or name.startswith("._"):
                    continue
                relative = "/".join((*parts, name))
                if self._files.setdefault(relative, file) != file:
                    continue  # the same image in another folder
                missions = set(parts if by_mission else ()) or {""}
                for key in {self.rule.format(mission=one, stem=file.stem, relative=relative) for one in missions}:
                    self._named[folded(key)].append(relative)

    def of(self, name: str) -> Picture | None:
        """The image with this name of another system, or with this path; None where there is none.

        Raises:
            ValueError: several images fit, or the image cannot be read.
        """
        for spelling in (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name)):
            if spelling in self._files:
                return self._picture(spelling)
        fitting = self._named.get(folded(name), ())
        lengths = [len(PurePath(relative).stem) for relative in fitting]
        # The shortest name has the longest mission.
        longest = sorted(relative for relative, n in zip(fitting, lengths, strict=True) if n == min(lengths))
        if len(longest) > 1:
            raise ValueError(f"several pictures: {name} may be {longest[0]} or {longest[1]}")
        return self._picture(longest[0]) if longest else None

    def angles(self, relative: str) -> tuple[float, float] | None:
        """Roll and pitch of a picture in degrees, as its record says; None where no record says both."""
        name = PurePath(relative).with_suffix(SUFFIXES[FileKind.JSON])
        for tree in self.roots if self.records is None else (self.records, *self.roots):
            try:
                record = json.loads((tree / name).read_text("utf-8"))
                angles = float(record["exif_roll"]), float(record["exif_pitch"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if all(map(math.isfinite, angles)):
                return angles
        return None

    def _picture(self, relative: str) -> Picture:
        if relative not in self._known:
            try:
                with self._files[relative].open("rb") as opened:
                    data = opened.read(_HEADER_BYTES)
                    try:
                        picture = self._described(relative, data)
                    except ImageError:
                        picture = self._described(relative, data + opened.read())
            except (OSError, ImageError) as error:
                raise ValueError(f"no picture: {relative} cannot be read: {error}") from error
            self._known[relative] = picture
        return self._known[relative]

    def _described(self, relative: str, data: bytes) -> Picture:
        header = images.header(data, max_pixels=self.config.images.max_decoded_pixels)
        around, _ = projection_of(data, self.config)
        return Picture(relative, Size(header.width, header.height), around.wraps_as_stored(header.orientation))
