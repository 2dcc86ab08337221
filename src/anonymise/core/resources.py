"""Files around the program: those that come with it, the user's settings, and the user's cache.

What comes with the program stands next to the code in an installed wheel, and at the top of a checkout. Settings are
looked for in several folders, of which the program writes to the user's own only.
"""

import contextlib
import os
from pathlib import Path

import platformdirs

from anonymise.core.errors import UsageError

__all__ = [
    "CATALOG",
    "CONFIG_FOLDER",
    "IN_CHECKOUT",
    "command_line",
    "default_model_folder",
    "find_settings",
    "settings_folders",
    "user_cache",
    "writable_settings_folder",
]

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parents[1]
IN_CHECKOUT = (_CHECKOUT / "models" / "catalog.yml").is_file() and (_CHECKOUT / "pyproject.toml").is_file()
"""Whether this runs in a checkout, where the scripts are, rather than from an installed wheel."""

_ROOT = _CHECKOUT if IN_CHECKOUT else _PACKAGE / "data"

CONFIG_FOLDER = _ROOT / "config"
CATALOG = _ROOT / "models" / "catalog.yml"


def command_line(name: str | None = None) -> str:
    """How a command is called where the program runs: for help texts and for advice in messages.

    Args:
        name: name of the command, with options if there are any; None for the main job.
    """
    if name is None:
        return "python -m anonymise" if IN_CHECKOUT else "anonymise"
    if not IN_CHECKOUT:
        return f"anonymise {name}"
    command, *options = name.split(" ")
    return " ".join([f"python -m script.{command.replace('-', '_')}", *options])


def settings_folders() -> tuple[Path, ...]:
    """Folders in which settings are looked for, in this order.

    They are ``config`` in the current folder, the user's configuration folder, and the one that comes with the program,
    which is ``config`` of a checkout. They need not exist.
    """
    folders: list[Path] = []
    for folder in (_current_config(), _user_config(), CONFIG_FOLDER):
        # In the root of a checkout the first and the last are one folder.
        if folder is not None and not any(_is_same(folder, other) for other in folders):
            folders.append(folder)
    return tuple(folders)


def find_settings(name: str) -> Path | None:
    """The first file of this name in the folders of settings; None if there is none.

    Args:
        name: such as ``db_config.yml`` or ``db_tables/VEGBILDER.yml``.
    """
    # A link that leads nowhere counts: reading it says so, where looking further would take another file in silence.
    return next((folder / name for folder in settings_folders() if os.path.lexists(folder / name)), None)


def writable_settings_folder() -> Path | None:
    """The first folder of the user's own that settings can be written to; None if there is none.

    ``config`` in the current folder only counts where it exists; the user's configuration folder may have to be made.
    """
    own = [folder for folder in settings_folders() if IN_CHECKOUT or not _is_same(folder, CONFIG_FOLDER)]
    user = _user_config()
    for folder in own:
        there = next((parent for parent in (folder, *folder.parents) if parent.exists()), folder)
        if folder in (there, user) and there.is_dir() and os.access(there, os.W_OK):
            return folder
    return None


def _current_config() -> Path | None:
    with contextlib.suppress(OSError):  # a current folder that was deleted
        return Path.cwd() / "config"
    return None


def _user_config() -> Path | None:
    # See user_cache.
    with contextlib.suppress(RuntimeError):
        folder = platformdirs.user_config_path("anonymise", appauthor=False)
        if folder.is_absolute():
            return folder
    return None


def _is_same(one: Path, other: Path) -> bool:
    with contextlib.suppress(OSError):
        return one.samefile(other)
    return one == other


def user_cache() -> Path | None:
    """The user's cache folder for this program; None for users without a home folder, such as those of services."""
    # Newer releases of platformdirs raise this then, older ones return "~/…" as it is.
    with contextlib.suppress(RuntimeError):
        folder = platformdirs.user_cache_path("anonymise", appauthor=False)
        if folder.is_absolute():
            return folder
    return None


def default_model_folder() -> Path:
    """Where weights are kept: next to the catalog in a checkout, else in the user's cache folder.

    Raises:
        UsageError: there is no cache folder, as the user has no home folder.
    """
    if IN_CHECKOUT:
        return CATALOG.parent
    if (folder := user_cache()) is None:
        raise UsageError("There is no home folder to keep models in: say with model_folder where they are to be kept.")
    return folder / "models"
