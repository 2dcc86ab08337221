"""The main job for archives of images from before 2022: their ImageProperties are trusted before everything else.

The same as the main job with --set force_older_exif=True. It is needed only where the newer blobs in old
images mislead; the era is usually seen in the images themselves.
"""

from collections.abc import Sequence

from anonymise.commands.execution import anonymise_command, folder_command

_EXAMPLES = """example:
  {me} -i archive_2019 -o published -k {config}lite_config.yml

exit codes: as {main}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    return folder_command(
        "anonymise-old", __doc__, _EXAMPLES, anonymise_command, "anonymise", ["force_older_exif=True"], argv=argv
    )
