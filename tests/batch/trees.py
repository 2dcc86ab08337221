"""Settings and folders for the tests of paths and of the walk."""

from pathlib import Path

from anonymise.config import FileOptions

_NOTHING: dict[str, object] = {
    "image_extensions": ["jpg", "jpeg", "png"],
    "separate_preview_directory": None,
    "colmap_mask_directory": None,
    **{
        f"{place}_{kind}": False
        for place in ("remote", "local", "archive")
        for kind in ("json", "preview", "mask", "instances")
    },
}


def options(**changed: object) -> FileOptions:
    return FileOptions.model_validate(_NOTHING | changed)


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
