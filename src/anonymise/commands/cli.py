"""The command line: arguments in, exit code out. What every command shares stands here; the work does not.

Importing this loads nothing heavy, so that ``--help`` answers at once.
"""

import argparse
import contextlib
import getpass
import logging
import os
import signal
import socket
import sys
import tempfile
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING, Any

from anonymise.commands import streams
from anonymise.core.errors import AnonymiseError, CannotStart, ExitCode, StopError, UsageError
from anonymise.core.plaintext import lines_of, plural, printable

if TYPE_CHECKING:
    from anonymise.batch.notify import Notifier
    from anonymise.batch.outcomes import Outcome, Progress, Report
    from anonymise.batch.paths import Places
    from anonymise.batch.preflight import JobKind
    from anonymise.batch.workers import Workers
    from anonymise.config import Config, LogOptions
    from anonymise.database.sender import Sender

__all__ = [
    "add_allow_empty",
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

_AGAIN = {"again": True}
"""Marks what was said of an image before and is true of another one too; the summary counts it."""

_LINES = {"lines": True}
"""Marks entries of the log that have several lines."""

_SECONDS_BETWEEN_LINES = 20.0
"""Of the progress, where there is no terminal for a bar."""

_MAX_NOTES = 20
"""Different notes that the summary counts."""

_MAX_SUFFIXES = 12
"""Kinds of files that the summary names."""

Command = Callable[["Config", "Places", "Workers", "Progress"], "Report"]
"""Something that is done to a whole folder."""

_EXAMPLES = """examples:
  anonymise what lies in photos, with the small model that needs no other download:
      python -m anonymise -i photos -o published -k config/lite_config.yml
  keep the untouched originals in an archive, and a log of the run:
      python -m anonymise -i photos -o published -a originals --create-archive -l logs
  another blur, just this once:
      python -m anonymise -i photos -o published --set blur=30 --set remote_preview=True

exit codes: 0 all images done, 1 some images failed, 2 usage or configuration (nothing was done), 3 stopped (model or
disk), 70 a fault of the program, 130 interrupted"""


def parser(prog: str, description: str, examples: str) -> argparse.ArgumentParser:
    """An argument parser whose help ends with examples."""
    streams.make_safe()  # before anything is printed, help included
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
    folders.add_argument(
        "--create-archive", action="store_true", help="ARCHIVE is new; without this, one that is not there is an error"
    )
    add_allow_empty(folders)


def add_allow_empty(to: "argparse._ActionsContainer", what: str = "images") -> None:
    """The option for those to whom an empty input is no surprise, as in a job that runs every night."""
    to.add_argument("--allow-empty", action="store_true", help=f"an input folder without {what} is no error")


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
    return execute(args, preview_command, "previews") if args.preview_only else execute(args, anonymise_command)


def folder_script(
    name: str,
    description: str | None,
    examples: str,
    command: Command,
    job: "JobKind",
    overrides: Sequence[str] = (),
) -> int:
    """Runs a script that does one thing to a folder of images; returns the exit code.

    Args:
        name: of the script.
        description: what it does.
        examples: how to use it.
        command: does it.
        job: what that is.
        overrides: keys of the configuration, ``key=value``, that the script stands for.
    """
    arguments = parser(f"python -m script.{name}", description or "", examples)
    _add_options(arguments)
    args = arguments.parse_args()
    args.set += overrides
    return execute(args, command, job)


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
    from anonymise.batch import runs as pipeline
    from anonymise.models import load_masker

    with database_sender(config, places) as sender, _reader(config) as reader:
        masker = load_masker(config.model, progress=sys.stderr.isatty())
        return pipeline.anonymise(config, places, masker, workers, progress, sender, reader)


@contextlib.contextmanager
def _reader(config: "Config") -> Iterator["Workers | None"]:
    """A process that decodes images, unless everything is to be done in this one."""
    from anonymise.batch.workers import new_workers

    if not config.run.enable_async:
        yield None
        return
    with contextlib.closing(new_workers(1)) as reader:
        yield reader


@contextlib.contextmanager
def database_sender(config: "Config", places: "Places") -> Iterator["Sender | None"]:
    """What sends rows to the database that the operator has, or to a GeoPackage beside the results.

    Raises:
        ConfigError: the database's or the table's configuration is not valid.
    """
    from anonymise.core.resources import CONFIG_FOLDER
    from anonymise.database.client import connect
    from anonymise.database.sender import Sender
    from anonymise.database.settings import GeoPackageSettings, load_settings, password_for
    from anonymise.database.table import load_table

    if not config.database.write_exif_to_db or config.record.table_name is None:
        yield None
        return
    table = load_table(config.record.table_name, CONFIG_FOLDER / "db_tables")
    file = CONFIG_FOLDER / "db_config.yml"
    if file.is_file():
        settings = load_settings(file)
        ask = getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None
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
    from anonymise.batch import runs as pipeline

    return pipeline.make_previews(config, places, workers, progress)


def record_command(config: "Config", places: "Places", workers: "Workers", progress: "Progress") -> "Report":
    """Records only."""
    from anonymise.batch import runs as pipeline

    return pipeline.make_records(config, places, workers, progress)


def redraw_command(config: "Config", places: "Places", workers: "Workers", progress: "Progress") -> "Report":
    """The main job with what an earlier run found."""
    from anonymise.batch import runs as pipeline

    with database_sender(config, places) as sender, _reader(config) as reader:
        return pipeline.redraw(config, places, workers, progress, sender, reader)


def execute(args: argparse.Namespace, command: Command, job: "JobKind" = "anonymise") -> int:
    """Runs a command over the folders that ``args`` name; returns the exit code."""
    return guarded(lambda: _execute(args, command, job))


class _Fault(Exception):
    """An unexpected error.

    Attributes:
        log_file: the file that has its traceback.
    """

    def __init__(self, log_file: Path) -> None:
        super().__init__()
        self.log_file = log_file


def guarded(command: Callable[[], int], *, prints_result: bool = False) -> int:
    """The exit code of a command, whose errors become a message instead of a traceback.

    Args:
        command: gives the exit code.
        prints_result: whether what it prints is what it is for, so that losing that is an error.
    """
    streams.make_safe()
    try:
        code = command()
    except UsageError as error:
        return _complain(error, ExitCode.USAGE)
    except StopError as error:
        return _complain(error, ExitCode.STOPPED)
    except AnonymiseError as error:
        return _complain(error, ExitCode.IMAGES_FAILED)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)  # noqa: T201
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - what nobody expected
        return _apologise(error)
    if (lost := streams.lost_output()) is not None:
        print(f"anonymise: the standard output is not complete: {lost}", file=sys.stderr)  # noqa: T201
        return ExitCode.STOPPED if prints_result else code
    return code


