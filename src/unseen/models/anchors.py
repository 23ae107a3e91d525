"""Anchor boxes: where they lie, which of them answers for a box, and the loss of a single-shot detector.

Liu et al., *SSD: Single Shot MultiBox Detector*, ECCV 2016, with the anchors of Dong et al., CVPR 2023.
Boxes are x0 y0 x1 y1, anchors cx cy w h, both in parts of the picture. x is always a column: the public
code of the second paper hands over rows first, and so learns transposed boxes.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["SIDES", "anchors", "assign", "corners", "decode", "detection_loss", "encode", "match"]

SIDES = (7, 5, 3, 1)  # cells along each side of the four maps
_STEPS = (32, 45, 75, 224)  # pixels of 224 between centres; 45 and 75 are not quite 224 / 5 and 224 / 3
_SIZES = ((40, 80), (80, 120), (120, 160), (224, 224))  # pixels of 224, short and long side
_WHOLE = 224
_VARIANCES = (0.1, 0.2)  # units of centre offsets and of logarithmic sizes


@cache
def _made() -> Tensor:
    rows = []
    for side, step, (short, long) in zip(SIDES, _STEPS, _SIZES, strict=True):
        for row in range(side):
            for column in range(side):
                x, y = (column + 0.5) * step, (row + 0.5) * step
                rows += [(x, y, short, long), (x, y, long, short)]
    # The device is said because a network may be built on "meta", whose tensors hold no numbers.
    return torch.tensor(rows, dtype=torch.float64, device="cpu").div_(_WHOLE).float()


def anchors() -> Tensor:
    """Return the 168 anchors: maps of 7, 5, 3 and 1 cells a side, then row, column, tall before wide.

    Shape:
        (168, 4): centre x, centre y, width, height, in [0, 1].
    """
    return _made().clone()


def corners(boxes: Tensor) -> Tensor:
    """Bring (cx, cy, w, h) to (x0, y0, x1, y1). Shape: (..., 4) to (..., 4)."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def _overlap(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union. Shape: (B, M, 4) and (A, 4), both corners, to (B, M, A)."""
    # Column by column: reductions over two numbers would cost more than all the rest.
    x0, y0, x1, y1 = boxes[..., None].unbind(2)  # (B, M, 1)
    u0, v0, u1, v1 = others.unbind(1)  # (A,)
    width = (torch.minimum(x1, u1) - torch.maximum(x0, u0)).clamp_min_(0)
    height = (torch.minimum(y1, v1) - torch.maximum(y0, v0)).clamp_min_(0)
    both = width.mul_(height)
    either = ((x1 - x0) * (y1 - y0) + (u1 - u0) * (v1 - v0)).sub_(both)
    return both.div_(either.clamp_min_(1e-12))


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Say where boxes lie as seen from anchors, in units of 0.1 anchor and of 0.2 in the logarithm.

    Shape:
        boxes: (..., A, 4) xyxy. anchors: (A, 4) -> (..., A, 4).
    """
    return _seen_from(_described(boxes), anchors)


def _described(boxes: Tensor) -> Tensor:
    """Centres and logarithms of sizes. Shape: (..., 4) xyxy to (..., 4)."""
    size = (boxes[..., 2:] - boxes[..., :2]).clamp_min(1e-6)
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, size.log()], -1)


def _seen_from(described: Tensor, anchors: Tensor) -> Tensor:
    unit = torch.cat([_VARIANCES[0] * anchors[:, 2:], torch.full_like(anchors[:, 2:], _VARIANCES[1])], 1)
    origin = torch.cat([anchors[:, :2], anchors[:, 2:].log()], 1)
    return (described - origin) / unit


def decode(box_offsets: Tensor, anchors: Tensor) -> Tensor:
    """Undo `encode`; boxes may reach over the picture's edge.

    Shape:
        box_offsets: (..., A, 4). anchors: (A, 4) -> (..., A, 4) xyxy.
    """
    centre = anchors[:, :2] + _VARIANCES[0] * box_offsets[..., :2] * anchors[:, 2:]
    # An untrained network may say anything; what is 20,000 times an anchor is large enough.
    size = anchors[:, 2:] * (_VARIANCES[1] * box_offsets[..., 2:]).clamp_max(10).exp()
    return corners(torch.cat([centre, size], -1))


def assign(boxes: Tensor, anchors: Tensor, *, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Assign anchors to the boxes of a whole batch, without a word to the host.

    Args:
        boxes: Padded with boxes of no area, which are ignored wherever they stand.
        anchors: As `anchors()` gives them.
        threshold: An anchor that overlaps its best box by at least so much is positive.

    Returns:
        Offsets of every anchor to its best box, 0 where a picture has none, and which anchors are positive.

    Shape:
        boxes: (B, M, 4) xyxy in [0, 1]. anchors: (A, 4) -> (B, A, 4), (B, A) bool.
    """
    count, many, slots = len(boxes), boxes.shape[1], len(anchors)
    boxes = boxes.to(anchors)
    if many == 0:
        return boxes.new_zeros(count, slots, 4), torch.zeros(
            count, slots, dtype=torch.bool, device=boxes.device
        )
    there = (boxes[..., 2:] > boxes[..., :2]).all(-1)  # (B, M)
    overlap = _overlap(boxes, corners(anchors)).sub_((~there).to(boxes.dtype)[..., None])  # (B, M, A)
    closest = overlap.argmax(-1)  # (B, M)
    best, owner = overlap[:, 0].clone(), torch.zeros(count, slots, dtype=torch.long, device=boxes.device)
    for m in range(1, many):  # a loop rather than `max`, so that the first of equals wins on any device
        owner = torch.where(overlap[:, m] > best, m, owner)
        best = torch.maximum(best, overlap[:, m])
    for m in range(many):  # each box gets the anchor closest to it; of two that want the same, the later one
        place, real = closest[:, m, None], there[:, m, None]  # (B, 1)
        best.scatter_(1, place, torch.where(real, 2, best.gather(1, place)))
        owner.scatter_(1, place, torch.where(real, m, owner.gather(1, place)))
    chosen = _described(boxes).gather(1, owner[..., None].expand(-1, -1, 4))  # (B, A, 4)
    offsets = _seen_from(chosen, anchors) * there.any(1)[:, None, None]
    return offsets, best >= threshold


