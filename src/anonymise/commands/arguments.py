"""The arguments that commands share, and their help texts."""

import argparse
import textwrap
from pathlib import Path

from anonymise.commands import streams
from anonymise.core.resources import IN_CHECKOUT, command_line

__all__ = ["add_allow_empty", "add_config_options", "add_folder_options", "add_run_options", "parser"]


def parser(name: str | None, description: str, examples: str) -> argparse.ArgumentParser:
    """An argument parser whose help ends with examples.

    Args:
        name: name of the command; None for the main job.
        description: what it does.
        examples: how to use it, and the exit codes. ``{me}`` stands for the command, ``{main}`` for the main job and
            ``{config}`` for the folder of the configurations that come with the program, as they are written where the
            program runs.
    """
    streams.make_safe()  # before anything is printed, help included
    shown = examples.format(me=command_line(name), main=command_line(), config="config/" if IN_CHECKOUT else "")
    return argparse.ArgumentParser(
        prog="anonymise" if name is None else command_line(name),
        description=textwrap.fill(" ".join(description.split()), 80),
        epilog=shown,
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
        help="YAML file that overlays default_config.yml; a bare name is also looked for in your settings and among "
        "the files that come with the program; may be given several times, later ones win",
    )
    options.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set one key, after all files; may be repeated"
    )


def add_run_options(to: argparse.ArgumentParser) -> None:
    """The options of every command that runs over folders."""
    add_folder_options(to)
    add_config_options(to)
    only = to.add_argument_group("which images")
    only.add_argument(
        "--only", metavar="FILE", help="only the images in this list, paths below IN, one a line; - reads the input"
    )
    only.add_argument(
        "--corrected", action="store_true", help="only finished images whose corrections have changed since"
    )
    only.add_argument(
        "--shard",
        metavar="K/N",
        help="only part K (from 0) of N parts, which runs on N machines may do at the same time (docs/cluster.md)",
    )
    to.add_argument("-l", "--log-folder", type=Path, metavar="LOGDIR", help="write a log file into this folder")
    to.add_argument(
        "--skip-clear-cache",
        action="store_true",
        help="leave the temporary files of an interrupted run where they are",
    )
