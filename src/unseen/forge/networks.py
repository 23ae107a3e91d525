"""The two small networks that learned forgeries are made with; imported only when one is used.

They are meant to leave marks: blur, colour drift, and the grids of transposed convolutions.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Adam", "Bottleneck", "SharedEncoder"]


class SharedEncoder(nn.Module):
    """One encoder for everybody, a decoder for each person (the classical "deepfake" of 2017).

    What a decoder has of its own is the layer that paints the person's face from the code, which is nearly
    all of its weights; the up-sampling filters behind it are shared, as in DeepFaceLab's LIAE, so that two
    photographs of a person are enough and a further person costs little.

    Args:
        people: How many.
        size: Side of the faces in pixels, a multiple of 8.
        width: Channels at half size; twice and four times as many below.
        code: Length of what passes from the encoder to a decoder; small, so that identity has no room.
    """

    def __init__(self, people: int, *, size: int = 80, width: int = 16, code: int = 48) -> None:
        super().__init__()
        self.grid = size // 8
        deep = 4 * width
        self.encode = nn.Sequential(
            nn.Conv2d(3, width, 5, 2, 2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 2 * width, 5, 2, 2),
            nn.LeakyReLU(0.1),
            nn.Conv2d(2 * width, deep, 5, 2, 2),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            nn.Linear(deep * self.grid**2, code),
        )
        self.deep = deep
        self.own_weight = nn.Parameter(torch.randn(people, code, deep * self.grid**2) * code**-0.5)
        self.own_bias = nn.Parameter(torch.zeros(people, deep * self.grid**2))
        self.draw = nn.Sequential(
            nn.LeakyReLU(0.1),
            nn.Conv2d(deep, 8 * width, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.PixelShuffle(2),
            nn.Conv2d(2 * width, 4 * width, 3, 1, 1),
            nn.LeakyReLU(0.1),
            nn.PixelShuffle(2),
            nn.Conv2d(width, 12, 3, 1, 1),
            nn.PixelShuffle(2),
        )

    def forward(self, image: Tensor, person: Tensor) -> Tensor:
        """Return the faces as the given people would look.

        Shape:
            image: (B, 3, S, S) in [0, 1]. person: (B,) int64. Returns (B, 3, S, S), about [0, 1].
        """
        return self.decode(self.encode(image - 0.5), person)

    def decode(self, code: Tensor, person: Tensor) -> Tensor:
        """Draw codes (B, code) as the given people (B,) would look; see `forward`."""
        own = torch.bmm(code[:, None], self.own_weight[person])[:, 0] + self.own_bias[person]
        drawn: Tensor = self.draw(own.view(-1, self.deep, self.grid, self.grid))
        return drawn + 0.5

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Take over what everybody shares, and the average person as everybody's own part."""
        weights = dict(weights)
        for name in ("own_weight", "own_bias"):
            people = getattr(self, name).shape[0]
            weights[name] = weights[name].mean(0, keepdim=True).expand(people, *weights[name].shape[1:])
        self.load_state_dict(weights)


class Bottleneck(nn.Module):
    """Face in, the same face out through a narrow place, enlarged by transposed convolutions.

    Kernel 3 with stride 2 overlaps unevenly and leaves the checkerboard of early generators (Odena et al.,
    "Deconvolution and checkerboard artifacts", 2016).

    Args:
        width: Channels at half size.
        code: Channels at a sixteenth of the size.
    """

    def __init__(self, *, width: int = 20, code: int = 24) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv2d(3, width, 4, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(2 * width, 3 * width, 4, 2, 1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(3 * width, code, 4, 2, 1),
        )
        self.decode = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 3, 2, 1, output_padding=1)
            for a, b in ((code, 3 * width), (3 * width, 2 * width), (2 * width, width), (width, 3))
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the re-made faces.

        Shape:
            image: (B, 3, S, S) in [0, 1], S a multiple of 16. Returns the same, about [0, 1].
        """
        x = self.encode(image - 0.5)  # (B, code, S/16, S/16)
        for number, layer in enumerate(self.decode):
            x = layer(F.leaky_relu(x, 0.1) if number else x)  # twice the side
        made: Tensor = x + 0.5
        return made


class Adam:
    """Kingma & Ba, "Adam: a method for stochastic optimization", ICLR 2015, algorithm 1.

    The first optimizer of `torch.optim` that a process makes imports PyTorch's compiler, which takes longer
    than a small network trains.

    Args:
        weights: What is trained.
        betas: Decay of the mean and of the mean square of the gradients.
        epsilon: Added to the root of the mean square.
    """

    def __init__(
        self, weights: Iterable[Tensor], *, betas: tuple[float, float] = (0.9, 0.99), epsilon: float = 1e-8
    ) -> None:
        self.betas, self.epsilon, self.steps = betas, epsilon, 0
        self.moments = [(w, torch.zeros_like(w), torch.zeros_like(w), torch.empty_like(w)) for w in weights]

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Move the weights by their gradients, and forget those."""
        self.steps += 1
        fade, fade_square = (1 - beta**self.steps for beta in self.betas)
        for weight, mean, square, root in self.moments:
            gradient = weight.grad
            if gradient is None:
                continue
            mean.lerp_(gradient, 1 - self.betas[0])
            square.mul_(self.betas[1]).addcmul_(gradient, gradient, value=1 - self.betas[1])
            torch.sqrt(square, out=root).add_(self.epsilon * fade_square**0.5)
            weight.addcdiv_(mean, root, value=-rate * fade_square**0.5 / fade)
            weight.grad = None
