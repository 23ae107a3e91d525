"""Files made to hurt, through real workers and the real model; and the command itself."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from tests.serve.conftest import send, settle
from unseen.serve.api import create_app
from unseen.serve.desk import Desk
from unseen.serve.settings import Settings

PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.jpg"


def png(width: int, height: int, *, rows: int = 0) -> bytes:
    """A PNG of a stated size whose data hold `rows` rows of black, which pack to almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    data = b"".join(packer.compress(row) for _ in range(rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = str(tmp_path_factory.mktemp("spool"))
    settings = Settings(workers=1, rate=0, max_duration=5, max_pixels=20_000_000, frames=4, folder=folder)
    with Desk(settings) as desk, TestClient(create_app(desk), "http://127.0.0.1") as client:
        yield client


def test_a_portrait_gets_its_verdict(real: TestClient) -> None:
    told = settle(real, send(real, PORTRAIT.read_bytes(), "../<img src=q onerror=alert(1)>.jpg"), 60)
    verdict = told["verdict"]
    assert told["status"] == "done" and verdict["verdict"] in ("real", "fake", "inconclusive")
    assert 0 <= verdict["probability"] <= 1 and len(verdict["people"]) == 1
    assert verdict["file"] == "<img src=q onerror=alert(1)>.jpg" and "unseen-serve" not in str(verdict)
    page = real.get(told["report"]).text
    stored = re.compile(r"\b[0-9a-f]{32}\b")  # nor does the name it lay under
    assert not stored.search(str(verdict)) and not stored.search(page)
    assert (
        "&lt;img src=q onerror=alert(1)&gt;.jpg" in page
        and "<img src=q" not in page
        and "unseen-serve" not in page
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("empty.jpg", "empty"),
        ("text.mp4", "unreadable"),
        ("bomb.png", "too_large"),
        ("header.png", "too_large"),
        ("header.bmp", "too_large"),
        ("half.jpg", None),
        ("endless.mp4", "too_large"),
        ("playlist.m3u8", "unreadable"),
        ("zeros.avi", "unreadable"),
    ],
)
def test_hostile_files_are_refused_with_a_reason(
    real: TestClient, tmp_path: Path, name: str, reason: str | None
) -> None:
    data = hostile(name, tmp_path)
    told = settle(real, send(real, data, name), 60)
    assert told["status"] == "done", told
    if reason is not None:
        assert (told["verdict"]["verdict"], told["verdict"]["reason"]) == ("error", reason), told["verdict"]
        assert name in told["verdict"]["explanation"] and "unseen-serve" not in str(told["verdict"])


def hostile(name: str, folder: Path) -> bytes:
    if name == "empty.jpg":
        return b""
    if name == "text.mp4":
        return b"no video at all\n" * 100
    if name == "bomb.png":  # 36 kB that unpack to 36 MB
        return png(20_000, 20_000, rows=600)
    if name == "header.png":
        return png(100_000, 100_000)
    if name == "header.bmp":
        return (
            b"BM"
            + struct.pack("<IHHI", 60, 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, 30_000, 30_000, 1, 24, 0, 0, 0, 0, 0, 0)
        )
    if name == "half.jpg":
        data = PORTRAIT.read_bytes()
        return data[: len(data) // 2]
    if name == "endless.mp4":
        import av

        path = folder / name
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=1)
            stream.width = stream.height = 64
            stream.pix_fmt = "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            for second in range(30):
                frame.pts = second
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return path.read_bytes()
    if name == "playlist.m3u8":
        return b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n#EXTINF:1,\nhttp://127.0.0.1:9/x.ts\n"
    return bytes(50_000)


def test_a_name_says_nothing_about_the_kind(real: TestClient) -> None:
    data = PORTRAIT.read_bytes()
    body = {"file": ("movie.mp4", data, "application/x-sh")}
    told = settle(real, real.post("/v1/inspections", files=body).json()["id"], 60)
    assert told["verdict"]["media"]["codec"] == "jpeg" and told["verdict"]["probability"] is not None


def test_many_files_are_not_mixed_up(real: TestClient) -> None:
    import hashlib
    import io

    files = []
    for number in range(6):
        out = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(out, "PNG")
        files.append(out.getvalue())
    ids = [send(real, data, f"{number}.png") for number, data in enumerate(files)]
    for number, id in enumerate(ids):
        verdict = settle(real, id, 60)["verdict"]
        assert verdict["sha256"] == hashlib.sha256(files[number]).hexdigest()
        assert verdict["file"] == f"{number}.png" and verdict["verdict"] == "not_applicable"


@pytest.mark.slow
def test_nothing_connects_to_anywhere() -> None:
    code = """
import sys
def refuse(event, words):
    if event in ("socket.connect", "socket.getaddrinfo", "urllib.Request", "subprocess.Popen", "os.exec"):
        raise SystemExit(f"{event} {words}")
sys.addaudithook(refuse)
from pathlib import Path
from unseen.serve.settings import Settings
from unseen.serve.worker import load_examiner
from unseen.serve import api, run
examine, facts = load_examiner(Settings())
print(examine(Path(sys.argv[1]), "a")[0]["reason"])
"""
    words = [sys.executable, "-c", code, str(PORTRAIT)]
    said = subprocess.run(words, capture_output=True, text=True, check=False)
    assert said.returncode == 0 and said.stdout.strip() in (
        "below_threshold",
        "in_band",
        "above_threshold",
    ), said


# --- the command ---


def command(*words: str, token: str = "") -> subprocess.Popen[str]:
    environment = {**os.environ, "UNSEEN_TOKEN": token}
    return subprocess.Popen(
        [sys.executable, "-m", "unseen", "serve", "--port", "0", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.mark.slow
def test_the_command_serves_and_stops_cleanly(tmp_path: Path) -> None:
    import httpx

    for number in (signal.SIGTERM, signal.SIGINT):
        process = command("--folder", str(tmp_path), "--rate", "2", token="token-from-the-environment")
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found is not None
            assert httpx.get(f"{found[0]}/health").json()["token_required"] is True
            assert httpx.get(f"{found[0]}/metrics").status_code == 401
            statuses = [  # nobody changes who they are by a header
                httpx.post(
                    f"{found[0]}/v1/inspections",
                    files={"file": ("a", b"x")},
                    headers={
                        "Authorization": "Bearer token-from-the-environment",
                        "X-Forwarded-For": f"192.0.2.{number}",
                    },
                ).status_code
                for number in range(3)
            ]
            assert statuses == [202, 202, 429]
            words = Path(f"/proc/{process.pid}/cmdline")
            assert not words.exists() or b"token-from" not in words.read_bytes()
            process.send_signal(number)
            _, said = process.communicate(timeout=30)
            assert process.returncode == 0 and said == ""
            assert list(tmp_path.iterdir()) == [], "waiting files outlived the server"
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "give a token"),
        (["--token", "short"], "16 characters"),
        (["--token-file", "/nowhere/token"], "cannot be read"),
        (["--token", "x" * 20, "--token-file", str(PORTRAIT.parent / "01_verdict.py")], "given twice"),
        (["--queue", "0"], "above zero"),
    ],
)
def test_wrong_words_end_with_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unseen.cli import main

    monkeypatch.delenv("UNSEEN_TOKEN", raising=False)
    try:
        code = main(["serve", *words])
    except SystemExit as error:  # argparse
        code = int(str(error.code))
    assert code == 2 and said in capsys.readouterr().err
