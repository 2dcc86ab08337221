"""Plots of an evaluation, as SVG. Matplotlib is loaded at first use."""

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from anonymise.core.plaintext import printable
from anonymise.evaluation.evaluation import Evaluation, Row, WantedRecall
from anonymise.evaluation.quiet_matplotlib import keep_matplotlib_out_of_home
from anonymise.evaluation.tally import ALL, SIZE_GROUPS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Plot", "plots"]

_COLOURS = ("#222222", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195")
"""Distinct for the colour-blind (Okabe & Ito 2008), the first for all classes together."""

_MARKERS = "osD^vP*X"
_MAX_LABEL = 48
"""Characters of a name in a plot."""

_WIDTH = 4.7
"""Inches: little, so that letters can still be read on a phone."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "anonymise",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "Segoe UI", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e4e4",
    "axes.axisbelow": True,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture for the page.

    Attributes:
        title: what it shows.
        text: how to read it.
        picture: SVG as a data URI, so that the styles and names in one do not touch those of another.
    """

    title: str
    text: str
    picture: str


def plots(evaluation: Evaluation, wanted: Sequence[WantedRecall], few: int) -> tuple[Plot, ...]:
    """All plots for which there are numbers.

    Args:
        evaluation: what was measured.
        wanted: thresholds for a wanted recall; empty without curves.
        few: groups with fewer objects are marked.
    """
    made = [
        Plot(
            "Covered pixels",
            "Share of the pixels of each class that is hidden, by the object's size. Bars are confidence intervals.",
            _drawn(lambda axes: _by_size(axes, evaluation, "pixel_recall", "covered pixels")),
        ),
        Plot(
            "Missed objects",
            "Share of the objects of each class that is missed, by their size. Less is better.",
            _drawn(lambda axes: _by_size(axes, evaluation, "missed_objects", "missed objects")),
        ),
    ]
    if evaluation.of_measure("curve_recall"):
        recall = wanted[0].recall if wanted else None
        made += [
            Plot(
                "What stays visible against over-blur",
                "Each point is a score threshold: the lower it is, the more is covered, of objects (down) and of "
                "background (to the right). Both axes are logarithmic.",
                _drawn(lambda axes: _trade_off(axes, evaluation, recall)),
            ),
            Plot(
                "Recall over the score threshold",
                "Bands are confidence intervals.",
                _drawn(lambda axes: _over_threshold(axes, evaluation, recall)),
            ),
        ]
    for category in evaluation.categories:
        rows = [row for row in evaluation.of_measure("false_negative_rate") if row.category == category]
        if rows:
            made.append(
                Plot(
                    f"Missed objects by attribute: {category}",
                    "False-negative rates with confidence intervals. Groups of few objects are hollow.",
                    _drawn(partial(_attributes, rows=rows, few=few), height=0.9 + 0.27 * len(rows)),
                )
            )
    return tuple(made)


def _drawn(draw: "Callable[[Axes], None]", height: float = 3.4) -> str:
    """The SVG of a figure, as a data URI."""
    keep_matplotlib_out_of_home()
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # Not pyplot, which would choose a window system and keep the figure.
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.add_subplot())
        data = io.BytesIO()
        # Without a date the same numbers give the same file.
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(data.getvalue()).decode("ascii")


def _label(text: str) -> str:
    """A name out of the annotation as matplotlib shows it as it is: no formula, not left out of the legend."""
    short = printable(text if len(text) <= _MAX_LABEL else f"{text[:_MAX_LABEL]}…").replace("$", r"\$")
    return f"\u200a{short}" if short.startswith("_") else short


def _name(category: str) -> str:
    return "all classes" if category == ALL else _label(category)


def _look(number: int) -> tuple[str, str]:
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]


def _errors(row: Row) -> tuple[list[float], list[float]]:
    """How far the interval reaches below and above, as `errorbar` takes it."""
    share = row.share or 0.0
    low, high = (share if end is None else end for end in (row.low, row.high))
    return [max(0.0, share - low)], [max(0.0, high - share)]


