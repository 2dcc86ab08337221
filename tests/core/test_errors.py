"""Errors reach the main process as they left the worker."""

import inspect
import pickle
from contextlib import closing

import pytest

from anonymise.batch.workers import ProcessWorkers
from anonymise.core import errors
from anonymise.core.errors import AnonymiseError, CannotStart, ConfigError, RecordError

_RAISED = [
    *(kind(["a.yml:1: one\nthing", "a.yml:2: another"]) for kind in (CannotStart, ConfigError)),
    RecordError("something is missing", '{"a": 1}'),
    *(
        kind("ä message")
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, AnonymiseError) and kind not in {CannotStart, ConfigError, RecordError}
    ),
]


@pytest.mark.parametrize("error", _RAISED, ids=lambda error: type(error).__name__)
def test_every_error_survives_the_trip_between_processes(error: AnonymiseError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert (str(arrived), vars(arrived)) == (str(error), vars(error))


class OfALibrary(Exception):
    """Pickles, but cannot be made again from what it pickles: its arguments are not those of ``__init__``."""

    def __init__(self, file: str, line: int) -> None:
        super().__init__(f"{file}: {line}")


class HoldsTheUnpicklable(Exception):
    def __init__(self) -> None:
        super().__init__("it holds a function")
        self.function = lambda: None


def raise_config_error() -> None:
    raise ConfigError(["a.yml:1: one thing"])


def raise_of_a_library() -> None:
    raise OfALibrary("a.jpg", 3)


def raise_unpicklable() -> None:
    raise HoldsTheUnpicklable


def test_an_error_that_cannot_travel_arrives_in_words_and_the_workers_live_on() -> None:
    with closing(ProcessWorkers(1)) as workers:
        error = workers.submit(raise_config_error).exception()
        assert isinstance(error, ConfigError)
        assert error.problems == ("a.yml:1: one thing",)
        assert "OfALibrary: a.jpg: 3" in str(workers.submit(raise_of_a_library).exception())
        assert "HoldsTheUnpicklable: it holds a function" in str(workers.submit(raise_unpicklable).exception())
        assert workers.submit(str, 5).result() == "5"
