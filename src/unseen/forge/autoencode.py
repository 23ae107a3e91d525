"""The classical deepfake: one shared encoder, a decoder for each person, trained here on their faces.

Two photographs a person are enough: each step shows a face bent at random and asks for the straight one, so
the encoder learns where eyes and mouth are and the decoder whose they are. To swap, the target's face is
encoded and decoded as the donor. Training starts from weights that this project learned on volunteers, as
makers of deepfakes start from a trained model, which saves nine tenths of the time. A group is trained at
once, because all share the encoder and its people learn from each other; any two of them can then be swapped.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from unseen.forge.family import Forged, Portrait, Unforgeable, check_portrait, draw, eye_distance
from unseen.forge.patch import cut_patch, paste_patch, patch_matrix, read_weights
from unseen.forge.shape import move, outline
from unseen.forge.warp import face_window, soft_inside

if TYPE_CHECKING:
    from torch import Tensor

    from unseen.forge.networks import SharedEncoder

__all__ = ["Autoencode", "train_swapper"]

_Image = NDArray[np.uint8]

MIDDLE, REACH = (0.0, 0.58), 2.4  # eye distances: what the network sees of a head
LEARNED = 80  # pixels, the size of the weights that are shipped


class Autoencode:
    """Swaps faces with a network trained on both people.

    `learn` trains a whole group, and every swap among them is then free; `save` and `load` carry what was
    learned from one process to others. A pair that nobody has learned is trained when it is asked for.

    Args:
        size: Side of the network's faces, pixels; any but 80 starts from nothing and wants 500 iterations.
        iterations: Training steps for a pair; a group takes a sixth more for each further person.
        batch: Faces a step.
        seed: Of the training; what is random in pasting comes from the call.
        height: Least and most height of the mask's upper edge: 0 on the brows, 1 at the hair line.
        feather: Least and most width of the mask's edge, in eye distances.
        color: Least and most share of the colour difference that is removed.
        device: `auto` takes a GPU if there is one, where the same seed need not give the same network.
    """

    name = "autoencode"
    needs_donor = True

    def __init__(
        self,
        *,
        size: int = LEARNED,
        iterations: int = 120,
        batch: int = 8,
        seed: int = 0,
        height: tuple[float, float] = (0.05, 0.3),
        feather: tuple[float, float] = (0.15, 0.3),
        color: tuple[float, float] = (0.8, 1.0),
        device: str = "auto",
    ) -> None:
        if size < 32 or size % 8:
            raise Unforgeable(f"Autoencode: size {size}; expected a multiple of 8 from 32", reason="bad_size")
        self.size, self.iterations, self.batch, self.seed = size, iterations, batch, seed
        self.height, self.feather, self.color, self.device = height, feather, color, device
        self._groups: list[tuple[tuple[str, ...], SharedEncoder]] = []

    def learn(self, portraits: Sequence[Portrait]) -> None:
        """Train one network for everybody in these portraits.

        Args:
            portraits: One or more pictures of each of at least two people, told apart by `identity`. Those
                that cannot be used are passed over.

        Raises:
            Unforgeable: Fewer than two people are left.
        """
        usable = []
        for portrait in portraits:
            try:
                check_portrait(portrait)
            except Unforgeable:
                continue
            usable.append(portrait)
        people = tuple(sorted({portrait.identity for portrait in usable}))
        if len(people) < 2:
            raise Unforgeable(
                f"autoencode: {len(people)} usable people; expected at least 2 to swap between",
                reason="no_donor",
            )
        # In an order of their own, so that the network does not depend on the caller's.
        usable.sort(key=lambda p: (p.identity, p.path, p.image.tobytes()[:64]))
        faces = [cut_patch(p.image, self._matrix(p), (self.size, self.size)) for p in usable]
        network = train_swapper(
            faces,
            [people.index(p.identity) for p in usable],
            len(people),
            iterations=round(self.iterations * (1 + (len(people) - 2) / 6)),
            batch=self.batch,
            seed=self.seed,
            device=self.device,
            start=read_weights("swap.safetensors") if self.size == LEARNED else None,
        )
        # What is used is what `load` would read, half precision included.
        network.load_state_dict({name: value.half().float() for name, value in network.state_dict().items()})
        self._groups.append((people, network))

    def save(self, path: Path) -> None:
        """Write the group that was learned last; the file is there whole or not at all."""
        from safetensors.torch import save_file

        people, network = self._groups[-1]
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        save_file(
            {name: value.half().contiguous() for name, value in network.state_dict().items()},
            partial,
            {"people": json.dumps(people)},
        )
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Read a group that `save` wrote, by a family of the same size."""
        from safetensors import safe_open

        from unseen.forge.networks import SharedEncoder

        with safe_open(path, "pt") as file:
            people = tuple(json.loads(file.metadata()["people"]))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        network = SharedEncoder(len(people), size=self.size)
        network.load_state_dict(weights)
        self._groups.append((people, network.eval()))

    def __call__(self, target: Portrait, donor: Portrait | None, rng: np.random.Generator) -> Forged:
        """Forge one picture."""
        if donor is None or donor.identity == target.identity:
            raise Unforgeable(
                f"{target.path}: no donor; give pictures of at least two people", reason="no_donor"
            )
        check_portrait(target)
        check_portrait(donor)
        wanted = {target.identity, donor.identity}
        group = next((g for g in self._groups if wanted <= set(g[0])), None)
        if group is None:
            self.learn([target, donor])
            group = self._groups[-1]
            del self._groups[:-64]  # pairs come once or twice; a group of them all would not fit in memory
        people, network = group
        drawn = draw(rng, height=self.height, feather=self.feather, color=self.color)
        matrix = self._matrix(target)
        patch = swap_face(
            network, cut_patch(target.image, matrix, (self.size, self.size)), people.index(donor.identity)
        )
        unit = eye_distance(target.landmarks)
        edge = outline(target.landmarks, drawn["height"])
        window = face_window(edge, target.image.shape, 0.1 * unit)
        alpha = soft_inside(edge, window, erode=0.09 * unit, feather=drawn["feather"] * unit)
        image, mask = paste_patch(
            target.image, target.landmarks, patch, matrix, window, alpha, color=drawn["color"]
        )
        settings = {"size": self.size, "iterations": self.iterations, "people": len(people)}
        return Forged(image, mask, target.landmarks, {**drawn, **settings})

    def _matrix(self, portrait: Portrait) -> NDArray[np.float64]:
        return patch_matrix(portrait.landmarks, (self.size, self.size), MIDDLE, REACH)


