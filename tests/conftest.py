import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("ANONYMISE_SHARED", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The measuring pictures, which are no part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the folder of shared test pictures is not here (ANONYMISE_SHARED)")
    return SHARED
