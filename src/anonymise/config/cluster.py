"""Section of the configuration about runs on a cluster."""

from collections.abc import Mapping

from pydantic import Field

from anonymise.core.section import Section

__all__ = ["ClusterOptions"]


class ClusterOptions(Section):
    """Keys of the configuration about runs on many machines (`--cluster`)."""

    cluster_paths: Mapping[str, str]
    """Where folders of this machine are on workers that mount them elsewhere, such as {/mnt/street: 'Z:\\street'}. A
    worker takes the path of this machine where that is the same folder.
    """

    cluster_transfer: bool
    """Send images and results over the connection, for workers that share no disk with this machine; slower."""

    cluster_wait_seconds: float = Field(gt=0)
    """Seconds without any worker after which the run gives up."""

    cluster_mixed: bool
    """Let workers run the models on different runtimes, whose results differ in the last digits."""
