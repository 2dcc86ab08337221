"""The keys of the configuration about the model."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, field_validator

from anonymise.core.classes import LABELS, TARGETS, label_of, labels_of_target, unknown_classes
from anonymise.core.section import Section

__all__ = ["ModelOptions", "Runtime", "of_class"]

Runtime = Literal["auto", "tensorflow", "openvino"]
Target = Literal["person", "vehicle", "face", "plate"]

_Name = Annotated[str, Field(min_length=1)]
_Score = Annotated[float, Field(gt=0, lt=1)]
_Sum = Annotated[float, Field(gt=0, lt=2)]
_Share = Annotated[float, Field(ge=0, le=1)]

_DEFAULT = "default"
"""In a value that is given by class: what the classes have that are not named."""


class ModelOptions(Section):
    """Keys of the configuration that choose the models and what they look for."""

    model_type: _Name | Annotated[tuple[_Name, ...], Field(min_length=1)]
    """Model, or a list of models that all look at each image: a name of `models/catalog.yml`, or the folder (with a
    slash) of a SavedModel with the signature of TensorFlow's Object Detection API.
    """

    model_folder: str | None
    """Folder of the fetched models; null is `models/` in a checkout, else the user's cache folder."""

    targets: tuple[Target, ...] = Field(min_length=1)
    """What is hidden. `vehicle` is bicycle, car, motorcycle, bus and truck; `plate` is looked for within vehicles."""

    mask_classes: Annotated[tuple[str, ...], Field(min_length=1)] | None
    """Classes that are hidden instead of those that `targets` stands for; null uses `targets`."""

    score_threshold: _Score | Mapping[str, _Score]
    """Score below which detections are dropped, one number or by class with `default` for the others."""

    box_padding: _Share | Mapping[str, _Share]
    """Models without masks: how far boxes are grown on each side, as a fraction of their width and height, one number
    or by class with `default` for the others.
    """

    nms_iou_threshold: float = Field(gt=0, le=1)
    """Models without masks: intersection over union above which the weaker of two boxes of a class is dropped."""

    input_scales: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)
    """Networks of open input size, such as Nano: model input sizes that see each tile, as multiples of the network's
    own size, where its entry in the catalog has no `scales`.
    """

    largest_scale_band: tuple[_Share, _Share] | None
    """Rows that are seen at the largest of several `input_scales`, [top, bottom], as fractions of the image's height;
    null is all rows.
    """

    batch_size: int = Field(ge=1)
    """Lite on TensorFlow: number of tiles that go through the model together."""

    within: Mapping[str, str | tuple[str, ...]]
    """Small parts, and the class, target or list of these within which each is looked for in close-ups; {} looks for
    them in the whole image.
    """

    within_score_threshold: _Score
    """Score from which on a detection is searched for its parts. It hides nothing by itself."""

    within_margin: float = Field(ge=0, le=2)
    """Margin of these close-ups on each side, as a fraction of the detection's longer side."""

    within_from_pixels: int = Field(ge=1)
    """Length of a detection's longer side in pixels below which it gets no close-up, because its parts cannot be read.
    """

    within_at_most: int | None = Field(ge=0)
    """Number of these close-ups in an image, the largest first; what gets none counts as without parts. null is all."""

    hide_whole_without_parts: bool
    """Hide a detection as a whole where none of its parts is found. It must reach `score_threshold`."""

    dark_below: float | None = Field(ge=0, le=255)
    """Planar images: mean of each pixel's darkest channel, 0 to 255, below which an image is looked at once more, in
    grey and with more contrast: by `verify_with` where there is one. null never does.
    """

    rider_score_threshold: _Score | None
    """Score from which on a person counts who is on a hidden bicycle or motorcycle, or what is ridden by a hidden
    person; both are then hidden as one upright region. null hides them as they were found.
    """

    verify_with: _Name | None
    """Model that looks again, in close-ups, at doubtful detections; null looks once."""

    verify_below: _Score | Mapping[str, _Score]
    """Score below which a detection is doubtful, one number or by class with `default` for the others."""

    verify_sum: _Sum | Mapping[str, _Sum]
    """Smallest sum of the detection's score and its best score in the close-up with which a doubtful detection stays,
    one number or by class with `default` for the others.
    """

    verify_surroundings: float = Field(ge=1, le=10)
    """Side of the close-ups of doubtful detections, as a multiple of the detection's longer side."""

    verify_at_most: int | None = Field(ge=0)
    """Number of doubtful detections of an image that are looked at again, the largest first; the others stay. null is
    all.
    """

    keep_doubtful: bool
    """Keep what the second look throws out in the saved instances, in the list `doubtful`. It is not hidden."""

    runtime: Runtime
    """Library that runs the model; `auto` is TensorFlow where it sees a GPU, else OpenVINO where that can run the
    model.
    """

    model_threads: int | None = Field(ge=1)
    """Number of CPU threads of the model; null uses all cores."""

    max_num_pixels: int = Field(ge=1)
    """Number of pixels above which an image is scaled down for the model only."""

    @field_validator("model_type")
    @classmethod
    def _each_once(cls, names: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if not isinstance(names, str) and len(set(names)) < len(names):
            raise ValueError("a model is named twice")
        return names

    @field_validator("input_scales")
    @classmethod
    def _differ(cls, scales: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(scales)) < len(scales):
            raise ValueError("a scale is named twice")
        return scales

    @field_validator("largest_scale_band")
    @classmethod
    def _some_rows(cls, band: tuple[float, float] | None) -> tuple[float, float] | None:
        if band is not None and band[0] >= band[1]:
            raise ValueError("the top should be less than the bottom")
        return band

    @field_validator("mask_classes")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if names is not None and (problem := unknown_classes(*names)):
            raise ValueError(problem)
        return names

    @field_validator("within")
    @classmethod
    def _parts_of_others(cls, within: Mapping[str, str | tuple[str, ...]]) -> Mapping[str, str | tuple[str, ...]]:
        wholes = [name for whole in within.values() for name in _listed(whole)]
        if problem := unknown_classes(*within, *(name for name in wholes if name not in TARGETS)):
            raise ValueError(f"{problem}; what they are part of may be a target as well: {', '.join(TARGETS)}")
        if any(labels_of_target(name) & {label_of(part) for part in within} for name in wholes):
            raise ValueError("a part cannot be looked for within another part")
        return within

    @field_validator("score_threshold", "box_padding", "verify_below", "verify_sum")
    @classmethod
    def _known_and_complete(cls, value: float | Mapping[str, float]) -> float | Mapping[str, float]:
        if isinstance(value, Mapping):
            if problem := unknown_classes(*(value.keys() - {_DEFAULT})):
                raise ValueError(problem)
            if _DEFAULT not in value:
                raise ValueError(f"{_DEFAULT} is missing, for the classes that are not named")
        return value

    @property
    def models(self) -> tuple[str, ...]:
        """The models that the operator names, each a name of the catalog or a folder."""
        return (self.model_type,) if isinstance(self.model_type, str) else self.model_type

    @property
    def wholes(self) -> Mapping[int, frozenset[int]]:
        """Class id of a part that is to be hidden → the class ids within whose objects it is looked for."""
        parts = {
            label_of(part): frozenset[int]().union(*map(labels_of_target, _listed(whole)))
            for part, whole in self.within.items()
        }
        return {part: wholes for part, wholes in parts.items() if part in self.hidden}

    def sought_from(self, label: int) -> float:
        """The score from which on a find of a class is of use: it is hidden, or looked at for its parts."""
        hidden_from = of_class(self.score_threshold, label)
        has_parts = any(label in wholes for wholes in self.wholes.values())
        lowest = min(hidden_from, self.within_score_threshold) if has_parts else hidden_from
        return (
            lowest
            if self.rider_score_threshold is None or label not in self.ridden
            else min(lowest, self.rider_score_threshold)
        )

    @property
    def ridden(self) -> frozenset[int]:
        """The class ids that riders are made of, as far as they are hidden: persons, bicycles and motorcycles."""
        return frozenset(map(label_of, ("person", "bicycle", "motorcycle"))) & self.hidden

    @property
    def hidden(self) -> frozenset[int]:
        """The class ids that the operator wants hidden."""
        names = self.mask_classes or [name for target in self.targets for name in TARGETS[target]]
        return frozenset(map(label_of, names))


def _listed(names: str | tuple[str, ...]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else names


def of_class(value: float | Mapping[str, float], label: int) -> float:
    """What a value that may be given by class is for one of them."""
    return value.get(LABELS[label], value[_DEFAULT]) if isinstance(value, Mapping) else value
