"""Is this data what it says? Faults of a manifest that make numbers wrong."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from unseen.prepare.fingerprint import Fingerprint, fingerprint, near_pairs
from unseen.types import FaceRecord, InputError, Label

if TYPE_CHECKING:
    from unseen.data.manifest import Manifest

__all__ = ["Audit", "Finding", "audit"]

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One kind of fault.

    Args:
        code: Stable, such as `identity_overlap`.
        severity: An `error` makes numbers wrong, a `warning` may, a `note` says what was not looked at.
        text: What, where, and the mend.
        number: How many rows, videos or people, as the text says.
        examples: The first of them.
    """

    code: str
    severity: Severity
    text: str
    number: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        shown = f"\n    {'; '.join(self.examples)}" if self.examples else ""
        return f"{self.severity}: {self.text} [{self.code}]{shown}"


@dataclass(frozen=True)
class Audit:
    """What was found in a manifest, errors first."""

    name: str
    rows: int
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not any(finding.severity == "error" for finding in self.findings)

    def to_json(self) -> str:
        """Return everything as JSON."""
        found = [vars(finding) for finding in self.findings]
        return json.dumps(
            {"manifest": self.name, "rows": self.rows, "ok": self.ok, "findings": found}, indent=2
        )

    def to_text(self) -> str:
        """Return everything for a person."""
        count = Counter(finding.severity for finding in self.findings)
        end = ", ".join(f"{count[s]} {s}{'s' * (count[s] != 1)}" for s in ("error", "warning", "note"))
        return "\n".join([f"{self.name}: {self.rows:,} rows", *map(str, self.findings), end])


def audit(
    manifest: Manifest,
    *,
    min_frames: int = 8,
    distance: int = 10,
    overlap: float = 0.1,
    report: Callable[[int, int], None] | None = None,
) -> Audit:
    """Look a manifest and its files through.

    Args:
        manifest: Any; what it lacks is a note, not an error.
        min_frames: A video with fewer usable crops is a warning, if most of its data set's have more.
        distance: Bits of 256 in which near duplicates differ at most; below 16.
        overlap: A mask that covers less of the union with the face is a warning.
        report: Called with (files read, files in all).
    """
    records = manifest.records()
    prints: list[Fingerprint | None] = []
    faults: dict[str, list[str]] = defaultdict(list)
    with ThreadPoolExecutor() as pool:
        for done, found in enumerate(pool.map(_try, records), 1):
            prints.append(found if isinstance(found, Fingerprint) else None)
            if isinstance(found, InputError):
                faults[found.reason].append(str(found))
            if report:
                report(done, len(records))
    donors = _column(manifest, "donor", len(records))
    findings = [
        *_files(faults),
        *_labels(records),
        *_splits(records, donors),
        *_frames(records, min_frames),
        *_copies(records, prints, distance),
        *_faces(records, manifest.paths("mask"), overlap),
        *_codec(records, prints),
    ]
    order = ("error", "warning", "note")
    return Audit(manifest.name, len(manifest), sorted(findings, key=lambda f: order.index(f.severity)))


def _try(record: FaceRecord) -> Fingerprint | InputError:
    try:
        return fingerprint(record.path)
    except InputError as error:
        return error


def _column(manifest: Manifest, name: str, number: int) -> list[str | None]:
    if name not in manifest.frame.columns:
        return [None] * number
    frame = manifest.frame
    if "status" in frame.columns:
        frame = frame.filter(frame["status"].is_null() | (frame["status"] == "kept"))
    return [value or None for value in frame[name].to_list()]


def _files(faults: dict[str, list[str]]) -> Iterator[Finding]:
    for reason, found in faults.items():
        mend = "was the manifest moved without its crops?" if reason == "missing" else "prepare them again"
        yield Finding(reason, "error", f"{len(found)} files {reason}; {mend}", len(found), found[:3])


