"""CADDM: boxes and losses by hand, structure against the printed formula, swaps whose place is known."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from tests.train.faces import ellipse_landmarks
from unseen.data.dataset import FaceDataset
from unseen.data.transforms import AlignFace, Flip
from unseen.methods.caddm import (
    ArtifactDetector,
    Found,
    MultiScaleSwap,
    anchors,
    decode,
    densest_window,
    detection_loss,
    dssim,
    match,
)
from unseen.models.anchors import SIDES, assign, corners, encode
from unseen.models.backbone import Backbone, TimmBackbone
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.types import FaceBatch, FaceRecord, FaceSample, Features, InputError, Label

WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


# --- anchors and matching ---------------------------------------------------------------------------------


def test_anchors_lie_where_the_paper_puts_them() -> None:
    boxes = anchors() * 224
    assert boxes.shape == (168, 4)
    # 7 x 7 cells of 32 pixels: the first at (16, 16), tall (40, 80) before wide (80, 40); then to the right.
    assert boxes[0].tolist() == pytest.approx([16, 16, 40, 80])
    assert boxes[1].tolist() == pytest.approx([16, 16, 80, 40])
    assert boxes[2].tolist() == pytest.approx([48, 16, 40, 80])
    # Row 2, column 5 of 5 x 5 with steps of 45: 98 + 2 * (1 * 5 + 4), centre (4.5 * 45, 1.5 * 45).
    assert boxes[98 + 18].tolist() == pytest.approx([202.5, 67.5, 80, 120])
    # The last cell of 3 x 3 with steps of 75: centre 2.5 * 75.
    assert boxes[165].tolist() == pytest.approx([187.5, 187.5, 160, 120])
    assert torch.equal(boxes[166], boxes[167])
    assert boxes[167].tolist() == pytest.approx([112, 112, 224, 224])
    anchors().zero_()
    assert anchors().any()  # nobody writes into the shared table


def test_one_box_worked_by_hand() -> None:
    # Anchor 0 is x in [-4, 36], y in [-24, 56] of 224. A box x in [0, 40], y in [0, 60]: they share 36 * 56 =
    # 2016 of 3200 + 2400 - 2016 = 3584, which is 0.5625, at least one half: positive.
    box = torch.tensor([[0.0, 0.0, 40.0, 60.0]]) / 224
    offsets, fake = match(box, anchors())
    assert fake[0] and offsets.shape == (168, 4)
    # Centre (20, 30) seen from (16, 16) in units of 0.1 * (40, 80): 4 / 4 = 1 and 14 / 8 = 1.75.
    # Size: ln(40 / 40) / 0.2 = 0, ln(60 / 80) / 0.2 = -1.43841.
    assert offsets[0].tolist() == pytest.approx([1.0, 1.75, 0.0, -1.43841], abs=1e-4)
    # Anchor 2 is x in [28, 68]: 12 * 56 = 672 of 3200 + 2400 - 672 = 4928, which is 0.136.
    assert not fake[2]
    assert not match(box, anchors(), threshold=0.57)[1][2]
    # Even at a threshold that none reaches, the closest anchor is positive.
    assert match(box, anchors(), threshold=0.99)[1].nonzero().tolist() == [[0]]


def test_the_whole_picture_is_found_by_the_two_whole_anchors_alone() -> None:
    offsets, fake = match(WHOLE, anchors())
    assert fake.nonzero().flatten().tolist() == [166, 167]
    assert offsets[166:].abs().max() < 1e-6


@pytest.mark.parametrize(("window", "usual"), [((40, 80), 3), ((80, 120), 5), ((120, 160), 4)])
def test_a_window_of_the_paper_has_a_few_positives_besides(window: tuple[int, int], usual: int) -> None:
    rng, counts = np.random.default_rng(0), []
    for _ in range(200):
        y, x = rng.integers(0, 225 - window[0]), rng.integers(0, 225 - window[1])
        box = torch.tensor([[x, y, x + window[1], y + window[0]]]) / 224
        counts.append(int(match(torch.cat([WHOLE, box]), anchors())[1].sum()))
    assert min(counts) >= 3  # the two whole ones, and at least the closest
    assert usual in counts


def test_of_two_boxes_that_want_one_anchor_the_later_gets_it() -> None:
    first = torch.tensor([10.0, 10.0, 22.0, 22.0]) / 224
    second = torch.tensor([9.0, 9.0, 23.0, 23.0]) / 224
    small = anchors()[:1]  # one anchor, closest to both
    offsets, fake = match(torch.stack([first, second]), small)
    assert fake.tolist() == [True]
    assert torch.equal(offsets, encode(second[None], small))
    assert torch.equal(match(torch.stack([second, first]), small)[0], encode(first[None], small))


def test_no_box_and_boxes_without_area_make_no_positive() -> None:
    for boxes in (torch.zeros(0, 4), torch.zeros(2, 4), torch.tensor([[0.5, 0.2, 0.5, 0.9]])):
        offsets, fake = match(boxes, anchors())
        assert not fake.any() and not offsets.any()
    box = torch.tensor([[0.1, 0.2, 0.6, 0.7]])
    plain, padded = match(box, anchors()), match(torch.cat([torch.zeros(1, 4), box]), anchors())
    assert torch.equal(plain[0], padded[0]) and torch.equal(plain[1], padded[1])


def test_transposing_boxes_permutes_anchors() -> None:
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(40, 2, generator=generator) * 0.6
    boxes = torch.cat([low, low + 0.1 + 0.3 * torch.rand(40, 2, generator=generator)], 1)
    exchange, start = torch.zeros(168, dtype=torch.long), 0
    for side in SIDES:
        for row in range(side):
            for column in range(side):
                for k in range(2):
                    here = start + (row * side + column) * 2 + k
                    exchange[here] = start + (column * side + row) * 2 + 1 - k
        start += 2 * side * side
    swapped = boxes[:, [1, 0, 3, 2]]
    for box, other in zip(boxes, swapped, strict=True):
        # Against the threshold alone: which of two equally close anchors is forced depends on their order.
        offsets, fake = match(box[None], anchors())
        there, also = match(other[None], anchors())
        torch.testing.assert_close(there[exchange][:, [1, 0, 3, 2]], offsets)
        assert int((fake != also[exchange]).sum()) in (0, 2)


def test_a_batch_is_its_pictures_one_by_one() -> None:
    generator = torch.Generator().manual_seed(1)
    low = torch.rand(6, 3, 2, generator=generator) * 0.6
    boxes = torch.cat([low, low + 0.3 * torch.rand(6, 3, 2, generator=generator)], 2)
    boxes[1, 1], boxes[2], boxes[4, 0] = 0, 0, 0
    offsets, fake = assign(boxes, anchors())
    for i in range(6):
        alone = match(boxes[i][(boxes[i] != 0).any(1)], anchors())
        torch.testing.assert_close(offsets[i], alone[0])
        assert torch.equal(fake[i], alone[1])


def test_decoding_undoes_encoding() -> None:
    generator = torch.Generator().manual_seed(2)
    low = torch.rand(168, 2, generator=generator, dtype=torch.float64) * 0.6
    boxes = torch.cat([low, low + 0.05 + 0.3 * torch.rand(168, 2, generator=generator).double()], 1)
    table = anchors().double()
    torch.testing.assert_close(decode(encode(boxes, table), table), boxes)
    torch.testing.assert_close(decode(torch.zeros(168, 4).double(), table), corners(table))
    # Offsets (1, -1, ln 2 / 0.2, 0) of anchor 0, which is 40 x 80 about (16, 16): the centre moves to
    # (16 + 0.1 * 40, 16 - 0.1 * 80) = (20, 8), the width doubles to 80.
    moved = decode(torch.tensor([[1.0, -1.0, math.log(2) / 0.2, 0.0]]), anchors()[:1]) * 224
    assert moved[0].tolist() == pytest.approx([-20, -32, 60, 48], abs=1e-4)


# --- the loss -----------------------------------------------------------------------------------------------


def test_loss_by_hand() -> None:
    # Two pictures of five anchors. The first has one positive (anchor 1), so that its two hardest negatives
    # are mined; the second is real and adds nothing.
    fake = torch.tensor([[0, 1, 0, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    lead = torch.tensor([[0.0, 1.0, 2.0, -1.0, -3.0], [9.0, 9.0, 9.0, 9.0, 9.0]])
    logits = torch.stack([torch.zeros(2, 5), lead], -1)
    wanted, said = torch.zeros(2, 5, 4), torch.zeros(2, 5, 4)
    said[0, 1] = torch.tensor([0.5, -2.0, 0.0, 1.0])
    said[0, 0] = 100.0  # of a negative anchor: nobody asks where it is
    location, confidence = detection_loss(said, logits, wanted, fake)
    # Smooth L1: 0.5 * 0.25 + (2 - 0.5) + 0 + 0.5 = 2.125, one positive.
    assert float(location) == pytest.approx(2.125)
    # Cross entropy: the positive ln(1 + e^-1) = 0.31326; negatives ln(1 + e^lead): 0.69315, 2.12693, 0.31326,
    # 0.04859, the hardest two are 2.12693 + 0.69315.
    assert float(confidence) == pytest.approx(0.313262 + 2.126928 + 0.693147, abs=1e-5)
    # With one anchor of each real picture: its entropy is ln(1 + e^9) = 9.000123.
    more = detection_loss(said, logits, wanted, fake, genuine_negatives=1)
    assert float(more[1] - confidence) == pytest.approx(9.000123, abs=1e-5)
    assert float(more[0]) == pytest.approx(2.125)


def test_loss_takes_positives_as_numbers() -> None:
    draw = torch.manual_seed(0)
    given = [torch.randn(2, 168, n, generator=draw) for n in (4, 2, 4)]
    fake = torch.rand(2, 168, generator=draw) < 0.05
    for dtype in (torch.int64, torch.float32):
        assert detection_loss(*given, fake.to(dtype)) == detection_loss(*given, fake)


def test_loss_is_divided_by_the_positives_of_the_whole_batch() -> None:
    fake = torch.zeros(2, 168, dtype=torch.bool)
    fake[0, 166:], fake[1, 10] = True, True
    said, logits = torch.ones(2, 168, 4), torch.zeros(2, 168, 2)
    location, confidence = detection_loss(said, logits, torch.zeros(2, 168, 4), fake)
    assert float(location) == pytest.approx(3 * 4 * 0.5 / 3)
    # Three positives with twice as many negatives, all of ln 2, over three.
    assert float(confidence) == pytest.approx(9 * math.log(2) / 3)
    one = detection_loss(said, logits, torch.zeros(2, 168, 4), fake, negatives=0)[1]
    assert float(one) == pytest.approx(math.log(2))


def test_mining_stops_at_all_anchors_but_one() -> None:
    fake = torch.zeros(1, 5, dtype=torch.bool)
    fake[0, :3] = True
    confidence = detection_loss(torch.zeros(1, 5, 4), torch.zeros(1, 5, 2), torch.zeros(1, 5, 4), fake)[1]
    # Six are asked for, there are two: (3 + 2) ln 2 / 3.
    assert float(confidence) == pytest.approx(5 * math.log(2) / 3)


def test_without_a_positive_the_loss_is_nothing_and_still_on_the_graph() -> None:
    said = torch.randn(3, 168, 4, requires_grad=True)
    logits = torch.randn(3, 168, 2, requires_grad=True)
    none = torch.zeros(3, 168, dtype=torch.bool)
    location, confidence = detection_loss(said, logits, torch.zeros(3, 168, 4), none)
    assert location.item() == 0 and confidence.item() == 0
    (location + confidence).backward()
    assert said.grad is not None and not said.grad.any() and logits.grad is not None and not logits.grad.any()
    # Four anchors of each of three reals, and nothing to divide by: their mean.
    flat = torch.zeros(3, 168, 2)
    mined = detection_loss(said, flat, torch.zeros(3, 168, 4), none, genuine_negatives=4)[1]
    assert float(mined.detach()) == pytest.approx(math.log(2))


def test_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(3)
    fake = torch.rand(2, 6, generator=generator) < 0.4
    said = torch.randn(2, 6, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    logits = torch.randn(2, 6, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    wanted = torch.zeros(2, 6, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: detection_loss(a, b, wanted, fake), (said, logits))


# --- the part -----------------------------------------------------------------------------------------------


def blank(channels: int = 8, dim: int | None = None) -> Backbone:
    return Backbone(channels, dim or channels, 224, mean=(0, 0, 0), std=(1, 1, 1))


def count(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_sizes_are_those_of_the_public_code() -> None:
    with torch.device("meta"):
        # Counted by hand, layer by layer, for C = 512: 2,887,168 + 2 * 7,081,472 + 4,982,272 for the layers
        # and 172,080 for the heads.
        assert count(ArtifactDetector(blank(512))) == 22_204_464
        assert count(ArtifactDetector(blank(1792))) == pytest.approx(270.4e6, rel=1e-3)
        assert count(ArtifactDetector(blank(1792), channels=256)) < 7e6


def test_four_maps_give_168_anchors_and_the_vector_is_added() -> None:
    torch.manual_seed(0)
    part = ArtifactDetector(blank()).eval()
    features = Features(torch.randn(3, 8, 7, 7), torch.randn(3, 8))
    after, found = part(features)
    assert found.offsets.shape == (3, 168, 4) and found.logits.shape == (3, 168, 2)
    assert after.map is features.map
    added = after.vector - features.vector
    assert (added >= -1e-6).all() and added.any()  # the end of a ReLU
    slim, _ = ArtifactDetector(blank(8, 12), channels=4).eval()(Features(features.map, torch.randn(3, 12)))
    assert slim.vector.shape == (3, 12)


def test_an_anchor_reads_its_own_cell() -> None:
    """A change at row 1, column 5 of the map moves that anchor's answer most."""
    torch.manual_seed(0)
    part = ArtifactDetector(blank()).eval()
    for head in (part.boxes[0], part.classes[0]):
        torch.nn.init.constant_(head.bias, 0)  # type: ignore[arg-type]
    map = torch.zeros(1, 8, 7, 7, requires_grad=True)
    _, found = part(Features(map, torch.zeros(1, 8)))
    found.logits[0, (1 * 7 + 5) * 2 : (1 * 7 + 5) * 2 + 2].sum().backward()
    assert map.grad is not None
    felt = map.grad.abs().sum((0, 1)).nonzero()
    assert felt.min(0).values.tolist() == [0, 3] and felt.max(0).values.tolist() == [3, 6]  # 5 x 5 about it


