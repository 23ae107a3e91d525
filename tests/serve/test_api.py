"""What the API answers, to the well-meaning and to the others."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.serve.conftest import Open, send, settle
from unseen.serve.spool import Spool
from unseen.serve.upload import Refused, receive

KEYS = {"file", "verdict", "reason", "probability", "threshold", "people", "warnings", "sha256", "model"}


def test_a_file_becomes_a_verdict_and_a_report(client: TestClient) -> None:
    data = b"some picture"
    answer = client.post("/v1/inspections", files={"file": ("cat.jpg", data, "image/jpeg")})
    told = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/inspections/{told['id']}"
    assert told["sha256"] == hashlib.sha256(data).hexdigest() and told["bytes"] == len(data)

    done = settle(client, told["id"])
    assert done["status"] == "done" and done["file"] == "cat.jpg"
    assert set(done["verdict"]) >= KEYS
    assert done["verdict"]["sha256"] == told["sha256"] and done["verdict"]["file"] == "cat.jpg"
    page = client.get(done["report"])
    assert page.headers["content-type"].startswith("text/html")
    assert f"report on {told['sha256']}" in page.text
    assert "sandbox" in page.headers["content-security-policy"]


def test_deleting_forgets(client: TestClient) -> None:
    id = send(client, b"x")
    settle(client, id)
    assert client.delete(f"/v1/inspections/{id}").status_code == 204
    for answer in (client.get(f"/v1/inspections/{id}"), client.delete(f"/v1/inspections/{id}")):
        assert answer.status_code == 404 and answer.json()["reason"] == "unknown"
    assert client.get(f"/v1/inspections/{id}/report").status_code == 404


def test_no_report_before_the_verdict(client: TestClient) -> None:
    id = send(client, b"slow file")
    early = client.get(f"/v1/inspections/{id}/report")
    assert early.status_code == 409 and early.json()["reason"] == "not_finished"
    assert int(early.headers["retry-after"]) >= 1
    settle(client, id)
    assert client.get(f"/v1/inspections/{id}/report").status_code == 200


def test_uploads_are_private_and_do_not_stay(client: TestClient) -> None:
    spool = client.desk.spool  # type: ignore[attr-defined]
    id = send(client, b"slow secret", "secret-name.jpg")
    files = [path for path in spool.path.iterdir() if path.name != "lock"]
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o700
    assert len(files) == 1 and re.fullmatch("[0-9a-f]{32}", files[0].name)
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    settle(client, id)
    assert not files[0].exists() and spool.used == 0


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("../../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("<img src=x onerror=alert(1)>.jpg", "<img src=x onerror=alert(1)>.jpg"),
        ("photo\u202egpj.exe", "photo\\u202egpj.exe"),
        ("a\x01b.png", "a\\x01b.png"),
        ("..", "upload"),
        ("Zoë 写真.jpg", "Zoë 写真.jpg"),
    ],
)
def test_names_are_only_words(client: TestClient, given: str, shown: str) -> None:
    # By hand: a client library would escape what an attacker does not.
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
        + given.encode().replace(b"\\", b"\\\\")
        + b'"\r\n\r\nx\r\n--b--\r\n'
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/inspections", content=body, headers=headers)
    assert answer.status_code == 202, answer.text
    assert answer.json()["file"] == shown
    assert settle(client, answer.json()["id"])["verdict"]["file"] == shown


def part(field: bytes, data: bytes = b"x", more: bytes = b'; filename="a"') -> bytes:
    return (
        b'--b\r\nContent-Disposition: form-data; name="' + field + b'"' + more + b"\r\n\r\n" + data + b"\r\n"
    )


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("application/json", b"{}", 415, "content_type"),
        ("image/jpeg", b"\xff\xd8", 415, "content_type"),
        ("multipart/form-data", part(b"file") + b"--b--", 400, "broken_multipart"),
        ("multipart/form-data; boundary=b", b"", 400, "broken_multipart"),
        ("multipart/form-data; boundary=b", b"nonsense", 400, "broken_multipart"),
        ("multipart/form-data; boundary=b", part(b"file"), 400, "broken_multipart"),
        ("multipart/form-data; boundary=" + "b" * 500, b"--", 400, "broken_multipart"),
        ("multipart/form-data; boundary=b", b"--b--\r\n", 422, "no_file"),
        ("multipart/form-data; boundary=b", part(b"file", more=b"") + b"--b--", 422, "no_file"),
        ("multipart/form-data; boundary=b", part(b"other") + b"--b--", 422, "unknown_field"),
        ("multipart/form-data; boundary=b", part(b"file") + part(b"file") + b"--b--", 422, "several_files"),
        ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"y" * 20_000, 400, "broken_multipart"),
        ("multipart/form-data; boundary=b", part(b"file", b"x" * 200_001) + b"--b--", 413, "too_large"),
        ("multipart/form-data; boundary=b", part(b"file", b"x" * 900_000), 413, "too_large"),
    ],
)
def test_bodies_that_are_refused(
    client: TestClient, kind: str, body: bytes, status: int, reason: str
) -> None:
    answer = client.post("/v1/inspections", content=body, headers={"content-type": kind})
    assert (answer.status_code, answer.json()["reason"]) == (status, reason), answer.text
    assert answer.json()["message"]
    desk: Any = client.desk  # type: ignore[attr-defined]
    assert desk._reserved == 0, "a refused upload kept its place"


def test_the_largest_file_allowed_is_taken(client: TestClient) -> None:
    assert settle(client, send(client, b"x" * 200_000))["bytes"] == 200_000


def test_a_length_that_is_not_stated_is_counted(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        yield part(b"file", b"")[:-2]
        for _ in range(40):
            yield b"x" * 10_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post("/v1/inspections", content=chunks(), headers=headers)
    assert answer.status_code == 413 and answer.json()["reason"] == "too_large"


@pytest.mark.parametrize(("last", "status"), [("sleep", 408), ("leave", None)])
def test_uploads_that_never_end_leave_nothing(tmp_path: Path, last: str, status: int | None) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield part(b"file", b"x" * 1000)[:-2]
        if last == "leave":
            raise ConnectionResetError
        await asyncio.sleep(60)

    spool = Spool(str(tmp_path), 10_000)
    headers = {"content-type": "multipart/form-data; boundary=b"}
    expected = ConnectionResetError if status is None else Refused
    with pytest.raises(expected) as caught:
        asyncio.run(receive(headers, chunks(), spool, most=5000, seconds=0.2))
    assert getattr(caught.value, "status", None) == status
    assert spool.used == 0 and [path.name for path in spool.path.iterdir()] == ["lock"]
    spool.close()


def test_a_stated_length_condemns_before_anything_is_read(client: TestClient) -> None:
    def body() -> Any:
        raise AssertionError("read")
        yield b""

    headers = {
        "content-type": "multipart/form-data; boundary=b",
        "content-length": "999999999",
        "expect": "100-continue",
    }
    answer = client.post("/v1/inspections", content=b"x", headers=headers)
    assert answer.status_code == 413


def test_unknown_paths_and_methods(client: TestClient) -> None:
    assert client.get("/v1/inspections/nope").status_code in (404, 422)
    assert client.get("/v1/inspections/" + "0" * 32).json()["reason"] == "unknown"
    assert client.get("/../../etc/passwd").status_code == 404
    answer = client.put("/v1/inspections")
    assert answer.status_code == 405 and "POST" in answer.headers["allow"]
    assert answer.json()["reason"] == "method"
    assert client.put("/v1/inspections/" + "0" * 32).headers["allow"] == "DELETE, GET"
    for closed in ("/docs", "/redoc"):  # FastAPI's own load scripts from elsewhere
        assert client.get(closed).status_code == 404


def test_health_and_metrics(serving: Open) -> None:
    client = serving(queue=7)
    told = client.get("/health").json()
    assert told["status"] == "ok" and told["model"] == "staged" and told["token_required"] is False
    assert told["capacity"]["places"] == 7 and told["limits"]["pixels"] == 50_000_000
    for word in (b"fine", b"crash"):
        settle(client, send(client, word + b" x"))
    client.get("/nothing")
    text = client.get("/metrics").text
    assert 'unseen_inspections_total{verdict="real"} 1.0' in text
    assert 'unseen_inspections_total{verdict="error"} 1.0' in text
    assert 'unseen_workers_lost_total{reason="crashed"} 1.0' in text
    assert 'unseen_requests_refused_total{reason="unknown"} 1.0' in text
    assert "unseen_results 2.0" in text and "unseen_inspection_seconds_count 2.0" in text


def test_every_answer_carries_the_headers(client: TestClient) -> None:
    for path in ("/", "/page.js", "/health", "/metrics", "/nothing", "/openapi.json"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["referrer-policy"] == "no-referrer", path
        assert "default-src 'none'" in headers["content-security-policy"], path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path


def test_the_page_runs_its_own_script_only(client: TestClient) -> None:
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy and "unsafe-inline" not in policy.partition("style-src-attr")[0]
    assert re.findall(r"<script(?! src=\"/page.js\" defer></script>)", answer.text) == []
    assert not re.search(r"\son\w+=|style=|javascript:|https?://", answer.text)
    for file in ("/page.js", "/page.css"):
        text = client.get(file).text
        assert not re.search(r"https?://|@import|eval\(|new Function", text), file


def test_the_description_is_complete(client: TestClient) -> None:
    told = client.get("/openapi.json").json()
    assert set(told["paths"]) == {
        "/v1/inspections",
        "/v1/inspections/{id}",
        "/v1/inspections/{id}/report",
        "/health",
        "/metrics",
    }
    post = told["paths"]["/v1/inspections"]["post"]
    assert {"202", "413", "415", "422", "429", "503"} <= set(post["responses"])
    assert "file" in json.dumps(post["requestBody"])
    verdict = told["components"]["schemas"]["VerdictOut"]
    assert set(verdict["properties"]) >= KEYS and verdict["example"]
