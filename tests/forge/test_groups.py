from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unseen.data.manifest import Manifest
from unseen.forge.family import Portrait
from unseen.forge.groups import PEOPLE, PICTURES, companions, group_of
from unseen.forge.pairs import Candidate, describe
from unseen.forge.run import forge, plan
from unseen.forge.work import ForgeRule, Real

QUICK = {"autoencode": {"iterations": 1, "batch": 2}}


def candidates(people: list[Portrait], count: int, split: str) -> list[Candidate]:
    """As many people as asked for, the darkest last."""
    one = describe(people[0], 0, split)
    return [
        replace(one, number=n, identity=f"{split}{n:03}", skin=np.array([90.0 - n, 0, 0]))
        for n in range(count)
    ]


def test_a_split_is_cut_into_groups_of_alike_people(people: list[Portrait]) -> None:
    pool = candidates(people, 2 * PEOPLE + 1, "train") + candidates(people, 5, "test")
    found = companions(pool)
    assert companions(pool[::-1]) == found and len(found) == len(pool)
    groups = set(found.values())
    assert sorted(len(group) for group in groups) == [5, 11, 11, 11]
    for group in groups:
        assert all(found[who] == group for who in group)
        assert len({who[:4] for who in group}) == 1  # one split
        places = sorted(int(who[-3:]) for who in group)
        assert places == list(range(places[0], places[0] + len(group)))  # neighbours in lightness
    assert companions(candidates(people, 1, "val")) == {"val000": frozenset({"val000"})}


def test_a_network_is_named_by_all_it_depends_on(tmp_path: Path) -> None:
    def real(who: str, n: int) -> Real:
        return Real(str(tmp_path / f"{who}{n:03}"), np.zeros((81, 2), np.float32), who, {"split": "train"})

    reals = [real(who, n) for who in "ab" for n in range(40)]
    group = group_of("autoencode", reals, ForgeRule())
    assert len(group.members) == 2 * PICTURES
    assert {"a000", "a039", "b000", "b039"} <= {Path(member.path).name for member in group.members}
    assert group_of("autoencode", reals[::-1], ForgeRule()).name == group.name
    other = [
        group_of("autoencode", reals[1:], ForgeRule()),
        group_of("autoencode", reals, ForgeRule(seed=1)),
        group_of("autoencode", reals, ForgeRule(strengths=QUICK)),
        group_of("other", reals, ForgeRule()),
    ]
    assert len({group.name, *(g.name for g in other)}) == 5
    (tmp_path / "a000").write_bytes(b"the file has changed")
    assert group_of("autoencode", reals, ForgeRule()).name != group.name


def test_donors_are_of_the_targets_group(faces: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unseen.forge.groups.PEOPLE", 3)
    found = plan(faces, families=("autoencode", "sbi"), per_identity=3, rule=ForgeRule())
    jobs = [job for job in found.jobs if job.method == "autoencode"]
    assert len(jobs) == 30 and {job.group for job in jobs} == set(found.groups)
    for job in jobs:
        group = found.groups[str(job.group)]
        assert job.donor is not None and job.donor.identity != job.target.identity
        assert {job.target.identity, job.donor.identity} <= {m.identity for m in group.members}
        assert len({m.facts["split"] for m in group.members}) == 1
    assert all(job.group is None for job in found.jobs if job.method != "autoencode")


def hashes(root: Path) -> dict[str, str]:
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.name != "journal.jsonl"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_networks_are_trained_once_and_the_bytes_do_not_depend_on_workers(
    faces: Path, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    first = forge(
        faces,
        tmp_path / "one",
        families=("autoencode",),
        strengths=QUICK,
        workers=1,
        report=lambda done, total: told.append((done, total)),
    )
    assert told == [(n, 20 + 3) for n in range(24)]  # ten real, ten forged, a network for each split
    assert first.kept["autoencode"] >= 5
    forge(faces, tmp_path / "two", families=("autoencode",), strengths=QUICK, workers=2)
    assert hashes(tmp_path / "two") == hashes(tmp_path / "one")
    networks = sorted((tmp_path / "one" / ".networks").iterdir())
    assert len(networks) == 3
    # As if killed with one network trained and no picture made: two are trained again, to the byte.
    (tmp_path / "two" / "journal.jsonl").unlink()
    stamps = [path.stat().st_mtime_ns for path in networks]
    for path in networks[1:]:
        (tmp_path / "two" / ".networks" / path.name).unlink()
    again = forge(faces, tmp_path / "two", families=("autoencode",), strengths=QUICK, workers=2)
    assert again.made == 20 and hashes(tmp_path / "two") == hashes(tmp_path / "one")
    # More forgeries of the same people need no more training.
    forge(faces, tmp_path / "one", families=("autoencode",), strengths=QUICK, workers=1, per_identity=2)
    assert [path.stat().st_mtime_ns for path in networks] == stamps


def test_a_network_that_cannot_be_trained_costs_its_pictures_only(
    faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(groups: list[object], *rest: object, **more: object) -> dict[str, tuple[str, str]]:
        return {group.name: ("timeout", "more than 1 s") for group in groups}  # type: ignore[attr-defined]

    monkeypatch.setattr("unseen.forge.run.learn_groups", fail)
    made = forge(faces, tmp_path, families=("autoencode", "sbi"), workers=1)
    assert made.dropped["timeout"] == 10 and made.kept["sbi"] >= 8 and "autoencode" not in made.kept
    rows = Manifest.read(made.manifest).frame
    assert set(rows.filter(rows["reason"] == "timeout")["note"]) == {"more than 1 s"}
