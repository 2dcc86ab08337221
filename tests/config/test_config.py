import re
from datetime import date
from pathlib import Path

import pytest
import yaml

import anonymise
from anonymise import config
from anonymise.core.errors import ConfigError
from anonymise.core.resources import CONFIG_FOLDER
from anonymise.detection.tiles import Downscale, Step

DEFAULTS = CONFIG_FOLDER / "default_config.yml"
SOURCE = Path(anonymise.__file__).parent


def problems(text: str = "", *overrides: str, has_archive: bool = False, folder: Path | None = None) -> list[str]:
    files = []
    if folder is not None:
        files = [folder / "my.yml"]
        files[0].write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(files, overrides, has_archive=has_archive)
    return list(caught.value.problems)


_HERE = Path("p").absolute().as_posix()

# The user's tables: key → default. This is the specification, so it is written out here a second time on purpose.
# Missing is max_num_async_workers, whose 2 became null: 2 on up to five cores, more on larger machines.
_USERS_TABLES = {
    "data_eier": None, "fylkesnummer": None, "force_fylke": False, "image_type": "Planar", "draw_mask": True,
    "delete_input": False, "force_remask": False, "lazy_paths": False, "file_access_retry_seconds": 10,
    "file_access_timeout_seconds": 60, "datetime_format": "%Y-%m-%d %H.%M.%S",
    "log_file_name": "{datetime}_{hostname}.log", "log_level": "DEBUG", "application_version": "0.2",
    "exif_mappenavn": "Vegbilder/{relative_input_dir}", "exif_top_dir": "tilSladding",
    "remove_imagetype_filepath": False, "flip_wkt": False, "remote_json": True, "local_json": False,
    "archive_json": False, "remote_preview": False, "local_preview": False, "archive_preview": False,
    "separate_preview_directory": None, "preview_dim": [2520, 1400], "preview_center": [0.45, 0.5],
    "enable_async": True, "model_type": "Medium", "mask_dilation_pixels": 4,
    "max_num_pixels": 1000000000, "use_cutouts": False, "cutout_step_factor": [800, 800],
    "cutout_dim_downscale": [4, 4], "mask_color": None, "blur": 15, "gray_blur": True, "normalized_gray_blur": True,
    "uncaught_exception_email": False, "processing_error_email": False, "finished_email": False,
    "email_attach_log_file": False, "write_exif_to_db": False, "db_max_n_accumulated_rows": 100,
    "db_max_n_errors": 1000, "db_max_cache_size": 1000,
}  # fmt: skip


def test_the_defaults_are_those_of_the_users_tables() -> None:
    defaults = yaml.safe_load(DEFAULTS.read_text("utf-8"))
    assert {key: defaults.get(key, "missing") for key in _USERS_TABLES} == _USERS_TABLES


def test_every_default_has_a_comment() -> None:
    lines = DEFAULTS.read_text("utf-8").splitlines()
    keys = [n for n, line in enumerate(lines) if re.match(r"\w+:", line)]
    # One comment may stand above several keys that belong together.
    groups = [n for n in keys if n - 1 not in keys]
    without = [lines[n] for n in groups if not lines[n - 1].startswith(("#", "  "))]
    assert without == []


def test_every_key_is_read_by_the_program() -> None:
    keys = yaml.safe_load(DEFAULTS.read_text("utf-8"))
    code = "\n".join(path.read_text("utf-8") for path in SOURCE.rglob("*.py"))
    # Refused until their feature is built, or for the database only.
    # FileOptions.wants and the rules put these together from parts.
    assembled = {
        f"{place}_{kind}"
        for place in ("remote", "local", "archive")
        for kind in ("json", "preview", "mask", "instances")
    }
    refused = {"flip_wkt"} | {key for key in keys if key.startswith("db_")}
    unread = [
        key
        for key in keys
        if not re.search(rf"\.{key}\b", code) and key not in assembled | refused | {"write_exif_to_db"}
    ]
    assert unread == []


def test_pairs_become_named_values() -> None:
    loaded = config.load(overrides=["cutout_step_factor=[100, 200]", "preview_dim=[30, 20]", "preview_center=[0, 1]"])
    assert loaded.windows.cutout_step_factor == Step(height=100, width=200)
    assert loaded.preview.preview_dim is not None
    assert loaded.preview.preview_dim.width == 30
    assert loaded.preview.preview_center.height == 0