def _by_size(axes: "Axes", evaluation: Evaluation, measure: str, label: str) -> None:
    groups = (ALL, *SIZE_GROUPS)
    categories = (ALL, *evaluation.categories)
    for number, category in enumerate(categories):
        colour, marker = _look(number)
        shift = (number - (len(categories) - 1) / 2) * min(0.18, 0.75 / len(categories))
        rows = [(n, evaluation.row(measure, category, group)) for n, group in enumerate(groups)]
        for n, row in rows:
            if row.share is not None:
                axes.errorbar(
                    n + shift, row.share, yerr=_errors(row), color=colour, marker=marker, ms=5, capsize=2.5, lw=1.3
                )
        axes.plot([], [], color=colour, marker=marker, ls="", label=_name(category))
    axes.set_xticks(range(len(groups)), ["all sizes", *SIZE_GROUPS])
    axes.set_xlim(-0.5, len(groups) - 0.5)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(label)
    _legend_above(axes, len(categories))


def _legend_above(axes: "Axes", n: int) -> None:
    axes.figure.legend(loc="outside upper center", ncols=min(4, n), fontsize=9, handletextpad=0.3, columnspacing=1.2)


def _curve(evaluation: Evaluation, category: str) -> list[Row]:
    return [row for row in evaluation.of_measure("curve_recall") if row.category == category and row.share is not None]


def _trade_off(axes: "Axes", evaluation: Evaluation, wanted: float | None) -> None:
    """A detection error trade-off curve (Martin et al. 1997): both errors, on logarithmic axes."""
    over_blur = {row.threshold: row.share or 0.0 for row in evaluation.of_measure("curve_over_blur")}
    categories = (ALL, *evaluation.categories)
    for number, category in enumerate(categories):
        points = [(over_blur[row.threshold], 1 - (row.share or 0.0)) for row in _curve(evaluation, category)]
        # Zero has no place on a logarithmic axis.
        drawn = [point for point in points if min(point) > 0]
        colour, marker = _look(number)
        name = _name(category)
        axes.plot(
            *zip(*drawn, strict=True) if drawn else ([], []), color=colour, marker=marker, ms=4, lw=1.4, label=name
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    if (over := evaluation.row("over_blur").share) and (visible := 1 - (evaluation.row("pixel_recall").share or 0.0)):
        axes.plot(over, visible, marker="o", ms=12, mfc="none", mec="#222222", ls="")
        axes.annotate(
            "as configured", (over, visible), xytext=(-9, -14), textcoords="offset points", ha="right", fontsize=8.5
        )
    if wanted is not None and wanted < 1:
        _line(axes, 1 - wanted, f"{wanted:.0%} covered")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("over-blur")
    axes.set_ylabel("pixels left visible")
    _legend_above(axes, len(categories))


def _over_threshold(axes: "Axes", evaluation: Evaluation, wanted: float | None) -> None:
    categories = (ALL, *evaluation.categories)
    for number, category in enumerate(categories):
        rows = [row for row in _curve(evaluation, category) if row.threshold is not None]
        colour, marker = _look(number)
        at = [row.threshold or 0.0 for row in rows]
        shares = [row.share or 0.0 for row in rows]
        name = _name(category)
        axes.plot(at, shares, color=colour, marker=marker, ms=3.5, lw=1.4, label=name)
        lows = [share if row.low is None else row.low for row, share in zip(rows, shares, strict=True)]
        highs = [share if row.high is None else row.high for row, share in zip(rows, shares, strict=True)]
        axes.fill_between(at, lows, highs, color=colour, alpha=0.12, lw=0)
    if wanted is not None:
        _line(axes, wanted, f"{wanted:.0%} wanted")
    axes.set_xlabel("score threshold")
    axes.set_ylabel("covered pixels")
    _legend_above(axes, len(categories))


def _line(axes: "Axes", height: float, text: str) -> None:
    axes.axhline(height, color="#888888", lw=1, ls="--")
    axes.annotate(
        text,
        (1, height),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=8.5,
        color="#666666",
    )


def _attributes(axes: "Axes", rows: Sequence[Row], few: int) -> None:
    for n, row in enumerate(rows):
        fill = "white" if row.total < few else _COLOURS[1]
        axes.errorbar(
            row.share or 0.0, n, xerr=_errors(row), color=_COLOURS[1], marker="o", mfc=fill, ms=5, capsize=2.5, lw=1.3
        )
        if n and rows[n - 1].attribute != row.attribute:
            axes.axhline(n - 0.5, color="#cccccc", lw=0.8)
    axes.set_yticks(range(len(rows)), [_label(f"{row.attribute}: {row.value}") for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    # Room for the markers of groups of which none was missed.
    axes.set_xlim(left=-0.02 * axes.get_xlim()[1])
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("missed objects")
