"""Corruptions: published parameters by hand, the same for the same row, and worse with each level."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from unseen.cli import main
from unseen.evaluate.clips import corrupt_clip
from unseen.evaluate.codecs import key_frame
from unseen.evaluate.corruptions import LEVELS, NAMES, SIX, Corrupt, corrupt, generator
from unseen.types import FaceRecord, FaceSample, InputError

ROW = FaceRecord("/data/a/003.jpg", 0, "ff++", "deepfakes/033_097", 3)


@pytest.fixture(scope="module")
def face(portrait: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(portrait[40:301, 100:341])  # odd sides


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((a.astype(float) - b.astype(float)) ** 2)))


@pytest.mark.parametrize("name", NAMES)
def test_each_level_is_worse_and_the_same_each_time(face: np.ndarray, name: str) -> None:
    before = face.copy()
    made = [corrupt(face, name, level, generator(ROW, name, level)) for level in range(1, 6)]
    assert (face == before).all()
    for level, image in enumerate(made, 1):
        assert image.shape == face.shape
        assert image.dtype == np.uint8
        again = corrupt(face, name, level, generator(ROW, name, level))
        assert (image == again).all()
    far = [distance(image, face) for image in made]
    assert far[0] > 1
    assert far == sorted(far)
    assert len(set(far)) == 5


def test_what_is_drawn_depends_on_row_level_and_seed_alone(face: np.ndarray) -> None:
    def of(record: FaceRecord, level: int = 2, seed: int = 0) -> bytes:
        sample = FaceSample(face, None, record)
        return Corrupt("noise", level, seed=seed)(sample, np.random.default_rng()).image.tobytes()

    moved = FaceRecord("D:\\elsewhere\\003.jpg", 0, "ff++", "deepfakes/033_097", 3)
    assert of(ROW) == of(ROW) == of(moved)
    others = [
        of(FaceRecord("/data/a/004.jpg", 0, "ff++", "deepfakes/033_097", 4)),
        of(FaceRecord("/data/a/003.jpg", 0, "ff++", "face2face/033_097", 3)),
        of(ROW, level=3),
        of(ROW, seed=1),
    ]
    assert len({of(ROW), *others}) == 5


def test_published_parameters() -> None:
    assert SIX == ("saturation", "contrast", "block", "noise", "blur", "pixelation")
    assert LEVELS["saturation"] == (0.4, 0.3, 0.2, 0.1, 0.0)
    assert LEVELS["contrast"] == (0.85, 0.725, 0.6, 0.475, 0.35)
    assert LEVELS["block"] == (16, 32, 48, 64, 80)
    assert LEVELS["noise"] == (0.001, 0.002, 0.005, 0.01, 0.05)
    assert LEVELS["blur"] == (7, 9, 13, 17, 21)
    assert LEVELS["pixelation"] == (2, 3, 4, 5, 6)
    assert LEVELS["h264"] == (30, 32, 35, 38, 40)


def test_saturation_and_contrast_by_hand() -> None:
    rng = np.random.default_rng(0)
    red = np.full((4, 4, 3), (200, 100, 50), np.uint8)
    # Grey .299 x 200 + .587 x 100 + .114 x 50 = 124.2; at 0.4: 124.2 + .4 (200 - 124.2) = 154.52, and so on.
    assert corrupt(red, "saturation", 1, rng)[0, 0].tolist() == [155, 115, 95]
    assert corrupt(red, "saturation", 5, rng)[0, 0].tolist() == [124, 124, 124]
    assert corrupt(red, "contrast", 5, rng)[0, 0].tolist() == [70, 35, 18]  # 17.5 to the even one


def test_saturation_is_chroma_scaled(face: np.ndarray) -> None:
    """The published code scales Cr and Cb about their middle: the same, but for rounding."""
    chroma = cv2.cvtColor(face.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)
    chroma[..., 1:] = 0.5 + 0.3 * (chroma[..., 1:] - 0.5)
    expected = 255 * cv2.cvtColor(chroma, cv2.COLOR_YCrCb2RGB)
    found = corrupt(face, "saturation", 2, np.random.default_rng(0))
    assert np.abs(found - np.clip(expected, 0, 255)).max() < 1.1


def test_blocks_are_counted_by_the_side_and_grey() -> None:
    # 16 blocks of 8 x 8 on 256 pixels; some may overlap. Theirs would make none on 224 pixels.
    for side, least, most in ((256, 12, 16), (224, 10, 14), (512, 26, 32)):
        black = np.zeros((side, side, 3), np.uint8)
        found = corrupt(black, "block", 1, np.random.default_rng(0))
        assert set(np.unique(found)) == {0, 128}
        assert least * 64 <= (found[..., 0] == 128).sum() <= most * 64
    assert corrupt(np.zeros((9, 9, 3), np.uint8), "block", 5, np.random.default_rng(0)).any()


def test_noise_has_the_published_spread() -> None:
    grey = np.full((400, 400, 3), 128, np.uint8)
    found = corrupt(grey, "noise", 1, np.random.default_rng(0)).astype(float) - 128
    # Luma: sqrt(.001) x 255 x 255 / 219 = 9.39; red adds 1.403 x sqrt(.001) x 255 x 255 / 224 = 12.88: 15.94.
    assert found[..., 0].std() == pytest.approx(15.94, rel=0.02)
    luma = found @ np.array([0.299, 0.587, 0.114])
    assert luma.std() == pytest.approx(9.39, rel=0.02)


def test_pixelation_halves_and_blur_keeps_the_mean(face: np.ndarray) -> None:
    small = cv2.resize(face, (face.shape[1] // 2, face.shape[0] // 2))
    expected = cv2.resize(small, (face.shape[1], face.shape[0]))
    assert (corrupt(face, "pixelation", 1, np.random.default_rng(0)) == expected).all()
    dot = np.zeros((41, 41, 3), np.uint8)
    dot[20, 20] = 255
    blurred = corrupt(dot, "blur", 1, np.random.default_rng(0))
    assert (blurred[..., 0] > 0).any(0).sum() <= 7


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_key_frame_keeps_size_and_place(face: np.ndarray, codec: str) -> None:
    found = key_frame(face, codec, 10)
    assert found.shape == face.shape
    assert distance(found, face) < 6
    assert distance(found, face) < 0.5 * distance(np.roll(found, 3, axis=1), face)


def test_what_cannot_be_done_is_named(face: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no corruption 'blurr'; there are saturation"):
        corrupt(face, "blurr", 1, rng)
    with pytest.raises(InputError, match=r"blur: level 6; expected 1 \(mild\) to 5"):
        Corrupt("blur", 6)
    with pytest.raises(InputError, match="no codec 'vp9'"):
        key_frame(face, "vp9", 30)


# Clips


def frames_of(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]


def test_clips_are_compressed_as_a_whole(clip_file, tmp_path: Path) -> None:
    clip = clip_file(frames=12, size=(96, 96))
    sizes = []
    for level in (1, 5):
        out = tmp_path / f"{level}.mp4"
        assert corrupt_clip(clip, out, "h264", level) == 12
        sizes.append(out.stat().st_size)
        with av.open(str(out)) as container:
            stream = container.streams.video[0]
            assert stream.codec_context.name == "h264"
            assert float(stream.average_rate) == pytest.approx(10, rel=0.01)
    assert sizes[1] < sizes[0]
    again = tmp_path / "again.mp4"
    corrupt_clip(clip, again, "h264", 5)
    assert again.read_bytes() == (tmp_path / "5.mp4").read_bytes()
    small = tmp_path / "small.mp4"
    corrupt_clip(clip, small, "reshare", 3)
    assert frames_of(small)[0].shape == (48, 48, 3)
    with pytest.raises(InputError, match="is the clip itself"):
        corrupt_clip(clip, clip, "h264", 1)


def test_pictures_of_a_clip_are_corrupted_each_in_its_own_way(clip_file, tmp_path: Path) -> None:
    clip = clip_file(frames=4, size=(96, 96))
    assert (
        main(["corrupt", str(clip), "--corruption", "contrast", "--level", "5", "--out", str(tmp_path)]) == 0
    )
    clean, dark = frames_of(clip), frames_of(tmp_path / clip.name)
    assert len(dark) == 4
    for a, b in zip(clean, dark, strict=True):
        assert b.mean() == pytest.approx(0.35 * a.mean(), rel=0.05)


def test_a_clip_that_cannot_be_read_is_named_and_passed_over(
    clip_file,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no clip")
    good = clip_file("good.mp4", frames=3, size=(64, 64))
    words = [
        "corrupt",
        str(bad),
        str(good),
        "--corruption",
        "h265",
        "--level",
        "1",
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == 1
    said = capsys.readouterr()
    assert "bad.mp4" in said.err
    assert "1 of 2 clips" in said.out
    assert len(frames_of(tmp_path / "o" / "good.mp4")) == 3
    assert not (tmp_path / "o" / "bad.mp4").exists()
