"""Runs commands over folders: configuration, checks, log, mails, progress, summary, exit code."""

import argparse
import contextlib
import getpass
import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.arguments import add_run_options, parser
from anonymise.commands.guard import Fault, guarded
from anonymise.commands.interruption import Interruption
from anonymise.commands.logs import FILE_ONLY, LINES, logging_to
from anonymise.commands.progress import shown_progress
from anonymise.commands.summary import shards_summary, summary
from anonymise.core.errors import AnonymiseError, CannotStart, ExitCode, UsageError
from anonymise.core.plaintext import plural

if TYPE_CHECKING:
    from anonymise.batch.notify import Notifier
    from anonymise.batch.outcomes import Progress, Report
    from anonymise.batch.paths import Places
    from anonymise.batch.preflight import JobKind
    from anonymise.batch.workers import Executor
    from anonymise.config import Config

__all__ = [
    "Command",
    "anonymise_command",
    "execute",
    "execute_on_cluster",
    "folder_command",
    "preview_command",
    "record_command",
    "redraw_command",
]

log = logging.getLogger(__name__)

Command = Callable[["Config", "Places", "Executor", "Progress"], "Report"]
"""Something that is done to a whole folder."""


def folder_command(
    name: str,
    description: str | None,
    examples: str,
    command: Command,
    job: "JobKind",
    overrides: Sequence[str] = (),
    argv: Sequence[str] | None = None,
) -> int:
    """Runs a command that does one thing to a folder of images; returns the exit code.

    Args:
        name: name of the command.
        description: what it does.
        examples: how to use it, as `parser` takes it.
        command: does it.
        job: what kind of command that is.
        overrides: keys of the configuration, ``key=value``, that the command stands for.
        argv: the arguments; those of the process if there are none.
    """
    arguments = parser(name, description or "", examples)
    add_run_options(arguments)
    args = arguments.parse_args(argv)
    args.set += overrides
    return execute(args, command, job)


def anonymise_command(config: "Config", places: "Places", workers: "Executor", progress: "Progress") -> "Report":
    """The main job."""
    from anonymise.batch import session

    return session.anonymise(config, places, workers, progress, ask=_ask())


def _ask() -> Callable[[str], str] | None:
    """Asks for a password, if somebody sits at the terminal."""
    return getpass.getpass if sys.stdin is not None and sys.stdin.isatty() else None


def preview_command(config: "Config", places: "Places", workers: "Executor", progress: "Progress") -> "Report":
    """Previews only."""
    from anonymise.batch import runs

    return runs.make_previews(config, places, workers, progress)


def record_command(config: "Config", places: "Places", workers: "Executor", progress: "Progress") -> "Report":
    """Records only."""
    from anonymise.batch import runs

    return runs.make_records(config, places, workers, progress)


def redraw_command(config: "Config", places: "Places", workers: "Executor", progress: "Progress") -> "Report":
    """The main job with what an earlier run found."""
    from anonymise.batch import session

    return session.redraw(config, places, workers, progress, ask=_ask())


def execute(args: argparse.Namespace, command: Command, job: "JobKind" = "anonymise") -> int:
    """Runs a command over the folders that ``args`` name; returns the exit code."""
    return guarded(lambda: _execute(args, command, job))


def execute_on_cluster(args: argparse.Namespace) -> int:
    """Runs the main job on the cluster that ``args`` name; returns the exit code."""

    def run() -> int:
        from anonymise.cluster import session

        session.check_address(args.cluster, trusts_network=args.trust_network)
        return _execute(
            args, lambda c, p, _, progress: session.anonymise(c, p, args.cluster, progress, ask=_ask()), "anonymise"
        )

    return guarded(run)