def match(boxes: Tensor, anchors: Tensor, *, threshold: float = 0.5) -> tuple[Tensor, Tensor]:
    """Assign anchors to the boxes of one picture; see `assign`.

    Args:
        boxes: Forged regions; ones without area are ignored.
        anchors: As `anchors()` gives them.
        threshold: Least intersection over union of a positive anchor. The anchor closest to a box is positive
            in any case.

    Returns:
        Offsets of every anchor to its best box, and which anchors are positive (fake).

    Shape:
        boxes: (M, 4) xyxy in [0, 1]. anchors: (A, 4) -> (A, 4), (A,) bool.
    """
    offsets, fake = assign(boxes[None], anchors, threshold=threshold)
    return offsets[0], fake[0]


def detection_loss(
    box_offsets: Tensor,
    class_logits: Tensor,
    offsets: Tensor,
    fake: Tensor,
    *,
    negatives: int = 2,
    genuine_negatives: int = 0,
) -> tuple[Tensor, Tensor]:
    """Return the losses of places and of classes, each a sum over anchors divided by the positive ones.

    Classes are judged on the positive anchors and, in each picture, on the `negatives` times as many others
    that look most like forgeries (hard negative mining). A picture without positives therefore adds nothing,
    unless `genuine_negatives` says otherwise.

    Args:
        box_offsets: Predicted, of every anchor.
        class_logits: Predicted; genuine, fake.
        offsets: Wanted, from `assign`.
        fake: Positive anchors, from `assign`.
        negatives: Negative anchors to each positive one of the same picture.
        genuine_negatives: Negative anchors of a picture that has no positive one.

    Returns:
        Location (smooth L1, beta 1) and confidence (cross entropy). With no positive anchor in the batch the
        first is 0, and the second a mean over the mined anchors, or 0; both stay on the graph.

    Shape:
        box_offsets, offsets: (B, A, 4). class_logits: (B, A, 2). fake: (B, A) -> two scalars.
    """
    fake = fake.bool()
    wanted = fake.to(box_offsets.dtype)
    positives = fake.sum(1)  # (B,)
    distance = functional.smooth_l1_loss(box_offsets, offsets, reduction="none").sum(-1)  # (B, A)
    # Two classes: cross entropy is softplus of the wrong class's lead.
    lead = class_logits[..., 1] - class_logits[..., 0]
    entropy = functional.softplus(torch.where(fake, -lead, lead))  # (B, A)
    # Sorted, the hardest come first; which of equals is taken does not change the sum.
    hardest = entropy.masked_fill(fake, 0).sort(1, descending=True).values
    mined = (negatives * positives).clamp_max(fake.shape[1] - 1)
    mined = torch.where(positives > 0, mined, genuine_negatives)
    taken = torch.arange(fake.shape[1], device=fake.device) < mined[:, None]
    total = positives.sum()
    count = torch.where(total > 0, total, mined.sum().clamp_min(1)).to(box_offsets.dtype)
    location = (distance * wanted).sum() / count
    confidence = ((entropy * wanted).sum() + (hardest * taken).sum()) / count
    return location, confidence
