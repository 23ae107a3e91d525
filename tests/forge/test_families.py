from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from unseen.forge.check import Gate, check_forgery
from unseen.forge.color import match_colors
from unseen.forge.families import FAMILIES, families, family
from unseen.forge.family import Forged, Portrait, Unforgeable, eye_distance
from unseen.forge.poisson import Poisson, clone, membrane
from unseen.forge.reenact import Reenact, displacement
from unseen.forge.selfblend import SelfBlended
from unseen.forge.shape import MEAN_FACE, mouth_opening
from unseen.forge.swap import Swap, fit_donor, open_lips
from unseen.media.faces import Face, RetinaFaceMesh
from unseen.types import InputError

CLASSICAL = {"swap": Swap, "poisson": Poisson, "reenact": Reenact, "sbi": SelfBlended}


def smiling(portrait: Portrait, by: float = 0.15) -> Portrait:
    """Open the mouth of a portrait's landmarks; its pixels do not matter here."""
    points = portrait.landmarks.copy()
    unit = eye_distance(points)
    points[[55, 56, 57, 58, 59, 65, 66, 67], 1] += by * unit
    points[[48, 60], 0] -= by * unit / 2
    points[[54, 64], 0] += by * unit / 2
    return replace(portrait, landmarks=points)


@pytest.mark.parametrize("name", CLASSICAL)
def test_a_family_changes_the_face_and_nothing_else(people: list[Portrait], name: str) -> None:
    target, donor = people[0], smiling(people[1])
    before = target.image.copy(), donor.image.copy()
    first = CLASSICAL[name]()(target, donor, np.random.default_rng(5))
    again = CLASSICAL[name]()(target, donor, np.random.default_rng(5))
    other = CLASSICAL[name]()(target, donor, np.random.default_rng(6))
    assert np.array_equal(first.image, again.image)
    assert not np.array_equal(first.image, other.image)
    assert np.array_equal(target.image, before[0])
    assert np.array_equal(donor.image, before[1])
    assert first.image.shape == target.image.shape
    assert first.mask.shape == target.image.shape[:2]
    assert first.mask.dtype == np.float32
    assert first.mask.min() >= 0
    assert first.mask.max() <= 1
    changed = cv2.absdiff(first.image, target.image).max(2) > 0
    # SelfBlended's mask is found from the change itself, closed over single pixels.
    near = cv2.dilate((first.mask > 0).astype(np.uint8), np.ones((9, 9) if name == "sbi" else (3, 3))) > 0
    assert not (changed & ~near).any()
    assert 0.005 < (first.mask > 0.5).mean() < 0.6
    assert CLASSICAL[name].name == name


@pytest.mark.parametrize("name", ["swap", "poisson", "reenact"])
def test_donors_are_asked_for(people: list[Portrait], name: str) -> None:
    assert CLASSICAL[name].needs_donor
    with pytest.raises(Unforgeable, match="at least two people"):
        CLASSICAL[name]()(people[0], None, np.random.default_rng(0))


def test_a_face_swapped_onto_itself_is_itself(people: list[Portrait]) -> None:
    face = people[0]
    fitted = fit_donor(face, face, height=0.4, erode=0.05, feather=0.2)
    inside = fitted.alpha > 0.5
    assert np.abs(fitted.image.astype(int) - fitted.under)[inside].mean() < 3


def test_a_swap_takes_the_donors_detail_and_the_targets_colour(people: list[Portrait]) -> None:
    target, donor = people[0], people[1]
    blue = np.clip(target.image.astype(int) + np.array([-30, 0, 40]), 0, 255).astype(np.uint8)
    target = replace(target, image=blue)
    fitted = fit_donor(target, donor, height=0.3, erode=0.1, feather=0.1)
    inside = fitted.alpha > 0.9
    ours, theirs = fitted.image[inside].mean(0), fitted.under[inside].mean(0)
    assert np.abs(ours - theirs).max() < 8
    assert np.abs(fitted.image.astype(int) - fitted.under)[inside].mean() > 3


def test_heads_turned_differently_are_refused(people: list[Portrait]) -> None:
    points = people[1].landmarks.copy()
    points[27:36, 0] += 0.45 * eye_distance(points)
    with pytest.raises(Unforgeable) as caught:
        Swap()(people[0], replace(people[1], landmarks=points), np.random.default_rng(0))
    assert caught.value.reason == "turned_away"


def test_crossed_lips_are_uncrossed() -> None:
    points = (MEAN_FACE * 100 + 200)[:68]
    points[[61, 62, 63], 1] += 9  # the upper lip's inner line falls below the lower's
    opened = open_lips(points)
    assert (opened[[67, 66, 65], 1] - opened[[61, 62, 63], 1]).min() == pytest.approx(1, abs=0.01)


def test_an_expression_is_the_difference_from_rest_whatever_size_and_place() -> None:
    rest = MEAN_FACE * 50 + 100
    face = rest.copy()
    face[57, 1] += 10  # a fifth of an eye distance down
    onto = MEAN_FACE * 200 + 400
    moved = displacement(
        face, rest * 3 - 70, onto
    )  # the resting picture is another one, three times as large
    assert np.abs(moved[57] - [0, 40]).max() < 0.5
    assert np.abs(np.delete(moved, 57, axis=0)).max() < 0.5


