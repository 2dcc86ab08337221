"""Runs on clusters of real processes, with faults: the result is that of one machine, and nothing else."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from distributed.security import Security

from anonymise.batch.journal import Entry, JournalReader, State, Written
from anonymise.batch.shards import shards_of
from anonymise.core.detections import Size
from anonymise.corrections.store import Correction, Store
from samples.scene import draw_scene
from tests.fakes import street, write_image
from tests.roadimages import road_jpeg

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
N_IMAGES = 200
KEYS = ["remote_mask=True", "archive_instances=True", "remote_preview=True", "preview_dim=[40, 30]"]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, and what a run on one machine makes of them in ``single`` and ``single_raw``."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(N_IMAGES):
        path = write_image(folder / "in" / f"{number % 5}" / f"å{number:03}.jpg", street(seed=number))
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    assert wait(start(folder, folder / "single", module="tests.faults.runner")) == 0
    return folder


def faulty(faults: Path | None) -> dict[str, str]:
    """The environment of a process whose model minds a folder of faults."""
    return {} if faults is None else {"ANONYMISE_TEST_FAULTS": str(faults)}


def start(
    folder: Path, out: Path, *more: str, module: str = "tests.cluster.runner", faults: Path | None = None
) -> "subprocess.Popen[str]":
    options = ["-i", folder / "in", "-o", out, "-a", out.with_name(f"{out.name}_raw")]
    keys = [part for key in KEYS for part in ("--set", key)]
    environment = os.environ | faulty(faults)
    with out.with_name(f"{out.name}.log").open("a", encoding="utf-8") as log:
        return subprocess.Popen(
            [sys.executable, "-m", module, *map(str, options), *keys, *more],
            cwd=ROOT, env=environment, text=True, stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
        )  # fmt: skip


def wait(process: "subprocess.Popen[str]", seconds: float = 300) -> int:
    try:
        process.wait(seconds)
    finally:
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and ".anonymise" not in path.parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}


def known(output: Path) -> list[Entry]:
    """The journal, but for times and for the folders of the run."""
    with JournalReader(output) as reader:
        return [
            replace(
                entry, started="", ended=None, attempts=1, written=tuple(replace_root(file) for file in entry.written)
            )
            for entry in reader.entries()
        ]


def replace_root(file: Written) -> Written:
    return Written(file.place, file.kind)


def assert_same(folder: Path, out: Path) -> None:
    """Everything is as after a run on one machine, and nothing of the cluster is left."""
    raw = out.with_name(f"{out.name}_raw")
    assert tree(out) == tree(folder / "single")
    assert tree(raw) == tree(folder / "single_raw")
    assert times(raw) == times(folder / "single_raw") == times(folder / "in")
    assert known(out) == known(folder / "single")
    assert not out.with_name(f"{out.name}_error").exists()
    assert not [path for root in (out, raw) for path in root.glob(".anonymise/staging*")]


def workers_of(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [c for c in psutil.Process(process.pid).children() if "multiprocessing.spawn" in " ".join(c.cmdline())]
    return []


def n_finished(output: Path) -> int:
    return len(list(output.glob("*/*_mask.png")))


def reach(output: Path, n: int, process: "subprocess.Popen[str]") -> None:
    """Waits until a run has published so many images."""
    end = time.monotonic() + 180
    while n_finished(output) < n and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    assert process.poll() is None
    assert n_finished(output) >= n


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """Faults: every image takes a while, so that there is time to disturb the run."""
    folder = tmp_path / "faults"
    folder.mkdir()
    (folder / "slow").write_text("0.03")
    return folder


def set_pace(faults: Path, seconds: float) -> None:
    """How long every image takes from now on; no worker reads half a number."""
    (faults / "next").write_text(str(seconds))
    (faults / "next").replace(faults / "slow")


def test_a_cluster_makes_the_files_and_the_journal_of_one_machine(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(pictures, out, "--cluster", "local:4")
    reach(out, 1, process)
    listening = [
        connection.laddr.ip
        for one in (psutil.Process(process.pid), *workers_of(process))
        for connection in one.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert set(listening) == {"127.0.0.1"}  # nobody else can reach it
    assert wait(process) == 0
    assert_same(pictures, out)
    with JournalReader(out) as journal:
        assert {entry.attempts for entry in journal.entries()} == {1}


def test_without_a_shared_disk_the_bytes_come_over_the_connection(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert wait(start(pictures, out, "--cluster", "local:2", "--set", "cluster_transfer=True")) == 0
    assert_same(pictures, out)


def test_killed_workers_lose_nothing(pictures: Path, tmp_path: Path, slow: Path) -> None:
    dice, out = random.Random(18), tmp_path / "out"
    process = start(pictures, out, "--cluster", "local:2", faults=slow)
    for n in (10, 60, 110):
        reach(out, n, process)
        dice.choice(workers_of(process)).kill()
    assert wait(process) == 0
    assert_same(pictures, out)


def test_a_killed_leader_goes_on_where_it_was(pictures: Path, tmp_path: Path, slow: Path) -> None:
    out = tmp_path / "out"
    for n in (20, 50, 80, 110, 140):
        process = start(pictures, out, "--cluster", "local:2", faults=slow)
        reach(out, n, process)
        workers = workers_of(process)
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=20)
        assert workers
        assert not [one for one in alive if one.status() != psutil.STATUS_ZOMBIE]
    assert wait(start(pictures, out, "--cluster", "local:2")) == 0
    assert_same(pictures, out)


@pytest.mark.parametrize("first", ["cluster", "one machine"])
def test_a_run_goes_on_elsewhere(pictures: Path, tmp_path: Path, slow: Path, first: str) -> None:
    out = tmp_path / "out"
    modules = [("tests.cluster.runner", ("--cluster", "local:2")), ("tests.faults.runner", ())]
    if first != "cluster":
        modules.reverse()
    (module, options), (other, other_options) = modules
    process = start(pictures, out, *options, module=module, faults=slow)
    reach(out, 50, process)
    process.kill()
    process.wait()
    time.sleep(1)  # its workers end
    assert 50 <= n_finished(out) < N_IMAGES
    assert wait(start(pictures, out, *other_options, module=other)) == 0
    assert_same(pictures, out)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP there")
def test_a_frozen_worker_changes_nothing_when_it_wakes_up_and_keeps_nobody_when_it_does_not(
    pictures: Path, tmp_path: Path, slow: Path
) -> None:
    out = tmp_path / "out"
    process = start(pictures, out, "--cluster", "local:2", "--silent-seconds", "2", faults=slow)
    reach(out, 20, process)
    frozen = workers_of(process)[0]
    frozen.suspend()
    reach(out, 100, process)  # long after it was given up
    frozen.resume()
    reach(out, 150, process)
    frozen.suspend()  # for good: the run does not wait for it
    assert wait(process) == 0
    assert_same(pictures, out)
    with JournalReader(out) as journal:
        assert {entry.attempts for entry in journal.entries()} == {1}


@pytest.mark.parametrize(
    ("fault", "stage", "reason"),
    [
        ("poison", "worker", "3 worker processes died on it"),
        ("hang", "write", "it took longer than 8 s, so its process was ended"),
    ],
)
def test_a_picture_that_kills_or_stops_its_worker_fails_alone(
    tmp_path: Path, slow: Path, fault: str, stage: str, reason: str
) -> None:
    for number in range(30):
        write_image(tmp_path / "in" / f"{number:02}.jpg", street(seed=number))
    bad = street(seed=99)
    bad[:16, :16] = 0
    write_image(tmp_path / "in" / "07.jpg", bad)
    (slow / fault).touch()
    out = tmp_path / "out"
    limits = ["--set", "max_image_seconds=7", "--set", "file_access_timeout_seconds=1"] if fault == "hang" else []
    assert wait(start(tmp_path, out, "--cluster", "local:2", *limits, faults=slow)) == 1
    with JournalReader(out) as journal:
        (failed,) = journal.entries(State.FAILED)
        assert journal.counts() == {State.STARTED: 0, State.FINISHED: 29, State.FAILED: 1}
    assert (failed.relative, failed.stage) == ("07.jpg", stage)
    assert failed.reason is not None
    assert failed.reason.startswith(reason)
    assert (tmp_path / "out_error" / "07_error.txt").is_file()


def test_several_leaders_share_a_folder_by_shards(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    leaders = [start(pictures, out, "--shard", f"{k}/2", "--cluster", "local:1") for k in range(2)]
    assert [wait(leader) for leader in leaders] == [0, 0]
    assert n_finished(out) == N_IMAGES
    assert len(shards_of(out)) == 2
    process = start(pictures, out, "--cluster", "local:1")
    assert wait(process) == 0
    assert_same(pictures, out)
    assert shards_of(out) == ()


def test_corrections_travel_with_their_image(tmp_path: Path) -> None:
    for number in range(4):
        write_image(tmp_path / "in" / f"{number}.jpg", street(seed=number))
    box = json.dumps({"box": [5, 5, 30, 20]})
    rows = [
        Correction(
            relative=f"{n}.jpg",
            width=width,
            height=120,
            kind="add",
            category="face",
            shape=box,
            source="review",
            batch="b",
            author="me",
        )
        for n, width in ((1, 160), (2, 999))  # the second is for another picture
    ]
    for out, module, options in (
        ("single", "tests.faults.runner", ()),
        ("out", "tests.cluster.runner", ("--cluster", "local:1")),
    ):
        store = tmp_path / f"{out}_store"
        with Store(store, create=True) as corrections:
            corrections.add(rows, "me")
        process = start(tmp_path, tmp_path / out, "--set", f"corrections={store}", *options, module=module)
        assert wait(process) == 1  # one is stale
        with Store(store) as corrections:
            assert [(row.relative, row.status) for row in corrections.select("1 ORDER BY relative", [])] == [
                ("1.jpg", "drawn"),
                ("2.jpg", "stale"),
            ]
    assert tree(tmp_path / "out") == tree(tmp_path / "single")
    found = json.loads((tmp_path / "out_raw" / "1_instances.json").read_text("utf-8"))
    assert [one["category"] for one in found["instances"]] == ["car", "face"]


@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C for a process of another session there")
def test_ctrl_c_finishes_what_is_in_work(pictures: Path, tmp_path: Path, slow: Path) -> None:
    out = tmp_path / "out"
    process = start(pictures, out, "--cluster", "local:2", faults=slow)
    reach(out, 20, process)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does: the workers get it, too
    assert wait(process) == 130
    with JournalReader(out) as journal:
        counts = journal.counts()
    assert counts[State.STARTED] == counts[State.FAILED] == 0
    assert 20 <= counts[State.FINISHED] < N_IMAGES
    assert not list(out.glob(".anonymise/staging*"))


@pytest.mark.skipif(sys.platform == "win32", reason="no Ctrl-C for a process of another session there")
def test_ctrl_c_twice_ends_at_once(pictures: Path, tmp_path: Path, slow: Path) -> None:
    (slow / "slow").write_text("20")
    out = tmp_path / "out"
    process = start(pictures, out, "--cluster", "local:2", faults=slow)
    end = time.monotonic() + 60
    while not list(out.glob(".anonymise/staging/*/token")) and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(4)
    for _ in range(2):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
    assert wait(process, 20) == 130
    assert n_finished(out) == 0


def test_every_image_has_its_row_once(tmp_path: Path, slow: Path) -> None:
    below = tmp_path / "in" / "tilSladding" / "2020" / "FV00013" / "S1" / "D1"
    below.mkdir(parents=True)
    names = [f"FV00013_S1D1_m{number:05}_f1.jpg" for number in range(N_IMAGES)]
    for name in names:
        (below / name).write_bytes(road_jpeg().replace(b"FV00013_S1D1_m00014_f1.jpg", name.encode()))
    keys = ["write_exif_to_db=True", "table_name=VEGBILDER", "data_eier=Vegvesenet", "db_max_n_accumulated_rows=10"]
    options = ["--cluster", "local:4", *(part for key in keys for part in ("--set", key))]
    out = tmp_path / "out"
    process = start(tmp_path, out, *options, faults=slow)
    end = time.monotonic() + 60
    while not list(out.rglob("*_mask.png")) and time.monotonic() < end:
        time.sleep(0.05)
    workers_of(process)[0].kill()
    assert wait(process) == 0
    with contextlib.closing(sqlite3.connect(out / "VEGBILDER.gpkg")) as connection:
        assert [name for (name,) in connection.execute("SELECT Filnavn FROM VEGBILDER ORDER BY Filnavn")] == names


class Dask:
    """A cluster as an operator starts it: a scheduler, and workers that a module of ``preloads`` may spoil."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._file = folder / "scheduler.json"
        protocol = "tcp" if "DASK_DISTRIBUTED__COMM__TLS__CA_FILE" not in os.environ else "tls"
        self._log = stack.enter_context((folder / "dask.log").open("w", encoding="utf-8"))
        self._start("scheduler", "--protocol", protocol, "--host", "127.0.0.1", "--port", "0", "--no-dashboard")
        end = time.monotonic() + 60
        while not self._file.exists() and time.monotonic() < end:
            time.sleep(0.1)
        self.address: str = json.loads(self._file.read_text())["address"]

    def worker(self, preload: str | None = None, faults: Path | None = None) -> None:
        spoilt = () if preload is None else ("--preload", f"tests.cluster.preloads.{preload}")
        self._start("worker", "--nthreads", "1", "--no-dashboard", *spoilt, faults=faults)

    def _start(self, *arguments: str, faults: Path | None = None) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | faulty(faults)
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, "--scheduler-file", str(self._file)],
            cwd=ROOT, stdout=self._log, stderr=self._log, env=environment,
        )  # fmt: skip
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One certificate for all processes, in Dask's settings."""
    made = Security.temporary()  # type: ignore[no-untyped-call]
    (tmp_path / "cert.pem").write_text(made.tls_client_cert)
    (tmp_path / "key.pem").write_text(made.tls_client_key)
    prefix = "DASK_DISTRIBUTED__COMM__TLS__"
    monkeypatch.setenv(f"{prefix}CA_FILE", str(tmp_path / "cert.pem"))
    for role in ("SCHEDULER", "WORKER", "CLIENT"):
        monkeypatch.setenv(f"{prefix}{role}__CERT", str(tmp_path / "cert.pem"))
        monkeypatch.setenv(f"{prefix}{role}__KEY", str(tmp_path / "key.pem"))


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[Dask]:
    with contextlib.ExitStack() as stack:
        yield Dask(tmp_path, stack)


