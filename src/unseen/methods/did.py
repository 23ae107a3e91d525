"""DID: deep information decomposition. What tells forgeries is kept, what tells their methods is not.

Yang, Hu, Zhu, Fu, Lyu, Wu, Wang, *Improving Cross-dataset Deepfake Detection with Deep Information
Decomposition*, 2023 (arXiv 2310.00359). The paper's letters: G the backbone, I its map, A_df and A_dom the
two attentions, C and Cbar the classifiers of forgery and of domain, T the discriminator, V its value.

    M_df  = A_df(I)       I_df  = M_df * I       to C, the only thing that is left in use
    I_os  = I - I_df      I_dom = A_dom(I_os) * I_os       to Cbar: which forgery method was it?
    V(I_df, I_os): how well T tells true pairs from shuffled ones; G and A_df make it hard
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from unseen.data.domains import forgery_methods
from unseen.explain.maps import stretched
from unseen.models.adversary import (
    GRID,
    Discriminator,
    derangement,
    flat_map,
    reverse_gradient,
)
from unseen.models.attention import ChannelSpatialMask, FullMask
from unseen.models.backbone import Backbone
from unseen.models.detector import Head, Part
from unseen.models.heads import weighted_mean
from unseen.models.precision import at_least_single
from unseen.types import Explanation, FaceBatch, FaceRecord, Features, InputError

__all__ = [
    "AucHead",
    "Decomposition",
    "auc_margin",
    "dependence",
    "reversal",
    "reverse_gradient",
]

log = logging.getLogger(__name__)


# --- what the paper's formulas say --------------------------------------------------------------------------


def auc_margin(
    score: Tensor,
    label: Tensor,
    *,
    margin: float = 0.15,
    power: float = 2.0,
    normalize: Literal["pairs", "violations"] = "pairs",
    weight: Tensor | None = None,
) -> Tensor:
    """By how much fakes fail to score a margin above reals, eq. 1 with its sign repaired.

    For a fake i and a real j with gap g = s_i - s_j a pair costs (margin - g)^power if g < margin, else
    nothing. Printed is -(g - margin)^power, which for the paper's power 2 is never positive and falls without
    bound as fakes sink *below* reals.

    Args:
        score: Anything that should be higher for fakes.
        label: 0 real, 1 fake.
        margin: gamma.
        power: p, at least 1.
        normalize: Mean over all pairs, or over those only that cost something.
        weight: Of each face; a pair weighs the product.

    Returns:
        0 or more, in float32 for half precision, which cannot count the pairs of a large batch; 0, attached
        to the graph, if a class is missing.

    Shape:
        score, label, weight: (B,) -> scalar.

    Example:
        Gaps of 0.05 and 1: (0.15 - 0.05)^2 / 2

        >>> auc_margin(torch.tensor([0.05, 1.0, 0.0]), torch.tensor([1, 1, 0]))
        tensor(0.0050)
    """
    score = at_least_single(score)
    fake, real = (label == 1).to(score.dtype), (label == 0).to(score.dtype)
    if weight is not None:
        fake, real = fake * weight.to(score.dtype), real * weight.to(score.dtype)
    short = (margin - (score[:, None] - score[None, :])).relu()  # (B, B): clamped before the power is taken
    # All B x B gaps and a mask: picking rows by class would make the processor wait for the device.
    pairs = fake[:, None] * real[None, :]
    counted = pairs if normalize == "pairs" else pairs * (short > 0)
    # Not `clamp_min(1)`: weights below 1 must not make the loss smaller. No pair at all is 0 / tiny = 0.
    return (short.pow(power) * pairs).sum() / counted.sum().clamp_min(torch.finfo(score.dtype).tiny)


def dependence(joint: Tensor, marginal: Tensor) -> Tensor:
    """Estimate from below how much two variables depend on each other: V, the Jensen-Shannon value.

    V = mean log sigmoid(joint) + mean log(1 - sigmoid(marginal)). It is -2 log 2 when the discriminator can
    only guess; V + 2 log 2 estimates twice the Jensen-Shannon divergence.

    Args:
        joint: The discriminator's logits of pairs that belong together.
        marginal: Its logits of pairs that do not.

    Shape:
        (B,) and (B,) -> scalar, 0 or less; float32 for half precision.

    Example:
        >>> dependence(torch.zeros(3), torch.zeros(3))
        tensor(-1.3863)
    """
    joint, marginal = at_least_single(joint), at_least_single(marginal)
    # log sigmoid(x) = -softplus(-x): the logarithm of a sigmoid is -inf from about -17 on in bfloat16.
    return -functional.softplus(-joint).mean() - functional.softplus(marginal).mean()


def reversal(share: float) -> float:
    """Return beta, the strength of the gradient's reversal, after a share r of the training.

    beta = 2 / (1 + exp(-5 r)) - 1: 0 while the discriminator knows nothing yet, 0.9866 at the end.
    """
    return 2 / (1 + math.exp(-5 * share)) - 1


# --- the head -----------------------------------------------------------------------------------------------


def _classifier(inputs: int, outputs: int, hidden: int, dropout: float) -> nn.Sequential:
    """C and Cbar; of their structure nothing is printed."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
    )


