"""How many JSON records per second: ``python -m benchmarks.records [--images FOLDER]``.

Each record is the whole job: read the file, its size and metadata, build the record, write it. No pixel is decoded.
Where there is no such folder and no shared road images, it draws images of that size with the recorder's XML.
"""

import argparse
import io
import shutil
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from anonymise.images import embedded
from anonymise.metadata import ImageSource, read_metadata
from anonymise.metadata.record import RecordOptions, build_record, dumps
from benchmarks.shared import SHARED

__all__ = ["draw_images", "main", "write_record"]


_ROAD_SIZE = (2692, 1032)
"""Width and height of the recorders' planar images."""

_PROPERTIES = """\ufeff<?xml version="1.0" encoding="utf-8"?><ImageProperties Date="2020-06-02T09:42:{second:06.3f}">\
<ImageName>C:\\DATA\\FV00013\\S1\\D1\\F1_2020_06_02\\FV00013_S1D1_m{meter:05d}_f1.jpg</ImageName><Speed>12.5</Speed>\
<Heading>302.295333221872</Heading><VegComValues><VCArea>DRAGSVIK</VCArea><VCCountyNo>46</VCCountyNo>\
<VCRoad>FV013</VCRoad><VCHP>S1D1</VCHP><VCLaneName>1</VCLaneName><VCMeter>{meter}.344072423939158</VCMeter></VegComValues>\
<GeoTag><dLatitude>61.214710343813685</dLatitude><dLongitude>6.5663939242382572</dLongitude>\
<dAltitude>48.856250803013438</dAltitude></GeoTag><Surroundings><Driver>Kari Nordmann</Driver><CarID>EK12345</CarID>\
<Comment>Generell</Comment></Surroundings></ImageProperties>"""

_OPTIONS = RecordOptions(
    data_eier=None,
    fylkesnummer=None,
    force_fylke=False,
    image_type="Planar",
    exif_mappenavn="Vegbilder/{relative_input_dir}",
    exif_top_dir="tilSladding",
    remove_imagetype_filepath=False,
    flip_wkt=False,
    application_version="0.2",
    table_name=None,
    table_primary_key=None,
    position_sidecar=None,
    position_sidecar_clock_offset_seconds=0,
)


def write_record(image: Path, output: Path) -> None:
    """Write the record of an image file."""
    data = image.read_bytes()
    with Image.open(io.BytesIO(data)) as header:  # reads the header only
        size = header.size
    metadata = read_metadata(embedded(data), ImageSource.of(image, size))
    record = build_record(metadata, detections=None, preview_name=None, version="P0.2_K20220101", options=_OPTIONS)
    output.write_text(dumps(record), encoding="utf-8")


def draw_images(folder: Path, count: int = 4) -> list[Path]:
    """Road-sized JPEGs of noise, about as large in bytes as real ones, with the recorder's XML."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(1).normal(110, 25, (*_ROAD_SIZE[::-1], 3)).clip(0, 255).astype(np.uint8)
    paths = []
    for number in range(count):
        exif = Image.Exif()
        exif[40055] = _PROPERTIES.format(second=float(number), meter=14 + 20 * number).encode("utf-8")
        paths.append(folder / f"FV00013_S1D1_m{14 + 20 * number:05d}_f1.jpg")
        Image.fromarray(noise).save(paths[-1], quality=75, exif=exif)
    return paths


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.records", description=__doc__)
    parser.add_argument("--images", type=Path, default=SHARED / "images" / "road", help="folder with JPEG files")
    parser.add_argument("--records", type=int, default=2000, help="records to write in each run (default: 2000)")
    arguments = parser.parse_args(argv)
    folder = Path(tempfile.mkdtemp())
    try:
        images = sorted(arguments.images.rglob("*.jpg")) or draw_images(folder / "tilSladding" / "2020" / "FV00013")
        jobs = [(images[n % len(images)], folder / f"{n}.json") for n in range(arguments.records)]
        mean_kib = sum(image.stat().st_size for image in images) / len(images) / 1024
        print(f"{len(images)} images of {mean_kib:.0f} KiB, {len(jobs)} records in each run\n")
        print("processes   records/s   ms/record")
        for processes in (1, 2):
            seconds = _measure(jobs, processes)
            print(f"{processes:9d} {len(jobs) / seconds:11.0f} {1000 * seconds * processes / len(jobs):11.2f}")
    finally:
        shutil.rmtree(folder)


def _measure(jobs: Sequence[tuple[Path, Path]], processes: int) -> float:
    """Seconds for all jobs, without the start of the processes."""
    if processes == 1:
        started = time.perf_counter()
        _write_all(jobs)
        return time.perf_counter() - started
    shares = [jobs[n::processes] for n in range(processes)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        list(pool.map(_write_all, [share[:1] for share in shares] * 2))  # imports happen here
        started = time.perf_counter()
        list(pool.map(_write_all, shares))
        return time.perf_counter() - started


def _write_all(jobs: Sequence[tuple[Path, Path]]) -> None:
    for image, output in jobs:
        write_record(image, output)


if __name__ == "__main__":
    main()
