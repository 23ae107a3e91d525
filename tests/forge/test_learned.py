"""The families that were learned: autoencode, texture, restore."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from unseen.forge.autoencode import LEARNED, Autoencode, bend, swap_face, train_swapper
from unseen.forge.autoencode import MIDDLE as SWAP_MIDDLE
from unseen.forge.autoencode import REACH as SWAP_REACH
from unseen.forge.family import Learner, Portrait, Unforgeable, eye_distance
from unseen.forge.networks import Adam, SharedEncoder
from unseen.forge.patch import cut_patch, patch_matrix, read_weights
from unseen.forge.restore import MIDDLE, REACH, Restore, leave_replica, remake
from unseen.forge.synthetic import Scene, synthesise
from unseen.forge.texture import MOUTH_SIZE, Texture, remake_mouth


@pytest.fixture(scope="module")
def pair() -> tuple[Portrait, Portrait]:
    return synthesise(21, scene=Scene(background=1)), synthesise(22, scene=Scene(background=2))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


MAKERS = {
    "texture": Texture,
    "restore": Restore,
    "autoencode": lambda: Autoencode(iterations=2),
}


@pytest.mark.parametrize("name", MAKERS)
def test_changes_the_mask_and_nothing_else(name: str, pair: tuple[Portrait, Portrait]) -> None:
    target, donor = pair
    before = target.image.copy()
    made = MAKERS[name]()(target, donor, rng())
    np.testing.assert_array_equal(target.image, before)
    assert made.image.shape == target.image.shape and made.image.dtype == np.uint8
    assert made.mask.shape == target.image.shape[:2] and made.mask.dtype == np.float32
    assert made.mask.min() >= 0 and 0.5 < made.mask.max() <= 1
    outside = made.mask == 0
    np.testing.assert_array_equal(made.image[outside], before[outside])
    inside = made.mask > 0.9
    assert np.abs(made.image.astype(int) - before)[inside].mean() > 1
    np.testing.assert_array_equal(made.landmarks, target.landmarks)
    # Colours are matched: the middle of the face does not jump.
    assert np.abs(made.image[inside].mean(0) - before[inside].mean(0)).max() < 25
    again = MAKERS[name]()(target, donor, rng())
    np.testing.assert_array_equal(made.image, again.image)


@pytest.mark.parametrize("name", MAKERS)
def test_says_why_it_cannot(name: str, pair: tuple[Portrait, Portrait]) -> None:
    target, donor = pair
    maker = MAKERS[name]()
    lost = replace(target, landmarks=np.full_like(target.landmarks, np.nan))
    with pytest.raises(Unforgeable) as caught:
        maker(lost, donor, rng())
    assert caught.value.reason == "no_landmarks"
    small = replace(target, landmarks=target.landmarks / 8)
    with pytest.raises(Unforgeable) as caught:
        maker(small, donor, rng())
    assert caught.value.reason == "face_too_small"
    if maker.needs_donor:
        for nobody in (None, replace(donor, identity=target.identity)):
            with pytest.raises(Unforgeable) as caught:
                maker(target, nobody, rng())
            assert caught.value.reason == "no_donor"


def checkers(image: np.ndarray) -> float:
    """Power at the finest checkerboard and its two stripes, against its neighbourhood."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
    window = np.outer(*(np.hanning(n) for n in grey.shape))
    power = np.abs(np.fft.fft2((grey - grey.mean()) * window)) ** 2
    h, w = (n // 2 for n in grey.shape)
    ratios = []
    for y, x in ((0, w), (h, 0), (h, w)):
        near = np.take(
            np.take(power, range(y - 6, y + 7), 0, mode="wrap"), range(x - 6, x + 7), 1, mode="wrap"
        )
        ratios.append(near[5:8, 5:8].mean() / np.median(near))
    return max(ratios)


def test_restore_leaves_the_grid_of_transposed_convolutions(pair: tuple[Portrait, Portrait]) -> None:
    for portrait in pair:
        patch = cut_patch(
            portrait.image, patch_matrix(portrait.landmarks, (192, 192), MIDDLE, REACH), (192, 192)
        )
        made = remake(patch)
        before, bare, after = (checkers(p) for p in (patch, made, leave_replica(made, 0.01)))
        assert bare > 1.7 * before  # what the network's own layers leave
        assert after > 30 > 6 > before
        # The same person, though: the coarse picture is the same.
        coarse = [cv2.resize(p, (24, 24), interpolation=cv2.INTER_AREA).astype(float) for p in (patch, made)]
        assert np.corrcoef(coarse[0].ravel(), coarse[1].ravel())[0, 1] > 0.95


def test_the_grid_reaches_the_finished_picture(pair: tuple[Portrait, Portrait]) -> None:
    target, _ = pair
    unit = eye_distance(target.landmarks)
    x, y = np.round(target.landmarks[27] - [0.5 * unit, 0.2 * unit]).astype(int)
    side = round(1.4 * unit) & ~1

    def peak(grid: float) -> float:
        # At scale 1 the network's pixels are the picture's, and its grid stays the finest one.
        made = Restore(scale=(1.0, 1.0), strength=(1.0, 1.0), grid=(grid, grid))(target, None, rng())
        return checkers(made.image[y : y + side, x : x + side])

    assert peak(0.03) > 2 * peak(0.0)


def test_restored_skin_is_smoother(pair: tuple[Portrait, Portrait]) -> None:
    target, _ = pair
    made = Restore(scale=(0.7, 0.7))(target, None, rng())
    unit = eye_distance(target.landmarks)
    x, y = np.round(target.landmarks[30] + [0.45 * unit, 0.1 * unit]).astype(int)
    cheeks = [
        p[y - 8 : y + 8, x - 8 : x + 8].astype(np.float64).std((0, 1)).mean()
        for p in (made.image, target.image)
    ]
    assert cheeks[0] < cheeks[1]


def test_texture_touches_the_mouth_only(pair: tuple[Portrait, Portrait]) -> None:
    target, _ = pair
    made = Texture(smile=(0.5, 0.5))(target, None, rng())
    y, x = np.nonzero(made.mask)
    unit = eye_distance(target.landmarks)
    lips = target.landmarks[48:68]
    assert (np.abs(np.stack([x, y], 1) - lips.mean(0)).max(0) < 1.1 * unit).all()
    assert y.min() > target.landmarks[30, 1]  # below the nose's tip


def test_a_smile_is_a_direction_in_the_dictionary() -> None:
    portrait = synthesise(23, scene=Scene())
    from unseen.forge.texture import MOUTH_MIDDLE, MOUTH_REACH

    mouth = cut_patch(
        portrait.image, patch_matrix(portrait.landmarks, MOUTH_SIZE, MOUTH_MIDDLE, MOUTH_REACH), MOUTH_SIZE
    )
    still, smiling = (remake_mouth(mouth, s).astype(float) for s in (0.0, 1.0))
    assert np.abs(smiling - still).mean() > 2
    far = [np.abs(remake_mouth(mouth, words=n).astype(float) - mouth).mean() for n in (8, 32, 96)]
    assert far[0] > far[1] > far[2] and far[2] < 8  # more words, a closer picture


def test_bending_moves_and_stays_in_range() -> None:
    face = np.zeros((64, 64, 3), np.uint8)
    face[20:44, 20:44] = 200
    bent, straight = bend(face, rng())
    assert bent.shape == straight.shape == face.shape
    assert not np.array_equal(bent, straight)
    # Bent or not, the square stays about where it was.
    for picture in (bent, straight):
        y, x = np.nonzero(picture[..., 0] > 80)
        assert np.abs(np.array([y.mean(), x.mean()]) - 31.5).max() < 6


def test_what_was_learned_is_carried_to_other_processes(
    pair: tuple[Portrait, Portrait], tmp_path: Path
) -> None:
    target, donor = pair
    maker = Autoencode(iterations=2)
    assert isinstance(maker, Learner) and not isinstance(Texture(), Learner)
    maker.learn(pair)
    maker.save(tmp_path / "deep" / "pair.safetensors")
    other = Autoencode(iterations=10**9)  # it must not train
    other.load(tmp_path / "deep" / "pair.safetensors")
    for a, b in (pair, (donor, target)):
        np.testing.assert_array_equal(maker(a, b, rng()).image, other(a, b, rng()).image)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["pair.safetensors"]


def test_a_group_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[int] = []

    def count(faces: list[np.ndarray], owners: list[int], people: int, **more: object) -> SharedEncoder:
        trained.append(people)
        return SharedEncoder(people)

    monkeypatch.setattr("unseen.forge.autoencode.train_swapper", count)
    people = [synthesise(seed, size=192) for seed in (31, 32, 33)]
    maker = Autoencode()
    maker.learn(people)
    made = [maker(a, b, rng()) for a in people for b in people if a is not b]
    assert trained == [3] and {forged.parameters["people"] for forged in made} == {3}
    with pytest.raises(Unforgeable, match="1 usable people"):
        maker.learn(people[:1])


def test_adam_is_pytorchs() -> None:
    start, goal = torch.linspace(-1, 2, 12).view(3, 4), torch.linspace(3, -2, 12).view(3, 4)
    mine, theirs, idle = (nn.Parameter(start.clone()) for _ in range(3))
    one, other = Adam([mine, idle]), torch.optim.Adam([theirs], betas=(0.9, 0.99))
    for rate in (0.1, 0.3, 0.2, 0.01):
        for weight in (mine, theirs):
            ((weight - goal) ** 4).sum().backward()
        one.step(rate)
        other.param_groups[0]["lr"] = rate
        other.step()
        other.zero_grad()
        torch.testing.assert_close(mine, theirs)
    assert mine.grad is None and torch.equal(idle, start) and not torch.equal(mine, start)


@pytest.mark.parametrize("steps", [1, 10])
def test_any_number_of_steps_can_be_asked_for(steps: int) -> None:
    faces = [np.full((32, 32, 3), level, np.uint8) for level in (80, 160)]
    network = train_swapper(faces, [0, 1], 2, iterations=steps)
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_the_swap_brings_the_donors_face() -> None:
    """After a short training what is drawn is more like the donor's face than like the target's."""
    both = [synthesise(seed, scene=Scene()) for seed in (3, 10)]
    size = (LEARNED, LEARNED)
    faces = [cut_patch(p.image, patch_matrix(p.landmarks, size, SWAP_MIDDLE, SWAP_REACH), size) for p in both]
    network = train_swapper(faces, [0, 1], 2, iterations=80, start=read_weights("swap.safetensors"))

    def features(face: np.ndarray) -> np.ndarray:
        # Brightness and slow shading are the target's own, and meant to be; what is finer tells who it is.
        grey = cv2.GaussianBlur(cv2.cvtColor(face, cv2.COLOR_RGB2GRAY).astype(np.float32), (0, 0), 1.5)
        grey -= cv2.GaussianBlur(grey, (0, 0), 10)
        return grey[LEARNED // 5 : -LEARNED // 5, LEARNED // 5 : -LEARNED // 5].ravel()

    for target, donor in ((0, 1), (1, 0)):
        made = features(swap_face(network, faces[target], donor))
        to_donor, to_target = (np.corrcoef(made, features(faces[who]))[0, 1] for who in (donor, target))
        assert to_donor > 0.7 and to_donor > to_target + 0.05, (to_donor, to_target)
