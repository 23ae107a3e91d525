"""What is asked for is given or named; maps lie on the original picture; numbers by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from tests.train.faces import ellipse_landmarks
from unseen.data.manifest import Manifest
from unseen.data.transforms import AlignFace
from unseen.explain.balance import balance_sheet, error_balance, nearest_reals, worst_faces
from unseen.explain.evidence import explain_views, positive_share, summarize
from unseen.explain.faces import FaceFeatures, face_features
from unseen.explain.sanity import deletion, heat_iou, insertion, peak_inside
from unseen.explain.sheet import concept_bars, contact_sheet, evidence_pictures
from unseen.explain.views import View, forged_regions, view_file, view_records
from unseen.methods.prle import region_share
from unseen.models.backbone import Backbone
from unseen.models.detector import Detector, Part
from unseen.models.heads import BinaryHead
from unseen.types import Explanation, FaceRecord, Features, InputError, Label


class Bright(Backbone):
    """Its map is the picture; fake is what is bright."""

    def __init__(self) -> None:
        super().__init__(3, 3, 32, mean=(0, 0, 0), std=(1, 1, 1))

    def forward(self, image: Tensor) -> Features:
        map = torch.nn.functional.avg_pool2d(self.normalize(image), 4)
        return Features(map, map.mean((2, 3)))


class Attends(Part):
    """Evidence as RealID's and DID's parts give it."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()

    def forward(self, features: Features) -> tuple[Features, Tensor]:
        return features, features.map.mean(1)

    def explain(self, aux: Tensor) -> list[list[Explanation]]:
        return [
            [
                Explanation("forgery attention", heatmap=heat.numpy().astype(np.float32)),
                Explanation("prototypes", scores=np.float32([0.2, 0.9, 0.1])),
            ]
            for heat in aux.detach().clamp(0, 1)
        ]


@pytest.fixture
def detector() -> Detector:
    found = Detector(Bright(), BinaryHead, [Attends])
    with torch.no_grad():
        found.head.linear.weight.copy_(torch.tensor([[0.0] * 3, [20.0] * 3]))  # type: ignore[union-attr, operator]
        found.head.linear.bias.copy_(torch.tensor([0.0, -15.0]))  # type: ignore[union-attr, operator]
    return found


def face(label: int = 1, at: tuple[int, int] = (8, 16)) -> View:
    """A dark face with a bright square, the forged one."""
    picture = np.full((32, 32, 3), 20, np.uint8)
    mask = np.zeros((32, 32), np.float32)
    rows, columns = slice(at[0], at[0] + 8), slice(at[1], at[1] + 8)
    picture[rows, columns], mask[rows, columns] = 250, 1
    record = FaceRecord("f.png", Label(label), method="swap" if label else "real")
    return View("f.png", picture, picture, np.eye(2, 3), record, None, mask if label else None)


def test_all_that_a_run_has_is_given_and_what_it_lacks_is_named(detector: Detector) -> None:
    (seen,) = explain_views(detector.train(), [face()])
    assert detector.training and list(seen.found) == ["gradcam", "prototypes", "attention"]
    assert [one.kind for one in seen.found["attention"]] == ["forgery attention"]
    (only,) = explain_views(detector, [face()], ["attention"])
    assert list(only.found) == ["attention"]
    with pytest.raises(
        InputError, match=r"--with regions: tiny has none.*it has gradcam, prototypes, attention"
    ):
        explain_views(detector, [face()], ["attention", "regions"], name="tiny")
    with pytest.raises(InputError, match="--with lime: unknown; expected of gradcam, regions"):
        explain_views(detector, [face()], ["lime"])


def test_what_is_hot_is_measured_against_what_is_forged(detector: Detector) -> None:
    seen = explain_views(detector, [face(), face(at=(0, 0)), face(0)], steps=16, batch_size=2)
    rows = {(row.kind, row.method): row for row in summarize(seen)}
    cam = rows["gradcam", "swap"]
    assert cam.faces == 2 and cam.pointing == 1.0 and cam.iou is not None and cam.iou > 0.7
    assert rows["gradcam", "real"].pointing is None and rows["gradcam", "all"].faces == 3
    assert cam.deletion is not None and cam.deletion_random is not None
    assert cam.deletion < cam.deletion_random and cam.percent == 100.0
    told = seen[0].to_dict()
    assert told["trust"]["gradcam"]["inside"] is True and len(told["evidence"]["gradcam"][0]["heatmap"]) == 8
    assert "iou" not in seen[2].to_dict()["trust"]["gradcam"]


