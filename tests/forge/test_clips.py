from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.signal import savgol_filter

from unseen.forge.autoencode import Autoencode
from unseen.forge.clips import _calmed, forge_clip, smooth_track
from unseen.forge.family import Portrait
from unseen.media.faces import RetinaFaceMesh
from unseen.media.reader import open_media
from unseen.types import InputError


@pytest.fixture(scope="module")
def talking(clip_file: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip with a tone."""
    silent = clip_file("silent.mp4", frames=10, size=(240, 320))
    path = tmp_path_factory.mktemp("talking") / "clip.mp4"
    with av.open(str(silent)) as source, av.open(str(path), "w") as out:
        video = out.add_stream_from_template(source.streams.video[0])
        sound = out.add_stream("aac", rate=16000, layout="mono")
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = video
                out.mux(packet)
        tone = (0.3 * np.sin(np.arange(16000) / 8)).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        for packet in [*sound.encode(frame), *sound.encode()]:
            out.mux(packet)
    return path


def sound_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(p) for p in container.demux(container.streams.audio[0]) if p.size]


def test_a_forged_clip_keeps_its_sound_its_times_and_its_surroundings(
    talking: Path, people: list[Portrait], tmp_path: Path
) -> None:
    finder = RetinaFaceMesh(threads=1)
    made = forge_clip(
        talking, people[0], "swap", tmp_path / "fake.mp4", seed=1, finder=finder, mask=tmp_path / "mask.mkv"
    )
    real = forge_clip(talking, None, None, tmp_path / "real.mp4")
    assert made.frames == made.forged == real.frames == 10
    assert (real.forged, made.sound, made.crf) == (0, "copied", 23)
    assert sound_of(made.path) == sound_of(talking)
    read = [list(open_media(p).frames(10)) for p in (talking, real.path, made.path, tmp_path / "mask.mkv")]
    assert np.allclose([f.time for f in read[2]], [f.time for f in read[0]], atol=2e-3)
    for _, plain, forged, mask in zip(*read, strict=True):
        inside = mask.image[..., 0] > 128
        assert 0.01 < inside.mean() < 0.5
        gap = np.abs(plain.image.astype(int) - forged.image).mean(2)
        assert gap[inside].mean() > 3 * gap[:20].mean()  # the picture's upper rim is far from the face
    with av.open(str(made.path)) as one, av.open(str(real.path)) as other:
        assert one.streams.video[0].codec_context.name == other.streams.video[0].codec_context.name == "h264"
    assert not list(tmp_path.glob(".*"))


def test_the_same_seed_gives_the_same_file(talking: Path, people: list[Portrait], tmp_path: Path) -> None:
    finder = RetinaFaceMesh(threads=1)
    made = []
    for i, seed in enumerate((0, 0, 1)):
        # libx264 must not read what others left in memory: it did, in frames of this width.
        rubbish = [np.random.default_rng(i).integers(0, 255, (240, 320, 3), np.uint8) for _ in range(20)]
        del rubbish
        made.append(forge_clip(talking, people[0], "swap", tmp_path / f"{i}.mp4", seed=seed, finder=finder))
    content = [forged.path.read_bytes() for forged in made]
    assert content[0] == content[1] != content[2]
    assert made[0].parameters == made[1].parameters != made[2].parameters


def test_who_is_in_the_clip_is_learned_from_its_frames(
    talking: Path, people: list[Portrait], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[list[str]] = []
    train = Autoencode.learn

    def note(self: Autoencode, portraits: list[Portrait]) -> None:
        learned.append([portrait.identity for portrait in portraits])
        self.iterations = 1
        train(self, portraits)

    monkeypatch.setattr(Autoencode, "learn", note)
    finder = RetinaFaceMesh(threads=1)
    made = forge_clip(talking, people[0], "autoencode", tmp_path / "a.mp4", finder=finder)
    assert made.forged == 10 and learned == [["clip.mp4"] * 10 + [people[0].identity]]
    # A family that is handed in knows them already, by the name that is given.
    maker = Autoencode()
    maker.learn([replace(people[1], identity="ann"), people[0]])
    forge_clip(talking, people[0], maker, tmp_path / "b.mp4", identity="ann", finder=finder)
    assert len(learned) == 2


@pytest.mark.parametrize("window", [5, 9])
def test_calming_is_savitzky_and_golays_filter(window: int) -> None:
    track = np.random.default_rng(0).normal(0, 1, (12, 6))
    np.testing.assert_allclose(_calmed(track, window), savgol_filter(track, window, 2, axis=0), atol=1e-9)


def test_smoothing_bridges_short_gaps_only_and_takes_the_trembling() -> None:
    rng = np.random.default_rng(0)
    truth = np.linspace(100, 160, 60)[:, None, None] + rng.uniform(0, 50, (1, 81, 2))
    track = (truth + rng.normal(0, 1, truth.shape)).astype(np.float32)
    track[10:14] = np.nan
    track[30:50] = np.nan
    smooth = smooth_track(track)
    assert np.isfinite(smooth[:30]).all()
    assert np.isnan(smooth[30:50]).all()
    rest = np.r_[0:10, 14:30]
    assert (smooth - truth)[rest].std() < 0.7 * (track - truth)[rest].std()
    assert np.isnan(smooth_track(np.full((5, 81, 2), np.nan, np.float32))).all()


def test_bad_input(clip_file: Callable[..., Path], people: list[Portrait], tmp_path: Path) -> None:
    empty = clip_file("empty.mp4", frames=3, face=False)
    with pytest.raises(InputError, match="no face in any frame"):
        forge_clip(empty, people[0], "swap", tmp_path / "out.mp4", finder=RetinaFaceMesh(retry=False))
    with pytest.raises(InputError, match="needs a donor"):
        forge_clip(empty, None, "swap", tmp_path / "out.mp4")
    with pytest.raises(InputError, match=r"ends in \.mp4"):
        forge_clip(empty, None, None, tmp_path / "out.avi")
    with pytest.raises(InputError, match="crf 99"):
        forge_clip(empty, None, None, tmp_path / "out.mp4", crf=99)
    blind = replace(people[0], landmarks=np.full((81, 2), np.nan, np.float32))
    face = clip_file("face.mp4", frames=2)
    with pytest.raises(InputError, match="no frame could be forged"):
        forge_clip(face, blind, "swap", tmp_path / "out.mp4", finder=RetinaFaceMesh(threads=1))
    assert not list(tmp_path.iterdir())
