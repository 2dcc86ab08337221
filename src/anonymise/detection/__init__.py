"""Where models look, and what their findings come to."""