class AucHead(Head):
    """C: one logit, taught by cross entropy and by the ranking of fakes above reals.

    L_cls = alpha * BCE + (1 - alpha) * AUC.

    Args:
        backbone: What it is attached to.
        alpha: Share of the cross entropy: 1 leaves the AUC loss out, 0 the cross entropy.
        margin: gamma of eq. 1, in the units of `space`.
        power: p of eq. 1, at least 1.
        space: Ranks logits, as eq. 1 is written, or probabilities.
        normalize: Mean over all pairs of a fake and a real, or over those only that cost something.
        hidden: Width of the layer between.
        dropout: Part of that layer that is dropped while training, 0 to 1.
        pool: Read the feature vector; False flattens the map, brought to 7 x 7 places, which is what the
            paper's symbols literally say.

    Shape:
        features -> logits (B, 1), the log-odds of fake.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        alpha: float = 0.5,
        margin: float = 0.15,
        power: float = 2.0,
        space: Literal["logit", "prob"] = "logit",
        normalize: Literal["pairs", "violations"] = "pairs",
        hidden: int = 512,
        dropout: float = 0.2,
        pool: bool = True,
    ) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise InputError(f"AucHead: alpha {alpha}; expected a share between 0 (AUC loss) and 1 (BCE)")
        if power < 1 or margin < 0:
            raise InputError(f"AucHead: margin {margin} and power {power}; expected margin >= 0, power >= 1")
        if space not in ("logit", "prob") or normalize not in ("pairs", "violations"):
            raise InputError(
                f"AucHead: space {space!r} and normalize {normalize!r}; expected logit or prob, and pairs or "
                "violations"
            )
        if not 0 <= dropout < 1:
            raise InputError(f"AucHead: dropout {dropout}; expected 0 <= dropout < 1")
        self.alpha, self.margin, self.power = alpha, margin, power
        self.space, self.normalize, self.pool = space, normalize, pool
        inputs = backbone.dim if pool else backbone.channels * GRID**2
        self.classifier = _classifier(inputs, 1, hidden, dropout)

    def forward(self, features: Features) -> Tensor:
        """Return the logit, (B, 1)."""
        logits: Tensor = self.classifier(features.vector if self.pool else flat_map(features.map))
        return logits

    def log_odds(self, logits: Tensor) -> Tensor:
        """Return the logit as a score, (B,)."""
        return logits[:, 0]

    def losses(self, logits: Tensor, batch: FaceBatch) -> dict[str, Tensor]:
        """Return the two terms, each with its share; a share of 0 leaves its term out."""
        score = at_least_single(logits[:, 0])  # (B,)
        terms: dict[str, Tensor] = {}
        if self.alpha > 0:
            # Binary cross entropy as that of the logits 0 and s, which refuses faces without a label (-1).
            both = torch.stack([torch.zeros_like(score), score], 1)  # (B, 2)
            entropy = functional.cross_entropy(both, batch.label, reduction="none")
            terms["cross_entropy"] = self.alpha * weighted_mean(entropy, batch.weight)
        if self.alpha < 1:
            ranked = score if self.space == "logit" else score.sigmoid()
            terms["auc"] = (1 - self.alpha) * auc_margin(
                ranked,
                batch.label,
                margin=self.margin,
                power=self.power,
                normalize=self.normalize,
                weight=batch.weight,
            )
        return terms


# --- the decomposition --------------------------------------------------------------------------------------


class Decomposed(NamedTuple):
    """A map in two: `forgery + other` is the map, bit for bit. Shape: (B, C, h, w) each."""

    forgery: Tensor  # I_df
    other: Tensor  # I_os
    mask: Tensor  # M_df


class Decomposition(Part):
    """Keeps what tells forgeries, and sends the rest to a classifier of methods and out of reach of the head.

    In use (and in an exported graph) it is one attention mask; what else it holds is for training and for its
    pictures. Loss: domain_weight * CE + decorrelation_weight * (-V), the gradient of V reversed on its way to
    the features. Whoever trains without `unseen.train` calls `Detector.progress` before each step, or the
    reversal stays at its first value, 0.

    Args:
        backbone: What it is attached to; its vector must be as long as its map has channels.
        domains: k + 1, the real faces and k forgery methods (FF++: 5); more than there are does no harm.
        domain_weight: Of the classification of domains; 0 leaves out A_dom and Cbar (Table 3).
        decorrelation_weight: lambda_dec; 0 leaves out T (Table 3).
        mask: `full` has a value for each channel at each place, `cbam` adds one for each channel to one for
            each place before the sigmoid.
        reduction: The masks are made from C / reduction channels.
        hidden: Width of the domain classifier.
        dropout: In the domain classifier, 0 to 1.
        pool: As in `AucHead`, for the domain classifier.
        epochs: Raise beta in so many stairs, as the paper does once an epoch; None raises it at every step.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        domains: int = 5,
        domain_weight: float = 1.0,
        decorrelation_weight: float = 0.01,
        mask: Literal["full", "cbam"] = "full",
        reduction: int = 16,
        hidden: int = 512,
        dropout: float = 0.2,
        pool: bool = True,
        epochs: int | None = None,
    ) -> None:
        super().__init__()
        if domains < 2:
            raise InputError(
                f"Decomposition: domains {domains}; expected at least 2, real faces and a forgery"
            )
        if backbone.dim != backbone.channels:
            raise InputError(
                f"Decomposition: the backbone's vector has {backbone.dim} numbers, its map "
                f"{backbone.channels} channels; expected as many, since the vector is pooled anew"
            )
        for name, value in (("domain_weight", domain_weight), ("decorrelation_weight", decorrelation_weight)):
            if not value >= 0:
                raise InputError(f"Decomposition: {name} {value}; expected 0 (leaves it out) or more")
        if mask not in ("full", "cbam") or not 0 <= dropout < 1 or (epochs is not None and epochs < 1):
            raise InputError(
                f"Decomposition: mask {mask!r}, dropout {dropout}, epochs {epochs}; expected full or cbam, "
                "0 <= dropout < 1, and at least one epoch or null"
            )
        kind = FullMask if mask == "full" else ChannelSpatialMask
        channels = backbone.channels
        self.domains, self.image_size, self.pool, self.epochs = domains, backbone.image_size, pool, epochs
        self.domain_weight, self.decorrelation_weight = domain_weight, decorrelation_weight
        self.beta = 0.0
        self.attention = kind(channels, reduction=reduction)  # A_df
        if domain_weight:
            self.domain_attention = kind(channels, reduction=reduction)  # A_dom
            inputs = channels * (1 if pool else GRID**2)
            self.domain_classifier = _classifier(inputs, domains, hidden, dropout)  # Cbar
        if decorrelation_weight:
            self.discriminator = Discriminator(channels)  # T

    def forward(self, features: Features) -> tuple[Features, Decomposed]:
        """Return the features of I_df, and both halves."""
        whole = features.map  # I, (B, C, h, w)
        mask = self.attention(whole)  # M_df
        other = whole - mask * whole  # (1 - M_df) * I
        # And not mask * whole: with 0 <= mask <= 1 one of the two differences is exact, and so is their sum.
        forgery = whole - other
        return Features(forgery, forgery.mean((2, 3))), Decomposed(forgery, other, mask)

    def losses(self, aux: Decomposed, batch: FaceBatch) -> dict[str, Tensor]:
        """Return the cross entropy of domains and -V, weighted; a weight of 0 leaves its term out."""
        terms: dict[str, Tensor] = {}
        if self.domain_weight:
            if batch.domain is None:
                raise InputError(
                    "Decomposition: the batch has no domains; fill the manifest's `method` column with who "
                    "forged each fake",
                    reason="no_method",
                )
            entropy = functional.cross_entropy(
                at_least_single(self.domain_logits(aux)), batch.domain, reduction="none"
            )
            terms["domain"] = self.domain_weight * weighted_mean(entropy, batch.weight)
        if self.decorrelation_weight:
            terms["decorrelation"] = -self.decorrelation_weight * self._dependence(aux)
        return terms

    def domain_logits(self, aux: Decomposed) -> Tensor:
        """Return what the rest of the features says of the domain. Shape: (B, domains)."""
        if not self.domain_weight:
            raise InputError("Decomposition: with domain_weight 0 there is no classifier of domains")
        rest = self.domain_attention(aux.other) * aux.other  # I_dom = M_dom * I_os
        logits: Tensor = self.domain_classifier(rest.mean((2, 3)) if self.pool else flat_map(rest))
        return logits

    def _dependence(self, aux: Decomposed) -> Tensor:
        """V, which T raises and, by the reversal, G and A_df lower: min over G and A_df, max over T.

        The term in the loss is -V. With +V and a reversal both players would do the opposite.
        """
        forgery, other = (reverse_gradient(half, self.beta) for half in (aux.forgery, aux.other))
        partner = derangement(len(forgery), forgery.device)
        value = dependence(*self.discriminator(forgery, other, partner))
        # One face has nothing to be shuffled with, but several processes wait for T's gradients all the same.
        return value if len(forgery) > 1 else value * 0

    def progress(self, share: float) -> None:
        """Set beta."""
        if self.epochs is not None:
            # A hair more: 3 / 10 of ten epochs must not be the third one still.
            share = math.floor(share * self.epochs + 1e-9) / self.epochs
        self.beta = reversal(share)

    def check(self, records: Sequence[FaceRecord], made: Sequence[str] = ()) -> None:
        """Refuse rows whose domains cannot be told apart, or are too many.

        Raises:
            InputError: A fake does not say who forged it, there are no fakes, or more methods than domains.
        """
        if not self.domain_weight:
            return
        try:
            methods = forgery_methods(records, made)
        except InputError as error:
            raise InputError(
                f"Decomposition learns which method forged each fake; {error}, or give domain_weight: 0",
                reason=error.reason,
            ) from error
        if not methods:
            raise InputError(
                f"Decomposition: none of {len(records)} rows is fake; expected forgeries of known methods",
                reason="one_class",
            )
        if len(methods) >= self.domains:
            raise InputError(
                f"Decomposition: domains {self.domains}, real faces and {self.domains - 1} methods, but the "
                f"rows hold {len(methods)}: {', '.join(methods)}; give domains: {len(methods) + 1}"
            )
        if len(methods) == 1:
            log.warning(
                "Decomposition: all fakes are of one method (%s), so that the domain loss only tells real "
                "from fake once more; give forgeries of several methods, or domain_weight: 0",
                methods[0],
            )

    @torch.no_grad()
    def explain(self, aux: Decomposed) -> list[list[Explanation]]:
        """Return where the two attentions look, each from its least to its largest value (Figure 5)."""
        masks = {"forgery attention": aux.mask}
        if self.domain_weight:
            masks["domain attention"] = self.domain_attention(aux.other)
        heat = {kind: stretched(mask.mean(1), self.image_size) for kind, mask in masks.items()}
        return [
            [Explanation(kind, heatmap=maps[i]) for kind, maps in heat.items()] for i in range(len(aux.mask))
        ]
