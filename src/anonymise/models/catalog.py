"""The catalog of models: what each one is, where it comes from, and what its files must hash to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from anonymise.core import yamlfile
from anonymise.core.classes import COCO, label_of, unknown_classes
from anonymise.core.errors import ConfigError, ModelError

__all__ = [
    "AnchorsOutput",
    "CenterFaceOutput",
    "DetectorModel",
    "DynamicSize",
    "FolderSource",
    "Input",
    "InstanceModel",
    "Model",
    "NanoDetOutput",
    "NpmSource",
    "Output",
    "PipSource",
    "RowsOutput",
    "ScalableSize",
    "Source",
    "SsdOutput",
    "UrlSource",
    "YoloOutput",
    "load_catalog",
]

_Positive = Annotated[int, Field(gt=0)]
_Triple = tuple[float, float, float]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UrlSource(_Entry):
    """Files that lie side by side under a public address, which ends with a slash."""

    url: Annotated[str, Field(pattern=r"^https?://.+/$")]

    def __str__(self) -> str:
        return self.url


class NpmSource(_Entry):
    """Files in a folder of a package, ``name@version``, that the ordinary npm client fetches."""

    npm: Annotated[str, Field(pattern=r"^(@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*@[0-9][A-Za-z0-9.+-]*$")]
    folder: str

    def __str__(self) -> str:
        return f"npm package {self.npm}"


class PipSource(_Entry):
    """Files in a folder of a wheel, ``name==version``, that the ordinary pip client fetches."""

    pip: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[0-9][A-Za-z0-9.+!-]*$")]
    folder: str

    def __str__(self) -> str:
        return f"Python package {self.pip}"


class FolderSource(_Entry):
    """Files in a folder of this computer."""

    path: str = Field(min_length=1)

    def __str__(self) -> str:
        return f"folder {self.path}"


Source = UrlSource | NpmSource | PipSource | FolderSource


class DynamicSize(_Entry):
    """The size of the input of a network that takes pictures of many sizes.

    Attributes:
        multiple_of: width and height must be multiples of this.
        max_pixels: images with more are made smaller, because the memory that the network needs grows with them.
    """

    multiple_of: _Positive
    max_pixels: _Positive


class ScalableSize(_Entry):
    """The size of the input of a network that looks for the same objects in pictures of any shape and size.

    Images are enlarged or made smaller to the area of the nominal size, and keep their shape: nothing is wasted on
    padding. ``input_scales`` multiplies the sides, for objects that are smaller in the image.

    Attributes:
        multiple_of: width and height must be multiples of this.
        nominal: (width, height) for which the network was exported.
    """

    multiple_of: _Positive
    nominal: tuple[_Positive, _Positive]


class Input(_Entry):
    """What a detector takes.

    Attributes:
        name: name of the input in the network; None for the only one.
        size: (width, height), or which sizes it takes, and how they follow from the image's.
        scales: multiples of the sides at which the network sees each picture, for networks that take many sizes;
            None is ``input_scales`` of the configuration.
        layout: order of the axes.
        colors: order of the channels.
        mean: what is subtracted from each channel, in the order of ``colors``, on the scale 0 to 255.
        deviation: what each channel is then divided by.
        fit: ``stretch`` gives the image the size of the input, ``letterbox`` keeps its shape and pads it.
        padding: grey value of what is padded, 0 to 255.
        batches: whether the network takes several pictures at once; if not, it gets them one by one.
    """

    name: str | None
    size: tuple[_Positive, _Positive] | DynamicSize | ScalableSize
    scales: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] | None = None
    layout: Literal["NHWC", "NCHW"]
    colors: Literal["RGB", "BGR"]
    mean: _Triple = (0, 0, 0)
    deviation: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (
        1,
        1,
        1,
    )
    fit: Literal["stretch", "letterbox"]
    padding: int = Field(ge=0, le=255, default=0)
    batches: bool = False

    @model_validator(mode="after")
    def _scales_for_open_sizes(self) -> "Input":
        if self.scales is not None and isinstance(self.size, tuple):
            raise ValueError("scales: the network takes pictures of one size only")
        return self

    @property
    def is_normalised(self) -> bool:
        """Whether the network wants anything else than the grey values 0 to 255."""
        return any(self.mean) or any(value != 1 for value in self.deviation)


class SsdOutput(_Entry):
    """Anchors that the network decodes itself: ``scores`` (1, n, classes), without a background, and ``boxes``.

    ``boxes`` (1, n, 4) or (n, 4) are [ymin, xmin, ymax, xmax] as shares of the input.
    """

    layout: Literal["ssd"]
    scores: str
    boxes: str

    @property
    def names(self) -> tuple[str, ...]:
        """The network's outputs, in the order in which they are decoded."""
        return self.scores, self.boxes


