"""The program as the command line runs it, but for the model, which takes red rectangles for cars: its start is quick.

python -m tests.faults.runner OPTIONS OF anonymise [--database SETTINGS]
"""

import argparse
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

from anonymise import pipeline
from anonymise.cli import add_config_options, add_folder_options, database_sender, execute
from anonymise.config import Config
from anonymise.db.client import connect
from anonymise.db.sender import Sender
from anonymise.db.settings import load_settings, password_for
from anonymise.db.table import load_table
from anonymise.outcomes import Progress, Report
from anonymise.paths import Places
from anonymise.resources import CONFIG_FOLDER
from anonymise.workers import Workers
from tests.db.postgres import PASSWORD
from tests.fakes import RedMasker


def command(database: Path | None, config: Config, places: Places, workers: Workers, progress: Progress) -> Report:
    if database is None:
        with database_sender(config, places) as sender:
            return pipeline.anonymise(config, places, RedMasker(), workers, progress, sender)
    settings = load_settings(database)
    table = load_table("VEGBILDER", CONFIG_FOLDER / "db_tables")
    with closing(connect(settings, password_for(settings, {"ANONYMISE_DB_PASSWORD": PASSWORD}))) as client:
        sender = Sender(client, table, config.database)
        return pipeline.anonymise(config, places, RedMasker(), workers, progress, sender)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    add_folder_options(arguments)
    add_config_options(arguments)
    arguments.add_argument("--database", type=Path)
    arguments.set_defaults(log_folder=None, skip_clear_cache=False)
    args = arguments.parse_args()
    sys.exit(execute(args, partial(command, args.database)))
