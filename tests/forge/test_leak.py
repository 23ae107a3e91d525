"""A file must not tell by its codec whether it is forged: only by what it shows.

What a codec leaves: headers, tables, the picture's size in pixels, the 8 x 8 grid, and how many bytes a pixel
costs. Bytes also count detail, and two families paint a face with little of it, so a smaller file is what
these forgeries look like, not how they were saved. So every family is measured where nothing was forged, with
the same region blanked in the forged picture and in its source. docs/decisions.md has the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unseen.data.manifest import Manifest
from unseen.forge.families import FAMILIES
from unseen.forge.run import forge
from unseen.forge.synthetic import synthesise
from unseen.media.crop import encode_crop
from unseen.types import FaceRecord, Label

PEOPLE = 60
SMOOTH = {"autoencode", "restore"}  # families that take detail away
QUICK = {"autoencode": {"iterations": 4, "batch": 4}}


@dataclass(frozen=True)
class Pair:
    """A forged crop, the real one it was made from, and where they differ."""

    identity: str
    real: Path
    fake: Path
    mask: Path


def bench(faces: Path, out: Path, families: tuple[str, ...]) -> dict[str, list[Pair]]:
    forge(faces, out, families=families, workers=1, strengths=QUICK)
    rows = Manifest.read(out / "manifest.parquet").frame.filter(status="kept", label=1)
    found: dict[str, list[Pair]] = {name: [] for name in families}
    for row in rows.iter_rows(named=True):
        found[row["method"]].append(
            Pair(row["identity"], out / row["source"], out / row["path"], out / row["mask"])
        )
    return found


def header(path: Path) -> bytes:
    """Everything in the file before the picture's own bits: tables, subsampling, size, markers."""
    content = path.read_bytes()
    return content[: content.index(b"\xff\xda")]


def statistics(content: bytes, keep: np.ndarray | None = None) -> list[float]:
    """Bytes, bytes a pixel, and how strong edges are at each of the eight places of the JPEG grid.

    Args:
        content: The file.
        keep: Where to look; the rest is made grey before the bytes are counted. Everywhere if None.

    Shape:
        keep: (H, W) bool.
    """
    image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    seen = np.ones(image.shape[:2], bool) if keep is None else keep
    if keep is not None:
        content = encode_crop(np.where(seen[..., None], image, 128).astype(np.uint8))
    grey = image.mean(2)
    values = [float(len(content)), len(content) / seen.sum()]
    for axis in (0, 1):
        lines, whole = (np.moveaxis(a, axis, 0) for a in (grey, seen))
        edges, both = np.abs(np.diff(lines, axis=0)), whole[1:] & whole[:-1]
        phases = np.array([edges[n::8][both[n::8]].mean() for n in range(8)])
        values += list(phases / phases.mean())
    return values


def separation(pairs: list[Pair], *, outside: bool, resave: int | None = None) -> float:
    """Return the AUC of a classifier on these statistics, tested on people it has not seen."""
    features, label, people = [], [], []
    for pair in pairs:
        keep = None
        if outside:
            mask = np.asarray(Image.open(pair.mask)) > 0
            # Blocks that hold a forged pixel, and one more around: they are coded together.
            keep = cv2.dilate(mask.astype(np.uint8), np.ones((33, 33), np.uint8)) == 0
        for path, forged in ((pair.real, 0), (pair.fake, 1)):
            content = path.read_bytes()
            if resave and forged:
                done, saved = cv2.imencode(
                    ".jpg",
                    cv2.imdecode(np.frombuffer(content, np.uint8), 1),
                    [cv2.IMWRITE_JPEG_QUALITY, resave],
                )
                assert done
                content = encode_crop(np.ascontiguousarray(cv2.imdecode(saved, 1)[..., ::-1]))
            features.append(statistics(content, keep))
            label.append(forged)
            people.append(pair.identity)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
    score = cross_val_predict(
        model, np.array(features), label, groups=people, cv=GroupKFold(5), method="decision_function"
    )
    return float(roc_auc_score(label, score))


def test_headers_are_the_same(faces: Path, tmp_path: Path) -> None:
    for pairs in bench(faces, tmp_path, ("swap", "sbi")).values():
        assert len(pairs) >= 8
        for pair in pairs:
            assert header(pair.real) == header(pair.fake)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Pair]]:
    """Every family on people enough for an AUC."""
    root = tmp_path_factory.mktemp("leak")
    records = []
    for seed in range(PEOPLE):
        portrait = synthesise(seed, size=256)
        path = root / f"{portrait.identity}.jpg"
        path.write_bytes(encode_crop(portrait.image))
        who = portrait.identity
        records.append(
            FaceRecord(
                str(path),
                label=Label.REAL,
                dataset="synthetic",
                video=who,
                identity=who,
                landmarks=portrait.landmarks,
            )
        )
    Manifest.from_records(records, root).write(root / "manifest.parquet")
    return bench(root / "manifest.parquet", root / "bench", FAMILIES)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", FAMILIES)
def test_the_codec_does_not_tell_real_from_fake(name: str, many: dict[str, list[Pair]]) -> None:
    pairs = many[name]
    assert len(pairs) >= 0.8 * PEOPLE
    assert all(header(pair.real) == header(pair.fake) for pair in pairs)
    assert 0.4 < separation(pairs, outside=True) < 0.6
    if name not in SMOOTH:
        assert 0.4 < separation(pairs, outside=False) < 0.6


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_leak_would_be_seen(many: dict[str, list[Pair]]) -> None:
    """Forgeries that were saved once more than the real pictures, at quality 90, in between."""
    for outside in (True, False):
        assert separation(many["swap"], outside=outside, resave=90) > 0.7
