"""Takes in regions that other systems found, from CSV files or a table, and hands out ours in the same columns.

A region becomes a correction: every later run hides it, and does exactly the images again that it concerns.
"""

import argparse
import functools
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from anonymise.commands.arguments import parser
from anonymise.commands.corrections import add_author, opened, print_some, print_status, print_undone, size, subcommand
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode, UsageError
from anonymise.core.plaintext import plural, printable

if TYPE_CHECKING:
    from anonymise.corrections.rowfiles import Row
    from anonymise.regions.transfer import Prepared

_EXAMPLES = """examples, where my.yml has a line such as corrections: /data/corrections
  look what a file would do, then take it in, then do exactly those images again:
      {me} import regions.csv -i photos -k my.yml --batch CTO-2020-03 --dry-run
      {me} import regions.csv -i photos -k my.yml --batch CTO-2020-03
      {main} -i photos -o published -a archive -k my.yml --corrected
  from a table of the database that db_config.yml names:
      {me} import --table panoramas_region -i photos -k my.yml --batch CTO-2020-03
  how far it is, and back:
      {me} status -k my.yml --batch CTO-2020-03
      {me} undo -k my.yml --batch CTO-2020-03
  what our model found, for others:
      {me} export --instances published -o regions.csv

exit codes: 0 done, 1 there are rows that are none, 2 usage, configuration or a file that cannot be read, 3 the store or
the database cannot be read or written"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    from anonymise.commands.database import add_database_options

    arguments = parser("regions", __doc__ or "", _EXAMPLES)
    actions = arguments.add_subparsers(dest="action", required=True, metavar="ACTION")
    take_in = subcommand(actions, "import", "take in regions from files or a table")
    put = take_in.add_argument
    put("files", nargs="*", type=Path, metavar="FILE", help="CSV, JSON Lines, either as .gz, or a folder of results")
    put("-i", "--input-folder", type=Path, required=True, metavar="IN", help="the images")
    put("-o", "--output-folder", type=Path, metavar="OUT", help="saved instances and records are also looked for here")
    put("-a", "--archive-folder", type=Path, metavar="ARCHIVE", help="originals are also looked for here")
    put("--table", metavar="TABLE", help="a table of the database instead of files")
    add_database_options(take_in)
    put("--dry-run", action="store_true", help="only say what would be done")
    put("--json", action="store_true", help="say so as JSON")
    put("--only", metavar="GLOB", help="only pictures with such paths, as '2020/*'")
    rectified = "the frame is the panorama turned upright, by columns roll and pitch or by the records"
    put("--rectified", action="store_true", help=rectified)
    put("--shape", choices=("rectangle", "polygon"), default="rectangle", help="what is hidden (%(default)s)")
    put("--padding", choices=("0",), help="no margins around the regions; they are generous already")
    put("--names", default="{mission}_{stem}", metavar="RULE", help="what pano_id is (%(default)s)")
    put("--review", action="store_true", help="not in force before a reviewer accepts them")
    put("--allow-errors", type=int, default=0, metavar="N", help="import although N rows are none")
    status = subcommand(actions, "status", "how many regions of a batch are drawn, and why the others are not")
    undo = subcommand(actions, "undo", "take a batch back; the next run restores the earlier bytes")
    for one in (take_in, status, undo):
        one.add_argument("--batch", type=_name, required=True, metavar="NAME", help="the group, such as CTO-2020-03")
    export = subcommand(actions, "export", "hand out regions in the same columns")
    source = export.add_mutually_exclusive_group(required=True)
    source.add_argument("--instances", type=Path, metavar="TREE", help="saved instances below this folder")
    source.add_argument("--from-corrections", action="store_true", help="what corrections add")
    export.add_argument("--batch", metavar="NAME", help="only corrections of this group")
    export.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="CSV file")
    export.add_argument("--detected-by", metavar="TEXT", help="who found them (anonymise and its version)")
    for one in (take_in, export):
        one.add_argument("--frame", type=size, metavar="WxH", help="size of the frame of the corners (8000x4000)")
        one.add_argument("--types", nargs="+", default=[], metavar="X=CLASS", help="further types, as P=person")
    for one in (take_in, undo):
        add_author(one)
    args = arguments.parse_args(argv)
    does = {"import": _import, "status": _of_batch, "undo": _of_batch, "export": _export}
    return guarded(lambda: does[args.action](args), prints_result=True)


def _name(text: str) -> str:
    if not text.strip():
        raise ValueError
    return text


def _types(texts: Sequence[str]) -> dict[str, str]:
    from anonymise.core.classes import unknown_classes
    from anonymise.regions.transfer import TYPES

    types = dict(TYPES)
    for text in texts:
        letter, _, name = text.partition("=")
        if not letter or (problem := unknown_classes(name)):
            raise UsageError(f"--types {text}: {problem if letter else 'write it as P=person'}")
        types[letter] = name
    return types


def _import(args: argparse.Namespace) -> int:
    from anonymise import config as configuration
    from anonymise.regions import transfer
    from anonymise.regions.pictures import Pictures

    if bool(args.files) == (args.table is not None):
        raise UsageError("name files with regions, or a table with --table")
    roots = tuple(folder for folder in (args.input_folder, args.archive_folder) if folder is not None)
    if missing := [folder for folder in roots if not folder.is_dir()]:
        raise UsageError(f"{missing[0]} is no folder")
    config = configuration.load(args.config, args.set, has_archive=True)
    options = transfer.Options(
        batch=args.batch,
        types=_types(args.types),
        frame=args.frame,
        is_rectified=args.rectified,
        is_polygon=args.shape == "polygon",
        padding=args.padding is None,
        status="proposed" if args.review else "accepted",
    )
    unused: dict[str, None] = {}
    by_rule = functools.cache(lambda rule: Pictures(roots, config, rule, args.output_folder))
    pictures = by_rule(args.names)
    plan = transfer.prepared(_rows(args, unused), pictures, options, args.only)
    if unused:
        print(printable(f"not used: {', '.join(unused)}"), file=sys.stderr)
    summary = _summary(plan)
    is_refused = len(plan.errors) > args.allow_errors
    if args.dry_run:
        trees = tuple(tree for tree in (args.output_folder, *roots) if tree is not None)
        new = [row for row in plan.rows if row.status != "unmatched"]
        pixels, n = transfer.newly_hidden(new, trees, pictures)
        summary |= {"newly_hidden_pixels": pixels, "pictures_with_saved_instances": n}
    elif not is_refused:
        with opened(args, create=True) as (_, store), store.changing():
            summary["imported"] = len(store.add(plan.rows, args.by))
            summary["matched_again"] = transfer.matched_again(store, by_rule, args.by)
    _show(summary, plan, as_json=args.json)
    if is_refused and not args.dry_run:
        errors = plural(len(plan.errors), "row")
        print(f"nothing was imported: {errors} cannot be used (--allow-errors {len(plan.errors)})", file=sys.stderr)
    return ExitCode.IMAGES_FAILED if is_refused else ExitCode.OK


def _rows(args: argparse.Namespace, unused: dict[str, None]) -> "Iterator[tuple[str, Row]]":
    from anonymise.commands.database import opened as database
    from anonymise.regions.rows import checked_table, from_table, read

    for file in args.files:
        yield from read(file, unused)
    if args.table is not None:
        name = checked_table(args.table)
        with database(args) as client:
            result = client.query(f"SELECT * FROM {name}")  # noqa: S608 - a checked name
        yield from from_table(name, result.columns, result.rows, unused)


def _summary(plan: "Prepared") -> dict[str, object]:
    known = [row for row in plan.rows if row.status != "unmatched"]
    concerned = {row.relative for row in known}
    return {
        "rows": plan.n_read,
        "good": len(known),
        "doubled": len(plan.rows) - len({(row.relative, row.category, row.shape) for row in plan.rows}),
        "unknown_pictures": len(plan.rows) - len(known),
        "errors": len(plan.errors),
        "errors_by_kind": Counter(reason.partition(":")[0] for _, reason in plan.errors),
        "passed_over": plan.n_passed_over,
        "pictures": len(concerned),
        "pictures_by_folder": dict(sorted(Counter(name.rpartition("/")[0] for name in concerned).items())),
    }


def _show(summary: dict[str, object], plan: "Prepared", *, as_json: bool) -> None:
    errors, warnings = (list(map(": ".join, pairs)) for pairs in (plan.errors, plan.warnings))
    if as_json:
        told = summary | {"first_errors": errors[:20], "warnings": warnings}
        print(json.dumps(told, ensure_ascii=False, indent=2))
        return
    for lines in (errors, warnings):
        print_some(lines, len(lines), sys.stderr)
    for name, value in summary.items():
        if isinstance(value, dict):
            print_some((f"    {key or '.'}: {n}" for key, n in value.items()), len(value))
        else:
            print(f"{name.replace('_', ' '):30}{value}")


def _of_batch(args: argparse.Namespace) -> int:
    with opened(args) as (_, store):
        if args.action == "status":
            print_status(store, args.batch)
        else:
            print_undone(args, store, "external")
    return ExitCode.OK


def _export(args: argparse.Namespace) -> int:
    from importlib.metadata import version

    from anonymise.core.detections import Size
    from anonymise.regions import exporting

    letters = {name: letter for letter, name in _types(args.types).items()}
    frame = args.frame or Size(8000, 4000)
    detected_by = args.detected_by or f"anonymise {version('anonymise')}"
    with nullcontext((None, None)) if args.instances is not None else opened(args) as (_, store):
        found = exporting.of_tree(args.instances) if store is None else exporting.of_store(store, args.batch)
        given = list(exporting.exported(found, letters, frame, detected_by))
    regions = [row for row in given if not isinstance(row, str)]
    exporting.write_table(args.output, regions)
    print(f"{plural(len(regions), 'region')} of {plural(len({row.relative for row in regions}), 'picture')}")
    for name, n in sorted(Counter(row for row in given if isinstance(row, str)).items()):
        print(f"left out, as no type stands for it (--types X={name}): {n} {name}")
    return ExitCode.OK
