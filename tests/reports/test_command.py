"""Reports from the command line: files, addresses, the weekly loop, kills."""

import http.server
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from anonymise.commands.cli import main
from anonymise.core.detections import Box
from anonymise.corrections.store import Store
from anonymise.reports.desk import decide, public_status, receive
from tests.corrections.runs import Folders, noise
from tests.fakes import read_image, write_image

ROOT = Path(__file__).parents[2]
SCANVAN = [
    {"filepath": "a/1.png", "viewpointId": 7, "pitchYawOrders": [{"pitch": p, "yaw": y} for p, y in corners]}
    for corners in (((1.4, 2.0), (1.4, 2.3), (1.7, 2.3), (1.7, 2.0)), ((1.4, 6.1), (1.4, 0.1), (1.7, 0.1), (1.7, 6.1)))
]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_image(tmp_path / "archive" / "a" / "1.png", noise((400, 200)))
    settings = tmp_path / "my.yml"
    settings.write_text("corrections: store\nreports_originals: archive\nprojection: equirectangular\n")
    return tmp_path


def reports(folder: Path, action: str, *arguments: object) -> int:
    return main(["reports", action, "-k", str(folder / "my.yml"), *map(str, arguments)])


def listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> list[dict[str, str]]:
    capsys.readouterr()
    assert reports(folder, "list") == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_list_of_scanvan(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = files / "reports.json"
    source.write_text(json.dumps([*SCANVAN, {"filepath": "b.png", "pitchYawOrders": []}, 3]))
    assert reports(files, "import", source, "--dry-run") == 1
    assert "2 received" in capsys.readouterr().out
    assert listed(files, capsys) == []
    assert reports(files, "import", source) == 1
    printed = capsys.readouterr()
    assert printed.out == "2 received, 2 refused\n"
    assert printed.err.splitlines()[0].endswith("reports.json, entry 3: refused: the picture is not known here")
    assert "entry 4: refused: no JSON: it is no object" in printed.err
    assert reports(files, "import", source) == 1
    assert capsys.readouterr().out == "2 known already, 2 refused\n"
    first, second = listed(files, capsys)
    assert first["issue"] == "blur_missing"
    columns = np.array(second["polygons"][0])[:, 0]
    assert columns.max() - columns.min() < 40  # across the seam, not the long way round


@pytest.mark.parametrize(
    ("text", "out", "err"),
    [
        (
            '{"relative": "a/1.png", "convention": "uv", "shapes": [[[0.1, 0.1], [0.2, 0.1], [0.2, 0.2]]]}\n'
            '{"rel\n\n{}\n',
            "1 received, 2 refused",
            "line 2: refused: no JSON",
        ),
        (
            'relative,issue,convention,shapes,note\na/1.png,privacy,pannellum,"0 0, 5 0, 5 5; 20 20",mine\n'
            "a/1.png,privacy,pannellum,0 x,\na/1.png,privacy\n",
            "1 received, 2 refused",
            "line 3: refused: shapes: could not convert",
        ),
        ("\ufeff[]", "no reports", ""),
        ("a,b\n1,2\n", "1 refused", "line 2: refused: a report has no 'a'; it has category"),
    ],
)
def test_other_files(files: Path, capsys: pytest.CaptureFixture[str], text: str, out: str, err: str) -> None:
    source = files / "reports.txt"
    source.write_text(text, "utf-8")
    assert reports(files, "import", source) == (1 if err else 0)
    printed = capsys.readouterr()
    assert printed.out.strip() == out
    assert err in printed.err
    assert "Traceback" not in printed.err


@pytest.mark.parametrize("content", [b"", b"[1, 2", b"\xff\xfe", b"[" * 100_000, b"shapes\n" + b"1" * 200_000])
def test_files_that_are_none(files: Path, capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    (files / "reports.json").write_bytes(content)
    assert reports(files, "import", files / "reports.json") == 2
    assert "reports.json" in capsys.readouterr().err
    assert reports(files, "import", files / "gone.json") == 2


@pytest.fixture
def served(files: Path) -> Iterator[str]:
    (files / "reports.json").write_text(json.dumps(SCANVAN))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(files))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            if self.path != "/pieces.json":
                super().do_GET()
                return
            self.protocol_version = "HTTP/1.1"
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for byte in (files / "reports.json").read_bytes():
                self.wfile.write(b"1\r\n%c\r\n" % byte)
            self.wfile.write(b"0\r\n\r\n")

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_from_a_web_address(files: Path, served: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert reports(files, "import", f"{served}/reports.json") == 0
    assert capsys.readouterr().out == "2 received\n"
    assert reports(files, "import", f"{served}/pieces.json") == 0
    assert capsys.readouterr().out == "2 known already\n"
    assert reports(files, "import", f"{served}/none.json") == 2
    assert "404" in capsys.readouterr().err
    assert reports(files, "import", "http://127.0.0.1:9/reports.json") == 2


def test_decisions_and_states(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = files / "reports.json"
    source.write_text(json.dumps(SCANVAN))
    reports(files, "import", source)
    first, second = (report["id"] for report in listed(files, capsys))
    assert reports(files, "accept", "--id", first, "--id", "x", "--by", "mari") == 2  # neither
    assert len(listed(files, capsys)) == 2
    assert reports(files, "accept", "--id", first, "--by", "mari") == 0
    assert reports(files, "reject", "--id", second, "--reason", "spam", "--by", "mari") == 0
    capsys.readouterr()
    assert reports(files, "status", "--id", first, "--json") == 0
    assert json.loads(capsys.readouterr().out)["status"] == "accepted"
    assert reports(files, "status") == 0
    assert "accepted: 1, rejected: 1" in capsys.readouterr().out
    assert reports(files, "status", "--id", "x") == 2
    assert reports(files, "accept", "--id", second) == 2
    assert "is rejected already" in capsys.readouterr().err


def test_calibrate(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = [(200, 100, 180, 90), (300, 100, 270, 90), (200, 50, 180, 45)]
    turned = [(200, 100, 0, 0), (300, 100, 90, 0), (250, 50, 45, -45)]
    for known, expected in ((turned, "pannellum\nreports_yaw_offset: 0\nreports_pitch_sign: -1"), (places, None)):
        arguments = [word for place in known for word in ("--place", *place)]
        code = reports(files, "calibrate", "--original", files / "archive" / "a" / "1.png", *arguments)
        out = capsys.readouterr().out
        assert (
            (code, out.strip()) == (0, f"convention: {expected}")
            if expected
            else (code, out)
            == (
                1,
                "no convention fits all places within 2 pixels\n",
            )
        )
    assert reports(files, "calibrate", "--original", files / "my.yml", "--place", 1, 2, 3, 4) == 2


@pytest.mark.slow
def test_the_weekly_loop_with_the_real_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Reports in → accepted → drawn from the archive → told; only the picture concerned changes."""
    for n in range(3):
        write_image(tmp_path / "in" / "a" / f"{n}.jpg", noise((400, 200), seed=n))
    settings = tmp_path / "my.yml"
    settings.write_text("corrections: store\nreports_originals: archive\n")
    keys = ["-k", str(ROOT / "config" / "lite_config.yml"), "-k", str(settings)]
    trees = ["-o", str(tmp_path / "out"), *keys, "--set", "enable_async=False"]
    assert main(["corrections", "import", *keys, str(write_text(tmp_path / "empty", ""))]) == 0
    archive = ["-a", str(tmp_path / "archive"), "--create-archive", "--set", "archive_instances=True"]
    assert main(["-i", str(tmp_path / "in"), *trees, *archive]) == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "out").rglob("*.jpg")}

    spot = {"relative": "a/1.jpg", "issue": "blur_missing", "category": "face", "convention": "uv"}
    lines = [
        spot | {"shapes": [[[0.2, 0.2], [0.4, 0.2], [0.4, 0.6], [0.2, 0.6]]]},
        spot | {"shapes": [[[0.7, 0.2], [0.9, 0.2], [0.9, 0.6], [0.7, 0.6]]], "relative": "a/2.jpg"},
    ]
    source = write_text(tmp_path / "week.jsonl", "\n".join(map(json.dumps, lines)))
    assert reports(tmp_path, "import", source) == 0
    real, spam = (report["id"] for report in listed(tmp_path, capsys))
    assert reports(tmp_path, "accept", "--id", real, "--by", "mari") == 0
    assert reports(tmp_path, "reject", "--id", spam, "--reason", "nothing_there", "--by", "mari") == 0
    assert main(["redraw", "-i", str(tmp_path / "archive"), *trees, "--corrected"]) == 0
    capsys.readouterr()
    for id_, expected in ((real, "drawn"), (spam, "rejected")):
        assert reports(tmp_path, "status", "--id", id_, "--json") == 0
        assert json.loads(capsys.readouterr().out)["status"] == expected
    after = {file.name: file.read_bytes() for file in (tmp_path / "out").rglob("*.jpg")}
    assert {name for name in before if before[name] != after[name]} == {"1.jpg"}
    inner = slice(50, 110), slice(90, 150)
    original = read_image(tmp_path / "in" / "a" / "1.jpg")[inner].astype(int)
    assert np.abs(read_image(tmp_path / "out" / "a" / "1.jpg")[inner] - original).mean() > 20


def write_text(file: Path, text: str) -> Path:
    file.write_text(text, "utf-8")
    return file


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork and no kill -9 there")
def test_twenty_kills_between_accepted_and_drawn(tmp_path: Path) -> None:
    """Acceptance 9."""
    folders = Folders(tmp_path)
    original = read_image(folders.write("1.png", noise()))
    config = folders.settings(f"reports_originals={json.dumps(str(folders.input))}")
    command = [sys.executable, "-W", "ignore", "-m", "tests.corrections.killed", str(tmp_path)]
    dice = random.Random(3)
    spots: dict[str, Box] = {}

    def report(number: int) -> None:
        box = Box(number % 7 * 22 + 5, number // 7 * 22 + 5, number % 7 * 22 + 15, number // 7 * 22 + 15)
        corners = [[box.left, box.top], [box.right, box.top], [box.right, box.bottom], [box.left, box.bottom]]
        with Store(folders.store_folder) as store:
            id_ = receive(store, {"relative": "1.png", "convention": "pixels", "shapes": [corners]}, config)
            decide(store, id_, "mari", "accepted", "seen")
        spots[id_] = box

    def check() -> set[str]:
        published = read_image(folders.output / "1.png")
        states = {}
        with Store(folders.store_folder) as store:
            for id_, box in spots.items():
                states[id_] = (public_status(store, id_) or {})["status"]
                if states[id_] == "drawn":
                    assert not (published[box.slices] == original[box.slices]).all(axis=2).any()
        return {str(state) for state in states.values()}

    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def run(n_steps: int) -> int:
            process.stdin.write(f"{n_steps}\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return int(process.stdout.readline())  # type: ignore[union-attr]

        run(0)
        report(0)
        n_steps = run(0)
        assert check() == {"drawn"}
        n_killed = 0
        for number in range(1, 35):
            report(number)
            n_killed += run(dice.randint(1, n_steps)) == -1
            assert check() <= {"accepted", "drawn"}
            if n_killed == 20:
                break
        assert n_killed == 20
        run(0)
        assert check() == {"drawn"}
        process.stdin.close()
