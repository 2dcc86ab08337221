"""Counts which files of which images are there, and names what is missing."""

import argparse
import json
import sys

from anonymise.cli import add_config_options, add_folder_options, guarded, parser
from anonymise.errors import ExitCode

_EXAMPLES = """examples:
  python -m script.check_folders -i photos -o published -k config/lite_config.yml
  python -m script.check_folders -i photos -o published -a originals --ignore-config --json > check.json

exit codes: 0 nothing is missing, 1 something is, 2 usage or configuration"""


def main() -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("python -m script.check_folders", __doc__ or "", _EXAMPLES)
    add_folder_options(arguments)
    add_config_options(arguments)
    arguments.add_argument("--ignore-config", action="store_true", help="ask for all kinds of files in all places")
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = arguments.parse_args()
    return guarded(lambda: _check(args))


def _check(args: argparse.Namespace) -> int:
    from anonymise import config as configuration
    from anonymise.audit import Status, audit
    from anonymise.paths import Places, TreeWalker

    config = configuration.load(args.config, args.set, has_archive=args.archive_folder is not None)
    places = Places.of(args.input_folder, args.output_folder, args.archive_folder, config.files)
    found = audit(TreeWalker(places, config.files), config.files, all_kinds=args.ignore_config)
    rows = {
        f"{kind.value} ({place.value})": {status.value: n for status, n in counts.items()}
        for (kind, place), counts in found.counts.items()
    }
    if args.json:
        result = {
            "images": found.n_images,
            "files": rows,
            "missing": [str(path) for path in found.missing],
            "problems": {str(problem.path): problem.reason for problem in found.problems},
        }
        print(json.dumps(result, indent=2, ensure_ascii=False))
    else:
        print(f"{found.n_images} images in {places.input}")
        print(f"{'':24}" + "".join(f"{status.value:>10}" for status in Status))
        for row, by_status in rows.items():
            print(f"{row:24}" + "".join(f"{by_status[status.value]:>10}" for status in Status))
        total = {status: sum(by_status[status.value] for by_status in rows.values()) for status in Status}
        print(f"{'total':24}" + "".join(f"{total[status]:>10}" for status in Status))
        for path in found.missing:
            print(f"Missing: {path}")
        for problem in found.problems:
            print(f"Problem: {problem.path}: {problem.reason}")
    incomplete = bool(found.missing) or any(problem.hides_images for problem in found.problems)
    return ExitCode.IMAGES_FAILED if incomplete else ExitCode.OK


if __name__ == "__main__":
    sys.exit(main())
