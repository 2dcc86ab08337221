"""Which worker gets which image, and what becomes of images that fail, without a cluster."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from anonymise.batch.outcomes import Done, Failed, Outcome
from anonymise.cluster.images import Attempt, Image, Images
from anonymise.cluster.members import SILENT_SECONDS, Host, Worker
from anonymise.core.errors import StopError


class Cluster:
    """Two machines with a worker of one thread each, and images."""

    def __init__(self) -> None:
        self.hosts = {name: Host(name) for name in ("a", "b")}
        self.workers = [Worker(f"tcp://{name}:1", 1, host) for name, host in self.hosts.items()]
        self.images = Images(self.hosts)

    def add(self, name: str = "1.jpg") -> Image:
        paths: Any = type("Named", (), {"source": Path(name)})
        image = Image(paths, None, None, Future())  # type: ignore[arg-type]
        self.images.add(image)
        return image

    def assign(self) -> list[Attempt]:
        return list(self.images.assigned(lambda: [w for w in self.workers if w.is_ready]))

    def fail(self, attempt: Attempt, result: "Outcome | str") -> None:
        assert self.images.ended(attempt)
        assert attempt.worker.host is not None
        self.images.failed(attempt.image, attempt.worker.host, result)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_workers_get_two_images_for_each_thread_and_the_idlest_first(cluster: Cluster) -> None:
    for n in range(5):
        cluster.add(f"{n}.jpg")
    assert [a.worker.address for a in cluster.assign()] == ["tcp://a:1", "tcp://b:1", "tcp://a:1", "tcp://b:1"]
    assert len(cluster.images) == 5


def test_an_image_that_failed_is_tried_on_another_machine_and_then_fails(cluster: Cluster) -> None:
    image = cluster.add()
    failure = Failed(Path("1.jpg"), "draw", "no")
    (first,) = cluster.assign()
    cluster.fail(first, failure)
    (second,) = cluster.assign()
    assert second.worker is not first.worker
    cluster.fail(second, failure)
    assert image.future.result(0) == failure
    assert image not in cluster.images


def test_an_image_that_killed_two_workers_is_tried_alone_and_a_third_death_is_its_fault(cluster: Cluster) -> None:
    poison = cluster.add()
    for _ in range(2):
        (attempt,) = cluster.assign()
        cluster.images.lose(attempt.worker)
    cluster.add("2.jpg")
    alone, other = cluster.assign()
    assert alone.image is poison
    assert other.worker is not alone.worker
    cluster.add("3.jpg")
    assert [a.worker for a in cluster.assign()] == [other.worker]
    cluster.images.lose(alone.worker)
    outcome = poison.future.result(0)
    assert isinstance(outcome, Failed)
    assert outcome.stage == "worker"


def test_only_the_images_that_a_lost_worker_was_at_may_be_why(cluster: Cluster) -> None:
    cluster.workers = cluster.workers[:1]
    first, second = cluster.add(), cluster.add("2.jpg")
    cluster.assign()
    cluster.images.lose(cluster.workers[0])
    assert (first.n_lost, second.n_lost) == (1, 0)


def test_images_of_a_silent_worker_are_done_by_others_and_the_first_result_counts(cluster: Cluster) -> None:
    image = cluster.add()
    (first,) = cluster.assign()
    first.worker.seen -= 2 * SILENT_SECONDS
    cluster.images.share(first.worker)
    cluster.images.share(first.worker)  # once is enough
    (second,) = cluster.assign()
    assert second.worker is not first.worker
    done = Done(Path("1.jpg"), {}, (), {}, None, {})
    for attempt in (second, first):
        cluster.images.ended(attempt)
        cluster.images.settle(attempt.image, done)
    assert image.future.result(0) is done
    assert not cluster.assign()


def test_a_machine_on_which_everything_fails_gets_no_more_while_others_succeed(cluster: Cluster) -> None:
    bad, good = cluster.hosts["a"], cluster.hosts["b"]
    good.n_done = 1
    for n in range(20):
        image = cluster.add(f"{n}.jpg")
        cluster.images.failed(image, bad, "its disk is full")
    assert bad.is_out
    assert not good.is_out


def test_trouble_at_three_machines_stops_the_run(cluster: Cluster) -> None:
    image, other = cluster.add(), cluster.add("2.jpg")
    for name in "abc":
        cluster.images.failed(image, Host(name), "its disk is full")
    for one in (image, other):
        with pytest.raises(StopError, match="disk is full"):
            one.future.result(0)
    late = cluster.add("3.jpg")
    with pytest.raises(StopError):
        late.future.result(0)
