"""Draws again from the archive what an earlier run found, with another appearance; no model is loaded.

The input folder is the archive of that run, which must hold the saved instances (archive_instances: True). Everything
that the main job writes is written again, for images whose saved instances or settings have changed; the others are
skipped. To correct an image, edit its saved instances and draw it again.
"""

import sys

from anonymise.commands.cli import folder_script, redraw_command

_EXAMPLES = """examples:
  python -m anonymise -i photos -o published -a originals --create-archive \\
      -k config/lite_config.yml --set archive_instances=True
  python -m script.redraw -i originals -o published_mosaic --set appearance=mosaic

exit codes: as python -m anonymise"""

if __name__ == "__main__":
    sys.exit(folder_script("redraw", __doc__, _EXAMPLES, redraw_command, "redraw"))
