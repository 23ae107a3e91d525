"""A masked autoencoder of real faces: hides a part of a face and paints it from the rest.

Shi et al., *Real Face Foundation Representation Learning for Generalized Deepfake Detection*, 2023, on
He et al., *Masked Autoencoders Are Scalable Vision Learners*, 2022. Whoever has only ever seen real faces
paints forged ones as if they were real, and the difference shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.models.blocks import BlockGrid, block_patches, from_patches, to_patches
from unseen.models.heads import weighted_mean
from unseen.models.processes import process_count
from unseen.types import Explanation, FaceBatch, FaceRecord, Features, InputError, Label, Output

__all__ = ["FaceInpainter", "block_patches", "positions"]

# Encoder width, layers, heads; decoder width, layers, heads. "base" is MAE-Base, 112 million weights.
_SIZES = {"base": (768, 12, 12, 512, 8, 16), "tiny": (128, 4, 4, 64, 2, 4)}
_ROWS = 64  # passes at a time: enough to keep a processor busy, few enough for its memory


def positions(grid: int, width: int) -> Tensor:
    """Sines and cosines of the column in the first half, of the row in the second.

    Args:
        grid: Patches a side.
        width: D, a multiple of four.

    Shape:
        (grid * grid, D); each half holds sin, then cos, of the place times 10000^(-i / (D / 4)).
    """
    if width % 4:
        raise InputError(f"positions: width {width}; expected a multiple of 4")
    rate = 10000.0 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * rate  # (grid, D / 4)
    wave = torch.cat([angle.sin(), angle.cos()], 1)  # (grid, D / 2)
    columns = wave[None].expand(grid, -1, -1)
    rows = wave[:, None].expand(-1, grid, -1)
    return torch.cat([columns, rows], 2).flatten(0, 1).float()


class _Layer(nn.Module):
    """Attention and a two-layer network, each behind a norm (pre-norm) and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.rise, self.fall = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, last: int | None = None) -> Tensor:
        """Return the new tokens, all of them or only the last ones, for which all are looked at.

        Shape:
            x: (R, T, D) -> (R, T or last, D).
        """
        seen = self.norm1(x)
        if last is None:
            query, key, value = self.qkv(seen).chunk(3, -1)
        else:  # the others' queries, and all that follows from them, would be thrown away
            x = x[:, -last:]
            width = x.shape[-1]
            query = functional.linear(seen[:, -last:], self.qkv.weight[:width], self.qkv.bias[:width])
            key, value = functional.linear(seen, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, -1)
        query, key, value = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value))
        mixed = functional.scaled_dot_product_attention(query, key, value)  # (R, heads, T, D / heads)
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        fallen: Tensor = self.fall(functional.gelu(self.rise(self.norm2(x))))
        return x + fallen


