"""RFFR (Shi et al., 2023): blocks, positions and one inpainting by hand; residuals against plain passes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from unseen.methods.rffr import FaceInpainter, ResidualBackbone, block_patches, high_pass
from unseen.models import inpainter as networks
from unseen.models.blocks import BlockGrid, from_patches, to_patches
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.models.inpainter import positions
from unseen.models.patch_vit import PatchViT
from unseen.types import FaceBatch, FaceRecord, InputError, Label


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def small(**arguments: object) -> FaceInpainter:
    """14 x 14 patches of 2 pixels."""
    return FaceInpainter("tiny", **{"image_size": 28, "patch": 2, **arguments}).eval()


def backbone(inpainter: FaceInpainter | None = None, **arguments: object) -> ResidualBackbone:
    return ResidualBackbone(inpainter or small(), name="test_vit", **arguments)


def batch(count: int = 4, size: int = 28) -> FaceBatch:
    image = torch.rand(count, 3, size, size)
    return FaceBatch(image, torch.arange(count) % 2)


# --- blocks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "blocks", "wanted"),
    [
        # 3 x 3 patches; the first begins behind the frame, in row 1 and column 1: 1 * 14 + 1 = 15
        (0, 4, [15, 16, 17, 29, 30, 31, 43, 44, 45]),
        # block 5 is in row 1, column 1 of blocks: patch rows and columns 4 to 6, 4 * 14 + 4 = 60
        (5, 4, [60, 61, 62, 74, 75, 76, 88, 89, 90]),
        # the last one: rows and columns 10 to 12
        (15, 4, [150, 151, 152, 164, 165, 166, 178, 179, 180]),
        # 2 x 2 patches: rows and columns 11 and 12, 11 * 14 + 11 = 165
        (35, 6, [165, 166, 179, 180]),
    ],
)
def test_patches_of_a_block_by_hand(block: int, blocks: int, wanted: list[int]) -> None:
    found = block_patches(block, blocks=blocks)
    assert found.dtype == torch.int64 and found.tolist() == wanted


@pytest.mark.parametrize("blocks", [2, 3, 4, 6])
def test_blocks_cover_the_inside_once_and_the_frame_never(blocks: int) -> None:
    found = torch.cat([block_patches(b, blocks=blocks) for b in range(blocks**2)])
    inside = [r * 14 + c for r in range(1, 13) for c in range(1, 13)]
    assert sorted(found.tolist()) == inside


def test_what_is_no_block_is_told() -> None:
    with pytest.raises(InputError, match=r"5 blocks a side do not divide the 12 .* one of 1, 2, 3, 4, 6, 12"):
        block_patches(0, blocks=5)
    with pytest.raises(InputError, match="block 16; expected 0 to 15"):
        block_patches(16)
    with pytest.raises(InputError, match="5 blocks a side"):
        small(blocks=5)
    with pytest.raises(InputError, match="expected 0 to 15"):
        small().residual(torch.rand(1, 3, 28, 28), [16])
    with pytest.raises(InputError, match="at least one"):
        small().residual(torch.rand(1, 3, 28, 28), [])


@pytest.mark.parametrize("blocks", [2, 3, 4, 6])
def test_groups_hold_every_block_once_and_no_two_that_touch(blocks: int) -> None:
    grid = BlockGrid(blocks, 14)
    groups = [group for members in grid._groups for group in members]
    assert sorted(b for group in groups for b in group) == list(range(blocks**2))
    assert max(map(len, groups)) == (1 if blocks == 2 else 4)
    for group in groups:
        for a, b in ((a, b) for a in group for b in group if a < b):
            assert max(abs(a // blocks - b // blocks), abs(a % blocks - b % blocks)) > 1


def test_patches_are_cut_in_rows_with_the_channel_last() -> None:
    image = torch.arange(2 * 3 * 4 * 4, dtype=torch.float32).view(2, 3, 4, 4)
    cut = to_patches(image, 2)
    assert cut.shape == (2, 4, 12)
    # patch 1 is rows 0, 1 and columns 2, 3; a channel has 16 pixels: row 0, column 2 is 2, 18, 34
    assert cut[0, 1].tolist() == [2, 18, 34, 3, 19, 35, 6, 22, 38, 7, 23, 39]
    assert torch.equal(from_patches(cut, 2), image)


# --- the inpainter ----------------------------------------------------------------------------------------


def test_positions_are_sines_and_cosines_of_column_then_row() -> None:
    # D = 8: two rates, 10000^0 = 1 and 10000^(-1 / 2) = 0.01; patch 5 of 3 x 3 is row 1, column 2
    wanted = [
        *(math.sin(2), math.sin(0.02), math.cos(2), math.cos(0.02)),
        *(math.sin(1), math.sin(0.01), math.cos(1), math.cos(0.01)),
    ]
    assert positions(3, 8)[5].tolist() == pytest.approx(wanted)
    assert positions(3, 8)[0].tolist() == [0, 0, 1, 1, 0, 0, 1, 1]


def test_base_has_the_size_of_the_paper() -> None:
    with torch.device("meta"):
        network = FaceInpainter()
    count = sum(p.numel() for p in network.parameters())
    # 111.9 million with the fixed positions, a zero one for the class token included
    assert (count + 197 * (768 + 512)) / 1e6 == pytest.approx(111.9, abs=0.05)
    assert network.grid == 14


def test_a_hidden_patch_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One patch of one pixel is kept, one is hidden; one attention with equal weights mixes three tokens."""
    monkeypatch.setitem(networks._SIZES, "hand", (4, 1, 1, 4, 1, 1))
    monkeypatch.setattr(networks.FaceInpainter, "_first_weights", lambda self: None)
    network = FaceInpainter("hand", image_size=3, patch=1, blocks=1)  # type: ignore[arg-type]
    network.positions.zero_()
    network.decoder_positions.zero_()
    with torch.no_grad():
        for layer in [*network.encoder, *network.decoder]:
            for linear in (layer.qkv, layer.proj, layer.rise, layer.fall):
                linear.weight.zero_(), linear.bias.zero_()
        decoder = network.decoder[0]
        decoder.qkv.weight[8:] = torch.eye(4)  # values are the tokens themselves; queries and keys are zero
        decoder.proj.weight.copy_(torch.eye(4))
        network.narrow.weight.copy_(torch.eye(4)), network.narrow.bias.zero_()
        network.paint.weight.copy_(torch.eye(4)[:3]), network.paint.bias.zero_()
        network.embed.weight.zero_()[:, 0] = torch.tensor([1.0, -1.0, 1.0, -1.0])  # by the red of a pixel
        network.embed.bias.zero_()
        network.class_token.copy_(torch.tensor([1.0, 1.0, -1.0, -1.0]).view(1, 1, 4))
        network.mask_token.copy_(torch.tensor([1.0, -1.0, -1.0, 1.0]).view(1, 1, 4))
    kept_pixel = torch.tensor([[[1.0, 0.0, 0.0]]])
    tokens = network.embed(kept_pixel)
    assert tokens.flatten().tolist() == [
        1,
        -1,
        1,
        -1,
    ]  # mean 0 and variance 1, as the other two: norms do nothing
    painted = network._predict(tokens, torch.tensor([[0]]), torch.tensor([[1]]))
    # mean of the three tokens: (1, 1, 1), (-1, 1, -1), (1, -1, -1), (-1, -1, 1) / 3 = (1, -1/3, -1/3, -1/3)
    # plus the mask token: (2, -4/3, -4/3, 2/3), mean 0, variance (4 + 16/9 + 16/9 + 4/9) / 4 = 2
    wanted = [value / math.sqrt(2) for value in (2, -4 / 3, -4 / 3)]
    assert painted.flatten().tolist() == pytest.approx(wanted, rel=1e-5)


