from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from unseen.data.photometric import JpegCompress
from unseen.data.transforms import MIRROR, AlignFace, Flip, five_points, for_evaluation, similarity
from unseen.types import FaceRecord, FaceSample, InputError, Label


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_mirror_is_its_own_inverse_and_keeps_the_middle() -> None:
    assert (MIRROR[MIRROR] == np.arange(81)).all()
    middle = [8, 27, 28, 29, 30, 33, 51, 57, 62, 66, 74]
    assert (np.flatnonzero(np.arange(81) == MIRROR) == middle).all()


def test_mirror_maps_a_symmetric_face_onto_itself(sample: FaceSample) -> None:
    flipped = Flip(1.0)(sample, rng())
    assert np.abs(flipped.landmarks - sample.landmarks).max() < 1e-4


def test_flip_moves_everything_by_one_rule(sample: FaceSample) -> None:
    whole = replace(
        sample,
        source=sample.image.copy(),
        attention=np.arange(200 * 200, dtype=np.float32).reshape(200, 200),
        regions=np.array([[10, 20, 50, 60]], np.float32),
    )
    flipped = Flip(1.0)(whole, rng())
    assert (flipped.image == whole.image[:, ::-1]).all()
    assert (flipped.source == whole.image[:, ::-1]).all()
    assert (flipped.attention == whole.attention[:, ::-1]).all()
    assert flipped.regions.tolist() == [[150, 20, 190, 60]]  # x0' = 200 - 50, x1' = 200 - 10
    assert flipped.landmarks[0, 0] == pytest.approx(199 - whole.landmarks[16, 0])  # x' = W - 1 - x
    twice = Flip(1.0)(flipped, rng())
    assert (twice.image == whole.image).all()
    assert twice.landmarks == pytest.approx(whole.landmarks)
    assert Flip(0.0)(whole, rng()) is whole


def test_similarity_finds_what_was_done() -> None:
    source = rng(1).normal(size=(5, 2))
    angle, scale, shift = 0.7, 2.5, np.array([3.0, -4.0])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert similarity(source, source @ turn.T + shift) == pytest.approx(np.column_stack([turn, shift]))


def test_similarity_is_the_least_squares_one_and_never_mirrors() -> None:
    generator = rng(2)
    source, target = generator.normal(size=(5, 2)), generator.normal(size=(5, 2))
    matrix = similarity(source, target)

    # The parameters of a similarity enter linearly: a, b, tx, ty of [[a, -b, tx], [b, a, ty]].
    rows = np.zeros((10, 4))
    rows[0::2] = np.column_stack([source[:, 0], -source[:, 1], np.ones(5), np.zeros(5)])
    rows[1::2] = np.column_stack([source[:, 1], source[:, 0], np.zeros(5), np.ones(5)])
    a, b, x, y = np.linalg.lstsq(rows, target.ravel(), rcond=None)[0]
    assert matrix == pytest.approx(np.array([[a, -b, x], [b, a, y]]))
    assert np.linalg.det(similarity(source, source * [-1, 1])[:, :2]) >= 0


def test_caddm_template_is_where_the_paper_puts_it(points: np.ndarray) -> None:
    # Eyes, nose and mouth that already lie on CADDM's targets (scale .9, 224 px) need no movement.
    targets = np.array([[75.7, 92.6], [147.7, 92.4], [111.6, 144.6], [81.9, 186.0], [141.8, 185.4]])
    face = points.copy()
    face[36:42] = targets[0]
    face[42:48], face[30], face[48], face[54] = targets[1:]
    sample = FaceSample(np.zeros((224, 224, 3), np.uint8), Label.REAL, FaceRecord("a.jpg"), landmarks=face)
    matrix = AlignFace(224, template="caddm").matrix(sample, rng())
    assert matrix == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=0.1)


def test_arcface_template_is_deepfakebench_at_scale_1_3(sample: FaceSample) -> None:
    target = np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
    )
    wanted = (target / 112 * 256 + 256 * 0.3 / 2) * 256 / (256 * 1.3)
    landmarks = sample.landmarks.copy()
    landmarks[36:42] = wanted[0] / 2 + 20
    landmarks[42:48], landmarks[30], landmarks[48], landmarks[54] = wanted[1:] / 2 + 20
    aligned = AlignFace(256)(replace(sample, landmarks=landmarks), rng())
    assert five_points(aligned.landmarks) == pytest.approx(wanted, abs=1e-3)
    assert aligned.image.shape == (256, 256, 3)


def test_dlib_template_is_an_upright_square_1_3_times_the_longer_side(sample: FaceSample) -> None:
    matrix = AlignFace(256, template="dlib").matrix(sample, rng())
    face = sample.landmarks[:68]
    longer = (face.max(0) - face.min(0)).max()
    assert matrix[:, :2] == pytest.approx(np.eye(2) * 256 / (1.3 * longer))
    middle = (face.min(0) + face.max(0)) / 2
    assert matrix[:, :2] @ middle + matrix[:, 2] == pytest.approx([127.5, 127.5])