class FaceInpainter(nn.Module):
    """Learns real faces by painting hidden patches, and then repaints any face block by block.

    It takes pictures in [0, 1] and predicts their pixels; there is no mean and no standard deviation to get
    wrong. It is trained like a detector (`model:` in a recipe), on real rows only.

    Args:
        size: `base` (MAE-Base, the paper's) or `tiny` (for a CPU).
        image_size: Side of the square input, in pixels.
        patch: Side of a patch, in pixels.
        mask: What is hidden in training: `block`, one block anywhere inside the frame (the paper);
            `random75`, three quarters of all patches (the published code); or `none`, which makes a plain
            autoencoder of it (Table 8).
        blocks: Blocks a side, which says how large a hidden block is.

    Shape:
        image (B, 3, H, W) -> `Output`: score (B,), the mean absolute residual of the repainted pixels, in
        [0, 1]. It orders faces by how unlike real ones they are; it is no log-odds.
    """

    seen: Tensor
    positions: Tensor
    decoder_positions: Tensor

    def __init__(
        self,
        size: Literal["base", "tiny"] = "base",
        *,
        image_size: int = 224,
        patch: int = 16,
        mask: Literal["block", "random75", "none"] = "block",
        blocks: int = 4,
    ) -> None:
        super().__init__()
        if size not in _SIZES or mask not in ("block", "random75", "none"):
            raise InputError(f"FaceInpainter: size {size!r}, mask {mask!r}; see its documentation")
        if image_size % patch:
            raise InputError(f"FaceInpainter: image_size {image_size} is no multiple of the patch, {patch}")
        self.image_size, self.patch, self.mask, self.blocks = image_size, patch, mask, blocks
        self.grid = image_size // patch
        width, depth, heads, narrow, shallow, decoder_heads = _SIZES[size]
        pixels = 3 * patch * patch
        self.embed = nn.Linear(pixels, width)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.encoder = nn.ModuleList(_Layer(width, heads) for _ in range(depth))
        self.encoder_norm = nn.LayerNorm(width, eps=1e-6)
        self.narrow = nn.Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder = nn.ModuleList(_Layer(narrow, decoder_heads) for _ in range(shallow))
        self.decoder_norm = nn.LayerNorm(narrow, eps=1e-6)
        self.paint = nn.Linear(narrow, pixels)
        # The class token's place in the sequence is zero, so only patches have an entry.
        self.register_buffer("positions", positions(self.grid, width), persistent=False)
        self.register_buffer("decoder_positions", positions(self.grid, narrow), persistent=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # real faces learned from so far
        self.grids = nn.ModuleDict({str(k): BlockGrid(k, self.grid) for k in _sides(self.grid)})
        self.grid_of(blocks)
        self._first_weights()
        if mask == "none":
            self.mask_token.requires_grad_(False)

    def _first_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.class_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def grid_of(self, blocks: int) -> BlockGrid:
        """Return the tables of `blocks` x `blocks` blocks.

        Raises:
            InputError: They do not divide the patches inside the frame.
        """
        if str(blocks) not in self.grids:
            block_patches(0, blocks=blocks, grid=self.grid)  # says what is wrong
        found = self.grids[str(blocks)]
        assert isinstance(found, BlockGrid)
        return found

    def _predict(self, tokens: Tensor, kept: Tensor, hidden: Tensor) -> Tensor:
        """Paint the hidden patches from the kept ones; with none hidden, paint the kept ones.

        Shape:
            tokens: (R, K, D) embedded patches with positions. kept: (R, K), hidden: (R, M) -> (R, M or K, P).
        """
        x = torch.cat(
            [self.class_token.expand(tokens.shape[0], -1, -1).to(tokens.dtype), tokens], 1
        )  # (R, 1 + K, D)
        for layer in self.encoder:
            x = layer(x)
        x = self.narrow(self.encoder_norm(x))
        x = torch.cat([x[:, :1], x[:, 1:] + self.decoder_positions[kept]], 1)
        asked = kept.shape[1]
        if hidden.shape[1]:
            # The order of tokens means nothing, since positions are added, so the hidden ones go last.
            x = torch.cat([x, (self.mask_token + self.decoder_positions[hidden]).to(x.dtype)], 1)
            asked = hidden.shape[1]
        *layers, final = self.decoder
        for layer in layers:
            x = layer(x)
        x = self.decoder_norm(final(x, asked))
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 pixels would be an error of their own
            painted: Tensor = self.paint(x.float())
        return painted

    def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return the mean square error of the hidden pixels, per face and then over faces.

        The paper's sum of L2 norms has the same optimum up to scale; the square is what its code takes.
        """
        pixels = to_patches(_floats(batch.image), self.patch)  # (B, N, P)
        kept, hidden = self._draw(len(pixels), pixels.device)  # (B, K), (B, M)
        rows = torch.arange(len(pixels), device=pixels.device)[:, None]
        tokens = self.embed(pixels[rows, kept]) + self.positions[kept]
        target = pixels[rows, hidden if hidden.shape[1] else kept]
        error = (self._predict(tokens, kept, hidden) - target).square().mean((1, 2))  # (B,)
        if self.training:
            self.seen += len(pixels) * process_count()  # batches are of one size in all of them
        return {"reconstruction": weighted_mean(error, batch.weight)}

    def _draw(self, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Draw what is hidden, for each face by itself; on the host, so that nothing waits for the device."""
        total = self.grid * self.grid
        if self.mask == "random75":
            order = torch.rand(count, total, device="cpu").argsort(1).to(device)
            keep = total - round(0.75 * total)
            return order[:, :keep], order[:, keep:]
        if self.mask == "none":
            every = torch.arange(total, device=device).expand(count, -1)
            return every, every[:, :0]
        grid = self.grid_of(self.blocks)
        place = torch.randint(len(grid.any_hidden), (count,), device="cpu").to(device)
        return grid.any_kept[place], grid.any_hidden[place]

    def inpaint(
        self,
        images: Tensor,
        blocks: Tensor | Sequence[int] | None = None,
        *,
        side: int | None = None,
        passes: Literal["exact", "grouped"] = "exact",
    ) -> Tensor:
        """Return the pictures with blocks repainted, each from all that is not that block.

        Args:
            images: RGB in [0, 1], or uint8.
            blocks: Numbers of blocks, row by row, the same for all pictures (n,) or each its own (B, n); None
                for every block.
            side: Blocks a side; those of the training mask if None.
            passes: `exact` hides one block at a time. `grouped` hides up to four that do not touch, which
                takes a quarter of the passes and is an approximation; it repaints every block.

        Shape:
            images: (B, 3, H, W) -> (B, 3, H, W) float32, without gradients.
        """
        # Inference tensors could not be learned from later, hence the clone; exporting knows no such mode.
        context = torch.no_grad() if torch.compiler.is_compiling() else torch.inference_mode()
        with context:
            painted = self._inpaint(images, blocks, self.grid_of(side or self.blocks), passes)
        return painted.clone()

    def _inpaint(
        self, images: Tensor, blocks: Tensor | Sequence[int] | None, grid: BlockGrid, passes: str
    ) -> Tensor:
        if images.ndim != 4 or tuple(images.shape[1:]) != (3, self.image_size, self.image_size):
            raise InputError(
                f"FaceInpainter: pictures of shape {tuple(images.shape)}; it was built for "
                f"(B, 3, {self.image_size}, {self.image_size}): align faces to that size"
            )
        pixels = to_patches(_floats(images), self.patch).float()  # (B, N, P)
        count = pixels.shape[0]
        tokens = self.embed(pixels) + self.positions  # shared by all passes
        rows = torch.arange(count, device=pixels.device)[:, None]
        painted = pixels.clone()
        if self.mask == "none":
            every = torch.arange(self.grid * self.grid, device=pixels.device).expand(count, -1)
            index = grid.of(blocks, count)[1].flatten(1)
            painted[rows, index] = self._predict(tokens, every, every[:, :0])[rows, index]
            return from_patches(painted, self.patch)
        if passes == "grouped":
            if blocks is not None:
                raise InputError("FaceInpainter: passes 'grouped' repaints every block; leave `blocks` out")
            sets = grid.grouped(count)
        elif passes == "exact":
            sets = [grid.of(blocks, count)]
        else:
            raise InputError(f"FaceInpainter: passes {passes!r}; expected 'exact' or 'grouped'")
        for kept, hidden in sets:  # (B, n, K), (B, n, M)
            step = kept.shape[1] if torch.compiler.is_compiling() else max(1, _ROWS // max(count, 1))
            for start in range(0, kept.shape[1], step):
                keep, hide = kept[:, start : start + step], hidden[:, start : start + step]
                visible = tokens[rows, keep.flatten(1)].reshape(-1, keep.shape[2], tokens.shape[2])
                made = self._predict(visible, keep.flatten(0, 1), hide.flatten(0, 1))
                index = hide.flatten(1)  # (B, passes * M)
                painted[rows, index] = made.reshape(*index.shape, made.shape[2])
        return from_patches(painted, self.patch)

    def residual(
        self,
        images: Tensor,
        blocks: Tensor | Sequence[int] | None = None,
        gain: float = 4.0,
        *,
        clamp: bool = True,
        side: int | None = None,
        passes: Literal["exact", "grouped"] = "exact",
    ) -> Tensor:
        """Return gain * (repainted - picture); zero in the frame and in blocks that were not asked for.

        Args:
            images: See `inpaint`, as are `blocks`, `side` and `passes`.
            blocks: Which blocks.
            gain: The paper's factor.
            clamp: Limit to [-1, 1], which the code does and the paper does not say.
            side: Blocks a side.
            passes: How many blocks are hidden at a time.

        Shape:
            images: (B, 3, H, W) -> (B, 3, H, W) float32, without gradients.
        """
        found = gain * (self.inpaint(images, blocks, side=side, passes=passes) - _floats(images)).detach()
        return found.clamp_(-1, 1) if clamp else found

    def forward(self, image: Tensor) -> Output:
        """Say how unlike real faces these are: the mean absolute difference to what it would have painted."""
        energy = self.residual(image, gain=1.0, clamp=False).abs().mean(1, keepdim=True)  # (B, 1, H, W)
        inner = energy[:, :, self.patch : -self.patch, self.patch : -self.patch]
        score = inner.mean((1, 2, 3))
        map = functional.avg_pool2d(energy, self.patch)  # (B, 1, grid, grid)
        return Output(score[:, None], score, Features(map, score[:, None]))

    def errors(self, image: Tensor) -> Tensor:
        """Return the mean square error of all repainted pixels.

        Shape:
            image: (B, 3, H, W) -> (B,).
        """
        inner = slice(self.patch, -self.patch)
        return self.residual(image, gain=1.0, clamp=False)[:, :, inner, inner].square().mean((1, 2, 3))

    def check(self, records: Sequence[FaceRecord], made: Sequence[str] = ()) -> None:
        """Refuse fakes: an inpainter that has seen them paints them.

        Args:
            records: The rows it would learn from.
            made: Methods of fakes that are made of them while training.

        Raises:
            InputError: There are fakes among them, or would be.
        """
        fakes = [(row, r) for row, r in enumerate(records, 1) if r.label != Label.REAL]
        if fakes:
            row, record = fakes[0]
            label = "none" if record.label is None else f"{int(record.label)} (fake)"
            raise InputError(
                f"row {row} ({record.path}): label {label}, and {len(fakes) - 1} more like it; an "
                "inpainter must see real faces only: leave them out, or give `data.methods: []`",
                reason="fakes",
            )
        if made:
            raise InputError(
                f"the sampler makes fakes ({', '.join(made)}) for an inpainter, which must see real faces "
                "only; take the sampler Shuffled",
                reason="fakes",
            )

    def explain(self, image: Tensor) -> list[list[Explanation]]:
        """Return each face as it was repainted, and the residual, grey where the two agree (Figure 3)."""
        painted = self.inpaint(image)
        return [evidence(*pair) for pair in zip(painted, 4 * (painted - _floats(image)), strict=True)]

    def digest(self) -> str:
        """Return a SHA-256 of the weights: which inpainter this is, wherever it lies."""
        found = hashlib.sha256()
        for name, value in sorted(self.state_dict().items()):
            if name != "seen":
                found.update(f"{name} {tuple(value.shape)}".encode())
                found.update(value.detach().cpu().float().contiguous().numpy().tobytes())
        return found.hexdigest()


def evidence(painted: Tensor | None, residual: Tensor) -> list[Explanation]:
    """Return pictures of one face's repainting and residual.

    Shape:
        painted: (3, H, W) in [0, 1]. residual: (3, H, W), at the gain that is shown.
    """
    shown = residual.float().clamp(-1, 1).cpu()
    heat = shown.abs().mean(0).numpy().astype(np.float32)
    found = [Explanation("residual", heatmap=heat, image=_bytes((shown + 1) / 2))]
    return found if painted is None else [Explanation("reconstruction", image=_bytes(painted.cpu())), *found]


def _bytes(picture: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.asarray(picture.clamp(0, 1).mul(255).round().byte().permute(1, 2, 0).numpy(), np.uint8)


def _floats(images: Tensor) -> Tensor:
    return images.float() / 255 if images.dtype == torch.uint8 else images


def _sides(grid: int) -> list[int]:
    """How many blocks a side are possible."""
    return [k for k in range(1, grid - 1) if (grid - 2) % k == 0]
