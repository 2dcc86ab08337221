"""Jobs of many images, and what a killed or stopped service leaves."""

import asyncio
import contextlib
import io
import json
import os
import random
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import psutil
import pytest

from tests.service.served import Serving, picture, serving, start, token_file

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "jobs"


def key_of(folder: Path) -> str:
    return f"service_jobs_directory={json.dumps(str(folder))}"


def form(*pictures: bytes) -> list[tuple[str, tuple[str, bytes, str]]]:
    return [("image", (f"{n}.jpg", data, "image/jpeg")) for n, data in enumerate(pictures)]


def ended(client: httpx.Client, url: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (status := client.get(url).json())["state"] in ("pending", "active"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return dict(status)


def files_of(folder: Path) -> list[str]:
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if not path.startswith("lock"))


def test_a_job_from_begin_to_end(folder: Path) -> None:
    pictures = [picture(n) for n in range(3)]
    with serving(key_of(folder)) as served, served.client() as client:
        right = [served.post(data).content for data in pictures]
        answer = client.post("/v1/jobs", files=form(*pictures, b"no picture"), headers={"Idempotency-Key": "k"})
        assert answer.status_code == 202
        url = answer.headers["Location"]
        assert answer.json()["status_url"] == url
        again = client.post("/v1/jobs", files=form(*pictures), headers={"Idempotency-Key": "k"})
        assert (again.status_code, again.json()) == (200, answer.json())
        status = ended(client, url)
        assert (status["state"], status["done"], status["failed"], status["progress"]) == ("completed", 3, 1, 1.0)
        assert status["failures"] == [{"name": "3.jpg", "stage": "anonymise", "reason": "Unknown content type"}]
        described = client.get("/openapi.json").json()["components"]["schemas"]
        jsonschema.validate(status, described["Status"])
        packed = zipfile.ZipFile(io.BytesIO(client.get(f"{url}/result").content))
        assert packed.testzip() is None
        assert packed.namelist() == ["0000_0.jpg", "0001_1.jpg", "0002_2.jpg", "report.json"]
        assert [packed.read(name) for name in packed.namelist()[:3]] == right
        assert all(info.compress_type == zipfile.ZIP_STORED for info in packed.infolist())
        assert client.get(f"{url}/images/1").content == right[1]
        assert client.get(f"{url}/images/3").status_code == 422
        assert client.get(f"{url}/images/9").status_code == 404
        assert not [name for name in files_of(folder) if "/in/" in name]
        assert client.delete(url).status_code == 204
        assert files_of(folder) == []
        assert client.get(url).status_code == 404


def test_folders_that_are_no_jobs_stay(folder: Path) -> None:
    kept = folder / "holiday" / "beach.jpg"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"mine")
    unaccepted = folder / ("a" * 32) / "in"
    unaccepted.mkdir(parents=True)
    with serving(key_of(folder)):
        assert kept.read_bytes() == b"mine"
        assert not unaccepted.exists()


def test_what_is_no_job(folder: Path) -> None:
    with serving(key_of(folder), "service_jobs_bytes=20000") as served, served.client() as client:
        assert client.post("/v1/jobs", files={"other": b"x"}).json() == {
            "detail": "There is no image: the field image is missing."
        }
        assert client.post("/v1/jobs", json={}).status_code == 415
        # More than all jobs may have: by the length, before any of it is sent, and while it comes.
        with served.connect() as connection:
            lines = ("POST /v1/jobs HTTP/1.1", "Host: x", "Content-Type: multipart/form-data; boundary=x")
            connection.sendall("\r\n".join((*lines, "Content-Length: 30000", "", "")).encode())
            assert connection.recv(20).startswith(b"HTTP/1.1 413")
        assert client.post("/v1/jobs", files=form(bytes(15000))).status_code == 202
        assert client.post("/v1/jobs", files=form(bytes(15000))).status_code in (202, 507)
        assert client.get("/v1/jobs/0123").status_code == 404
    with serving() as served, served.client() as client:
        assert client.post("/v1/jobs", files=form(picture())).status_code == 404


def test_the_same_request_twice_at_once_is_one_job(folder: Path) -> None:
    async def ask(address: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False) as client:
            calls = (client.post("/v1/jobs", files=form(picture()), headers={"Idempotency-Key": "k"}) for _ in range(8))
            return await asyncio.gather(*calls)

    with serving(key_of(folder)) as served, served.client() as client:
        answers = asyncio.run(ask(served.address))
        assert sorted(answer.status_code for answer in answers) == [200] * 7 + [202]
        (id_,) = {answer.json()["id"] for answer in answers}
        ended(client, f"/v1/jobs/{id_}")
        assert {name.partition("/")[0] for name in files_of(folder)} == {id_}


