"""Every number here can be followed by hand: a network of one or two weights."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from unseen.models.backbone import Backbone
from unseen.models.detector import Detector, Part
from unseen.models.heads import BinaryHead
from unseen.recipe import Schedule, TrainerSettings
from unseen.train.learner import Learner, draw_seed, frozen_statistics
from unseen.types import FaceBatch, FaceRecord, Features, InputError


class Bowl(nn.Module):
    """loss = a / 2 * w^2 - c * w, a the mean of the pictures, c the mean of the labels."""

    def __init__(self, start: float = 2.0) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(start))

    def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
        return {
            "curve": batch.image.mean() / 2 * self.w**2,
            "slope": -batch.label.float().mean() * self.w,
        }


def batch(height: float, label: int = 0) -> FaceBatch:
    return FaceBatch(torch.full((1, 3, 1, 1), height), torch.tensor([label]), records=[FaceRecord("a.png")])


def learn(
    model: nn.Module,
    batches: Sequence[FaceBatch],
    *,
    settings: TrainerSettings | None = None,
    schedule: Schedule | None = None,
    lr: float = 0.1,
    steps: int = 100,
) -> tuple[Learner, list[dict[str, float]]]:
    seen: list[dict[str, float]] = []
    learner = Learner(
        model,
        lambda parameters: torch.optim.SGD(parameters, lr=lr),
        schedule=schedule or Schedule(),
        settings=settings or TrainerSettings(channels_last=False),
        steps=steps,
        after_step=lambda _, numbers: seen.append(numbers),
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(learner, DataLoader(list(batches), batch_size=None, collate_fn=lambda item: item))
    return learner, seen


def test_terms_are_summed_and_told_by_name() -> None:
    model = Bowl()
    _, seen = learn(model, [batch(3.0, 1)])
    # 3 / 2 * 4 = 6 and -2; gradient 3 * 2 - 1 = 5; 2 - 0.1 * 5
    assert seen[0]["curve"] == pytest.approx(6) and seen[0]["slope"] == pytest.approx(-2)
    assert seen[0]["loss"] == pytest.approx(4)
    assert model.w.item() == pytest.approx(1.5)


def test_what_a_step_leaves_are_numbers_and_no_graph() -> None:
    """Defect 11 of docs/deepfakebench.md: sums of losses that keep every step's graph alive."""

    class Watched(Bowl):
        def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
            terms = super().losses(batch)
            left.extend(weakref.ref(term) for term in terms.values())
            return terms

    left: list[weakref.ref[Tensor]] = []
    _, seen = learn(Watched(), [batch(1.0), batch(2.0), batch(3.0)])
    gc.collect()
    assert len(left) == 6 and not [ref for ref in left if ref() is not None]
    assert {type(value) for numbers in seen for value in numbers.values()} == {float}


def test_rates_follow_the_schedule_at_every_step() -> None:
    schedule = Schedule(decay="linear", hold=0.5, final=0.2)
    _, seen = learn(Bowl(), [batch(0.1)] * 5, schedule=schedule, lr=0.4, steps=5)
    assert [numbers["lr"] for numbers in seen] == pytest.approx([0.4, 0.4, 0.4, 0.24, 0.08])


def test_the_optimizer_uses_the_scheduled_rate() -> None:
    model = Bowl()
    learn(model, [batch(1.0)] * 2, schedule=Schedule(decay="linear", final=0.5), lr=0.1, steps=2)
    assert model.w.item() == pytest.approx(2 * (1 - 0.1) * (1 - 0.05))


def test_accumulated_batches_are_averaged_into_one_step() -> None:
    model = Bowl()
    settings = TrainerSettings(accumulate=2, channels_last=False)
    learner, seen = learn(model, [batch(1.0), batch(3.0), batch(9.0)], settings=settings)
    # mean curvature 2, gradient 2 * 2; the third batch waits for a fourth
    assert model.w.item() == pytest.approx(2 - 0.1 * 4)
    assert learner.step == 1 and seen[0]["images"] == 2 and seen[0]["curve"] == pytest.approx(4)


def test_sam_takes_the_gradient_at_the_top_of_the_slope() -> None:
    model = Bowl()
    learn(model, [batch(3.0)], settings=TrainerSettings(sam=0.05, channels_last=False))
    # gradient > 0, so the second one is taken at 2.05: 3 * 2.05 = 6.15, and applied at 2
    assert model.w.item() == pytest.approx(2 - 0.1 * 6.15)


def test_sam_with_accumulation_climbs_along_the_mean() -> None:
    model = Bowl()
    settings = TrainerSettings(sam=0.05, accumulate=2, channels_last=False)
    learn(model, [batch(1.0), batch(3.0)], settings=settings)
    assert model.w.item() == pytest.approx(2 - 0.1 * 2 * 2.05)


