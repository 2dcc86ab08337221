"""Which models run for which targets, and what an operator may write."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from anonymise import config
from anonymise.core.classes import LABELS, TARGETS
from anonymise.core.errors import ConfigError, ModelError
from anonymise.models import ModelOptions
from anonymise.models.options import of_class
from anonymise.models.origin import ORIGIN
from anonymise.models.selection import select

pytestmark = pytest.mark.slow

_VEHICLES = {"bicycle", "car", "motorcycle", "bus", "truck"}


def options(**changed: object) -> ModelOptions:
    return config.load(overrides=[f"{key}={value}" for key, value in changed.items()]).model


def names(labels: frozenset[int]) -> set[str]:
    return {LABELS[label] for label in labels}


def fetched(folder: Path, *models: str) -> None:
    """Makes models look fetched."""
    for name in models:
        (folder / name).mkdir(parents=True)
        (folder / name / ORIGIN).write_text(json.dumps({"sha256": {"file": name}}))


@pytest.mark.parametrize(
    ("changed", "models", "hidden"),
    [
        ({}, ["Medium"], {"person"} | _VEHICLES),
        ({"model_type": "[Lite, Nano]"}, ["Lite", "Nano"], {"person"} | _VEHICLES),
        ({"targets": "[person]"}, ["Medium"], {"person"}),
        ({"targets": "[face]"}, ["CenterFace"], {"face"}),  # Medium would find nothing of interest
        ({"targets": "[face, vehicle]"}, ["Medium", "CenterFace"], {"face"} | _VEHICLES),
        ({"targets": "[vehicle]", "model_type": "[Lite, CenterFace]"}, ["Lite"], _VEHICLES),
        ({"mask_classes": "[dog, face]"}, ["Medium", "CenterFace"], {"dog", "face"}),  # instead of the targets
        ({"model_type": "CenterFace"}, ["Lite"], {"person"} | _VEHICLES),  # what it does not find is not left out
    ],
)
def test_the_models_that_run_find_what_is_to_be_hidden(changed: dict[str, Any], models: list[str], hidden: set[str],
                                                       tmp_path: Path) -> None:  # fmt: skip
    selection = select(options(model_folder=tmp_path.as_posix(), **changed))
    assert [model.name for model in selection.models] == models
    assert names(selection.hidden) == hidden
    assert (selection.parts, selection.verifier) == ((), None)
    assert selection.identity is None  # nothing is fetched


def test_plates_are_looked_for_within_vehicles(tmp_path: Path) -> None:
    selection = select(options(targets="[face, plate]", model_folder=tmp_path.as_posix()))
    assert [model.name for model in selection.models] == ["Medium", "CenterFace"]
    assert [model.name for model in selection.parts] == ["Plates"]
    assert names(selection.hidden) == {"face", "plate"}
    assert names(selection.sought) == {"face", "car", "motorcycle", "bus", "truck"}


@pytest.mark.parametrize(
    ("changed", "models", "parts"),
    [
        ({"targets": "[plate]", "within": "{}"}, ["Plates"], []),
        ({"targets": "[plate]", "model_type": "Plates"}, ["Lite"], ["Plates"]),  # something must find the vehicles
        ({"targets": "[plate]", "within": "{plate: truck}"}, ["Medium"], ["Plates"]),
        ({"targets": "[face]", "within": "{face: person}"}, ["Medium"], ["CenterFace"]),
        ({"targets": "[plate]", "within": "{plate: vehicle}"}, ["Medium"], ["Plates"]),
        ({"targets": "[person]", "within": "{face: person}"}, ["Medium"], []),
    ],
)
def test_where_parts_are_looked_for_is_a_key(changed: dict[str, Any], models: list[str], parts: list[str],
                                             tmp_path: Path) -> None:  # fmt: skip
    selection = select(options(model_folder=tmp_path.as_posix(), **changed))
    assert [model.name for model in selection.models] == models
    assert [model.name for model in selection.parts] == parts


def test_a_verifier_is_named_like_any_model(tmp_path: Path) -> None:
    selection = select(options(model_type="Nano", verify_with="Lite", model_folder=tmp_path.as_posix()))
    assert selection.verifier is not None
    assert [model.name for model in selection.all] == ["Nano", "Lite"]
    with pytest.raises(ModelError, match="'Huge' is neither"):
        select(options(verify_with="Huge", model_folder=tmp_path.as_posix()))


_OWN = """
models:
  Mine:
    summary: plates and faces
    licence: MIT
    kind: detector
    sources: [{path: /srv/models}]
    files: {mine.onnx: null}
    network: mine.onnx
    classes: [plate, null, face]
    input: {name: null, size: [320, 320], layout: NCHW, colors: RGB, fit: letterbox}
    output: {layout: yolo, tensor: null, objectness: False, transposed: True}
