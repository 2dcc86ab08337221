"""Cuts the previews again, from the anonymised images that are in the output folder; no model is loaded."""

import sys

from anonymise.cli import add_config_options, add_folder_options, add_run_options, execute, parser, preview_command

_EXAMPLES = """example:
  python -m script.create_preview -i photos -o published --set remote_preview=True --set "preview_dim=[800, 600]"

exit codes: 0 all previews cut, 1 some failed, 2 usage or configuration, 3 stopped"""


def main() -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("python -m script.create_preview", __doc__ or "", _EXAMPLES)
    add_folder_options(arguments)
    add_config_options(arguments)
    add_run_options(arguments)
    return execute(arguments.parse_args(), preview_command)


if __name__ == "__main__":
    sys.exit(main())
