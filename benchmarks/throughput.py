"""Speed and memory of the whole program, and of each stage alone: ``python -m benchmarks.throughput [CASE ...]``.

Cases (all of them, if none is named):

    road     40 images of 2692x1032 with Lite, without windows and with windows of all scales, and with lite_config.yml
    pano     panoramas of 8192x4096, covered completely by views and by flat windows (config/360_lite_config.yml)
    slow     road images with a model that takes a second an image, on all cores
    workers  road images with 1 to N worker processes

Street images are drawn; the panoramas are the two of the shared measuring pictures where they are there
(ANONYMISE_SHARED), else drawn. A panorama is repeated, so that the pipeline comes to its steady state.

Columns: seconds from the start to the first finished image; images/s, by the difference between a run over all images
and one over a quarter of them, which is neither flattered by what is under way when the first is finished nor marred by
the start; wall time of the whole run and CPU time of all its processes; memory of all processes together; and the wall
time of each image as a multiple of the CPU time of all stages measured alone, shared by all cores (1.0 is no idle core
and no work twice).
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2

from anonymise.core.detections import RgbImage, Size
from benchmarks.process import Run, run
from benchmarks.shared import SHARED
from benchmarks.stages import Cost, measure_stages
from samples.scene import draw_panorama, draw_street

_ROAD = Size(2692, 1032)
_PANORAMA = Size(8192, 4096)
_N_CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_DONE_FOR_EACH = ("decode", "detect", "draw", "rewrite", "record")
_TWO_MORE_SCALES = ("use_cutouts=True", "cutout_dim_downscale=[[1.75,1.75],[2.5,2.5]]", "cutout_overlap=0.25")
_THREE_SCALES = "cutout_dim_downscale=[[2.667,4],[5.333,8],[9.333,14]]"


class Row(NamedTuple):
    """A run that is measured.

    Attributes:
        name: in the table.
        source: folder with the images.
        config: an overlay of the configuration.
        overrides: ``KEY=VALUE``.
    """

    name: str
    source: Path
    config: str
    overrides: tuple[str, ...] = ()


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", nargs="*", choices=[[], *_CASES], metavar="CASE", help=", ".join(_CASES))
    parser.add_argument("--images", type=int, default=40, help="road images; a fifth as many panoramas")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with the shared pictures")
    arguments = parser.parse_args()
    print(f"{arguments.images} road images, {_N_CORES} CPU cores")
    with tempfile.TemporaryDirectory() as folder:
        for case in arguments.case or _CASES:
            _CASES[case](Path(folder), arguments.images, arguments.shared)


def _road(folder: Path, n_images: int, _shared: Path) -> None:
    source = _drawn_street(folder, n_images)
    config = "config/lite_config.yml"
    rows = [
        Row("road, Lite, full image only", source, config, ("model_type=Lite",)),
        Row("road, Lite, windows, three scales", source, config, ("model_type=Lite", *_TWO_MORE_SCALES)),
        Row("road, lite_config.yml", source, config),
        Row("the same in one process", source, config, ("enable_async=False",)),
    ]
    _print_table(rows, folder, n_images)


def _panoramas(folder: Path, n_images: int, shared: Path) -> None:
    source = folder / "pano"
    source.mkdir()
    n_panoramas = max(2, n_images // 5)
    originals = sorted(shared.glob("images/pano/*.jpg")) or list(_drawn_panoramas(folder))
    for n in range(n_panoramas):
        shutil.copyfile(originals[n % len(originals)], source / f"{n:04}.jpg")
    config = "config/360_lite_config.yml"
    rows = [
        Row("panorama, views", source, config),
        Row("panorama, flat windows", source, config, ("view_fov=[]", "use_cutouts=True", _THREE_SCALES)),
    ]
    _print_table(rows, folder, n_panoramas)


def _slow_model(folder: Path, n_images: int, _shared: Path) -> None:
    from tests.models import savedmodel

    model = savedmodel.build(folder / "slow_model", n_products=60)
    source = _drawn_street(folder, max(4, n_images // 4))
    row = Row("slow model", source, "config/lite_config.yml", (f"model_type={model.as_posix()}",))
    measured, each_s = _run(row, folder / "slow")
    costs = measure_stages(sorted(source.iterdir())[:3], row.config, row.overrides)
    print(_TITLES)
    print(_line(row.name, measured, each_s, costs))
    print(f"{'':34}an image takes {each_s / costs['model'].wall_s:.2f} times what the model alone takes\n")


def _workers(folder: Path, n_images: int, _shared: Path) -> None:
    source = _drawn_street(folder, n_images)
    rows = [
        Row(f"{n} workers", source, "config/lite_config.yml", ("model_type=Lite", f"max_num_async_workers={n}"))
        for n in range(1, max(2, _N_CORES) + 1)
    ]
    _print_table(rows, folder, n_images)


_CASES: dict[str, Callable[[Path, int, Path], None]] = {
    "road": _road,
    "pano": _panoramas,
    "slow": _slow_model,
    "workers": _workers,
}

_TITLES = f"{'':34}{'first s':>9}{'images/s':>10}{'wall s':>8}{'CPU s':>8}{'MiB':>7}{'of bound':>10}"


def _print_table(rows: Sequence[Row], folder: Path, n_images: int) -> None:
    stages: dict[tuple[str, ...], dict[str, Cost]] = {}
    print(_TITLES)
    for row in rows:
        # How the work is spread over processes does not change what it is.
        key = tuple(key for key in row.overrides if "async" not in key)
        if key not in stages:
            stages[key] = measure_stages(sorted(row.source.iterdir())[: min(4, n_images)], row.config, key)
        output = folder / row.name.replace(" ", "_").replace(",", "")
        print(_line(row.name, *_run(row, output), stages[key]), flush=True)
        shutil.rmtree(output)
    print()
    for key, costs in stages.items():
        print(f"stages alone, ms of wall time (of CPU time) an image{', ' + ' '.join(key) if key else ''}:")
        print("  " + ", ".join(f"{s} {1000 * c.wall_s:.0f} ({1000 * c.cpu_s:.0f})" for s, c in costs.items()) + "\n")


def _run(row: Row, output: Path) -> tuple[Run, float]:
    """A run over all images of a row, and the seconds that each takes beyond a run over a quarter of them."""
    files = sorted(row.source.iterdir())
    few = files[: max(1, len(files) // 4)]
    quarter = output.with_name(f"{output.name}_quarter")
    quarter.mkdir()
    for file in few:
        shutil.copyfile(file, quarter / file.name)
    short = run(quarter, output.with_name(f"{output.name}_quarter_out"), row.config, row.overrides)
    measured = run(row.source, output, row.config, row.overrides)
    return measured, (measured.wall_s - short.wall_s) / (len(files) - len(few))


def _line(name: str, measured: Run, each_s: float, costs: dict[str, Cost]) -> str:
    bound_s = sum(costs[stage].cpu_s for stage in _DONE_FOR_EACH) / _N_CORES
    return (
        f"{name:34}{measured.first_s:>9.1f}{1 / each_s:>10.2f}{measured.wall_s:>8.1f}{measured.cpu_s:>8.1f}"
        f"{measured.peak_mib:>7.0f}{each_s / bound_s:>10.2f}"
    )


def _drawn_street(folder: Path, n: int) -> Path:
    source = folder / f"street_{n}"
    if not source.is_dir():
        source.mkdir()
        for seed in range(n):
            _write(draw_street(seed, _ROAD, cars=4, people=4), source / f"{seed:04}.jpg")
    return source


def _drawn_panoramas(folder: Path) -> Iterator[Path]:
    for seed in range(2):
        _write(draw_panorama(seed, _PANORAMA).image, folder / f"drawn_{seed}.jpg")
        yield folder / f"drawn_{seed}.jpg"


def _write(picture: RgbImage, file: Path) -> None:
    cv2.imwrite(str(file), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


if __name__ == "__main__":
    main()
