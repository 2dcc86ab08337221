"""Parts of a run on a cluster that need no other process."""

import contextlib
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from anonymise import load_config
from anonymise.batch.journal import Identity
from anonymise.batch.outcomes import Done, Failed
from anonymise.batch.paths import Paths, Places
from anonymise.batch.resume import Begun
from anonymise.batch.shards import Shard
from anonymise.batch.storage import prepare
from anonymise.cluster import leader as leading
from anonymise.cluster import members, worker
from anonymise.cluster.leader import Leader
from anonymise.cluster.publishing import Publisher, UntrueError
from anonymise.cluster.session import check_address
from anonymise.cluster.worker import Answer, Item, Joined, Setup, mapped
from anonymise.commands.cli import main
from anonymise.config import Config, Place
from anonymise.core.errors import UsageError
from anonymise.core.sources import Source
from tests.cluster.models import IDENTITY, load
from tests.fakes import street, write_image

if TYPE_CHECKING:
    import distributed

DOCS = Path(__file__).parents[2] / "docs" / "cluster"


@pytest.fixture
def config() -> Config:
    return load_config("lite_config.yml")


@pytest.fixture
def places(tmp_path: Path, config: Config) -> Places:
    image = write_image(tmp_path / "in" / "a.jpg", street())
    assert image.exists()
    (tmp_path / "raw").mkdir()
    places = Places(tmp_path / "in", tmp_path / "out", tmp_path / "raw")
    prepare(places, config.files)
    return places


@pytest.fixture
def publisher(config: Config, places: Places) -> Publisher:
    return Publisher(config, places)


@pytest.fixture
def setup(config: Config, publisher: Publisher) -> Setup:
    return Setup(
        run=publisher.run,
        config=config,
        is_windows=sys.platform == "win32",
        roots={place: str(root) for place, root in publisher.roots.items()},
        staging={place: str(folder) for place, folder in publisher.staging.items()},
        settings=config.settings_fingerprint(None),
        model=config.model_fingerprint(IDENTITY),
        load=load,
    )


def joined(setup: Setup) -> Joined:
    return worker.join(pickle.dumps(setup))


def done(setup: Setup, places: Places) -> Answer:
    assert joined(setup).refusal is None
    source = places.input / "a.jpg"
    return worker.anonymise(setup.run, Item("a.jpg", 0, Identity.of(source.stat())))


def left(publisher: Publisher) -> list[str]:
    """Files of images in the staging folders."""
    names = [path.name for folder in publisher.staging.values() for path in folder.iterdir()]
    return [name for name in names if name != "token" and not name.startswith("answer-")]


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/mnt/a/b/c", r"Z:\a\b\c"),
        ("/mnt/a", r"Z:\a"),
        ("/mnt/a/deep/c", "/data/c"),
        ("/mnt/ab", None),
    ],
)
def test_paths_of_a_worker_that_mounts_elsewhere(path: str, there: str | None) -> None:
    assert mapped(path, {"/mnt/a": "Z:\\a", "/mnt/a/deep": "/data"}, is_windows=False) == there


@pytest.mark.parametrize("path", [r"\\server\share\a\b", r"\\?\UNC\server\share\a\b", r"\\?\Z:\a\b"])
def test_paths_of_a_leader_on_windows(path: str) -> None:
    """There a run has its folders in the long form, and people write the short one."""
    assert mapped(path, {r"\\server\share": "/mnt", "Z:\\": "/mnt"}, is_windows=True) == "/mnt/a/b"


def test_a_worker_joins_and_the_leader_sees_what_it_writes(setup: Setup, publisher: Publisher) -> None:
    answer = joined(setup)
    assert answer.refusal is None
    assert answer.host == socket.gethostname()
    assert publisher.sees(answer)
    assert not publisher.sees(answer)  # the answer is read once
    assert not publisher.sees(replace_answers(answer))


def replace_answers(answer: Joined) -> Joined:
    return answer._replace(answers=dict.fromkeys(answer.answers, "answer-of-nobody"))


def test_workers_that_would_do_something_else_refuse(setup: Setup, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "token").write_text("of another run")
    refusals = {
        "its model is another": replace(setup, model="model:other"),
        "another content": replace(setup, settings="other"),
        "another folder there (key cluster_paths)": replace(setup, staging={Place.REMOTE: str(elsewhere)}),
        "is not there": replace(setup, roots={**setup.roots, Place.LOCAL: str(tmp_path / "gone")}),
    }
    for reason, other in refusals.items():
        assert reason in (joined(other).refusal or "")
    assert joined(setup).refusal is None


