from __future__ import annotations

import numpy as np
import pytest

from unseen.data.changes import jpeg
from unseen.data.distort import Distort
from unseen.data.photometric import (
    Blur,
    ColorJitter,
    Downscale,
    Grayscale,
    JpegCompress,
    Noise,
    chroma_matrix,
)
from unseen.data.transforms import Transform, for_evaluation
from unseen.types import FaceSample, InputError

ALL = [Blur, ColorJitter, Downscale, Grayscale, JpegCompress, Noise]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", ALL)
def test_changes_the_picture_and_nothing_else(kind: type[Transform], sample: FaceSample) -> None:
    before = sample.image.copy()
    changed = kind(1.0)(sample, rng())
    assert (sample.image == before).all()
    assert changed.image.dtype == np.uint8 and changed.image.shape == before.shape
    assert (changed.image != before).any()
    assert changed.landmarks is sample.landmarks and changed.record is sample.record
    assert (kind(1.0)(sample, rng()).image == changed.image).all()
    assert kind(0.0)(sample, rng()) is sample


@pytest.mark.parametrize("kind", [*ALL, Distort])
def test_draws_the_same_whatever_the_picture(kind: type[Transform], sample: FaceSample) -> None:
    one, other = rng(3), rng(3)
    transform = kind() if kind is Distort else kind(0.5)
    transform(sample, one)
    sample.image = np.zeros((50, 70, 3), np.uint8)
    transform(sample, other)
    assert one.random() == other.random()


def test_grayscale_is_bt601_and_at_one_belongs_to_evaluation(sample: FaceSample) -> None:
    grey = Grayscale()(sample, rng()).image.astype(float)
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 0] == grey[..., 2]).all()
    wanted = sample.image @ np.array([0.299, 0.587, 0.114])
    assert np.abs(grey[..., 0] - wanted).max() < 1
    assert len(for_evaluation([Grayscale(), Grayscale(0.5), Blur(1.0)])) == 1


def test_jpeg_keeps_colours_in_their_channels(sample: FaceSample) -> None:
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    assert np.abs(jpeg(red, 95).astype(int) - red).max() < 6
    worse = np.abs(jpeg(sample.image, 20).astype(int) - sample.image).mean()
    better = np.abs(jpeg(sample.image, 95).astype(int) - sample.image).mean()
    assert worse > 2 * better


def test_noise_has_its_standard_deviation_and_no_offset(sample: FaceSample) -> None:
    sample.image = np.full((200, 200, 3), 128, np.uint8)
    for grey in (0.0, 1.0):
        noisy = Noise(1.0, sigma=(5, 5), grey=grey)(sample, rng()).image.astype(float) - 128
        assert noisy.std() == pytest.approx(5, rel=0.03)
        assert abs(noisy.mean()) < 0.1
        assert (noisy[..., 0] == noisy[..., 1]).all() == bool(grey)


def test_downscale_loses_fine_detail_and_keeps_the_mean(sample: FaceSample) -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 200
    sample.image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    small = Downscale(1.0, factor=(0.5, 0.5))(sample, rng()).image.astype(float)
    assert small.std() < 5 and small.mean() == pytest.approx(100, abs=1)


def test_colour_jitter_with_nothing_to_change_is_the_identity(sample: FaceSample) -> None:
    still = ColorJitter(1.0, brightness=0, contrast=0, channels=0, saturation=0, hue=0)
    assert (still(sample, rng()).image == sample.image).all()
    almost = ColorJitter(1.0, brightness=0, contrast=0, channels=0, saturation=1e-9)
    assert (almost(sample, rng()).image == sample.image).all()


def test_chroma_matrix_keeps_grey_and_turns_red_into_green() -> None:
    for saturation, hue in ((1.3, 0), (0.2, 70), (1, -15)):
        assert chroma_matrix(saturation, hue) @ [9, 9, 9] == pytest.approx([9, 9, 9])
    assert chroma_matrix(1, 120) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert chroma_matrix(0, 40) @ [3, 6, 0] == pytest.approx([3, 3, 3])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Blur(1.5),
        lambda: Blur(sigma=(3, 1)),
        lambda: JpegCompress(quality=(0, 100)),
        lambda: Downscale(factor=(0.5, 2)),
        lambda: Noise(sigma=(-1, 2)),
        lambda: ColorJitter(contrast=-0.1),
    ],
)
def test_settings_out_of_range_are_errors(wrong) -> None:
    with pytest.raises(InputError, match=r"expected|negative"):
        wrong()
