"""How `unseen serve` holds up: 16 clients with good, broken and hostile files at once, then a long soak.

    python benchmarks/serve.py [--clients 16] [--files 320] [--soak 1000]

On loopback only. Every result is compared with the file that was sent, by SHA-256 and by what the file must
give; one that is lost or mixed up ends the run with an error.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import cv2
import httpx
import numpy as np

PORTRAIT = Path(__file__).parents[1] / "examples" / "portrait.jpg"
sys.path.insert(0, str(Path(__file__).parents[1]))
File = tuple[str, bytes, set[str]]  # the name it is sent under, its bytes, the reasons that are right


def films(folder: Path) -> tuple[bytes, bytes]:
    """A clip of a drifting portrait, and one that lasts longer than the server allows."""
    portrait = cv2.resize(cv2.imread(str(PORTRAIT))[:, :, ::-1], (240, 288))
    made = []
    for name, count, rate in (("clip.mp4", 20, 10), ("endless.mp4", 40, 1)):
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 240, 288, "yuv420p"
            for number in range(count):
                image = np.ascontiguousarray(np.roll(portrait, number, 1))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        made.append((folder / name).read_bytes())
    return made[0], made[1]


def kinds(folder: Path) -> list[File]:
    """One file of each kind."""
    from tests.serve.test_hostile import png

    clip, endless = films(folder)
    portrait = PORTRAIT.read_bytes()
    judged = {"above_threshold", "in_band", "below_threshold"}
    wall = cv2.imencode(".png", np.full((64, 64, 3), 200, np.uint8))[1].tobytes()
    return [
        ("portrait.jpg", portrait, judged),
        ("clip.mp4", clip, judged | {"face_too_blurred", "face_too_small"}),
        ("wall.png", wall, {"no_face"}),
        ("../../etc/passwd", portrait, judged),
        ("picture.exe", portrait, judged),
        ("empty.jpg", b"", {"empty"}),
        ("text.mp4", b"no video " * 500, {"unreadable"}),
        (
            "half.jpg",
            portrait[:30_000],
            judged | {"unreadable", "no_face", "bad_landmarks", "face_too_blurred"},
        ),
        ("bomb.png", png(20_000, 20_000, rows=300), {"too_large"}),
        ("header.png", png(10_000, 10_000), {"too_large"}),
        ("endless.mp4", endless, {"too_large"}),
        ("playlist.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", {"unreadable"}),
    ]


def unique(file: File, number: int) -> File:
    """Make a file like no other, so that a mixed-up result cannot hide; decoders ignore the end."""
    name, data, reasons = file
    return (name, data + number.to_bytes(8, "big") if data else data, reasons)


async def inspect(client: httpx.AsyncClient, file: File) -> tuple[float, int]:
    """Send one file, wait for its verdict, check it, forget it; return seconds and how often it was busy."""
    name, data, reasons = file
    start, busy = time.perf_counter(), 0
    while (answer := await client.post("/v1/inspections", files={"file": (name, data)})).status_code != 202:
        if answer.status_code not in (429, 503):
            raise SystemExit(f"{name}: {answer.status_code} {answer.text}")
        busy += 1
        await asyncio.sleep(float(answer.headers["retry-after"]) / 4)
    path = answer.headers["location"]
    while (told := (await client.get(path)).json())["status"] not in ("done", "failed"):
        await asyncio.sleep(0.05)
    took = time.perf_counter() - start
    verdict = told["verdict"]
    if (
        verdict["sha256"] not in (hashlib.sha256(data).hexdigest(), None)
        or told["sha256"] != hashlib.sha256(data).hexdigest()
    ):
        raise SystemExit(f"{name}: mixed up with another file")
    if verdict["reason"] not in reasons or verdict["file"] != name.rpartition("/")[2]:
        raise SystemExit(f"{name}: {verdict['reason']} ({verdict['explanation']}); expected one of {reasons}")
    page = await client.get(f"{path}/report")
    if page.status_code != 200 or name.rpartition("/")[2] not in page.text:
        raise SystemExit(f"{name}: its report is missing or another's")
    return took, busy


def memory(pid: int) -> tuple[float, float]:
    """Resident MB of the server and of its workers."""
    sizes = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int(re.search(r"PPid:\s+(\d+)", (folder / "status").read_text())[1])  # type: ignore[index]
            if int(folder.name) == pid or parent == pid:
                rss = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text())
                sizes[int(folder.name)] = int(rss[1]) / 1000 if rss else 0.0
        except (OSError, TypeError):
            continue
    return sizes.get(pid, 0.0), sum(size for number, size in sizes.items() if number != pid)


async def crowd(client: httpx.AsyncClient, files: list[File], clients: int) -> list[tuple[float, int]]:
    """Have many clients work a list off."""
    waiting, results = list(enumerate(files)), []

    async def one() -> None:
        while waiting:
            number, file = waiting.pop()
            results.append(await inspect(client, unique(file, number)))

    await asyncio.gather(*(one() for _ in range(clients)))
    return results


async def measure(url: str, pid: int, spool: Path, known: argparse.Namespace) -> None:
    """Both parts."""
    async with httpx.AsyncClient(
        base_url=url, timeout=600, limits=httpx.Limits(max_connections=64)
    ) as client:
        with tempfile.TemporaryDirectory() as folder:
            each = kinds(Path(folder))
        await crowd(client, each, 4)  # warm
        before = memory(pid)
        start = time.perf_counter()
        results = await crowd(client, [each[i % len(each)] for i in range(known.files)], known.clients)
        seconds = time.perf_counter() - start
        times = np.array([took for took, _ in results])
        if len(results) != known.files:
            raise SystemExit(f"{known.files - len(results)} results were lost")
        print(
            f"load: {known.files} files, {known.clients} clients, {len(each)} kinds; none lost, none mixed up"
        )
        print(
            f"  {known.files / seconds:.1f} files/s; p50 {np.percentile(times, 50):.2f} s, "
            f"p95 {np.percentile(times, 95):.2f} s, longest {times.max():.2f} s"
        )
        print(f"  told to wait: {sum(busy for _, busy in results)} times")
        say_memory("  memory MB (server, workers)", before, memory(pid))

        small = cv2.resize(cv2.imread(str(PORTRAIT)), (120, 144))
        ok = cv2.imencode(".jpg", small)[1].tobytes()
        marks = []
        start = time.perf_counter()
        for part in range(4):
            soak = [
                (
                    "small.jpg",
                    ok + bytes([part]),
                    {
                        "above_threshold",
                        "in_band",
                        "below_threshold",
                        "face_too_small",
                        "face_too_blurred",
                        "no_face",
                    },
                )
            ] * (known.soak // 4)
            await crowd(client, soak, 4)
            marks.append(
                (
                    *memory(pid),
                    sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
                    sum(1 for _ in spool.rglob("*")),
                )
            )
        print(
            f"soak: {4 * (known.soak // 4)} inspections in {time.perf_counter() - start:.0f} s; by quarters"
        )
        print("  server MB, workers MB, open files, files in the spool:")
        for mark in marks:
            print("  " + ", ".join(f"{value:.0f}" for value in mark))


def say_memory(what: str, before: tuple[float, float], after: tuple[float, float]) -> None:
    """Print memory before and after."""
    print(f"{what}: {before[0]:.0f}, {before[1]:.0f} before; {after[0]:.0f}, {after[1]:.0f} after")


def main() -> None:
    """Start a server, measure, stop it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--files", type=int, default=320)
    parser.add_argument("--soak", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    known = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", "0", "--rate", "0", "--workers", str(known.workers), "--max-seconds", "20"]
        options += ["--folder", folder, "--keep-megabytes", "32", "--queue", "12"]
        server = subprocess.Popen(
            [sys.executable, "-m", "unseen", "serve", *options], stdout=subprocess.PIPE, text=True
        )
        try:
            line = server.stdout.readline() if server.stdout else ""
            url = re.search(r"http://\S+", line)
            if url is None:
                raise SystemExit("the server did not start")
            asyncio.run(measure(url[0], server.pid, Path(folder), known))
        finally:
            server.terminate()
            if server.wait(30) != 0 or list(Path(folder).iterdir()):
                raise SystemExit("the server did not stop cleanly")


if __name__ == "__main__":
    main()