def test_a_worker_with_other_mounts_finds_the_folders_by_cluster_paths(
    setup: Setup, publisher: Publisher, places: Places, tmp_path: Path
) -> None:
    away = {place: root.replace(str(tmp_path), "/mnt/of leader") for place, root in setup.roots.items()}
    staging = {place: root.replace(str(tmp_path), "/mnt/of leader") for place, root in setup.staging.items()}
    keys = load_config("lite_config.yml", keys={"cluster_paths": {"/mnt/of leader": str(tmp_path)}})
    other = replace(setup, config=keys, roots=away, staging=staging, is_windows=False)
    answer = done(other, places)
    assert isinstance(answer.outcome, Done)
    outcome = publisher.publish(Paths(Path("a.jpg"), places), answer, frozenset())
    assert isinstance(outcome, Done)
    assert outcome.source == places.input / "a.jpg"
    assert (places.output / "a.jpg").is_file()


def test_an_image_of_another_size_than_the_leader_saw_is_not_done(setup: Setup, places: Places) -> None:
    assert joined(setup).refusal is None
    answer = worker.anonymise(setup.run, Item("a.jpg", 0, Identity(1, 1)))
    assert isinstance(answer.outcome, Failed)
    assert answer.outcome.stage == "read"
    assert "the worker has another input folder" in answer.outcome.reason


def test_files_that_are_not_as_the_worker_says_are_not_published(
    setup: Setup, publisher: Publisher, places: Places
) -> None:
    paths = Paths(Path("a.jpg"), places)
    answer = done(setup, places)
    last = answer.files[-1]
    assert last.staged is not None
    staged = publisher.staging[last.place] / last.staged
    staged.write_bytes(staged.read_bytes()[:-1] + b"!")
    with pytest.raises(UntrueError, match="another here"):
        publisher.publish(paths, answer, frozenset())
    assert not paths.output_image.exists()
    assert not (places.output / "a.json").exists()
    with pytest.raises(UntrueError, match="not here"):
        publisher.publish(paths, answer._replace(files=(last._replace(staged="gone"),)), frozenset())


def test_another_original_in_the_archive_stays(setup: Setup, publisher: Publisher, places: Places) -> None:
    assert places.archive is not None
    (places.archive / "a.jpg").write_bytes(b"another")
    outcome = publisher.publish(Paths(Path("a.jpg"), places), done(setup, places), frozenset())
    assert isinstance(outcome, Failed)
    assert "the archive holds another original" in outcome.reason
    assert (places.archive / "a.jpg").read_bytes() == b"another"
    assert not (places.output / "a.jpg").exists()
    assert not left(publisher)


def test_a_late_result_is_thrown_away_and_a_worker_of_an_ended_run_writes_nothing(
    setup: Setup, publisher: Publisher, places: Places
) -> None:
    first, second = done(setup, places), done(setup, places)
    assert isinstance(publisher.publish(Paths(Path("a.jpg"), places), first, frozenset()), Done)
    content = (places.output / "a.jpg").read_bytes()
    publisher.discard(second)
    assert not left(publisher)
    publisher.close()
    late = worker.anonymise(setup.run, Item("a.jpg", 9, Identity.of((places.input / "a.jpg").stat())))
    assert late.outcome is None
    assert "No such file" in late.trouble or "cannot find" in late.trouble
    assert not list(places.output.glob(".anonymise/staging*"))
    assert (places.output / "a.jpg").read_bytes() == content
    worker.leave(setup.run)
    assert worker.anonymise(setup.run, Item("a.jpg", 9, Identity(1, 1))).trouble == worker.NOT_JOINED


def test_staging_of_an_earlier_run_goes_and_that_of_another_shard_stays(config: Config, places: Places) -> None:
    def staged() -> set[str]:
        return {path.parent.parent.name for path in places.output.glob(".anonymise/staging*/*/token")}

    Publisher(config, replace(places, shard=Shard(0, 2)))
    Publisher(config, replace(places, shard=Shard(1, 2)))
    Publisher(config, replace(places, shard=Shard(1, 2)))
    assert staged() == {"staging-0-of-2", "staging-1-of-2"}
    Publisher(config, places)
    assert staged() == {"staging"}


@pytest.mark.parametrize("address", ["local:4", "tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tls://127.0.0.1:1"])
def test_addresses_of_clusters(address: str) -> None:
    check_address(address, trusts_network=False)


@pytest.mark.parametrize(
    "address", ["local", "local:0", "127.0.0.1:8786", "http://a:1", "tcp://127.0.0.1", "tcp://a b:1"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="write local:N, tcp://HOST:PORT or tls://HOST:PORT"):
        check_address(address, trusts_network=False)


def test_a_public_address_needs_encryption_or_trust() -> None:
    with pytest.raises(UsageError, match="is a public address"):
        check_address("tcp://1.1.1.1:8786", trusts_network=False)
    check_address("tcp://1.1.1.1:8786", trusts_network=True)
    check_address("tls://1.1.1.1:8786", trusts_network=False)


def test_the_command_refuses_before_it_makes_anything(places: Places, tmp_path: Path) -> None:
    out = tmp_path / "new"
    command = ["-i", str(places.input), "-o", str(out), "-k", "lite_config.yml"]
    assert main([*command, "--cluster", "tcp://1.1.1.1:8786"]) == 2
    assert not out.exists()


def test_without_dask_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UsageError, match=r'pip install "anonymise\[cluster\]"'):
        check_address("local:2", trusts_network=False)