def batch(label: list[int], regions: list[list[list[float]]] | None) -> FaceBatch:
    boxes = None if regions is None else [torch.tensor(r, dtype=torch.float32).view(-1, 4) for r in regions]
    return FaceBatch(torch.zeros(len(label), 3, 224, 224), torch.tensor(label), regions=boxes)


def test_targets_of_reals_globals_and_partials() -> None:
    part = ArtifactDetector(blank())
    window = [40.0, 60.0, 120.0, 100.0]
    offsets, fake = part.targets(batch([0, 1, 1], [[], [], [window]]))
    assert not fake[0].any() and not offsets[0].any()
    assert fake[1].nonzero().flatten().tolist() == [166, 167]
    alone = match(torch.cat([WHOLE, torch.tensor([window]) / 224]), anchors())
    assert torch.equal(fake[2], alone[1]) and fake[2].sum() > 2
    torch.testing.assert_close(offsets[2], alone[0])
    # A region of a real, should there be one, is not forged; and no list of regions is as good as empty ones.
    assert not part.targets(batch([0], [[window]]))[1].any()
    assert torch.equal(part.targets(batch([0, 1], None))[1], fake[:2])


def test_losses_are_weighted_and_reals_alone_cost_nothing() -> None:
    torch.manual_seed(0)
    part = ArtifactDetector(blank())
    features = Features(torch.randn(2, 8, 7, 7), torch.randn(2, 8))
    with torch.no_grad():
        found = part(features)[1]
    faces = batch([0, 1], [[], [[40.0, 60.0, 120.0, 100.0]]])
    with torch.no_grad():
        location, confidence = detection_loss(found.offsets, found.logits, *part.targets(faces))
    terms = part.losses(found, faces)
    assert float(terms["location"]) == pytest.approx(0.1 * float(location))
    assert float(terms["confidence"]) == pytest.approx(0.1 * float(confidence))
    assert all(float(v) == 0 for v in part.losses(found, batch([0, 0], None)).values())
    part.genuine_negatives = 4
    assert float(part.losses(found, batch([0, 0], None))["confidence"]) > 0