def test_numbers_by_hand() -> None:
    forged = np.zeros((4, 4), bool)
    forged[:2, :2] = True
    heat = np.zeros((4, 4), np.float32)
    heat[0, :2], heat[3, 2:] = 1, 0.5
    # Four pixels are forged; of the four hottest two are; union six.
    assert peak_inside(heat, forged) and heat_iou(heat, forged) == pytest.approx(2 / 6)
    assert not peak_inside(np.zeros((4, 4)), forged) and heat_iou(np.zeros((4, 4)), forged) == 0
    assert positive_share(heat, size=4) == 0.25
    assert positive_share(np.float32([[1, 0], [0, 0]]), threshold=0.5, size=4) == pytest.approx(4 / 16)


def test_the_share_above_zero_is_that_of_primary_regions() -> None:
    """One definition, whether maps come from a run or from a store (PRLE, Table I)."""
    heat = np.maximum(np.random.default_rng(0).normal(0, 1, (7, 7)), 0).astype(np.float32)
    large = torch.nn.functional.interpolate(
        torch.from_numpy(heat)[None, None], size=(256, 256), mode="bilinear"
    )
    assert positive_share(heat) == pytest.approx(float(region_share(large)), abs=2e-3)
    assert 0.3 < positive_share(heat) < 1


def test_deletion_and_insertion_lead_from_one_face_to_the_other(detector: Detector) -> None:
    image = torch.from_numpy(face().image).permute(2, 0, 1).float() / 255
    heat = image.mean(0).numpy()
    gone, come = deletion(detector, image, heat, steps=5), insertion(detector, image, heat, steps=5)
    with torch.no_grad():
        whole = float(detector.eval()(image[None]).score.sigmoid())
    assert gone.shape == (6,) and gone[0] == pytest.approx(whole, abs=1e-5) == come[-1]
    assert gone[-1] == pytest.approx(come[0], abs=1e-5)
    with pytest.raises(InputError, match="0 steps"):
        deletion(detector, image, heat, steps=0)


@pytest.fixture
def bench(tmp_path: Path, portrait: np.ndarray) -> Manifest:
    """Two crops with landmarks; a mask for the first, a box for the second."""
    crop = np.ascontiguousarray(portrait[40:360, 100:420])
    records = []
    for number in range(2):
        cv2.imwrite(str(tmp_path / f"{number}.png"), crop[..., ::-1])
        records.append(
            FaceRecord(str(tmp_path / f"{number}.png"), Label.FAKE, "set", f"v{number}", method="swap",
                       landmarks=ellipse_landmarks((150, 150), (80, 100)))
        )  # fmt: skip
    mask = np.zeros((320, 320), np.uint8)
    mask[100:180, 120:200] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    frame = Manifest.from_records(records, tmp_path).frame
    import polars as pl

    corners = {"region_x0": 120.0, "region_y0": 100.0, "region_x1": 200.0, "region_y1": 180.0}
    frame = frame.with_columns(
        pl.Series("mask", ["mask.png", None]), *(pl.lit(value).alias(name) for name, value in corners.items())
    )
    return Manifest(frame, tmp_path)


def test_masks_and_boxes_of_a_manifest_come_to_the_same_place(bench: Manifest) -> None:
    one, two = view_records(bench.records(), [AlignFace(64)], regions=forged_regions(bench))
    assert one.mask is not None and two.mask is not None and one.image.shape == (64, 64, 3)
    assert np.abs(one.mask - two.mask).max() < 1e-5 and one.mask.max() == 1
    corners = np.array([[119.5, 99.5], [199.5, 179.5]]) @ one.matrix[:, :2].T + one.matrix[:, 2]
    rows, columns = np.nonzero(one.mask > 0.5)
    assert np.abs([columns.min(), rows.min()] - corners[0]).max() < 1.5
    assert np.abs([columns.max(), rows.max()] - corners[1]).max() < 1.5
    broken = {record.path: str(bench.root / "none.png") for record in bench.records()}
    with pytest.raises(InputError, match=r"none.png: not a readable mask|none of 2 faces"):
        view_records(bench.records(), [AlignFace(64)], regions=broken)