def swap_face(network: SharedEncoder, face: _Image, person: int) -> _Image:
    """Return an upright face as another person's decoder draws it.

    Shape:
        face: (S, S, 3) uint8 RGB. Returns the same.
    """
    import torch

    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(face)).permute(2, 0, 1)[None].float() / 255
        drawn = network(image, torch.tensor([person]))[0].permute(1, 2, 0)
        return np.asarray(drawn.mul(255).round().clamp(0, 255).numpy(), np.uint8)


def train_swapper(
    faces: Sequence[_Image],
    owners: Sequence[int],
    people: int,
    *,
    iterations: int = 500,
    batch: int = 8,
    seed: int = 0,
    rate: float = 2e-3,
    cross: float = 1.0,
    device: str = "auto",
    start: dict[str, Tensor] | None = None,
) -> SharedEncoder:
    """Train the shared encoder and everybody's decoder.

    Args:
        faces: Upright faces.
        owners: Whose each is, 0 to people - 1.
        people: How many people.
        iterations: Steps.
        batch: Faces a step; people take turns.
        seed: The same seed gives the same network on the same machine.
        rate: Highest learning rate.
        cross: Weight of a swapped face's features being the other's; 0 is the original recipe, which with a
            few photographs a person lets the target's own features through.
        device: `auto`, `cpu` or `cuda`.
        start: Weights of a network of the same size to start from, of however many people.

    Returns:
        The network, on the CPU, ready to use.

    Shape:
        faces: (S, S, 3) uint8 each.
    """
    import torch

    from unseen.forge.networks import Adam, SharedEncoder

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    rng = np.random.default_rng([seed, 5])
    belong = [np.flatnonzero(np.asarray(owners) == person) for person in range(people)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SharedEncoder(people, size=faces[0].shape[0])
    if start is not None:
        network.start_from(start)
    network = network.to(device).to(memory_format=torch.channels_last)
    # One thread: sums in another order would be another network, and processes share the machine already.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        optimizer = Adam(network.parameters())
        weight = torch.from_numpy(_middle_weight(faces[0].shape[0])).to(device)
        for step in range(iterations):
            who = (np.arange(batch) + step * batch) % people
            other = (who + rng.integers(1, people, batch)) % people
            shown = []
            for mine, theirs in zip(who, other, strict=True):
                seed = int(rng.integers(2**62))  # both are moved alike
                pair = (faces[int(rng.choice(belong[person]))] for person in (mine, theirs))
                one, two = (bend(face, np.random.default_rng(seed)) for face in pair)
                shown.append((one[0], one[1], two[1]))
            bent, straight, wanted = (
                torch.from_numpy(np.stack(side)).to(device).permute(0, 3, 1, 2).float() / 255
                for side in zip(*shown, strict=True)
            )
            code = network.encode(bent - 0.5)
            whose = torch.from_numpy(np.concatenate([who, other])).to(device)
            drawn, swapped = network.decode(torch.cat([code, code]), whose).chunk(2)
            loss = ((drawn - straight).abs() * weight).mean()
            # Differences of neighbours keep eyes and lips from melting; the mean alone settles for a blur.
            # Of a swapped face they are all that is asked for: its features are to be the other's, whatever
            # the code let through, and its light the target's.
            for axis in (2, 3):
                loss = loss + (drawn.diff(dim=axis) - straight.diff(dim=axis)).abs().mean()
                loss = loss + cross * (swapped.diff(dim=axis) - wanted.diff(dim=axis)).abs().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step(rate * _pace(step / iterations))
    finally:
        torch.set_num_threads(threads)
    return network.cpu().eval()


def _pace(done: float) -> float:
    """Return the share of the highest learning rate: up in a tenth of the steps, then down along a cosine."""
    return min(1.0, 0.1 + 9 * done) * (0.5 + 0.5 * math.cos(math.pi * done))


def bend(face: _Image, rng: np.random.Generator) -> tuple[_Image, _Image]:
    """Return a face bent by a random grid in random light, and the straight one in the same place and light.

    Shape:
        face: (S, S, 3) uint8. Returns two of the same.
    """
    side = face.shape[0]
    grid = rng.normal(0, 0.02 * side, (5, 5, 2)).astype(np.float32)
    flow = cv2.resize(grid, (side, side), interpolation=cv2.INTER_CUBIC)
    middle = (side - 1) / 2
    turn = np.asarray(
        cv2.getRotationMatrix2D((middle, middle), rng.normal(0, 2), rng.uniform(0.98, 1.02)), np.float64
    )
    turn[:, 2] += rng.normal(0, 0.01 * side, 2)
    y, x = np.mgrid[:side, :side]
    place = move(np.stack([x, y], -1).reshape(-1, 2).astype(np.float64), turn).reshape(side, side, 2)
    # A mirrored face would be another person; light is not who somebody is.
    gain = (rng.uniform(0.85, 1.15) * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
    lit = np.clip(face * gain, 0, 255).astype(np.uint8)
    bent, straight = (
        cv2.remap(lit, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        for where in (np.asarray(place + flow, np.float32), place)
    )
    return np.asarray(bent, np.uint8), np.asarray(straight, np.uint8)


def _middle_weight(side: int) -> NDArray[np.float32]:
    """Return how much each pixel counts: eyes, nose and mouth most, corners, which are not pasted, least."""
    y, x = np.mgrid[:side, :side].astype(np.float32) / (side - 1) * 2 - 1
    return np.asarray(0.5 + 2.0 * np.exp(-3 * (x * x + y * y) ** 2), np.float32)
