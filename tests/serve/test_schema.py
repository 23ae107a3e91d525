"""The OpenAPI description against the server: whatever schemathesis invents, answers are as described."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import uvicorn

from tests.serve import staged
from unseen.serve.api import create_app
from unseen.serve.desk import Desk
from unseen.serve.settings import Settings

TOKEN = "a-token-of-more-than-16-letters"


@pytest.mark.slow
def test_every_answer_is_as_described(tmp_path: Path) -> None:
    settings = Settings(
        workers=1, rate=0, memory=0, max_bytes=100_000, queue=10_000, folder=str(tmp_path), token=TOKEN
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    with Desk(settings, make=staged.make) as desk:
        server = uvicorn.Server(uvicorn.Config(create_app(desk), log_level="warning", ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        words = [
            "--checks=all",
            "--max-examples=6",
            "--seed=1",
            "--phases=examples,coverage,fuzzing,stateful",
        ]
        words += ["--generation-database=:memory:", "--no-color", "--suppress-health-check=all"]
        words += ["--header", f"Authorization: Bearer {TOKEN}"]
        program = "from schemathesis.cli import schemathesis; schemathesis()"
        said = subprocess.run(
            [sys.executable, "-c", program, "run", f"{url}/openapi.json", *words],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            timeout=120,
        )
        server.should_exit = True
        thread.join(10)
    assert said.returncode == 0, said.stdout[-6_000:] + said.stderr[-2_000:]
    assert desk.facts["model"] == "staged"
