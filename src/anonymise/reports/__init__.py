"""Reports by the public of what must be hidden, or need not be: from a place that somebody clicked to a correction."""
