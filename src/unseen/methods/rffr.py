"""RFFR: what an inpainter of real faces would have painted, and the face itself, side by side.

Shi et al., *Real Face Foundation Representation Learning for Generalized Deepfake Detection*, 2023. A masked
autoencoder learns real faces (`FaceInpainter`); each block of a face is hidden and painted from the rest; the
difference, the residual, holds what real faces do not have. Two vision transformers look at the face and at
the residual, at a few blocks drawn at random while training and at all blocks afterwards.

Where the published code leaves the paper we follow the paper; `compat_*` switches bring the code back.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from unseen.models.backbone import Backbone
from unseen.models.blocks import block_patches, to_patches
from unseen.models.inpainter import FaceInpainter, evidence
from unseen.models.patch_vit import PatchViT
from unseen.types import Explanation, FaceBatch, FaceRecord, Features, InputError

__all__ = ["FaceInpainter", "ResidualBackbone", "block_patches", "high_pass"]


class ResidualBackbone(Backbone):
    """A frozen inpainter and two transformers, for the picture and for the residual.

    Args:
        inpainter: Trained on real faces before (`init: {backbone.inpainter: RUN}` in a recipe). It is frozen:
            in evaluation mode always, without gradients.
        name: Both transformers, by timm's name.
        pretrained: Start both from the weights that timm links to.
        branches: `both`, or one of them alone (Table 5).
        residual: What the picture is compared with (Table 8): an `inpainter`'s painting, the output of an
            `autoencoder` (an inpainter whose mask is `none`), or its own low frequencies (`high_pass`).
        draw: Which blocks are seen in training: `each` draws as many for each face, `batch` each block by
            itself and the same ones for the whole batch (the published code), `all` all blocks, and `whole`
            every patch of the picture, with the frame, when testing as well ("full" in Table 5).
        p: Part of the blocks that is drawn.
        blocks: Blocks a side (Table 9).
        gain: The residual's factor.
        clamp: Limit the residual to [-1, 1]; in the code, not in the paper.
        passes: See `FaceInpainter.inpaint`; `grouped` is an approximation in a quarter of the time.
        drop_path_rate: Stochastic depth of both transformers, 0 to 1.
        mean: Of the picture's channels, RGB in [0, 1]. The residual is not normalised.
        std: Of the picture's channels.
        compat_first_patch: As the published code does, leave the class tokens out and take the token of the
            first seen patch in their place.
        compat_shifted_residual: As the published code does, show the residual's branch the patches to the
            right of those that the picture's branch sees.

    Shape:
        image (B, 3, H, W) -> vector (B, D), the class tokens of the branches side by side; map (B, D, h, w),
        the tokens of their patches, zero where nothing was looked at.
    """

    def __init__(
        self,
        inpainter: FaceInpainter,
        *,
        name: str = "vit_base_patch16_224.orig_in21k_ft_in1k",
        pretrained: bool = False,
        branches: Literal["both", "image", "residual"] = "both",
        residual: Literal["inpainter", "autoencoder", "high_pass"] = "inpainter",
        draw: Literal["each", "batch", "all", "whole"] = "each",
        p: float = 0.25,
        blocks: int = 4,
        gain: float = 4.0,
        clamp: bool = True,
        passes: Literal["exact", "grouped"] = "exact",
        drop_path_rate: float = 0.0,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
        compat_first_patch: bool = False,
        compat_shifted_residual: bool = False,
    ) -> None:
        _check_words(branches, residual, draw, passes, p)
        if residual != "high_pass" and branches != "image":
            _check_kind(inpainter, residual)
        if compat_shifted_residual and draw == "whole":
            raise InputError(
                "ResidualBackbone: the last patch of the whole picture has none to its right; give another "
                "draw, or leave compat_shifted_residual out"
            )
        first = PatchViT(
            name,
            image_size=inpainter.image_size,
            patch=inpainter.patch,
            pretrained=pretrained,
            class_token=not compat_first_patch,
            drop_path_rate=drop_path_rate,
        )
        width = first.width * (2 if branches == "both" else 1)
        super().__init__(width, width, inpainter.image_size, mean=mean, std=std)
        inpainter.grid_of(blocks)  # do they divide its grid?
        self.inpainter = inpainter.eval().requires_grad_(False)
        self.image_branch = None if branches == "residual" else first
        # Both start from the same weights, as in the paper.
        self.residual_branch = (
            None if branches == "image" else first if branches == "residual" else copy.deepcopy(first)
        )
        self.residual, self.draw, self.p, self.blocks = residual, draw, p, blocks
        self.gain, self.clamp, self.passes = gain, clamp, passes
        self.compat_first_patch, self.compat_shifted_residual = compat_first_patch, compat_shifted_residual

    def train(self, mode: bool = True) -> ResidualBackbone:
        """Set the mode of all but the inpainter, which stays as it is when it paints."""
        super().train(mode)
        self.inpainter.eval()
        return self

    def forward(self, image: Tensor) -> Features:
        """See a batch of faces; see the class."""
        return self._see(image, None)

    def see(self, batch: FaceBatch) -> Features:
        """See a batch of faces; residuals that it brings along are not computed again."""
        return self._see(batch.image, batch.residual)

    def _see(self, image: Tensor, residual: Tensor | None) -> Features:
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype) / 255
        count = image.shape[0]
        chosen = self._draw(count, image.device)
        index = self._patches(chosen, count, image.device)  # (B, K)
        seen: list[Tensor] = []
        if self.image_branch is not None:
            seen.append(self.image_branch(to_patches(self.normalize(image), self.inpainter.patch), index))
        if self.residual_branch is not None:
            found = self.residual_of(image, chosen) if residual is None else self._stored(residual)
            patches = to_patches(found.to(image.dtype), self.inpainter.patch)
            seen.append(self.residual_branch(patches, index + int(self.compat_shifted_residual)))
        tokens = torch.cat(seen, 2)  # (B, 1 + K, D); without class tokens (B, K, D)
        of_patches = tokens if self.compat_first_patch else tokens[:, 1:]
        grid = self.inpainter.grid
        map = of_patches.new_zeros(count, grid * grid, self.channels)
        map[torch.arange(count, device=image.device)[:, None], index] = of_patches
        return Features(map.transpose(1, 2).reshape(count, self.channels, grid, grid), tokens[:, 0])

    def _draw(self, count: int, device: torch.device) -> Tensor | None:
        """Draw numbers of blocks, (n,) or (B, n); None for all. On the host: nothing waits for the device."""
        if not self.training or self.draw in ("all", "whole"):
            return None
        total = self.blocks * self.blocks
        if self.draw == "each":
            number = max(1, round(self.p * total))
            return torch.rand(count, total, device="cpu").argsort(1)[:, :number].to(device)
        # An empty set becomes all blocks, as in the published code: one batch in a hundred at p = 0.25.
        drawn = (torch.rand(total, device="cpu") < self.p).nonzero()[:, 0]
        return drawn.to(device) if len(drawn) else None

    def _patches(self, chosen: Tensor | None, count: int, device: torch.device) -> Tensor:
        """Return the patches that are looked at, (B, K)."""
        if self.draw == "whole":
            return torch.arange(self.inpainter.grid**2, device=device).expand(count, -1)
        return self.inpainter.grid_of(self.blocks).of(chosen, count)[1].flatten(1)

    def residual_of(self, image: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return the residual that the second branch looks at.

        Args:
            image: RGB in [0, 1].
            chosen: Numbers of blocks, (n,) or (B, n); None for all. Others may be left zero.

        Shape:
            image: (B, 3, H, W) -> (B, 3, H, W) float32, without gradients.
        """
        if self.residual == "high_pass":
            found = self.gain * high_pass(image.detach().float())
            return found.clamp_(-1, 1) if self.clamp else found
        whole = chosen is None or self.passes == "grouped"  # four grouped passes give every block at once
        return self.inpainter.residual(
            image,
            None if whole else chosen,
            self.gain,
            clamp=self.clamp,
            side=self.blocks,
            passes=self.passes if whole else "exact",
        )

    def _stored(self, residual: Tensor) -> Tensor:
        """Bring a stored residual, int8 in steps of 1 / 127 or float, to its values."""
        found = residual.float() / 127 if residual.dtype == torch.int8 else residual.float()
        return found.clamp_(-1, 1) if self.clamp else found

    def recipe_of_residuals(self) -> dict[str, Any]:
        """Return what a residual depends on besides the picture; a store of residuals must agree with it."""
        learned = self.residual != "high_pass"
        return {
            "residual": self.residual,
            "inpainter": self.inpainter.digest() if learned else "",
            "image_size": self.image_size,
            "blocks": self.blocks,
            "gain": self.gain,
            "clamp": self.clamp,
            "passes": self.passes,
        }

    def check(self, records: Sequence[FaceRecord], made: Sequence[str] = ()) -> None:
        """Refuse to learn beside an inpainter that never saw a face.

        Raises:
            InputError: Its weights are random.
        """
        learned = self.residual != "high_pass" and self.residual_branch is not None
        if learned and not int(self.inpainter.seen):
            raise InputError(
                "ResidualBackbone: random weights in its inpainter; train one by recipes/rffr_inpainter.yaml "
                "and give its run: `init: {backbone.inpainter: RUN}`",
                reason="untrained",
            )

    def explain(self, image: Tensor) -> list[list[Explanation]]:
        """Return each face as real faces would have it, and the residual (Figure 3)."""
        if self.residual_branch is None:
            return super().explain(image)
        if self.residual == "high_pass":
            return [evidence(None, found) for found in self.residual_of(image)]
        return self.inpainter.explain(image)