def _apologise(error: Exception) -> int:
    """Says in one line what happened and where the traceback is."""
    cause, file = error, None
    if isinstance(error, _Fault):
        assert isinstance(error.__cause__, Exception)  # it is raised from nothing else
        cause, file = error.__cause__, error.log_file
    else:
        text = "".join(traceback.format_exception(cause))
        with contextlib.suppress(OSError):
            handle, name = tempfile.mkstemp(prefix="anonymise-traceback-", suffix=".txt")
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(text)
            file = Path(name)
        if file is None:
            print(text, file=sys.stderr)  # noqa: T201
    where = "stands above" if file is None else f"is in {file}"
    reason = printable(f"{type(cause).__name__}: {cause}")
    print(  # noqa: T201
        f"anonymise: a fault of the program: {reason}. What is finished stays. The traceback {printable(where)}; "
        "please send it to the developers",
        file=sys.stderr,
    )
    return ExitCode.FAULT


def _execute(args: argparse.Namespace, command: Command, job: "JobKind") -> int:
    from anonymise import config as configuration
    from anonymise.batch.notify import Notifier, read_email_account
    from anonymise.core.resources import CONFIG_FOLDER

    has_archive, has_log = args.archive_folder is not None, args.log_folder is not None
    # Problems are named together with those found below, and told by mail and log too where these can be set up.
    config, problems = configuration.read(args.config, args.set, has_archive=has_archive, has_log=has_log)
    account = None
    if config.email.any_enabled:
        with contextlib.suppress(UsageError):  # named with all other problems
            account = read_email_account(CONFIG_FOLDER / "email_config.yml", os.environ)
    about = f"{args.input_folder.absolute()} → {args.output_folder.absolute()}"
    # Log and mail come first, so that they tell of everything else that can fail.
    with contextlib.ExitStack() as stack:
        try:
            log_file = stack.enter_context(_logging(args.log_folder, config.log))
        except UsageError as error:
            with Notifier(config.email, account, about=about) as notifier:
                notifier.uncaught(error)
            raise
        file = None if log_file is None else log_file.path
        with Notifier(config.email, account, about=about, log_file=file) as notifier:
            try:
                return _execute_checked(args, command, job, config, problems, notifier)
            except AnonymiseError as error:
                log.error("Ended: %s", error, extra=_FILE_ONLY | _LINES)
                log.debug("Where that was found", exc_info=error, extra=_FILE_ONLY)
                notifier.uncaught(error)
                raise
            except Exception as error:
                log.exception("Ended by an error", extra=_FILE_ONLY)
                notifier.uncaught(error)
                if log_file is None or log_file.is_lost:
                    raise
                raise _Fault(log_file.path) from error


