"""The YAML files that travel with the program: beside the code in an installed wheel, at the top of a checkout."""

from pathlib import Path

import platformdirs

__all__ = ["CATALOG", "CONFIG_FOLDER", "default_model_folder"]

_PACKAGE = Path(__file__).parent
_CHECKOUT = _PACKAGE.parents[1]
_IN_CHECKOUT = (_CHECKOUT / "models" / "catalog.yml").is_file() and (_CHECKOUT / "pyproject.toml").is_file()
_ROOT = _CHECKOUT if _IN_CHECKOUT else _PACKAGE / "data"

CONFIG_FOLDER = _ROOT / "config"
CATALOG = _ROOT / "models" / "catalog.yml"


def default_model_folder() -> Path:
    """Where weights are kept: beside the catalog in a checkout, else in the user's cache folder."""
    return CATALOG.parent if _IN_CHECKOUT else platformdirs.user_cache_path("anonymise", appauthor=False) / "models"
