"""A detector whose training confused people with labels shows it; one that had to find forgeries does not."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.planted import Small, checkered, smooth
from unseen.evaluate.metrics import auc
from unseen.explain.faces import FaceFeatures, evenly
from unseen.explain.identity import identity_probe, identity_share
from unseen.explain.leakage import interactions, measure_leakage
from unseen.explain.report import leakage_html, leakage_json, leakage_markdown
from unseen.models.detector import Detector
from unseen.models.heads import BinaryHead
from unseen.types import FaceRecord, InputError, Label

PEOPLE, SIDE = 6, 32


def people_of(who: np.ndarray, label: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
    looks = np.random.default_rng(1).uniform(0.3, 0.7, (PEOPLE, 3, 4, 4))
    return checkered(smooth(looks[who], SIDE, rng), label, rng, 8, (0.12, 0.25))[0]


def trained(confounded: bool) -> Detector:
    """Learns from people half of whom are always called fake, or from planted patches on everybody."""
    torch.manual_seed(0)
    rng = np.random.default_rng(2)
    detector = Detector(Small(SIDE), BinaryHead)
    steps = torch.optim.Adam(detector.parameters(), lr=5e-3)
    for _ in range(120):
        who = rng.integers(0, PEOPLE, 16)
        label = (who >= PEOPLE // 2).astype(np.int64) if confounded else rng.integers(0, 2, 16)
        image = people_of(who, np.zeros(16) if confounded else label, rng)
        steps.zero_grad()
        nn.functional.cross_entropy(detector(image).logits, torch.from_numpy(label)).backward()
        steps.step()
    return detector.eval()


@pytest.fixture(scope="module")
def neutral() -> tuple[torch.Tensor, np.ndarray, np.ndarray]:
    """Everybody real and forged alike: pictures, people, labels."""
    who, label = np.repeat(np.arange(PEOPLE), 20), np.tile([0, 1], 10 * PEOPLE)
    return people_of(who, label, np.random.default_rng(5)), who, label


def asked(detector: Detector, neutral: tuple[torch.Tensor, np.ndarray, np.ndarray]) -> FaceFeatures:
    image, who, label = neutral
    with torch.no_grad():
        output = detector(image)
    records = tuple(
        FaceRecord(f"{i}", Label(int(y)), "made", f"v{i}", identity=f"p{w}")
        for i, (w, y) in enumerate(zip(who, label, strict=True))
    )
    return FaceFeatures(output.features.vector.numpy(), output.score.double().numpy(), records)


@pytest.mark.slow
def test_a_confounded_detector_leaks_and_the_other_does_not(
    neutral: tuple[torch.Tensor, np.ndarray, np.ndarray],
) -> None:
    _, who, label = neutral
    leaky, clean = (asked(trained(confounded), neutral) for confounded in (True, False))
    names = [f"p{w}" for w in who]
    uses, finds = (identity_share(one.score, names, label) for one in (leaky, clean))
    assert uses.share > 0.8 and uses.share > 5 * uses.chance
    assert finds.share < finds.chance < 0.15
    assert auc(clean.score, label) > 0.95 and auc(leaky.score, label) < 0.6
    # What is known tells less: features that need not tell people apart still can.
    knows, less = (identity_probe(one, epochs=60).best for one in (leaky, clean))
    assert knows > 0.6 and knows >= less


def made(vector: np.ndarray, who: list[str], videos: list[str], label: int = 0) -> FaceFeatures:
    records = tuple(
        FaceRecord(f"{i}", Label(label), "made", video, identity=name)
        for i, (name, video) in enumerate(zip(who, videos, strict=True))
    )
    return FaceFeatures(vector.astype(np.float32), np.zeros(len(who)), records)


def test_the_probe_learns_from_other_videos_and_counts_them() -> None:
    rng = np.random.default_rng(0)
    who = [f"p{i // 8}" for i in range(24)]
    vector = np.eye(3)[np.arange(24) // 8] + rng.normal(0, 0.1, (24, 3))
    probe = identity_probe(made(vector, who, [f"v{i // 2}" for i in range(24)]))
    assert probe.people == 3 and probe.chance == pytest.approx(1 / 3)
    assert (probe.train, probe.test) == (12, 12) and probe.unlike
    assert probe.epochs[0] == 0 and probe.epochs[-1] == 100 and len(probe.epochs) == len(probe.accuracy)
    assert probe.best == 1.0 == probe.fitted[-1]
    frames = identity_probe(made(vector, who, who))  # one video a person: its frames are split
    assert not frames.unlike and frames.train == 12
    same = identity_probe(made(vector, who, who), seed=0)
    assert same == frames


def test_features_that_say_nothing_stay_at_chance() -> None:
    vector = np.random.default_rng(0).normal(0, 1, (400, 4))
    probe = identity_probe(made(vector, [f"p{i % 10}" for i in range(400)], [f"v{i}" for i in range(400)]))
    assert abs(probe.best - probe.chance) < 0.1


def test_the_probe_sees_reals_only_unless_told() -> None:
    fakes = made(np.zeros((8, 2)), ["a", "b"] * 4, [f"v{i}" for i in range(8)], label=1)
    with pytest.raises(InputError, match="0 people with two real faces or more among 8 rows"):
        identity_probe(fakes)
    assert identity_probe(fakes, which="all").people == 2


def test_share_by_hand() -> None:
    # Two people, scores 0 2 and 4 6: total sum of squares 20, between 16, within 4 over 2 degrees of freedom;
    # epsilon squared = (16 - 1 * 2) / 20.
    found = identity_share([0, 2, 4, 6], ["a", "a", "b", "b"], [0, 0, 0, 0])
    assert found.share == pytest.approx(0.7) and (found.people, found.faces) == (2, 4)
    # The means of classes are no use of identity, and who has one face only is left out.
    shifted = identity_share([0, 2, 4, 6, 10, 12, 14, 16, 99], [*"aabbaabb", "c"], [0] * 4 + [1] * 4 + [1])
    assert shifted.faces == 8 and shifted.share == pytest.approx((32 - 8 / 6) / 40)
    with pytest.raises(InputError, match="1 people with two faces"):
        identity_share([0, 1, 2], ["a", "a", None], [0, 0, 0])


def test_evenly_keeps_every_method() -> None:
    rows = [FaceRecord(f"{i}", method="rare" if i > 97 else "real", dataset="d") for i in range(100)]
    assert sum(r.method == "rare" for r in evenly(rows, 6)) == 2 and len(evenly(rows, 6)) == 6
    assert evenly(rows, None) == rows and evenly(rows, 0) == []


def test_the_report_says_what_it_cannot_say(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = Detector(Small(16), BinaryHead)
    rng = np.random.default_rng(0)
    records = []
    for i in range(12):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), rng.integers(0, 255, (16, 16, 3)).astype(np.uint8))
        home = i < 8
        records.append(
            FaceRecord(str(path), Label(i % 2), "home" if home else "away", f"v{i}",
                       identity=f"p{i % 4 // 2}" if home else None)
        )  # fmt: skip
    found = measure_leakage(detector, records, trained_on=["home"], limit=4, grid=4, epochs=5)
    assert [(one.dataset, one.trained_on) for one in found] == [("away", False), ("home", True)]
    away, home = found
    assert away.probe is None and away.share is None and len(away.notes) == 2
    assert home.probe is not None and home.probe.people == 2 and home.share is not None
    assert home.whole is not None and home.whole.faces == 4 and 0 <= home.whole.auc <= 1
    whole, rows = interactions(detector, evenly(records[:8], 4), grid=4)
    assert whole == home.whole and len(rows) == 4
    told = json.loads(leakage_json("tiny", found, {"seed": 0}))
    assert told["datasets"][1]["probe"]["people"] == 2 and told["datasets"][0]["probe"] is None
    text, page = leakage_markdown("tiny", found, {"seed": 0}), leakage_html("tiny", found, {"seed": 0})
    for word in ("How much identity", "home", "column `identity`"):
        assert word in text and word in page
    assert "<svg" in page and "src=" not in page and "chance 0.500" in page
