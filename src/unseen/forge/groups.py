"""Families that learn people: who is learned together, in one network that is trained once and kept.

A donor is always of the target's split, so a split could be one group. Its network would hold everybody's own
layer, and each step moves them all; groups of a few people train in the same number of steps, faster, and
beside each other. Who is in a group is decided by the faces alone, whatever is forged and by however many
processes.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unseen.forge.families import family
from unseen.forge.family import Learner
from unseen.forge.pairs import Candidate
from unseen.forge.work import ForgeRule, Job, Real, network_path, portrait, state
from unseen.prepare.pool import work_off
from unseen.types import InputError

if TYPE_CHECKING:
    from pebble import ProcessPool

__all__ = ["Group", "companions", "group_of", "learn_group", "learn_groups", "missing"]

PEOPLE = 16  # of a group, at most
PICTURES = 16  # of a person, at most


@dataclass(frozen=True, eq=False)
class Group:
    """People who are learned together. `name` is a digest of everything that the network depends on."""

    name: str
    method: str
    members: tuple[Real, ...]


def companions(pool: Sequence[Candidate]) -> dict[str, frozenset[str]]:
    """Say with whom everybody is learned: people of one split whose skin is alike, at most `PEOPLE`.

    Args:
        pool: Everybody who can be used.

    Returns:
        The identities of each identity's group, its own among them.
    """
    light: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in pool:
        light[one.split][one.identity].append(float(one.skin[0]))
    found: dict[str, frozenset[str]] = {}
    for people in light.values():
        # A swap between alike people is the better forgery, so they are put together.
        order = sorted(people, key=lambda who: (float(np.mean(people[who])), who))
        count = -(-len(order) // PEOPLE)
        for part in np.array_split(np.arange(len(order)), count):
            together = frozenset(order[i] for i in part)
            found |= dict.fromkeys(together, together)
    return found


def group_of(method: str, reals: Sequence[Real], rule: ForgeRule) -> Group:
    """Return the group of some people, with a share of each one's pictures, spread over all of them."""
    by_person: dict[str, list[Real]] = defaultdict(list)
    for real in sorted(reals, key=lambda r: (r.identity, r.path)):
        by_person[real.identity].append(real)
    members: list[Real] = []
    for mine in by_person.values():
        count = min(len(mine), PICTURES)
        members += [mine[i] for i in np.linspace(0, len(mine) - 1, count).round().astype(int)]
    told = [method, rule.seed, rule.strengths.get(method, {}), [state(real) for real in members]]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    return Group(f"{method}-{digest[:24]}", method, tuple(members))


def missing(jobs: Sequence[Job], groups: Mapping[str, Group], out: Path) -> list[Group]:
    """Return the groups that some jobs need and whose network is not there yet."""
    names = sorted({job.group for job in jobs if job.group})
    return [groups[name] for name in names if not network_path(name, out).is_file()]


def learn_groups(
    groups: Sequence[Group],
    rule: ForgeRule,
    out: Path,
    *,
    pool: ProcessPool,
    seconds: float,
    report: Callable[[], None],
) -> dict[str, tuple[str, str]]:
    """Train networks in worker processes.

    Args:
        groups: Whose.
        rule: The bench's.
        out: The bench.
        pool: Who trains, from `open_pool`.
        seconds: A network that takes longer is given up.
        report: Called after each.

    Returns:
        By name, why a group has none: a reason and a sentence.
    """
    trouble = {}
    for group, said in work_off(learn_group, groups, rule, out, lost=_lost, pool=pool, seconds=seconds):
        if said is not None:
            trouble[group.name] = said
        report()
    return trouble


def learn_group(group: Group, rule: ForgeRule, out: Path) -> tuple[str, str] | None:
    """Train one network and keep it; return a reason and a sentence if that cannot be."""
    try:
        maker = family(group.method, {"seed": rule.seed} | rule.strengths.get(group.method, {}))
        if isinstance(maker, Learner):
            maker.learn([portrait(real) for real in group.members])
            maker.save(network_path(group.name, out))
    except InputError as error:
        return error.reason, str(error)
    return None


def _lost(group: Group, reason: str, note: str) -> tuple[str, str] | None:
    return reason, note
