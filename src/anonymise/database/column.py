"""A column of a database table: its name, its type, and the conversion of a record's value to it.

What every database would refuse is refused here, in the same words: a missing value, a text too long, a point outside
the column's bounds. Names and types are checked when the file is loaded, so that no SQL is ever made of others.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from types import MappingProxyType
from typing import Annotated

import shapely
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from shapely import Point
from typing_extensions import Self

from anonymise.core.errors import RecordError
from anonymise.database.formatters import (
    FORMATTERS,
    JSON_FORMATTERS,
    POINT_FORMATTERS,
    as_json,
    as_number,
    as_text,
    as_time,
)
from anonymise.database.geometry import parse_point
from anonymise.metadata.record import Record

__all__ = ["Column", "DataType", "DimElement", "Identifier", "Kind", "SpatialMetadata", "Value", "check_identifier"]

Value = str | Decimal | datetime | Point | None

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,29}")
"""30 characters are the limit of Oracle 12.1; with it the names of indexes fit PostgreSQL's 63."""
_RESERVED_PREFIXES = ("gpkg_", "rtree_", "sqlite_", "pg_", "ora_")

_DTYPE = re.compile(r"([A-Z][A-Z0-9_]*)(?:\(([0-9]{1,5})(?:,([0-9]{1,3}))?\))?")
_EXTRAS = frozenset({"PRIMARY KEY", "NOT NULL", "UNIQUE", "NULL"})
_EXTRA = re.compile(r"PRIMARY KEY|NOT NULL|UNIQUE|NULL")


class Kind(Enum):
    """What a column holds; each backend has its own type for it."""

    TEXT = "VARCHAR"
    NUMBER = "NUMBER"
    TIME = "DATE"
    LONG_TEXT = "CLOB"
    GEOMETRY = "SDO_GEOMETRY"


_KINDS = MappingProxyType({**{kind.value: kind for kind in Kind}, "VARCHAR2": Kind.TEXT})


@dataclass(frozen=True, slots=True)
class DataType:
    """The ``dtype`` of a column.

    Attributes:
        kind: what it holds.
        size: greatest number of characters of a text, or of digits of a number; None for any number.
        scale: digits after the decimal point, of a number with a size.
    """

    kind: Kind
    size: int | None = None
    scale: int = 0

    @classmethod
    def parse(cls, text: object) -> "DataType":
        """Reads ``VARCHAR(256)``, ``NUMBER``, ``NUMBER(10,2)``, ``DATE``, ``CLOB`` or ``SDO_GEOMETRY``.

        Raises:
            ValueError: it is none of these.
        """
        if isinstance(text, DataType):
            return text
        found = _DTYPE.fullmatch(re.sub(r"\s", "", str(text)).upper())
        kind = _KINDS.get(found[1]) if found else None
        if found is None or kind is None:
            raise ValueError(f"unknown; there are VARCHAR(n), {', '.join(k.value for k in list(Kind)[1:])}")
        size, scale = (None if part is None else int(part) for part in found.groups()[1:])
        limits = {Kind.TEXT: 4000, Kind.NUMBER: 38}
        if (kind is Kind.TEXT and size is None) or (size is not None and not 1 <= size <= limits.get(kind, 0)):
            raise ValueError(f"needs a size from 1 to {limits[kind]}" if kind in limits else "takes no size")
        if scale is not None and (kind is not Kind.NUMBER or size is None or scale > size):
            raise ValueError("a number has at most as many digits after the point as in all; nothing else has them")
        return cls(kind, size, scale or 0)


def check_identifier(name: str) -> str:
    """A name that can stand in the SQL of every backend, quoted.

    Raises:
        ValueError: it is none.
    """
    if not _IDENTIFIER.fullmatch(name):
        raise ValueError("a name has 1 to 30 letters a-z, digits and underscores, and begins with a letter")
    if name.lower().startswith(_RESERVED_PREFIXES):
        raise ValueError(f"names that begin with {', '.join(_RESERVED_PREFIXES)} belong to the databases")
    return name


Identifier = Annotated[str, BeforeValidator(lambda name: check_identifier(str(name)))]


class DimElement(BaseModel):
    """One axis of a coordinate system, in its units.

    Attributes:
        name: name of the axis.
        min: least value.
        max: greatest value.
        tol: distance below which points are the same; in metres where the axis is in degrees.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Identifier
    min: float = Field(allow_inf_nan=False)
    max: float = Field(allow_inf_nan=False)
    tol: float = Field(gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min >= self.max:
            raise ValueError("min should be less than max")
        return self


class SpatialMetadata(BaseModel):
    """Coordinate system and bounds of a geometry column.

    Attributes:
        srid: EPSG code.
        dimension: 2, or 3 for points with height.
        dim_elements: the axes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    srid: int = Field(ge=1, le=999_999)
    dimension: int = Field(ge=2, le=3)
    dim_elements: tuple[DimElement, ...]

    @model_validator(mode="after")
    def _an_element_for_each_dimension(self) -> Self:
        if len(self.dim_elements) != self.dimension:
            raise ValueError(f"dimension is {self.dimension}, but there are {len(self.dim_elements)} dim_elements")
        if len({element.name.lower() for element in self.dim_elements}) != self.dimension:
            raise ValueError("two dim_elements have the same name")
        return self


