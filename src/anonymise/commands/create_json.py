"""Writes the JSON records only, without looking at the pixels; no model is loaded.

What an earlier run found in an image stays in its record.
"""

from collections.abc import Sequence

from anonymise.commands.execution import folder_command, record_command

_EXAMPLES = """examples:
  {me} -i photos -o records
  {me} -i photos -o records -k {config}360_default_config.yml --set data_eier=Vegvesenet

exit codes: 0 all records written, 1 some failed, 2 usage or configuration, 3 stopped"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return folder_command("create-json", __doc__, _EXAMPLES, record_command, "records", argv=argv)
