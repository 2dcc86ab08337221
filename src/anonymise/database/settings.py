"""``config/db_config.yml``: which database it is, where, and the encrypted password.

The password itself is never in the file, in a log or in an error. Nothing here reads the environment; it is handed in.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from anonymise.core import yamlfile
from anonymise.core.errors import ConfigError
from anonymise.core.resources import command_line, settings_folders
from anonymise.database.column import check_identifier

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

__all__ = [
    "KEY_VARIABLES",
    "PASSWORD_VARIABLE",
    "FileSettings",
    "GeoPackageSettings",
    "OracleSettings",
    "PostgisSettings",
    "Settings",
    "encrypt",
    "load_settings",
    "new_key",
    "parse_settings",
    "password_for",
    "save_settings",
]

PASSWORD_VARIABLE = "ANONYMISE_DB_PASSWORD"  # noqa: S105  the variable's name
KEY_VARIABLES = ("ANONYMISE_DB_KEY", "ORACLE_KEY")
"""Environment variables that may hold the key to the password; the second is the name that older installations use."""


class FileSettings(BaseModel):
    """A database in a file, without a server and a password.

    Attributes:
        file: the file; ``create_table`` makes it. In the settings' file a relative path begins at its folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: Path


class GeoPackageSettings(FileSettings):
    """A GeoPackage."""

    backend: Literal["geopackage"]


class _ServerSettings(BaseModel):
    """What all servers have.

    Attributes:
        host: its name or address.
        user: who logs in.
        db_schema: where the tables are; in the file ``schema``. None is the user's own, as the database has it.
        encrypted_password: see `encrypt`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    host: str = Field(min_length=1)
    user: str = Field(min_length=1)
    db_schema: str | None = Field(default=None, alias="schema")
    encrypted_password: str | None = Field(default=None, repr=False)

    @field_validator("db_schema")
    @classmethod
    def _an_identifier(cls, name: str | None) -> str | None:
        return name if name is None else check_identifier(name)


class PostgisSettings(_ServerSettings):
    """A PostgreSQL database with PostGIS.

    Attributes:
        port: port of the server.
        database: its name.
    """

    backend: Literal["postgis"]
    port: int = Field(default=5432, ge=1, le=65535)
    database: str = Field(min_length=1)


class OracleSettings(_ServerSettings):
    """An Oracle database with Spatial.

    Attributes:
        port: port of the listener.
        service: name of the service.
    """

    backend: Literal["oracle"]
    port: int = Field(default=1521, ge=1, le=65535)
    service: str = Field(min_length=1)


Settings = GeoPackageSettings | PostgisSettings | OracleSettings

_ADAPTER: TypeAdapter[Settings] = TypeAdapter(Annotated[Settings, Field(discriminator="backend")])


def parse_settings(values: Mapping[str, Any], source: str) -> Settings:
    """Checked settings.

    Args:
        values: keys of the file.
        source: what the errors name.

    Raises:
        ConfigError: with all problems; without the values, among which there might be a password.
    """
    try:
        return _ADAPTER.validate_python(dict(values))
    except ValidationError as error:
        raise ConfigError([_described(source, detail) for detail in error.errors(include_input=False)]) from None


def load_settings(file: Path | None) -> Settings:
    """The settings in a file; the path of a file is absolute.

    Args:
        file: ``db_config.yml``; None where it was not found in the folders of settings.

    Raises:
        ConfigError: it is missing or not valid.
    """
    way_out = f"make it with: {command_line('create-db-config')}"
    if file is None:
        where = ", ".join(map(str, settings_folders()))
        raise ConfigError(
            [f"there is no db_config.yml in {where}, so it is not known where the database is; {way_out}"]
        )
    try:
        content = yamlfile.load(file)
    except FileNotFoundError:
        raise ConfigError(
            [f"{file}: there is no such file, so it is not known where the database is; {way_out}"]
        ) from None
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror or error}"]) from None
    if not isinstance(content, dict):
        raise ConfigError([f"{file}: not valid; it must be lines of the form key: value"])
    settings = parse_settings(content, str(file))
    if isinstance(settings, FileSettings):
        settings = settings.model_copy(update={"file": file.absolute().parent / settings.file})
    return settings


def save_settings(settings: Settings, file: Path) -> None:
    """Writes settings to a file that only its owner can read, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    values = settings.model_dump(mode="json", by_alias=True, exclude_none=True)
    text = yamlfile.dump(values)
    try:
        # mkstemp's files have the mode 0600 from the first byte.
        handle, temporary = tempfile.mkstemp(prefix=".anonymise-", suffix=".part", dir=file.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).replace(file)
        except BaseException:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()
            raise
    except OSError as error:
        raise ConfigError([f"{file}: cannot be written: {error.strerror or error}"]) from error


