"""TensorFlow without the pages that its native part prints to the terminal, and without Keras.

Keras would write its settings to the home folder or read others from there, and import matplotlib, which caches fonts
there.
"""

import logging
import os
import sys
from typing import Any

__all__ = ["import_tensorflow"]


def import_tensorflow() -> Any:
    """The module ``tensorflow``, imported at first use: that takes seconds."""
    # Read once, by the native part, at import; what matters comes as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # A copy of Keras's settings is inside TensorFlow; it finds no place to write to, and goes on.
    os.environ.setdefault("KERAS_HOME", os.devnull)
    if "tensorflow" not in sys.modules and "keras" not in sys.modules:
        sys.modules["keras"] = None  # type: ignore[assignment]
        try:
            import tensorflow  # noqa: F401
        finally:
            del sys.modules["keras"]
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    return tf
