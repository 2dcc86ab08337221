"""The mask of what is hidden in every image of a run, such as the bonnet of the car or a watermark."""

import hashlib
from pathlib import Path

from anonymise.core.detections import Detections, Size
from anonymise.core.errors import ImageError, UsageError
from anonymise.images import decode
from anonymise.redaction.appearance import StaticMaskOptions
from anonymise.redaction.regions import static_mask

__all__ = ["StaticMask"]


class StaticMask:
    """Black areas of a picture, which are hidden in images of any size or of its own size only.

    Attributes:
        fingerprint: text that changes with the content of the file.

    Raises:
        UsageError: the file cannot be read.
    """

    def __init__(self, file: Path, *, resize: bool, max_pixels: int) -> None:
        try:
            if file.exists() and not file.is_file():  # a pipe would be waited for
                raise UsageError(f"static_mask {file} cannot be read: it is no regular file")
            content = file.read_bytes()
            self._keep = decode(content, max_pixels=max_pixels).pixels.max(axis=2)
        except OSError as error:
            raise UsageError(f"static_mask {file} cannot be read: {error.strerror or error}") from error
        except ImageError as error:
            raise UsageError(f"static_mask {file} cannot be read: {error}") from error
        self.fingerprint = hashlib.sha256(content).hexdigest()
        self._resize = resize
        self._of_size: dict[Size, Detections] = {}

    @classmethod
    def of_options(cls, options: StaticMaskOptions, max_pixels: int) -> "StaticMask | None":
        """The static mask that the configuration names; None where it names none.

        Raises:
            UsageError: the file cannot be read.
        """
        if options.static_mask is None:
            return None
        return cls(Path(options.static_mask), resize=options.static_mask_resize, max_pixels=max_pixels)

    def of(self, size: Size) -> Detections:
        """The areas that are hidden in images of a size.

        Raises:
            DrawError: the mask has another size, and may not be scaled.
        """
        if size not in self._of_size:
            self._of_size[size] = static_mask(self._keep, size, resize=self._resize)
        return self._of_size[size]
