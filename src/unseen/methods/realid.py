"""RealID: concepts of real faces kept in a memory, and decisions that do not lean on being unlike a fake.

Liu et al., *Learning Real Facial Concepts for Independent Deepfake Detection*, IJCAI 2025. There is no public
code; where the paper is silent, docs/methods/realid.md says what we chose and why.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.models.backbone import Backbone
from unseen.models.detector import Detector, Head, Part
from unseen.models.heads import weighted_mean
from unseen.models.precision import at_least_single
from unseen.models.processes import gather_rows
from unseen.models.prototypes import by_similarity, fill_farthest, refuse_broken
from unseen.types import Explanation, FaceBatch, FaceRecord, Features, InputError, Label, Output

__all__ = [
    "DualDecisionHead",
    "RealMemory",
    "decision_regularizer",
    "distinction",
    "diversity",
    "real_concepts",
    "update_prototypes",
]

Denominator = Literal["real", "fake", "all"]
Reduction = Literal["sum", "mean"]
Init = Literal["uniform", "features"]


# --- the paper's equations --------------------------------------------------------------------------------


def update_prototypes(prototypes: Tensor, features: Tensor) -> Tensor:
    """Move each prototype towards the features that are nearest to it, eq. 2 to 6.

    Neither softmax of the paper is computed: the one over prototypes (eq. 2) keeps the order of the dot
    products s, and of the one over features (eq. 3) eq. 6 keeps only the ratio to the largest of the set,
    exp(s - max s). Of equally near prototypes the first counts.

    Returns:
        The new prototypes, rows of unit length, in the dtype given. One that no feature is nearest to keeps
        its direction.

    Shape:
        prototypes: (K, D). features: (N, D) -> (K, D).
    """
    if not len(features):
        return functional.normalize(prototypes, dim=1)
    return _update(at_least_single(prototypes)[None], at_least_single(features), None)[0][0].to(
        prototypes.dtype
    )


def distinction(features: Tensor, real: Tensor, fake: Tensor, *, denominator: Denominator = "real") -> Tensor:
    """Pull real features to their prototype and the mean of the real ones, away from the rest, eq. 7 and 8.

    The mean's term of the numerator is missing in the printed denominator, so the value may be below 0, but
    never below -log 2 as long as `denominator` holds the real prototypes.

    Args:
        features: Of real faces.
        real: Prototypes of the real memory.
        fake: Prototypes of the fake memory.
        denominator: Which prototypes eq. 7 sums over, beside the fakes' mean: the `real` ones, as its symbol
            says; the `fake` ones, as the text says; or `all`, both and both means, a proper softmax.

    Returns:
        A value a face; in float32 for half precision.

    Shape:
        features: (N, D). real, fake: (K, D) -> (N,).
    """
    features, real, fake = at_least_single(features), at_least_single(real), at_least_single(fake)
    to_real, to_fake = features @ real.T, features @ fake.T  # (N, K)
    # Eq. 8: the dot product with a mean is the mean of dot products; the mean is not of unit length.
    mean_real, mean_fake = to_real.mean(1, keepdim=True), to_fake.mean(1, keepdim=True)  # (N, 1)
    above = torch.logaddexp(to_real.amax(1), mean_real[:, 0])  # eq. 7, numerator; m_p1 is the nearest
    parts = {
        "real": [to_real, mean_fake],
        "fake": [to_fake, mean_fake],
        "all": [to_real, mean_real, to_fake, mean_fake],
    }
    if denominator not in parts:
        raise InputError(f"distinction: denominator {denominator!r}; expected real, fake or all")
    below: Tensor = torch.cat(parts[denominator], 1).logsumexp(1)
    return below - above


def diversity(features: Tensor, prototypes: Tensor, *, margin: float = 1.0) -> Tensor:
    """Keep features nearer to their prototype than to the second one, by a margin, eq. 9.

    First and second are told by the dot product, as in eq. 2; distances are plain, not squared.

    Returns:
        A value a face, to be summed as the paper does; in float32 for half precision.

    Raises:
        InputError: With fewer than two prototypes there is no second one.

    Shape:
        features: (N, D). prototypes: (K, D) -> (N,).
    """
    if len(prototypes) < 2:
        raise InputError(f"diversity: {len(prototypes)} prototypes; expected at least 2")
    features, prototypes = at_least_single(features), at_least_single(prototypes)
    nearest = prototypes[by_similarity(features @ prototypes.T)[:, :2]]  # (N, 2, D): m_p1 and m_p2
    # vector_norm has slope 0, not NaN, where a feature lies on its prototype.
    distance: Tensor = torch.linalg.vector_norm(features[:, None] - nearest, dim=2)  # (N, 2)
    return (distance[:, 0] - distance[:, 1] + margin).relu()


def decision_regularizer(logits: Tensor, label: Tensor, *, beta: float = 0.5) -> Tensor:
    """Ask the two spare outputs for the same doubt as the two real ones, eq. 13 and 14.

    Outputs 0 and 1 are real and fake, 2 and 3 their independent twins. Beside a real face P1 should equal
    P3, beside a fake P0 should equal P2. With `beta` 0.5 this is the smooth L1 distance.

    Returns:
        A value a face, to be summed as the paper does; in float32 for half precision.

    Shape:
        logits: (B, 4). label: (B,) -> (B,).
    """
    chance = at_least_single(logits).softmax(1)  # (B, 4)
    gaps = chance[:, :2] - chance[:, 2:]  # (B, 2): P0 - P2, which is for fakes, and P1 - P3
    gap = torch.where(label == Label.REAL, gaps[:, 1], gaps[:, 0]).abs()  # eq. 13
    return torch.where(gap < 1, beta * gap.square(), gap - beta)  # eq. 14


def _update(prototypes: Tensor, features: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Eq. 2 to 6 for M memories, without loops or shapes that depend on data: no GPU waits for the host.

    Returns:
        The new prototypes, and the sets U_k as a mask. Rows of weight 0 are in no set.

    Shape:
        prototypes: (M, K, D). features: (N, D). weight: (M, 1, N) or None -> (M, K, D), (M, K, N).
    """
    similarity = prototypes @ features.T  # (M, K, N)
    number = torch.arange(prototypes.shape[1], device=prototypes.device)[:, None]
    member = similarity.argmax(1, keepdim=True) == number  # eq. 2 and 4
    if weight is not None:
        member = member & (weight > 0)
    inside = similarity.masked_fill(~member, float("-inf"))
    peak = inside.amax(2, keepdim=True).clamp_min(torch.finfo(inside.dtype).min)  # an empty set's is -inf
    share = (inside - peak).exp()  # eq. 3 and 6; 0 outside the set
    if weight is not None:
        share = share * weight
    return functional.normalize(prototypes + share @ features, dim=2), member  # eq. 5