def test_a_map_of_another_size_is_refused_with_the_size_that_fits() -> None:
    backbone = TimmBackbone("test_resnet", image_size=96)
    detector = Detector(backbone, BinaryHead, [ArtifactDetector])
    with pytest.raises(
        InputError, match=r"96 pixels .* 3 x 3 cells; expected 7 x 7, as image_size 224 .*adapt"
    ):
        detector(torch.rand(2, 3, 96, 96))
    assert Detector(TimmBackbone("test_resnet", image_size=224), BinaryHead, [ArtifactDetector])(
        torch.rand(1, 3, 224, 224)
    ).score.shape == (1,)


@pytest.mark.parametrize(
    "arguments", [{"grid": "any"}, {"channels": 0}, {"weight": -1.0}, {"matching": 0.0}, {"negatives": -1}]
)
def test_wrong_arguments_are_refused(arguments: dict) -> None:
    with pytest.raises(InputError, match="ArtifactDetector"):
        ArtifactDetector(blank(), **arguments)


def test_explanations_are_boxes_in_pixels_the_most_certain_first() -> None:
    part = ArtifactDetector(blank(), most=2)
    offsets, logits = torch.zeros(2, 168, 4), torch.zeros(2, 168, 2)
    logits[..., 0] = 5.0
    logits[0, 166] = torch.tensor([0.0, 2.0])  # the whole picture, sigmoid(2)
    logits[0, 167] = torch.tensor([0.0, 1.0])  # the same box again: suppressed
    logits[0, 0] = torch.tensor([0.0, 3.0])  # x in [-4, 36], y in [-24, 56]: clipped
    logits[0, 97] = torch.tensor([0.0, 0.5])  # a third one: too many
    first, second = part.explain(Found(offsets, logits))
    assert first[0].kind == "regions" and first[0].boxes is not None and first[0].scores is not None
    np.testing.assert_allclose(first[0].boxes, [[0, 0, 36, 56], [0, 0, 224, 224]], atol=1e-3)
    np.testing.assert_allclose(first[0].scores, [1 / (1 + math.exp(-3)), 1 / (1 + math.exp(-2))], rtol=1e-5)
    assert second[0].boxes is not None and second[0].boxes.shape == (0, 4)


