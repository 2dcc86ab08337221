"""Matplotlib without the settings and the list of fonts that it would keep in the home folder."""

import atexit
import functools
import os
import shutil
import tempfile

__all__ = ["keep_matplotlib_out_of_home"]


@functools.cache
def keep_matplotlib_out_of_home() -> None:
    """Gives matplotlib, and what imports it, a temporary folder for its files. Call this before it is imported."""
    if "MPLCONFIGDIR" not in os.environ:
        folder = tempfile.mkdtemp(prefix="anonymise-matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["MPLCONFIGDIR"] = folder
