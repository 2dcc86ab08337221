"""A run that does one part of a folder, so that a job array shares the work without any engine between the machines.

The images are divided by a hash of their paths: which shard an image belongs to does not depend on other images, or on
the machine. Each shard has a journal and a lock of its own in ``OUT/.anonymise/shard-K-of-N``.
"""

import hashlib
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from anonymise.core.errors import StorageError, UsageError

__all__ = ["Shard", "check_count", "clear_staging", "shards_of", "staging_folder", "state_folder"]

_NAME = re.compile(r"shard-(\d+)-of-(\d+)")


@dataclass(frozen=True, slots=True)
class Shard:
    """One part of the images of a folder.

    Attributes:
        index: number of the part, from 0.
        count: number of parts.

    Raises:
        UsageError: there is no such part.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(f"--shard {self}: the shards of {self.count} are 0/{self.count} to {self._last()}")

    def _last(self) -> str:
        return f"{self.count - 1}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """The shard that ``K/N`` names.

        Raises:
            UsageError: it names none.
        """
        if (match := re.fullmatch(r"(\d{1,6})/([1-9]\d{0,5})", text)) is None:
            raise UsageError(
                f"--shard {text}: write K/N, such as 0/8 for the first of eight shards and 7/8 for the last"
            )
        return cls(int(match[1]), int(match[2]))

    def has(self, key: str) -> bool:
        """Whether the image with a path below the input folder, with ``/``, belongs to this shard."""
        # The same bytes on all systems, also for names that are no Unicode.
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def state_folder(output: Path, shard: Shard | None = None) -> Path:
    """Where the journal and the lock of a run stand."""
    folder = output / ".anonymise"
    return folder if shard is None else folder / f"shard-{shard.index}-of-{shard.count}"


def staging_folder(root: Path, shard: Shard | None = None) -> Path:
    """Where the workers of a run on a cluster put files before the run publishes them in the tree with a root."""
    folder = root / ".anonymise"
    return folder / ("staging" if shard is None else f"staging-{shard.index}-of-{shard.count}")


def clear_staging(roots: Iterable[Path], shard: Shard | None) -> None:
    """Removes what the workers of a run on a cluster left that was killed.

    Args:
        roots: of the trees, which are locked.
        shard: the shard that is locked; None is all.
    """
    for root in roots:
        own = staging_folder(root, shard)
        for folder in own.parent.glob("staging*" if shard is None else own.name):
            shutil.rmtree(folder, ignore_errors=True)


def shards_of(output: Path) -> tuple[Shard, ...]:
    """The shards that runs have written to an output folder, by index.

    Raises:
        StorageError: nobody can tell, because the folder cannot be looked into.
    """
    try:
        names = [path.name for path in state_folder(output).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        raise StorageError(f"{state_folder(output)} cannot be read: {error.strerror or error}") from error
    found = (_NAME.fullmatch(name) for name in names)
    return tuple(sorted((Shard(int(m[1]), int(m[2])) for m in found if m), key=lambda shard: shard.index))


def check_count(output: Path, shard: Shard) -> None:
    """Makes sure that an output folder is divided into as many shards as a run thinks.

    Raises:
        UsageError: it is not.
    """
    for other in shards_of(output):
        if other.count != shard.count:
            raise UsageError(
                f"The output folder {output} is divided into {other.count} shards (--shard {other}), and this run says "
                f"{shard}. Go on with {other.count} shards, or run once without --shard, which joins their journals."
            )
