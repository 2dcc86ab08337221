"""Where the shared measuring pictures are, which are not part of the project."""

import os
from pathlib import Path

__all__ = ["SHARED"]

SHARED = Path(os.environ.get("ANONYMISE_SHARED", Path(__file__).parents[2] / "shared"))
"""A folder that need not be there; who uses it says so where it is missing."""