def test_a_crop_without_landmarks_is_refused_with_its_mend(bench: Manifest) -> None:
    bare = [FaceRecord(record.path, Label.REAL) for record in bench.records()]
    assert view_records(bare)[0].matrix.tolist() == np.eye(2, 3).tolist()
    with pytest.raises(InputError, match="needs landmarks"):
        view_records(bare, [AlignFace(64)])


def test_a_file_is_drawn_on_its_own_frame(
    detector: Detector, portrait_file: Path, portrait: np.ndarray
) -> None:
    (view,) = view_file(portrait_file, [AlignFace(32)])
    np.testing.assert_array_equal(view.frame, portrait)
    assert view.box is not None
    middle = (view.box[:2] + view.box[2:]) / 2
    x, y = view.matrix[:, :2] @ middle + view.matrix[:, 2]
    assert 8 < x < 24 and 8 < y < 24  # the face is in the middle of what the detector sees
    (seen,) = explain_views(detector, [view])
    pictures = evidence_pictures(seen, side=300)
    assert set(pictures) == {"gradcam", "forgery attention", "prototypes"}
    drawn = pictures["gradcam"]
    assert drawn.shape[0] == 300 + 26  # the frame and the scale
    assert (drawn[-13, :, 2].astype(int) - drawn[-13, :, 0]).max() > 30  # the violet end of it
    sheet = contact_sheet([seen] * 3, side=80, concepts=[[portrait]] * 3)
    assert sheet.shape[0] > 80 and sheet.shape[1] <= 1000
    assert concept_bars(np.float32([0.2, 0.9]), [[portrait], [portrait]]).shape[0] == 240


def test_errors_are_counted_by_method_and_worst_reals_have_neighbours(tmp_path: Path) -> None:
    paths = []
    for number in range(6):
        paths.append(str(tmp_path / f"{number}.png"))
        cv2.imwrite(paths[-1], np.full((8, 8, 3), 40 * number, np.uint8))
    vector = np.float32([[1, 0], [0.9, 0.1], [0, 1], [0.1, 0.9], [1, 1], [1, 1]])
    kinds = [
        (0, "real", "a"),
        (0, "real", "a"),
        (0, "real", "b"),
        (1, "swap", "a"),
        (1, "swap", "b"),
        (1, "sbi", "b"),
    ]
    records = tuple(
        FaceRecord(path, Label(y), "d", f"v{i // 2 if y == 0 else i}", method=method, identity=who)
        for i, (path, (y, method, who)) in enumerate(zip(paths, kinds, strict=True))
    )
    found = FaceFeatures(vector, np.array([2.0, -1.0, -3.0, 1.0, -0.5, 4.0]), records)
    rows = {row.method: row for row in error_balance(found, 0.0)}
    assert (rows["real"].videos, rows["real"].wrong_videos, rows["real"].wrong_faces) == (
        2,
        1,
        1,
    )  # mean +0.5
    assert (rows["swap"].faces, rows["swap"].wrong_faces, rows["sbi"].rate) == (2, 1, 0.0)
    assert rows["swap"].to_dict()["rate"] == 0.5 and next(iter(rows)) == "real"
    assert error_balance(found, 1.0)[0].wrong_videos == 0
    worst = worst_faces(found, "real")
    assert worst == [0, 2]  # one face a person
    assert worst_faces(found, "fake", 1) == [4]
    near = nearest_reals(vector[worst], found, 1)
    assert [one[0].record.path for one in near] == [paths[0], paths[2]] and near[0][
        0
    ].similarity == pytest.approx(1)
    sheet = balance_sheet(found, worst, near, side=32)
    assert sheet.shape == (2 * 54, 2 * 36, 3)
    with pytest.raises(InputError, match="no face has a label"):
        bare = tuple(FaceRecord(path) for path in paths)
        error_balance(FaceFeatures(vector, found.score, bare), 0.0)


def test_features_are_what_the_head_reads(detector: Detector, bench: Manifest) -> None:
    gone = FaceRecord("gone.png", landmarks=ellipse_landmarks((150, 150), (80, 100)))
    found = face_features(detector, [*bench.records(), gone], [AlignFace(32)])
    assert found.vector.shape == (2, 3) and len(found.missing) == 1 and "gone.png" in found.missing[0][0]
    np.testing.assert_allclose(found.score, 20 * found.vector.sum(1) - 15, rtol=1e-4)
    with pytest.raises(InputError, match="none of 1 faces can be used"):
        face_features(detector, [gone], [AlignFace(32)])
