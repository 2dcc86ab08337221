"""Which files a finished image has, and in which places."""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from pydantic import Field, field_validator

from anonymise.core.section import Section

__all__ = ["PLACES_OF", "FileKind", "FileOptions", "Place"]


class FileKind(Enum):
    """What a file of a finished image is; the value is the name in the configuration's keys."""

    IMAGE = "image"
    JSON = "json"
    PREVIEW = "preview"
    MASK = "mask"
    INSTANCES = "instances"
    COLMAP_MASK = "colmap_mask"


class Place(Enum):
    """The tree that a file stands in; the value is the prefix of the configuration's keys."""

    LOCAL = "local"
    REMOTE = "remote"
    ARCHIVE = "archive"
    PREVIEWS = "separate"
    COLMAP = "colmap"


_TREES = (Place.LOCAL, Place.REMOTE, Place.ARCHIVE)

PLACES_OF: Mapping[FileKind, tuple[Place, ...]] = MappingProxyType(
    {
        FileKind.IMAGE: (Place.REMOTE, Place.ARCHIVE),
        FileKind.JSON: _TREES,
        FileKind.PREVIEW: (*_TREES, Place.PREVIEWS),
        FileKind.MASK: _TREES,
        FileKind.INSTANCES: _TREES,
        FileKind.COLMAP_MASK: (Place.COLMAP,),
    }
)


class FileOptions(Section):
    """Keys of the configuration about files: which ones are read and written, and where."""

    image_extensions: tuple[str, ...] = Field(min_length=1)
    """Suffixes of the files that are images, in upper or lower case: jpg, jpeg, jpe, jfif, mpo, insp (of the latter
    two only the first picture) and png.
    """

    remote_json: bool
    """Write the JSON record to the output folder."""

    local_json: bool
    """Write the JSON record to the input folder."""

    archive_json: bool
    """Write the JSON record to the archive folder. Needs `remote_json` and an archive folder (`-a`)."""

    remote_preview: bool
    """Write the preview to the output folder. Needs `preview_dim`."""

    local_preview: bool
    """Write the preview to the input folder. Needs `preview_dim`."""

    archive_preview: bool
    """Write the preview to the archive folder. Needs `remote_preview`, `preview_dim` and an archive folder (`-a`)."""

    separate_preview_directory: str | None
    """Another folder for previews, with the same subfolders. A relative path begins at the folder of the configuration
    file. Needs `preview_dim`.
    """

    remote_mask: bool
    """Write the mask (PNG: 0 hidden, 255 kept) to the output folder."""

    local_mask: bool
    """Write the mask to the input folder."""

    archive_mask: bool
    """Write the mask to the archive folder. Needs `remote_mask` and an archive folder (`-a`)."""

    colmap_mask_directory: str | None
    """Another folder for masks under COLMAP's names (`name.jpg.png`), with the same subfolders."""

    remote_instances: bool
    """Write what was found (`name_instances.json`) to the output folder."""

    local_instances: bool
    """Write what was found to the input folder."""

    archive_instances: bool
    """Write what was found to the archive folder, from which `redraw` draws again without a model. Needs an archive
    folder (`-a`).
    """

    @field_validator("image_extensions")
    @classmethod
    def _lower_case(cls, extensions: tuple[str, ...]) -> tuple[str, ...]:
        # .jfif and .jpe are other names of JPEG; .mpo and .insp are JPEGs followed by more, of which the first is read.
        supported = {"jpg", "jpeg", "jpe", "jfif", "mpo", "insp", "png"}
        if unknown := [e for e in extensions if e.lower().lstrip(".") not in supported]:
            raise ValueError(f"cannot read {', '.join(unknown)} files; supported: {', '.join(sorted(supported))}")
        return tuple("." + e.lower().lstrip(".") for e in extensions)

    def wants(self, kind: FileKind, place: Place) -> bool:
        """Whether a finished image has this kind of file in this place."""
        if place not in PLACES_OF[kind]:
            return False
        if place is Place.PREVIEWS:
            return self.separate_preview_directory is not None
        if place is Place.COLMAP:
            return self.colmap_mask_directory is not None
        return kind is FileKind.IMAGE or bool(getattr(self, f"{place.value}_{kind.value}"))

    def wants_any(self, kind: FileKind) -> bool:
        """Whether a finished image has this kind of file anywhere."""
        return any(self.wants(kind, place) for place in PLACES_OF[kind])
