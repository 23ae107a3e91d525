"""PRLE's equations with numbers worked by hand, and against a loop that reads like the paper."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.faces import ellipse_landmarks
from unseen.data.dataset import FaceDataset
from unseen.data.erasing import LandmarkMask, RandomMask
from unseen.data.transforms import AlignFace, Flip
from unseen.methods.prle import (
    Fusion,
    PrimaryRegionMask,
    fuse_average,
    fuse_neighbors,
    rank_map,
    region_mask,
    region_share,
)
from unseen.models.backbone import Backbone, TimmBackbone
from unseen.types import FaceRecord, FaceSample, InputError, Label


def by_loop(maps: Tensor, threshold: float | None = 0.3, difference: float = 0.15, radius: int = 1) -> Tensor:
    """Eq. 6 to 8 pixel by pixel, pair by pair."""
    count, height, width = maps.shape
    result = torch.zeros(height, width, dtype=maps.dtype)
    for y in range(height):
        for x in range(width):
            average = maps[:, y, x].mean()
            if threshold is not None and average > threshold:
                result[y, x] = average
                continue
            near = maps[:, max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
            fires = any(
                (near[j] - maps[k, y, x]).abs().mean() > difference
                for j in range(count)
                for k in range(count)
            )
            result[y, x] = near.max() if fires else 0
    return result


# --- eq. 6: average -----------------------------------------------------------------------------------------


def test_average_keeps_what_is_strictly_above() -> None:
    # means: (.2 + .4) / 2 = .3, not above .3 -> 0; (1 + .5) / 2 = .75; 0; (.25 + .5) / 2 = .375
    maps = torch.tensor([[[0.25, 1.0], [0.0, 0.25]], [[0.25, 0.5], [0.0, 0.5]]])
    assert fuse_average(maps, threshold=0.25).tolist() == [[0, 0.75], [0, 0.375]]


# --- eq. 7 and 8: neighbours --------------------------------------------------------------------------------


def test_one_map_one_peak_by_hand() -> None:
    # A single map: 1 in the middle of 3 x 3, else 0; threshold .3 keeps the middle.
    # A corner has 4 neighbours with itself: mean |A(a) - 0| = 1/4 > .15 -> the largest of them, 1.
    # An edge has 6: 1/6 = .167 > .15 -> 1.
    maps = torch.zeros(1, 3, 3)
    maps[0, 1, 1] = 1
    assert fuse_neighbors(maps).tolist() == [[1, 1, 1]] * 3
    # With lambda .2 edges do not fire (1/6) and corners do (1/4).
    assert fuse_neighbors(maps, difference=0.2).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_the_border_divides_by_the_neighbours_there_are() -> None:
    # 5 x 5, peak in the middle: a pixel beside it has 9 neighbours, 1/9 = .111 does not exceed .15.
    maps = torch.zeros(1, 5, 5)
    maps[0, 2, 2] = 1
    assert fuse_neighbors(maps).count_nonzero() == 1
    assert fuse_neighbors(maps, difference=0.11).count_nonzero() == 9


def test_a_pair_of_maps_may_disagree_at_one_place() -> None:
    # Flat maps of 0 and .2: |A_0(a) - A_1(x)| = .2 > .15 everywhere; the average .1 is below .3; eq. 8: .2.
    maps = torch.stack([torch.zeros(4, 4), torch.full((4, 4), 0.2)])
    assert torch.equal(fuse_neighbors(maps), torch.full((4, 4), 0.2))
    assert fuse_neighbors(maps, floor=0.15).count_nonzero() == 0  # the code's tau2: .1 < .15


def test_the_core_where_all_agree_is_not_lost() -> None:
    maps = torch.zeros(3, 9, 9)
    maps[:, 2:7, 2:7] = 1
    alone = fuse_neighbors(maps, threshold=None)  # eq. 7 and 8 as printed
    assert alone[4, 4] == 0  # nothing differs there
    assert fuse_neighbors(maps)[4, 4] == 1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("threshold", [0.3, None])
@pytest.mark.parametrize("radius", [1, 2])
def test_fusion_equals_the_loop(count: int, threshold: float | None, radius: int) -> None:
    draw = torch.Generator().manual_seed(count)
    maps = torch.rand(count, 16, 12, generator=draw, dtype=torch.float64) ** 3
    maps[:, 8:] *= 0.2  # below the threshold, and differing too little
    maps[:, 3:6, 2:5] = maps[:1, 4:5, 3:4]  # flat places, where nothing differs
    found = fuse_neighbors(maps, threshold=threshold, radius=radius)
    expected = by_loop(maps, threshold=threshold, radius=radius)
    assert torch.equal(found, expected) or (found - expected).abs().max() < 1e-15
    assert 0 < (found == 0).sum() < found.numel()


def test_leading_dimensions_are_batches() -> None:
    maps = torch.rand(2, 4, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    for fuse in (fuse_average, fuse_neighbors):
        whole = fuse(maps)
        assert whole.shape == (2, 4, 7, 9)
        assert torch.equal(whole[1, 2], fuse(maps[1, 2]))
    ranks = Fusion().rank(maps)
    assert torch.equal(ranks[0, 3], Fusion().rank(maps[0, 3]))


def test_rank_by_average_puts_the_core_before_the_rim() -> None:
    maps = torch.zeros(2, 5, 5)
    maps[0, 2, 2], maps[1, 2, 2], maps[0, 2, 3] = 0.8, 0.4, 0.5  # average .6; beside it .25, expanded to .8
    literal, average = Fusion().rank(maps), Fusion(rank_by="average").rank(maps)
    assert Fusion().fuse(maps)[2, 3] == pytest.approx(0.8)
    assert literal[2, 3] < literal[2, 2]
    assert average[2, 2] < average[2, 3]


def test_integers_are_no_maps() -> None:
    with pytest.raises(InputError, match="expected floats"):
        fuse_average(torch.zeros(3, 4, 4, dtype=torch.uint8))


# --- eq. 9 to 12: the mask ----------------------------------------------------------------------------------


def test_mask_takes_the_hottest_share_by_hand() -> None:
    fused = torch.tensor([[0.0, 0.9, 0.3], [0.5, 0.0, 0.7]])  # V: .9 .7 .5 .3
    assert region_mask(fused, 0.5).tolist() == [[False, True, False], [False, False, True]]
    # floor(.74 * 4) = 2, floor(.75 * 4) = 3, floor(.2 * 4) = 0
    assert [int(region_mask(fused, alpha).sum()) for alpha in (0.74, 0.75, 0.2)] == [2, 3, 0]


def test_alpha_one_is_the_whole_region_and_masks_are_nested() -> None:
    fused = fuse_neighbors(torch.rand(3, 32, 32, generator=torch.Generator().manual_seed(0)) ** 4)
    masks = [region_mask(fused, i / 20) for i in range(21)]
    assert torch.equal(masks[-1], fused > 0)
    assert not masks[0].any()
    assert all(bool((small <= large).all()) for small, large in pairwise(masks))


def test_of_equals_the_lower_then_the_righter_goes_first() -> None:
    assert region_mask(torch.ones(2, 2), 0.5).tolist() == [[False, False], [True, True]]


def test_a_zero_map_masks_nothing() -> None:
    assert not region_mask(torch.zeros(4, 4), 1.0).any()
    assert not rank_map(torch.zeros(4, 4)).any()


def test_one_alpha_a_map() -> None:
    fused = torch.rand(2, 8, 8, generator=torch.Generator().manual_seed(0))
    masks = region_mask(fused, torch.tensor([0.25, 1.0]))
    assert masks.flatten(1).sum(1).tolist() == [16, 64]


def test_alpha_outside_is_refused() -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        region_mask(torch.ones(2, 2), 1.5)


def test_rank_map_by_hand_and_within_a_255th() -> None:
    # ranks of .9 .7 .5 .3 are 1 2 3 4 of 4: ceil(255 / 4) = 64, ceil(127.5) = 128, ceil(191.25) = 192, 255
    fused = torch.tensor([[0.0, 0.9, 0.3], [0.5, 0.0, 0.7]])
    assert rank_map(fused).tolist() == [[0, 64, 255], [192, 0, 128]]
    fused = torch.rand(64, 64, generator=torch.Generator().manual_seed(0))
    rank = rank_map(fused)
    for alpha in (0.1, 0.33, 0.5, 0.99, 1.0):
        exact, fast = region_mask(fused, alpha), (rank > 0) & (rank <= int(255 * alpha))
        assert bool((fast <= exact).all())
        assert int((exact ^ fast).sum()) <= 64 * 64 / 255 + 1


def test_share_of_a_map() -> None:
    maps = torch.tensor([[[0.0, 0.5], [0.005, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert region_share(maps).tolist() == [0.5, 0]
    assert region_share(maps, threshold=0.01).tolist() == [0.25, 0]


# --- eq. 11 and 13: what a sample becomes -------------------------------------------------------------------


def ranks(height: int = 40, width: int = 32) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    fused = np.clip(1 - np.hypot(y - 18, x - 12) / 10, 0, None)
    return rank_map(torch.from_numpy(fused)).numpy()


@pytest.fixture
def sample() -> FaceSample:
    image = np.random.default_rng(0).integers(1, 256, (40, 32, 3), dtype=np.uint8)
    return FaceSample(image, Label.FAKE, FaceRecord("a.png", Label.FAKE), attention=ranks())


def apply(mask: object, sample: FaceSample, seed: int = 0) -> FaceSample:
    return mask(sample, np.random.default_rng(seed))  # type: ignore[operator]


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0])
def test_mask_erases_the_ranked_share_to_black(sample: FaceSample, alpha: float) -> None:
    result = apply(PrimaryRegionMask("", p=1.0, alpha=(alpha, alpha)), sample)
    gone = (ranks() > 0) & (ranks() <= 255 * alpha)
    assert gone.any()
    assert np.array_equal(result.image == 0, np.repeat(gone[..., None], 3, 2))
    assert np.array_equal(result.image[~gone], sample.image[~gone])


def test_erase_then_normalise() -> None:
    """Erased pixels are what the backbone makes of black, -1 at mean = std = .5, not 0."""
    backbone = Backbone(1, 1, 8, mean=(0.5,) * 3, std=(0.5,) * 3)
    black = backbone.normalize(torch.zeros(1, 3, 2, 2, dtype=torch.uint8))
    assert bool((black == -1).all())


def test_a_zero_map_is_no_op(sample: FaceSample) -> None:
    blank = replace(sample, attention=np.zeros((40, 32), np.uint8))
    result = apply(PrimaryRegionMask("", p=1.0), blank)
    assert np.array_equal(result.image, sample.image)


def test_flip_commutes(sample: FaceSample) -> None:
    mask, flip = PrimaryRegionMask("", p=1.0, alpha=(0.6, 0.6)), Flip(1.0)
    assert np.array_equal(apply(flip, apply(mask, sample)).image, apply(mask, apply(flip, sample)).image)


def test_half_of_the_faces_and_gamma_for_those(sample: FaceSample) -> None:
    mask = PrimaryRegionMask("", weight=3.0)
    weights = [apply(mask, sample, seed).weight for seed in range(400)]
    assert set(weights) == {1.0, 3.0}
    assert 0.42 < np.mean(np.array(weights) == 3.0) < 0.58


def test_alpha_is_spread_over_its_range(sample: FaceSample) -> None:
    mask = PrimaryRegionMask("", p=1.0, alpha=(0.5, 1.0))
    gone = [(apply(mask, sample, seed).image == 0).all(2).sum() for seed in range(200)]
    share = np.array(gone) / (ranks() > 0).sum()
    assert share.min() > 0.48
    assert 0.7 < share.mean() < 0.8


@pytest.mark.parametrize("kind", [PrimaryRegionMask, RandomMask, LandmarkMask])
def test_numbers_drawn_do_not_depend_on_the_picture(kind: type, sample: FaceSample) -> None:
    other = replace(sample, image=sample.image[:20].copy(), attention=sample.attention[:20])
    states = []
    for one in (sample, other):
        rng = np.random.default_rng(5)
        made = kind("", p=1.0, fill="noise") if kind is PrimaryRegionMask else kind(p=1.0, fill="noise")
        made(one, rng)
        states.append(rng.bit_generator.state)
    assert states[0] == states[1]


def test_fills(sample: FaceSample) -> None:
    gone = ranks() > 0
    noise = apply(PrimaryRegionMask("", p=1.0, alpha=(1, 1), fill="noise"), sample).image
    mean = apply(PrimaryRegionMask("", p=1.0, alpha=(1, 1), fill="mean"), sample).image
    assert 90 < noise[gone].mean() < 165
    assert noise[gone].std() > 60
    assert np.array_equal(np.unique(mean[gone], axis=0), np.rint(sample.image.mean((0, 1)))[None])
    assert np.array_equal(noise[~gone], sample.image[~gone])


@pytest.mark.parametrize(
    "wrong", [{"p": 1.5}, {"alpha": (0.7, 0.5)}, {"alpha": (0, 0)}, {"fill": "red"}, {"missing": "skip"}]
)
def test_settings_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(InputError, match="PrimaryRegionMask"):
        PrimaryRegionMask("", **wrong)


def test_a_store_that_is_not_there_is_no_matter_until_it_is_used(tmp_path: object) -> None:
    mask = PrimaryRegionMask(f"{tmp_path}/none")
    assert mask.evaluating() is None
    with pytest.raises(InputError, match="primary-regions") as error:
        FaceDataset([FaceRecord("a.png", Label.REAL)], [mask])
    assert error.value.reason == "missing"
    FaceDataset([FaceRecord("a.png", Label.REAL)], [mask], training=False)


def test_attention_must_be_ranks(sample: FaceSample) -> None:
    with pytest.raises(InputError, match="uint8"):
        apply(PrimaryRegionMask("", p=1.0), replace(sample, attention=ranks() / 255.0))


# --- ablation masks (Table IV) ------------------------------------------------------------------------------


def test_random_rectangles_have_the_stated_areas_and_stay_inside(sample: FaceSample) -> None:
    image = np.full((300, 300, 3), 200, np.uint8)
    face = replace(sample, image=image, attention=None, landmarks=None)
    areas, shapes = [], []
    for seed in range(300):
        gone = (apply(RandomMask(p=1.0), face, seed).image == 0).all(2)
        rows, columns = np.flatnonzero(gone.any(1)), np.flatnonzero(gone.any(0))
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        assert gone.sum() == height * width  # one rectangle
        areas.append(gone.mean())
        shapes.append(height / width)
    assert min(areas) > 0.015
    assert max(areas) <= 0.405
    assert min(shapes) < 0.5 < 2 < max(shapes)


def test_random_rectangles_lie_on_the_face_of_a_loose_crop(sample: FaceSample) -> None:
    face = replace(
        sample,
        image=np.full((300, 300, 3), 200, np.uint8),
        attention=None,
        landmarks=ellipse_landmarks((150, 150), (40, 50)),
    )
    touched = np.zeros((300, 300), bool)
    for seed in range(200):
        touched |= (apply(RandomMask(p=1.0), face, seed).image == 0).all(2)
    rows = np.flatnonzero(touched.any(1))
    assert 80 < rows[0] < 130
    assert rows[-1] < 240


def test_landmark_masks_are_nose_eyes_and_mouth(sample: FaceSample) -> None:
    points = ellipse_landmarks((100, 100), (60, 70))
    face = replace(sample, image=np.full((200, 200, 3), 200, np.uint8), attention=None, landmarks=points)
    centres = set()
    for seed in range(40):
        gone = (apply(LandmarkMask(p=1.0), face, seed).image == 0).all(2)
        centres.add(round(float(np.flatnonzero(gone.any(1)).mean())))
    expected = [points[part].mean(0)[1] for part in (slice(27, 36), slice(36, 48), slice(48, 68))]
    assert len(centres) == 3
    for centre, near in zip(sorted(centres), sorted(expected), strict=True):
        assert abs(centre - near) < 12
    nobody = replace(face, landmarks=None)
    assert np.array_equal(apply(LandmarkMask(p=1.0), nobody).image, nobody.image)


def test_masks_come_before_alignment(sample: FaceSample) -> None:
    """Whatever is erased in the crop is black in what the network sees, and stays where it was."""
    points = ellipse_landmarks((100, 100), (50, 60))
    y, x = np.mgrid[:200, :200]
    heat = torch.from_numpy(np.clip(1 - np.hypot(y - 100, x - 100) / 20.0, 0, None))
    face = replace(
        sample,
        image=np.full((200, 200, 3), 200, np.uint8),
        attention=rank_map(heat).numpy(),
        landmarks=points,
    )
    align = AlignFace(64)
    result = apply(align, apply(PrimaryRegionMask("", p=1.0, alpha=(1, 1)), face))
    assert result.attention is not None
    inside, outside = result.attention > 200, result.attention == 0
    assert inside.sum() > 20
    assert result.image[inside].mean() < 60
    assert result.image[outside & (align(face, np.random.default_rng(0)).image[..., 0] > 150)].mean() > 180


# --- the zoo's backbones ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_vgg_gives_its_map_not_its_wide_layers(name: str) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name, image_size=256)
        seen = backbone(torch.zeros(2, 3, 256, 256))
    assert tuple(seen.map.shape) == (2, 512, 8, 8)
    assert backbone.dim == 512
    assert sum(p.numel() for p in backbone.parameters()) < 21e6  # 138 M with the layers it does without