class NanoDetOutput(_Entry):
    """For each stride ``scores`` (1, cells, classes) and ``distances`` (1, cells, 4 × bins).

    The expectation over the bins, times the stride, is the distance from the middle of the cell to the left, top, right
    and bottom edge of the box (generalised focal loss, Li et al. 2020; NanoDet). The scores are sigmoids already.
    """

    layout: Literal["nanodet"]
    strides: tuple[_Positive, ...] = Field(min_length=1)
    scores: tuple[str, ...]
    distances: tuple[str, ...]

    @model_validator(mode="after")
    def _one_each(self) -> "NanoDetOutput":
        if not len(self.scores) == len(self.distances) == len(self.strides):
            raise ValueError("scores and distances need one output for each stride")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The network's outputs, in the order in which they are decoded."""
        return self.scores + self.distances


class CenterFaceOutput(_Entry):
    """``heatmap`` (1, classes, height, width), and for each of its cells ``scale`` and ``offset`` (1, 2, …).

    ``scale`` is the logarithm of the box's height and width, ``offset`` the way down and right from the middle of the
    cell to that of the box, both in cells (CenterFace, Xu et al. 2019).
    """

    layout: Literal["centerface"]
    stride: _Positive
    heatmap: str
    scale: str
    offset: str

    @property
    def names(self) -> tuple[str, ...]:
        """The network's outputs, in the order in which they are decoded."""
        return self.heatmap, self.scale, self.offset


class YoloOutput(_Entry):
    """One tensor (1, n, 4 + classes), a box [x, y, width, height] around its middle in pixels of the input, and scores.

    Attributes:
        tensor: name of the output; None for the only one.
        objectness: whether a score for any object stands between box and classes, by which theirs are multiplied
            (YOLOv5), or not (YOLOv8, v9).
        transposed: whether the tensor is (1, 4 + classes, n).
    """

    layout: Literal["yolo"]
    tensor: str | None
    objectness: bool
    transposed: bool

    @property
    def names(self) -> tuple[str | None, ...]:
        """The network's outputs, in the order in which they are decoded."""
        return (self.tensor,)


class RowsOutput(_Entry):
    """One tensor (n, 7): number in the batch, [xmin, ymin, xmax, ymax] in pixels of the input, class, score.

    Networks that were exported with their non-maximum suppression ("end to end") give it.
    """

    layout: Literal["rows"]
    tensor: str | None

    @property
    def names(self) -> tuple[str | None, ...]:
        """The network's outputs, in the order in which they are decoded."""
        return (self.tensor,)


