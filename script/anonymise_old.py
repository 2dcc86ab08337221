"""The main job for archives of images from before 2022: their ImageProperties are trusted before everything else.

The same as ``python -m anonymise ... --set force_older_exif=True``. It is needed only where the newer blobs in old
images mislead; the era is usually seen in the images themselves.
"""

import sys

from anonymise.commands.cli import anonymise_command, folder_script

_EXAMPLES = """example:
  python -m script.anonymise_old -i archive_2019 -o published -k config/lite_config.yml

exit codes: as python -m anonymise"""


if __name__ == "__main__":
    sys.exit(
        folder_script("anonymise_old", __doc__, _EXAMPLES, anonymise_command, "anonymise", ["force_older_exif=True"])
    )