def test_workers_that_are_not_fit_are_named_and_the_run_goes_on_with_the_others(
    pictures: Path, tmp_path: Path, slow: Path, certificate: None, dask: Dask
) -> None:
    assert dask.address.startswith("tls://")
    out = tmp_path / "out"
    dask.worker(faults=slow)
    dask.worker("other_version")
    process = start(pictures, out, "--cluster", dask.address)
    reach(out, 1, process)
    set_pace(slow, 1)
    dask.worker("full_disk")  # while the run is under way, and it goes on until both have joined
    dask.worker("other_finds")
    log_file = out.with_name("out.log")
    named, end = ("on other is not used", "full gets no more images"), time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        if all(text in log_file.read_text("utf-8") for text in named):
            break
        time.sleep(0.1)
    set_pace(slow, 0)
    assert wait(process) == 0
    assert_same(pictures, out)
    log = log_file.read_text("utf-8")
    assert "it has version 0.0.1 of anonymise, and the leader" in log
    assert "on other is not used: its model finds something else in the reference picture" in log
    assert "trouble at full: [Errno 28] No space left on device" in log
    assert "full gets no more images: 20 failed one after the other" in log


def test_a_scheduler_without_workers_that_can_be_used_ends_the_run_before_it_begins(
    pictures: Path, tmp_path: Path, dask: Dask
) -> None:
    dask.worker("other_version")
    out = tmp_path / "out"
    for seconds in (6, 60):  # on a busy machine the worker takes its time
        options = ["--cluster", dask.address, "--set", f"cluster_wait_seconds={seconds}"]
        assert wait(start(pictures, out, *options)) == 2
        log = out.with_name("out.log").read_text("utf-8")
        assert f"No worker of the cluster can be used since {seconds} s" in log
        if "it has version" in log:
            break
    assert "it has version 0.0.1" in log
    assert n_finished(out) == 0
    assert not list(out.glob(".anonymise/staging*"))


def test_a_disk_that_is_full_for_all_workers_stops_the_run(pictures: Path, tmp_path: Path, dask: Dask) -> None:
    dask.worker("full_disk")
    out = tmp_path / "out"
    assert wait(start(pictures, out, "--cluster", dask.address)) == 3
    assert "The workers cannot go on, the last one (full) because: [Errno 28]" in out.with_name("out.log").read_text()
    assert n_finished(out) == 0
    assert wait(start(pictures, out, module="tests.faults.runner")) == 0
    assert_same(pictures, out)


def test_the_real_models_find_the_same_on_a_cluster(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.jpg", draw_scene(7, Size(640, 480), cars=2, people=2).image)
    command = [sys.executable, "-m", "anonymise", "-i", str(tmp_path / "in"), "-k", "lite_config.yml"]
    for out, more in (("single", []), ("out", ["--cluster", "local:1"])):
        done = subprocess.run([*command, "-o", str(tmp_path / out), *more], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert "person" in done.stdout
    assert tree(tmp_path / "out") == tree(tmp_path / "single")
