"""The command line: arguments in, exit code out. What every command shares stands here; the work does not.

Importing this loads nothing heavy, so that ``--help`` answers at once.
"""

import argparse
import contextlib
import getpass
import io
import logging
import os
import signal
import socket
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from anonymise.errors import AnonymiseError, ExitCode, StopError, UsageError

if TYPE_CHECKING:
    from anonymise.config import Config, LogOptions
    from anonymise.db.sender import Sender
    from anonymise.notify import Notifier
    from anonymise.outcomes import Outcome, Progress, Report
    from anonymise.paths import Places
    from anonymise.workers import Workers

__all__ = [
    "add_config_options",
    "add_folder_options",
    "anonymise_command",
    "database_sender",
    "execute",
    "folder_script",
    "guarded",
    "main",
    "parser",
    "preview_command",
    "record_command",
    "redraw_command",
    "summary",
]

log = logging.getLogger(__name__)

_FILE_ONLY = {"file_only": True}
"""Marks lines of the log that are not for the terminal, because the operator sees them anyway or they are long."""

Command = Callable[["Config", "Places", "Workers", "Progress"], "Report"]
"""Something that is done to a whole folder."""

_EXAMPLES = """examples:
  anonymise what lies in photos, with the small model that needs no other download:
      python -m anonymise -i photos -o published -k config/lite_config.yml
  keep the untouched originals in an archive, and a log of the run:
      python -m anonymise -i photos -o published -a originals -l logs
  another blur, just this once:
      python -m anonymise -i photos -o published --set blur=30 --set remote_preview=True

exit codes: 0 all images done, 1 some images failed, 2 usage or configuration, 3 stopped (model or disk),
130 interrupted"""


def parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """An argument parser whose help ends with examples."""
    return argparse.ArgumentParser(
        prog=prog,
        description=textwrap.fill(description, 80),
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_folder_options(to: argparse.ArgumentParser) -> None:
    """The options that name the folders of a run."""
    folders = to.add_argument_group("folders")
    folders.add_argument("-i", "--input-folder", type=Path, required=True, metavar="IN", help="images are found here")
    folders.add_argument(
        "-o", "--output-folder", type=Path, required=True, metavar="OUT", help="results go here, in the same subfolders"
    )
    folders.add_argument(
        "-a", "--archive-folder", type=Path, metavar="ARCHIVE", help="untouched originals are copied here"
    )


def add_config_options(to: argparse.ArgumentParser) -> None:
    """The options that say how a run is configured."""
    options = to.add_argument_group("configuration")
    options.add_argument(
        "-k",
        "--config",
        type=Path,
        action="append",
        default=[],
        metavar="CONFIG",
        help="YAML file that overlays config/default_config.yml; may be given several times, later ones win",
    )
    options.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set one key, after all files; may be repeated"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs ``python -m anonymise``; returns the exit code."""
    arguments = parser(
        "anonymise",
        "Finds people and vehicles in a folder of street images and 360° panoramas, hides them beyond recovery, and "
        "writes the anonymised images, previews and a JSON record of each.",
        _EXAMPLES,
    )
    _add_options(arguments)
    arguments.add_argument(
        "-p",
        "--preview_only",
        "--preview-only",
        action="store_true",
        help="only cut the previews again, from the anonymised images that are in OUT",
    )
    arguments.add_argument("--version", action=_Version, help="print the version and exit")
    args = arguments.parse_args(argv)
    return execute(args, preview_command if args.preview_only else anonymise_command)


def folder_script(
    name: str, description: str | None, examples: str, command: Command, overrides: Sequence[str] = ()
) -> int:
    """Runs a script that does one thing to a folder of images; returns the exit code.

    Args:
        name: of the script.
        description: what it does.
        examples: how to use it.
        command: does it.
        overrides: keys of the configuration, ``key=value``, that the script stands for.
    """
    arguments = parser(f"python -m script.{name}", description or "", examples)
    _add_options(arguments)
    args = arguments.parse_args()
    args.set += overrides
    return execute(args, command)


class _Version(argparse.Action):
    """Looks the version up only when it is asked for; that takes a while."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        parser.exit(message=f"anonymise {version('anonymise')}\n")


def _add_options(to: argparse.ArgumentParser) -> None:
    add_folder_options(to)
    add_config_options(to)
    to.add_argument("-l", "--log-folder", type=Path, metavar="LOGDIR", help="write a log file into this folder")
    to.add_argument(
        "--skip-clear-cache",
        action="store_true",
        help="leave the temporary files of an interrupted run where they are",
    )


def anonymise_command(config: "Config", places: "Places", workers: "Workers", progress: "Progress") -> "Report":
    """The main job."""
    from anonymise import pipeline
    from anonymise.masker import load_masker

    with database_sender(config, places) as sender, _reader(config) as reader:
        masker = load_masker(config.model, progress=sys.stderr.isatty())
        return pipeline.anonymise(config, places, masker, workers, progress, sender, reader)


@contextlib.contextmanager
def _reader(config: "Config") -> Iterator["Workers | None"]:
    """A process that decodes images, unless everything is to be done in this one."""
    from anonymise.workers import ProcessWorkers

    if not config.run.enable_async:
        yield None
        return
    with contextlib.closing(ProcessWorkers(1)) as reader:
        yield reader


@contextlib.contextmanager
def database_sender(config: "Config", places: "Places") -> Iterator["Sender | None"]:
    """What sends rows to the database that the operator has, or to a GeoPackage beside the results.

    Raises:
        ConfigError: the database's or the table's configuration is not valid.
    """
    from anonymise.db.client import connect
    from anonymise.db.sender import Sender
    from anonymise.db.settings import GeoPackageSettings, load_settings, password_for
    from anonymise.db.table import load_table
    from anonymise.resources import CONFIG_FOLDER

    if not config.database.write_exif_to_db or config.record.table_name is None:
        yield None
        return
    table = load_table(config.record.table_name, CONFIG_FOLDER / "db_tables")
    file = CONFIG_FOLDER / "db_config.yml"
    if file.is_file():
        settings = load_settings(file)
        ask = getpass.getpass if sys.stdin.isatty() else None
        client = connect(settings, password_for(settings, os.environ, ask))
    else:
        client = connect(
            GeoPackageSettings(backend="geopackage", file=places.output / f"{config.record.table_name}.gpkg"), None
        )
        if not client.has_table(table):
            client.create_table(table)
    with contextlib.closing(client):
        yield Sender(client, table, config.database, flip=config.record.flip_wkt)


def preview_command(config: "Config", places: "Places", workers: "Workers", progress: "Progress") -> "Report":
    """Previews only."""
    from anonymise import pipeline

    return pipeline.make_previews(config, places, workers, progress)


def record_command(config: "Config", places: "Places", workers: "Workers", progress: "Progress") -> "Report":
    """Records only."""
    from anonymise import pipeline

    return pipeline.make_records(config, places, workers, progress)


def redraw_command(config: "Config", places: "Places", workers: "Workers", progress: "Progress") -> "Report":
    """The main job with what an earlier run found."""
    from anonymise import pipeline

    with database_sender(config, places) as sender, _reader(config) as reader:
        return pipeline.redraw(config, places, workers, progress, sender, reader)


def execute(args: argparse.Namespace, command: Command) -> int:
    """Runs a command over the folders that ``args`` name; returns the exit code."""
    return guarded(lambda: _execute(args, command))


def guarded(command: Callable[[], int]) -> int:
    """The exit code of a command, whose expected errors become a message instead of a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what the terminal cannot show
    try:
        return command()
    except UsageError as error:
        _complain(error)
        return ExitCode.USAGE
    except StopError as error:
        _complain(error)
        return ExitCode.STOPPED
    except AnonymiseError as error:
        _complain(error)
        return ExitCode.IMAGES_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return ExitCode.INTERRUPTED


def _execute(args: argparse.Namespace, command: Command) -> int:
    from anonymise import config as configuration
    from anonymise.notify import Notifier, read_email_account
    from anonymise.paths import Places
    from anonymise.resources import CONFIG_FOLDER
    from anonymise.runlock import run_lock
    from anonymise.storage import clear_temporary_files, prepare_root

    config = configuration.load(args.config, args.set, has_archive=args.archive_folder is not None)
    places = Places.of(args.input_folder, args.output_folder, args.archive_folder, config.files)
    account = None
    if config.email.any_enabled:
        account = read_email_account(CONFIG_FOLDER / "email_config.yml", os.environ)
    for root in places.results:
        prepare_root(root)
    with (
        _logging(args.log_folder, config.log) as log_file,
        run_lock(places.output) as lock,
        Notifier(config.email, account, about=f"{places.input} → {places.output}", log_file=log_file) as notifier,
        _interruption() as wants_to_stop,
        _progress(notifier, lock.check, wants_to_stop) as progress,
    ):
        log.info("Configuration:\n%s", config.as_yaml(), extra=_FILE_ONLY)
        if not config.appearance.draw_mask:
            log.warning("draw_mask is False: the output images are NOT anonymised")
        if not args.skip_clear_cache and (cleared := clear_temporary_files(places.results)):
            log.info("Cleared %d temporary files of an interrupted run", cleared)
        try:
            report = _run(command, config, places, progress)
        except Exception as error:
            log.exception("Ended by an error", extra=_FILE_ONLY)
            notifier.uncaught(error)
            raise
        log.info("Stage times in seconds: %s", {k: round(v, 2) for k, v in report.stage_seconds.items()})
        lines = summary(report)
        for line in lines:
            log.info(line, extra=_FILE_ONLY)
        if report.stopped is not None:
            log.error("Stopped: %s", report.stopped)
            notifier.uncaught(report.stopped)
        else:
            notifier.finished(f"{report.n_done} images done, {len(report.failed)} failed", lines)
    # After the progress bar is gone.
    print("\n".join(lines))  # noqa: T201
    if report.interrupted:
        return ExitCode.INTERRUPTED
    if report.stopped is not None:
        return ExitCode.STOPPED
    return ExitCode.IMAGES_FAILED if report.failed else ExitCode.OK


def _run(command: Command, config: "Config", places: "Places", progress: "Progress") -> "Report":
    from anonymise.workers import ProcessWorkers, SerialWorkers

    run = config.run
    workers = ProcessWorkers(run.max_num_async_workers) if run.enable_async else SerialWorkers()
    with contextlib.closing(workers):
        return command(config, places, workers, progress)


def summary(report: "Report") -> list[str]:
    """What a run did, for the operator, a line each."""
    identified = report.n_done + report.n_skipped + len(report.failed)
    seconds = round(report.seconds)
    rate = f", {report.n_done / report.seconds:.1f} images/s" if report.n_done else ""
    found = ", ".join(f"{n} {name}" for name, n in report.objects.items()) or "nothing"
    lines = [
        f"Folders with images: {report.n_folders}",
        f"Identified images:   {identified}",
        f"Skipped (finished):  {report.n_skipped}",
        f"Failed:              {len(report.failed)}",
        f"Done:                {report.n_done}",
        f"Found and hidden:    {found}",
        f"Time:                {seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}{rate}",
    ]
    if report.rows is not None:
        lines.append("Database rows:       " + ", ".join(f"{n} {what}" for what, n in report.rows.items()))
    if report.n_passed_over:
        lines.append(f"Previews and masks in the input folder, passed over: {report.n_passed_over}")
    lines += [f"FAILED {failed.source} ({failed.stage}): {failed.reason}" for failed in report.failed]
    if report.interrupted:
        lines.append("Interrupted; what is finished stays, and the same command goes on from here.")
    return lines


def _complain(error: AnonymiseError) -> None:
    log.debug("Ended by an error", exc_info=error)
    print(f"anonymise: {error}", file=sys.stderr)  # noqa: T201


@contextlib.contextmanager
def _logging(folder: Path | None, options: "LogOptions") -> Iterator[Path | None]:
    """Sends the program's log to the terminal, or the pipe, and to a file in ``folder`` if there is one: that it gives.

    Raises:
        UsageError: the log file cannot be written.
    """
    # Only our own log: at the level DEBUG the libraries fill pages.
    logger = logging.getLogger("anonymise")
    console = logging.StreamHandler()
    # On a terminal the progress bar says that all is well; in a pipe only lines can.
    console.setLevel(logging.WARNING if sys.stderr.isatty() else logging.INFO)
    console.addFilter(lambda record: not hasattr(record, "file_only"))
    console.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handlers: list[logging.Handler] = [console]
    file = None
    if folder is not None:
        now = datetime.now().astimezone().strftime(options.datetime_format)
        file = folder / options.log_file_name.format(datetime=now, hostname=socket.gethostname())
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            to_file = _LogFile(file, encoding="utf-8", errors="backslashreplace")
        except OSError as error:
            raise UsageError(f"The log file {file} cannot be written: {error.strerror or error} (-l)") from error
        to_file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(to_file)
    logger.setLevel(options.log_level)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield file
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):  # a log share that is gone
                handler.close()