def test_images_and_names_of_jobs_have_limits(folder: Path) -> None:
    with serving(key_of(folder), "service_max_bytes=50000") as served, served.client() as client:
        refused = client.post("/v1/jobs", files=form(picture(), bytes(50001)))
        assert (refused.status_code, refused.json()["detail"]) == (413, "An image has more than 50000 bytes.")
        assert files_of(folder) == []
        names = ("x" * 3_000 + ".jpg", "../../а/日本.jpg", "a\\b\x07.jpg", "")
        files = [("image", (name or "e", picture(), "image/jpeg")) for name in names]
        url = client.post("/v1/jobs", files=files).headers["Location"]
        assert ended(client, url)["done"] == 4
        packed = zipfile.ZipFile(io.BytesIO(client.get(f"{url}/result").content))
        assert packed.testzip() is None
        assert packed.namelist()[1] == "0001_日本.jpg"
        assert all("/" not in name and len(name) < 120 for name in packed.namelist())


def test_a_folder_serves_one_server_at_a_time(folder: Path) -> None:
    with serving(key_of(folder)), pytest.raises(AssertionError, match="is in use by another server"):
        start(key_of(folder))
    with serving(key_of(folder)):  # the lock of a killed one is gone
        pass


@pytest.mark.skipif(os.name == "nt" or not Path("/proc/self/limits").exists(), reason="prlimit is of Linux")
def test_a_disk_that_takes_no_more(folder: Path) -> None:
    """Uploads are refused with one sentence; a job whose results cannot be stored waits until they can."""
    with serving(key_of(folder), seconds=0.3) as served, served.client() as client:
        process = psutil.Process(served.process.pid)
        url = client.post("/v1/jobs", files=form(picture(), picture(1))).headers["Location"]
        process.rlimit(psutil.RLIMIT_FSIZE, (1000, -1))
        refused = client.post("/v1/jobs", files=form(picture()))
        assert (refused.status_code, list(refused.json())) == (507, ["detail"])
        deadline = time.monotonic() + 30
        while not any(" waits: " in line for line in list(served.log)):
            assert time.monotonic() < deadline, (client.get(url).json(), served.log)
            time.sleep(0.05)
        assert client.get(url).json()["state"] in ("pending", "active")
        process.rlimit(psutil.RLIMIT_FSIZE, (-1, -1))
        assert ended(client, url)["done"] == 2
        assert not any(str(folder) in line for line in served.log)


def test_an_original_that_is_gone_fails_alone(folder: Path) -> None:
    with serving(key_of(folder), seconds=0.5) as served, served.client() as client:
        url = client.post("/v1/jobs", files=form(*(picture(n) for n in range(3)))).headers["Location"]
        (folder / url.rpartition("/")[2] / "in" / "1").unlink()
        status = ended(client, url)
        assert (status["done"], [one["reason"] for one in status["failures"]]) == (2, ["The image is no longer here."])


def test_a_stopping_service_begins_no_image_of_a_job(folder: Path) -> None:
    with serving(key_of(folder), seconds=0.2) as served, served.client() as client:
        url = client.post("/v1/jobs", files=form(*(picture(n) for n in range(40)))).headers["Location"]
        while not client.get(url).json()["done"]:
            time.sleep(0.05)
        assert served.stop() == 0
    assert len([name for name in files_of(folder) if "/in/" in name]) > 30
    with serving(key_of(folder)) as again, again.client() as client:
        assert ended(client, url)["done"] == 40


def test_results_wait_for_their_turn_and_others_see_nothing(folder: Path, tmp_path: Path) -> None:
    """Acceptance 10."""
    file = token_file(tmp_path / "tokens", anna="a", bo="b")
    with (
        serving(key_of(folder), f"service_tokens={json.dumps(str(file))}", seconds=0.5) as served,
        served.client("a") as anna,
        served.client("b") as bo,
    ):
        url = anna.post("/v1/jobs", files=form(*(picture(n) for n in range(3)))).headers["Location"]
        assert anna.get(f"{url}/result").status_code == 409
        assert anna.get(f"{url}/images/2").status_code == 409
        for path in (url, f"{url}/result", f"{url}/images/0"):
            assert bo.get(path).status_code == 404
        assert bo.delete(url).status_code == 404
        assert anna.delete(url).status_code == 204  # while one is in work
        assert files_of(folder) == []
        assert served.get(url).status_code == 401


