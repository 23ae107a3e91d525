"""F3-Net: its transforms against their formulas, and the network as any other backbone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import nn

from unseen.explain.gradcam import class_activation_map
from unseen.models.detector import Detector
from unseen.models.f3net import F3Net, FrequencyBands, LocalFrequency, MixBlock, dct_matrix
from unseen.models.heads import BinaryHead
from unseen.types import FaceBatch, InputError

TINY = {"name": "test_resnet", "image_size": 96, "mix_after": ["layer2", "layer4"]}


def test_dct_matrix_by_hand() -> None:
    # n = 3: rows sqrt(1/3) (1 1 1); sqrt(2/3) (cos 30, cos 90, cos 150); sqrt(2/3) (cos 60, cos 180, cos 300)
    third, two = math.sqrt(1 / 3), math.sqrt(2 / 3)
    half = math.sqrt(3) / 2
    expected = [[third] * 3, [two * half, 0, -two * half], [two / 2, -two, two / 2]]
    torch.testing.assert_close(dct_matrix(3), torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("n", [1, 10, 256, 299])
def test_dct_matrix_is_orthonormal_and_scipys(n: int) -> None:
    matrix = dct_matrix(n)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(n), atol=2e-5, rtol=0)
    square = np.random.default_rng(0).random((n, n))
    ours = matrix.double().numpy() @ square @ matrix.double().numpy().T
    assert np.allclose(ours, dctn(square, norm="ortho"), atol=1e-3)


def test_bands_end_where_the_paper_says() -> None:
    # 299: floor(299 / 2.82) = 106, 299 // 2 = 149; 256: 90 and 128. Both ends count.
    for size, low, middle in ((299, 106, 149), (256, 90, 128)):
        base = FrequencyBands(size, learned=False).base
        diagonal = torch.arange(size)[:, None] + torch.arange(size)
        assert torch.equal(base[0].bool(), diagonal <= low)
        assert torch.equal(base[1].bool(), (diagonal >= low) & (diagonal <= middle))
        assert torch.equal(base[2].bool(), diagonal >= middle)
        assert bool((base[3] == 1).all())
        assert base[0, 0, 0] == 1  # the mean brightness is not lost
        assert float(base[0].mean()) == pytest.approx(1 / 16, abs=0.003)
        assert float(base[1].mean()) == pytest.approx(1 / 16, abs=0.006)  # 1/8 less the first 1/16


def test_bands_without_learned_part_split_and_sum() -> None:
    bands = FrequencyBands(32, learned=False)
    image = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    low, middle, high, whole = bands(image).chunk(4, 1)
    torch.testing.assert_close(whole, image, atol=1e-5, rtol=0)  # the band of all is the identity
    # The three cover everything; the edge diagonals 11 and 16 belong to two of them.
    diagonal = torch.arange(32)[:, None] + torch.arange(32)
    edge = ((diagonal == 11) | (diagonal == 16)).float()
    matrix = dct_matrix(32)
    twice = matrix.T @ (matrix @ image @ matrix.T * edge) @ matrix
    torch.testing.assert_close(low + middle + high - twice, image, atol=1e-5, rtol=0)
    spectrum = matrix @ low @ matrix.T
    assert float((spectrum * (diagonal > 11)).abs().max()) < 1e-5


def test_the_learned_part_is_added_as_two_sigmoids_less_one() -> None:
    bands = FrequencyBands(8)
    assert bands.weight is not None
    with torch.no_grad():
        bands.weight.fill_(math.log(3))  # 2 sigmoid(log 3) - 1 = 2 * .75 - 1 = .5
    image = torch.randn(1, 3, 8, 8)
    whole = bands(image)[:, 9:]
    torch.testing.assert_close(whole, 1.5 * image, atol=1e-5, rtol=0)  # (1 + .5) of everything
    assert FrequencyBands(8, whole=False)(image).shape == (1, 9, 8, 8)


def by_windows(image: torch.Tensor, local: LocalFrequency, *, log_first: bool) -> torch.Tensor:
    """LFS window by window."""
    gray = (0.299 * image[:, 0] + 0.587 * image[:, 1] + 0.114 * image[:, 2]) * 245
    padded = torch.nn.functional.pad(gray, (4, 4, 4, 4)).double()
    matrix = dct_matrix(10).double()
    filters = local.base + (2 * torch.sigmoid(local.weight) - 1 if local.weight is not None else 0)
    side = (padded.shape[-1] - 10) // 2 + 1
    result = torch.zeros(len(image), 6, side, side, dtype=torch.float64)
    for y in range(side):
        for x in range(side):
            window = padded[:, 2 * y : 2 * y + 10, 2 * x : 2 * x + 10]
            spectrum = (matrix @ window @ matrix.T).abs()
            for k in range(6):
                if log_first:
                    log = torch.log10(spectrum + 1e-15)
                    result[:, k, y, x] = (log * filters[k]).sum((1, 2)) / local.base[k].sum()
                else:
                    result[:, k, y, x] = torch.log10((spectrum * filters[k]).abs().sum((1, 2)) + 1e-15)
    return result


@pytest.mark.parametrize("log_first", [False, True])
@pytest.mark.parametrize("learned", [False, True])
def test_two_convolutions_are_the_windows(log_first: bool, learned: bool) -> None:
    torch.manual_seed(0)
    local = LocalFrequency(learned=learned, log_first=log_first)
    image = torch.rand(2, 3, 20, 20)
    found = local(image)
    assert found.shape == (2, 6, 10, 10)
    with torch.no_grad():
        expected = by_windows(image, local, log_first=log_first)
    torch.testing.assert_close(found.double(), expected, atol=2e-3, rtol=1e-3)


def test_local_bands_have_the_cells_that_were_counted() -> None:
    assert LocalFrequency().base.sum((1, 2)).tolist() == [10, 18, 36, 30, 12, 3]  # i + j = 10 is in two


def test_a_mix_begins_as_no_mix_and_learns_from_the_other() -> None:
    torch.manual_seed(0)
    mix = MixBlock(4)
    first, second = torch.randn(2, 4, 5, 5), torch.randn(2, 4, 5, 5)
    for mode in (True, False):
        mix.train(mode)
        same, other = mix(first, second)
        assert torch.equal(same, first)
        assert torch.equal(other, second)
    with torch.no_grad():
        mix.gamma[0].fill_(1.0)
    assert not torch.allclose(mix.train()(first, second)[0], first)
    assert torch.equal(mix(first, second)[1], second)


def test_the_gate_by_the_formula() -> None:
    torch.manual_seed(0)
    mix = MixBlock(3).eval()
    first, second = torch.randn(1, 3, 4, 4), torch.randn(1, 3, 4, 4)
    with torch.no_grad():
        mix.gamma[1].fill_(math.log(3))  # 2 sigmoid - 1 = .5
        queries = [q(x)[0] for q, x in zip(mix.query, (first, second), strict=True)]  # (C, w, h)
        keys = [k(x)[0] for k, x in zip(mix.key, (first, second), strict=True)]
        found = mix(first, second)[1]
        for c in range(3):
            energy = queries[0][c] @ keys[0][c].T + queries[1][c] @ keys[1][c].T
            gated = first[0, c] * energy.softmax(-1) * 0.5
            scaled = mix.scale[1].weight[c, 0, 0, 0] * gated / math.sqrt(1 + 1e-5)  # a fresh norm
            torch.testing.assert_close(found[0, c], second[0, c] + scaled)


@pytest.mark.parametrize("branch", ["both", "fad", "lfs"])
def test_it_is_a_backbone(branch: str) -> None:
    torch.manual_seed(0)
    detector = Detector(F3Net(**TINY, branch=branch), BinaryHead)
    assert detector.backbone.dim == (192 if branch == "both" else 96)
    batch = FaceBatch(torch.rand(4, 3, 96, 96), torch.tensor([0, 1, 0, 1]))
    detector.train()
    loss = sum(detector.losses(batch).values())
    loss.backward()
    left_out = [n for n, p in detector.named_parameters() if p.grad is None]
    assert left_out == []
    assert all(torch.isfinite(p.grad).all() for p in detector.parameters())
    detector.eval()
    with torch.no_grad():
        whole = detector(batch.image).score
        alone = torch.cat([detector(one[None]).score for one in batch.image])
        levels = (batch.image * 255).to(torch.uint8)
        assert torch.equal(detector(levels).score, detector(levels.float() / 255).score)
    torch.testing.assert_close(whole, alone, rtol=1e-3, atol=1e-3)


def test_closed_form_maps_of_it() -> None:
    torch.manual_seed(0)
    detector = Detector(F3Net(**TINY), BinaryHead).eval()
    image = torch.rand(2, 3, 96, 96)
    heat = class_activation_map(detector, image)
    weight = detector.head.state_dict()["linear.weight"]
    with torch.no_grad():
        closed = torch.einsum("c,bchw->bhw", weight[1] - weight[0], detector.backbone(image).map).relu()
    closed = closed / closed.amax((1, 2), keepdim=True).clamp_min(1e-12)
    torch.testing.assert_close(heat, closed, atol=1e-5, rtol=0)


def test_first_layers_share_the_weights_of_the_plain_network() -> None:
    torch.manual_seed(0)
    net = F3Net(**TINY)
    for key, copies, stride in (("fad", 4, (2, 2)), ("lfs", 2, (1, 1))):
        first = next(m for m in net.trunks[key].modules() if isinstance(m, nn.Conv2d))
        assert first.in_channels == 3 * copies
        assert first.stride == stride
        assert torch.equal(first.weight[:, :3], first.weight[:, 3:6])


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(InputError, match="branch"):
        F3Net(**TINY, branch="rgb")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"layer9.*layer2"):
        F3Net(name="test_resnet", image_size=96, mix_after=["layer9"])
    with pytest.raises(InputError, match="plain chain"):
        F3Net(name="test_vit", image_size=160, branch="fad")
    with pytest.raises(ValueError, match="built for 96"):
        F3Net(**TINY, branch="fad")(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize(("size", "side"), [(299, 10), (256, 8)])
def test_two_xceptions_meet_at_both_sizes(size: int, side: int) -> None:
    with torch.device("meta"):
        net = F3Net(image_size=size)
        seen = net(torch.zeros(2, 3, size, size))
    assert tuple(seen.map.shape) == (2, 4096, side, side)
    assert list(net.mixes) == ["block7", "block12"]
    assert net.mixes["block7"].scale[0].in_channels == 728
    assert net.mixes["block12"].scale[0].in_channels == 1024
