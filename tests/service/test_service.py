"""The service's answers: pictures, errors, limits and rights, from a real server over loopback."""

import asyncio
import email
import email.policy
import io
import json
import os
import socket
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import jsonschema
import numpy as np
import PIL.Image
import psutil
import pytest

from anonymise import config
from anonymise.anonymiser import Anonymiser
from anonymise.commands import serve
from anonymise.commands.cli import main
from anonymise.core.detections import Box
from anonymise.corrections.store import Correction, Store
from anonymise.images import decode
from anonymise.service.web import Tokens
from tests.fakes import RedMasker, street, write_image
from tests.service.served import ROOT, Serving, picture, serving, token_file

pytestmark = pytest.mark.slow

CAR = Box(40, 40, 90, 80)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    folder = tmp_path_factory.mktemp("service")
    store = Store(folder / "store", create=True)
    shape = '{"box": [5, 5, 20, 20]}'
    row = Correction(
        relative="a/blåbær.png", width=160, height=120, kind="add", category="other", shape=shape, source="external",
        batch="b", author="a",
    )  # fmt: skip
    store.add([row], "tester")
    store.close()
    keys = (
        "service_max_bytes=3000000",
        "max_decoded_pixels=4000000",
        "service_read_seconds=1.5",
        "service_annotations=[car]",
        f"corrections={json.dumps(str(folder / 'store'))}",
    )
    with serving(*keys) as running:
        yield running


def head_of(length: int) -> bytes:
    lines = ("POST /anonymize HTTP/1.1", "Host: x", "Content-Type: image/jpeg", f"Content-Length: {length}", "", "")
    return "\r\n".join(lines).encode()


def n_original(before: bytes, after: bytes, box: Box) -> int:
    first, second = (decode(data, max_pixels=10**8).pixels[box.slices] for data in (before, after))
    return int(np.count_nonzero((first == second).all(axis=2)))


def test_the_real_model_gives_the_bytes_of_the_folder_run(tmp_path: Path) -> None:
    """Acceptance 1 and 2: the command itself, as an operator starts it."""
    photos = tmp_path / "in"
    call = [sys.executable, "-m", "samples", str(photos), "--count", "2", "--size", "640x400"]
    subprocess.run(call, cwd=ROOT, check=True, capture_output=True)
    write_image(photos / "empty.jpg", street((320, 240), ()))
    settings = str(ROOT / "config" / "lite_config.yml")
    assert main(["-i", str(photos), "-o", str(tmp_path / "out"), "-k", settings]) == 0
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "anonymise", "serve", "-k", settings, "--port", "0"]
    n_found = 0
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, encoding="utf-8"
    ) as process:
        assert process.stdout is not None
        url = f"{process.stdout.readline().strip()}/anonymize"
        for file in sorted(photos.rglob("*.jpg")):
            head = {"Content-Type": "image/jpeg"}
            answer = httpx.post(url, content=file.read_bytes(), headers=head, timeout=60, trust_env=False)
            assert answer.status_code == 200
            assert answer.content == (tmp_path / "out" / file.relative_to(photos)).read_bytes()
            n_found += bool(answer.headers["X-Anonymise-Objects"])
        process.kill()
    assert n_found == 2


def test_a_picture_comes_back_hidden_with_its_kind(served: Serving) -> None:
    data = picture()
    answer = served.post(data, X_Request_ID="abc-123")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Disposition"] == "inline; filename=anon_image.jpeg"
    assert answer.headers["X-Anonymise-Objects"] == "car=1"
    assert answer.headers["X-Request-ID"] == "abc-123"
    assert answer.headers["Cache-Control"] == "no-store"
    assert n_original(data, answer.content, CAR) < 100
    loaded = config.load(overrides=["mask_dilation_pixels=0"], has_archive=True)
    assert answer.content == Anonymiser(loaded, model=RedMasker()).anonymise(data).data


def test_an_empty_street_is_an_answer_too(served: Serving) -> None:
    data = picture(cars=())
    answer = served.post(data)
    assert (answer.status_code, answer.headers["X-Anonymise-Objects"]) == (200, "")