class Column(BaseModel):
    """A column of a table.

    Attributes:
        name: unique in the table, whatever the case of its letters.
        dtype: what it holds.
        formatter: what it takes from the record.
        extra: PRIMARY KEY, NOT NULL, UNIQUE.
        spatial_metadata: metadata of a geometry column.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: Identifier
    dtype: Annotated[DataType, BeforeValidator(DataType.parse)]
    formatter: str
    extra: frozenset[str] = frozenset()
    spatial_metadata: SpatialMetadata | None = None

    @field_validator("formatter")
    @classmethod
    def _known(cls, formatter: str) -> str:
        if formatter not in FORMATTERS:
            raise ValueError(f"unknown formatter; there are {', '.join(sorted(FORMATTERS))}")
        return formatter

    @field_validator("extra", mode="before")
    @classmethod
    def _only_constraints(cls, extra: object) -> object:
        text = " ".join(str(extra or "").upper().split())
        if _EXTRA.sub("", text).strip():
            raise ValueError(f"can only be {', '.join(sorted(_EXTRAS))}, or several of them")
        return frozenset(_EXTRA.findall(text)) - {"NULL"}

    @model_validator(mode="after")
    def _spatial(self) -> Self:
        is_geometry = self.dtype.kind is Kind.GEOMETRY
        if is_geometry != (self.spatial_metadata is not None):
            raise ValueError("spatial_metadata and the dtype SDO_GEOMETRY belong together")
        if is_geometry and self.formatter not in POINT_FORMATTERS:
            raise ValueError(f"SDO_GEOMETRY needs one of the formatters {', '.join(sorted(POINT_FORMATTERS))}")
        return self

    @property
    def required(self) -> bool:
        """Whether the column must have a value."""
        return bool(self.extra & {"NOT NULL", "PRIMARY KEY"})

    @property
    def unique(self) -> bool:
        """Whether no two rows may have the same value."""
        return "UNIQUE" in self.extra

    @property
    def is_json(self) -> bool:
        """Whether the column's text is JSON."""
        return self.dtype.kind is Kind.LONG_TEXT and self.formatter in JSON_FORMATTERS

    @property
    def spatial(self) -> SpatialMetadata:
        """The metadata of a geometry column."""
        assert self.spatial_metadata is not None
        return self.spatial_metadata

    def value(self, record: Record) -> Value:
        """The column's value for a record.

        Raises:
            RecordError: the record's value does not fit the column; names the column.
        """
        try:
            value = _CONVERTERS[self.dtype.kind](FORMATTERS[self.formatter](record), self)
            if value is None and self.required:
                raise RecordError("has no value, and the table needs one")
        except RecordError as error:
            raise RecordError(f"{self.name}: {error}") from None
        return value


def _text(value: object, column: Column) -> Value:
    text = as_text(value)
    size = column.dtype.size
    if text is not None and size is not None and len(text) > size:
        raise RecordError(f"{text[:20]!r}... has {len(text)} characters, and the column takes {size}")
    return text


def _number(value: object, column: Column) -> Value:
    number = as_number(value)
    size, scale = column.dtype.size, column.dtype.scale
    if number is None or size is None:
        return number
    rounded = round(number, scale)
    if rounded and rounded.adjusted() >= size - scale:
        raise RecordError(f"{number} has too many digits for {size} with {scale} after the point")
    return rounded


def _time(value: object, _: Column) -> Value:
    return as_time(value)


def _long_text(value: object, column: Column) -> Value:
    return as_json(value) if column.is_json else as_text(value)


def _point(value: object, column: Column) -> Value:
    text = as_text(value)
    if text is None:
        return None
    point, spatial = parse_point(text), column.spatial
    if shapely.get_srid(point) != spatial.srid:
        raise RecordError(f"the point's srid is {shapely.get_srid(point)}, and the column's {spatial.srid}")
    if spatial.dimension == 3 and not point.has_z:
        raise RecordError("the point has no height, and the column needs one")
    if spatial.dimension == 2:
        point = shapely.set_srid(shapely.force_2d(point), spatial.srid)
    for element, coordinate in zip(spatial.dim_elements, point.coords[0], strict=True):
        if not element.min <= coordinate <= element.max:
            raise RecordError(f"{element.name} {coordinate:g} is outside {element.min:g} to {element.max:g}")
    return point


_CONVERTERS: Mapping[Kind, Callable[[object, Column], Value]] = MappingProxyType(
    {Kind.TEXT: _text, Kind.NUMBER: _number, Kind.TIME: _time, Kind.LONG_TEXT: _long_text, Kind.GEOMETRY: _point}
)
