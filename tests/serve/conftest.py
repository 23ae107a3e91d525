"""A desk whose workers are staged, and clients of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.serve import staged
from unseen.serve.api import create_app
from unseen.serve.desk import Desk
from unseen.serve.settings import Settings

Open = Callable[..., TestClient]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server with roomy limits that a module's tests share."""
    folder = str(tmp_path_factory.mktemp("spool"))
    settings = Settings(
        workers=1, rate=0, time_limit=20, max_bytes=200_000, memory=0, folder=folder, queue=200
    )
    with Desk(settings, make=staged.make) as desk, TestClient(create_app(desk), "http://127.0.0.1") as client:
        client.desk = desk  # type: ignore[attr-defined]
        yield client


@pytest.fixture
def serving(tmp_path: Any) -> Iterator[Open]:
    """Opens a server with settings of the test's own."""
    with ExitStack() as stack:

        def start(**settings: Any) -> TestClient:
            given = {"workers": 1, "rate": 0, "memory": 0, "folder": str(tmp_path), **settings}
            desk = stack.enter_context(Desk(Settings(**given), make=staged.make))
            client = stack.enter_context(TestClient(create_app(desk), "http://127.0.0.1"))
            client.desk = desk  # type: ignore[attr-defined]
            return client

        yield start


def send(client: TestClient, data: bytes, name: str = "a.jpg") -> str:
    answer = client.post("/v1/inspections", files={"file": (name, data)})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def settle(client: TestClient, id: str, seconds: float = 20) -> dict[str, Any]:
    """Wait until an inspection is finished."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        told = client.get(f"/v1/inspections/{id}").json()
        if told["status"] in ("done", "failed"):
            return dict(told)
        time.sleep(0.02)
    raise AssertionError(f"not finished after {seconds} s: {told}")
