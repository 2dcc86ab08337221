"""A PostgreSQL cluster of the tests' own: in a temporary folder, on a free local port, as an unprivileged user."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

__all__ = ["PASSWORD", "USER", "Cluster", "find_binaries"]

USER, PASSWORD = "tester", "s3cret:'pass word%"
_SECONDS = 60


def find_binaries() -> Path | None:
    """The folder with initdb and pg_ctl of a PostgreSQL that has PostGIS; None if there is none."""
    on_path = shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "pg_ctl").exists() and _has_postgis(folder)), None)


def _has_postgis(binaries: Path) -> bool:
    asked = subprocess.run([binaries / "pg_config", "--sharedir"], capture_output=True, text=True, check=False)
    if asked.returncode == 0 and Path(asked.stdout.strip(), "extension", "postgis.control").exists():
        return True
    # Debian keeps pg_config in another package.
    share = Path("/usr/share/postgresql", binaries.parent.name, "extension", "postgis.control")
    return share.exists()


class Cluster:
    """A running cluster; `stop` and `start` as a server's administrator would."""

    def __init__(self, binaries: Path, *, fsync: bool = False) -> None:
        """Makes and starts it.

        Args:
            binaries: see `find_binaries`.
            fsync: whether it waits for the disk, as a real server does.
        """
        self._binaries = binaries
        self._fsync = "on" if fsync else "off"
        self._folder = Path(tempfile.mkdtemp(prefix="anonymise-postgres-"))
        # PostgreSQL refuses to run as root.
        self._user = _unprivileged_user() if os.name == "posix" and os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        password_file = self._folder / "password"
        password_file.write_text(PASSWORD, encoding="utf-8")
        if self._user is not None:
            shutil.chown(password_file, self._user)
        self._run(
            "initdb",
            *("--pgdata", str(self._data)),
            *("--username", USER, f"--pwfile={password_file}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C", "--no-sync"),
        )
        self.port = _free_port()
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    def start(self) -> None:
        """Starts the server and waits until it answers."""
        options = (
            f"-p {self.port} -h 127.0.0.1 -c unix_socket_directories='' -c fsync={self._fsync} -c max_connections=20"
        )
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "-D", str(self._data), "-l", log, "-o", options, "-w", "-t", str(_SECONDS))

    def stop(self) -> None:
        """Stops the server and cuts its connections, without waiting for them."""
        self._run("pg_ctl", "stop", "-D", str(self._data), "-m", "immediate", "-w", "-t", str(_SECONDS))

    def remove(self) -> None:
        """Stops the server if it runs, and deletes all of it."""
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        # Not captured through pipes: the server inherits them, and they would stay open as long as it runs.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [self._binaries / program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                check=False,
                user=self._user,
                group=None if self._user is None else _group_of(self._user),
                extra_groups=None if self._user is None else [],
            )
            output.seek(0)
            if done.returncode:
                log = self._folder / "log"
                told = output.read().decode(errors="replace") + (log.read_text() if log.exists() else "")
                raise RuntimeError(f"{program} failed: {told}")


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def _unprivileged_user() -> str:
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
