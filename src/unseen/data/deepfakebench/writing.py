"""From a manifest to what DeepfakeBench and its forks read: aligned crops, landmarks, and its JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from unseen.data.dataset import read_crop
from unseen.data.deepfakebench.naming import COMPRESSED, labels_for, their_set
from unseen.data.manifest import Manifest
from unseen.data.transforms import AlignFace
from unseen.types import FaceRecord, InputError, Label

__all__ = ["write_json", "write_tree"]


def write_json(manifest: Manifest, out: Path | str, *, start: Path | str | None = None) -> list[Path]:
    """Write its JSON, a file a data set, for crops as they are.

    Paths are relative to `start` and begin with a dot: its loader puts its own root, and a backslash, in
    front of any other path, absolute ones included.

    Args:
        manifest: Rows with label, data set, video and split.
        out: The folder of the JSON files, its `preprocessing/dataset_json`.
        start: The folder that its `train.py` is called from; default: here.

    Returns:
        The files.

    Raises:
        InputError: Rows lack a label or a split.
    """
    out, start = Path(out), Path(start or Path.cwd()).absolute()
    tops: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(manifest.records(), 1):
        if record.label is None or record.split not in ("train", "val", "test"):
            raise InputError(
                f"{manifest.name} row {number}: label {record.label}, split {record.split}; its JSON needs a "
                "label and train, val or test (`Manifest.split` makes them)",
                reason="no_split",
            )
        top, compression = their_set(record.dataset)
        label = labels_for(record.dataset, record.label, record.method)
        splits = tops.setdefault(top, {}).setdefault(label, {"train": {}, "val": {}, "test": {}})
        place = splits[record.split]
        if compression and top in COMPRESSED:
            place = place.setdefault(compression, {})
        name = _video(record)
        entry = place.setdefault(name, {"label": label, "frames": []})
        path = os.path.relpath(record.path, start).replace(os.sep, "/")
        entry["frames"].append(path if path.startswith(".") else f"./{path}")
    files = []
    for top, content in tops.items():
        if top in COMPRESSED:  # its loader asks every label and split for the compression, empty or not
            levels = {c for splits in content.values() for videos in splits.values() for c in videos}
            for splits in content.values():
                for videos in splits.values():
                    for level in levels:
                        videos.setdefault(level, {})
        files.append(_dump({top: content}, out / f"{top}.json"))
        if top == "FaceForensics++":
            for label, value in content.items():
                if label != "FF-real":
                    one = {label: {"FF-real": content.get("FF-real", {}), label: value}}
                    files.append(_dump(one, out / f"{label}.json"))
    return files


def _dump(content: dict[str, Any], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _video(record: FaceRecord) -> str:
    """Return a unique folder name: the plain stem where its label tells the rest."""
    return record.video.rpartition("/")[2] if _told(record) else record.video.replace("/", "_")


def _told(record: FaceRecord) -> bool:
    prefix, _, stem = record.video.rpartition("/")
    return bool(stem) and prefix in ("original", record.method)


def write_tree(manifest: Manifest, out: Path | str, *, size: int = 256, scale: float = 1.3) -> Manifest:
    """Write aligned crops with landmarks as its `preprocess.py` lays them out, and return their manifest.

    Five landmarks are brought to the ArcFace template, `scale` times wider, in `size` x `size` pixels, PNG.
    One difference is meant: its own pipeline looks for the face a second time in the aligned crop and drops
    the frame when it finds none; here the landmarks move with the picture.

    Args:
        manifest: Loose crops with landmarks, from `unseen prepare`.
        out: The folder; `DATASET/GROUP/{frames,landmarks}/VIDEO/NNN`.
        size: Side of the crops, pixels.
        scale: 1.3 there.

    Raises:
        InputError: A crop cannot be read or has no landmarks.
    """
    out = Path(out).absolute()
    align = AlignFace(size, template="arcface", scale=scale)
    made = list(_aligned(manifest.records(), out, align))
    return Manifest.from_records(made, out)


def _aligned(records: Iterable[FaceRecord], out: Path, align: AlignFace) -> Iterable[FaceRecord]:
    taken: set[Path] = set()
    for record in records:
        sample = read_crop(record)
        done = align(sample, np.random.default_rng(0))
        assert done.landmarks is not None
        group = out / _group(record)
        inside = Path(_video(record)) / f"{record.frame:03d}"
        crop = group / "frames" / inside.parent / f"{inside.name}.png"
        if crop in taken:
            raise InputError(
                f"{record.path}: another face of frame {record.frame} of {record.video}; this layout has one "
                "a frame, prepare with --people largest",
                reason="duplicate",
            )
        taken.add(crop)
        points = group / "landmarks" / inside.parent / f"{inside.name}.npy"
        for path in (crop, points):
            path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(crop), cv2.cvtColor(done.image, cv2.COLOR_RGB2BGR))
        if np.isfinite(
            done.landmarks
        ).all():  # its files hold whole numbers: a missing forehead cannot be said
            np.save(points, np.rint(done.landmarks).astype(np.int64))
        yield replace(record, path=str(crop), landmarks=done.landmarks, source=None)


_FOLDERS = {
    "deepfakes": "Deepfakes", "face2face": "Face2Face", "faceswap": "FaceSwap",
    "neuraltextures": "NeuralTextures", "faceshifter": "FaceShifter",
    "deepfakedetection": "DeepFakeDetection",
}  # fmt: skip


def _group(record: FaceRecord) -> Path:
    top, compression = their_set(record.dataset)
    if top in COMPRESSED:
        base = Path("FaceForensics++")
        if record.label is Label.REAL:
            return (
                base
                / "original_sequences"
                / ("actors" if top == "DeepFakeDetection" else "youtube")
                / (compression or "c23")
            )
        method = _FOLDERS.get(record.method or "", record.method or "fake")
        return base / "manipulated_sequences" / method / (compression or "c23")
    if top.startswith("Celeb-DF"):
        prefix = record.video.partition("/")[0]
        known = {"Celeb-real", "YouTube-real", "Celeb-synthesis"}
        real = record.label is Label.REAL
        return Path(top) / (prefix if prefix in known else "Celeb-real" if real else "Celeb-synthesis")
    return Path(top) / ("real" if record.label is Label.REAL else "fake")