class _LogFile(logging.FileHandler):
    """A log file whose loss does not stop the run: lines that cannot be written are only on the terminal."""

    _lost = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging has it
        if not self._lost:
            self._lost = True
            print(f"anonymise: the log file {self.baseFilename} cannot be written", file=sys.stderr)  # noqa: T201


@contextlib.contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM ask the run to end, which the function that this gives tells; the next one ends it at once."""
    asked = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if asked.is_set():
            signal.default_int_handler(number, frame)
        asked.set()
        log.warning("Interrupted; finishing what is under way. Once more ends at once.")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _progress(
    notifier: "Notifier", check_lock: Callable[[], None], wants_to_stop: Callable[[], bool]
) -> Iterator["Progress"]:
    """Tells the operator about every outcome: a line in the log, a bar on a terminal, a mail if images fail."""
    from tqdm import tqdm
    from tqdm.contrib.logging import logging_redirect_tqdm

    from anonymise.outcomes import Done, Failed, Progress

    with (
        tqdm(unit=" images", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar,
        logging_redirect_tqdm([logging.getLogger("anonymise")]),
    ):

        class Shown(Progress):
            n_failed = 0

            def wants_to_stop(self) -> bool:
                return wants_to_stop()

            def found(self, n_images: int) -> None:
                log.info("%d images to look at", n_images)
                bar.reset(total=n_images)

            def finished(self, outcome: "Outcome") -> None:
                check_lock()
                match outcome:
                    case Done(source, objects, notes):
                        log.info("%s: %s", source, ", ".join(f"{n} {k}" for k, n in objects.items()) or "nothing found")
                        for note in notes:
                            log.warning("%s: %s", source, note)
                    case Failed():
                        self._failed(outcome)
                    case _:
                        log.info("%s: skipped: %s", outcome.source, outcome.reason)
                bar.update()

            def changed(self, outcome: "Outcome") -> None:
                if isinstance(outcome, Failed):
                    self._failed(outcome)

            def _failed(self, failed: Failed) -> None:
                log.error("%s (%s): %s", failed.source, failed.stage, failed.reason)
                notifier.processing_error(str(failed.source), failed.stage, failed.reason)
                self.n_failed += 1
                bar.set_postfix(failed=self.n_failed, refresh=False)

        yield Shown()