def plain_pass(network: FaceInpainter, image: Tensor, block: int, blocks: int) -> Tensor:
    """One pass as one would write it down: tokens in their own order, whole layers, softmax by hand."""

    def layer(x: Tensor, module: torch.nn.Module) -> Tensor:
        y = module.norm1(x)
        query, key, value = module.qkv(y).chunk(3, -1)
        split = [t.unflatten(-1, (module.heads, -1)).transpose(1, 2) for t in (query, key, value)]
        weight = (split[0] @ split[1].transpose(-1, -2) / math.sqrt(split[0].shape[-1])).softmax(-1)
        x = x + module.proj((weight @ split[2]).transpose(1, 2).flatten(2))
        return x + module.fall(functional.gelu(module.rise(module.norm2(x))))

    hidden = block_patches(block, blocks=blocks, grid=network.grid)
    kept = torch.tensor([p for p in range(network.grid**2) if p not in set(hidden.tolist())])
    pixels = to_patches(image, network.patch)
    x = (network.embed(pixels) + network.positions)[:, kept]
    x = torch.cat([network.class_token.expand(len(x), -1, -1), x], 1)
    for module in network.encoder:
        x = layer(x, module)
    x = network.narrow(network.encoder_norm(x))
    full = network.mask_token.expand(len(x), network.grid**2, -1).clone()
    full[:, kept] = x[:, 1:]
    x = torch.cat([x[:, :1], full + network.decoder_positions], 1)
    for module in network.decoder:
        x = layer(x, module)
    painted = pixels.clone()
    painted[:, hidden] = network.paint(network.decoder_norm(x))[:, 1:][:, hidden]
    return from_patches(painted, network.patch)


