"""What the server does not give: time, memory, places, speed, age, and entry without a token."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.serve import staged
from tests.serve.conftest import Open, send, settle
from unseen.serve.desk import Desk
from unseen.serve.rate import Rate
from unseen.serve.settings import Settings
from unseen.serve.spool import Spool
from unseen.types import InputError

TOKEN = "a-token-of-more-than-16-letters"


@pytest.mark.parametrize(
    ("word", "reason", "said"),
    [
        ("hang", "timeout", "more than 1 s"),
        ("crash", "crashed", "exit code 7"),
        ("raise", "crashed", "exit code 70"),
        ("lies", "crashed", "broke down"),
    ],
)
def test_a_worker_that_is_lost_costs_its_file_alone(serving: Open, word: str, reason: str, said: str) -> None:
    client = serving(time_limit=1 if word == "hang" else 60, workers=1)
    ids = [
        send(client, data, name)
        for data, name in ((b"one", "1"), (word.encode() + b" x", "2"), (b"two", "3"))
    ]
    first, lost, last = (settle(client, id) for id in ids)
    assert first["status"] == last["status"] == "done"
    assert lost["status"] == "failed"
    verdict = lost["verdict"]
    assert (verdict["verdict"], verdict["reason"]) == ("error", reason)
    assert said in verdict["explanation"] and verdict["explanation"].startswith("2: ")
    assert verdict["sha256"] == lost["sha256"] and verdict["model"] == "staged" and verdict["created"]
    report = client.get(f"/v1/inspections/{lost['id']}/report").text
    assert "Not examined" in report and said in report
    assert client.get("/health").json()["capacity"]["running"] == 0


def test_a_worker_may_not_take_all_memory(serving: Open) -> None:
    client = serving(memory=300_000_000)
    told = settle(client, send(client, b"greedy x"))
    assert told["status"] == "failed" and told["verdict"]["reason"] == "crashed"
    assert settle(client, send(client, b"modest x"))["status"] == "done"


def test_a_worker_that_dies_between_files_is_replaced(serving: Open) -> None:
    client = serving()
    assert settle(client, send(client, b"x"))["status"] == "done"
    (slot,) = client.desk.slots  # type: ignore[attr-defined]
    os.kill(slot._process.pid, signal.SIGKILL)
    slot._process.join(5)
    assert settle(client, send(client, b"y"))["status"] == "done"


def test_workers_are_replaced_after_a_while(serving: Open) -> None:
    client = serving(recycle=2)
    for _ in range(4):
        assert settle(client, send(client, b"x"))["status"] == "done"
    (slot,) = client.desk.slots  # type: ignore[attr-defined]
    assert slot.started == 2


def test_a_full_queue_says_when_to_come_back(serving: Open) -> None:
    client = serving(queue=2, time_limit=60)
    running = send(client, b"hang x")
    while client.get(f"/v1/inspections/{running}").json()["status"] == "queued":
        time.sleep(0.02)
    waiting = [send(client, b"x"), send(client, b"y")]
    assert [client.get(f"/v1/inspections/{id}").json()["ahead"] for id in waiting] == [0, 1]
    refused = client.post("/v1/inspections", files={"file": ("a", b"x")})
    assert refused.status_code == 503 and refused.json()["reason"] == "busy"
    assert int(refused.headers["retry-after"]) >= 1
    # Deleting what waits makes room; deleting what runs stops it, and the worker is a new one.
    assert client.delete(f"/v1/inspections/{waiting[0]}").status_code == 204
    third = send(client, b"z")
    assert client.delete(f"/v1/inspections/{running}").status_code == 204
    assert settle(client, waiting[1])["status"] == "done" and settle(client, third)["status"] == "done"
    assert client.get(f"/v1/inspections/{running}").status_code == 404


def test_a_full_spool_refuses(serving: Open) -> None:
    client = serving(spool_bytes=5_000, time_limit=60)
    send(client, b"hang" + b" " * 4_000)
    refused = client.post("/v1/inspections", files={"file": ("a", b"x" * 2_000)})
    assert refused.status_code == 503 and refused.headers["retry-after"]


def test_uploads_have_a_rate(serving: Open) -> None:
    client = serving(rate=3)
    for _ in range(3):
        send(client, b"x")
    refused = client.post("/v1/inspections", files={"file": ("a", b"x")})
    assert refused.status_code == 429 and refused.json()["reason"] == "rate"
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert client.get("/health").status_code == 200


def test_rates_forget_and_are_bounded() -> None:
    rate = Rate(1, most=2)
    assert [rate.wait(who, now=0.0) for who in "aba"] == [0, 0, 60]
    rate.wait("c", now=0.0)  # "a", quiet the longest, is forgotten
    assert rate.wait("a", now=0.0) == 0 and len(rate._buckets) == 2
    assert Rate(0).wait("a") == 0


def test_results_expire(serving: Open) -> None:
    client = serving(keep=0.5)
    id = send(client, b"x")
    told = settle(client, id)
    assert told["expires"] > told["finished"]
    time.sleep(0.6)
    assert client.get(f"/v1/inspections/{id}").status_code == 404
    assert client.desk.kept_bytes == 0  # type: ignore[attr-defined]


def test_results_are_bounded_in_memory(serving: Open) -> None:
    client = serving(keep_bytes=6_000)
    ids = [send(client, f"file {number}".encode()) for number in range(8)]
    settle(client, ids[-1])
    alive = [id for id in ids if client.get(f"/v1/inspections/{id}").status_code == 200]
    assert 0 < len(alive) < 8 and alive == ids[-len(alive) :], "the oldest go first"
    assert client.desk.kept_bytes <= 6_000  # type: ignore[attr-defined]


def test_a_token_is_asked_for(serving: Open) -> None:
    client = serving(token=TOKEN)
    right = {"Authorization": f"Bearer {TOKEN}"}
    for method, path in (
        ("POST", "/v1/inspections"),
        ("GET", "/v1/inspections/" + "0" * 32),
        ("GET", "/metrics"),
    ):
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": TOKEN},
            {"Authorization": f"Basic {TOKEN}"},
        ):
            refused = client.request(method, path, headers=headers)
            assert refused.status_code == 401 and refused.json()["reason"] == "token", (method, path, headers)
            assert refused.headers["www-authenticate"].startswith("Bearer")
    assert client.get("/").status_code == client.get("/health").status_code == 200
    assert client.get("/health").json()["token_required"] is True
    answer = client.post("/v1/inspections", files={"file": ("a", b"x")}, headers=right)
    assert answer.status_code == 202
    # A token is no cookie, which a browser would send by itself: any name of the host will do.
    assert client.get("/metrics", headers={**right, "Host": "intern.example"}).status_code == 200


def test_guessing_tokens_is_slowed_down(serving: Open) -> None:
    client = serving(token=TOKEN)
    answers = [
        client.get("/metrics", headers={"Authorization": f"Bearer guess-{i}"}).status_code for i in range(25)
    ]
    assert answers[:20] == [401] * 20 and set(answers[20:]) == {429}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),  # a foreign name that leads to 127.0.0.1 (DNS rebinding)
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "["}, 403),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
def test_other_sites_are_refused(serving: Open, headers: dict[str, str], status: int) -> None:
    assert serving().get("/metrics", headers=headers).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", ""])
def test_other_machines_need_a_token(host: str) -> None:
    with pytest.raises(InputError, match=r"token.*127\.0\.0\.1|token"):
        Settings(host=host)
    assert Settings(host=host, token=TOKEN).host == host


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"token": "short"}, "16 characters"),
        ({"token": TOKEN + "\n"}, "white space"),
        ({"queue": 0}, "queue 0"),
        ({"port": 99999}, "--port 99999"),
        ({"time_limit": 0}, "time_limit"),
        ({"proxy": "10.0.0.1"}, "token"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Settings(**settings)  # type: ignore[arg-type]


def test_a_model_that_cannot_be_loaded_stops_the_start(tmp_path: Path) -> None:
    for make, said in ((staged.broken, "no such run"), (staged.dies, "exit code 9")):
        with (
            pytest.raises(InputError, match=said),
            Desk(Settings(workers=1, memory=0, folder=str(tmp_path)), make=make),
        ):
            pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_when_the_desk_closes(tmp_path: Path) -> None:
    with Desk(Settings(workers=2, memory=0, folder=str(tmp_path)), make=staged.make) as desk:
        pids = [desk.slots[0]._process.pid]
    assert list(tmp_path.iterdir()) == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    dead = tmp_path / "unseen-serve-dead"
    dead.mkdir(mode=0o700)
    (dead / "lock").touch()
    (dead / "0123").write_bytes(b"somebody's face")
    other = tmp_path / "mine"
    other.mkdir()
    alive = Spool(str(tmp_path), 1000)
    second = Spool(str(tmp_path), 1000)
    assert not dead.exists() and other.exists() and alive.path.exists(), "only the dead are swept"
    alive.close()
    second.close()
    assert sorted(tmp_path.iterdir()) == [other]
