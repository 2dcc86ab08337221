"""The YAML files that travel with the program: beside the code in an installed wheel, at the top of a checkout."""

import contextlib
from pathlib import Path

import platformdirs

from anonymise.core.errors import UsageError

__all__ = ["CATALOG", "CONFIG_FOLDER", "IN_CHECKOUT", "command_line", "default_model_folder", "user_cache"]

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
