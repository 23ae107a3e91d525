"""A manifest of real faces to a bench: forgeries of several families, sources, masks and one manifest."""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unseen.forge.families import FAMILIES, family
from unseen.forge.family import Learner, Portrait, Unforgeable, check_portrait
from unseen.forge.groups import Group, companions, group_of, learn_groups, missing
from unseen.forge.pairs import Candidate, choose, describe, resting
from unseen.forge.work import ForgeRule, Job, Real, Row, dropped, read_picture, state, work
from unseen.prepare.journal import Journal, claim_folder
from unseen.prepare.pool import open_pool, work_off
from unseen.types import FaceRecord, InputError, Label

if TYPE_CHECKING:
    from unseen.data.manifest import Manifest

__all__ = ["Forge", "Plan", "Steps", "forge", "plan"]


@dataclass(frozen=True)
class Forge:
    """What a bench holds after one call.

    Args:
        manifest: Path of the manifest.
        kept: Pictures by method, `real` among them.
        dropped: Rows without a picture, by reason, those of real crops that could not be used included.
        made: Jobs done in this call; `skipped` were done by an earlier one.
        people: People in each split.
    """

    manifest: Path
    kept: dict[str, int]
    dropped: dict[str, int]
    made: int
    skipped: int
    people: dict[str, int]


@dataclass(frozen=True)
class Plan:
    """What a bench will hold.

    Args:
        jobs: Every picture, in a fixed order.
        groups: The people who are learned together, by the group's name; for families that learn.
        rows: Real crops that cannot be used, each with its reason.
    """

    jobs: list[Job]
    groups: dict[str, Group]
    rows: list[Row]


def forge(
    manifest: Manifest | str | Path,
    out: str | Path,
    *,
    families: Sequence[str] = FAMILIES,
    per_identity: int = 1,
    seed: int = 0,
    workers: int | None = None,
    strengths: Mapping[str, Mapping[str, Any]] | None = None,
    seconds_per_job: float = 900.0,
    report: Callable[[int, int], None] | None = None,
) -> Forge:
    """Forge faces and write `crops/`, `masks/` and `manifest.parquet` below `out`.

    Real crops go through the same decoding, trimming and encoding as the forged ones. Nobody is in two
    splits, neither as target nor as donor: the manifest's splits are kept, one without is split by identity.
    A row without an identity counts its video as a person. Families that learn people are trained first, one
    network for up to 16 people of a split, and kept in the bench's `.networks`. Killed at any moment and
    called again, it goes on where it was and ends with the same bytes, for any number of workers.

    Args:
        manifest: From `unseen prepare`; rows labelled fake are left out.
        out: The bench's folder; one seed and one set of strengths a folder.
        families: Which, see `unseen.forge.families.FAMILIES`.
        per_identity: Forgeries of each family for each person.
        seed: Of everything random.
        workers: Processes; default: one a core.
        strengths: Keywords of the families' classes, by family.
        seconds_per_job: A picture, or the network of a group, that takes longer is dropped as `timeout`.
        report: Called with (pictures and networks done, both in all).

    Raises:
        InputError: Unknown families or strengths, no usable real face, one person only where a family needs a
            donor, people in two splits, or a folder made with other settings; the message has the mend.
    """
    out = Path(out)
    rule = ForgeRule(seed, {name: dict(kind) for name, kind in (strengths or {}).items()})
    for name in rule.strengths:
        family(name, rule.strengths[name])
    planned = plan(manifest, families=families, per_identity=per_identity, rule=rule)
    jobs = planned.jobs
    # Other faces would be split anew, and somebody could end up in two splits of one bench.
    faces = sorted({(j.target.identity, j.target.facts["split"], j.target.facts["video"]) for j in jobs})
    digest = hashlib.sha256(json.dumps(faces).encode()).hexdigest()[:16]
    claim_folder(out, "forge", rule.to_dict() | {"faces": digest})
    with Journal(out / "journal.jsonl") as journal:
        todo = [job for job in jobs if not journal.has(job.name, _stamp(job))]
        unlearned = missing(todo, planned.groups, out)
        steps = Steps(len(jobs) - len(todo), len(jobs) + len(unlearned), report)
        with open_pool(len(todo), workers) as pool:
            given: dict[str, Any] = {"pool": pool, "seconds": seconds_per_job}
            trouble = learn_groups(unlearned, rule, out, report=steps.next, **given)
            able = [job for job in todo if job.group not in trouble]
            hopeless = ((job, [dropped(job, *trouble[job.group])]) for job in todo if job.group in trouble)
            for job, made in chain(hopeless, work_off(work, able, rule, out, lost=_lost, **given)):
                journal.add(job.name, _stamp(job), made)
                steps.next()
    rows = [*planned.rows, *journal.rows()]
    path = out / "manifest.parquet"
    table(rows, out).write(path)
    people: dict[str, set[str]] = defaultdict(set)
    for job in jobs:
        people[job.target.facts["split"]].add(job.target.identity)
    return Forge(
        path,
        dict(Counter(row["method"] for row in rows if row["status"] == "kept")),
        dict(sorted(Counter(row["reason"] for row in rows if row["status"] == "dropped").items())),
        len(todo),
        len(jobs) - len(todo),
        {split: len(names) for split, names in sorted(people.items())},
    )