def test_reenact_moves_the_mouth_to_the_donors_opening(people: list[Portrait]) -> None:
    donor = smiling(people[1], 0.2)
    target = replace(people[0], rest=people[0].landmarks)
    forged = Reenact(strength=(1, 1))(
        target, replace(donor, rest=people[1].landmarks), np.random.default_rng(0)
    )
    wider = mouth_opening(forged.landmarks) - mouth_opening(target.landmarks)
    assert wider == pytest.approx(0.2, abs=0.05)
    still = [0, 1, 15, 16, *range(27, 31)]  # the head itself stays where it is
    assert np.abs(forged.landmarks[still] - target.landmarks[still]).max() < 0.1


def test_the_same_expression_cannot_be_transferred(people: list[Portrait]) -> None:
    with pytest.raises(Unforgeable) as caught:
        Reenact()(people[0], people[0], np.random.default_rng(0))
    assert caught.value.reason == "same_expression"


def test_match_colors_moves_mean_and_spread() -> None:
    rng = np.random.default_rng(0)
    source = np.clip(rng.normal(90, 10, (64, 64, 3)), 0, 255).astype(np.uint8)
    target = np.clip(rng.normal([150, 120, 110], 14, (64, 64, 3)), 0, 255).astype(np.uint8)
    weight = np.ones((64, 64), np.float32)
    made = match_colors(source, target, weight)
    assert np.abs(made.mean((0, 1)) - target.mean((0, 1))).max() < 2
    assert np.array_equal(match_colors(source, target, 0 * weight), source)


def test_the_gate_says_what_is_wrong(people: list[Portrait]) -> None:
    real = people[0]
    mask = np.zeros(real.image.shape[:2], np.float32)
    x, y = np.round(real.landmarks[30]).astype(int)
    mask[y - 30 : y + 30, x - 30 : x + 30] = 1
    darker = np.where(mask[..., None] > 0, real.image // 2, real.image).astype(np.uint8)

    class Finder:
        name = "fixed"

        def __init__(self, *points: np.ndarray) -> None:
            self.points = points

        def __call__(self, image: np.ndarray) -> list[Face]:
            return [Face(np.zeros(4, np.float32), 1.0, np.zeros((5, 2), np.float32), p) for p in self.points]

    right = Finder(real.landmarks)
    off = Finder(real.landmarks + 0.2 * eye_distance(real.landmarks))
    forged = Forged(darker, mask, real.landmarks)
    assert check_forgery(forged, real.image, right, Gate()) is None
    assert check_forgery(replace(forged, image=real.image), real.image, right, Gate()) == "no_change"
    assert check_forgery(replace(forged, mask=0 * mask), real.image, right, Gate()) == "no_change"
    assert check_forgery(forged, real.image, Finder(), Gate()) == "face_lost"
    assert check_forgery(forged, real.image, off, Gate()) == "landmarks_off"
    grey = replace(forged, image=np.full_like(real.image, 120))
    assert check_forgery(grey, real.image, RetinaFaceMesh(threads=1), Gate()) == "face_lost"


def test_families_are_found_by_name() -> None:
    assert tuple(families()) == FAMILIES
    assert all(kind.name == name for name, kind in families().items())  # type: ignore[attr-defined]
    assert family("swap", {"feather": (0.1, 0.1)}).name == "swap"
    with pytest.raises(InputError, match="did you mean 'poisson'"):
        family("poison")
    with pytest.raises(InputError, match="no strength 'blur'; expected some of height"):
        family("swap", {"blur": 1})


def test_a_membrane_is_flat_between_equal_edges_and_linear_between_two() -> None:
    inside = np.zeros((61, 81), np.float32)
    inside[1:-1, 1:-1] = 1
    flat = membrane(np.full((61, 81, 3), 7, np.float32), inside)
    assert np.abs(flat - 7).max() < 1e-3
    # Harmonic functions solve themselves: x, and x^2 - y^2.
    y, x = np.mgrid[:61, :81].astype(np.float32) / 40
    for wanted in (x, x * x - y * y):
        edge = np.where(inside[..., None] > 0, 99, np.repeat(wanted[..., None], 3, 2)).astype(np.float32)
        assert np.abs(membrane(edge, inside) - wanted[..., None]).max() < 0.12  # of a range of six


def test_a_clone_keeps_the_sources_gradients_and_the_targets_surroundings(people: list[Portrait]) -> None:
    source = people[0].image[60:190, 60:190]
    target = np.clip(source.astype(int) // 2 + 60, 0, 255).astype(np.uint8)
    inside = np.zeros((130, 130), np.float32)
    cv2.circle(inside, (65, 65), 50, 1, -1)
    made = clone(source, target, inside)
    assert np.array_equal(made[inside == 0], target[inside == 0])
    deep = cv2.erode(inside, np.ones((5, 5))) > 0
    laplacian = [cv2.Laplacian(p.astype(np.float32), cv2.CV_32F) for p in (made, source)]
    assert np.abs(laplacian[0] - laplacian[1])[deep].mean() < 1.5  # rounding to grey levels