@pytest.mark.parametrize("name", ["lite_config.yml", "360_default_config.yml", "360_lite_config.yml"])
def test_overlays_hold_only_keys_that_differ(name: str) -> None:
    overlay = yaml.safe_load((CONFIG_FOLDER / name).read_text("utf-8"))
    defaults = yaml.safe_load(DEFAULTS.read_text("utf-8"))
    assert [key for key, value in overlay.items() if defaults[key] == value] == []
    config.load([CONFIG_FOLDER / name])


@pytest.mark.parametrize("name", ["careful_config.yml", "signs_stay_config.yml"])
def test_presets_go_over_the_small_models_and_hold_only_keys_that_differ(name: str) -> None:
    overlay = yaml.safe_load((CONFIG_FOLDER / name).read_text("utf-8"))
    below = yaml.safe_load((CONFIG_FOLDER / "lite_config.yml").read_text("utf-8"))
    assert [key for key, value in overlay.items() if below.get(key) == value] == []
    loaded = config.load([CONFIG_FOLDER / "lite_config.yml", CONFIG_FOLDER / name])
    assert loaded.model.verify_with == "Lite"


def test_a_full_file_in_the_old_style_works(tmp_path: Path) -> None:
    old = tmp_path / "old.yml"
    old.write_text(yaml.safe_dump(_USERS_TABLES | {"blur": None}), "utf-8")
    loaded = config.load([old])
    assert loaded.appearance.blur is None
    assert loaded.model.model_type == "Medium"


def test_later_files_and_single_keys_win(tmp_path: Path) -> None:
    for name, blur in (("first", 20), ("second", 30)):
        (tmp_path / f"{name}.yml").write_text(f"blur: {blur}\nmax_num_async_workers: {blur}", "utf-8")
    loaded = config.load([tmp_path / "first.yml", tmp_path / "second.yml"], ["blur=40"])
    assert (loaded.appearance.blur, loaded.run.max_num_async_workers) == (40, 30)


def test_a_configuration_that_comes_along_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert config.load([Path("lite_config.yml")]).model.models == ("Nano", "Lite")
    (tmp_path / "lite_config.yml").write_text("model_type: Fast")
    assert config.load([Path("lite_config.yml")]).model.model_type == "Fast"


def test_the_written_configuration_gives_the_same_again(tmp_path: Path) -> None:
    scales = "cutout_dim_downscale=[[1.75, 1.75], [2.5, 2.5]]"
    first = config.load([CONFIG_FOLDER / "lite_config.yml"], ["mask_color=[1,2,3]", scales])
    (tmp_path / "again.yml").write_text(first.as_yaml(), "utf-8")
    again = config.load([tmp_path / "again.yml"])
    assert again.as_yaml() == first.as_yaml()
    assert again.windows.scales == (Downscale(1.75, 1.75), Downscale(2.5, 2.5))


def test_the_day_of_the_last_change_is_that_of_the_operators_file(tmp_path: Path) -> None:
    file = tmp_path / "my.yml"
    file.write_text("blur: 20")
    import os
    import time

    noon = time.mktime((2021, 3, 4, 12, 0, 0, 0, 0, -1))
    os.utime(file, (noon, noon))
    assert config.load([file]).changed == date(2021, 3, 4)


def test_all_problems_come_at_once_with_file_and_line(tmp_path: Path) -> None:
    text = "# mine\nblurr: 3\nblur: 300\n\nimage_type: 360\narchive_json: True\n"
    found = problems(text, "log_level=LOUD", folder=tmp_path)
    file = tmp_path / "my.yml"
    assert found == [
        f"{file}:2: unknown key blurr; did you mean blur?",
        f"{file}:3: blur is 300: should be less than or equal to 100",
        f"{file}:5: image_type is 360: should be a valid string; write it in quotes",
        "--set log_level=LOUD: log_level is 'LOUD': should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR'",
        f"{file}:6: archive_json needs an archive folder (-a)",
    ]