def _labels(records: Sequence[FaceRecord]) -> Iterator[Finding]:
    wrong = [r for r in records if r.label is Label.FAKE and (r.method or "").lower() in ("real", "original")]
    wrong += [
        r
        for r in records
        if r.label is Label.REAL and r.method and r.method.lower() not in ("real", "original")
    ]
    if wrong:
        yield Finding(
            "label_polarity", "error",
            f"{len(wrong)} rows whose label contradicts their method; 0 is real and 1 is fake here, some "
            "lists (Celeb-DF's) have it the other way", len(wrong),
            [f"{r.path}: label {int(r.label or 0)}, method {r.method}" for r in wrong[:3]],
        )  # fmt: skip
    words = {"real": Label.REAL, "original": Label.REAL, "fake": Label.FAKE, "manipulated": Label.FAKE}
    odd = []
    for record in records:
        said = {words[part] for part in Path(record.path.lower()).parts[:-1] if part in words}
        if record.label is not None and len(said) == 1 and record.label not in said:
            odd.append(record)
    if odd and not wrong:
        yield Finding(
            "label_folder", "warning", f"{len(odd)} rows whose label contradicts a folder of their path",
            len(odd),
            [f"{r.path}: label {int(r.label or 0)}" for r in odd[:3]],
        )  # fmt: skip
    videos: dict[tuple[str, str], set[Label]] = defaultdict(set)
    for record in records:
        if record.video and record.label is not None:
            videos[record.dataset, record.video].add(record.label)
    mixed = [f"{d} {v}" for (d, v), found in videos.items() if len(found) > 1]
    if mixed:
        yield Finding(
            "mixed_video", "error",
            f"{len(mixed)} videos with rows of both labels; give a real video and its forgery two names",
            len(mixed), mixed[:3],
        )  # fmt: skip
    without = sum(record.label is None for record in records)
    if without:
        yield Finding("no_label", "note", f"{without} rows without a label", without)


def _splits(records: Sequence[FaceRecord], donors: Sequence[str | None]) -> Iterator[Finding]:
    people: dict[str, set[str]] = defaultdict(set)
    videos: dict[str, set[str]] = defaultdict(set)
    for record, donor in zip(records, donors, strict=True):
        if record.split is None:
            continue
        for person in (record.identity, donor):
            if person:
                people[person].add(record.split)
        if record.video:
            videos[f"{record.dataset} {record.video}"].add(record.split)
    if not any(record.split for record in records):
        yield Finding("no_split", "note", "no splits, so nothing to say of overlap between them")
        return
    for code, what, found in (("identity_overlap", "people", people), ("video_overlap", "videos", videos)):
        over = {name: splits for name, splits in found.items() if len(splits) > 1}
        if over:
            yield Finding(
                code, "error",
                f"{len(over)} {what} are in more than one split; `Manifest.split` keeps people together",
                len(over), [f"{name}: {', '.join(sorted(s))}" for name, s in sorted(over.items())[:3]],
            )  # fmt: skip
    if not people:
        yield Finding("no_identity", "note", "no identities: people in two splits cannot be found")


def _frames(records: Sequence[FaceRecord], least: int) -> Iterator[Finding]:
    number = Counter((record.dataset, record.video) for record in records if record.video)
    usual: dict[str, list[int]] = defaultdict(list)
    for (dataset, _), count in number.items():
        usual[dataset].append(count)
    few = [
        f"{dataset} {video}: {count}"
        for (dataset, video), count in sorted(number.items())
        if count < least <= float(np.median(usual[dataset]))
    ]
    if few:
        yield Finding(
            "few_frames", "warning",
            f"{len(few)} videos with fewer than {least} crops; their rows with status `dropped` say why",
            len(few), few[:3],
        )  # fmt: skip


def _copies(
    records: Sequence[FaceRecord], prints: Sequence[Fingerprint | None], distance: int
) -> Iterator[Finding]:
    same: dict[str, list[int]] = defaultdict(list)
    for index, found in enumerate(prints):
        if found is not None:
            same[found.digest].append(index)
    groups = [rows for rows in same.values() if len(rows) > 1]
    clash = [rows for rows in groups if len({records[i].label for i in rows} - {None}) > 1]
    if clash:
        yield Finding(
            "label_conflict", "error", f"{len(clash)} pictures are there as real and as fake, byte for byte",
            len(clash), [_pair(records, rows[0], rows[1]) for rows in clash[:3]],
        )  # fmt: skip
    yield from _equal_splits(records, prints)
    leaks = [rows for rows in groups if len({records[i].split for i in rows} - {None}) > 1]
    if leaks:
        yield Finding(
            "duplicate_overlap", "error", f"{len(leaks)} pictures are in more than one split, byte for byte",
            len(leaks), [_pair(records, rows[0], rows[1]) for rows in leaks[:3]],
        )  # fmt: skip
    within = sum(len(rows) - 1 for rows in groups) - sum(len(rows) - 1 for rows in leaks)
    if within:
        yield Finding(
            "duplicate", "warning", f"{within} pictures are copies of others in the same split", within
        )
    usable = [i for i, found in enumerate(prints) if found is not None]
    if len(usable) < 2:
        return
    hashes = np.stack([found.hash for found in prints if found is not None])
    near = []
    for a, b, bits in near_pairs(hashes, distance=distance):
        first, second = records[usable[a]], records[usable[b]]
        first_print, second_print = prints[usable[a]], prints[usable[b]]
        assert first_print is not None and second_print is not None
        if (
            first.split and second.split and first.split != second.split
            and first_print.digest != second_print.digest
        ):  # fmt: skip
            near.append(f"{_pair(records, usable[a], usable[b])} ({bits} bits of 256)")
    if near:
        yield Finding(
            "near_duplicate", "warning",
            f"{len(near)} pairs of nearly equal pictures in different splits; look at them",
            len(near), near[:3],
        )  # fmt: skip


