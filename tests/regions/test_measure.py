"""Tables and figures about regions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from unseen.checkpoint import Run
from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.data.regions import RULE, SHARDS, FaceRegions, RegionStore, pack_shard
from unseen.regions.draw import alpha_curve, alpha_sheet
from unseen.regions.measure import AlphaScore, region_shares, scores_by_alpha
from unseen.regions.store import primary_regions
from unseen.types import FaceRecord, InputError, Label


def test_shares_by_hand(tmp_path: Path) -> None:
    import json

    # One map is 0 but for its right half; the other is 1 everywhere; of the other face both are 0.
    half, full, none = np.float16([[0, 1]]), np.float16([[1]]), np.float16([[0]])
    rule = {"zoo": [{"name": "a"}, {"name": "b"}]}
    places, rank = np.zeros((2, 2, 3), np.float32), np.zeros((4, 4), np.uint8)
    rows = [
        FaceRegions("0.png", "", (8, 8), (0, 0, 8, 8), rank, (half, full), places),
        FaceRegions("1.png", "", (8, 8), (0, 0, 8, 8), rank, (none, none), places),
    ]
    (tmp_path / SHARDS).mkdir()
    (tmp_path / RULE).write_text(json.dumps(rule))
    (tmp_path / SHARDS / "0.regions").write_bytes(pack_shard(rule, rows))
    records = [FaceRecord(f"{i}.png", Label.FAKE, method="swap") for i in range(2)]
    # Enlarged to 8 columns the cells' centres lie at 2 and 6, the columns have 0 0 1/8 3/8 5/8 7/8 1 1: 6 of
    # 8 are positive, 75 % of one face and 0 of the other; their mean is 1/2.
    shares = region_shares(RegionStore(tmp_path), records, size=8)
    assert [(s.detector, s.method, s.percent, s.heat, s.faces) for s in shares] == [
        ("a", "swap", 37.5, 0.25, 2),
        ("b", "swap", 50.0, 0.5, 2),
    ]
    assert region_shares(RegionStore(tmp_path), records, size=8, threshold=0.7)[0].percent == 100 * 3 / 8 / 2
    with pytest.raises(InputError, match="another manifest"):
        region_shares(RegionStore(tmp_path), [FaceRecord("other.png", Label.FAKE)])


@pytest.fixture
def labelled(faces_file: Path) -> list[FaceRecord]:
    rows = Manifest.read(faces_file).records()[:6]
    return [replace(r, label=Label.FAKE, method="made") if i % 2 else r for i, r in enumerate(rows)]


def test_figures(labelled: list[FaceRecord], zoo: list[Run], tmp_path: Path) -> None:
    manifest = Manifest.from_records(labelled, Path(labelled[0].path).parent)
    out = str(tmp_path / "regions")
    primary_regions(manifest, zoo, out, size=64, device="cpu")
    scores = scores_by_alpha(zoo[0], labelled, out, alphas=(0, 0.5, 1), device="cpu")
    assert [s.alpha for s in scores] == [0, 0.5, 1]
    assert all(s.faces == 6 and 0 <= s.auc <= 1 for s in scores)
    assert len({round(s.real, 6) for s in scores}) == 3  # what is erased changes what is said
    again = scores_by_alpha(zoo[0], labelled, out, alphas=(0.5,), device="cpu")
    assert again[0] == scores[1]
    sheet = alpha_sheet(labelled[:2], out, alphas=(0.2, 1.0), side=48)
    assert sheet.shape == (20 + 2 * 50, 4 * 50, 3)
    black = [(sheet[20:70, i * 50 : (i + 1) * 50] == 0).all(2).sum() for i in range(4)]
    assert black[0] <= black[2] < black[3]
    svg = ElementTree.fromstring(alpha_curve(scores, "a <run>"))
    assert svg.tag.endswith("svg")


def test_a_curve_of_one_class_is_drawn_without_points() -> None:
    nothing = AlphaScore(0.5, float("nan"), 1.0, 0.0, float("nan"), 3)
    assert "circle" not in alpha_curve([nothing], "x")


def test_the_command(
    faces_file: Path, zoo: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    primary_regions(Manifest.read(faces_file), zoo, tmp_path / "regions", size=64, device="cpu")
    words = ["explain", "primary-regions", str(tmp_path / "regions"), str(faces_file), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "figures"), "--detector", str(zoo[0].folder)]) == 0
    assert "% of pixels" in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "figures").iterdir()} == {"masks.jpg", "alpha.csv", "alpha.svg"}
