"""The program as the command line runs it, but for the model, which takes red rectangles for cars: its start is quick.

python -m tests.faults.runner OPTIONS OF anonymise
"""

import argparse
import sys

from anonymise import pipeline
from anonymise.cli import add_config_options, add_folder_options, execute
from anonymise.config import Config
from anonymise.outcomes import Progress, Report
from anonymise.paths import Places
from anonymise.workers import Workers
from tests.fakes import RedMasker


def command(config: Config, places: Places, workers: Workers, progress: Progress) -> Report:
    return pipeline.anonymise(config, places, RedMasker(), workers, progress)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    add_folder_options(arguments)
    add_config_options(arguments)
    arguments.set_defaults(log_folder=None, skip_clear_cache=False)
    sys.exit(execute(arguments.parse_args(), command))
