"""What every part speaks: boxes and instances, classes, projections, saved instances, errors. Knows no room."""