# --- the memory -------------------------------------------------------------------------------------------


class RealMemory(Part):
    """Remembers prototypes of real and of fake faces, and draws real faces to the real ones.

    Features pass untouched. Losses see the memory as it was before their batch; then the memory follows, by
    eq. 2 to 6. It gets no gradient: it teaches through the encoder alone. Scores do not need it.

    The memory moves only in training, with gradients enabled, while `track_running_stats` is true (the
    learner clears it in SAM's second pass). While `waits` is true it collects until `settle`: all batches of
    an optimizer step see one memory and move it as one large batch would, and so do those of all processes.

    Args:
        backbone: What it is attached to.
        slots: K, prototypes in each memory.
        margin: alpha in eq. 9.
        diversity_weight: lambda 1 in eq. 15.
        distinction_weight: lambda 2 in eq. 15.
        denominator: Reading of eq. 7, see `distinction`.
        reduction: Of eq. 9 over the real faces of a batch: `sum` as printed, or `mean`, which does not depend
            on the batch size. Eq. 7, printed without, is always averaged.
        normalize_features: Bring features to unit length before all of this.
        init: `uniform` draws prototypes from [0, 1)^D; `features` fills them with faces of the first batches
            that are unlike those taken before (farthest-point sampling, at most half of a batch).
        momentum: Part of the old prototype that is kept beside the update; None for the paper's rule.
        warmup_steps: Steps in which the memory learns but its losses are 0.

    Shape:
        features.vector (B, D), untouched; aux is that vector. real, fake: (K, D), of unit length.
    """

    real: Tensor
    fake: Tensor
    usage: Tensor
    steps: Tensor
    filled: Tensor

    def __init__(
        self,
        backbone: Backbone,
        *,
        slots: int = 10,
        margin: float = 1.0,
        diversity_weight: float = 0.6,
        distinction_weight: float = 1.0,
        denominator: Denominator = "real",
        reduction: Reduction = "sum",
        normalize_features: bool = True,
        init: Init = "uniform",
        momentum: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__()
        if slots < 2:
            raise InputError(f"RealMemory: slots {slots}; expected at least 2, a nearest and a second one")
        weights = {"diversity_weight": diversity_weight, "distinction_weight": distinction_weight}
        for name, value in {"margin": margin, "warmup_steps": warmup_steps, **weights}.items():
            if not 0 <= value < float("inf"):
                raise InputError(f"RealMemory: {name} {value}; expected 0 or more")
        if momentum is not None and not 0 <= momentum < 1:
            raise InputError(f"RealMemory: momentum {momentum}; expected 0 <= momentum < 1, or null for none")
        words = (("denominator", denominator, Denominator), ("reduction", reduction, Reduction))
        for name, word, known in (*words, ("init", init, Init)):
            if word not in get_args(known):
                raise InputError(f"RealMemory: {name} {word!r}; expected {' or '.join(get_args(known))}")
        self.slots, self.margin, self.denominator, self.reduction = slots, margin, denominator, reduction
        self.diversity_weight, self.distinction_weight = diversity_weight, distinction_weight
        self.normalize_features, self.momentum, self.warmup_steps = normalize_features, momentum, warmup_steps
        for name in ("real", "fake"):
            self.register_buffer(name, functional.normalize(torch.rand(slots, backbone.dim), dim=1))
        self.register_buffer("usage", torch.full((slots,), 1 / slots))  # real: moving mean of |U_k| / N
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self._full = init == "uniform"  # else `filled` slots hold something, of the real and fake memory
        self.register_buffer("filled", torch.full((2,), slots if self._full else 0, dtype=torch.long))
        self.track_running_stats = True
        self.waits = False
        self._waiting: list[Tensor] = []

    def forward(self, features: Features) -> tuple[Features, Tensor]:
        """Return the features untouched, and their vector."""
        return features, features.vector

    def losses(self, aux: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        """Return eq. 7 and 9 over the real faces, weighted as in eq. 15; then the memory follows.

        Raises:
            InputError: A face's features are not finite; on an accelerator, which must not wait for the
                answer, the learner finds it by the loss.
        """
        if aux.device.type == "cpu":
            refuse_broken(aux, batch)
        with torch.autocast(aux.device.type, enabled=False):
            seen = self._features(aux)  # (B, D)
            counted = (batch.label == Label.REAL).to(seen.dtype)  # (B,): both losses are about real faces
            if batch.weight is not None:
                counted = counted * batch.weight
            apart = diversity(seen, self.real, margin=self.margin)
            drawn = distinction(seen, self.real, self.fake, denominator=self.denominator)
            total = (apart * counted).sum() if self.reduction == "sum" else weighted_mean(apart, counted)
            terms = {
                "diversity": self.diversity_weight * total,
                "distinction": self.distinction_weight * weighted_mean(drawn, counted),
            }
            if self.warmup_steps:
                awake = self.steps >= self.warmup_steps
                terms = {name: term * awake for name, term in terms.items()}
        if self.training and self.track_running_stats and torch.is_grad_enabled():
            weight = torch.ones_like(counted) if batch.weight is None else batch.weight
            rows = [seen.detach(), batch.label[:, None], weight[:, None]]
            self._waiting.append(torch.cat(rows, 1))  # (B, D + 2)
            if not self.waits:
                self.settle()
        return terms

    @torch.no_grad()
    def settle(self) -> None:
        """Move the memory by all that was seen since it moved last."""
        if not self._waiting:
            return
        rows = gather_rows(torch.cat(self._waiting))
        self._waiting = []
        seen = rows[:, :-2].nan_to_num(0, 0, 0)  # a broken row must not spoil it, whoever finds out
        kinds = torch.arange(2, device=rows.device)[:, None, None]
        weight = (rows[:, -2] == kinds) * rows[:, -1]  # (2, 1, N): of real rows, and of fake ones
        with torch.autocast(rows.device.type, enabled=False):
            old = at_least_single(torch.stack([self.real, self.fake]))  # (2, K, D)
            new, member = _update(old, seen, weight)
            if self.momentum is not None:
                new = functional.normalize(self.momentum * old + (1 - self.momentum) * new, dim=2)
            if not self._full:
                new = self._filled_up(old, new, seen, weight[:, 0])
        # New tensors instead of new values: backward still needs the old ones.
        self.real, self.fake = new.to(self.real.dtype)
        count = member[0].sum(1)
        total = count.sum()  # of 0 faces nothing changes
        self.usage = self.usage.addcdiv(count - total * self.usage, total.clamp_min(1), value=0.01)
        self.steps = self.steps + 1

    def _filled_up(self, old: Tensor, new: Tensor, seen: Tensor, weight: Tensor) -> Tensor:
        """Return what `init: features` makes of empty slots; waits for the host until there are none."""
        held = [fill_farthest(old[i], seen, weight[i], self.filled[i]) for i in range(2)]
        busy = (self.filled < self.slots)[:, None, None]
        self.filled = torch.stack([filled for _, filled in held])
        self._full = bool((self.filled >= self.slots).all())
        return torch.where(busy, torch.stack([prototypes for prototypes, _ in held]), new)

    def numbers(self) -> dict[str, Tensor]:
        """Return the perplexity of `usage`: K if real prototypes are used alike, 1 after a collapse."""
        return {"perplexity": torch.special.entr(self.usage / self.usage.sum()).sum().exp()}

    def similarity(self, aux: Tensor) -> Tensor:
        """Return the cosine of each face to each real prototype. Shape: (B, D) -> (B, K)."""
        # A moving average of weights averages prototypes as well, and leaves them shorter than 1.
        return (
            functional.normalize(at_least_single(aux), dim=1)
            @ functional.normalize(at_least_single(self.real), dim=1).T
        )

    def check(self, records: Sequence[FaceRecord], made: Sequence[str] = ()) -> None:
        """Refuse rows without a real face: there would be no concept to learn."""
        if not any(record.label == Label.REAL for record in records):
            first = f" (the first is {records[0].path})" if records else ""
            raise InputError(
                f"RealMemory: none of the {len(records)} training rows{first} is real; add rows of label 0",
                reason="one_class",
            )

    def explain(self, aux: Tensor) -> list[list[Explanation]]:
        """Return the similarity to each real prototype, one list a face."""
        similar: Any = self.similarity(aux).detach().float().cpu().numpy()
        return [[Explanation(kind="prototypes", scores=row.astype(np.float32))] for row in similar]

    def _features(self, vector: Tensor) -> Tensor:
        vector = at_least_single(vector)
        return functional.normalize(vector, dim=1, eps=1e-6) if self.normalize_features else vector

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *known: Any) -> None:
        there = state_dict.get(f"{prefix}real")
        if there is None or there.shape == self.real.shape:
            super()._load_from_state_dict(state_dict, prefix, *known)
            return
        known[-1].append(  # what load_state_dict raises
            f"RealMemory: {prefix}real is {tuple(there.shape)}, here {tuple(self.real.shape)} (slots, "
            f"numbers of a feature); give `slots: {len(there)}`, or load without the memory: in a recipe "
            f"`init: RUN:without-memory`, in Python with strict=False a state without the keys {prefix}*"
        )


def real_concepts(detector: Detector, output: Output) -> Tensor | None:
    """Return `RealMemory.similarity` of an output, (B, K), or None if the detector has no memory."""
    for part, aux in zip(detector.parts, output.aux, strict=True):
        if isinstance(part, RealMemory):
            return part.similarity(aux)
    return None


# --- the head ---------------------------------------------------------------------------------------------


class DualDecisionHead(Head):
    """Real or fake, each asked twice: one linear layer with four outputs, eq. 10 to 14.

    Only the first two are ever right (eq. 10, cross entropy over four classes); the others learn through
    `decision_regularizer` to doubt as much as they. The score is log P1 / P0.

    Args:
        backbone: What it is attached to.
        beta: beta in eq. 14.
        weight: Of the regularizer, which eq. 15 adds with 1.

    Shape:
        features.vector (B, D) -> logits (B, 4): real, fake, real again, fake again.
    """

    def __init__(self, backbone: Backbone, *, beta: float = 0.5, weight: float = 1.0) -> None:
        super().__init__()
        for name, value in (("beta", beta), ("weight", weight)):
            if not 0 <= value < float("inf"):
                raise InputError(f"DualDecisionHead: {name} {value}; expected 0 or more")
        self.beta, self.weight = beta, weight
        self.linear = nn.Linear(backbone.dim, 4)

    def forward(self, features: Features) -> Tensor:
        """Return the four logits, (B, 4), of the vector as it is."""
        logits: Tensor = self.linear(features.vector)
        return logits

    def log_odds(self, logits: Tensor) -> Tensor:
        """Return log P1 / P0, the difference of the first two logits, (B,)."""
        return logits[:, 1] - logits[:, 0]

    def losses(self, logits: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        """Return eq. 10, averaged over faces by their weights, and eq. 14, summed over them."""
        entropy = functional.cross_entropy(logits, batch.label, reduction="none")
        doubt = decision_regularizer(logits, batch.label, beta=self.beta)  # (B,)
        doubt = doubt if batch.weight is None else doubt * batch.weight.to(doubt.dtype)
        return {"cross_entropy": weighted_mean(entropy, batch.weight), "decision": self.weight * doubt.sum()}
