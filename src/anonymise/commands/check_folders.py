"""Counts which files of which images are there, and names what is missing, failed, stray or stale."""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anonymise.commands.arguments import add_config_options, add_folder_options, parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError
from anonymise.core.plaintext import plural, printable

if TYPE_CHECKING:
    from anonymise.batch.audit import Audit

_EXAMPLES = """examples:
  {me} -i photos -o published -k {config}lite_config.yml
  {me} -i photos -o published -k {config}lite_config.yml --verify --csv > doubts.csv
  {me} -i photos -o published -a originals --ignore-config --json > check.json

exit codes: 0 all is as it should be, 1 something is not, 2 usage or configuration, 3 the journal is damaged"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("check-folders", __doc__ or "", _EXAMPLES)
    add_folder_options(arguments)
    add_config_options(arguments)
    arguments.add_argument("--ignore-config", action="store_true", help="ask for all kinds of files in all places")
    arguments.add_argument("--verify", action="store_true", help="decode every picture that is there; takes a while")
    form = arguments.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON instead of a table")
    form.add_argument("--csv", action="store_true", help="print only what is wrong, as CSV: what, path, reason")
    args = arguments.parse_args(argv)
    return guarded(lambda: _check(args), prints_result=True)


def _check(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from anonymise import config as configuration
    from anonymise.batch.audit import audit
    from anonymise.batch.chosen import corrected_images
    from anonymise.batch.paths import Places
    from anonymise.batch.preflight import check_models, no_image
    from anonymise.batch.walker import TreeWalker
    from anonymise.models import model_identity
    from anonymise.redaction.static import StaticMask

    config = configuration.load(args.config, args.set, has_archive=args.archive_folder is not None)
    places = Places.of(args.input_folder, args.output_folder, args.archive_folder, config.files)
    check_models(config)
    identity = model_identity(config.model)
    mask = StaticMask.of_options(config.static_mask, config.images.max_decoded_pixels)
    with tqdm(unit=" images", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:

        class Shown(TreeWalker):
            def walk(self) -> Any:
                for paths in super().walk():
                    yield paths
                    bar.update()

        walker = Shown(places, config.files)
        found = audit(
            walker,
            config.files,
            places.output,
            digest=config.settings_fingerprint(None if mask is None else mask.fingerprint),
            source=None if identity is None else config.model_fingerprint(identity),
            all_kinds=args.ignore_config,
            verify_max_pixels=config.images.max_decoded_pixels if args.verify else None,
            corrected=corrected_images(places.output, config.run.corrections),
        )
    if not found.n_images and found.is_complete and not args.allow_empty:
        raise UsageError(no_image(walker))
    if args.json:
        print(json.dumps(_as_json(found), indent=2, ensure_ascii=False))
    elif args.csv:
        table = csv.writer(sys.stdout, lineterminator="\n")
        table.writerow(["what", "path", "reason"])
        table.writerows(map(printable, row) for row in _doubts(found))
    else:
        print(printable(f"{plural(found.n_images, 'image')} in {places.input}"))
        print(_table(found))
        for what, path, reason in _doubts(found):
            print(printable(f"{what}: {path}" + (f": {reason}" if what != "Missing" else "")))
    return ExitCode.OK if found.is_complete else ExitCode.IMAGES_FAILED


def _rows(found: "Audit") -> dict[str, dict[str, int]]:
    return {
        f"{kind.value} ({place.value})": {status.value: n for status, n in by_status.items()}
        for (kind, place), by_status in found.counts.items()
    }


def _table(found: "Audit") -> str:
    from anonymise.batch.audit import Status

    names = [status.value for status in Status]
    rows = _rows(found)
    rows["total"] = {name: sum(by_status[name] for by_status in rows.values()) for name in names}
    lines = [f"{'':24}" + "".join(f"{name:>10}" for name in names)]
    lines += [f"{row:24}" + "".join(f"{by_status[name]:>10}" for name in names) for row, by_status in rows.items()]
    return "\n".join(lines)


def _doubts(found: "Audit") -> list[tuple[str, str, str]]:
    named = {"Missing": found.missing, "Damaged": found.damaged, "Failed": found.failed}
    named |= {"Stray": found.strays, "Stale": found.stale}
    doubts = [(what, str(doubt.path), doubt.reason) for what, some in named.items() for doubt in some]
    return doubts + [("Problem", str(problem.path), problem.reason) for problem in found.problems]


def _as_json(found: "Audit") -> dict[str, Any]:
    names = ("missing", "damaged", "failed", "stray", "stale", "problem")
    lists: dict[str, list[dict[str, str]]] = {name: [] for name in names}
    for what, path, reason in _doubts(found):
        lists[what.lower()].append({"path": path, "reason": reason})
    return {"images": found.n_images, "complete": found.is_complete, "files": _rows(found), **lists}
