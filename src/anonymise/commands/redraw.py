"""Draws again from the archive what an earlier run found, with another appearance; no model is loaded.

The input folder is the archive of that run, which must hold the saved instances (archive_instances: True). Everything
that the main job writes is written again, for images whose saved instances or settings have changed; the others are
skipped. With --corrected it does the images with new corrections only.
"""

from collections.abc import Sequence

from anonymise.commands.execution import folder_command, redraw_command

_EXAMPLES = """examples:
  {main} -i photos -o published -a originals --create-archive \\
      -k {config}lite_config.yml --set archive_instances=True
  {me} -i originals -o published_mosaic --set appearance=mosaic
  {me} -i originals -o published -k my.yml --corrected

exit codes: as {main}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return folder_command("redraw", __doc__, _EXAMPLES, redraw_command, "redraw", argv=argv)