def _execute(args: argparse.Namespace, command: Command, job: "JobKind") -> int:
    from anonymise import config as configuration
    from anonymise.batch.notify import Notifier, read_email_account
    from anonymise.core.resources import find_settings

    has_archive, has_log = args.archive_folder is not None, args.log_folder is not None
    # Problems are named together with those found below, and told by mail and log too where these can be set up.
    config, problems = configuration.read(args.config, args.set, has_archive=has_archive, has_log=has_log)
    account = None
    if config.email.any_enabled:
        with contextlib.suppress(UsageError):  # named with all other problems
            account = read_email_account(find_settings("email_config.yml"), os.environ)
    about = f"{args.input_folder.absolute()} → {args.output_folder.absolute()}"
    # Log and mail come first, so that they tell of everything else that can fail.
    with contextlib.ExitStack() as stack:
        try:
            log_file = stack.enter_context(logging_to(args.log_folder, config.log))
        except UsageError as error:
            with Notifier(config.email, account, about=about) as notifier:
                notifier.uncaught(error)
            raise
        file = None if log_file is None else log_file.path
        with Notifier(config.email, account, about=about, log_file=file) as notifier:
            try:
                return _execute_checked(args, command, job, config, problems, notifier)
            except AnonymiseError as error:
                log.error("Ended: %s", error, extra=FILE_ONLY | LINES)
                log.debug("Where that was found", exc_info=error, extra=FILE_ONLY)
                notifier.uncaught(error)
                raise
            except Exception as error:
                log.exception("Ended by an error", extra=FILE_ONLY)
                notifier.uncaught(error)
                if log_file is None or log_file.is_lost:
                    raise
                raise Fault(log_file.path) from error


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
    from anonymise.batch.session import watched, workers_for
    from anonymise.batch.shards import Shard
    from anonymise.batch.storage import clear_temporary_files, prepare
    from anonymise.core.resources import command_line

    found = list(problems)
    places = None
    try:
        places = Places.of(args.input_folder, args.output_folder, args.archive_folder, config.files)
        shard = None if args.shard is None else Shard.parse(args.shard)
        if config.run.corrections is not None and job in ("anonymise", "redraw") and not problems:
            from anonymise.regions.transfer import match_waiting

            if n := match_waiting(config, places):
                log.info("%s of earlier imports found their pictures", plural(n, "region"))
        places = replace(places, only=_chosen(args, config, places.output), shard=shard)
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
    )
    if found or places is None:
        raise CannotStart(found)
    prepare(places, config.files)  # the run does so too, but the lock stands there, and a model takes long to load
    with (
        run_lock(places.output, places.shard) as lock,
        Interruption() as interruption,
        shown_progress(notifier, interruption) as (progress, notes),
    ):
        log.info("Configuration:\n%s", config.as_yaml(), extra=FILE_ONLY | LINES)
        for warning in config.warnings:
            log.warning("%s", warning)
        if config.database.write_exif_to_db and job in ("previews", "records"):
            log.warning("write_exif_to_db does nothing here; %s sends records", command_line("json-to-db"))
        if not config.appearance.draw_mask:
            log.warning("draw_mask is False: the output images are NOT anonymised")
        if not args.skip_clear_cache and (cleared := clear_temporary_files((places.input, *places.results))):
            log.info("Cleared %s of an interrupted run", plural(cleared, "temporary file"))
        with workers_for(config) as workers:
            report = command(config, places, workers, watched(progress, lock))
        log.info("Stage times in seconds: %s", {k: round(v, 2) for k, v in report.stage_seconds.items()})
        lines = summary(report, notes, hides=config.appearance.draw_mask)
        if places.shard is not None:
            lines += shards_summary(places.output, places.shard)
        for line in lines:
            log.info("%s", line, extra=FILE_ONLY)
        if report.stopped is not None:
            log.error("Stopped: %s", report.stopped)
            notifier.uncaught(report.stopped)
        else:
            notifier.finished(f"{plural(report.n_done, 'image')} done, {len(report.failed)} failed", lines)
    # After the progress bar is gone.
    print("\n".join(lines))
    if report.interrupted:
        return ExitCode.INTERRUPTED
    if report.stopped is not None:
        return ExitCode.STOPPED
    return ExitCode.IMAGES_FAILED if report.failed or report.n_stale else ExitCode.OK


def _chosen(args: argparse.Namespace, config: "Config", output: Path) -> frozenset[str] | None:
    """The images that the command line names; None is all.

    Raises:
        UsageError: the list cannot be read, or there is no store of corrections.
    """
    from anonymise.batch.chosen import corrected_images, names_in

    chosen: frozenset[str] | None = None
    if args.only is not None:
        try:
            data = sys.stdin.buffer.read() if args.only == "-" else Path(args.only).read_bytes()
        except OSError as error:
            raise UsageError(f"--only {args.only} cannot be read: {error.strerror or error}") from error
        chosen = names_in(data.decode("utf-8-sig", "surrogateescape"), f"--only {args.only}")
    if args.corrected:
        if config.run.corrections is None:
            raise UsageError("--corrected needs the folder of the corrections (corrections: FOLDER)")
        corrected = corrected_images(output, config.run.corrections)
        chosen = corrected if chosen is None else chosen & corrected
    return chosen
