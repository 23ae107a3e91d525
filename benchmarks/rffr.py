"""What RFFR's passes cost, each claim as a ratio in one run: `python benchmarks/rffr.py --size tiny`.

* `exact`: the residual of all sixteen blocks of a batch, against sixteen passes one after the other in the
  same network: as the published code makes them (random numbers and their order for patches that are known,
  the whole matrix of attention, every decoder layer and every patch painted, the loss, autograd on), and,
  harder, the same without autograd and with fused attention.
* `grouped`: four blocks hidden at a time, against the same sixteen passes; and how far it is from exact.
* `tokens`: a training step of both transformers on 36 patches, against all 197 tokens.
* `stored`: reading the residuals of a validation set from disk, against computing them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.data.residuals import ResidualStore, ResidualWriter, picture_key
from unseen.methods.rffr import FaceInpainter, ResidualBackbone, block_patches
from unseen.models.blocks import from_patches, to_patches


def plain_layer(x: Tensor, layer: Any, fused: bool) -> Tensor:
    """One transformer layer, with the whole matrix of attention or with the fused kernel."""
    split = layer.qkv(layer.norm1(x)).unflatten(-1, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
    query, key, value = split.unbind()
    if fused:
        mixed = functional.scaled_dot_product_attention(query, key, value)
    else:
        mixed = (query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])).softmax(-1) @ value
    x = x + layer.proj(mixed.transpose(1, 2).flatten(2))
    return x + layer.fall(functional.gelu(layer.rise(layer.norm2(x))))


def plain_passes(network: FaceInpainter, images: Tensor, *, fused: bool) -> Tensor:
    """Sixteen passes one after the other."""
    total, found = network.grid**2, torch.zeros_like(images)
    pixels = to_patches(images, network.patch)
    for block in range(network.blocks**2):
        hidden = block_patches(block, blocks=network.blocks, grid=network.grid).to(images.device)
        noise = torch.rand(len(images), total, device=images.device)
        noise[:, hidden] += 1  # the known patches come last
        order = noise.argsort(1)
        back = order.argsort(1)[..., None]
        keep = order[:, : total - len(hidden), None]
        x = network.embed(pixels) + network.positions
        x = x.gather(1, keep.expand(-1, -1, x.shape[-1]))
        x = torch.cat([network.class_token.expand(len(x), -1, -1), x], 1)
        for layer in network.encoder:
            x = plain_layer(x, layer, fused)
        x = network.narrow(network.encoder_norm(x))
        full = torch.cat([x[:, 1:], network.mask_token.expand(len(x), len(hidden), -1)], 1)
        full = full.gather(1, back.expand(-1, -1, full.shape[-1])) + network.decoder_positions
        x = torch.cat([x[:, :1], full], 1)
        for layer in network.decoder:
            x = plain_layer(x, layer, fused)
        painted = network.paint(network.decoder_norm(x))[:, 1:]
        (painted - pixels).square().mean(-1)  # the loss that nobody asked for
        whole = pixels.clone()
        whole[:, hidden] = painted[:, hidden].detach()
        found += from_patches(whole, network.patch) - images
    return (4 * found).clamp(-1, 1)


def seconds(work: Callable[[], object], repeats: int, device: torch.device) -> float:
    """Return the time of the fastest repeat, after one that does not count: processor time on a CPU."""
    times = []
    for _ in range(repeats + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
        clock = time.perf_counter if device.type == "cuda" else time.process_time
        start = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - start)
    return min(times[1:])


def passes(network: FaceInpainter, images: Tensor, repeats: int) -> dict[str, float]:
    """Times of a full residual."""
    device = images.device
    with torch.no_grad():
        wanted = plain_passes(network, images, fused=False)
    exact, grouped = network.residual(images), network.residual(images, passes="grouped")
    inner = slice(network.patch, -network.patch)
    published = seconds(lambda: plain_passes(network, images, fused=False), repeats, device)
    with torch.no_grad():
        careful = seconds(lambda: plain_passes(network, images, fused=True), repeats, device)
    ours = seconds(lambda: network.residual(images), repeats, device)
    fast = seconds(lambda: network.residual(images, passes="grouped"), repeats, device)
    return {
        "largest difference of exact": float((exact - wanted).abs().max()),
        "sixteen passes as published, s": published,
        "sixteen careful passes, s": careful,
        "exact, s": ours,
        "grouped, s": fast,
        "exact against published": published / ours,
        "exact against careful": careful / ours,
        "grouped against published": published / fast,
        "grouped against careful": careful / fast,
        "grouped: mean absolute error over mean absolute residual": float(
            (grouped - exact)[:, :, inner, inner].abs().mean() / exact[:, :, inner, inner].abs().mean()
        ),
    }


def tokens(
    network: FaceInpainter, name: str, count: int, repeats: int, device: torch.device
) -> dict[str, float]:
    """Times of a training step of the two transformers, the residual given."""
    times = {}
    for draw in ("each", "whole"):
        model = ResidualBackbone(network, name=name, draw=draw).to(device).train()  # type: ignore[arg-type]
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-5)
        image = torch.rand(count, 3, model.image_size, model.image_size, device=device)
        residual = torch.rand_like(image)

        def step(
            model: nn.Module = model, optimizer: Any = optimizer, x: Tensor = image, r: Tensor = residual
        ) -> None:
            optimizer.zero_grad(set_to_none=True)
            model._see(x, r).vector.square().mean().backward()
            optimizer.step()

        times[draw] = seconds(step, repeats, device)
    return {
        "step on 36 patches, s": times["each"],
        "step on 197 tokens, s": times["whole"],
        "36 against 197": times["whole"] / times["each"],
    }


def stored(network: FaceInpainter, images: Tensor, repeats: int) -> dict[str, float]:
    """Times of getting residuals from disk and from the network."""
    pictures = (images * 255).round().byte().cpu().numpy()
    with tempfile.TemporaryDirectory() as folder:
        writer = ResidualWriter(folder, {"clamp": True}, frame=network.patch)
        for picture, residual in zip(pictures, network.residual(images).cpu().numpy(), strict=True):
            writer.add(picture_key(picture), residual)
        writer.flush()

        def read() -> Tensor:
            found = ResidualStore(folder).of(pictures)
            return torch.from_numpy(np.asarray(found)).to(images.device).float() / 127

        from_disk = seconds(read, repeats, images.device)
    computed = seconds(lambda: network.residual(images), repeats, images.device)
    return {
        "computed, s": computed,
        "from disk, s": from_disk,
        "from disk against computed": computed / from_disk,
    }


def main() -> None:
    """Print the numbers as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["tiny", "base"], default="base")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--patch", type=int, default=16)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--vit", default="vit_base_patch16_224", help="of the two branches")
    parser.add_argument("--step-images", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bfloat16", action="store_true", help="on a GPU: all sides alike")
    parser.add_argument("--only", choices=["passes", "tokens", "stored"])
    known = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device(known.device)
    network = FaceInpainter(known.size, image_size=known.image_size, patch=known.patch).to(device).eval()
    images = torch.rand(known.images, 3, known.image_size, known.image_size, device=device)
    half = torch.autocast(device.type, torch.bfloat16) if known.bfloat16 else contextlib.nullcontext()
    found: dict[str, Any] = {**vars(known), "threads": torch.get_num_threads()}
    with half:
        if known.only in (None, "passes"):
            found |= passes(network, images, known.repeats)
        if known.only in (None, "tokens"):
            found |= tokens(network, known.vit, known.step_images, known.repeats, device)
        if known.only in (None, "stored"):
            found |= stored(network, images, known.repeats)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