class Steps:
    """Counts what is done and tells it."""

    def __init__(self, done: int, total: int, report: Callable[[int, int], None] | None) -> None:
        self.done, self.total, self.report = done - 1, total, report
        self.next()

    def next(self) -> None:
        """One more is done."""
        self.done += 1
        if self.report:
            self.report(self.done, self.total)


def plan(
    manifest: Manifest | str | Path, *, families: Sequence[str], per_identity: int, rule: ForgeRule
) -> Plan:
    """Decide every picture of a bench: who, from which crop, with whose face, by which seed.

    Args:
        manifest: As for `forge`.
        families: Their names.
        per_identity: Forgeries of each family for each person.
        rule: The bench's.

    Raises:
        InputError: As for `forge`.
    """
    if per_identity < 1 or not families:
        raise InputError(f"forge: {per_identity} a person of {len(families)} families; expected at least one")
    makers = {name: family(name, rule.strengths.get(name)) for name in families}
    reals, rows = _usable(_records(manifest))
    names = sorted({c.identity for c, _ in reals})
    needing = [name for name, maker in makers.items() if maker.needs_donor]
    if needing and len(names) < 2:
        able = [name for name in FAMILIES if name in ("texture", "restore", "sbi")]
        raise InputError(
            f"{_name(manifest)}: one identity only ({names[0]}); {', '.join(needing)} need a donor. Give "
            f"faces of more people with their `identity`, or choose from {', '.join(able)}",
            reason="one_identity",
        )
    pool = [c for c, _ in reals]
    by_person: dict[str, list[int]] = defaultdict(list)
    for position, candidate in enumerate(pool):
        by_person[candidate.identity].append(position)
    places: dict[int, str] = {}
    jobs: list[Job] = []
    for name in names:
        for n, position in enumerate(by_person[name]):
            places[position] = f"real/{_folder(name)}/{n}"
            jobs.append(Job(places[position], "real", reals[position][1], None, None, 0))
    together = companions(pool)
    groups: dict[str, Group] = {}
    for method, maker in makers.items():
        learned: dict[frozenset[str], Group] = {}
        if isinstance(maker, Learner):
            for people in {id(p): p for p in together.values() if len(p) > 1}.values():
                learned[people] = group_of(method, [r for c, r in reals if c.identity in people], rule)
            groups |= {group.name: group for group in learned.values()}
        for name in names:
            group = learned.get(together[name])
            lenders = pool if group is None else [c for c in pool if c.identity in together[name]]
            order = _rng(rule.seed, method, name).permutation(len(by_person[name]))
            for n in range(per_identity):
                position = by_person[name][int(order[n % len(order)])]
                rng = _rng(rule.seed, method, name, n)
                donor = None
                if maker.needs_donor:
                    donor = choose(pool[position], lenders, rng, other_expression=method == "reenact")
                jobs.append(
                    Job(
                        f"{method}/{_folder(name)}/{n}",
                        method,
                        _at_rest(reals[position], pool, method),
                        None if donor is None else _at_rest(reals[donor.number], pool, method),
                        f"crops/{places[position]}.jpg",
                        int(rng.integers(2**62)),
                        None if group is None else group.name,
                    )
                )
    return Plan(jobs, groups, rows)


def _at_rest(real: tuple[Candidate, Real], pool: Sequence[Candidate], method: str) -> Real:
    return replace(real[1], rest=resting(real[0], pool)) if method == "reenact" else real[1]


