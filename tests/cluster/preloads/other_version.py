"""Makes a worker one of another version of the program."""

from anonymise.cluster import worker

worker.program_version = lambda: "0.0.1"
