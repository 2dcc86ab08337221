"""The end of ``make demo``: what was found in each picture, and a sheet of pictures before and after.

python -m samples.demo SHEET IN OUT [IN OUT ...]
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np

from anonymise.core.detections import RgbImage
from samples.contact_sheet import contact_sheet

_WIDTH = 1600


def main(sheet: Path, *folders: Path) -> None:
    """Prints what the records say was found, writes the sheet, and says where everything is."""
    pairs = []
    for originals, results in zip(folders[::2], folders[1::2], strict=True):
        # The pictures lead, as there are more kinds of files among the results, some of them JSON like the records.
        for image in sorted(originals.rglob("*.*")):
            after = results / image.relative_to(originals)
            record_file = after.with_suffix(".json")
            if image.suffix not in (".jpg", ".png") or not (after.is_file() and record_file.is_file()):
                continue
            found = json.loads(record_file.read_text("utf-8"))["detekterte_objekter"] or {}
            text = ", ".join(f"{count} {name}" for name, count in found.items()) or "nothing"
            print(f"{image.relative_to(originals)}: {text}")
            pairs.append((_read(image), _read(after), f"{image.name}: {text}"))
    if not pairs:
        sys.exit("There is no picture with a result.")
    picture = contact_sheet(pairs, _WIDTH)
    done, data = cv2.imencode(sheet.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    assert done
    sheet.write_bytes(data.tobytes())
    print("\nImages, previews, masks and records: " + ", ".join(str(folder) for folder in folders[1::2]))
    print(f"Before and after: {sheet.absolute()}")


def _read(path: Path) -> RgbImage:
    decoded = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    picture: RgbImage = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return picture


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
