"""Writes the JSON records only, without looking at the pixels; no model is loaded.

What an earlier run found in an image stays in its record.
"""

import sys

from anonymise.commands.cli import folder_script, record_command

_EXAMPLES = """examples:
  python -m script.create_json -i photos -o records
  python -m script.create_json -i photos -o records -k config/360_default_config.yml --set data_eier=Vegvesenet

exit codes: 0 all records written, 1 some failed, 2 usage or configuration, 3 stopped"""


if __name__ == "__main__":
    sys.exit(folder_script("create_json", __doc__, _EXAMPLES, record_command, "records"))