def _execute_checked(
    args: argparse.Namespace,
    command: Command,
    job: "JobKind",
    config: "Config",
    problems: Sequence[str],
    notifier: "Notifier",
) -> int:
    """Runs a command, once everything is checked that can be known before the first image.

    Args:
        args: the command line.
        command: what is run.
        job: what kind of command that is.
        config: the configuration.
        problems: what is wrong with it.
        notifier: sends mails.

    Raises:
        UsageError: something is wrong with the configuration or the folders; nothing was created.
    """
    from anonymise.batch import preflight
    from anonymise.batch.paths import Places
    from anonymise.batch.runlock import run_lock
    from anonymise.batch.storage import clear_temporary_files, prepare
    from anonymise.core.resources import CONFIG_FOLDER, script_command

    found = list(problems)
    places = None
    try:
        places = Places.of(args.input_folder, args.output_folder, args.archive_folder, config.files)
    except UsageError as error:
        found.append(str(error))
    is_attended = sys.stdin is not None and sys.stdin.isatty()
    found += preflight.problems(
        config,
        places,
        job,
        allow_empty=args.allow_empty,
        create_archive=args.create_archive,
        is_attended=is_attended,
        settings_folder=CONFIG_FOLDER,
    )
    if found or places is None:
        raise CannotStart(found)
    prepare(places, config.files)  # the run does so too, but the lock stands there, and a model takes long to load
    with (
        run_lock(places.output) as lock,
        _Interruption() as interruption,
        _progress(notifier, lock.check, interruption) as (progress, notes),
    ):
        log.info("Configuration:\n%s", config.as_yaml(), extra=_FILE_ONLY | _LINES)
        for warning in config.warnings:
            log.warning("%s", warning)
        if config.database.write_exif_to_db and job in ("previews", "records"):
            log.warning("write_exif_to_db does nothing here; %s sends records", script_command("json_to_db"))
        if not config.appearance.draw_mask:
            log.warning("draw_mask is False: the output images are NOT anonymised")
        if not args.skip_clear_cache and (cleared := clear_temporary_files((places.input, *places.results))):
            log.info("Cleared %s of an interrupted run", plural(cleared, "temporary file"))
        report = _run(command, config, places, progress)
        log.info("Stage times in seconds: %s", {k: round(v, 2) for k, v in report.stage_seconds.items()})
        lines = summary(report, notes, hides=config.appearance.draw_mask)
        for line in lines:
            log.info("%s", line, extra=_FILE_ONLY)
        if report.stopped is not None:
            log.error("Stopped: %s", report.stopped)
            notifier.uncaught(report.stopped)
        else:
            notifier.finished(f"{plural(report.n_done, 'image')} done, {len(report.failed)} failed", lines)
    # After the progress bar is gone.
    print("\n".join(lines))  # noqa: T201
    if report.interrupted:
        return ExitCode.INTERRUPTED
    if report.stopped is not None:
        return ExitCode.STOPPED
    return ExitCode.IMAGES_FAILED if report.failed else ExitCode.OK


def _run(command: Command, config: "Config", places: "Places", progress: "Progress") -> "Report":
    from anonymise.batch.workers import SerialWorkers, new_workers

    run = config.run
    workers = new_workers(run.max_num_async_workers) if run.enable_async else SerialWorkers()
    with contextlib.closing(workers):
        return command(config, places, workers, progress)


