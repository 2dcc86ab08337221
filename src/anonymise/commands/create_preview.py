"""Cuts the previews again, from the anonymised images that are in the output folder; no model is loaded."""

from collections.abc import Sequence

from anonymise.commands.execution import folder_command, preview_command

_EXAMPLES = """example:
  {me} -i photos -o published --set remote_preview=True --set "preview_dim=[800, 600]"

exit codes: 0 all previews cut, 1 some failed, 2 usage or configuration, 3 stopped"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return folder_command("create-preview", __doc__, _EXAMPLES, preview_command, "previews", argv=argv)
