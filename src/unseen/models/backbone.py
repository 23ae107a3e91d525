"""From a face picture to features: any network of timm, asked in one way.

A backbone owns its mean and standard deviation, so that pictures cross every border of `unseen`
un-normalised and training and serving cannot differ.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unseen.types import Explanation, FaceBatch, FaceRecord, Features, InputError

__all__ = ["Backbone", "TimmBackbone"]

log = logging.getLogger(__name__)


class Backbone(nn.Module):
    """What parts and heads are attached to.

    Args:
        channels: C of the feature map.
        dim: D of the feature vector.
        image_size: Height and width of the square input, in pixels.
        mean: Per RGB channel, of pictures in [0, 1].
        std: Per RGB channel, of pictures in [0, 1].
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, dim: int, image_size: int, *, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise InputError(
                f"{type(self).__name__}: mean {list(mean)} and std {list(std)}; expected three numbers each "
                "(red, green, blue of pictures in [0, 1]), std above 0"
            )
        self.channels = channels
        self.dim = dim
        self.image_size = image_size
        # Saved with the weights: a later version of timm may state other numbers.
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def normalize(self, image: Tensor) -> Tensor:
        """Bring a picture to what the network was trained on.

        Shape:
            image: (B, 3, H, W), uint8 in 0..255 or float in [0, 1] -> (B, 3, H, W) float.
        """
        if image.dtype == torch.uint8:
            image = image.to(self.mean.dtype) / 255
        return (image - self.mean) / self.std

    def forward(self, image: Tensor) -> Features:
        """See a batch of faces.

        Shape:
            image: (B, 3, H, W), not normalised -> map (B, C, h, w), vector (B, D).
        """
        raise NotImplementedError

    def see(self, batch: FaceBatch) -> Features:
        """See a batch with all that it carries: for a backbone that uses more than the pictures."""
        features: Features = self(batch.image)
        return features

    def check(self, records: Sequence[FaceRecord], made: Sequence[str] = ()) -> None:
        """Refuse, before training begins, what cannot be learned from or with.

        Args:
            records: The rows.
            made: Methods of fakes that are made of them while training.
        """

    def explain(self, image: Tensor) -> list[list[Explanation]]:
        """Return the backbone's own evidence, one list a picture: empty unless a subclass has some."""
        return [[] for _ in range(image.shape[0])]


class TimmBackbone(Backbone):
    """Any image network of timm (https://github.com/huggingface/pytorch-image-models).

    Convolutional and channels-last networks give their last map and its mean. Vision transformers give their
    patch tokens as the map, and as the vector the class token if the network was designed to be read from
    it, else the mean of the patch tokens.

    Args:
        name: A name that `timm.list_models()` knows, such as `tf_efficientnet_b4`.
        image_size: Side of the input in pixels; the network's own when left out.
        pretrained: Fetch the weights that timm links to (needs a network connection once).
        drop_rate: Dropout inside the network, 0 to 1.
        drop_path_rate: Stochastic depth, 0 to 1, for networks that have it.
        mean: Overrides the mean that timm states, RGB in [0, 1].
        std: Overrides the standard deviation that timm states, RGB in [0, 1].
        mirror: Outside training, see each picture and its mirror image and average what is seen: twice the
            time. Behind it a linear head gives the mean of both scores.

    Example:
        >>> backbone = TimmBackbone("test_resnet", image_size=64)
        >>> backbone.channels, backbone.dim
        (96, 96)
    """

    def __init__(
        self,
        name: str,
        *,
        image_size: int | None = None,
        pretrained: bool = False,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        mirror: bool = False,
    ) -> None:
        timm = _import_timm()
        if not timm.is_model(name):
            near = timm.list_models(f"*{name.split('.')[0]}*")[:5]
            hint = (
                f"did you mean {', '.join(near)}?" if near else "`timm.list_models('*resnet*')` lists names"
            )
            raise InputError(f"TimmBackbone: timm {timm.__version__} has no network {name!r}; {hint}")
        name = _current_name(timm, name)
        config = timm.get_pretrained_cfg(name)
        own_size = int(config.input_size[-1])
        size = own_size if image_size is None else image_size
        options: dict[str, Any] = {"drop_rate": drop_rate} if drop_rate else {}
        if drop_path_rate:
            options["drop_path_rate"] = drop_path_rate
        if config.fixed_input_size and size != own_size:
            options["img_size"] = size
        net = _create(timm, name, size, pretrained, options)
        if name.startswith("vgg"):
            net.pre_logits = nn.Identity()  # its two wide layers would flatten the (512, 7, 7) map
        shape = _probe(net, name, size)
        tokens = len(shape) == 3
        channels_last = not tokens and str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")
        channels = shape[-1] if tokens or channels_last else shape[1]
        super().__init__(channels, channels, size, mean=mean or config.mean, std=std or config.std)
        self.name = name
        self.mirror = mirror
        self.net = net
        self._channels_last = channels_last
        self._prefix: int | None = int(getattr(net, "num_prefix_tokens", 0)) if tokens else None
        self._class_token = tokens and self._prefix != 0 and _pools_by_token(timm, name)

    def forward(self, image: Tensor) -> Features:
        """See a batch of faces; see `Backbone.forward`."""
        image = self.normalize(image)
        if self.training or not self.mirror:
            return self._seen(image)
        both = self._seen(torch.cat([image, image.flip(3)]))
        count = image.shape[0]
        grid, mirrored = both.map[:count], both.map[count:]
        vector, other = both.vector[:count], both.vector[count:]
        return Features((grid + mirrored.flip(3)) / 2, (vector + other) / 2)

    def _seen(self, image: Tensor) -> Features:
        seen: Tensor = self.net(image)
        if self._prefix is None:
            grid = seen.permute(0, 3, 1, 2) if self._channels_last else seen  # (B, C, h, w)
            return Features(grid, grid.mean((2, 3)))
        patches = seen[:, self._prefix :]  # (B, h * w, C)
        side = int(patches.shape[1] ** 0.5)
        grid = patches.transpose(1, 2).reshape(len(seen), -1, side, side)  # (B, C, h, w)
        return Features(grid, seen[:, 0] if self._class_token else patches.mean(1))


