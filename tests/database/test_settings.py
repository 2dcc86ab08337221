import os
import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from anonymise.core.errors import ConfigError
from anonymise.database.settings import (
    GeoPackageSettings,
    OracleSettings,
    PostgisSettings,
    Settings,
    encrypt,
    load_settings,
    new_key,
    password_for,
    save_settings,
)

_PASSWORD = "pass: ørd #1 'x'"


def postgis(**changes: object) -> PostgisSettings:
    values = {"backend": "postgis", "host": "db.test", "database": "veg", "user": "u", **changes}
    return PostgisSettings.model_validate(values)


ORACLE = OracleSettings(backend="oracle", host="db.test", service="S", user="U", db_schema="VEG")


@pytest.mark.parametrize(
    "settings",
    [GeoPackageSettings(backend="geopackage", file=Path("å b.gpkg").absolute()), postgis(schema="veg"), ORACLE],
)
def test_settings_survive_their_file(tmp_path: Path, settings: Settings) -> None:
    file = tmp_path / "db_config.yml"
    save_settings(settings, file)
    assert load_settings(file) == settings
    assert [path.name for path in tmp_path.iterdir()] == ["db_config.yml"]


def test_a_relative_geopackage_is_beside_the_file_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "db.yml").write_text("backend: geopackage\nfile: veg.gpkg\n")
    monkeypatch.chdir(tmp_path)
    settings = load_settings(Path("config/db.yml"))
    assert isinstance(settings, GeoPackageSettings)
    assert settings.file == tmp_path / "config" / "veg.gpkg"


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps the folder's rights")
def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    file = tmp_path / "db_config.yml"
    file.write_text("old")
    file.chmod(0o644)
    save_settings(ORACLE, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("variable", ["ANONYMISE_DB_KEY", "ORACLE_KEY"])
def test_the_password_is_encrypted(variable: str) -> None:
    environ = {variable: new_key()}
    settings = postgis(encrypted_password=encrypt(_PASSWORD, environ))
    assert _PASSWORD not in repr(settings) + str(settings.model_dump())
    assert password_for(settings, environ) == _PASSWORD


def test_the_newer_key_wins() -> None:
    environ = {"ANONYMISE_DB_KEY": new_key()}
    settings = postgis(encrypted_password=encrypt(_PASSWORD, environ))
    assert password_for(settings, {**environ, "ORACLE_KEY": new_key()}) == _PASSWORD


def test_an_installation_with_the_older_key() -> None:
    """A token as any Fernet makes it."""
    key = Fernet.generate_key()
    token = Fernet(key).encrypt(b"tiger").decode()
    assert password_for(postgis(encrypted_password=token), {"ORACLE_KEY": key.decode()}) == "tiger"


def test_where_a_password_comes_from() -> None:
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "typed"

    environ = {"ANONYMISE_DB_KEY": new_key()}
    settings = postgis(encrypted_password=encrypt("of the file", environ))
    assert (
        password_for(settings, {**environ, "ANONYMISE_DB_PASSWORD": "of the environment"}, ask) == "of the environment"
    )
    assert password_for(settings, environ, ask) == "of the file"
    assert asked == []
    assert password_for(ORACLE, {}, ask) == "typed"
    assert asked == ["Password of U at db.test: "]
    assert password_for(postgis(), {}) is None
    assert password_for(GeoPackageSettings(backend="geopackage", file=Path("x")), {}, ask) is None
    with pytest.raises(ConfigError, match="ANONYMISE_DB_PASSWORD"):
        password_for(ORACLE, {})


@pytest.mark.parametrize(
    ("environ", "problem"),
    [
        ({}, "ANONYMISE_DB_KEY or ORACLE_KEY"),
        ({"ANONYMISE_DB_KEY": new_key()}, "another key than the one in ANONYMISE_DB_KEY"),
        ({"ORACLE_KEY": "short"}, "ORACLE_KEY holds no key"),
        ({"ANONYMISE_DB_KEY": "ø" * 44}, "ANONYMISE_DB_KEY holds no key"),
    ],
)
def test_keys_that_do_not_fit(environ: dict[str, str], problem: str) -> None:
    settings = postgis(encrypted_password=encrypt(_PASSWORD, {"ANONYMISE_DB_KEY": new_key()}))
    with pytest.raises(ConfigError) as caught:
        password_for(settings, environ)
    assert problem in str(caught.value)
    assert _PASSWORD not in str(caught.value)
    assert all(value not in str(caught.value) for value in environ.values())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "key: value"),
        ("backend: mysql", "should be geopackage, postgis or oracle"),
        ("host: h", "should be geopackage, postgis or oracle"),
        ("backend: geopackage", "file: Field required"),
        ("{backend: postgis, host: h, user: u, database: d, password: hunter2}", "password: Extra inputs"),
        ("{backend: postgis, host: h, user: u, database: d, encrypted_password: [hunter2]}", "encrypted_password"),
        ("{backend: postgis, host: h, user: u, database: d, port: 0}", "port"),
        ("{backend: oracle, host: h, user: u, service: s, schema: 'a\".b'}", "schema: a name has"),
        ("password: [hunter2", "not valid YAML"),
    ],
)
def test_files_that_are_not_valid(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "db_config.yml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings(file)
    assert problem in str(caught.value)
    assert str(file) in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file_and_one_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="create_db_config"):
        load_settings(tmp_path / "none.yml")
    with pytest.raises(ConfigError, match="cannot be written"):
        save_settings(ORACLE, tmp_path / "no folder" / "db_config.yml")
