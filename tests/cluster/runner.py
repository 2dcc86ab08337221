"""The program with ``--cluster``, but for the model, which takes red rectangles for cars.

python -m tests.cluster.runner OPTIONS OF anonymise --cluster ADDRESS
"""

import argparse
import sys

from anonymise.batch.outcomes import Progress, Report
from anonymise.batch.paths import Places
from anonymise.batch.workers import Executor
from anonymise.cluster import members, session
from anonymise.commands.arguments import add_run_options
from anonymise.commands.execution import execute
from anonymise.config import Config
from tests.cluster.models import IDENTITY, load

if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    add_run_options(arguments)
    arguments.add_argument("--cluster", required=True)
    arguments.add_argument("--silent-seconds", type=float)
    args = arguments.parse_args()
    args.create_archive = True
    if args.silent_seconds is not None:
        members.SILENT_SECONDS = args.silent_seconds

    def command(config: Config, places: Places, _: Executor, progress: Progress) -> Report:
        return session.anonymise(config, places, args.cluster, progress, identity=IDENTITY, load=load)

    sys.exit(execute(args, command))
