"""The keys of the configuration about the model."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from anonymise.labels import COCO

__all__ = ["ModelOptions", "Runtime"]

Runtime = Literal["auto", "tensorflow", "openvino"]


class ModelOptions(BaseModel):
    """Keys of the configuration that choose the model and what it looks for."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    model_type: str = Field(min_length=1)
    model_folder: str | None
    mask_classes: tuple[str, ...] = Field(min_length=1)
    score_threshold: float = Field(gt=0, lt=1)
    nms_iou_threshold: float = Field(gt=0, le=1)
    batch_size: int = Field(ge=1)
    runtime: Runtime
    model_threads: int | None = Field(ge=1)
    max_num_pixels: int = Field(ge=1)

    @field_validator("mask_classes")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(names) - set(COCO.values())):
            raise ValueError(f"{', '.join(unknown)}: no COCO class; the classes are {', '.join(COCO.values())}")
        return names
