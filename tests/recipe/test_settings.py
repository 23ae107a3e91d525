from __future__ import annotations

import math

import pytest

from unseen.recipe import Schedule, TrainerSettings
from unseen.types import InputError


def test_constant() -> None:
    assert {Schedule().factor(step, 10) for step in range(12)} == {1.0}


def test_warm_up_rises_in_equal_steps_and_is_never_zero() -> None:
    # last = 10, rise = 4 steps: 1/5, 2/5, 3/5, 4/5, then 1
    factors = [Schedule(warmup=0.4).factor(step, 11) for step in range(6)]
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0])


def test_constant_then_linear_as_sbi() -> None:
    # SBI: 100 epochs, constant for 75, then in a line to 4e-5 of 1e-3
    schedule = Schedule(decay="linear", hold=0.75, final=0.04)
    factors = [schedule.factor(epoch, 101) for epoch in (0, 75, 76, 100)]
    assert factors == pytest.approx([1, 1, 1 - 0.96 / 25, 0.04])


def test_cosine_passes_half_way_at_half_time() -> None:
    schedule = Schedule(decay="cosine", final=0.1)
    assert schedule.factor(0, 101) == 1
    assert schedule.factor(50, 101) == pytest.approx(0.1 + 0.9 * 0.5)
    assert schedule.factor(25, 101) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule.factor(100, 101) == pytest.approx(0.1)


def test_warm_up_then_decay_meets_at_one() -> None:
    schedule = Schedule(decay="linear", warmup=0.1)
    factors = [schedule.factor(step, 21) for step in range(21)]
    assert max(factors) == 1.0 == factors[2]
    assert factors[2:] == sorted(factors[2:], reverse=True) and factors[-1] == 0


def test_rates_drop_at_epochs_as_caddm_prints() -> None:
    # 200 epochs of 512 steps: 3.6e-4, 1e-4 from epoch 10, 5e-5 from epoch 20
    schedule, epoch = Schedule(decay="steps", drops=[(0.05, 1 / 3.6), (0.1, 0.5 / 3.6)]), 512
    rates = [3.6e-4 * schedule.factor(step, 200 * epoch) for step in (0, 10 * epoch - 1, 10 * epoch)]
    assert rates == pytest.approx([3.6e-4, 3.6e-4, 1e-4])
    rates = [3.6e-4 * schedule.factor(step, 200 * epoch) for step in (20 * epoch - 1, 20 * epoch, 102_399)]
    assert rates == pytest.approx([1e-4, 5e-5, 5e-5])


@pytest.mark.parametrize(
    "wrong",
    [
        {"decay": "steps"},
        {"drops": [(0.5, 0.1)]},
        {"decay": "steps", "drops": [(0.5, 0.1), (0.2, 0.01)]},
        {"decay": "steps", "drops": [(1.5, 0.1)]},
        {"decay": "steps", "drops": [(0.5, -0.1)]},
    ],
)
def test_drops_that_make_no_sense_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=r"drops"):
        Schedule(**wrong)


@pytest.mark.parametrize("steps", [1, 2])
def test_very_short_runs_have_a_rate(steps: int) -> None:
    schedule = Schedule(decay="cosine", warmup=0.05, final=0.01)
    assert all(0 < schedule.factor(step, steps) <= 1 for step in range(steps))


@pytest.mark.parametrize(("name", "value"), [("warmup", -0.1), ("hold", 1.1), ("final", 2.0)])
def test_shares_outside_their_range_are_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"schedule.{name}"):
        Schedule(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_steps", 0),
        ("accumulate", 0),
        ("ema", 1.0),
        ("sam", 0.0),
        ("clip", -1.0),
        ("patience", 0),
        ("clip_value", 0.0),
        ("epoch_steps", 0),
    ],
)
def test_trainer_settings_outside_their_range_are_named(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"trainer.{name}"):
        TrainerSettings(**{name: value})
