"""TensorFlow without the pages that its native part prints to the terminal."""

import logging
import os
from typing import Any

__all__ = ["import_tensorflow"]


def import_tensorflow() -> Any:
    """The module ``tensorflow``, imported at first use: that takes seconds."""
    # Read once, by the native part, at import; what matters comes as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.get_logger().setLevel(logging.ERROR)
    return tf