def new_key() -> str:
    """A fresh key for the environment variable ``ANONYMISE_DB_KEY``."""
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode("ascii")


def encrypt(password: str, environ: Mapping[str, str]) -> str:
    """The password as it may stand in the file.

    Args:
        password: in plain text.
        environ: the environment, which has the key.

    Raises:
        ConfigError: it has no valid key.
    """
    fernet = _fernet(environ)
    if fernet is None:
        raise ConfigError(
            [
                f"the password cannot be encrypted: the environment variable {KEY_VARIABLES[0]} is not set; "
                f"make a key with: {command_line('create-db-config --new-key')}"
            ]
        )
    return fernet.encrypt(password.encode("utf-8")).decode("ascii")


def password_for(settings: Settings, environ: Mapping[str, str], ask: Callable[[str], str] | None = None) -> str | None:
    """The password: from the environment, else from the file, else from whoever sits at the terminal.

    Args:
        settings: where the database is.
        environ: the environment, with the password itself or the key to the one in the file.
        ask: shows a prompt and returns what was typed unseen; None where nobody is there to be asked.

    Returns:
        None where the database needs none, or logs the user in some other way (PostgreSQL's .pgpass, peer).

    Raises:
        ConfigError: the file's password cannot be decrypted, or Oracle's is nowhere.
    """
    if isinstance(settings, FileSettings):
        return None
    if password := environ.get(PASSWORD_VARIABLE):
        return password
    if settings.encrypted_password is not None:
        return _decrypt(settings.encrypted_password, environ)
    if ask is not None:
        return ask(f"Password of {settings.user} at {settings.host}: ") or None
    if isinstance(settings, OracleSettings):
        raise ConfigError(
            [
                f"there is no password for {settings.user} at {settings.host}: set {PASSWORD_VARIABLE}, or put it into "
                f"db_config.yml with: {command_line('create-db-config')}"
            ]
        )
    return None


def _decrypt(token: str, environ: Mapping[str, str]) -> str:
    from cryptography.fernet import InvalidToken

    fernet = _fernet(environ)
    if fernet is None:
        names = " or ".join(KEY_VARIABLES)
        raise ConfigError([f"the database's password is encrypted, and its key is not in the environment: set {names}"])
    try:
        return fernet.decrypt(token).decode("utf-8")
    except (InvalidToken, UnicodeDecodeError):
        name = _key_variable(environ)
        raise ConfigError([f"the database's password was encrypted with another key than the one in {name}"]) from None


def _key_variable(environ: Mapping[str, str]) -> str | None:
    return next((name for name in KEY_VARIABLES if environ.get(name)), None)


def _fernet(environ: Mapping[str, str]) -> "Fernet | None":
    from cryptography.fernet import Fernet

    name = _key_variable(environ)
    if name is None:
        return None
    try:
        return Fernet(environ[name])
    except ValueError:
        way_out = f"make one with: {command_line('create-db-config --new-key')}"
        raise ConfigError(
            [f"the environment variable {name} holds no key (44 characters of base64); {way_out}"]
        ) from None


def _described(source: str, detail: Any) -> str:
    # The first part of a place is the backend that the settings were read as.
    place = [str(part) for part in detail["loc"][1:]]
    message = detail["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if detail["type"] in {"union_tag_invalid", "union_tag_not_found"}:
        *names, last = (get_args(one.model_fields["backend"].annotation)[0] for one in get_args(Settings))
        message = f"backend: should be {', '.join(names)} or {last}"
    return ": ".join([source, *place, message])