"""


def test_models_of_the_operators_own_catalog_come_in_addition(tmp_path: Path) -> None:
    (tmp_path / "catalog.yml").write_text(_OWN)
    fetched(tmp_path, "Mine")
    selection = select(options(targets="[face, plate]", model_folder=tmp_path.as_posix()))
    # Which is there, and finds both.
    assert [[m.name for m in some] for some in (selection.models, selection.parts)] == [["Medium", "Mine"], ["Mine"]]
    with pytest.raises(ModelError, match=r"Lite, .*, Mine"):
        select(options(model_type="Huge", model_folder=tmp_path.as_posix()))
    (tmp_path / "catalog.yml").write_text(_OWN.replace("yolo", "other"))
    with pytest.raises(ModelError, match="cannot be used"):
        select(options(model_folder=tmp_path.as_posix()))


def test_the_identity_is_another_for_other_models_classes_and_entries(tmp_path: Path) -> None:
    (tmp_path / "catalog.yml").write_text(_OWN)
    fetched(tmp_path, "Mine", "Lite", "Nano", "CenterFace")

    def identity(**changed: object) -> str | None:
        return select(options(model_folder=tmp_path.as_posix(), **changed)).identity

    cases: list[dict[str, object]] = [
        {"model_type": "Lite"},
        {"model_type": "Nano"},
        {"model_type": "[Lite, Nano]"},
        {"model_type": "[Nano, Lite]"},
        {"model_type": "Lite", "targets": "[person]"},
        {"model_type": "Lite", "targets": "[person, face]"},
        {"model_type": "Lite", "targets": "[plate]"},
        {"model_type": "Lite", "verify_with": "Nano"},
    ]
    found = [identity(**case) for case in cases]
    assert None not in found
    assert len(set(found)) == len(cases)
    assert [identity(**case) for case in cases] == found
    (tmp_path / "catalog.yml").write_text(_OWN.replace("320, 320", "640, 640"))
    assert [identity(**case) == before for case, before in zip(cases, found, strict=True)] == [
        *[True] * 6,
        False,
        True,
    ]


def test_values_by_class() -> None:
    loaded = options(score_threshold="{default: 0.4, person: 0.2}", box_padding="{default: 0, face: 0.1}")
    ids = {name: number for number, name in LABELS.items()}
    assert [of_class(loaded.score_threshold, ids[name]) for name in ("person", "car", "plate")] == [0.2, 0.4, 0.4]
    assert [of_class(loaded.box_padding, ids[name]) for name in ("person", "face")] == [0, 0.1]
    assert of_class(options(score_threshold=0.5).score_threshold, ids["car"]) == 0.5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("score_threshold", "{person: 0.2}", "default is missing, for the classes that are not named"),
        ("score_threshold", "{default: 0.3, human: 0.2}", "human: no known class; the classes are person, bicycle"),
        ("score_threshold", "{default: 0.3, person: 1}", "should be less than 1"),
        ("score_threshold", "high", "should be a valid number"),
        ("box_padding", "-0.1", "should be greater than or equal to 0"),
        ("box_padding", "{default: 2}", "should be less than or equal to 1"),
        ("targets", "[people]", "'person', 'vehicle', 'face' or 'plate'"),
        ("targets", "[]", "at least 1"),
        ("mask_classes", "[]", "at least 1"),
        ("mask_classes", "[nose]", "nose: no known class"),
        ("model_type", "[]", "at least 1"),
        ("model_type", "[Lite, Lite]", "a model is named twice"),
        ("input_scales", "[1, 1.5, 1]", "a scale is named twice"),
        ("input_scales", "[0]", "greater than 0"),
        ("model_type", "''", "at least 1"),
        ("within", "{plate: vehicles}", "what they are part of may be a target as well: person, vehicle"),
        ("within", "{nose: person}", "nose: no known class"),
        ("within", "{plate: vehicle, car: plate}", "a part cannot be looked for within another part"),
        ("verify_below", "{person: 0.5}", "default is missing"),
        ("verify_sum", "2", "less than 2"),
    ],
)
def test_what_an_operator_gets_wrong_is_said(key: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"{key} is .*") as caught:
        config.load(overrides=[f"{key}={value}"])
    assert message in str(caught.value)


def test_every_target_is_an_option_and_its_classes_exist() -> None:
    for target, classes in TARGETS.items():
        assert names(options(targets=f"[{target}]").hidden) == set(classes)


def test_the_operator_is_told_once_which_models_run_and_what_is_hidden_instead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from anonymise.models import load_masker

    with caplog.at_level(logging.INFO, "anonymise.models.masker"):
        masker = load_masker(options(model_type="Lite", targets="[plate]"), progress=False)
    assert "Plates, which finds in close-ups of what has them: plate" in caplog.text
    assert "Lite, which finds in every picture: car, motorcycle, bus, truck" in caplog.text
    assert masker.identity == select(options(model_type="Lite", targets="[plate]")).identity
