"""An evaluation as one HTML file that needs nothing else: no scripts, no fonts, no pictures from elsewhere."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from anonymise.config import EvaluationOptions
from anonymise.core.errors import UsageError
from anonymise.core.plaintext import lines_of
from anonymise.evaluation import report
from anonymise.evaluation.evaluation import Evaluation
from anonymise.evaluation.gallery import Crop
from anonymise.evaluation.plots import plots
from anonymise.evaluation.report import About
from anonymise.evaluation.tally import ALL, SIZE_GROUPS

__all__ = ["as_html", "require_libraries"]

_LIBRARIES = ("matplotlib", "jinja2", "pycocotools")


def require_libraries() -> None:
    """Makes sure that the libraries of the extra ``evaluation`` are installed.

    Raises:
        UsageError: one is not.
    """
    if missing := [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]:
        raise UsageError(
            f"The page needs {' and '.join(missing)}, which is not installed. Install it with: "
            f"python -m pip install {' '.join(missing)}; or do without the page: --no-html."
        )


def as_html(evaluation: Evaluation, about: About, options: EvaluationOptions, crops: Sequence[Crop]) -> str:
    """The page.

    Args:
        evaluation: what was measured.
        about: what was evaluated.
        options: what was counted.
        crops: crops of the worst misses; they show what was not hidden.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: lines_of(value) if type(value) is str else value,
    )
    environment.filters |= {"number": report.number, "interval": report.with_interval}
    return environment.get_template("page.html.j2").render(
        evaluation=evaluation,
        about=about,
        options=options,
        counts=report.counts(evaluation, about),
        plots=plots(evaluation, about.wanted, options.evaluation_min_group),
        crops=crops,
        all=ALL,
        groups=(ALL, *SIZE_GROUPS),
    )