def test_the_program_does_not_load_dask_unless_it_is_asked_for() -> None:
    code = "import sys, anonymise.commands.cli, anonymise.batch.session; sys.exit('distributed' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def options_of(*command: str) -> str:
    done = subprocess.run([sys.executable, "-m", *command, "--help"], capture_output=True, encoding="utf-8", check=True)
    return done.stdout


def words(lines: Iterable[str]) -> list[str]:
    return [word.strip('"') for line in lines if not line.lstrip().startswith("#") for word in line.split()]


def long_options(some: Iterable[str]) -> set[str]:
    return {match[0] for word in some if (match := re.match(r"--[a-z][a-z-]+", word))}


@pytest.fixture(scope="module")
def known_options() -> dict[str, set[str]]:
    helps = {"anonymise": options_of("anonymise"), "worker": options_of("dask", "worker")}
    helps["scheduler"] = options_of("dask", "scheduler")
    return {name: set(re.findall(r"--[a-z][a-z-]+", text)) for name, text in helps.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ssh.sh", "slurm.sh"])
def test_the_shell_files_are_shell_and_their_options_exist(name: str, known_options: dict[str, set[str]]) -> None:
    text = (DOCS / name).read_text("utf-8")
    if (shell := shutil.which("sh")) is not None:
        subprocess.run([shell, "-n", str(DOCS / name)], check=True)
    used = long_options(words(text.splitlines()))
    assert used
    assert used <= set().union(*known_options.values())
    if name == "slurm.sh":
        headers = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
        assert headers["array"].startswith("0-")  # as the shards are counted


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the file is for a shell")
def test_the_slurm_file_runs_one_shard_of_its_array(tmp_path: Path) -> None:
    (tmp_path / "anonymise").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "anonymise").chmod(0o755)
    slurm = {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_CPUS_PER_TASK": "4"}
    command = ["sh", str(DOCS / "slurm.sh"), "/share/my in", "/share/out", "lite_config.yml"]
    environment = os.environ | slurm | {"ANONYMISE": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        *("-i", "/share/my in", "-o", "/share/out", "-k", "lite_config.yml", "--set", "model_threads=4"),
        *("--shard", "3/8"),
    ]


@pytest.mark.slow
def test_the_kubernetes_file_starts_what_there_is(known_options: dict[str, set[str]]) -> None:
    documents = list(yaml.safe_load_all((DOCS / "kubernetes.yml").read_text("utf-8")))
    kinds = {(document["kind"], document["metadata"]["name"]): document["spec"] for document in documents}
    service = kinds["Service", "anonymise-scheduler"]
    pods = {}
    for kind in ("Deployment", "Job"):
        for (of, _), spec in kinds.items():
            if of == kind:
                labels = spec["template"]["metadata"]["labels"]
                assert spec.get("selector", {"matchLabels": labels})["matchLabels"] == labels
                pods[labels["role"]] = spec["template"]["spec"]["containers"][0]
    assert pods.keys() == {"scheduler", "worker", "leader"}
    assert service["selector"] == {"app": "anonymise", "role": "scheduler"}
    commands = {role: [*pod["command"], *pod.get("args", [])] for role, pod in pods.items()}
    address = "tcp://anonymise-scheduler:8786"
    assert address in commands["worker"]
    assert commands["leader"][-2:] == ["--cluster", address]
    assert commands["scheduler"][:4] == ["dask", "scheduler", "--port", "8786"]
    for role, program in (("scheduler", "scheduler"), ("worker", "worker"), ("leader", "anonymise")):
        assert long_options(commands[role]) <= known_options[program]
    assert pods["worker"]["volumeMounts"] == pods["leader"]["volumeMounts"]


@pytest.mark.slow
def test_the_benchmark_of_the_leader_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.cluster", "--images", "300", "--dask", "0", "--waiting", "0"]
    command += ["--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=DOCS.parents[1])
    assert done.returncode == 0, done.stderr
    assert re.search("^the run .* images/s", done.stdout, re.MULTILINE)
    assert re.search("^again, all finished .* images/s", done.stdout, re.MULTILINE)


class Call:
    """What Dask's client gives for a call; it is done at once."""

    status = "finished"

    def __init__(self, value: object) -> None:
        self._value = value

    def result(self, timeout: float) -> object:
        return self._value

    def done(self) -> bool:
        return True

    def add_done_callback(self, callback: Callable[[object], object]) -> None:
        if self.status == "finished":
            callback(self)
        else:
            self._callback = callback

    def hold(self) -> None:
        self.status = "pending"

    def release(self) -> None:
        self.status = "finished"
        self._callback(self)


class Client:
    """A cluster of workers in this process. ``answers`` may give other answers than the worker's own."""

    status = "running"

    def __init__(self, n_workers: int, answers: Callable[[str, str], object | None]) -> None:
        self._addresses = [f"tcp://10.0.0.{n}:1" for n in range(n_workers)]
        self._answers = answers
        self.calls: list[tuple[str, str]] = []
        self.frozen = ""
        self.held: list[Call] = []

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        seen = {address: 1.0 if address == self.frozen else time.time() for address in self._addresses}
        return {"workers": {address: {"nthreads": 1, "last_seen": seen[address]} for address in self._addresses}}

    def submit(self, function: Callable[..., object], *arguments: object, workers: list[str], **_: object) -> Call:
        (address,) = workers
        self.calls.append((address, function.__name__))
        call = Call(self._answers(address, function.__name__) or function(*arguments))
        if address == self.frozen and function.__name__ == "anonymise":
            call.hold()
            self.held.append(call)
        return call


@contextlib.contextmanager
def led(client: Client, setup: Setup, publisher: Publisher) -> Iterator[Leader]:
    leader = Leader(
        cast("distributed.Client", client),
        setup,
        publisher,
        seconds=None,
        wait_seconds=20,
        wants_to_stop=lambda: False,
    )
    with contextlib.closing(leader):
        assert leader.wait_for_worker() is None
        yield leader


def outcome_at(leader: Leader, places: Places) -> object:
    paths = Paths(PurePath("a.jpg"), places)
    begun = Begun(Identity.of(paths.source.stat()), Source("model", lambda _: pytest.fail("the leader has no model")))
    return leader.submit(leader.task(paths, begun, None).call).result(30)


def test_a_worker_whose_process_was_started_again_joins_again(
    setup: Setup, publisher: Publisher, places: Places
) -> None:
    forgot = [Answer("host", 0.0, None, worker.NOT_JOINED)]
    client = Client(1, lambda _, name: forgot.pop() if name == "anonymise" and forgot else None)
    with led(client, setup, publisher) as leader:
        assert isinstance(outcome_at(leader, places), Done)
    names = [name for _, name in client.calls]
    assert names == ["program_version", "join", "anonymise", "program_version", "join", "anonymise", "leave"]


@pytest.mark.parametrize("mixed", [False, True])
def test_workers_on_another_runtime_need_cluster_mixed(
    setup: Setup, publisher: Publisher, places: Places, caplog: pytest.LogCaptureFixture, mixed: bool
) -> None:
    def answers(address: str, name: str) -> object | None:
        if name != "join":
            return None
        runtime = "openvino" if address.endswith("0:1") else "tensorflow"
        return joined(setup)._replace(runtimes=runtime)

    setup = replace(setup, config=load_config("lite_config.yml", keys={"cluster_mixed": mixed}))
    with led(Client(2, answers), setup, publisher) as leader:
        assert isinstance(outcome_at(leader, places), Done)
        end = time.monotonic() + 20
        while leader.n_parallel < 2 and "is not used" not in caplog.text and time.monotonic() < end:
            time.sleep(0.05)
        assert leader.n_parallel == (2 if mixed else 1)
    assert ("(key cluster_mixed)" in caplog.text) is not mixed


def test_of_two_results_the_first_is_published_and_the_second_thrown_away(
    setup: Setup,
    publisher: Publisher,
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(members, "SILENT_SECONDS", 1.5)
    monkeypatch.setattr(leading, "LOOK_SECONDS", 0.1)
    caplog.set_level("INFO")
    client = Client(2, lambda *_: None)
    client.frozen = "tcp://10.0.0.0:1"
    with led(client, setup, publisher) as leader:
        end = time.monotonic() + 20
        while leader.n_parallel < 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert isinstance(outcome_at(leader, places), Done)
        content, written = (places.output / "a.jpg").read_bytes(), (places.output / "a.jpg").stat().st_mtime_ns
        assert [address for address, name in client.calls if name == "anonymise"] == [client.frozen, "tcp://10.0.0.1:1"]
        assert left(publisher)  # what the frozen worker wrote
        client.held[0].release()
        while left(publisher) and time.monotonic() < end:
            time.sleep(0.02)
        assert not left(publisher)
    assert (places.output / "a.jpg").read_bytes() == content
    assert (places.output / "a.jpg").stat().st_mtime_ns == written
    assert f"Host {socket.gethostname()}: 1 image in" in caplog.text