def _records(manifest: Manifest | str | Path) -> list[FaceRecord]:
    """Return the manifest's records, each with its split."""
    from unseen.data.manifest import Manifest

    read = manifest if isinstance(manifest, Manifest) else Manifest.read(manifest)
    read.check(needs=(), files=False)
    records = read.records()
    splits = {record.split for record in records}
    if None in splits and len(splits) > 1:
        raise InputError(
            f"{read.name}: some rows have a split and some have none; give all of them one, or none",
            reason="no_split",
        )
    if splits == {None}:
        people = len({_person(record) for record in records})
        # Two people a split at least: a split of one has no donor.
        share = max(0.1, 2.01 / people)
        shares = {"train": 1 - 2 * share, "val": share, "test": share} if people >= 6 else {"train": 1.0}
        records = read.split(shares, seed=0).records()
    return records


def _usable(records: Sequence[FaceRecord]) -> tuple[list[tuple[Candidate, Real]], list[Row]]:
    """Measure every real crop; those that cannot be used become rows with a reason."""
    reals: list[tuple[Candidate, Real]] = []
    rows: list[Row] = []
    for record in sorted(records, key=lambda r: r.path):
        if record.label is Label.FAKE:
            continue
        facts = {"dataset": record.dataset, "video": record.video, "frame": record.frame}
        facts |= {"time": record.time, "split": record.split}
        points = np.zeros((0, 2), np.float32) if record.landmarks is None else record.landmarks
        real = Real(record.path, points, _person(record), facts)
        portrait = Portrait(np.zeros((1, 1, 3), np.uint8), points, real.identity, record.path)
        try:
            if record.label is None:
                raise Unforgeable(
                    f"{record.path}: no label; run `unseen prepare --label real`", reason="no_label"
                )
            check_portrait(portrait)
            portrait = replace(portrait, image=read_picture(record.path))
        except InputError as error:
            rows.append(dropped(Job("", "real", real, None, None, 0), error.reason, str(error)))
            continue
        reals.append((describe(portrait, len(reals), record.split or ""), real))
    if not reals:
        found = ", ".join(f"{n} {reason}" for reason, n in Counter(r["reason"] for r in rows).items())
        raise InputError(
            f"forge: no usable real face among {len(records)} rows ({found or 'none is labelled real'}); "
            "run `unseen prepare --label real` on pictures of faces",
            reason="no_faces",
        )
    return reals, rows


def table(rows: Sequence[Row], out: Path) -> Manifest:
    """Return the manifest of a bench, its rows in a fixed order."""
    import polars

    from unseen.data.columns import SCHEMA
    from unseen.data.manifest import Manifest

    text, number, real = polars.String(), polars.Int64(), polars.Float64()
    schema: dict[str, Any] = dict(SCHEMA)
    schema |= {"donor": text, "mask": text}
    schema |= {f"region_{edge}": real for edge in ("x0", "y0", "x1", "y1")}
    schema |= {"parameters": text, "seed": number, "status": text, "reason": text, "note": text}
    schema |= {"original": text, "donor_path": text}
    ordered = sorted(rows, key=lambda r: (r["method"], r["identity"], r["path"], r["video"], r["original"]))
    columns = {name: [row.get(name) for row in ordered] for name in schema}
    return Manifest(polars.DataFrame(columns, schema=schema), out)


def _stamp(job: Job) -> str:
    """Everything that a job's result depends on but the rule, as a short text."""
    told: list[Any] = [job.method, job.source, job.seed, job.group]
    told += [state(real) for real in (job.target, job.donor) if real is not None]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:24]


def _lost(job: Job, reason: str, note: str) -> list[Row]:
    return [dropped(job, reason, note)]


def _rng(seed: int, *names: object) -> np.random.Generator:
    """Randomness that depends on names, never on an order."""
    return np.random.default_rng([seed, *hashlib.sha256("\0".join(map(str, names)).encode()).digest()[:16]])


def _person(record: FaceRecord) -> str:
    return record.identity or f"{record.dataset}/{record.video}".strip("/") or Path(record.path).stem


def _folder(identity: str) -> str:
    """Return a folder's name for an identity; two identities never share one."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "-", identity).lstrip(".-") or "person"
    return safe if safe == identity else f"{safe}-{zlib.crc32(identity.encode()):08x}"


def _name(manifest: Manifest | str | Path) -> str:
    return str(getattr(manifest, "name", manifest))
