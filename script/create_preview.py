"""Cuts the previews again, from the anonymised images that are in the output folder; no model is loaded."""

import sys

from anonymise.commands.cli import folder_script, preview_command

_EXAMPLES = """example:
  python -m script.create_preview -i photos -o published --set remote_preview=True --set "preview_dim=[800, 600]"

exit codes: 0 all previews cut, 1 some failed, 2 usage or configuration, 3 stopped"""


if __name__ == "__main__":
    sys.exit(folder_script("create_preview", __doc__, _EXAMPLES, preview_command, "previews"))