def summary(report: "Report", notes: Mapping[str, int] = MappingProxyType({}), *, hides: bool = True) -> list[str]:
    """What a run did, for the operator, a line each.

    Args:
        report: of the run.
        notes: what is worth knowing about images that succeeded, and the number of images that it is true of.
        hides: whether what was found was also hidden (``draw_mask``).
    """
    identified = report.n_done + report.n_skipped + len(report.failed) + (report.n_left or 0)
    rate = f", {report.n_done / report.seconds:.1f} images/s" if report.n_done else ""
    lines = [
        f"Folders with images: {report.n_folders}",
        f"Identified images:   {identified}",
        f"Skipped (finished):  {report.n_skipped}",
        f"Failed:              {len(report.failed)}",
        f"Done:                {report.n_done}",
        *([] if report.n_left == 0 else [f"Not done:            {report.n_left or 'unknown'}"]),
    ]
    if report.has_looked:
        found = ", ".join(f"{n} {name}" for name, n in report.objects.items()) or "nothing"
        lines.append(f"Found and hidden:    {found}" if hides else f"Found, NOT hidden:   {found} (draw_mask is False)")
    lines.append(f"Time:                {_duration(report.seconds)}{rate}")
    if report.rows is not None:
        lines.append("Database rows:       " + ", ".join(f"{n} {what}" for what, n in report.rows.items()))
    if report.n_passed_over:
        lines.append(f"Previews and masks in the input folder, passed over: {report.n_passed_over}")
    if report.left_out:
        counts = [f"{n} {suffix}" for suffix, n in report.left_out.items()]
        more = f" and {len(counts) - _MAX_SUFFIXES} more kinds" if len(counts) > _MAX_SUFFIXES else ""
        lines.append(f"Other files in the input folder, left out: {', '.join(counts[:_MAX_SUFFIXES])}{more}")
    lines += [f"NOTE ({plural(n, 'image')}): {note}" for note, n in notes.items() if n > 1]
    lines += [f"FAILED {failed.source} ({failed.stage}): {failed.reason}" for failed in report.failed]
    if not report.n_done and not report.failed and not report.interrupted and report.stopped is None:
        reason = "everything was finished before" if identified else "there is no image"
        lines.append(f"Nothing was written: {reason}.")
    if report.interrupted:
        lines.append("Interrupted; what is finished stays, and the same command goes on from here.")
    return [printable(line) for line in lines]


def _complain(error: AnonymiseError, code: ExitCode) -> ExitCode:
    # Several lines where several things are wrong; what is foreign in them is escaped already.
    print(f"anonymise: {lines_of(error)}", file=sys.stderr)  # noqa: T201
    return code


@contextlib.contextmanager
def _logging(folder: Path | None, options: "LogOptions") -> Iterator["_LogFile | None"]:
    """Sends the program's log to the terminal, or the pipe, and to a file in ``folder`` if there is one: that it gives.

    Raises:
        UsageError: the log file cannot be written.
    """
    # Only our own log: at the level DEBUG the libraries fill pages.
    logger = logging.getLogger("anonymise")
    console = _Console()
    # On a terminal the progress bar says that all is well; in a pipe only lines can, and they may be all that is kept.
    is_terminal = sys.stderr.isatty()
    console.setLevel(logging.WARNING if is_terminal else logging.INFO)
    console.addFilter(
        lambda record: not hasattr(record, "file_only") and not (is_terminal and hasattr(record, "again"))
    )
    console.setFormatter(_Lines("%(levelname)s: %(message)s"))
    handlers: list[logging.Handler] = [console]
    to_file = None
    if folder is not None:
        now = datetime.now().astimezone().strftime(options.datetime_format)
        file = folder / options.log_file_name.format(datetime=now, hostname=socket.gethostname())
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            to_file = _LogFile(file, encoding="utf-8", errors="backslashreplace")
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"The log file {file} cannot be written: {reason or error} (-l)") from error
        to_file.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        handlers.append(to_file)
    logger.setLevel(options.log_level)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield to_file
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            with contextlib.suppress(OSError):  # a log share that is gone
                handler.close()


class _Lines(logging.Formatter):
    """One entry, one line: names and texts from outside cannot begin another."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - as logging has it
        record.message = lines_of(record.message) if hasattr(record, "lines") else printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802
        return "\n".join(f"    {printable(line)}" for line in super().formatException(ei).split("\n"))


class _Console(logging.StreamHandler[Any]):
    """Lines on the standard error, above the progress bar if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:  # noqa: BLE001 - as every handler of logging does it
            self.handleError(record)


class _LogFile(logging.FileHandler):
    """A log file whose loss does not stop the run: lines that cannot be written are only on the terminal."""

    is_lost = False

    @property
    def path(self) -> Path:
        return Path(self.baseFilename)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - as logging has it
        if not self.is_lost:
            self.is_lost = True
            print(f"anonymise: the log file {printable(self.path)} cannot be written", file=sys.stderr)  # noqa: T201