def _import_timm() -> Any:
    """Import timm when the first network is built: it pulls torchvision and costs seconds."""
    import timm

    return timm


def _current_name(timm: Any, name: str) -> str:
    """Return what timm calls a network today: of `xception` and other names it gave up it has no settings."""
    if timm.get_pretrained_cfg(name) is not None:
        return name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ours says the same, and says it in a log
        config = timm.create_model(name).pretrained_cfg
    current = ".".join(filter(None, [config["architecture"], config.get("tag")]))
    log.warning("timm has renamed the network %s to %s", name, current)
    return current


def _create(timm: Any, name: str, size: int, pretrained: bool, options: dict[str, Any]) -> Any:
    try:
        # No classes, no pooling: heads are ours, and one that no loss reaches stops distributed training.
        return timm.create_model(name, pretrained=pretrained, num_classes=0, global_pool="", **options)
    except (TypeError, AssertionError, ValueError) as error:
        raise InputError(
            f"TimmBackbone: {name} cannot be built with image_size={size} and "
            f"{options or 'no options'}: {error}"
        ) from error
    except (OSError, RuntimeError) as error:
        if not pretrained:
            raise
        raise InputError(
            f"TimmBackbone: the pretrained weights of {name} could not be fetched ({error}); connect to the "
            "network once, or give `pretrained: false` and `init:` with a file",
            reason="missing",
        ) from error


@torch.no_grad()
def _probe(net: Any, name: str, size: int) -> tuple[int, ...]:
    """Ask the network itself what it gives; timm's `num_features` is not always true."""
    net.eval()
    try:
        shape = tuple(net(torch.zeros(1, 3, size, size)).shape)
    except (RuntimeError, AssertionError, ValueError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"TimmBackbone: {name} cannot take pictures of {size} x {size} pixels ({first}); "
            "give another image_size, or leave it out for the network's own"
        ) from error
    net.train()
    if len(shape) not in (3, 4) or min(shape) < 1:
        raise InputError(
            f"TimmBackbone: {name} gives features of shape {shape} for {size} x {size} pixels; expected "
            "a map (B, C, h, w) or tokens (B, N, C)"
        )
    return shape


def _pools_by_token(timm: Any, name: str) -> bool:
    """Whether the network, as designed, is read from its class token."""
    with torch.device("meta"):  # no memory, no arithmetic: only the attribute is wanted
        return bool(getattr(timm.create_model(name), "global_pool", "") == "token")
