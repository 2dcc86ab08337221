import logging
import time

import pytest

from anonymise.batch.patience import Patience


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(time, "monotonic", lambda: found.now)
    monkeypatch.setattr(time, "sleep", found.sleep)
    return found


def test_waits_as_often_as_the_time_allows_and_says_so_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    patience = Patience(retry_seconds=10, timeout_seconds=25)
    with caplog.at_level(logging.WARNING, "anonymise"):
        assert [patience.wait("The share", "gone") for _ in range(4)] == [True, True, True, False]
    assert clock.slept == [10, 10, 5]
    assert [record.message for record in caplog.records] == ["The share is out of reach (gone); waiting for it"]


def test_the_time_runs_from_the_first_failure(clock: Clock) -> None:
    patience = Patience(retry_seconds=10, timeout_seconds=25)
    clock.now += 300  # the first attempt hung, as on a share whose server is gone
    assert patience.wait("The share", "timed out")
    clock.now += 300
    assert not patience.wait("The share", "timed out")


def test_without_time_there_is_no_waiting(clock: Clock) -> None:
    assert not Patience(retry_seconds=10, timeout_seconds=0).wait("The share", "gone")
    assert clock.slept == []
