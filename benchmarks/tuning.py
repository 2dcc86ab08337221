"""Chooses how strict the second look is, by a written rule, and says what that gives on sets that had no say.

    python -m benchmarks.tuning [-k CONFIG.yml ...] [--set KEY=VALUE ...] [--shared FOLDER]

People and vehicles are tuned apart. For each value of ``verify_sum`` the recall of pixels is averaged over the sets in
which at least ten such objects are labelled, and the false finds an image over all sets, each set counting alike. The
rule: of the values whose recall is less than a tolerance below the best of the grid, the one with the fewest false
finds; of those alike, the lowest. The tolerance is what the presets differ in. In the cross-validation each set is left
out once; the rule chooses with the others, and what counts are the recall and the false finds of the set left out.

The networks see each image once; what the second look says is remembered, too. The sets are those of
`benchmarks.accuracy`.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from anonymise import config
from anonymise.anonymiser import model_source, read_image
from anonymise.evaluation.finders import Memory
from anonymise.models import load_masker
from benchmarks.accuracy import COMPLETE, EMPTY, annotated_of, tally_of
from benchmarks.shared import SHARED

_SUMS = (0.28, 0.32, 0.36, 0.4, 0.45, 0.5, 0.55, 0.6)
_KINDS = {"person": ("person",), "vehicle": ("vehicle",)}
_TOLERANCES = {"careful": 0.0012, "balanced": 0.003, "signs stay": 0.015}
_MIN_OBJECTS = 10

_Cell = tuple[float, float]
"""Recall (NaN where too little is labelled) and false finds an image."""


def main() -> None:
    """Prints the grid, the choice for each preset, and the cross-validation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-k", "--config", type=Path, action="append", metavar="CONFIG.yml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder of the shared pictures")
    arguments = parser.parse_args()
    files = arguments.config or [Path("lite_config.yml")]
    sets = {name: annotated_of(name, arguments.shared, files, arguments.set) for name in COMPLETE}
    if not all(sets.values()):
        raise SystemExit(f"Nothing is tuned: {arguments.shared} lacks measuring sets (--shared, ANONYMISE_SHARED).")
    settings = config.load(files, arguments.set)
    masker = load_masker(settings.model, progress=False)
    for kind, targets in _KINDS.items():
        grid: dict[str, list[_Cell]] = {}
        for name, images in sets.items():
            rows, n_objects = [], 0
            for file, annotated in images:
                image = read_image(file.read_bytes(), settings, name=file.name)
                memory = Memory(masker, takes_pictures=settings.windows.mirror_image)
                cells = []
                for total in _SUMS:
                    options = settings.model.model_copy(update={"targets": targets, "verify_sum": total})
                    memory.options = options
                    model = model_source(memory, replace(settings, model=options))
                    tally = tally_of(model.of(image.name).find(image), settings, annotated)
                    own = tally.pixels[:1] if kind == "person" else tally.pixels[1:4]
                    cells.append((*own.sum(axis=0), tally.false.sum()))
                rows.append(cells)
                n_objects += sum(thing.is_person is (kind == "person") for thing in tally.things)
            hit, all_of, false = np.array(rows, float).sum(axis=0).T
            shares = hit / all_of if n_objects >= _MIN_OBJECTS else np.full(len(_SUMS), np.nan)
            grid[name] = [*zip(shares.tolist(), (false / len(images)).tolist(), strict=True)]
        _print(kind, grid)


def _print(kind: str, grid: Mapping[str, Sequence[_Cell]]) -> None:
    print(f"\n{kind}: recall / false finds an image\n")
    print("| set | " + " | ".join(map(str, _SUMS)) + " |")
    print("|" + " --- |" * (len(_SUMS) + 1))
    for name, cells in (*grid.items(), ("all", _means(grid))):
        print(f"| {name} | " + " | ".join(_text(cell) for cell in cells) + " |")
    print("\n| preset | verify_sum | with each set left out | recall, false there | the same, on empty roads |")
    print("| --- | --- | --- | --- | --- |")
    for preset, tolerance in _TOLERANCES.items():
        chosen = {
            left_out: _choice({name: cells for name, cells in grid.items() if name != left_out}, tolerance)
            for left_out in grid
        }
        at = {name: grid[name][number] for name, number in chosen.items()}
        labelled = np.array([cell for name, cell in at.items() if name not in EMPTY])
        empty = np.mean([at[name][1] for name in EMPTY])
        print(
            f"| {preset} | {_SUMS[_choice(grid, tolerance)]} | {', '.join(str(_SUMS[n]) for n in chosen.values())} | "
            f"{np.nanmean(labelled[:, 0]):.3f}, {labelled[:, 1].mean():.2f} | {empty:.2f} |"
        )


def _means(grid: Mapping[str, Sequence[_Cell]]) -> list[_Cell]:
    table = np.array([*grid.values()])
    return [*zip(np.nanmean(table[..., 0], axis=0).tolist(), table[..., 1].mean(axis=0).tolist(), strict=True)]


def _choice(grid: Mapping[str, Sequence[_Cell]], tolerance: float) -> int:
    """The position of the value that the rule chooses."""
    recall, false = np.array(_means(grid)).T
    allowed = np.flatnonzero(recall >= recall.max() - tolerance)
    return int(allowed[np.argmin(false[allowed])])


def _text(cell: _Cell) -> str:
    recall, false = cell
    return f"{false:.2f}" if np.isnan(recall) else f"{recall:.3f} / {false:.2f}"


if __name__ == "__main__":
    main()