@pytest.mark.parametrize("blocks", [2, 4])
@torch.no_grad()
def test_the_residual_equals_separate_plain_passes(blocks: int) -> None:
    network, image = small(), torch.rand(2, 3, 28, 28)
    wanted = sum(4 * (plain_pass(network, image, b, blocks) - image) for b in range(blocks**2))
    found = network.residual(image, clamp=False, side=blocks)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(network.residual(image, side=blocks), wanted.clamp(-1, 1), rtol=0, atol=1e-5)
    assert (found[:, :, :2] == 0).all() and (found[..., -2:] == 0).all()  # the frame


def test_chosen_blocks_are_the_same_as_among_all_and_others_stay_zero() -> None:
    network, image = small(), torch.rand(2, 3, 28, 28)
    whole = network.residual(image)
    mine = network.residual(image, torch.tensor([[0, 5], [5, 9]]))
    for row, chosen in enumerate(([0, 5], [5, 9])):
        seen = to_patches(mine, 2)[row].abs().sum(1) > 0
        index = torch.cat([block_patches(b) for b in chosen])
        assert set(seen.nonzero().flatten().tolist()) == set(index.tolist())
        torch.testing.assert_close(to_patches(mine, 2)[row, index], to_patches(whole, 2)[row, index])
    torch.testing.assert_close(network.residual(image, [5])[0], network.residual(image[:1], [5])[0])


def test_a_painted_block_does_not_know_the_pixels_it_replaces() -> None:
    network, image = small(), torch.rand(1, 3, 28, 28)
    other = image.clone()
    other[:, :, 2:8, 2:8] = 0  # block 0: patches 1 to 3, pixels 2 to 7
    first, second = network.inpaint(image), network.inpaint(other)
    assert torch.equal(first[:, :, 2:8, 2:8], second[:, :, 2:8, 2:8])
    assert not torch.equal(first[:, :, 8:14, 2:8], second[:, :, 8:14, 2:8])


def test_grouped_passes_are_an_approximation_and_exact_where_nothing_can_be_grouped() -> None:
    network, image = small(), torch.rand(2, 3, 28, 28)
    exact, grouped = network.residual(image), network.residual(image, passes="grouped")
    assert not torch.equal(exact, grouped) and (grouped[:, :, 2:-2, 2:-2] != 0).any(1).all()
    with torch.no_grad():
        both = network._predict  # four blocks hidden at once, in one plain call
        grid = network.grid_of(4)
        kept, hidden = (t[:, 0] for t in grid.grouped(2)[0])
        tokens = (network.embed(to_patches(image, 2)) + network.positions)[torch.arange(2)[:, None], kept]
        painted = both(tokens, kept, hidden)
    wanted = 4 * (painted - to_patches(image, 2)[torch.arange(2)[:, None], hidden])
    torch.testing.assert_close(
        to_patches(grouped, 2)[torch.arange(2)[:, None], hidden], wanted.clamp(-1, 1), rtol=0, atol=1e-5
    )
    torch.testing.assert_close(
        network.residual(image, side=2), network.residual(image, side=2, passes="grouped"), rtol=0, atol=1e-5
    )
    with pytest.raises(InputError, match="leave `blocks` out"):
        network.residual(image, [0], passes="grouped")


