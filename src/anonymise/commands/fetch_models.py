"""Fetches models of the catalog, so that later runs need no connection."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from anonymise.commands.arguments import parser
from anonymise.commands.guard import guarded
from anonymise.core.errors import ExitCode

_EXAMPLES = """examples:
  {me}            (the small embedded models, Lite and Nano)
  {me} Medium CenterFace
  {me} --list

exit codes: 0 all are there, 2 usage, 3 a model could not be fetched"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns the exit code."""
    arguments = parser("fetch-models", __doc__ or "", _EXAMPLES)
    arguments.add_argument("names", nargs="*", metavar="NAME", help="models; Lite and Nano if none is named")
    arguments.add_argument("--model-folder", type=Path, help="where to put them instead of the usual folder")
    arguments.add_argument("--list", action="store_true", help="only show the catalog")
    args = arguments.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return guarded(lambda: _show(args.model_folder) if args.list else _fetch(args.names, args.model_folder))


def _show(model_folder: Path | None) -> int:
    from anonymise.core.resources import default_model_folder
    from anonymise.models.origin import origin_of
    from anonymise.models.selection import models_of_catalog

    folder = model_folder or default_model_folder()
    models = models_of_catalog(folder)
    width = max(map(len, models))
    for name, model in models.items():
        state = "fetched" if origin_of(folder / name) else "not fetched"
        print(f"{name:{width}} {state:12} {model.licence:12} {model.summary}")
    return ExitCode.OK


def _fetch(names: list[str], model_folder: Path | None) -> int:
    from anonymise.core.errors import ModelError, UsageError
    from anonymise.core.resources import default_model_folder
    from anonymise.models.fetch import SMALL_MODELS, fetch
    from anonymise.models.origin import verify
    from anonymise.models.selection import models_of_catalog

    folder = model_folder or default_model_folder()
    models = models_of_catalog(folder)
    if unknown := set(names) - models.keys():
        raise UsageError(f"{', '.join(sorted(unknown))}: not in the catalog, which has {', '.join(models)}")
    failures = []
    for name in dict.fromkeys(names or SMALL_MODELS):
        try:
            target = fetch(name, models[name], folder, progress=sys.stderr.isatty(), repair=True)
            verify(target)
        except ModelError as error:
            failures.append(str(error))
        else:
            print(f"{name} is in {target}", flush=True)
    if failures:
        raise ModelError("\n".join(failures))
    return ExitCode.OK