def high_pass(image: Tensor) -> Tensor:
    """Return a picture's low frequencies minus the picture: what a fixed filter has to offer (Table 8).

    The paper does not say which filter; this one is the binomial of 5 x 5, and the sign is the residual's.

    Shape:
        (B, 3, H, W) -> (B, 3, H, W).
    """
    line = image.new_tensor([1, 4, 6, 4, 1]) / 16
    kernel = (line[:, None] * line).expand(3, 1, 5, 5)
    low = functional.conv2d(functional.pad(image, (2, 2, 2, 2), mode="reflect"), kernel, groups=3)
    return low - image


def _check_words(branches: str, residual: str, draw: str, passes: str, p: float) -> None:
    for word, value, known in (
        ("branches", branches, ("both", "image", "residual")),
        ("residual", residual, ("inpainter", "autoencoder", "high_pass")),
        ("draw", draw, ("each", "batch", "all", "whole")),
        ("passes", passes, ("exact", "grouped")),
    ):
        if value not in known:
            raise InputError(f"ResidualBackbone: {word} {value!r}; expected one of {', '.join(known)}")
    if not 0 < p <= 1:
        raise InputError(f"ResidualBackbone: p {p}; expected a part of the blocks, above 0 and at most 1")


def _check_kind(inpainter: FaceInpainter, residual: str) -> None:
    if (inpainter.mask == "none") != (residual == "autoencoder"):
        raise InputError(
            f"ResidualBackbone: residual {residual!r} with an inpainter of mask {inpainter.mask!r}; an "
            "autoencoder is an inpainter with `mask: none`, trained as such"
        )
