"""A review that a process of its own serves, and people who talk to it."""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]


class Person:
    """Somebody with a tab of a browser."""

    def __init__(self, address: str, token: str, tab: str = "tab") -> None:
        headers = {"Authorization": f"Bearer {token}", "X-Review-Tab": tab}
        self.http = httpx.Client(base_url=address, headers=headers, timeout=60, trust_env=False)

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.http.get(f"/api/{path}", params=query)

    def post(self, path: str, **body: Any) -> httpx.Response:
        return self.http.post(f"/api/{path}", json=body)

    def claim(self, kind: str = "all", **more: str) -> dict[str, Any]:
        answer = self.post("claim", kind=kind, **more)
        assert answer.status_code == 200, answer.text
        item: dict[str, Any] = answer.json()
        return item

    def decide(self, item: Mapping[str, Any], verdict: str = "good", **more: Any) -> httpx.Response:
        body = {"verdict": verdict, "version": item["version"], "seconds": 2.5, **more}
        return self.post(f"items/{item['id']}/decision", **body)

    def draw(self) -> dict[str, Any]:
        """Draws now, and waits for the end."""
        state: dict[str, Any] = self.post("draw").json()
        while state["state"] == "running":
            time.sleep(0.1)
            state = self.get("draw").json()
        return state


class Serving:
    """A running server: its process, address and token."""

    def __init__(self, process: "subprocess.Popen[str]", address: str, token: str) -> None:
        self.process, self.address, self.token = process, address, token
        self.people: list[Person] = []

    def person(self, tab: str = "tab", token: str | None = None) -> Person:
        self.people.append(Person(self.address, self.token if token is None else token, tab))
        return self.people[-1]


@contextmanager
def serving(
    folder: Path, *keys: str, options: Sequence[str] = (), archive: bool = True, prelude: str = ""
) -> Iterator[Serving]:
    """Serves ``folder/out``, with the originals in ``folder/archive`` and the store in ``folder/store``.

    Args:
        folder: as `published.publish` fills it.
        keys: of the configuration.
        options: of the command.
        archive: whether the server is told of the archive.
        prelude: Python that the process runs first.
    """
    call = ["review", "-i", str(folder / "out"), "--port", "0", "--corrections", str(folder / "store"), *options]
    call += ["-a", str(folder / "archive")] if archive else []
    call += [part for key in keys for part in ("--set", key)]
    program = f"{prelude}\nimport sys\nfrom anonymise.commands.cli import main\nsys.exit(main({call!r}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8", env=environment
    )
    server = None
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        address, _, token = line.partition("#")
        assert address.startswith("http://127.0.0.1:"), line
        server = Serving(process, address, token)
        yield server
    finally:
        for person in server.people if server else ():
            person.http.close()
        process.kill()
        process.communicate()


def users(file: Path, **roles: str) -> str:
    """Writes a file of users whose tokens are their names; gives the key."""
    lines = (f"{name}:{some}:{hashlib.sha256(name.encode()).hexdigest()}" for name, some in roles.items())
    file.write_text("\n".join(["# people", "", *lines]), "utf-8")
    return f"review_users={json.dumps(str(file))}"
