"""A detector has slots: a backbone, parts in order, and a head. A method is a filling of the slots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from unseen.models.backbone import Backbone
from unseen.types import Explanation, FaceBatch, FaceRecord, Features, Output

__all__ = ["Detector", "Head", "Part", "Trainable"]


class Trainable(Protocol):
    """What the learner can train."""

    def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Every term to be summed, by name, each a scalar."""
        ...


class Part(nn.Module):
    """Something between the backbone and the head that changes features, adds a loss, or watches.

    A subclass is constructed as `SomePart(backbone, *, ...)`; it reads `backbone.channels`, `dim` and
    `image_size` and does not keep the backbone.
    """

    def forward(self, features: Features) -> tuple[Features, Any]:
        """Return the features that the next part sees, and whatever `losses` and `explain` need."""
        raise NotImplementedError

    def losses(self, aux: Any, batch: FaceBatch) -> dict[str, Tensor]:
        """Return this part's terms by name, already weighted; an empty dict for none."""
        return {}

    def check(self, records: Sequence[FaceRecord], made: Sequence[str] = ()) -> None:
        """Refuse, before training begins, rows that this part cannot learn from.

        Args:
            records: The rows.
            made: Methods of fakes that are made of them while training.
        """

    def progress(self, share: float) -> None:
        """Hear, before each optimizer step, which share of the run's steps is done, from 0 to below 1.

        For what changes in the course of training. It is the same number again after a resume.
        """

    def numbers(self) -> dict[str, Tensor]:
        """Return scalars by name that are worth a line in the log of training but are no losses."""
        return {}

    def explain(self, aux: Any) -> list[list[Explanation]]:
        """Return the evidence of this part, one list a picture; an empty list for none at all."""
        return []


class Head(nn.Module):
    """From features to logits, and from logits to one score.

    A subclass is constructed as `SomeHead(backbone, *, ...)`.
    """

    def forward(self, features: Features) -> Tensor:
        """Return the logits.

        Shape:
            features of B faces -> (B, K).
        """
        raise NotImplementedError

    def log_odds(self, logits: Tensor) -> Tensor:
        """Return the log-odds of fake.

        Shape:
            logits: (B, K) -> (B,).
        """
        raise NotImplementedError

    def losses(self, logits: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        """Return this head's terms by name, already weighted."""
        raise NotImplementedError


class Detector(nn.Module):
    """Backbone, parts in the order of the list, head.

    Args:
        backbone: Sees the picture.
        head: A built head, or anything that makes one when it is handed the backbone.
        parts: Built parts, or makers of parts, applied from first to last.

    Example:
        >>> from unseen.models.backbone import TimmBackbone
        >>> from unseen.models.heads import BinaryHead
        >>> detector = Detector(TimmBackbone("test_resnet", image_size=64), BinaryHead)
    """

    def __init__(
        self,
        backbone: Backbone,
        head: Head | Callable[[Backbone], Head],
        parts: Sequence[Part | Callable[[Backbone], Part]] = (),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.parts = nn.ModuleList(part if isinstance(part, Part) else part(backbone) for part in parts)
        self.head: Head = head if isinstance(head, Head) else head(backbone)

    @property
    def image_size(self) -> int:
        """Side of the square input, in pixels."""
        return self.backbone.image_size

    def forward(self, image: Tensor) -> Output:
        """Judge a batch of faces.

        Shape:
            image: (B, 3, H, W) RGB, uint8 or float in [0, 1], not normalised.
        """
        return self.judge(self.backbone(image))

    def output(self, batch: FaceBatch) -> Output:
        """Judge a batch, with what it carries besides the pictures; see `Backbone.see`."""
        return self.judge(self.backbone.see(batch))

    def judge(self, features: Features) -> Output:
        """Everything behind the backbone: parts, then head."""
        aux: list[Any] = []
        for part in self.parts:
            features, seen = part(features)
            aux.append(seen)
        logits: Tensor = self.head(features)  # (B, K)
        return Output(logits, self.head.log_odds(logits), features, tuple(aux))

    def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
        """Return every term of every part and of the head, by name; the caller only sums."""
        return self.losses_of(self.output(batch), batch)

    def losses_of(self, output: Output, batch: FaceBatch) -> dict[str, Tensor]:
        """Return the terms of an output that was computed already."""
        terms: dict[str, Tensor] = dict(self.head.losses(output.logits, batch))
        for part, aux in zip(self.parts, output.aux, strict=True):
            assert isinstance(part, Part)
            _add(terms, part.losses(aux, batch))
        return terms

    def numbers(self) -> dict[str, Tensor]:
        """Return every number of every part by name; they are logged, not summed."""
        found: dict[str, Tensor] = {}
        for part in self.parts:
            assert isinstance(part, Part)
            _add(found, part.numbers())
        return found

    def check(self, records: Sequence[FaceRecord], made: Sequence[str] = ()) -> None:
        """Let the backbone and each part refuse rows that they cannot learn from; see `Part.check`."""
        self.backbone.check(records, made)
        for part in self.parts:
            assert isinstance(part, Part)
            part.check(records, made)

    def progress(self, share: float) -> None:
        """Tell each part which share of the training steps is done; whoever trains calls it before a step."""
        for part in self.parts:
            assert isinstance(part, Part)
            part.progress(share)

    @property
    def explains(self) -> bool:
        """Whether the backbone or any part has evidence of its own."""
        owners: list[tuple[nn.Module, type]] = [(self.backbone, Backbone), *((p, Part) for p in self.parts)]
        return any(type(owner).explain is not kind.explain for owner, kind in owners)  # type: ignore[attr-defined]

    def explain(self, image: Tensor) -> list[list[Explanation]]:
        """Return the evidence of the backbone and of each part, one list a picture."""
        found = self.backbone.explain(image)
        output = self(image)
        for part, aux in zip(self.parts, output.aux, strict=True):
            assert isinstance(part, Part)
            for known, new in zip(found, part.explain(aux), strict=False):
                known.extend(new)
        return found


def _add(terms: dict[str, Tensor], new: dict[str, Tensor]) -> None:
    """Two of the same part are allowed; what they tell must not overwrite each other."""
    for name, value in new.items():
        key = name
        while key in terms:
            key += "'"
        terms[key] = value