def test_transposed_weights_are_shown_and_trained_the_right_way_round() -> None:
    plain, public = ArtifactDetector(blank()), ArtifactDetector(blank(), transpose_boxes=True)
    window = [[40.0, 60.0, 120.0, 100.0]]
    turned = [[60.0, 40.0, 100.0, 120.0]]
    ours, theirs = public.targets(batch([1], [window])), plain.targets(batch([1], [turned]))
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])
    found = part_said(ours)
    np.testing.assert_allclose(public.explain(found)[0][0].boxes[1], window[0], atol=1e-2)  # type: ignore[index]
    np.testing.assert_allclose(plain.explain(found)[0][0].boxes[1], turned[0], atol=1e-2)  # type: ignore[index]


def part_said(targets: tuple[torch.Tensor, torch.Tensor]) -> Found:
    """What a detector says that says exactly what it should."""
    sure = torch.where(targets[1], 6.0, -6.0)
    sure[:, 166:] *= 1.5  # the whole picture first
    return Found(targets[0], torch.stack([torch.zeros_like(sure), sure], -1))


# --- structure ----------------------------------------------------------------------------------------------


def literal_dssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The printed formula in double precision, each window summed by itself."""
    place = np.arange(11) - 5
    one = np.exp(-(place**2) / (2 * 1.5**2))
    window = np.outer(one, one) / one.sum() ** 2
    result = np.zeros(a.shape)
    pad = [(5, 5), (5, 5), (0, 0)]
    x, y = np.pad(a.astype(float), pad, mode="reflect"), np.pad(b.astype(float), pad, mode="reflect")
    for row in range(a.shape[0]):
        for column in range(a.shape[1]):
            u = x[row : row + 11, column : column + 11]
            v = y[row : row + 11, column : column + 11]
            w = window[..., None]
            mu, nu = (w * u).sum((0, 1)), (w * v).sum((0, 1))
            var_u, var_v = (w * (u - mu) ** 2).sum((0, 1)), (w * (v - nu) ** 2).sum((0, 1))
            both = (w * (u - mu) * (v - nu)).sum((0, 1))
            c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
            result[row, column] = (2 * mu * nu + c1) * (2 * both + c2)
            result[row, column] /= (mu**2 + nu**2 + c1) * (var_u + var_v + c2)
    return (1 - result) / 2


def test_dssim_is_the_printed_formula(portrait: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    a = np.ascontiguousarray(portrait[100:140, 180:230])
    for b in (
        np.clip(a + rng.normal(0, 8, a.shape), 0, 255).astype(np.uint8),
        cv2.GaussianBlur(a, (0, 0), 2),
        np.ascontiguousarray(255 - a),
        rng.integers(0, 256, a.shape, dtype=np.uint8),
    ):
        found = dssim(a, b)
        assert found.shape == a.shape and found.dtype == np.float32
        assert np.abs(found - literal_dssim(a, b)).max() < 5e-5
        assert np.array_equal(found, dssim(b, a)) or np.abs(found - dssim(b, a)).max() < 1e-6
        np.testing.assert_allclose(dssim(a.astype(float), b.astype(np.float32)), found, atol=1e-6)


def test_dssim_agrees_with_scikit_image(portrait: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    a = np.ascontiguousarray(portrait[:120, :160])
    b = np.clip(a + rng.normal(0, 20, a.shape), 0, 255).astype(np.uint8)
    _, similar = structural_similarity(
        a,
        b,
        data_range=255,
        channel_axis=-1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    inside = (slice(5, -5), slice(5, -5))  # borders are mirrored in another way there
    assert np.abs(dssim(a, b) - (1 - similar) / 2)[inside].max() < 1e-3


def test_dssim_of_equal_and_of_flat_pictures() -> None:
    a = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    assert dssim(a, a).max() < 1e-6
    # Flat 0 and 255: (0 + C1) / (255^2 + C1) = 0.0001 / 1.0001, and half of what is left to 1.
    low, high = np.zeros((20, 20, 3), np.uint8), np.full((20, 20, 3), 255, np.uint8)
    assert dssim(low, high) == pytest.approx((1 - 0.0001 / 1.0001) / 2, abs=1e-5)
    with pytest.raises(InputError, match="expected the same"):
        dssim(low, high[:10])
    with pytest.raises(InputError, match=r"expected the same \(H, W, 3\)"):
        dssim(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8))


def exhaustive(weights: np.ndarray, height: int, width: int) -> tuple[int, int]:
    best, where = -1.0, (0, 0)
    for y in range(weights.shape[0] - height + 1):
        for x in range(weights.shape[1] - width + 1):
            total = math.fsum(weights[y : y + height, x : x + width].ravel().tolist())
            if total > best:
                best, where = total, (x, y)
    return where


@pytest.mark.parametrize("seed", range(12))
def test_the_densest_window_is_that_of_exhaustive_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.integers(8, 28, 2)
    maps = [
        rng.random(shape),
        rng.random(shape).astype(np.float32) ** 8,
        rng.integers(0, 3, shape).astype(np.uint8),  # full of ties
        np.tile(0.1 * rng.integers(0, 2, (1, shape[1])), (shape[0], 1)),  # ties that floats would break
        np.full(shape, 0.1),
        np.zeros(shape),
    ]
    for weights in maps:
        height, width = int(rng.integers(1, shape[0] + 1)), int(rng.integers(1, shape[1] + 1))
        assert densest_window(weights, height, width) == exhaustive(weights, height, width)


def test_windows_that_do_not_fit_and_weights_that_are_none() -> None:
    for size in ((0, 3), (3, 0), (11, 3), (3, 11)):
        with pytest.raises(InputError, match="fits"):
            densest_window(np.ones((10, 10)), *size)
    for bad in (np.nan, np.inf, -1.0):
        weights = np.ones((10, 10))
        weights[3, 4] = bad
        with pytest.raises(InputError, match="finite and not negative"):
            densest_window(weights, 3, 3)


# --- the swap -----------------------------------------------------------------------------------------------


def pair(portrait: np.ndarray, *, side: int = 320) -> FaceSample:
    """A real face, and as its fake the same with the face made brighter and blurred inside an ellipse."""
    real = np.ascontiguousarray(cv2.resize(portrait[40:360, 100:420], (side, side)))
    landmarks = ellipse_landmarks((side * 0.47, side * 0.5), (side * 0.25, side * 0.31))
    mask = np.zeros((side, side), np.float32)
    middle, axes = (int(side * 0.47), int(side * 0.5)), (int(side * 0.2), int(side * 0.24))
    cv2.ellipse(mask, middle, axes, 0, 0, 360, 1.0, -1)
    mask = cv2.GaussianBlur(mask, (0, 0), 3)[..., None]
    other = np.clip(cv2.GaussianBlur(real, (0, 0), 3) + np.array([40.0, 10.0, -20.0]), 0, 255)
    fake = (mask * other + (1 - mask) * real).astype(np.uint8)
    return FaceSample(fake, Label.FAKE, FaceRecord("f.png", Label.FAKE), source=real, landmarks=landmarks)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.clip(high - low, 0, None).prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both))


PARTIAL = {"half": 0.0, "partial": 1.0, "poisson": 0.0}


@pytest.mark.parametrize("window", [(40, 80), (80, 120), (120, 160)])
@pytest.mark.parametrize("seed", range(3))
def test_the_box_is_where_the_window_was_pasted(
    portrait: np.ndarray, window: tuple[int, int], seed: int
) -> None:
    sample = pair(portrait)
    # A fake that differs everywhere, so that each pasted pixel can be told.
    sample.image = np.clip(sample.image.astype(int) + 12 - 24 * (sample.image > 128), 0, 255).astype(np.uint8)
    # The outside differs on purpose, which a real fake's would not.
    swap = MultiScaleSwap(windows=[window], strange=255, **PARTIAL)  # type: ignore[arg-type]
    swapped = swap(sample, np.random.default_rng(seed))
    assert swapped.regions is not None and swapped.regions.shape == (1, 4)
    x0, y0, x1, y1 = swapped.regions[0].astype(int)
    # The crop is the landmarks' box and a fifth more; the window has its share of it, to the pixel.
    low, high = sample.landmarks.min(0), sample.landmarks.max(0)  # type: ignore[union-attr]
    size = 1.2 * (high - low)
    assert y1 - y0 == pytest.approx(window[0] * size[1] / 224, abs=2)
    assert x1 - x0 == pytest.approx(window[1] * size[0] / 224, abs=2)
    # Outside the soft edge of two pixels all is the source's; inside, from three pixels on, all the fake's.
    assert sample.source is not None
    fresh = (swapped.image != sample.source).any(2)
    rows, columns = np.nonzero(fresh)
    assert columns.min() >= x0 - 2 and columns.max() < x1 + 2 and rows.min() >= y0 - 2 and rows.max() < y1 + 2
    inside = np.s_[y0 + 3 : y1 - 3, x0 + 3 : x1 - 3]
    assert np.array_equal(swapped.image[inside], sample.image[inside])
    # Where more than half of a pixel is the fake's: exactly the box.
    gain = np.abs(sample.image.astype(float) - sample.source).sum(2)
    share = np.abs(swapped.image.astype(float) - sample.source).sum(2) / np.maximum(gain, 1)
    rows, columns = np.nonzero((share > 0.5) & (gain >= 24))
    region = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert overlap(region, swapped.regions[0]) == 1


@pytest.mark.parametrize("seed", range(6))
def test_after_alignment_the_box_still_is(portrait: np.ndarray, seed: int) -> None:
    """The pasted window itself is warped as a picture; its bounding box must be the region."""
    sample = pair(portrait)
    swap = MultiScaleSwap(**PARTIAL)  # type: ignore[arg-type]
    swapped = swap(sample, np.random.default_rng(seed))
    assert swapped.regions is not None
    x0, y0, x1, y1 = swapped.regions[0].astype(int)
    painted = np.zeros_like(sample.image)
    painted[y0:y1, x0:x1] = 255
    align = AlignFace(224, template="caddm", shift=0.11, zoom=0.11, rotation=30)
    moved = align(replace(swapped, image=painted), np.random.default_rng(seed))
    rows, columns = np.nonzero(moved.image[..., 0] > 127)
    box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    assert moved.regions is not None and overlap(box, moved.regions[0]) > 0.95
    # With the alignment inside: the same, in one step.
    inside = MultiScaleSwap(AlignFace(224, template="caddm"), **PARTIAL)(sample, np.random.default_rng(seed))  # type: ignore[arg-type]
    plain = AlignFace(224, template="caddm")(swapped, np.random.default_rng(0))
    assert inside.image.shape == (224, 224, 3)
    np.testing.assert_array_equal(inside.image, plain.image)
    np.testing.assert_array_equal(inside.regions, plain.regions)  # type: ignore[arg-type]
    # And a flip takes the box along.
    flipped = Flip(1.0)(plain, np.random.default_rng(0))
    assert flipped.regions is not None and plain.regions is not None
    assert flipped.regions[0, 0] == pytest.approx(224 - plain.regions[0, 2])


def test_the_window_holds_what_differs_most(portrait: np.ndarray) -> None:
    """Forge only around one eye: the window must be there, whatever its size."""
    sample = pair(portrait)
    assert sample.source is not None and sample.landmarks is not None
    fake = sample.source.copy()
    x, y = sample.landmarks[36:42].mean(0).astype(int)
    fake[y - 14 : y + 14, x - 14 : x + 14] = cv2.GaussianBlur(fake, (0, 0), 4)[
        y - 14 : y + 14, x - 14 : x + 14
    ]
    swapped = MultiScaleSwap(windows=[(60, 60)], least=0.0, **PARTIAL)(  # type: ignore[arg-type]
        replace(sample, image=fake), np.random.default_rng(0)
    )
    assert swapped.regions is not None
    x0, y0, x1, y1 = swapped.regions[0]
    assert x0 <= x - 12 and x + 12 <= x1 and y0 <= y - 12 and y + 12 <= y1


@pytest.mark.parametrize("poisson", [0.0, 1.0])
@pytest.mark.parametrize("elastic", [0.0, 1.0])
def test_global_swaps_go_both_ways(portrait: np.ndarray, poisson: float, elastic: float) -> None:
    sample = pair(portrait)
    fake, real = sample.image.astype(float), sample.source.astype(float)  # type: ignore[union-attr]
    points = sample.landmarks
    assert points is not None
    hull = np.zeros(fake.shape[:2], np.uint8)
    cv2.fillConvexPoly(hull, cv2.convexHull(np.round(points).astype(np.int32)), 1)
    core, outside = cv2.erode(hull, np.ones((25, 25))) > 0, cv2.dilate(hull, np.ones((25, 25))) == 0
    options = {"half": 0.0, "partial": 0.0, "poisson": poisson, "elastic": elastic, "least": 0.0}
    for faces, over, under in (((1.0, 0.0, 0.0), real, fake), ((0.0, 1.0, 0.0), fake, real)):
        result = MultiScaleSwap(faces=faces, **options)(sample, np.random.default_rng(1)).image  # type: ignore[arg-type]
        assert np.array_equal(result[outside], under[outside].astype(np.uint8))
        detail = [np.diff(p[..., 1].astype(float), axis=1)[core[:, 1:]] for p in (result, over, under)]
        assert np.corrcoef(detail[0], detail[1])[0, 1] > 0.98 > np.corrcoef(detail[0], detail[2])[0, 1]
        if not poisson:
            assert np.array_equal(result[core], over[core].astype(np.uint8))
    same = MultiScaleSwap(faces=(0.0, 0.0, 1.0), **options)(sample, np.random.default_rng(1))  # type: ignore[arg-type]
    assert np.array_equal(same.image, sample.image)
    assert same.regions is not None and same.regions.shape == (0, 4) and same.notes == ()


def test_a_swap_that_is_as_good_as_the_source_is_not_called_a_fake(portrait: np.ndarray) -> None:
    sample = pair(portrait)
    # The source's face put into a fake that was forged inside the face only: nothing is left of it.
    swap = MultiScaleSwap(half=0.0, partial=0.0, faces=(1.0, 0.0, 0.0), elastic=0.0, tries=3)
    result = swap(sample, np.random.default_rng(0))
    assert np.array_equal(result.image, sample.image)
    assert result.notes == ("too_alike",) * 3 + ("not_swapped",)
    # With other swaps to choose from, one of these is found.
    mixed = [MultiScaleSwap(half=0.0)(sample, np.random.default_rng(i)) for i in range(30)]
    assert sum("too_alike" in s.notes for s in mixed) > 0
    assert sum("not_swapped" in s.notes for s in mixed) == 0
    # A fake that is its source pixel by pixel cannot be swapped at all.
    twin = replace(sample, image=sample.source.copy())  # type: ignore[union-attr]
    notes = MultiScaleSwap(half=0.0, partial=1.0, tries=1)(twin, np.random.default_rng(0)).notes
    assert notes == ("empty_window", "not_swapped")


def test_shares_are_those_of_the_public_code() -> None:
    swap = MultiScaleSwap()
    assert [(1 - swap.partial) * share for share in swap.faces] == pytest.approx([0.4, 0.2, 0.2])


def test_shares_are_those_asked_for(portrait: np.ndarray) -> None:
    sample = pair(portrait, side=160)
    swap = MultiScaleSwap(least=0.0)
    results = [swap(sample, np.random.default_rng(i)) for i in range(300)]
    halved = sum(r.image.shape[0] == 80 for r in results) / 300
    partial = sum(len(r.regions) > 0 for r in results) / 300  # type: ignore[arg-type]
    assert halved == pytest.approx(0.3, abs=0.08) and partial == pytest.approx(0.2, abs=0.07)
    small = next(r for r in results if r.image.shape[0] == 80)
    assert small.source is not None and small.source.shape == (80, 80, 3) and small.landmarks is not None
    np.testing.assert_allclose(small.landmarks, (sample.landmarks + 0.5) / 2 - 0.5, atol=1e-4)


def test_reals_are_halved_alike_and_otherwise_left_alone(portrait: np.ndarray) -> None:
    fake = pair(portrait)
    real = replace(fake, image=fake.source, source=None, label=Label.REAL)
    swap = MultiScaleSwap()
    for seed in range(12):
        one, two = np.random.default_rng(seed), np.random.default_rng(seed)
        a, b = swap(real, one), swap(fake, two)
        assert a.image.shape == b.image.shape and one.random() == two.random()
        assert a.regions is not None and a.regions.shape == (0, 4)
        if a.image.shape == real.image.shape:
            assert a.image is real.image


def test_known_regions_are_kept(portrait: np.ndarray) -> None:
    known = replace(pair(portrait), regions=np.float32([[10, 20, 60, 80]]))
    result = MultiScaleSwap(half=0.0)(known, np.random.default_rng(0))
    assert np.array_equal(result.image, known.image) and np.array_equal(result.regions, known.regions)  # type: ignore[arg-type]
    half = MultiScaleSwap(half=1.0)(known, np.random.default_rng(0))
    np.testing.assert_allclose(half.regions, [[5, 10, 30, 40]])  # type: ignore[arg-type]


def test_what_is_wrong_with_a_source_is_said(portrait: np.ndarray) -> None:
    sample = pair(portrait)
    assert sample.source is not None and sample.landmarks is not None
    swap, rng = MultiScaleSwap(half=0.0), np.random.default_rng(0)
    with pytest.raises(InputError, match=r"no source.*unseen forge") as missing:
        swap(replace(sample, source=None), rng)
    assert missing.value.reason == "no_source"
    with pytest.raises(InputError, match="shows another picture") as other:
        swap(replace(sample, source=np.ascontiguousarray(sample.source[::-1])), rng)
    assert other.value.reason == "other_source"
    with pytest.raises(InputError, match=r"68 finite landmarks.*unseen prepare"):
        swap(replace(sample, landmarks=np.full((81, 2), np.nan, np.float32)), rng)
    # Of another size: resized, and said.
    small = replace(sample, source=cv2.resize(sample.source, (200, 200)))
    result = swap(small, np.random.default_rng(3))
    assert "source_resized" in result.notes and result.source is not None
    assert result.source.shape == sample.image.shape
    # A face outside the picture: the fake as it came, and said.
    away = replace(sample, landmarks=sample.landmarks + np.float32([400, 0]))
    result = swap(away, rng)
    assert result.notes == ("face_outside", "not_swapped") and np.array_equal(result.image, sample.image)
    # A forehead that no finder has seen is no trouble.
    bare = sample.landmarks.copy()
    bare[68:] = np.nan
    assert swap(replace(sample, landmarks=bare), np.random.default_rng(3)).image.shape == sample.image.shape


@pytest.mark.parametrize(
    "arguments",
    [
        {"half": 1.5},
        {"faces": (0.5, 0.5, 0.5)},
        {"windows": [(0, 10)]},
        {"windows": []},
        {"tries": 0},
        {"least": 1.0},
    ],
)
def test_wrong_swaps_are_refused(arguments: dict) -> None:
    with pytest.raises(InputError, match="MultiScaleSwap"):
        MultiScaleSwap(**arguments)


def test_rows_without_source_or_landmarks_are_named_before_training() -> None:
    points = ellipse_landmarks((50, 50), (30, 30))
    real = FaceRecord("r.png", Label.REAL, landmarks=points)
    fake = FaceRecord("f.png", Label.FAKE, landmarks=points, source="r.png")
    FaceDataset([real, fake], [MultiScaleSwap()])
    with pytest.raises(InputError, match=r"needs source, which 1 of 2 .*row 2 \(f\.png\).*`unseen forge"):
        FaceDataset([real, replace(fake, source=None)], [MultiScaleSwap()])
    with pytest.raises(
        InputError, match=r"needs landmarks, which 1 of 2 .*row 1 \(r\.png\).*`unseen prepare"
    ):
        FaceDataset([replace(real, landmarks=None), fake], [MultiScaleSwap()])
    # Scoring needs no source.
    FaceDataset([replace(fake, source=None)], [MultiScaleSwap(), AlignFace(64)], training=False)
    assert MultiScaleSwap().evaluating() is None
    assert isinstance(MultiScaleSwap(AlignFace(224)).evaluating(), AlignFace)