class AnchorsOutput(_Entry):
    """Offsets to anchors (RetinaFace, Deng et al. 2020, and others after SSD): ``scores`` and ``offsets`` (1, n, 4).

    ``scores`` (1, n, 1 + classes) are probabilities, the background's first. Each cell of each stride, row by row, has
    one square anchor for each of the stride's sides. A box is [x, y, width, height] around its middle: the middle is
    the anchor's plus offset times ``variances[0]`` times the anchor's side; width and height are that side times
    exp(offset times ``variances[1]``).

    Attributes:
        strides: side of a cell in pixels, in the order of the rows of the outputs.
        sides: sides of the anchors in pixels, for each of the strides.
        variances: what the offsets of the middle and those of the size are multiplied by.
    """

    layout: Literal["anchors"]
    scores: str
    offsets: str
    strides: tuple[_Positive, ...] = Field(min_length=1)
    sides: tuple[Annotated[tuple[_Positive, ...], Field(min_length=1)], ...]
    variances: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _sides_for_each(self) -> "AnchorsOutput":
        if len(self.sides) != len(self.strides):
            raise ValueError("sides needs a list of anchors for each stride")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The network's outputs, in the order in which they are decoded."""
        return self.scores, self.offsets


Output = SsdOutput | NanoDetOutput | CenterFaceOutput | YoloOutput | RowsOutput | AnchorsOutput


class _Model(_Entry):
    summary: str
    licence: str
    sources: tuple[Source, ...] = Field(min_length=1)
    files: Mapping[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None] = Field(min_length=1)


class DetectorModel(_Model):
    """A network that finds boxes: a TensorFlow.js graph model or an ONNX file.

    Attributes:
        network: the file that describes it; its ending says which.
        rewire: for TensorFlow.js: node name → node name; see `tfjs.convert`.
        classes: what its columns of scores stand for: ``coco-80`` (the classes in use), ``coco-90`` (column = id - 1),
            or a name for each column, None for classes of no interest.
        self_test: what it is known to find in the picture of `selftest`.
    """

    kind: Literal["detector"]
    network: Annotated[str, Field(pattern=r"\.(json|onnx)$")]
    rewire: Mapping[str, str] = Field(default_factory=dict)
    classes: Literal["coco-80", "coco-90"] | tuple[str | None, ...]
    input: Input
    output: Annotated[Output, Field(discriminator="layout")]
    self_test: tuple[Literal["car", "person"], ...] = ()

    @field_validator("classes")
    @classmethod
    def _known(cls, classes: str | tuple[str | None, ...]) -> str | tuple[str | None, ...]:
        names = () if isinstance(classes, str) else tuple(name for name in classes if name is not None)
        if problem := unknown_classes(*names):
            raise ValueError(problem)
        return classes

    @model_validator(mode="after")
    def _network_is_fetched(self) -> "DetectorModel":
        if self.network not in self.files:
            raise ValueError(f"network: {self.network} is not among the files")
        return self

    @property
    def is_onnx(self) -> bool:
        """Whether it is an ONNX file."""
        return self.network.endswith(".onnx")

    @property
    def columns(self) -> tuple[int | None, ...]:
        """The class id of each column of scores; None for classes of no interest."""
        if self.classes == "coco-80":
            return tuple(COCO)
        if self.classes == "coco-90":
            return tuple(number if number in COCO else None for number in range(1, max(COCO) + 1))
        return tuple(None if name is None else label_of(name) for name in self.classes)

    @property
    def labels(self) -> frozenset[int]:
        """The class ids that it finds."""
        return frozenset(label for label in self.columns if label is not None)


class InstanceModel(_Model):
    """A SavedModel with the signature of the Object Detection API and COCO's classes, fetched as one archive."""

    kind: Literal["instances"]

    @property
    def labels(self) -> frozenset[int]:
        """The class ids that it finds."""
        return frozenset(COCO)


Model = DetectorModel | InstanceModel


class _Catalog(_Entry):
    models: Mapping[str, Annotated[Model, Field(discriminator="kind")]]


def load_catalog(file: Path) -> Mapping[str, Model]:
    """All models of a catalog file by name; see the comments in ``models/catalog.yml``.

    Raises:
        ModelError: the file cannot be read or is no catalog.
    """
    try:
        return _Catalog.model_validate(yamlfile.load(file)).models
    except (OSError, ConfigError, ValidationError) as error:
        raise ModelError(f"The model catalog {file} cannot be used: {error}") from error