@pytest.mark.parametrize(
    ("form", "kind"), [("WEBP", "image/webp"), ("BMP", "image/bmp"), ("TIFF", "image/tiff"), ("PNG", "image/png")]
)
def test_other_kinds_are_answered_as_png(form: str, kind: str, served: Serving) -> None:
    buffer = io.BytesIO()
    options = {"lossless": True} if form == "WEBP" else {}
    PIL.Image.fromarray(street()).save(buffer, form, **options)
    answer = served.post(buffer.getvalue(), f"image/{form.lower()}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "image/png")
    assert answer.headers["Content-Disposition"] == "inline; filename=anon_image.png"
    after = decode(answer.content, max_pixels=10**6).pixels.copy()
    assert not (after[CAR.slices] == street()[CAR.slices]).all(axis=2).any()
    after[CAR.slices] = street()[CAR.slices]
    assert (after == street()).all()


def png_of(width: int, height: int) -> bytes:
    """A small file of a large picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    rows = zlib.compress(bytes((width // 8 + 1) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_what_is_no_picture(served: Serving) -> None:
    """Acceptance 2."""
    data = picture()
    for content, kind, status, text in (
        (data[: len(data) // 2], "image/jpeg", 422, "cannot be read"),
        (b"some text", "image/jpeg", 415, "Unknown content type"),
        (data, None, 415, "Unknown content type"),
        (data, "application/json", 415, "Unknown content type"),
        (b"", "image/jpeg", 400, "Image has 0 Bytes."),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 broken", "image/webp", 422, "it is damaged"),
    ):
        answer = served.post(content, kind)
        assert (answer.status_code, text in answer.text) == (status, True), answer.text
        assert answer.headers["Content-Type"].startswith("text/plain")
        assert "\n" not in answer.text
        assert "/" not in answer.text.replace(" / ", "")
    assert served.get("/anonymize").status_code == 405
    assert served.get("/nothing").status_code == 404


def memory_of(served: Serving) -> int:
    return int(psutil.Process(served.process.pid).memory_info().rss)


def test_what_is_too_large(served: Serving) -> None:
    """Acceptance 3: a declared length is refused before the body is sent, a longer body once it passes the limit."""
    before = memory_of(served)
    answer = served.post(png_of(30_000, 30_000), "image/png")
    assert (answer.status_code, "30000×30000 pixels" in answer.text) == (413, True)
    assert memory_of(served) - before < 50_000_000
    with served.connect() as connection:
        connection.sendall(head_of(100_000_001))
        assert connection.recv(20).startswith(b"HTTP/1.1 413")

    def pieces() -> Iterator[bytes]:
        for _ in range(4):
            yield bytes(1_000_000)

    with served.client() as client:
        try:
            status = client.post("/anonymize", content=pieces(), headers={"Content-Type": "image/jpeg"}).status_code
        except httpx.WriteError:
            status = 413  # the connection was closed before all was sent
    assert status == 413
    assert served.get("/readyz").status_code == 200


def test_a_body_of_no_length(served: Serving) -> None:
    with served.connect() as connection:
        connection.sendall(b"POST /anonymize HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n\r\n")
        assert connection.recv(20).startswith(b"HTTP/1.1 411")


def test_a_slow_client(served: Serving) -> None:
    """Acceptance 5: a byte now and then does not keep a connection for ever (service_read_seconds is 1.5 here)."""
    with served.connect() as connection:
        connection.sendall(
            b"POST /anonymize HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 999\r\n\r\n"
        )
        connection.settimeout(0.2)
        for _ in range(50):
            try:
                connection.sendall(b"x")
                got = connection.recv(20)
                break
            except TimeoutError:
                continue
        assert got.startswith(b"HTTP/1.1 408")


def test_clients_that_hang_up(served: Serving) -> None:
    """Acceptance 5."""
    data = picture()
    for n in range(100):
        with served.connect() as connection:
            connection.sendall(head_of(len(data)) + data[: len(data) if n % 2 else 500])
    deadline = time.monotonic() + 30
    while "anonymise_service_waiting_or_in_work 0.0" not in served.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert served.get("/readyz").status_code == 200
    assert served.post(data).status_code == 200


def test_blur_answers_as_sgblur(served: Serving) -> None:
    data = picture()
    with served.client() as client:
        assert client.get("/blur/").status_code == 200
        assert client.head("/blur/").status_code == 200
        form = {"picture": ("a.jpg", data, "image/jpeg")}
        plain = client.post("/blur/?keep=1&debug=1", files=form)
        assert plain.content == served.post(data).content
        info = json.loads(plain.headers["x-sgblur"])["info"]
        (entry,) = info
        assert (entry["class"], entry["xywh"], entry["bbox"]) == ("car", [40, 40, 50, 40], [40, 40, 90, 80])
        both = client.post("/blur/", files=form, headers={"Accept": "multipart/form-data"})
        kind = f"Content-Type: {both.headers['Content-Type']}\r\n\r\n".encode()
        metadata, image = email.message_from_bytes(kind + both.content, policy=email.policy.HTTP).iter_parts()
        assert metadata.get_param("name", header="Content-Disposition") == "metadata"
        (annotation,) = json.loads(metadata.get_content())["annotations"]
        assert annotation["shape"] == [40, 40, 90, 80]
        assert both.headers["X-Anonymise-Objects"] == "car=1"
        assert image.get_payload(decode=True) == plain.content
        for given in ({"files": {"other": ("a.jpg", data)}}, {"content": b"x"}, {"data": {"picture": "text"}}):
            answer = client.post("/blur/", **given)
            assert answer.status_code in (400, 415)
            assert set(answer.json()) == {"detail"}
        broken = client.post(
            "/blur/", content=b"--x\r\nContent-Disposition: form-data; name=picture\r\n\r\nabc",
            headers={"Content-Type": "multipart/form-data; boundary=x"},
        )  # fmt: skip
        assert (broken.status_code, broken.json()["detail"]) == (400, "The multipart body is cut off.")
        gone = client.post("/deblur/?idx=1&salt=x")
        assert (gone.status_code, gone.json()) == (410, {"detail": "originals are not kept"})


def test_of_two_pictures_in_a_form_none_is_taken(served: Serving) -> None:
    with served.client() as client:
        answer = client.post("/blur/", files=[("picture", ("a.jpg", picture(n), "image/jpeg")) for n in range(2)])
    assert (answer.status_code, answer.json()) == (400, {"detail": "There is more than one picture."})


@pytest.mark.parametrize("boundary", [b"b" * 5000, b"\xff\xe9", b"", b'"'])
def test_a_boundary_that_makes_no_sense(served: Serving, boundary: bytes) -> None:
    with served.client() as client:
        kind = b"multipart/form-data; boundary=" + boundary
        answer = client.post("/blur/", content=b"abc", headers={b"Content-Type": kind})
    assert answer.status_code in (400, 415)
    assert set(answer.json()) == {"detail"}


def test_a_form_of_many_small_parts(served: Serving) -> None:
    content = b"--b\r\nA: b\r\n\r\n\r\n" * 2100 + b"--b--\r\n"
    with served.client() as client:
        answer = client.post("/blur/", content=content, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()) == (413, {"detail": "The form has more than 2000 parts."})


def test_more_pixels_than_pillow_reads(served: Serving) -> None:
    sizes = struct.pack("<IiiHHIIiiII", 40, 20_000, 10_000, 1, 24, 0, 0, 0, 0, 0, 0)
    answer = served.post(b"BM" + struct.pack("<IHHI", 54, 0, 0, 54) + sizes, "image/bmp")
    assert (answer.status_code, "of its kind; send JPEG or PNG" in answer.text) == (413, True)


def test_the_type_may_be_in_capitals(served: Serving) -> None:
    assert served.post(picture(), "IMAGE/JPEG").status_code == 200


def test_samples_that_would_be_cut_off_are_refused(served: Serving) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(street((160, 120), ())[..., 0].astype(np.uint16) * 200).save(buffer, "TIFF")
    answer = served.post(buffer.getvalue(), "image/tiff")
    assert (answer.status_code, answer.text) == (422, "The picture cannot be read: its samples have more than 8 bits.")


def test_the_call_of_panoramax(served: Serving) -> None:
    """Acceptance 7, as far as its server's call goes (geovisio is not installed here)."""
    data = picture()
    with served.client() as client:
        answer = client.post(
            "/blur/?keep=1", files={"picture": ("1.jpg", data, "image/jpeg")}, headers={"Accept": "multipart/form-data"}
        )
    assert answer.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert answer.content.count(b"Content-Disposition: form-data; name=") == 2


def test_corrections_apply_where_the_client_names_the_picture(served: Serving) -> None:
    buffer = io.BytesIO()
    PIL.Image.fromarray(street(cars=())).save(buffer, "PNG")
    data, spot = buffer.getvalue(), Box(5, 5, 25, 25)
    named = served.post(data, "image/png", X_Anonymise_Relative="a/blåbær.png")
    assert n_original(data, named.content, spot) < 20  # a blur may hit a colour by chance
    assert n_original(data, served.post(data, "image/png").content, spot) == 400
    assert n_original(data, served.post(data, "image/png", X_Anonymise_Relative="a/b.png").content, spot) == 400
    for name in ("../a", "/a", "a\\b", "C:/a", "a//b"):
        assert served.post(data, "image/png", X_Anonymise_Relative=name).status_code == 400


def test_small_objects_and_those_at_the_edge_are_hidden(served: Serving) -> None:
    """Acceptance 8 and 9: 8×11 pixels, and a plate at the last columns of the picture."""
    for box in (Box(100, 50, 108, 61), Box(1905, 500, 1918, 520)):
        data = picture(size=(1920, 1080), cars=[box])
        answer = served.post(data)
        assert n_original(data, answer.content, box) < 0.1 * box.area


def test_the_log_names_nothing_of_the_picture(served: Serving) -> None:
    served.post(picture(), X_Request_ID="in-the-log", X_Anonymise_Relative="secret/name.jpg")
    served.post(b"\xff\xd8\xffno picture", X_Request_ID="bad-one")
    deadline = time.monotonic() + 20
    while not any("bad-one" in line for line in list(served.log)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    line = next(line for line in served.log if "in-the-log" in line)
    assert "19200 pixels" in line
    assert "car=1" in line
    assert not any("secret" in entry or "Traceback" in entry for entry in served.log)


def test_the_answers_are_those_of_the_description(served: Serving) -> None:
    described = served.get("/openapi.json").json()
    schema = described["components"]["schemas"]
    data = picture()
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/anonymize", {"content": data, "headers": {"Content-Type": "image/jpeg"}}),
        ("POST", "/anonymize", {"content": b"", "headers": {"Content-Type": "image/jpeg"}}),
        ("POST", "/anonymize", {"content": data}),
        ("POST", "/anonymize", {"content": data[:900], "headers": {"Content-Type": "image/jpeg"}}),
        ("POST", "/blur/", {"files": {"picture": data}}),
        ("POST", "/blur/", {"files": {"other": data}}),
        ("GET", "/blur/", {}),
        ("POST", "/deblur/", {}),
        ("GET", "/healthz", {}),
        ("GET", "/readyz", {}),
        ("GET", "/metrics", {}),
    ]
    with served.client() as client:
        for method, path, given in calls:
            answer = client.request(method, path, **given)
            contents = described["paths"][path][method.lower()]["responses"][str(answer.status_code)]["content"]
            kind = answer.headers["Content-Type"].partition(";")[0]
            assert kind in contents, (path, answer.status_code, kind)
            if kind == "application/json":
                name = contents[kind]["schema"]["$ref"].rpartition("/")[2]
                jsonschema.validate(answer.json(), schema[name])


def test_only_those_with_a_token(tmp_path: Path) -> None:
    file = token_file(tmp_path / "tokens", anna="secret", metrics="figures")
    data, head = picture(), {"Content-Type": "image/jpeg"}
    with serving(f"service_tokens={json.dumps(str(file))}", arguments=["--host", "0.0.0.0"]) as served:
        address = served.address.replace("0.0.0.0", "127.0.0.1")
        for token, status in ((None, 401), ("wrong", 401), ("secret", 200), ("figures", 403)):
            own = {} if token is None else {"Authorization": f"Bearer {token}"}
            answer = httpx.post(f"{address}/anonymize", content=data, headers={**head, **own}, trust_env=False)
            assert answer.status_code == status
            assert ("WWW-Authenticate" in answer.headers) == (status == 401)
        assert httpx.get(f"{address}/healthz", trust_env=False).status_code == 200
        assert httpx.get(f"{address}/metrics", trust_env=False).status_code == 200  # of this machine
        own_address = socket.gethostbyname(socket.gethostname())
        if not own_address.startswith("127."):
            for token, status in ((None, 401), ("secret", 403), ("figures", 200)):
                own = {} if token is None else {"Authorization": f"Bearer {token}"}
                url = f"http://{own_address}:{served.port}/metrics"
                assert httpx.get(url, headers=own, trust_env=False).status_code == status


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host", "0.0.0.0"], "0.0.0.0 can be reached by others: name who may ask"),
        (["--port", "99999"], "--port 99999 is not possible"),
        (["--set", "service_tokens=/no/such/file"], "cannot be read: No such file"),
        (["--set", "service_annotations=[truk]"], "did you mean truck?"),
        (["--host", "192.0.2.1", "--without-tokens"], "192.0.2.1:5000 cannot be listened at"),
    ],
)
def test_what_is_wrong_before_it_starts(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_token_file_that_others_may_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = token_file(tmp_path / "tokens", anna="x")
    file.chmod(0o644)
    few = ["--set", f"service_tokens={json.dumps(str(file))}"]
    assert serve.main(few) == 2
    assert f"{file} may be read by others" in capsys.readouterr().err
    file.write_text("anna:12\n")
    file.chmod(0o600)
    assert serve.main(few) == 2
    assert f"{file}, line 1: it is no name:SHA-256" in capsys.readouterr().err
    file.write_text(f"\ufeff# people\nanna:{'0' * 64}\nanna : {'A' * 64} \n", "utf-8")  # while anna's changes
    assert list(Tokens.read(file)._names.values()) == ["anna", "anna"]
    for content in (b"", b"# nobody\n", b"\xff\xfe"):
        file.write_bytes(content)
        assert serve.main(few) == 2
        assert str(file) in capsys.readouterr().err


def test_the_environment_below_the_keys(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORKERS", "many")
    assert serve.main([]) == 2
    assert "the environment variable WORKERS=many is not possible" in capsys.readouterr().err


def test_64_at_once(served: Serving) -> None:
    """Acceptance 4: those that are taken are right, the others are told when to come again."""
    pictures = [picture(seed) for seed in range(64)]
    right = [served.post(data).content for data in pictures]

    async def ask(address: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=address, timeout=60, trust_env=False, limits=httpx.Limits()) as client:
            head = {"Content-Type": "image/jpeg"}
            return await asyncio.gather(*(client.post("/anonymize", content=d, headers=head) for d in pictures))

    with serving(environ={"WORKERS": "2"}, seconds=0.1) as slow:
        answers = asyncio.run(ask(slow.address))
        assert slow.get("/readyz").status_code == 200
    codes = [answer.status_code for answer in answers]
    assert codes.count(200) >= 18
    assert set(codes) == {200, 503}
    for answer, expected in zip(answers, right, strict=True):
        if answer.status_code == 200:
            assert answer.content == expected
        else:
            assert 1 <= int(answer.headers["Retry-After"]) <= 60


def test_a_place_is_taken_before_the_body_comes_and_kept_until_the_picture_is_out_of_memory() -> None:
    with serving("service_timeout_seconds=0.3", "service_waiting=0", seconds=1.5) as served:
        with served.connect() as slow:
            slow.sendall(head_of(999))
            assert served.post(picture()).status_code == 503  # while the only place waits for its body
        deadline = time.monotonic() + 10
        while served.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline
        assert served.post(picture()).status_code == 504
        assert served.post(picture()).status_code == 503  # the thread still has the first picture
        time.sleep(2)
        assert served.post(picture()).status_code == 504


def test_time_is_limited() -> None:
    with serving("service_timeout_seconds=0.3", seconds=1) as served:
        answer = served.post(picture())
        assert (answer.status_code, answer.text) == (504, "The picture was not done within 0.3 seconds.")
        assert served.get("/healthz").text == "ok"


def test_pictures_of_other_sizes_than_the_static_mask(tmp_path: Path) -> None:
    mask = np.full((120, 160), 255, np.uint8)
    mask[100:, :] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    with serving(f"static_mask={json.dumps(str(tmp_path / 'mask.png'))}") as served:
        data = picture(cars=())
        assert n_original(data, served.post(data).content, Box(0, 100, 160, 120)) < 100
        answer = served.post(picture(size=(80, 60), cars=()))
        assert answer.status_code == 422
        assert str(tmp_path) not in answer.text
