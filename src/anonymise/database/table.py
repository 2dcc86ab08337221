"""A database table as its file ``config/db_tables/<TABLE>.yml`` describes it, and records → rows of it.

What every database would refuse is refused here, in the same words: a missing value, a text too long, a point outside
the column's bounds. Names and types are checked when the file is loaded, so that no SQL is ever made of others.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import shapely
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from shapely import Point
from typing_extensions import Self

from anonymise.core import yamlfile
from anonymise.core.errors import ConfigError, RecordError
from anonymise.core.plaintext import did_you_mean
from anonymise.core.resources import find_settings, settings_folders
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
from anonymise.metadata.record import Record, flip_wkt

__all__ = [
    "Column",
    "DataType",
    "DimElement",
    "Kind",
    "Row",
    "SpatialMetadata",
    "Table",
    "Value",
    "check_identifier",
    "load_table",
]

Value = str | Decimal | datetime | Point | None
Row = tuple[Value, ...]
"""A value for each column, in the table's order."""

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
        name: of the axis.
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
        spatial_metadata: of a geometry column.
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


class Table(BaseModel):
    """A database table.

    Attributes:
        name: of the table.
        pk_column: name of the column that tells rows apart.
        columns: in their order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Identifier
    pk_column: str
    columns: tuple[Column, ...] = Field(min_length=2)

    @field_validator("columns", mode="after")
    @classmethod
    def _names_differ(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        names = [column.name.lower() for column in columns]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two columns have the name {', '.join(twice)} (the case of letters makes no difference)")
        return columns

    @model_validator(mode="after")
    def _one_primary_key(self) -> Self:
        if self.pk_column not in {column.name for column in self.columns}:
            raise ValueError(f"pk_column: there is no column {self.pk_column}")
        if keys := [c.name for c in self.columns if "PRIMARY KEY" in c.extra and c.name != self.pk_column]:
            raise ValueError(f"pk_column is {self.pk_column}, but {', '.join(keys)} says PRIMARY KEY")
        if "PRIMARY KEY" not in self.primary_key.extra:
            raise ValueError(f"pk_column is {self.pk_column}, so that column's extra should be PRIMARY KEY")
        if self.primary_key.dtype.kind not in {Kind.TEXT, Kind.NUMBER}:
            raise ValueError("pk_column: should be a VARCHAR or a NUMBER")
        return self

    @property
    def primary_key(self) -> Column:
        """The column that tells rows apart."""
        return self.columns[self.primary_key_index]

    @property
    def primary_key_index(self) -> int:
        """Where the primary key stands in a row."""
        return next(n for n, column in enumerate(self.columns) if column.name == self.pk_column)

    @property
    def geometry_columns(self) -> tuple[Column, ...]:
        """The columns that hold points."""
        return tuple(column for column in self.columns if column.dtype.kind is Kind.GEOMETRY)

    def row(self, record: Record, *, flip: bool = False) -> Row:
        """The row of a record.

        Args:
            record: as ``record.build_record`` or ``record.loads`` give it.
            flip: whether longitude and latitude change places (``flip_wkt`` of the configuration).

        Raises:
            RecordError: a value does not fit its column.
        """
        position = record.get("exif_gpsposisjon")
        if flip and isinstance(position, str):
            record = {**record, "exif_gpsposisjon": flip_wkt(position)}
        return tuple(column.value(record) for column in self.columns)


def table_file(name: str, folder: Path | None = None) -> Path:
    """The file that describes a table.

    Args:
        name: name of the table.
        folder: folder with ``<name>.yml``; None looks into ``db_tables`` of the folders of settings.

    Raises:
        ConfigError: the name cannot be one, or there is no such file.
    """
    try:
        check_identifier(name)
    except ValueError as error:
        raise ConfigError([f"table_name is {name!r}: {error}"]) from None
    file = find_settings(f"db_tables/{name}.yml") if folder is None else folder / f"{name}.yml"
    if file is None or not os.path.lexists(file):
        folders = [parent / "db_tables" for parent in settings_folders()] if folder is None else [folder]
        known = sorted({path.stem for parent in folders for path in parent.glob("*.yml")})
        raise ConfigError(
            [
                f"table_name is {name}: there is no {name}.yml in {', '.join(map(str, folders))}; tables there: "
                f"{', '.join(known) or 'none'}{did_you_mean(name, known)}"
            ]
        )
    return file


def load_table(name: str, folder: Path | None = None) -> Table:
    """The table of this name, as its file describes it (see `table_file`).

    Raises:
        ConfigError: the name cannot be one, or the file is missing or describes no table; with all problems.
    """
    file = table_file(name, folder)
    try:
        content = yamlfile.load(file)
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror or error}"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{file}: no table; it needs pk_column and columns with name, dtype, formatter and extra"])
    try:
        return Table.model_validate({**content, "name": name})
    except ValidationError as error:
        raise ConfigError([_described(file, detail, content) for detail in error.errors()]) from None


def _described(file: Path, detail: Any, content: Mapping[str, Any]) -> str:
    place = list(detail["loc"])
    if place[:1] == ["columns"] and len(place) > 1:
        column = content["columns"][place[1]]
        name = column.get("name") if isinstance(column, dict) else None
        place[:2] = [f"column {name or place[1] + 1}"]
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    return ": ".join([str(file), *map(str, place), message])


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
    {
        Kind.TEXT: _text,
        Kind.NUMBER: _number,
        Kind.TIME: _time,
        Kind.LONG_TEXT: _long_text,
        Kind.GEOMETRY: _point,
    }
)
