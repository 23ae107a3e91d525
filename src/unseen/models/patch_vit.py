"""A vision transformer of timm that looks at some patches of a picture and never computes the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.types import InputError

__all__ = ["PatchViT"]


class PatchViT(nn.Module):
    """Any `VisionTransformer` of timm with a class token, given patches and where they stand.

    Each patch keeps the position of its place in the whole picture. With all it is the network itself.

    Args:
        name: A name that `timm.list_models()` knows, such as `vit_base_patch16_224`.
        image_size: Side of the square picture, in pixels.
        patch: Side of a patch, in pixels.
        pretrained: Fetch the weights that timm links to (needs a network connection once).
        class_token: False leaves the class token out of the sequence.
        drop_path_rate: Stochastic depth, 0 to 1.
    """

    def __init__(
        self,
        name: str,
        *,
        image_size: int = 224,
        patch: int = 16,
        pretrained: bool = False,
        class_token: bool = True,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.name, self.class_token = name, class_token
        self.net = _create(name, image_size, patch, pretrained, drop_path_rate)
        self.width = int(self.net.embed_dim)
        if not class_token:  # no loss would ever reach it
            self.net.cls_token.requires_grad_(False)

    def forward(self, pixels: Tensor, index: Tensor) -> Tensor:
        """Return the class token, if it is not left out, and the tokens of the chosen patches.

        Args:
            pixels: All patches as `unseen.models.blocks.to_patches` cuts them, normalised.
            index: Numbers of the patches that are looked at.

        Shape:
            pixels: (B, N, P). index: (B, K) -> (B, 1 + K, D), or (B, K, D) without class token.
        """
        net = self.net
        rows = torch.arange(pixels.shape[0], device=pixels.device)[:, None]
        # The convolution that embeds patches is a linear map of each; timm's order is channel, row, column.
        weight = net.patch_embed.proj.weight.permute(0, 2, 3, 1).flatten(1)  # (D, P)
        tokens = functional.linear(pixels[rows, index], weight, net.patch_embed.proj.bias)  # (B, K, D)
        place = net.pos_embed  # (1, 1 + N, D)
        tokens = tokens + place[0, 1:][index].to(tokens.dtype)
        if self.class_token:
            first = (net.cls_token + place[:, :1]).to(tokens.dtype)
            tokens = torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], 1)
        seen: Tensor = net.norm(net.blocks(net.norm_pre(net.pos_drop(tokens))))
        return seen


def _create(name: str, image_size: int, patch: int, pretrained: bool, drop_path_rate: float) -> Any:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    if not timm.is_model(name):
        raise InputError(
            f"PatchViT: timm {timm.__version__} has no network {name!r}; see `timm.list_models('vit*')`"
        )
    options: dict[str, Any] = {"img_size": image_size, "patch_size": patch}
    if drop_path_rate:
        options["drop_path_rate"] = drop_path_rate
    try:
        net = timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", **options)
    except (TypeError, AssertionError, ValueError) as error:
        raise InputError(
            f"PatchViT: {name} cannot be built for {image_size} pixels in patches of {patch}: {error}"
        ) from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise InputError(
            f"PatchViT: the pretrained weights of {name} could not be fetched ({error}); connect to the "
            "network once, or give `pretrained: false` and `init:` with files",
            reason="missing",
        ) from error
    count = (image_size // patch) ** 2
    plain = (
        isinstance(net, VisionTransformer)
        and net.cls_token is not None
        and net.num_prefix_tokens == 1
        and net.pos_embed is not None
        and tuple(net.pos_embed.shape[:2]) == (1, 1 + count)
        and isinstance(net.patch_drop, nn.Identity)
        and isinstance(net.patch_embed.norm, nn.Identity)
    )
    if not plain:
        raise InputError(
            f"PatchViT: {name} is no plain vision transformer with one class token and a learned position "
            f"for each of {count} patches; take one such as vit_base_patch16_224 or vit_tiny_patch16_224"
        )
    return net
