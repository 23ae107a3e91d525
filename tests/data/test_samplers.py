from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from unseen.data.samplers import Balanced, BalancedDomains, Draw, Ordered, Sampler, Shuffled
from unseen.types import FaceRecord, FaceSample, InputError, Label


class Twice:
    """Makes a fake by calling the real one."""

    needs = ()

    def pair(self, sample: FaceSample, rng: np.random.Generator) -> tuple[FaceSample, FaceSample]:
        return sample, sample


def records(real: int, fake: int) -> list[FaceRecord]:
    labels = [Label.REAL] * real + [Label.FAKE] * fake
    order = np.random.default_rng(9).permutation(len(labels))
    return [FaceRecord(f"{i}", label=labels[k]) for i, k in enumerate(order)]


def flat(batches) -> list[Draw]:
    return list(itertools.chain.from_iterable(batches))


SAMPLERS = [
    Ordered(4),
    Shuffled(4),
    Balanced(4),
    Balanced(4, synthesise=Twice()),
    Balanced(8, synthesise=Twice(), share=0.5),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{type(s).__name__}{getattr(s, 'share', '')}")
@pytest.mark.parametrize("counts", [(1, 1), (5, 3), (3, 11), (17, 2), (16, 16)])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_get_as_many_batches_and_cover_everything(sampler: Sampler, counts, world: int) -> None:
    assert isinstance(sampler, Sampler)
    rows = records(*counts)
    ranks = [list(sampler.batches(rows, 7, 2, rank, world)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {sampler.count(rows, world)}
    for step in zip(*ranks, strict=True):
        assert len({len(batch) for batch in step}) == 1
    drawn = {draw.index for batches in ranks for draw in flat(batches)}
    everything_made = isinstance(sampler, Balanced) and sampler.synthesise is not None and sampler.share == 1
    wanted = {i for i, r in enumerate(rows) if not everything_made or r.label == Label.REAL}
    assert drawn == wanted
    assert ranks == [list(sampler.batches(rows, 7, 2, rank, world)) for rank in range(world)]


@pytest.mark.parametrize("sampler", [Shuffled(4), Balanced(4), Balanced(4, synthesise=Twice())])
def test_seed_and_epoch_change_the_order_and_keys_are_unique(sampler: Sampler) -> None:
    rows = records(20, 9)
    first = flat(sampler.batches(rows, 0, 0))
    assert first == flat(sampler.batches(rows, 0, 0))
    for other in (flat(sampler.batches(rows, 0, 1)), flat(sampler.batches(rows, 1, 0))):
        assert [d.index for d in other] != [d.index for d in first]
    both = [draw for rank in range(2) for draw in flat(sampler.batches(rows, 0, 0, rank, 2))]
    assert len({draw.key for draw in both}) == len(
        both
    )  # every place in the epoch is augmented in its own way


def test_one_process_and_two_see_the_same_epoch() -> None:
    rows = records(24, 24)
    alone = flat(Balanced(8).batches(rows, 0, 0))
    together = [d for rank in range(2) for d in flat(Balanced(4).batches(rows, 0, 0, rank, 2))]
    assert set(alone) == set(together)


@pytest.mark.parametrize("counts", [(3, 30), (30, 3), (10, 10), (1, 7)])
def test_balanced_batches_are_half_real_and_cycle_the_smaller_class(counts) -> None:
    rows = records(*counts)
    batches = list(Balanced(6).batches(rows, 0, 0))
    for batch in batches:
        assert sum(rows[d.index].label == Label.REAL for d in batch) == 3
        assert len(batch) == 6
    assert len(batches) == -(-max(counts) // 3)
    seen = Counter(d.index for d in flat(batches))
    small = Label.REAL if counts[0] <= counts[1] else Label.FAKE
    times = [seen[i] for i, r in enumerate(rows) if r.label == small]
    assert max(times) - min(times) <= 1  # all of the smaller class in turn, not the same few
    # Each time round in another order.
    turns = [d.index for d in flat(batches) if rows[d.index].label == small]
    size = min(counts)
    if size == 3 and max(counts) == 30:
        assert len({tuple(turns[i : i + size]) for i in range(0, 27, size)}) > 1


def test_balanced_draws_each_real_with_its_own_fake() -> None:
    rows = records(10, 4)
    batches = list(Balanced(8, synthesise=Twice()).batches(rows, 0, 0))
    assert [len(batch) for batch in batches] == [4, 4, 4]  # two samples a draw: 8 each
    assert all(d.synthesise and rows[d.index].label == Label.REAL for d in flat(batches))

    half = list(Balanced(8, synthesise=Twice(), share=0.5).batches(rows, 0, 0))
    for batch in half:
        real = [d for d in batch if rows[d.index].label == Label.REAL]
        fake = [d for d in batch if rows[d.index].label == Label.FAKE]
        assert len(real) == 4 and len(fake) == 2 and sum(d.synthesise for d in real) == 2
        assert not any(d.synthesise for d in fake)


def test_ordered_is_in_order_and_leaves_the_last_batch_short() -> None:
    rows = records(5, 5)
    batches = list(Ordered(4).batches(rows, 3, 1))
    assert [[d.index for d in batch] for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert list(Ordered(4).batches([], 0, 0)) == []


def test_missing_classes_and_wrong_sizes_are_errors_with_their_mend() -> None:
    with pytest.raises(InputError, match=r"none of 4 records is fake .*SelfBlend") as caught:
        list(Balanced(4).batches(records(4, 0), 0, 0))
    assert caught.value.reason == "one_class"
    assert len(list(Balanced(4, synthesise=Twice()).batches(records(4, 0), 0, 0))) == 2
    with pytest.raises(InputError, match="share 1"):
        list(Balanced(4, synthesise=Twice(), share=0.5).batches(records(4, 0), 0, 0))
    with pytest.raises(InputError, match="is real"):
        list(Balanced(4, synthesise=Twice()).batches(records(0, 4), 0, 0))
    with pytest.raises(InputError, match="even"):
        Balanced(5)
    with pytest.raises(InputError, match="share"):
        Balanced(4, share=1.5)
    with pytest.raises(InputError, match="at least 1"):
        Shuffled(0)
    with pytest.raises(InputError, match="no records"):
        list(Shuffled(4).batches([], 0, 0))
    with pytest.raises(InputError, match="rank 2 of 2"):
        list(Ordered(4).batches(records(2, 2), 0, 0, 2, 2))


# --- domains ------------------------------------------------------------------------------------------------


def forgeries(**counts: int) -> list[FaceRecord]:
    """Rows of each method, in random order; "real" is real."""
    names = [name for name, count in counts.items() for _ in range(count)]
    order = np.random.default_rng(9).permutation(len(names))
    return [
        FaceRecord(f"{i}", Label.REAL if names[k] == "real" else Label.FAKE, method=names[k])
        for i, k in enumerate(order)
    ]


COUNTS = [{"real": 7, "a": 3, "b": 20}, {"real": 30, "a": 1}, {"b": 4, "real": 4, "a": 4, "d": 4, "c": 9}]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_domains_have_equal_shares_of_every_batch(counts: dict[str, int], world: int) -> None:
    rows, size = forgeries(**counts), 3 * len(counts)
    sampler = BalancedDomains(size)
    assert isinstance(sampler, Sampler)
    ranks = [list(sampler.batches(rows, 7, 2, rank, world)) for rank in range(world)]
    assert {len(batches) for batches in ranks} == {sampler.count(rows, world)}
    length = math.ceil(max(counts.values()) / 3)
    assert sampler.count(rows, world) == math.ceil(length / world)
    for batch in itertools.chain.from_iterable(ranks):
        assert Counter(rows[d.index].method for d in batch) == dict.fromkeys(counts, 3)
    everything = [draw for batches in ranks for draw in flat(batches)]
    assert {draw.index for draw in everything} == set(range(len(rows)))
    assert len({draw.key for draw in everything}) == len(everything)
    times = Counter(draw.index for draw in everything)
    for name in counts:  # each member of a small domain in turn
        drawn = [times[i] for i, r in enumerate(rows) if r.method == name]
        assert max(drawn) - min(drawn) <= 1


def test_domains_do_not_change_with_the_processes_but_with_seed_and_epoch() -> None:
    rows = forgeries(real=8, a=24, b=12)
    alone = flat(BalancedDomains(12).batches(rows, 0, 0))
    together = [d for rank in range(2) for d in flat(BalancedDomains(6).batches(rows, 0, 0, rank, 2))]
    assert set(alone) == set(together) and alone == flat(BalancedDomains(12).batches(rows, 0, 0))
    for seed, epoch in ((1, 0), (0, 1)):
        assert [d.index for d in flat(BalancedDomains(12).batches(rows, seed, epoch))] != [
            d.index for d in alone
        ]


def test_domains_are_cycled_in_a_new_order_each_time() -> None:
    rows = forgeries(real=40, a=5)
    turns = [d.index for d in flat(BalancedDomains(2).batches(rows, 0, 0)) if rows[d.index].method == "a"]
    cycles = {tuple(turns[i : i + 5]) for i in range(0, 40, 5)}
    assert len(cycles) > 1 and all(len(set(cycle)) == 5 for cycle in cycles)


def test_the_length_of_an_epoch_of_domains_can_be_given() -> None:
    rows = forgeries(real=4, a=90)
    assert BalancedDomains(4, length=7).count(rows) == 7
    assert [BalancedDomains(4, length=7).count(rows, world) for world in (2, 3)] == [4, 3]
    assert len(list(BalancedDomains(4, length=7).batches(rows, 0, 0, 1, 2))) == 4


def test_domains_that_cannot_be_balanced_are_errors_with_their_mend() -> None:
    rows = forgeries(real=4, a=4, b=4)
    with pytest.raises(InputError, match=r"batch_size 16 .* 3 domains \(real, a, b\); give batch_size: 15"):
        BalancedDomains(16).count(rows)
    with pytest.raises(InputError, match="give batch_size: 3"):
        list(BalancedDomains(2).batches(rows, 0, 0))
    with pytest.raises(InputError, match="none of 4 records is fake"):
        BalancedDomains(4).count(forgeries(real=4))
    with pytest.raises(InputError, match=r"none of 4 records is real") as error:
        BalancedDomains(4).count(forgeries(a=4))
    assert error.value.reason == "one_class"
    with pytest.raises(InputError, match="expected the forgery's name"):
        BalancedDomains(2).count([*forgeries(real=1), FaceRecord("x", Label.FAKE)])
    for keywords in ({"batch_size": 0}, {"length": 0}):
        with pytest.raises(InputError, match="at least"):
            BalancedDomains(**keywords)