def test_sbi_template_has_an_eighth_on_each_side_and_draws_it_in_training(sample: FaceSample) -> None:
    box = np.concatenate([sample.landmarks.min(0), sample.landmarks.max(0)])
    low, high = box[:2], box[2:]
    corners = AlignFace(380, template="sbi")(replace(sample, regions=box[None]), rng()).regions[0]
    assert corners == pytest.approx(np.array([1, 1, 9, 9]) * 38 - 0.5, abs=0.01)  # .125 / 1.25 = 1 / 10

    training = AlignFace(380, template="sbi", margins=(0.05, 0.20))
    for seed in range(20):
        inverse = np.linalg.inv(np.vstack([training.matrix(sample, rng(seed)), [0, 0, 1]]))
        left_top = inverse[:2] @ [-0.5, -0.5, 1]
        right_bottom = inverse[:2] @ [379.5, 379.5, 1]
        margins = np.concatenate([low - left_top, right_bottom - high]) / np.tile(high - low, 2)
        assert (margins > 0.05 - 1e-6).all() and (margins < 0.20 + 1e-6).all()
    assert not np.allclose(training.matrix(sample, rng(0)), training.matrix(sample, rng(1)))


def test_without_forehead_the_box_still_reaches_above_the_brows(sample: FaceSample) -> None:
    landmarks = sample.landmarks.copy()
    landmarks[68:] = np.nan
    matrix = AlignFace(100, template="sbi").matrix(replace(sample, landmarks=landmarks), rng())
    whole = AlignFace(100, template="sbi").matrix(sample, rng())
    assert np.isfinite(matrix).all()
    brow = np.array([*landmarks[19], 1])
    assert (matrix @ brow)[1] > 20  # a fifth of the picture is above the brows
    assert abs((matrix @ brow)[1] - (whole @ brow)[1]) < 12


def test_evaluation_is_deterministic_and_training_jitters(sample: FaceSample) -> None:
    training = AlignFace(64, shift=0.1, zoom=0.1, rotation=30)
    fixed = for_evaluation([training, Flip(), JpegCompress()])
    assert len(fixed) == 1
    plain = AlignFace(64)(sample, rng(0)).image
    assert (fixed[0](sample, rng(1)).image == plain).all()
    assert (fixed[0](sample, rng(2)).image == plain).all()
    assert (training(sample, rng(1)).image != plain).any()
    assert training.rotation == 30  # the training form is untouched


def test_alignment_leaves_its_input_alone(sample: FaceSample) -> None:
    before, landmarks = sample.image.copy(), sample.landmarks.copy()
    AlignFace(64, shift=0.1)(sample, rng())
    Flip(1.0)(sample, rng())
    assert (sample.image == before).all() and (sample.landmarks == landmarks).all()


@pytest.mark.parametrize("template", ["arcface", "caddm", "dlib", "sbi"])
@pytest.mark.parametrize(
    "spoil",
    [
        lambda face: None,
        lambda face: face[:5],
        lambda face: face * np.nan,
        lambda face: np.where(np.arange(81)[:, None] == 30, np.nan, face),
        lambda face: np.full_like(face, 7),
        lambda face: face * [1, 0],
    ],
    ids=["missing", "five", "nan", "one nan", "one point", "a line"],
)
def test_unusable_landmarks_are_an_error_that_names_the_file(
    sample: FaceSample, template: str, spoil
) -> None:
    with pytest.raises(InputError, match=r"crops/a\.jpg") as caught:
        AlignFace(64, template=template)(replace(sample, landmarks=spoil(sample.landmarks)), rng())
    assert caught.value.reason in ("no_landmarks", "bad_landmarks")


def test_unknown_settings_are_errors() -> None:
    with pytest.raises(InputError, match="arcface, caddm"):
        AlignFace(64, template="ffhq")
    with pytest.raises(InputError, match="size 0"):
        AlignFace(0)
    with pytest.raises(InputError, match="margins go with"):
        AlignFace(64, margins=(0.1, 0.2))


def test_filtering_only_what_is_seen_changes_no_pixel() -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (300, 260, 3), np.uint8)
    attention = rng.random((300, 260), np.float32)
    for _ in range(60):
        angle, scale = rng.uniform(-0.6, 0.6), rng.uniform(0.15, 0.74)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        # Some windows lie inside the picture, some across its border, some wholly outside.
        shift = 32 - turn @ rng.uniform(-60, 340, 2)
        matrix = np.column_stack([turn, shift])
        sample = FaceSample(image, Label.REAL, FaceRecord("a.png"), attention=attention)
        found = sample.warp(matrix, (64, 64))
        sigma = 0.5 * (1 / scale - 1)
        for picture, moved in ((image, found.image), (attention, found.attention)):
            whole = cv2.GaussianBlur(picture, (0, 0), sigma) if sigma > 0.25 else picture
            expected = cv2.warpAffine(whole, matrix, (64, 64), flags=cv2.INTER_LINEAR)
            if picture.dtype == np.uint8:
                assert np.array_equal(moved, expected)
            else:  # vector instructions add up in another order near an edge
                assert np.abs(moved - expected).max() < 1e-5
