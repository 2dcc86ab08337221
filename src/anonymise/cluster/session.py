"""A whole run on a cluster: connects, lets workers join, runs, and leaves nothing behind."""

import contextlib
import ipaddress
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from anonymise.batch import runs
from anonymise.batch.outcomes import Progress, Report
from anonymise.batch.paths import Places
from anonymise.batch.session import database_sender
from anonymise.batch.workers import held_signals
from anonymise.config import Config
from anonymise.core.detections import Detections
from anonymise.core.errors import UsageError
from anonymise.core.sources import InputImage, Source
from anonymise.metadata.record import read_sidecar
from anonymise.models import Masker, load_masker, model_identity
from anonymise.redaction.static import StaticMask

if TYPE_CHECKING:
    import distributed

__all__ = ["anonymise", "check_address"]

log = logging.getLogger(__name__)

_LOCAL = re.compile(r"local:([1-9]\d{0,3})")
_REMOTE = re.compile(r"(tcp|tls)://(\[[0-9a-fA-F:.]+\]|[^/:\s]+):(\d+)")


def check_address(address: str, *, trusts_network: bool) -> None:
    """Looks at the address of a cluster before anything is done.

    Raises:
        UsageError: it is none, its extra is not installed, or what is sent there could be read and changed on the way.
    """
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise UsageError('--cluster needs Dask: pip install "anonymise[cluster]"') from error
    if _LOCAL.fullmatch(address) is not None:
        return
    if (match := _REMOTE.fullmatch(address)) is None:
        raise UsageError(f"--cluster {address}: write local:N, tcp://HOST:PORT or tls://HOST:PORT")
    protocol, host, port = match.groups()
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--cluster {address}: there is no machine {host}: {error}") from error
    is_private = all(ipaddress.ip_address(str(entry[4][0]).partition("%")[0]).is_private for entry in found)
    if protocol == "tcp" and not is_private and not trusts_network:
        raise UsageError(
            f"--cluster {address}: {host} is a public address, and tcp:// neither encrypts nor asks who is there; "
            "whoever reaches a scheduler can run any program on its workers. Use tls:// (docs/cluster.md), or say "
            "--trust-network if something else protects the way"
        )


def load_model(config: Config) -> Masker:
    """The model that a configuration names, at a worker."""
    return load_masker(config.model, progress=False)


def anonymise(
    config: Config,
    places: Places,
    address: str,
    progress: Progress,
    *,
    ask: Callable[[str], str] | None = None,
    identity: str | None = None,
    load: Callable[[Config], Masker] = load_model,
) -> Report:
    """The main job on folders that are prepared and locked, on a cluster.

    Args:
        config: the configuration.
        places: the folders.
        address: of the cluster, which `check_address` has seen.
        progress: observer of the run.
        ask: as `database_sender` takes it.
        identity: that of the model; None looks at the model that the configuration names, and fetches it.
        load: loads the model at the workers.

    Raises:
        UsageError: there is no cluster, or none of its workers can be used.
        ModelError: the model is not available.
        StorageError: a staging folder cannot be made.
    """
    from anonymise.cluster.leader import Leader
    from anonymise.cluster.publishing import Publisher
    from anonymise.cluster.worker import Setup

    identity = identity or _identity(config)
    fingerprint = config.model_fingerprint(identity)
    static = StaticMask.of_options(config.static_mask, config.images.max_decoded_pixels)
    sidecar = read_sidecar(config.record)
    if config.cluster.cluster_transfer:
        log.info("Images and results go over the connection (cluster_transfer), which is slower than a shared disk")
    with database_sender(config, places, ask) as sender, _connected(address) as client, contextlib.ExitStack() as stack:
        publisher = Publisher(config, places)
        stack.callback(publisher.close)
        setup = Setup(
            publisher.run,
            config,
            os.name == "nt",
            {place: str(root) for place, root in publisher.roots.items()},
            {place: str(folder) for place, folder in publisher.staging.items()},
            config.settings_fingerprint(*(None if file is None else file.fingerprint for file in (static, sidecar))),
            fingerprint,
            load,
        )
        leader = Leader(
            client,
            setup,
            publisher,
            seconds=config.seconds_per_image,
            wait_seconds=config.cluster.cluster_wait_seconds,
            wants_to_stop=progress.wants_to_stop,
        )
        stack.callback(leader.close)
        if (reason := leader.wait_for_worker()) is not None and not progress.wants_to_stop():
            raise UsageError(f"--cluster {address}: {reason}. The same command without --cluster does the work here")
        return runs.distribute(config, places, _Fingerprint(fingerprint), fingerprint, leader, progress, sender)


class _Fingerprint:
    """The model as a source of detections that only workers ask."""

    def __init__(self, fingerprint: str) -> None:
        self._source = Source(fingerprint, self._find)

    def of(self, name: str) -> Source:  # noqa: ARG002 - the same for every image
        return self._source

    @staticmethod
    def _find(_: InputImage) -> Detections:
        raise AssertionError("the workers look for objects")


def _identity(config: Config) -> str:
    identity = model_identity(config.model)
    if identity is None:  # it is not fetched yet
        identity = load_masker(config.model, progress=sys.stderr is not None and sys.stderr.isatty()).identity
    return identity


@contextlib.contextmanager
def _connected(address: str) -> Iterator["distributed.Client"]:
    """A client of the cluster; ``local:N`` starts worker processes here, which nobody else can reach.

    Raises:
        UsageError: no scheduler answers.
    """
    import dask
    import distributed

    quiet = {"logging.distributed": "critical", "distributed.scheduler.allowed-failures": 0}
    quiet |= {"distributed.admin.system-monitor.gil.enabled": False}
    with dask.config.set(quiet), contextlib.ExitStack() as stack:
        if (local := _LOCAL.fullmatch(address)) is not None:
            with held_signals():  # only this process acts on them
                cluster = distributed.LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=int(local[1]),
                    threads_per_worker=1,
                    host="127.0.0.1",
                    dashboard_address=None,
                    silence_logs=logging.CRITICAL,
                )
            stack.enter_context(contextlib.closing(cluster))
            address = cluster.scheduler_address
        try:
            with held_signals():
                client = distributed.Client(address, timeout=10)  # type: ignore[no-untyped-call]
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            raise UsageError(f"--cluster {address}: no scheduler answers: {error}") from error
        stack.enter_context(contextlib.closing(client))
        yield client
