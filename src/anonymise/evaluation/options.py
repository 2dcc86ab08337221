"""The keys of the configuration about measuring what is found."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from anonymise.core.classes import label_of, unknown_classes

__all__ = ["EvaluationOptions", "found_as"]

_Share = Annotated[float, Field(gt=0, lt=1)]
_Level = Annotated[int, Field(ge=0, le=255)]


class EvaluationOptions(BaseModel):
    """Keys of the configuration that say what is counted, and how sure the numbers are."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    evaluation_label_classes: Mapping[str, _Level]
    evaluation_label_void: tuple[_Level, ...]
    evaluation_class_synonyms: Mapping[str, str | None]
    evaluation_size_groups: tuple[_Share, _Share]
    evaluation_min_object_pixels: int = Field(ge=1)
    evaluation_covered_share: float = Field(gt=0, le=1)
    evaluation_missed_share: float = Field(gt=0, le=1)
    evaluation_bootstrap_samples: int = Field(ge=100)
    evaluation_bootstrap_seed: int = Field(ge=0)
    evaluation_confidence: _Share
    evaluation_min_group: int = Field(ge=1)
    evaluation_thresholds: tuple[_Share, ...] = Field(min_length=1, max_length=200)
    evaluation_gallery: int = Field(ge=0)

    @field_validator("evaluation_size_groups")
    @classmethod
    def _growing(cls, shares: tuple[float, float]) -> tuple[float, float]:
        if shares[0] >= shares[1]:
            raise ValueError("the second share should be larger than the first")
        return shares

    @field_validator("evaluation_thresholds")
    @classmethod
    def _sorted(cls, thresholds: tuple[float, ...]) -> tuple[float, ...]:
        if list(thresholds) != sorted(set(thresholds)):
            raise ValueError("thresholds should grow")
        return thresholds

    @field_validator("evaluation_class_synonyms")
    @classmethod
    def _known(cls, synonyms: Mapping[str, str | None]) -> Mapping[str, str | None]:
        if problem := unknown_classes(*(name for name in synonyms.values() if name is not None)):
            raise ValueError(problem)
        return {name.lower(): meant for name, meant in synonyms.items()}

    @model_validator(mode="after")
    def _consistent(self) -> "EvaluationOptions":
        if self.evaluation_missed_share > self.evaluation_covered_share:
            raise ValueError("evaluation_missed_share: should not be more than evaluation_covered_share")
        if both := set(self.evaluation_label_classes.values()) & set(self.evaluation_label_void):
            raise ValueError(f"evaluation_label_void: {sorted(both)} are also numbers of classes")
        return self


def found_as(category: str, synonyms: Mapping[str, str | None]) -> int | None:
    """The class id that the model finds a class of the ground truth as; None for one that is left out.

    Args:
        category: its name there, in upper or lower case.
        synonyms: ``evaluation_class_synonyms`` of the configuration.

    Raises:
        KeyError: nothing says what it is.
    """
    name = category.strip().lower()
    meant = synonyms.get(name, name)
    return None if meant is None else label_of(meant)
