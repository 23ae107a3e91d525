from __future__ import annotations

import cv2
import numpy as np
import pytest

from unseen.data.blend import alpha_blend, is_monochrome, poisson_blend, resample, sharpen, shift_colors
from unseen.types import InputError


def disc(side: int = 200, radius: int = 50) -> np.ndarray:
    rows, columns = np.indices((side, side)) - side // 2
    return (rows**2 + columns**2 < radius**2).astype(np.float32)


def test_alpha_blend_is_the_printed_mixture(crop: np.ndarray) -> None:
    mask = np.random.default_rng(0).random((200, 200), np.float32)
    other = crop[::-1].copy()
    wanted = mask[..., None] * crop.astype(float) + (1 - mask[..., None]) * other
    assert np.abs(alpha_blend(crop, other, mask) - wanted).max() <= 0.51
    assert (alpha_blend(crop, other, np.zeros_like(mask)) == other).all()
    assert (alpha_blend(crop, other, np.ones_like(mask)) == crop).all()


def test_poisson_blend_stays_in_place_and_forgets_a_constant(crop: np.ndarray) -> None:
    # Only gradients are taken over: a source that is brighter by a constant changes nothing.
    calm = np.clip(crop, 40, 200)
    blended = poisson_blend(calm + np.uint8(30), calm, disc())
    assert np.abs(blended.astype(int) - calm).max() <= 2
    # A mask off the middle, of a different picture: only its rectangle changes, and there the source shows.
    mask = np.zeros((200, 200), np.float32)
    mask[20:60, 110:180] = 1
    other = cv2.flip(calm, 0)
    blended = poisson_blend(other, calm, mask)
    changed = np.abs(blended.astype(int) - calm).max(2) > 2
    assert changed.any() and not changed[mask == 0].any()
    detail = [np.gradient(p[25:55, 115:175].astype(float).mean(2))[0].ravel() for p in (blended, other, calm)]
    assert np.corrcoef(detail[0], detail[1])[0, 1] > 0.9
    assert np.corrcoef(detail[0], detail[2])[0, 1] < 0.5


def test_poisson_blend_at_the_border_and_without_a_mask(crop: np.ndarray) -> None:
    assert poisson_blend(crop[::-1].copy(), crop, np.ones((200, 200), np.float32)).shape == crop.shape
    with pytest.raises(InputError, match="empty"):
        poisson_blend(crop, crop, np.zeros((200, 200), np.float32))


def test_monochrome_is_grey_or_one_tone(crop: np.ndarray) -> None:
    assert not is_monochrome(crop)
    grey = cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY)
    assert is_monochrome(np.repeat(grey[..., None], 3, axis=2))
    sepia = np.stack([0.9 * grey + 20, 0.8 * grey + 10, 0.6 * grey], axis=2).astype(np.uint8)
    assert is_monochrome(sepia)
    assert is_monochrome(np.full((10, 10, 3), (200, 10, 10), np.uint8))


def test_shift_colors_keeps_grey_grey_and_stays_in_its_ranges() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    colourful = 0
    for seed in range(60):
        kept = shift_colors(ramp, np.random.default_rng(seed), monochrome=True)
        assert (kept[..., 0] == kept[..., 1]).all() and (kept[..., 0] == kept[..., 2]).all()
        changed = shift_colors(ramp, np.random.default_rng(seed)).astype(int)
        colourful += (np.ptp(changed, axis=2) > 2).any()
        # At most 20 for the channel, 10 % of contrast of up to 255, 10 % of brightness of 255.
        assert np.abs(changed - ramp).max() <= 20 + 25.5 + 25.5 + 3
    assert 25 < colourful < 55  # 1 - .7 ** 3 = 66 % have at least one channel shifted


def test_shift_colors_with_nothing_to_shift_is_the_identity(crop: np.ndarray) -> None:
    same = shift_colors(crop, np.random.default_rng(0), channels=0, brightness=0, contrast=0)
    assert (same == crop).all()


def test_resample_keeps_size_and_loses_detail(crop: np.ndarray) -> None:
    for factor in (2, 4):
        rough = resample(crop, factor)
        assert rough.shape == crop.shape
        detail = [cv2.Laplacian(p, cv2.CV_32F).std() for p in (rough, crop)]
        assert detail[0] < 0.9 * detail[1]


def test_sharpen_raises_detail_and_at_full_lightness_keeps_flat_parts(crop: np.ndarray) -> None:
    flat = np.full((20, 20, 3), 90, np.uint8)
    assert (sharpen(flat, 0.4, 1.0) == flat).all()
    assert sharpen(flat, 0.5, 0.5)[0, 0, 0] == 68  # 90 * (.5 + .5 * .5) = 67.5
    assert cv2.Laplacian(sharpen(crop, 0.3, 1.0), cv2.CV_32F).std() > cv2.Laplacian(crop, cv2.CV_32F).std()