@pytest.mark.parametrize(
    "override",
    [
        'blur="15"', "blur=0", "blur=1.5", "draw_mask=1", "max_num_async_workers=True", "max_num_async_workers=0",
        "mask_dilation_pixels=-1", "max_num_pixels=0", "cutout_step_factor=[800]", "cutout_step_factor=800",
        "cutout_dim_downscale=[0.5, 4]", "mask_color=[1, 2]", "mask_color=[0, 0, 256]", "mask_classes=[human]",
        "score_threshold=1", "score_threshold=.nan", "log_level=loud", "jpeg_quality=101", "preview_dim=[0, 10]",
        "preview_center=[0.5, 1.1]", "file_access_retry_seconds=0", "exif_mappenavn={veg}", "log_file_name={pid}",
        "datetime_format=5", "remote_json=null", "fylkesnummer=Oslo", "blur", "blur=[", "image_extensions=[gif]",
        "batch_size=0", "merge_min_overlap=1.1", "cutout_overlap=1", "merging_method=soft",
        "merge_iou_threshold=1.1", "area_method=exact",
        "pre_merge_score_threshold=1", "post_merge_score_threshold=-0.1", "enlarged_regions_n=-1", "mirror_image=1",
        "outline=round", "outline_exponent=1.9",
    ],
)  # fmt: skip
def test_wrong_types_and_values_out_of_range_are_named(override: str) -> None:
    (problem,) = problems("", override)
    assert override.partition("=")[0] in problem
    assert problem.startswith("--set ")


@pytest.mark.parametrize(
    ("overrides", "has_archive", "expected"),
    [
        (["archive_json=True"], False, "archive_json needs an archive folder"),
        (["archive_preview=True", "remote_preview=True"], False, "archive_preview needs an archive folder"),
        (["archive_json=True", "remote_json=False"], True, "archive_json needs remote_json"),
        (["archive_preview=True"], True, "archive_preview needs remote_preview"),
        (["archive_instances=True"], False, "archive_instances needs an archive folder"),
        (["archive_mask=True"], True, "archive_mask needs remote_mask"),
        (["remote_preview=True", "preview_dim=null"], False, "remote_preview needs preview_dim"),
        (["local_preview=True", "preview_dim=null"], False, "local_preview needs preview_dim"),
        ([f"separate_preview_directory={_HERE}", "preview_dim=null"], False, "separate_preview_directory needs"),
        (["force_fylke=True"], False, "force_fylke needs fylkesnummer"),
        (["delete_input=True"], False, "delete_input needs an archive folder"),
        (["gray_blur=False"], False, "normalized_gray_blur"),
        (["write_exif_to_db=True"], False, "write_exif_to_db needs table_name"),
        (["db_max_cache_size=5"], False, "db_max_cache_size"),
    ],
)
def test_contradictions_are_named(overrides: list[str], has_archive: bool, expected: str) -> None:
    (problem,) = problems("", *overrides, has_archive=has_archive)
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blur: 3\nblur: 4", "my.yml:2: blur is set twice"),
        ("- blur", "not a configuration"),
        ("blur: [1", "not valid YAML"),
        ("blur: !!python/object:os.system x", "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problems(text, folder=tmp_path)[0]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yml: cannot be read"):
        config.load([tmp_path / "nowhere.yml"])


@pytest.mark.parametrize(
    "file", ["gone/lite_config.yml", "config/lite_config.yml", "./gone/../lite_config.yml", "nope.yml"]
)
def test_a_path_that_does_not_exist_is_an_error_that_lists_what_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"cannot be read: there is no such file[.,].* 360_lite_config\.yml"):
        config.load([Path(file)])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("targets=[persons]", "'persons' should be 'person', 'vehicle', 'face' or 'plate'; did you mean person?"),
        ("targets=person", "should be a list, such as [a, b]"),
        ("targets=[]", "should have at least 1 item, and has 0"),
        ("preview_dim=800", "preview_dim is 800: should be a list [width, height]"),
        ("preview_center=[0.1]", "should be a list [height, width]"),
        ("cutout_step_factor=800", "should be a list [height, width]"),
        ("mask_classes=[cars]", "cars: no known class; did you mean car?"),
        ("mask_color=[1, 2]", "has too few items"),
        ("score_threshold={default: 0.2, person: 2}", "person should be less than 1"),
        ("log_level=debug", "did you mean DEBUG?"),
        ("force_remask=maybe", "should be True or False"),
        ("blur=1.5", "should be a whole number"),
        ("remote_previw=True", "unknown key remote_previw; did you mean remote_preview?"),
    ],
)
def test_problems_are_told_in_the_words_of_who_writes_the_file(override: str, expected: str) -> None:
    (problem,) = problems("", override)
    assert problem.startswith(f"--set {override}: ")
    assert problem.endswith(expected)


