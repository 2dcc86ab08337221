"""A folder of images: walk, journal, workers, results. Knows images only through the core."""