def _equal_splits(records: Sequence[FaceRecord], prints: Sequence[Fingerprint | None]) -> Iterator[Finding]:
    content: dict[str, set[str]] = defaultdict(set)
    for record, found in zip(records, prints, strict=True):
        if record.split and found is not None:
            content[record.split].add(found.digest)
    val, test = content.get("val", set()), content.get("test", set())
    if val and test and len(val & test) >= 0.9 * min(len(val), len(test)):
        yield Finding(
            "val_is_test", "error",
            "the validation split is the test split: what is chosen on it is chosen on the test",
            len(val & test),
        )  # fmt: skip


def _pair(records: Sequence[FaceRecord], first: int, second: int) -> str:
    a, b = records[first], records[second]
    return f"{a.path} ({a.split or 'no split'}) = {b.path} ({b.split or 'no split'})"


def _faces(records: Sequence[FaceRecord], masks: Sequence[str | None], least: float) -> Iterator[Finding]:
    from unseen.data.masks import hull_mask, read_mask

    wrong, bad, looked = [], [], 0
    for record, place in zip(records, masks, strict=True):
        if record.label is not Label.FAKE or not place or record.landmarks is None:
            continue
        if not np.isfinite(record.landmarks[:68]).all():
            continue
        try:
            mask = read_mask(place)
        except InputError as error:
            bad.append(str(error))
            continue
        looked += 1
        height, width = mask.shape[:2]
        face = hull_mask(record.landmarks, (height, width), "extended") > 0.5
        forged = mask > 1
        union = int((face | forged).sum())
        share = int((face & forged).sum()) / union if union else 0.0
        if share < least:
            wrong.append(f"{record.path}: {share:.2f}")
    if wrong:
        yield Finding(
            "wrong_face", "warning",
            f"{len(wrong)} of {looked} fakes whose face is hardly touched by the mask: the crop may show "
            "another person; prepare with --people all and keep the masked one", len(wrong), wrong[:3],
        )  # fmt: skip
    if bad:
        yield Finding("bad_mask", "warning", f"{len(bad)} masks cannot be read", len(bad), bad[:3])
    fakes = sum(record.label is Label.FAKE for record in records)
    if fakes and not looked:
        yield Finding("no_masks", "note", "no masks of forged regions: a wrong face cannot be suspected")


def _codec(records: Sequence[FaceRecord], prints: Sequence[Fingerprint | None]) -> Iterator[Finding]:
    for split in sorted({record.split or "" for record in records}):
        rows = [
            (record, found)
            for record, found in zip(records, prints, strict=True)
            if (record.split or "") == split and found is not None and record.label is not None
        ]
        name = split or "no split"
        kinds = {label: {f.kind for r, f in rows if r.label is label} for label in Label}
        if all(kinds.values()) and not kinds[Label.REAL] & kinds[Label.FAKE]:
            yield Finding(
                "format_leak", "error",
                f"split {name}: all real pictures are {'/'.join(sorted(kinds[Label.REAL]))}, all fakes "
                f"{'/'.join(sorted(kinds[Label.FAKE]))}; prepare both alike", len(rows),
            )  # fmt: skip
            continue
        auc = _told_by_file(rows)
        if auc is not None and auc > 0.8:
            yield Finding(
                "codec_leak", "warning",
                f"split {name}: bytes, bytes a pixel and traces of the JPEG grid tell real from fake with "
                f"AUC {auc:.2f}, without a look at a face; prepare both from files of one codec", len(rows),
            )  # fmt: skip


def _told_by_file(rows: Sequence[tuple[FaceRecord, Fingerprint]]) -> float | None:
    """Return how well file statistics tell the label of people not seen; None if that cannot be measured."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    step = max(1, len(rows) // 4000)
    rows = rows[::step]
    label = np.array([int(record.label or 0) for record, _ in rows])
    group = [record.identity or f"{record.dataset} {record.video or record.path}" for record, _ in rows]
    kinds = {value: len({g for g, y in zip(group, label, strict=True) if y == value}) for value in (0, 1)}
    if min(kinds.values()) < 10 or len(set(group)) < 10:
        return None
    features = np.stack([found.statistics for _, found in rows])
    model: Any = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=2000)
    )
    score = cross_val_predict(
        model, features, label, groups=group, cv=GroupKFold(5), method="decision_function"
    )
    return float(roc_auc_score(label, score))
