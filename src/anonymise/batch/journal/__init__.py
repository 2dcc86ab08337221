"""What happened to every image of a run, in a SQLite file below the output folder.

The process that runs the job writes through `Journal`; everyone else reads through `JournalReader`, also meanwhile.

- `entries`: what is known of an image.
- `file`: the SQLite file: where it is, its schema, its errors, waiting for it.
- `writer`: the journal of the run at work.
- `reader`: the journal for everybody else.
"""

from anonymise.batch.journal.entries import SAVED, Entry, Identity, ResumeStatus, State, Written
from anonymise.batch.journal.file import has_journal, journal_file
from anonymise.batch.journal.reader import JournalReader
from anonymise.batch.journal.writer import Journal

__all__ = [
    "SAVED",
    "Entry",
    "Identity",
    "Journal",
    "JournalReader",
    "ResumeStatus",
    "State",
    "Written",
    "has_journal",
    "journal_file",
]
