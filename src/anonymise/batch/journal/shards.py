"""Journals of shards: begun with what is known of the whole folder, and joined with it by the next run over it."""

import shutil
from contextlib import closing
from pathlib import Path

from anonymise.batch.journal.file import checked_version, connected, decoded, journal_file, prepare
from anonymise.batch.shards import Shard, shards_of, state_folder
from anonymise.core.errors import StorageError

__all__ = ["COLUMNS", "begin_shard", "join_shards"]

COLUMNS = (
    "relative, size, mtime_ns, digest, state, attempts, stage, reason, started, ended, written, objects, source, "
    "content, instances"
)
"""Of the table of images."""

_BEGIN = f"INSERT INTO image ({COLUMNS}) SELECT {COLUMNS} FROM other.image WHERE is_mine(CAST(relative AS BLOB))"  # noqa: S608
_JOIN = (
    # What waited for the database before the image was done again.
    "DELETE FROM main.outbox WHERE key IN (SELECT new.relative FROM other.image AS new JOIN main.image AS old "
    "ON old.relative = new.relative WHERE new.started > old.started)",
    f"REPLACE INTO main.image ({COLUMNS}) SELECT {COLUMNS} FROM other.image AS new WHERE NOT EXISTS "  # noqa: S608
    "(SELECT 1 FROM main.image AS old WHERE old.relative = new.relative AND old.started > new.started)",
    "REPLACE INTO main.outbox (key, record, reason) SELECT key, record, reason FROM other.outbox ORDER BY number",
)


def begin_shard(output: Path, shard: Shard) -> None:
    """Fills the empty journal of a shard with what runs over the whole folder did.

    Raises:
        StorageError: the journal of the folder is of another version of this program.
    """
    whole = journal_file(output)
    if not whole.is_file():
        return
    with closing(connected(whole)) as connection:
        version = checked_version(connection, whole)
    with closing(connected(journal_file(output, shard))) as connection:
        if connection.execute("SELECT EXISTS (SELECT 1 FROM image)").fetchone()[0]:
            return
        if version != checked_version(connection, whole):
            raise StorageError(f"The journal {whole} is of an earlier version; run once without --shard.")
        connection.create_function("is_mine", 1, lambda relative: shard.has(decoded(relative)), deterministic=True)
        connection.execute("ATTACH ? AS other", (str(whole),))
        connection.execute(_BEGIN)


def join_shards(output: Path) -> None:
    """Takes the journals of shards into that of the whole folder, and removes them. No run works on the shards.

    A crash on the way loses nothing: what was taken is taken once more.
    """
    for shard in shards_of(output):
        file = journal_file(output, shard)
        if file.is_file():
            prepare(file)
            with closing(connected(journal_file(output))) as connection:
                connection.execute("ATTACH ? AS other", (str(file),))
                connection.execute("BEGIN IMMEDIATE")
                for statement in _JOIN:
                    connection.execute(statement)
                connection.execute("COMMIT")
        shutil.rmtree(state_folder(output, shard))