@pytest.mark.parametrize(
    "text",
    ["gray_blur: False", "db_max_n_accumulated_rows: 5000", "evaluation_covered_share: 0.2", "remote_preview: True"],
)
def test_a_contradiction_never_blames_the_defaults_for_what_the_operators_file_says(tmp_path: Path, text: str) -> None:
    first = tmp_path / "first.yml"
    first.write_text("preview_dim: null\n", "utf-8")
    second = tmp_path / "second.yml"
    second.write_text(f"\n{text}\n", "utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load([first, second])
    (problem,) = caught.value.problems
    assert problem.startswith(f"{second}:2: ")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("mask_color: [1, 2, 3]", "mask_color"),
        ("mask_colors: {car: [1, 2, 3]}", "mask_colors"),
        ("blur: 10", "blur"),
        ("blur: 40\nappearance: solid", "blur"),
        ("outline_exponent: 3", "outline_exponent"),
        ("static_mask_blur: 5", "static_mask_blur"),
        ("cutout_overlap: 0.2", "cutout_overlap"),
        ("targets: [face]\nmask_classes: [person]", "targets"),
        ("email_attach_log_file: True\nfinished_email: True", "email_attach_log_file"),
    ],
)
def test_a_setting_that_nobody_will_see_is_named(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "my.yml"
    file.write_text(text, "utf-8")
    (warning,) = config.load([file], has_log=False).warnings
    assert warning.startswith(f"{file}:1: {key} has no visible effect: ")


@pytest.mark.parametrize(
    "overrides",
    [["mask_color=[1, 2, 3]", "appearance=color"], ["mask_color=[1, 2, 3]", "blur=null"], ["blur=15"], ["blur=40"], []],
)
def test_a_setting_that_is_seen_is_not_named(overrides: list[str]) -> None:
    assert config.load([Path("lite_config.yml")], overrides).warnings == ()


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.yml").write_text("# nothing\n")
    assert config.load([tmp_path / "empty.yml"]).as_yaml() == config.load().as_yaml()


_PATH_KEYS = (
    "separate_preview_directory",
    "colmap_mask_directory",
    "static_mask",
    "position_sidecar",
    "model_folder",
    "model_type",
)


def test_relative_paths_begin_at_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("a", "b", "elsewhere"):
        (tmp_path / folder).mkdir()
    (tmp_path / "a" / "c.yml").write_text(
        "separate_preview_directory: previews\ncolmap_mask_directory: ../masks\nstatic_mask: roof.png\n"
        "model_folder: ./models\nmodel_type: [Lite, ./mine]\nposition_sidecar: track.gpx\n"
    )
    (tmp_path / "b" / "d.yml").write_text("static_mask: other.png\n")
    monkeypatch.chdir(tmp_path)
    loaded = config.load([Path("a/c.yml"), Path("b/d.yml")])
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Path(loaded.files.separate_preview_directory or "") == tmp_path / "a" / "previews"
    assert Path(loaded.files.colmap_mask_directory or "").resolve() == (tmp_path / "masks").resolve()
    assert Path(loaded.static_mask.static_mask or "") == tmp_path / "b" / "other.png"
    assert Path(loaded.record.position_sidecar or "") == tmp_path / "a" / "track.gpx"
    assert Path(loaded.model.model_folder or "") == tmp_path / "a" / "models"
    assert [Path(name) for name in loaded.model.models] == [Path("Lite"), tmp_path / "a" / "mine"]


@pytest.mark.parametrize("key", _PATH_KEYS)
def test_single_keys_need_absolute_paths(key: str) -> None:
    (problem,) = problems("", f"{key}=./there")
    assert problem.startswith(f"--set {key}=./there: {key} needs an absolute path here, such as ")
    assert "relative, to the folder of that file" in problem


def test_names_of_models_are_no_paths() -> None:
    assert config.load(overrides=["model_type=[Lite, Nano]"]).model.models == ("Lite", "Nano")
