"""CADDM, the ID-unaware model: forgeries are found as boxes, so that nobody's identity helps to tell them.

Dong et al., *Implicit Identity Leakage: The Stumbling Block to Improving Deepfake Detection Generalization*,
CVPR 2023. Two pieces: `MultiScaleSwap` (their multi-scale facial swap, section 4.2, eq. 1 and 2) makes fakes
whose forged part is known, and `ArtifactDetector` (their artifact detection module, section 4.1, eq. 3 to 5)
finds it. The arithmetic of boxes is in `unseen.models.anchors`, that of pictures in `unseen.data.structure`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from unseen.data.structure import densest_window, dssim
from unseen.data.swap import MultiScaleSwap
from unseen.explain.boxes import MOST, OVERLAP, THRESHOLD, suppress
from unseen.models.anchors import SIDES, anchors, assign, decode, detection_loss, match
from unseen.models.backbone import Backbone
from unseen.models.detector import Part
from unseen.types import Explanation, FaceBatch, Features, InputError

__all__ = [
    "ArtifactDetector",
    "Found",
    "MultiScaleSwap",
    "anchors",
    "decode",
    "densest_window",
    "detection_loss",
    "dssim",
    "match",
]


class Found(NamedTuple):
    """What the detector says of each anchor.

    Shape:
        offsets: (B, 168, 4), see `anchors.encode`. logits: (B, 168, 2), genuine and fake.
    """

    offsets: Tensor
    logits: Tensor


class ArtifactDetector(Part):
    """The artifact detection module: a single-shot detector of forged regions on the backbone's last map.

    Four extra layers see it at 7 x 7, 5 x 5, 3 x 3 and 1 x 1 cells; each says of two anchors a cell how far
    they are from a forged region and whether they show one. The last one's feature is added to the
    backbone's vector, so that the verdict knows of local artifacts. Every fake has the whole picture as a
    region, and those of `FaceBatch.regions` besides (`MultiScaleSwap` and `SelfBlend` know theirs).

    Args:
        backbone: What it is attached to; for 224 pixels and a stride of 32, which makes a map of 7 x 7.
        weight: beta of eq. 5, of both detection losses.
        channels: Width of the extra layers; None for the backbone's own, as printed. EfficientNet-B4's 1792
            make 270 million weights; 256 bring a 1 x 1 reduction in front and a linear layer behind.
        genuine_negatives: Anchors of each *real* picture that must learn to be genuine, the hardest first.
            0 as in the public code, where reals add nothing; the paper's text can be read as K > 0.
        negatives: Genuine anchors to each forged one of the same picture.
        matching: Least overlap of an anchor with the region that it is responsible for.
        grid: `paper` wants a map of 7 x 7 and says which picture size gives it; `adapt` resizes any map.
        transpose_boxes: For weights of the public code, which learned boxes with x and y exchanged.
        threshold: Boxes below this probability are not shown.
        overlap: Of two boxes that overlap by more, the less certain is not shown.
        most: Boxes that are shown of a picture, at most.
    """

    anchors: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        weight: float = 0.1,
        channels: int | None = None,
        genuine_negatives: int = 0,
        negatives: int = 2,
        matching: float = 0.5,
        grid: Literal["paper", "adapt"] = "paper",
        transpose_boxes: bool = False,
        threshold: float = THRESHOLD,
        overlap: float = OVERLAP,
        most: int = MOST,
    ) -> None:
        super().__init__()
        if grid not in ("paper", "adapt"):
            raise InputError(f"ArtifactDetector: grid {grid!r}; expected paper or adapt")
        if weight < 0 or negatives < 0 or genuine_negatives < 0:
            raise InputError("ArtifactDetector: weight, negatives and genuine_negatives must not be negative")
        if channels is not None and channels < 1:
            raise InputError(f"ArtifactDetector: channels {channels}; expected at least 1, or null")
        if not 0 < matching <= 1:
            raise InputError(f"ArtifactDetector: matching {matching}; expected an overlap above 0, at most 1")
        self.weight, self.genuine_negatives, self.negatives = weight, genuine_negatives, negatives
        self.matching, self.grid, self.transpose_boxes = matching, grid, transpose_boxes
        self.threshold, self.overlap, self.most = threshold, overlap, most
        self.image_size = backbone.image_size
        width = channels or backbone.channels
        self.reduce = nn.Identity() if channels is None else nn.Conv2d(backbone.channels, width, 1)
        self.layers = nn.ModuleList(
            [_Shrink(width, 1), _Shrink(width, 3), _Shrink(width, 3), _Whole(width)]  # 7, 5, 3, 1 cells
        )
        kernels = [3 if side > 1 else 1 for side in SIDES]
        self.boxes = nn.ModuleList(nn.Conv2d(width, 2 * 4, k, padding=k // 2) for k in kernels)
        self.classes = nn.ModuleList(nn.Conv2d(width, 2 * 2, k, padding=k // 2) for k in kernels)
        self.widen = nn.Identity() if width == backbone.dim else nn.Linear(width, backbone.dim)
        self.register_buffer("anchors", anchors(), persistent=False)

    def forward(self, features: Features) -> tuple[Features, Found]:
        """Return the features with the vector enlarged by what the last layer saw, and the boxes."""
        seen = self.reduce(self._fit(features.map))
        offsets, logits = [], []
        for layer, box, kind in zip(self.layers, self.boxes, self.classes, strict=True):
            seen = layer(seen)
            offsets.append(box(seen).permute(0, 2, 3, 1).flatten(1))  # (B, side * side * 2 * 4)
            logits.append(kind(seen).permute(0, 2, 3, 1).flatten(1))
        count = len(seen)
        found = Found(torch.cat(offsets, 1).view(count, -1, 4), torch.cat(logits, 1).view(count, -1, 2))
        return Features(features.map, features.vector + self.widen(seen.flatten(1))), found

    def _fit(self, map: Tensor) -> Tensor:
        """Return the map with 7 x 7 cells, or say what would give them."""
        height, width = map.shape[2:]
        side = SIDES[0]
        if (height, width) == (side, side):
            return map
        if self.grid == "adapt":
            return functional.interpolate(map, (side, side), mode="bilinear", align_corners=False)
        stride = max(1, round(self.image_size / max(height, 1)))
        raise InputError(
            f"ArtifactDetector: pictures of {self.image_size} pixels give this backbone a map of {height} x "
            f"{width} cells; expected 7 x 7, as image_size {side * stride} would give with its stride of "
            f"{stride}; give `image_size: {side * stride}` to the backbone and to AlignFace, or "
            "`grid: adapt` to ArtifactDetector",
            reason="size",
        )

    def losses(self, aux: Found, batch: FaceBatch) -> dict[str, Tensor]:
        """Return the weighted losses of places and of classes, eq. 3 and 4."""
        offsets, fake = self.targets(batch)
        location, confidence = detection_loss(
            aux.offsets.float(),
            aux.logits.float(),
            offsets,
            fake,
            negatives=self.negatives,
            genuine_negatives=self.genuine_negatives,
        )
        return {"location": self.weight * location, "confidence": self.weight * confidence}

    @torch.no_grad()
    def targets(self, batch: FaceBatch) -> tuple[Tensor, Tensor]:
        """Return what each anchor should say, for the whole batch at once, on its device.

        Shape:
            offsets (B, 168, 4), fake (B, 168) bool.
        """
        height, width = batch.image.shape[2:]
        boxes = self.anchors.new_zeros(len(batch), 1, 4)
        boxes[..., 2:] = 1  # the whole picture
        if batch.regions is not None and any(len(region) for region in batch.regions):
            pixels = pad_sequence(batch.regions, batch_first=True)  # (B, M, 4), padded with zeros
            parts = torch.stack([pixels[..., 0::2] / width, pixels[..., 1::2] / height], -1).flatten(-2)
            boxes = torch.cat([boxes, parts.to(boxes)], 1)
        boxes = (
            boxes * (batch.label == 1)[:, None, None]
        )  # a real has no region: boxes without area count not
        if self.transpose_boxes:
            boxes = boxes[..., [1, 0, 3, 2]]
        return assign(boxes, self.anchors, threshold=self.matching)

    def decoded(self, aux: Found) -> tuple[Tensor, Tensor]:
        """Return every anchor's box and its probability of being forged.

        Shape:
            (B, 168, 4) xyxy in parts of the picture, over its edge if need be; (B, 168).
        """
        boxes = decode(aux.offsets.float(), self.anchors)
        if self.transpose_boxes:
            boxes = boxes[..., [1, 0, 3, 2]]
        return boxes, aux.logits.float().softmax(-1)[..., 1]

    @torch.no_grad()
    def explain(self, aux: Found) -> list[list[Explanation]]:
        """Return the forged regions that were found, the most certain first, in pixels of the input."""
        boxes, scores = (value.cpu().numpy() for value in self.decoded(aux))
        size = (float(self.image_size), float(self.image_size))
        kept = [
            suppress(
                one * self.image_size,
                score,
                size,
                threshold=self.threshold,
                overlap=self.overlap,
                most=self.most,
            )
            for one, score in zip(boxes, scores, strict=True)
        ]
        return [[Explanation("regions", boxes=one, scores=score)] for one, score in kept]


class _Shrink(nn.Module):
    """A residual block without padding: a 3 x 3 kernel takes a cell off each side, a 1 x 1 none."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, kernel)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.skip = nn.Sequential(nn.Conv2d(width, width, kernel, bias=False), nn.BatchNorm2d(width))

    def forward(self, map: Tensor) -> Tensor:
        within = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(map)))))
        return functional.relu(within + self.skip(map))


class _Whole(nn.Module):
    """From 3 x 3 cells to one; no batch norm, which could not work on a batch of one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3)
        self.conv2 = nn.Conv2d(width, width, 1)
        self.skip = nn.Conv2d(width, width, 3)

    def forward(self, map: Tensor) -> Tensor:
        return functional.relu(self.conv2(functional.relu(self.conv1(map))) + self.skip(map))
