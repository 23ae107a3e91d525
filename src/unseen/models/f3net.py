"""F3-Net: two networks that see frequencies instead of colours.

Qian et al., *Thinking in Frequency: Face Forgery Detection by Mining Frequency-Aware Clues*, ECCV 2020. The
first branch (FAD) sees the picture split into frequency bands, the second (LFS) how strong each band is in
every small window, and MixBlocks let the branches gate each other. All transforms are plain products and
convolutions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.models.backbone import Backbone, TimmBackbone
from unseen.types import Features, InputError

__all__ = ["F3Net", "FrequencyBands", "LocalFrequency", "MixBlock", "dct_matrix"]


def dct_matrix(n: int) -> Tensor:
    """Return the orthonormal DCT-II matrix: D[i, j] = c_i cos(pi i (j + 1/2) / n).

    c_0 is sqrt(1 / n), the others sqrt(2 / n), so that D D^T = 1 and the transform of a square X is D X D^T.

    Shape:
        Result: (n, n) float32.

    Example:
        >>> dct_matrix(2)
        tensor([[ 0.7071,  0.7071],
                [ 0.7071, -0.7071]])
    """
    if n < 1:
        raise InputError(f"dct_matrix: n {n}; expected at least 1")
    i, j = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(torch.pi * i * (j + 0.5) / n) * math.sqrt(2 / n)
    matrix[0] = math.sqrt(1 / n)
    return matrix.float()


class FrequencyBands(nn.Module):
    """FAD: the picture in four bands of its own spectrum, low, middle, high and all of it.

    A band is 0 or 1 by the diagonal i + j of a coefficient, plus a learned part between -1 and 1. Low and
    middle end at floor(size / 2.82) and floor(size / 2), a sixteenth and an eighth of the spectrum's area;
    both ends count, so that an edge belongs to two bands.

    Args:
        size: Side of the picture.
        learned: Add the learned part.
        whole: The band of all frequencies, which the paper's three do not have and all public code has.

    Shape:
        (B, 3, size, size) -> (B, 3 bands, size, size), the colours of one band side by side.
    """

    matrix: Tensor
    base: Tensor

    def __init__(self, size: int, *, learned: bool = True, whole: bool = True) -> None:
        super().__init__()
        low, middle, high = int(size / 2.82), size // 2, 2 * size
        ends = [(0, low), (low, middle), (middle, high), *([(0, high)] if whole else [])]
        self.register_buffer("matrix", dct_matrix(size), persistent=False)
        self.register_buffer("base", _bands(size, ends), persistent=False)  # (bands, size, size)
        self.weight = nn.Parameter(torch.randn_like(self.base) * 0.1) if learned else None
        self.channels = 3 * len(ends)

    def forward(self, image: Tensor) -> Tensor:
        """Split a normalised picture."""
        transform = self.matrix
        spectrum = transform @ image @ transform.T  # (B, 3, n, n)
        filters = _filters(self.base, self.weight)[:, None]  # (bands, 1, n, n)
        parts = transform.T @ (spectrum[:, None] * filters) @ transform  # (B, bands, 3, n, n)
        return parts.flatten(1, 2)


class LocalFrequency(nn.Module):
    """LFS: the strength of six frequency bands in every window of 10 x 10 pixels, two apart.

    The DCT of all windows is one convolution with the 100 fixed cosines, the sum over a band another one: no
    window is ever written out.

    Args:
        learned: Add the learned part to the bands.
        log_first: Sum the logarithms, averaged over the band's coefficients, as public code does. The paper
            takes the logarithm of the sum.
        eps: Added before the logarithm; a black window has log10(eps).

    Shape:
        (B, 3, H, W) in [0, 1] -> (B, 6, H / 2, W / 2).
    """

    cosines: Tensor
    base: Tensor
    luma: Tensor

    WINDOW, STEP, BANDS = 10, 2, 6

    def __init__(self, *, learned: bool = True, log_first: bool = False, eps: float = 1e-15) -> None:
        super().__init__()
        n, bands = self.WINDOW, self.BANDS
        matrix = dct_matrix(n)
        cosines = torch.einsum("iy,jx->ijyx", matrix, matrix).reshape(n * n, 1, n, n)
        self.register_buffer("cosines", cosines, persistent=False)
        ends = [(2 * n * k / bands, 2 * n * (k + 1) / bands) for k in range(bands)]
        self.register_buffer("base", _bands(n, ends), persistent=False)  # (6, 10, 10)
        # From [0, 1] to 0..245: the public code's (x + 1) 122.5 of pictures in [-1, 1].
        luma = 245 * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        self.register_buffer("luma", luma, persistent=False)
        self.weight = nn.Parameter(torch.randn_like(self.base) * 0.1) if learned else None
        self.log_first, self.eps, self.channels = log_first, eps, bands

    def forward(self, image: Tensor) -> Tensor:
        """Measure a picture that is not normalised."""
        gray = functional.conv2d(image, self.luma)  # (B, 1, H, W)
        spectrum = functional.conv2d(gray, self.cosines, stride=self.STEP, padding=4).abs()  # (B, 100, h, w)
        filters = _filters(self.base, self.weight)
        if self.log_first:
            filters = filters / self.base.sum((1, 2), keepdim=True)
            return functional.conv2d((spectrum + self.eps).log10(), filters.view(self.BANDS, -1, 1, 1))
        # log10 of the L1 norm of the filtered spectrum; |a b| = |a| |b|
        return (functional.conv2d(spectrum, filters.abs().view(self.BANDS, -1, 1, 1)) + self.eps).log10()


def _bands(size: int, ends: Sequence[tuple[float, float]]) -> Tensor:
    """Return 0 or 1 for each coefficient: whether its diagonal i + j lies between two ends, both counted."""
    place = torch.arange(size)
    diagonal = (place[:, None] + place).double()
    # A hair wider, so that thirds of a diagonal cannot fall on the wrong side of a whole number.
    return torch.stack([((a - 1e-6 <= diagonal) & (diagonal <= b + 1e-6)).float() for a, b in ends])


def _filters(base: Tensor, weight: Tensor | None) -> Tensor:
    """Return base + sigma(w), sigma(w) = 2 sigmoid(w) - 1 = tanh(w / 2)."""
    return base if weight is None else base + torch.tanh(weight / 2)


class MixBlock(nn.Module):
    """Lets each branch gate the other by how alike their rows are.

    The gate starts at zero, so that two branches begin as if they did not know each other.

    Args:
        channels: C of both maps.

    Shape:
        Two maps (B, C, w, w) -> two of the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(2))
        self.key = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(2))
        self.gamma = nn.ParameterList(nn.Parameter(torch.zeros(1)) for _ in range(2))
        # Depthwise. A bias would be taken away again by the norm, and spoil the start at zero.
        self.scale = nn.ModuleList(
            nn.Conv2d(channels, channels, 1, groups=channels, bias=False) for _ in range(2)
        )
        self.norm = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(2))

    def forward(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Mix two maps."""
        maps = (first, second)
        query = torch.cat([q(x) for q, x in zip(self.query, maps, strict=True)], 3)  # (B, C, w, 2w)
        key = torch.cat([k(x) for k, x in zip(self.key, maps, strict=True)], 3)  # (B, C, w, 2w)
        gate = (query @ key.transpose(2, 3)).softmax(-1)  # (B, C, w, w)
        mixed = []
        for i, (own, other) in enumerate(((first, second), (second, first))):
            gated = other * gate * torch.tanh(self.gamma[i] / 2)  # 2 sigmoid(gamma) - 1
            mixed.append(own + self.norm[i](self.scale[i](gated)))
        return mixed[0], mixed[1]


class F3Net(Backbone):
    """Two networks of timm, one on frequency bands and one on local frequency statistics.

    Their maps are put side by side, the vector is the maps' mean. `mix_after` names the modules after which
    they meet; for Xception the paper's, after the 7th and the 12th block.

    Args:
        image_size: Side of the input in pixels; the paper's is 299.
        branch: `both`, or one of them alone.
        name: Network of both branches, each with weights of its own: one of timm that is a plain chain of
            modules, such as Xception, a ResNet or an EfficientNet.
        mix_after: Modules of that network after which the branches mix; empty for never.
        pretrained: Fetch the weights that timm links to; the first layer's are shared by the new inputs.
        learned: The bands have learned parts.
        whole_band: FAD's fourth band, see `FrequencyBands`.
        log_first: LFS in the order of public code, see `LocalFrequency`.
        mean: RGB of pictures in [0, 1], for FAD.
        std: RGB of pictures in [0, 1], for FAD.

    Shape:
        (B, 3, image_size, image_size) -> map (B, C, h, w), vector (B, C); C is 4096 for two Xceptions.
    """

    def __init__(
        self,
        *,
        image_size: int = 299,
        branch: Literal["both", "fad", "lfs"] = "both",
        name: str = "legacy_xception",
        mix_after: Sequence[str] = ("block7", "block12"),
        pretrained: bool = False,
        learned: bool = True,
        whole_band: bool = True,
        log_first: bool = False,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        if branch not in ("both", "fad", "lfs"):
            raise InputError(f"F3Net: branch {branch!r}; expected both, fad or lfs")
        trunks, views = nn.ModuleDict(), nn.ModuleDict()
        if branch != "lfs":
            bands = FrequencyBands(image_size, learned=learned, whole=whole_band)
            views["fad"], trunks["fad"] = bands, _trunk(name, image_size, pretrained, bands.channels)
        if branch != "fad":
            local = LocalFrequency(learned=learned, log_first=log_first)
            views["lfs"] = local
            trunks["lfs"] = _trunk(name, image_size, pretrained, local.channels, keep_size=True)
        names = list(next(iter(trunks.values())))  # type: ignore[call-overload]
        wrong = [module for module in mix_after if module not in names]
        if wrong and branch == "both":
            raise InputError(f"F3Net: mix_after {wrong}; {name} has the modules {', '.join(names)}")
        meetings = [module for module in names if module in mix_after] if branch == "both" else []
        widths, channels = _widths(views, trunks, meetings, image_size, name)
        super().__init__(channels, channels, image_size, mean=mean, std=std)
        self.views, self.trunks = views, trunks
        self._chain = tuple(names)
        self.mixes = nn.ModuleDict({module: MixBlock(widths[module]) for module in meetings})

    def forward(self, image: Tensor) -> Features:
        """See a batch of faces; see `Backbone.forward`."""
        if image.shape[-2:] != (self.image_size, self.image_size):
            raise ValueError(
                f"F3Net was built for {self.image_size} x {self.image_size} pixels; got {tuple(image.shape)}"
            )
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype) / 255
        # Coefficients span nine orders of magnitude: never in half precision.
        kind = image.device.type
        able = torch.amp.is_autocast_available(kind)  # the meta device is not
        with torch.autocast(kind, enabled=False) if able else nullcontext():
            image = image.float()
            inputs = {"fad": self.normalize(image), "lfs": image}
            seen = {key: view(inputs[key]) for key, view in self.views.items()}
        for module in self._chain:
            for key, trunk in self.trunks.items():
                seen[key] = trunk[module](seen[key])  # type: ignore[index]
            if module in self.mixes:
                seen["fad"], seen["lfs"] = self.mixes[module](seen["fad"], seen["lfs"])
        map = torch.cat(list(seen.values()), 1)  # (B, C, h, w)
        return Features(map, map.mean((2, 3)))


def _trunk(
    name: str, size: int, pretrained: bool, channels: int, *, keep_size: bool = False
) -> nn.ModuleDict:
    """Return a network as a chain of modules by name, its first layer widened to other inputs than RGB."""
    net: Any = TimmBackbone(name, image_size=size, pretrained=pretrained).net
    chain = nn.ModuleDict(
        {key: module for key, module in net.named_children() if not isinstance(module, nn.Identity)}
    )
    _check_chain(net, chain, name)
    first = next((p for p, m in net.named_modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise InputError(f"F3Net: {name} has no convolution; expected a convolutional network")
    module = net.get_submodule(first)
    wide = type(module)(
        channels,
        module.out_channels,
        module.kernel_size,
        stride=1 if keep_size else module.stride,
        padding=module.padding,
        bias=module.bias is not None,
    )
    copies = channels // 3
    with torch.no_grad():  # the same sum over the input: W / 4 four times, W / 2 twice
        wide.weight.copy_(module.weight.repeat(1, copies, 1, 1) / copies)
        if module.bias is not None and wide.bias is not None:
            wide.bias.copy_(module.bias)
    owner, _, last = first.rpartition(".")
    if owner:
        setattr(net.get_submodule(owner), last, wide)
    else:
        chain[last] = wide
    return chain


@torch.no_grad()
def _check_chain(net: nn.Module, chain: nn.ModuleDict, name: str) -> None:
    """Make sure that the modules, one after another, are the network."""
    net.eval()
    image = torch.linspace(0, 1e4, 3 * 64 * 64).sin().view(1, 3, 64, 64)
    found, expected = image, net(image)
    try:
        for module in chain.values():
            found = module(found)
        same = found.shape == expected.shape and (found.is_meta or torch.allclose(found, expected, atol=1e-5))
    except (RuntimeError, TypeError, ValueError, AssertionError):
        same = False
    net.train()
    if not same or found.ndim != 4:
        raise InputError(
            f"F3Net: {name} is not a plain chain of modules; name one that is, such as legacy_xception, "
            "resnet50 or tf_efficientnet_b0"
        )


@torch.no_grad()
def _widths(
    views: nn.ModuleDict, trunks: nn.ModuleDict, mixes: Sequence[str], size: int, name: str
) -> tuple[dict[str, int], int]:
    """Return the channels at each meeting, and of the end, having seen that the maps fit each other there."""
    views.eval(), trunks.eval()
    seen = {key: view(torch.zeros(1, 3, size, size)) for key, view in views.items()}
    widths: dict[str, int] = {}
    names = list(next(iter(trunks.values())))  # type: ignore[call-overload]
    for module in names:
        for key, trunk in trunks.items():
            seen[key] = trunk[module](seen[key])  # type: ignore[index]
        shapes = {tuple(x.shape[1:]) for x in seen.values()}
        if module in mixes or module == names[-1]:
            square = all(shape[1] == shape[2] for shape in shapes)
            if len(shapes) > 1 or not square:
                raise InputError(
                    f"F3Net: at {module} of {name} the branches have maps of {sorted(shapes)} for {size} x "
                    f"{size} pixels; expected equal and square ones, give another image_size, as 299 or 256"
                )
        if module in mixes:
            widths[module] = shapes.pop()[0]
    views.train(), trunks.train()
    return widths, sum(x.shape[1] for x in seen.values())