class Normed(nn.Module):
    """A batch norm before one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.w = nn.Parameter(torch.tensor(1.0))

    def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
        return {"loss": (self.norm(batch.image) * self.w + batch.image * self.w).pow(2).mean()}


def test_sam_updates_running_statistics_once() -> None:
    pictures = FaceBatch(torch.rand(4, 3, 2, 2), torch.zeros(4, dtype=torch.long))
    once, twice = Normed(), Normed()
    learn(once, [pictures])
    learn(twice, [pictures], settings=TrainerSettings(sam=0.05, channels_last=False))
    assert torch.equal(once.norm.running_mean, twice.norm.running_mean)
    assert torch.equal(once.norm.running_var, twice.norm.running_var)
    assert twice.norm.num_batches_tracked.item() == 1
    assert once.w.item() != twice.w.item()


def test_frozen_statistics_still_use_the_batch() -> None:
    norm = nn.BatchNorm1d(1)
    values = torch.tensor([[1.0], [3.0]])
    with frozen_statistics(norm):
        result = norm(values)
    assert torch.allclose(result, torch.tensor([[-1.0], [1.0]]), atol=1e-4)
    assert norm.running_mean.item() == 0 and norm.track_running_stats


def test_clipping_shortens_the_gradient_of_all_weights_together() -> None:
    model = Bowl()
    _, seen = learn(model, [batch(3.0)], settings=TrainerSettings(clip=1.5, channels_last=False))
    assert seen[0]["gradient_norm"] == pytest.approx(6)
    assert model.w.item() == pytest.approx(2 - 0.1 * 1.5, abs=1e-5)


def test_clipping_by_value_holds_each_gradient() -> None:
    model = Bowl()
    learn(model, [batch(3.0)], settings=TrainerSettings(clip_value=2.0, channels_last=False))
    assert model.w.item() == pytest.approx(2 - 0.1 * 2.0)  # the gradient was 6
    model = Bowl()
    learn(model, [batch(0.5)], settings=TrainerSettings(clip_value=2.0, channels_last=False))
    assert model.w.item() == pytest.approx(2 - 0.1 * 1.0)  # small ones are left alone


def test_average_follows_the_weights() -> None:
    model = Bowl()
    learner, _ = learn(model, [batch(1.0)] * 3, settings=TrainerSettings(ema=0.2, channels_last=False))
    # decay (1 + t) / (10 + t) for t = 0, 1, and 0.2 from then on: 1/10, 2/11, 0.2
    average, weight = 2.0, 2.0
    for decay in (1 / 10, 2 / 11, 0.2):
        weight *= 0.9
        average = decay * average + (1 - decay) * weight
    assert model.w.item() == pytest.approx(weight)
    assert learner.final is not model and learner.final.w.item() == pytest.approx(average)
    assert not learner.final.w.requires_grad


def test_a_loss_that_is_not_finite_stops_and_names_term_step_and_faces() -> None:
    with pytest.raises(InputError, match=r"step 1: the loss term 'curve' is nan.*a\.png") as error:
        learn(Bowl(), [batch(1.0), batch(float("nan"))])
    assert error.value.reason == "not_finite"


def test_a_gradient_that_is_not_finite_stops() -> None:
    class Root(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(0.0))

        def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
            return {"root": self.w.abs().sqrt() + self.w.sqrt()}

    with pytest.raises(InputError, match="norm of the gradient"):
        learn(Root(), [batch(1.0)], settings=TrainerSettings(clip=1.0, channels_last=False))


def test_random_numbers_of_a_step_are_a_function_of_seed_and_step() -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor(0.0))
            self.drawn: list[float] = []

        def losses(self, batch: FaceBatch) -> dict[str, Tensor]:
            self.drawn.append(torch.rand(()).item())
            return {"w": self.w}

    first, second = Noisy(), Noisy()
    learn(first, [batch(1.0)] * 3)
    torch.rand(100)
    learn(second, [batch(1.0)] * 3)
    assert first.drawn == second.drawn and len(set(first.drawn)) == 3
    assert draw_seed(0, 1) != draw_seed(1, 0)


def test_frozen_weights_are_left_to_themselves() -> None:
    model = Bowl()
    model.frozen = nn.Parameter(torch.tensor(7.0), requires_grad=False)
    learner, _ = learn(model, [batch(1.0)])
    assert model.frozen.item() == 7
    assert sum(len(group["params"]) for group in learner.optimizer.param_groups) == 1


class Flat(Backbone):
    def __init__(self) -> None:
        super().__init__(3, 3, 1, mean=(0, 0, 0), std=(1, 1, 1))

    def forward(self, image: Tensor) -> Features:
        return Features(image, image.mean((2, 3)))


class Listener(Part):
    """Writes down what it is told, and at which of the passes."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.told: list[float] = []
        self.passes: list[float] = []

    def progress(self, share: float) -> None:
        self.told.append(share)

    def forward(self, features: Features) -> tuple[Features, None]:
        self.passes.append(self.told[-1])
        return features, None


def test_parts_hear_of_progress_once_a_step_before_all_of_its_passes() -> None:
    detector = Detector(Flat(), BinaryHead, [Listener])
    settings = TrainerSettings(sam=0.05, accumulate=2, channels_last=False)
    learner, _ = learn(detector, [batch(0.5)] * 6, settings=settings, steps=4)
    assert learner.step == 3
    part = detector.parts[0]
    assert part.told == [0, 0.25, 0.5]
    assert part.passes == [share for share in part.told for _ in range(4)]


def test_progress_goes_on_where_a_run_stopped() -> None:
    detector = Detector(Flat(), BinaryHead, [Listener])
    learner, _ = learn(detector, [batch(0.5)], steps=8)
    assert detector.parts[0].told == [0]
    learner.step = 6  # as `Course.resume` sets it
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(learner, DataLoader([batch(0.5)] * 2, batch_size=None, collate_fn=lambda item: item))
    assert detector.parts[0].told == [0, 6 / 8, 7 / 8]
