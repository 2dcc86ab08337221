"""A database table as its file ``config/db_tables/<TABLE>.yml`` describes it, and records → rows of it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from typing_extensions import Self

from anonymise.core import yamlfile
from anonymise.core.errors import ConfigError
from anonymise.core.plaintext import did_you_mean
from anonymise.core.resources import find_settings, settings_folders
from anonymise.database.column import Column, Identifier, Kind, Value, check_identifier
from anonymise.database.formatters import RECORD_KEY
from anonymise.metadata.record import KEYS, Record, flip_wkt

__all__ = ["Row", "Table", "load_table"]

Row = tuple[Value, ...]
"""A value for each column, in the table's order."""


class Table(BaseModel):
    """A database table.

    Attributes:
        name: name of the table.
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

    def required_keys(self, primary_key: str | None = None) -> tuple[tuple[str, ...], str]:
        """The record keys that the table insists on.

        Args:
            primary_key: ``table_primary_key`` of the configuration, a column of the table or a record key; None takes
                the table's own.

        Returns:
            Keys of the columns that need a value, in the table's order, and the key of the primary key.

        Raises:
            ConfigError: there is no such primary key.
        """
        formatters = {column.name: column.formatter for column in self.columns}
        if primary_key is not None and primary_key not in formatters and primary_key not in KEYS:
            problem = f"{primary_key!r} is neither a column of the table {self.name} nor a record key"
            raise ConfigError([f"table_primary_key: {problem}"])
        primary = formatters[self.pk_column] if primary_key is None else formatters.get(primary_key, primary_key)
        keys = (RECORD_KEY.get(c.formatter, c.formatter) for c in self.columns if "NOT NULL" in c.extra)
        return tuple(dict.fromkeys(key for key in keys if key)), primary

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
