"""Reports by the public, over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from anonymise.commands import serve
from anonymise.corrections.store import Store
from tests.fakes import street, write_image
from tests.service.served import Serving, serving

pytestmark = pytest.mark.slow

SHAPES = [[[10, 10], [40, 10], [40, 50]]]
REPORT = {"relative": "a/1.png", "issue": "blur_missing", "convention": "pixels", "shapes": SHAPES}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("intake")
    write_image(made / "in" / "a" / "1.png", street(cars=()))
    Store(made / "store", create=True).close()
    return made


@pytest.fixture
def served(folder: Path) -> Iterator[Serving]:
    keys = {"corrections": folder / "store", "reports_originals": folder / "in"}
    with serving("reports_open=True", *(f"{key}={json.dumps(str(path))}" for key, path in keys.items())) as running:
        yield running


def test_a_report_and_its_state(served: Serving, folder: Path) -> None:
    with served.client() as client:
        answer = client.post("/v1/reports", json={**REPORT, "reporter": "me@example.org", "note": "my face"})
        assert answer.status_code == 201, answer.text
        state = client.get(answer.headers["Location"])
        jsonschema.validate(state.json(), client.get("/openapi.json").json()["components"]["schemas"]["Report"])
        assert (state.json()["status"], state.json()["closed"]) == ("received", None)
        assert client.get("/v1/reports/0123").status_code == 404
        wrongs: list[object] = [
            {**REPORT, "relative": "a/2.png"},
            {**REPORT, "relative": "../in/a/1.png"},
            {**REPORT, "shapes": []},
            {**REPORT, "shapes": [["x"]]},
            [],
        ]
        for wrong in wrongs:
            refused = client.post("/v1/reports", json=wrong)
            assert (refused.status_code, set(refused.json())) == (422, {"detail"}), wrong
            assert str(folder) not in refused.text
        assert client.post("/v1/reports", content=b"{").status_code == 422
        assert client.post("/v1/reports", content=bytes(70_000)).status_code == 413
    with Store(folder / "store") as store:
        assert [row.status for row in store.select()] == ["proposed"]
        assert "example.org" not in json.dumps(store.read("SELECT * FROM report"))


def test_the_21st_report_of_an_hour(served: Serving) -> None:
    """Acceptance 8 of the reports."""
    with served.client() as client:
        codes = [client.post("/v1/reports", json={**REPORT, "relative": "no.png"}).status_code for _ in range(21)]
        assert codes == [422] * 20 + [429]
        refused = client.post("/v1/reports", json=REPORT)
        assert 0 < int(refused.headers["Retry-After"]) <= 3601
        other = client.post("/v1/reports", json=REPORT, headers={"X-Forwarded-For": "192.0.2.7"})
        assert other.status_code == 201  # a proxy on this machine says whose it is


def test_closed_by_default_and_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    with serving() as closed, closed.client() as client:
        assert client.post("/v1/reports", json=REPORT).status_code == 404
    assert serve.main(["--set", "reports_open=True"]) == 2
    assert "reports_open needs corrections" in capsys.readouterr().err
