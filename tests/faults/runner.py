"""The program as the command line runs it, but for the model, which takes red rectangles for cars: its start is quick.

python -m tests.faults.runner OPTIONS OF anonymise [--database SETTINGS] [--reader] [--shard K/N]

With --reader, images are decoded in a process of their own, into shared memory, as by the command itself.
"""

import argparse
import sys
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from anonymise.batch import runs as pipeline
from anonymise.batch.outcomes import Progress, Report
from anonymise.batch.paths import Places
from anonymise.batch.session import database_sender
from anonymise.batch.workers import Executor, ProcessWorkers
from anonymise.commands.arguments import add_config_options, add_folder_options
from anonymise.commands.execution import execute
from anonymise.config import Config
from anonymise.database.client import connect
from anonymise.database.sender import Sender
from anonymise.database.settings import load_settings, password_for
from anonymise.database.table import load_table
from tests.database.postgres import PASSWORD
from tests.fakes import RedMasker


def command(
    database: Path | None, has_reader: bool, config: Config, places: Places, workers: Executor, progress: Progress
) -> Report:
    if database is None:
        with ExitStack() as stack:
            sender = stack.enter_context(database_sender(config, places))
            reader = stack.enter_context(closing(ProcessWorkers(1))) if has_reader else None
            return pipeline.anonymise(config, places, RedMasker(), workers, progress, sender, reader)
    settings = load_settings(database)
    table = load_table("VEGBILDER")
    with closing(connect(settings, password_for(settings, {"ANONYMISE_DB_PASSWORD": PASSWORD}))) as client:
        sender = Sender(client, table, config.database)
        return pipeline.anonymise(config, places, RedMasker(), workers, progress, sender)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    add_folder_options(arguments)
    add_config_options(arguments)
    arguments.add_argument("--database", type=Path)
    arguments.add_argument("--reader", action="store_true")
    arguments.add_argument("--shard")
    arguments.set_defaults(log_folder=None, skip_clear_cache=False, create_archive=True, only=None, corrected=False)
    args = arguments.parse_args()
    sys.exit(execute(args, partial(command, args.database, args.reader)))
