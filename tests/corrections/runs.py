"""Folders with pictures, a store of corrections, and the runs over them."""

import json
from pathlib import Path

import numpy as np

from anonymise import config
from anonymise.batch import runs as pipeline
from anonymise.batch import storage
from anonymise.batch.paths import Places
from anonymise.batch.workers import SerialWorkers
from anonymise.config import Config
from anonymise.core.detections import Box
from anonymise.corrections.store import Correction, Store
from tests.fakes import Ran, RedMasker, read_image, write_image

SPOT = Box(5, 5, 55, 55)


class Folders:
    """A folder with input, output, archive and store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.input, self.output, self.archive = folder / "in", folder / "out", folder / "archive"
        self.input.mkdir(exist_ok=True)
        self.store_folder = folder / "store"
        Store(self.store_folder, create=True).close()

    def settings(self, *overrides: str, store: bool = True) -> Config:
        few = [
            "mask_dilation_pixels=0",
            "enable_async=False",
            "file_access_timeout_seconds=0",
            "archive_instances=True",
        ]
        few += ["appearance=color", "mask_color=[255, 0, 255]"]  # which occurs in no picture here
        named = [f"corrections={json.dumps(str(self.store_folder))}"] if store else []
        return config.load(overrides=[*few, *named, *overrides], has_archive=True)

    def run(
        self, *overrides: str, store: bool = True, masker: RedMasker | None = None, only: frozenset[str] | None = None
    ) -> Ran:
        loaded = self.settings(*overrides, store=store)
        places = self.places(only)
        for root in places.results:
            storage.prepare_root(root)
        ran = Ran()
        ran.report = pipeline.anonymise(loaded, places, masker or RedMasker(), SerialWorkers(), ran)
        return ran

    def places(self, only: frozenset[str] | None = None) -> Places:
        return Places(self.input, self.output, self.archive, only=only)

    def redraw(self, *overrides: str, output: str = "out", store: bool = True) -> Ran:
        storage.prepare_root(self.folder / output)
        ran = Ran()
        places = Places(self.archive, self.folder / output)
        loaded = self.settings("archive_instances=False", *overrides, store=store)
        ran.report = pipeline.redraw(loaded, places, SerialWorkers(), ran)
        return ran

    def put(self, name: str, box: Box = SPOT, size: tuple[int, int] = (160, 120), **values: object) -> str:
        given = {"kind": "add", "category": "other", "source": "external", "batch": "b", "author": "a", **values}
        shape = given.pop("shape", None) or {"box": [box.left, box.top, box.width, box.height]}
        row = Correction(relative=name, width=size[0], height=size[1], shape=json.dumps(shape), **given)  # type: ignore[arg-type]
        with Store(self.store_folder) as store:
            return store.add([row], "tester")[0]

    def undo(self, *ids: str) -> None:
        with Store(self.store_folder) as store:
            store.undo("tester", ids=ids)

    def status(self, id_: str) -> str:
        with Store(self.store_folder) as store:
            return store.select("id = ?", [id_])[0].status

    def published(self) -> dict[str, bytes]:
        files = self.output.rglob("*.jpg"), self.output.rglob("*.png")
        return {file.relative_to(self.output).as_posix(): file.read_bytes() for found in files for file in found}

    def n_original(self, name: str, box: Box = SPOT) -> int:
        """Number of pixels of a box that are published as they were; PNG, so that no codec changes any."""
        first, second = (read_image(tree / name)[box.slices] for tree in (self.input, self.output))
        return int(np.count_nonzero((first == second).all(axis=2)))

    def write(self, name: str, picture: np.ndarray) -> Path:
        return write_image(self.input / name, picture)


def noise(size: tuple[int, int] = (160, 120), seed: int = 0) -> np.ndarray:
    """A grey picture (width, height) that is another one in every pixel, in which nobody finds anything."""
    random = np.random.default_rng(seed)
    grey = random.integers(0, 256, (size[1], size[0], 1), np.uint8)
    return np.repeat(grey, 3, axis=2)
