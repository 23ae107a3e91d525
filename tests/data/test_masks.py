from __future__ import annotations

import cv2
import numpy as np
import pytest

from unseen.data.masks import HULLS, deform, elastic_flow, hull_mask, mask_box, soften
from unseen.types import InputError


@pytest.mark.parametrize("hull", HULLS)
def test_hulls_are_soft_edged_and_hold_their_points(hull: str, points: np.ndarray) -> None:
    mask = hull_mask(points, (200, 200), hull)
    assert mask.dtype == np.float32 and mask.min() == 0 and mask.max() == 1
    assert ((mask > 0) & (mask < 1)).any()  # anti-aliased
    for x, y in points[[30, 37, 43, 51]]:  # nose tip, eyes, upper lip
        assert mask[round(y), round(x)] > 0.5
    assert mask[5, 5] == 0 and mask[195, 100] == 0


def test_hulls_contain_each_other_as_described(points: np.ndarray) -> None:
    full, extended, components, facehull = (hull_mask(points, (200, 200), hull) for hull in HULLS)
    assert components.sum() < 0.6 * full.sum()
    assert full.sum() < extended.sum() < facehull.sum()
    assert facehull[full == 1].min() > 0
    cheek = points[[2, 31]].mean(0).round().astype(int)
    assert full[cheek[1], cheek[0]] == 1 and components[cheek[1], cheek[0]] == 0
    forehead = points[74].round().astype(int) + np.array([0, 3])
    assert facehull[forehead[1], forehead[0]] == 1 and full[forehead[1], forehead[0]] == 0


def test_convex_hull_has_the_area_of_its_polygon(points: np.ndarray) -> None:
    area = cv2.contourArea(cv2.convexHull(points))
    assert hull_mask(points, (200, 200), "facehull").sum() == pytest.approx(area, rel=0.03)


def test_drawing_follows_parts_of_a_pixel(points: np.ndarray) -> None:
    whole = hull_mask(points, (200, 200))
    moved = hull_mask(points + np.float32(0.5), (200, 200))
    assert 0 < np.abs(moved - whole).max() < 1
    # The middle of the mask moves by half a pixel too.
    rows, columns = np.indices((200, 200))
    for axis in (rows, columns):
        shift = (moved * axis).sum() / moved.sum() - (whole * axis).sum() / whole.sum()
        assert shift == pytest.approx(0.5, abs=0.15)


def test_missing_forehead_is_the_hull_of_the_68(points: np.ndarray) -> None:
    gone = points.copy()
    gone[68:] = np.nan
    assert (hull_mask(gone, (200, 200)) == hull_mask(points[:68], (200, 200))).all()
    assert hull_mask(gone, (200, 200)).sum() < hull_mask(points, (200, 200)).sum()


def test_a_missing_point_or_an_unknown_kind_is_an_error(points: np.ndarray) -> None:
    with pytest.raises(InputError, match="full, extended, components, facehull"):
        hull_mask(points, (200, 200), "circle")
    points[3] = np.nan
    with pytest.raises(InputError, match="67 of the first 68"):
        hull_mask(points, (200, 200))


@pytest.mark.parametrize("sigma", [3.0, 7.0, 12.0])
def test_elastic_field_has_the_spread_and_smoothness_of_the_classical_one(sigma: float) -> None:
    rng = np.random.default_rng(0)
    alpha = 50.0
    flows = np.stack([elastic_flow((240, 200), rng, alpha=alpha, sigma=sigma) for _ in range(20)])
    # Simard's: uniform noise, blurred, times alpha; on a field large enough to have no border.
    noise = rng.uniform(-1, 1, (2000, 2000))
    literal = alpha * cv2.GaussianBlur(noise, (0, 0), sigma)[100:-100, 100:-100]
    assert literal.std() == pytest.approx(alpha / (2 * np.sqrt(3 * np.pi) * sigma), rel=0.05)
    assert flows.std() == pytest.approx(literal.std(), rel=0.12)
    assert flows[:, :20].std() == pytest.approx(flows[:, 100:120].std(), rel=0.4)  # no border effect
    step = round(sigma)
    near = (flows[:, :, step:] * flows[:, :, :-step]).mean() / flows.var()
    wanted = (literal[:, step:] * literal[:, :-step]).mean() / literal.var()
    assert near == pytest.approx(wanted, abs=0.1)


def test_deform_reads_where_the_flow_points() -> None:
    mask = np.zeros((40, 40), np.float32)
    mask[10:20, 10:20] = 1
    flow = np.zeros((40, 40, 2), np.float32)
    assert (deform(mask, flow) == mask).all()
    flow[..., 0] = 3
    assert (deform(mask, flow)[10:20, 7:17] == 1).all()


def test_erosion_is_exactly_the_square_of_its_kernel() -> None:
    # The published recipe: blur, divide by the maximum, keep what is 1. Of a 20 x 20 square a 5 x 5 kernel
    # leaves 16 x 16; kept as uint8 the blur would round back and leave 20 x 20.
    mask = np.zeros((60, 60), np.float32)
    mask[20:40, 20:40] = 1
    soft = soften(mask, erosion=5, blur=1, sigma=1)
    assert soft.sum() == 16 * 16
    assert (soft[22:38, 22:38] == 1).all()
    blurred = cv2.GaussianBlur(mask.astype(np.float64), (5, 5), 0)
    assert ((blurred > 1 - 1e-9) == (soft == 1)).all()


def test_soft_mask_shrinks_falls_off_and_peaks_at_one(points: np.ndarray) -> None:
    mask = hull_mask(points, (200, 200))
    soft = soften(mask, erosion=15, blur=15, sigma=8)
    assert soft.max() == 1 and soft.dtype == np.float32
    assert (soft > 0.5).sum() < 0.9 * (mask > 0.5).sum()
    assert (soft[mask == 0] == 0).all()  # eroded by as much as blurred: nothing leaves the face
    ramp = np.diff(soft[100])
    assert np.abs(ramp).max() < 0.2


def test_a_mask_thinner_than_the_kernel_survives() -> None:
    mask = np.zeros((60, 60), np.float32)
    mask[28:34] = 1
    soft = soften(mask, erosion=25, blur=5, sigma=2)
    assert soft.max() == 1 and soft[31].min() > 0
    assert soften(np.zeros((9, 9), np.float32), erosion=3, blur=3, sigma=1).max() == 0


def test_mask_box() -> None:
    mask = np.zeros((30, 40), np.float32)
    assert mask_box(mask).shape == (0, 4)
    mask[5:10, 7:20] = 0.6
    mask[0, 0] = 0.5
    assert mask_box(mask).tolist() == [[7, 5, 20, 10]]