def test_jobs_go_on_after_kill_and_stop(folder: Path) -> None:
    """Acceptance 6: kill -9 and SIGTERM at random moments, 4 each."""
    moments = random.Random(3)
    pictures = [picture(n) for n in range(4)]
    with serving() as served:
        right = [served.post(data).content for data in pictures]
    for n in range(8):
        served = start(key_of(folder), seconds=0.05)
        try:
            with served.client() as client:
                url = client.post("/v1/jobs", files=form(*pictures)).headers["Location"]
            time.sleep(moments.uniform(0, 0.3))
            if n % 2:
                assert served.stop() == 0
        finally:
            served.close()
        with serving(key_of(folder)) as again, again.client() as client:
            status = ended(client, url)
            assert (status["done"], status["failed"]) == (4, 0)
            assert [client.get(f"{url}/images/{k}").content for k in range(4)] == right
            assert not [name for name in files_of(folder) if "/in/" in name or name.endswith(".part")]


def test_no_client_has_an_answer_that_is_not_anonymised(tmp_path: Path) -> None:
    """kill -9 and SIGTERM at random moments, 16 each: a complete 200 is the right picture; no file is left."""
    moments = random.Random(4)
    pictures = [picture(n) for n in range(8)]
    with serving() as served:
        right = [served.post(data).content for data in pictures]
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    environ = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))
    n_complete = 0
    for n in range(32):
        served = start(seconds=0.03, environ=environ)
        answers: dict[int, httpx.Response] = {}

        def ask(number: int, served: Serving = served, answers: dict[int, httpx.Response] = answers) -> None:
            with contextlib.suppress(httpx.HTTPError):  # it was killed
                answers[number] = served.post(pictures[number])

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(moments.uniform(0.02, 0.4))
        if n % 2:
            assert served.stop() == 0
        served.close()
        for thread in threads:
            thread.join()
        for number, answer in answers.items():
            assert answer.status_code in (200, 503)
            if answer.status_code == 200:
                assert answer.content == right[number]
                n_complete += 1
        assert [path for path in scratch.rglob("*") if path.is_file()] == []
    assert n_complete > 0


def test_a_stopping_service_ends_what_is_in_work() -> None:
    with serving(seconds=1) as served:
        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(served.post(picture())))
        thread.start()
        time.sleep(0.5)
        with served.client() as client:
            assert client.get("/readyz").status_code == 200
            stopping = threading.Thread(target=served.stop)
            stopping.start()
            time.sleep(0.2)
            ready = client.get("/readyz")
            assert (ready.status_code, ready.text) == (503, "stopping")
            refused = client.post("/anonymize", content=picture(1), headers={"Content-Type": "image/jpeg"})
            assert refused.status_code == 503
        thread.join()
        stopping.join()
        assert [answer.status_code for answer in answers] == [200]
        assert served.process.returncode == 0


def mutated(data: bytes, moments: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(moments.randint(1, 12)):
        at = moments.randrange(len(changed))
        match moments.randrange(4):
            case 0:
                changed[at] = moments.randrange(256)
            case 1:
                del changed[at : at + moments.randrange(1, 200)]
            case 2:
                changed[at:at] = moments.randbytes(moments.randrange(1, 60))
            case _:
                changed[at : at + 8] = bytes(8)
        if not changed:
            return b"\xff"
    return bytes(changed)


def test_mutated_bodies() -> None:
    """2,000 bodies: no 500, no crash, ready afterwards."""
    moments = random.Random(5)
    sound = [picture(size=(48, 32), cars=()), *other_kinds()]

    async def ask(address: str) -> list[int]:
        limits = httpx.Limits(max_connections=8)
        async with httpx.AsyncClient(base_url=address, timeout=120, trust_env=False, limits=limits) as client:
            turns = asyncio.Semaphore(8)

            async def one(data: bytes) -> int:
                async with turns:
                    head = {"Content-Type": "image/x"}
                    return (await client.post("/anonymize", content=data, headers=head)).status_code

            return await asyncio.gather(*(one(mutated(sound[n % len(sound)], moments)) for n in range(2000)))

    with serving("max_decoded_pixels=1000000", environ={"WORKERS": "2"}) as served:
        codes = asyncio.run(ask(served.address))
        assert set(codes) <= {200, 413, 415, 422}, {code: codes.count(code) for code in set(codes)}
        assert codes.count(422) > 200
        assert served.get("/readyz").status_code == 200
        assert served.post(sound[0]).status_code == 200


def other_kinds() -> Iterator[bytes]:
    import PIL.Image

    from tests.fakes import street

    for form_, options in (("PNG", {}), ("WEBP", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {})):
        buffer = io.BytesIO()
        PIL.Image.fromarray(street((48, 32), ())).save(buffer, form_, **options)
        yield buffer.getvalue()


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    from anonymise.commands import serve

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert serve.main(["--port", str(port)]) == 2
    assert f"127.0.0.1:{port} cannot be listened at: Address already in use" in capsys.readouterr().err
