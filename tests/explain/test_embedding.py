from __future__ import annotations

import importlib.util
import json
import re

import numpy as np
import pytest

from unseen.explain.embedding import Embedding, embed, group_of, groups_of, to_plane
from unseen.explain.faces import FaceFeatures
from unseen.explain.scatter import scatter_html, scatter_png, scatter_svg
from unseen.types import FaceRecord, InputError, Label


@pytest.fixture(scope="module")
def features() -> FaceFeatures:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 20)
    vector = rng.normal(0, 1, (40, 12)) + 8 * label[:, None]
    records = tuple(
        FaceRecord(f"/home/me/crops/{i % 2}/{i}.png</script>", Label(int(y)), "set", f"v{i}",
                   method="swap" if y else "real", identity=f"p{i % 5}")
        for i, y in enumerate(label)
    )  # fmt: skip
    return FaceFeatures(vector.astype(np.float32), rng.normal(0, 1, 40), records)


@pytest.mark.parametrize("kind", ["tsne", "pca"])
def test_the_same_seed_gives_the_same_points_and_classes_stay_apart(
    features: FaceFeatures, kind: str
) -> None:
    first, again = (embed(features, kind, seed=3).points for _ in range(2))  # type: ignore[arg-type]
    np.testing.assert_array_equal(first, again)
    assert first.shape == (40, 2) and first.min() >= 0 and first.max() <= 1
    assert np.isclose(np.ptp(first, axis=0).max(), 1)
    # Every face's nearest neighbour in the plane has its label.
    far = np.linalg.norm(first[:, None] - first[None], axis=2) + np.eye(40) * 9
    assert ((far.argmin(1) < 20) == (np.arange(40) < 20)).all()


def test_another_seed_gives_other_points_where_chance_has_a_part() -> None:
    vector = np.random.default_rng(1).normal(0, 1, (12, 1))  # one feature: t-SNE starts at random
    assert np.abs(to_plane(vector, "tsne", seed=0) - to_plane(vector, "tsne", seed=1)).max() > 0.01


def test_what_cannot_be_embedded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="embedding of 3 faces; expected four"):
        to_plane(np.zeros((3, 5)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'unseen\[explain\]'"):
        to_plane(np.random.default_rng(0).normal(0, 1, (9, 5)), "umap")


def test_groups_are_few_and_reals_come_first(features: FaceFeatures) -> None:
    one = embed(features, "pca")
    assert groups_of([one], "method") == ["real", "swap"]
    assert groups_of([one], "identity", most=3)[-1] == "others" and len(groups_of([one], "identity", 3)) == 3
    assert (
        group_of(FaceRecord("x"), "label") == "unlabelled"
        and group_of(FaceRecord("x"), "dataset") == "unknown"
    )


def test_drawings_hold_every_face_and_the_page_fetches_nothing(features: FaceFeatures) -> None:
    two = [embed(features, "pca", name="first & only"), embed(features, "pca", name="second")]
    svg, page = scatter_svg(two, "identity"), scatter_html(two, "identity")
    assert svg.count("data-row=") == 80 and "first &amp; only" in svg
    assert not re.search(r"""(?:src|href)\s*=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)""", page)
    data = re.search(r'id="rows">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    rows = json.loads(data.group(1))
    assert [len(run) for run in rows] == [40, 40]
    assert rows[0][3]["path"] == "1/3.png</script>" and rows[0][3]["identity"] == "p3"
    assert "/home/me" not in page
    picture = scatter_png(two, "label", scale=1)
    assert picture.dtype == np.uint8 and picture.shape[1] > 2 * 380
    colors = {tuple(color) for color in picture[60:430, 20:380].reshape(-1, 3).tolist()}
    assert len(colors) > 20  # two colours of marks, softened at their edges


def test_png_marks_lie_where_the_points_are() -> None:
    records = tuple(FaceRecord(f"{i}", Label(i % 2)) for i in range(4))
    points = np.array([[0, 0], [1, 0], [0, 1], [1, 1.0]])
    one = Embedding("a", "pca", points, FaceFeatures(np.zeros((4, 2), np.float32), np.zeros(4), records))
    picture = scatter_png([one], "label", scale=1).astype(int)
    svg = scatter_svg([one], "label")
    for number, (x, y) in enumerate(points):  # up is up: y = 1 lies at the upper edge
        at = (round(52 + 6.8 + (1 - y) * (380 - 13.6)), round(14 + 6.8 + x * (380 - 13.6)))
        wanted = [(0, 114, 178), (213, 94, 0)][number % 2]
        assert np.abs(picture[at] - wanted).max() < 90 and picture[at].min() < 120
    assert svg.count('fill="#0072B2"') == 3  # two faces and the legend


def test_a_bench_of_seven_families_and_its_reals_has_eight_colours() -> None:
    families = ("real", "swap", "poisson", "reenact", "autoencode", "texture", "restore", "sbi")
    records = tuple(FaceRecord(f"{name}.png", Label(int(name != "real")), method=name) for name in families)
    plane = np.random.default_rng(0).random((8, 2))
    seen = Embedding("run", "pca", plane, FaceFeatures(plane.astype(np.float32), plane[:, 0], records))
    legend = scatter_svg([seen], "method").partition("<g data-legend")[2]
    assert len(set(re.findall(r'fill="(#[0-9A-F]{6})"', legend))) == 8