def test_training_masks_hide_what_they_say() -> None:
    kept, hidden = small()._draw(64, torch.device("cpu"))
    assert kept.shape == (64, 187) and hidden.shape == (64, 9)
    tops = {(int(h[0]) // 14, int(h[0]) % 14) for h in hidden}
    assert {r for r, _ in tops} == set(range(1, 11)) == {c for _, c in tops}  # unaligned: any of 1 to 10
    for keep, hide in zip(kept, hidden, strict=True):
        assert sorted([*keep.tolist(), *hide.tolist()]) == list(range(196))
        assert (hide - hide[0]).tolist() == [0, 1, 2, 14, 15, 16, 28, 29, 30]
    kept, hidden = small(mask="random75")._draw(3, torch.device("cpu"))
    assert kept.shape == (3, 49) and hidden.shape == (3, 147)
    assert not torch.equal(hidden[0].sort()[0], hidden[1].sort()[0])


def test_the_loss_is_the_mean_square_of_hidden_pixels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    network, faces = small(), batch(2)
    hidden = block_patches(5)
    kept = torch.tensor([p for p in range(196) if p not in hidden.tolist()])
    monkeypatch.setattr(network, "_draw", lambda count, device: (kept.expand(2, -1), hidden.expand(2, -1)))
    with torch.no_grad():
        error = (plain_pass(network, faces.image, 5, 4) - faces.image).square()
    # 9 patches of 2 x 2 pixels and 3 channels; the other pixels have no error
    wanted = error.sum((1, 2, 3)) / (9 * 4 * 3)
    assert network.losses(faces)["reconstruction"].item() == pytest.approx(float(wanted.mean()), rel=1e-5)
    faces.weight = torch.tensor([3.0, 1.0])
    weighted = float((3 * wanted[0] + wanted[1]) / 4)
    assert network.losses(faces)["reconstruction"].item() == pytest.approx(weighted, rel=1e-5)


@pytest.mark.parametrize("mask", ["block", "random75", "none"])
def test_every_weight_learns(mask: str) -> None:
    network = small(mask=mask).train()
    network.losses(batch())["reconstruction"].backward()
    assert [n for n, p in network.named_parameters() if p.requires_grad and p.grad is None] == []
    assert int(network.seen) == 4


def test_the_score_is_the_mean_absolute_residual_of_the_inside() -> None:
    network, image = small(), torch.rand(2, 3, 28, 28)
    output = network(image)
    inside = (network.inpaint(image) - image)[:, :, 2:-2, 2:-2].abs().mean((1, 2, 3))
    torch.testing.assert_close(output.score, inside)
    assert output.features.map.shape == (2, 1, 14, 14)
    torch.testing.assert_close(
        network.errors(image), (network.inpaint(image) - image)[:, :, 2:-2, 2:-2].square().mean((1, 2, 3))
    )


def test_bytes_are_pictures_too_and_painting_stays_precise_in_bfloat16() -> None:
    network = small()
    image = torch.randint(0, 256, (1, 3, 28, 28), dtype=torch.uint8)
    assert torch.equal(network.residual(image), network.residual(image.float() / 255))
    with torch.autocast("cpu", torch.bfloat16):
        rough = network.inpaint(image)[:, :, 2:-2, 2:-2]
    assert rough.dtype == torch.float32
    assert (rough != rough.bfloat16()).float().mean() > 0.9  # nearly no number is one of bfloat16's


def test_the_digest_is_of_the_weights_alone() -> None:
    network = small()
    before = network.digest()
    network.train().losses(batch())  # counts faces
    assert network.digest() == before
    with torch.no_grad():
        network.paint.bias[0] += 1e-3
    assert network.digest() != before


def test_fakes_are_refused() -> None:
    rows = [FaceRecord("a.png", Label.REAL), FaceRecord("b.png", Label.FAKE), FaceRecord("c.png", Label.FAKE)]
    with pytest.raises(InputError, match=r"row 2 \(b.png\).* and 1 more .* real faces only") as error:
        small().check(rows)
    assert error.value.reason == "fakes"
    with pytest.raises(InputError, match="makes fakes"):
        small().check(rows[:1], made=["sbi"])
    small().check(rows[:1])


def test_explanations_are_the_repainted_face_and_the_residual() -> None:
    network, image = small(), torch.rand(2, 3, 28, 28)
    for row, (painted, residual) in enumerate(network.explain(image)):
        assert (painted.kind, residual.kind) == ("reconstruction", "residual")
        wanted = (network.inpaint(image)[row].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
        assert (painted.image == wanted.numpy()).all()
        assert (residual.image[0] == 128).all() and residual.heatmap.shape == (28, 28)  # grey: no difference
        assert residual.heatmap.max() <= 1 and residual.heatmap[0].max() == 0


# --- the detector -----------------------------------------------------------------------------------------


def indices(model: ResidualBackbone) -> dict[str, Tensor]:
    """What each branch was asked to look at, filled at each call."""
    seen: dict[str, Tensor] = {}
    for name in ("image_branch", "residual_branch"):
        module = getattr(model, name)
        module.register_forward_pre_hook(lambda _, given, name=name: seen.__setitem__(name, given[1]))
    return seen


def test_the_inpainter_is_frozen() -> None:
    detector = Detector(backbone(), BinaryHead)
    before = {k: v.clone() for k, v in detector.backbone.inpainter.state_dict().items()}
    detector.train()
    assert detector.training and detector.backbone.image_branch.training
    assert not any(module.training for module in detector.backbone.inpainter.modules())
    torch.stack(list(detector.losses(batch()).values())).sum().backward()
    for name, parameter in detector.named_parameters():
        frozen = name.startswith("backbone.inpainter.")
        assert (parameter.grad is None) == frozen and parameter.requires_grad != frozen
    after = detector.backbone.inpainter.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert any(key.startswith("backbone.inpainter.encoder") for key in detector.state_dict())


def test_both_branches_see_the_same_patches_each_face_its_own() -> None:
    model = backbone().train()
    seen = indices(model)
    model(torch.rand(8, 3, 28, 28))
    assert torch.equal(seen["image_branch"], seen["residual_branch"])
    rows = [frozenset(row) for row in seen["image_branch"].tolist()]
    blocks = [frozenset(block_patches(b).tolist()) for b in range(16)]
    for row in rows:
        assert len(row) == 36 and sum(block <= row for block in blocks) == 4  # 16 * 0.25 whole blocks
    assert len(set(rows)) > 1
    model.eval()(torch.rand(2, 3, 28, 28))
    assert seen["image_branch"].shape == (2, 144)


@pytest.mark.parametrize(("p", "count"), [(0.01, 1), (0.25, 4), (1.0, 16)])
def test_a_fixed_number_of_blocks_is_drawn_and_never_none(p: float, count: int) -> None:
    chosen = backbone(p=p).train()._draw(5, torch.device("cpu"))
    assert chosen is not None and chosen.shape == (5, count)
    assert all(len(set(row)) == count for row in chosen.tolist())


def test_one_draw_for_the_batch_as_in_the_public_code() -> None:
    model = backbone(draw="batch").train()
    counts = [len(drawn) for _ in range(400) if (drawn := model._draw(3, torch.device("cpu"))) is not None]
    assert sum(counts) / len(counts) == pytest.approx(4, abs=0.4)  # 16 * 0.25; the error of the mean is 0.09
    seen = indices(model)
    model(torch.rand(3, 3, 28, 28))
    assert (seen["image_branch"] == seen["image_branch"][0]).all()
    # an empty set becomes all blocks
    assert backbone(draw="batch", p=1e-9).train()._draw(3, torch.device("cpu")) is None


def test_full_pictures_are_plain_transformers() -> None:
    model = backbone(draw="whole", branches="image").eval()
    image = torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        wanted = model.image_branch.net(model.normalize(image))  # (B, 197, C), timm's own forward
        found = model(image)
    torch.testing.assert_close(found.vector, wanted[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.map.flatten(2).transpose(1, 2), wanted[:, 1:], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_chosen_tokens_are_those_of_the_full_branch_when_the_others_are_masked() -> None:
    branch = PatchViT("test_vit", image_size=28, patch=2).eval()
    image, index = torch.rand(1, 3, 28, 28), block_patches(6)
    found = branch(to_patches(image, 2), index[None])
    net = branch.net
    x = net._pos_embed(net.patch_embed(image))  # all 197 tokens
    visible = torch.zeros(197, dtype=torch.bool)
    visible[0] = visible[1 + index] = True
    for block in net.blocks:  # nobody may look at a hidden token
        x = block(x, attn_mask=visible.view(1, 1, 1, -1))
    torch.testing.assert_close(found, net.norm(x)[:, visible], rtol=1e-4, atol=1e-5)


def test_the_vector_is_both_class_tokens_and_the_map_is_zero_where_nothing_was_seen() -> None:
    model = backbone(draw="batch").train()
    seen = indices(model)
    features = model(torch.rand(2, 3, 28, 28))
    assert features.vector.shape == (2, 128) and features.map.shape == (2, 128, 14, 14)
    used = (features.map.flatten(2) != 0).any(1)
    assert set(used[0].nonzero().flatten().tolist()) == set(seen["image_branch"][0].tolist())


@pytest.mark.parametrize(
    ("arguments", "dim"),
    [
        ({"branches": "image"}, 64),
        ({"branches": "residual"}, 64),
        ({"draw": "all"}, 128),
        ({"draw": "whole"}, 128),
        ({"residual": "high_pass"}, 128),
        ({"passes": "grouped"}, 128),
        ({"blocks": 6, "clamp": False}, 128),
    ],
    ids=str,
)
def test_the_variants_of_tables_5_8_and_9(arguments: dict[str, object], dim: int) -> None:
    detector = Detector(backbone(**arguments), BinaryHead).train()
    torch.stack(list(detector.losses(batch()).values())).sum().backward()
    assert [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None] == []
    assert detector.backbone.dim == dim
    assert detector.eval()(batch().image).score.isfinite().all()


def test_an_autoencoder_is_an_inpainter_without_mask() -> None:
    network = small(mask="none")
    model = backbone(network, residual="autoencoder").eval()
    image = torch.rand(1, 3, 28, 28)
    found = to_patches(model.residual_of(image), 2)
    every = torch.arange(196)[None]
    with torch.no_grad():
        pixels = to_patches(image, 2)
        painted = network._predict(network.embed(pixels) + network.positions, every, every[:, :0])
    inside = torch.cat([block_patches(b) for b in range(16)])
    wanted = (4 * (painted - pixels)).clamp(-1, 1)[:, inside]
    torch.testing.assert_close(found[:, inside], wanted, rtol=0, atol=1e-5)
    for pair in ((network, "inpainter"), (small(), "autoencoder")):
        with pytest.raises(InputError, match="an autoencoder is an inpainter with `mask: none`"):
            backbone(pair[0], residual=pair[1])


def test_the_high_pass_filter_by_hand() -> None:
    image = torch.zeros(1, 3, 9, 9)
    image[..., 4, 4] = 1
    found = high_pass(image)[0, 0]
    assert float(found[4, 4]) == pytest.approx((6 / 16) ** 2 - 1)
    assert float(found[4, 5]) == pytest.approx(6 * 4 / 256) and float(found[3, 5]) == pytest.approx(16 / 256)
    assert float(found[0, 0]) == 0
    assert high_pass(torch.full((1, 3, 9, 9), 0.7)).abs().max() < 1e-6


def test_reference_switches() -> None:
    model = backbone(compat_first_patch=True, compat_shifted_residual=True).train()
    seen = indices(model)
    features = model(torch.rand(2, 3, 28, 28))
    first = seen["image_branch"][:, 0]
    assert torch.equal(seen["residual_branch"], seen["image_branch"] + 1)  # one patch to the right
    tokens = features.map.flatten(2)  # the token of the first seen patch stands for the class
    assert torch.equal(features.vector, tokens[torch.arange(2), :, first])
    assert not model.image_branch.net.cls_token.requires_grad
    image = torch.rand(1, 3, 28, 28)
    free, limited = backbone(clamp=False), backbone(clamp=True)
    free.inpainter.load_state_dict(limited.inpainter.state_dict())
    assert free.residual_of(image).abs().max() > 1
    assert torch.equal(free.residual_of(image).clamp(-1, 1), limited.residual_of(image))
    with pytest.raises(InputError, match="none to its right"):
        backbone(draw="whole", compat_shifted_residual=True)


def test_a_residual_that_comes_with_the_batch_is_taken() -> None:
    model, faces = backbone().eval(), batch(2)
    with torch.no_grad():
        wanted = model(faces.image)
        faces.residual = model.residual_of(faces.image)
        torch.testing.assert_close(model.see(faces).vector, wanted.vector)
        faces.residual = (faces.residual * 127).round().to(torch.int8)
        torch.testing.assert_close(model.see(faces).vector, wanted.vector, rtol=0, atol=0.05)
        faces.residual = torch.zeros_like(faces.residual)
        assert not torch.allclose(model.see(faces).vector, wanted.vector, atol=1e-3)
        detector = Detector(model, BinaryHead).eval()
        assert not torch.equal(detector.output(faces).score, detector(faces.image).score)


def test_an_inpainter_that_never_saw_a_face_is_refused() -> None:
    with pytest.raises(InputError, match="random weights") as error:
        Detector(backbone(), BinaryHead).check([])
    assert error.value.reason == "untrained"
    trained = small()
    trained.seen += 1
    Detector(backbone(trained), BinaryHead).check([])
    Detector(backbone(residual="high_pass"), BinaryHead).check([])
    Detector(backbone(branches="image"), BinaryHead).check([])


def wrong() -> Iterator[tuple[dict[str, object], str]]:
    yield {"branches": "three"}, "branches 'three'"
    yield {"draw": "some"}, "draw 'some'"
    yield {"residual": "x"}, "residual 'x'"
    yield {"p": 0.0}, "p 0.0"
    yield {"blocks": 5}, "5 blocks a side"
    yield {"passes": "quick"}, "passes 'quick'"


@pytest.mark.parametrize(("arguments", "message"), list(wrong()), ids=lambda value: str(value)[:20])
def test_what_cannot_be_built_is_told(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        backbone(**arguments)


def test_pictures_and_networks_that_do_not_fit_are_told() -> None:
    with pytest.raises(InputError, match=r"it was built for \(B, 3, 28, 28\)"):
        small().residual(torch.rand(1, 3, 56, 56))
    with pytest.raises(InputError, match="no plain vision transformer"):
        ResidualBackbone(small(), name="vit_medium_patch16_gap_240")
    with pytest.raises(InputError, match="has no network"):
        ResidualBackbone(small(), name="vit_none")
    with pytest.raises(InputError, match="size 'huge'"):
        FaceInpainter("huge")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no multiple"):
        FaceInpainter("tiny", image_size=100)


@pytest.mark.parametrize("arguments", [{}, {"passes": "grouped"}, {"residual": "high_pass"}])
def test_no_faces_give_no_scores(arguments: dict[str, object]) -> None:
    seen = backbone(**arguments).eval()
    detector = Detector(seen, BinaryHead(seen))
    assert detector(torch.rand(0, 3, 28, 28)).score.shape == (0,)
    assert small().residual(torch.rand(0, 3, 28, 28)).shape == (0, 3, 28, 28)