_ONE_REQUEST_SECONDS = 0.2
"""Signals within this time are one request: ``timeout`` sends one to the process, and one to its group."""


class _Interruption:
    """Lets Ctrl-C, SIGTERM and a closed terminal ask the run to end.

    The second request ends the run at once. Later ones, and those after the run, change nothing, so that what is under
    way is ended cleanly and the summary is printed.
    """

    def __init__(self) -> None:
        self._asked: list[float] = []
        self._is_over = False

    def is_asked(self) -> bool:
        """Whether the run is to end."""
        return bool(self._asked)

    def over(self) -> None:
        """The run has ended; what follows is not interrupted."""
        self._is_over = True

    def __enter__(self) -> "_Interruption":
        from anonymise.batch.workers import STOP_SIGNALS

        # What nohup has switched off stays so.
        numbers = [n for n in STOP_SIGNALS if n == signal.SIGINT or signal.getsignal(n) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._ask) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._asked else handler)  # the process ends very soon

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._is_over or (self._asked and now - self._asked[-1] < _ONE_REQUEST_SECONDS):
            return
        self._asked.append(now)
        if len(self._asked) == 1:
            log.warning("Interrupted; finishing what is under way. Once more ends at once.")
        elif len(self._asked) == 2:
            signal.default_int_handler(number, frame)


@contextlib.contextmanager
def _progress(
    notifier: "Notifier", check_lock: Callable[[], None], interruption: _Interruption
) -> Iterator[tuple["Progress", Mapping[str, int]]]:
    """Tells the operator how the run goes: a bar on a terminal, else a line every so often, and a mail if images fail.

    Warnings and failures are lines in both cases. What became of each other image is in the log file only, and images
    that were finished before are counted. Also gives the notes so far, and the number of images with each.
    """
    from tqdm import tqdm

    from anonymise.batch.outcomes import Done, Failed, Progress, Skipped

    notes_seen: Counter[str] = Counter()
    with tqdm(unit=" images", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:

        class Shown(Progress):
            n = n_worked = n_failed = 0
            total: int | None = None
            started = 0.0
            next_line = 0.0

            def wants_to_stop(self) -> bool:
                return interruption.is_asked()

            def ended(self) -> None:
                interruption.over()

            def found(self, n_images: int) -> None:
                log.info("%s to look at", plural(n_images, "image"))
                self.total, self.started = n_images, time.monotonic()
                bar.reset(total=n_images)

            def finished(self, outcome: "Outcome") -> None:
                check_lock()
                match outcome:
                    case Done(source, objects, notes):
                        found = "done"
                        if objects is not None:
                            found = ", ".join(f"{n} {name}" for name, n in objects.items()) or "nothing found"
                        log.info("%s: %s", source, found, extra=_FILE_ONLY)
                        for note in notes:
                            self._note(source, note)
                        self.n_worked += 1
                    case Failed():
                        self._failed(outcome)
                        self.n_worked += 1
                    case Skipped(source, reason, finished) if not finished:
                        log.info("%s: skipped: %s", source, reason)
                self.n += 1
                bar.update()
                self._line(outcome.source)

            def changed(self, outcome: "Outcome") -> None:
                if isinstance(outcome, Failed):
                    self._failed(outcome)

            def _note(self, source: Path, note: str) -> None:
                log.warning("%s: %s", source, note, extra=_AGAIN if note in notes_seen else {})
                # Some notes are different for each image: only so many are counted.
                if note in notes_seen or len(notes_seen) < _MAX_NOTES:
                    notes_seen[note] += 1

            def _failed(self, failed: Failed) -> None:
                log.error("%s (%s): %s", failed.source, failed.stage, failed.reason)
                notifier.processing_error(str(failed.source), failed.stage, failed.reason)
                self.n_failed += 1
                bar.set_postfix(failed=self.n_failed, refresh=False)

            def _line(self, source: Path) -> None:
                now = time.monotonic()
                if not bar.disable or now < self.next_line:
                    return
                self.next_line = now + _SECONDS_BETWEEN_LINES
                of, left = "", ""
                if self.total is not None:
                    of = f" of {self.total}"
                    if self.n_worked:  # those that were finished before take no time
                        seconds = (self.total - self.n) * (now - self.started) / self.n_worked
                        left = f", about {_duration(seconds)} left"
                log.info("%s: image %d%s, %d failed%s", source, self.n, of, self.n_failed, left)

        yield Shown(), notes_seen


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
