from __future__ import annotations

import os
import resource
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from unseen.media.reader import Frame, Limits, open_media
from unseen.media.video import _Walk
from unseen.types import InputError

WIDTH, HEIGHT = 128, 96
KINDS = [
    ("a.mp4", "libx264", {}),
    ("a.mov", "libx264", {"g": "10", "bf": "2"}),
    ("a.mkv", "libx264", {"g": "20"}),
    ("a.webm", "libvpx", {"g": "25"}),
    ("a.avi", "mpeg4", {"bf": "2"}),
    ("a.mpg", "mpeg2video", {"bf": "2", "g": "15"}),
    ("a.ts", "libx264", {"g": "30"}),
]


def numbered(i: int) -> np.ndarray:
    """A picture that carries its number: eight columns, white for a bit that is set."""
    bits = [(i >> k) & 1 for k in range(8)]
    return np.repeat(np.repeat(np.array(bits, np.uint8) * 200 + 20, WIDTH // 8)[None], HEIGHT, 0)[
        ..., None
    ].repeat(3, 2)


def number_of(image: np.ndarray) -> int:
    columns = image.mean(axis=(0, 2)).reshape(8, -1).mean(axis=1)
    return int(sum(1 << k for k, value in enumerate(columns) if value > 120))


def write(
    path: Path,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    *,
    stamps: list[int] | None = None,
    frames: int = 100,
    turned: float = 0,
    **container: str,
) -> Path:
    with av.open(str(path), "w", options=container) as file:
        stream = file.add_stream(codec, rate=25, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if stamps is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if turned:
            stream.set_display_rotation(turned)
        for i in range(len(stamps) if stamps is not None else frames):
            frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24").reformat(format="yuv420p")
            if stamps is not None:
                frame.pts, frame.time_base = stamps[i], Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


def read(path: Path, count: int, **keywords: Limits) -> list[Frame]:
    return list(open_media(path, threads=1, **keywords).frames(count))


@pytest.mark.parametrize(("name", "codec", "options"), KINDS)
def test_every_container_gives_exactly_the_frames_asked_for(
    name: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    path = write(tmp_path / name, codec, options)
    media = open_media(path)
    assert (media.kind, media.width, media.height, media.frame_count) == ("video", WIDTH, HEIGHT, 100)
    assert media.duration == pytest.approx(4.0, abs=0.05) and media.fps == pytest.approx(25, rel=0.02)
    for count, expected in ((4, [12, 37, 62, 87]), (1, [50]), (500, list(range(100)))):
        frames = list(media.frames(count))
        assert [frame.index for frame in frames] == expected
        assert [number_of(frame.image) for frame in frames] == expected
        assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in expected], abs=2e-3)
    assert media.warnings == []


@pytest.mark.parametrize(("name", "codec", "options"), KINDS)
def test_jumping_and_walking_give_the_same_pixels(
    name: str, codec: str, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / name, codec, options)
    jumped = read(path, 3)
    monkeypatch.setattr(_Walk, "_jump", lambda *_: False)
    walked = read(path, 3)
    for a, b in zip(jumped, walked, strict=True):
        assert a.index == b.index
        np.testing.assert_array_equal(a.image, b.image)


def test_a_long_video_is_not_decoded_from_end_to_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", options={"g": "20"}, frames=250)
    media = open_media(path)
    seeks = []
    inner = _Walk._jump
    monkeypatch.setattr(_Walk, "_jump", lambda self, *a: seeks.append(inner(self, *a)) or seeks[-1])
    assert [number_of(frame.image) for frame in media.frames(2)] == [62, 187]
    assert seeks == [True, True]


def test_a_lying_index_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mkv", options={"g": "20"})
    media = open_media(path)
    assert media._source is not None
    keys = media._source.keys  # type: ignore[union-attr]
    keys[1:] += 640  # each key frame is said to lie 16 frames later than it does
    assert [number_of(frame.image) for frame in media.frames(4)] == [12, 37, 62, 87]
    keys[:] = keys[-1] - np.arange(len(keys))[::-1]  # a jump to any of them lands behind the first goals
    assert [number_of(frame.image) for frame in media.frames(4)] == [12, 37, 62, 87]


@pytest.mark.parametrize("turned", [90, 180, -90])
def test_rotation_metadata_is_honoured(turned: float, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", turned=turned, frames=10)
    media = open_media(path)
    upright = next(media.frames(1))
    expected = np.rot90(numbered(upright.index), round(turned / 90))  # counter-clockwise, as FFmpeg shows it
    assert upright.image.shape == expected.shape == (media.height, media.width, 3)
    assert np.abs(upright.image.astype(int) - expected).mean() < 12


def test_variable_frame_rate_goes_by_time(tmp_path: Path) -> None:
    stamps = [*range(0, 1000, 40), *range(1000, 9000, 1000)]  # a second at 25, then eight at 1 frame a second
    path = write(tmp_path / "a.mkv", stamps=stamps)
    media = open_media(path)
    assert media.frame_count == 33 and media.duration == pytest.approx(8.04, abs=1.1)
    frames = list(media.frames(4))
    middles = [(k + 0.5) * media.duration / 4 for k in range(4)]
    expected = [max(i for i, stamp in enumerate(stamps) if stamp / 1000 <= middle) for middle in middles]
    assert [number_of(frame.image) for frame in frames] == expected
    assert [frame.time for frame in frames] == pytest.approx([stamps[i] / 1000 for i in expected], abs=2e-3)


def test_a_gap_that_hides_the_other_frames_is_told(tmp_path: Path) -> None:
    stamps = [*range(0, 1000, 40), 600_000]  # one bad stamp makes ten minutes of a second
    media = open_media(write(tmp_path / "a.mkv", stamps=stamps))
    assert len(list(media.frames(8))) == 1
    (said,) = media.warnings
    assert said.startswith("Only 1 of the video's 26 frames were looked at: a frame that stays for 599.0 s")
    steady = open_media(write(tmp_path / "b.mkv", frames=26))
    assert len(list(steady.frames(8))) == 8 and not steady.warnings


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [("a.mp4", "libx264", {"movflags": "faststart"}), ("a.mkv", "libx264", {}), ("a.avi", "mpeg4", {})],
)
def test_a_truncated_video_gives_what_decodes_and_says_so(
    name: str, codec: str, container: dict[str, str], tmp_path: Path
) -> None:
    path = write(tmp_path / name, codec, {"g": "20"}, **container)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    media = open_media(path)
    frames = list(media.frames(8))
    assert frames and media.frame_count is not None and media.frame_count < 100
    assert all(abs(number_of(frame.image) - frame.index) <= 1 for frame in frames)
    assert any("cut off" in warning for warning in media.warnings)


def test_a_video_without_its_header_is_unreadable(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")  # without faststart the header comes last
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError) as caught:
        open_media(path)
    assert caught.value.reason == "unreadable"


def test_damage_in_the_middle_costs_only_some_frames(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ts", options={"g": "10"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 1500] = os.urandom(1500)
    path.write_bytes(data)
    frames = read(path, 50)
    assert len(frames) >= 30


def test_zero_frames_and_sound_only(tmp_path: Path) -> None:
    empty = tmp_path / "a.avi"
    with av.open(str(empty), "w") as file:
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        file.start_encoding()
    sound = tmp_path / "b.mp4"
    with av.open(str(sound), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    for path in (empty, sound):
        with pytest.raises(InputError, match=path.name) as caught:
            open_media(path)
        assert caught.value.reason == "no_frames"


@pytest.mark.parametrize(
    "limits", [Limits(seconds=3.5), Limits(frames=99), Limits(pixels=WIDTH * HEIGHT - 1)]
)
def test_limits(limits: Limits, tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4")
    assert open_media(path, Limits(seconds=4.1, frames=100, pixels=WIDTH * HEIGHT)).frame_count == 100
    with pytest.raises(InputError) as caught:
        open_media(path, limits)
    assert caught.value.reason == "too_large"


def test_memory_does_not_grow_with_the_video(clip_file: Callable[..., Path]) -> None:
    path = clip_file(frames=60, size=(1080, 1920), codec="mpeg4")
    media = open_media(path, threads=1)
    stream = media.frames(60)
    for _ in range(10):
        next(stream)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    left = sum(1 for _ in stream)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert left == 50
    assert grown < 100_000  # KiB; the frames together are 300,000


def test_frames_may_be_asked_for_twice_and_abandoned(tmp_path: Path) -> None:
    media = open_media(write(tmp_path / "a.mp4", frames=20))
    first = next(media.frames(3))
    again = next(media.frames(3))
    np.testing.assert_array_equal(first.image, again.image)
