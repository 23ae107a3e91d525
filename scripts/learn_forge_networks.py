"""Learn what `restore`, `texture` and `autoencode` of `unseen forge` ship: two networks and a dictionary.

    python scripts/learn_forge_networks.py OUT FOLDER... [--only swap]

FOLDERs hold photographs of real faces. Those named `<person>_neutral.jpg` and `<person>_smiling.jpg` also
teach what a smile is in the dictionary of mouths, and are the only people in the network that swaps start
from, of whom it keeps the average. About fifteen minutes on two cores.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from unseen.forge import autoencode
from unseen.forge.autoencode import LEARNED
from unseen.forge.networks import Bottleneck, SharedEncoder
from unseen.forge.patch import cut_patch, patch_matrix
from unseen.forge.restore import MIDDLE, REACH
from unseen.forge.texture import MOUTH_MIDDLE, MOUTH_REACH, MOUTH_SIZE
from unseen.media.faces import face_finder

SIDE = 192  # faces are kept at this size and shown to the network at random smaller ones


def main() -> None:
    """Read, learn, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--only", choices=("mouths", "restore", "swap"))
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    finder = face_finder()
    names, faces, mouths, swapped = [], [], [], []
    for path in sorted(path for folder in options.folders for path in folder.glob("*.jpg")):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        found = finder(image)
        if found:
            points = found[0].landmarks
            names.append(path.stem)
            faces.append(cut_patch(image, patch_matrix(points, (SIDE, SIDE), MIDDLE, REACH), (SIDE, SIDE)))
            matrix = patch_matrix(points, MOUTH_SIZE, MOUTH_MIDDLE, MOUTH_REACH)
            mouths.append(cut_patch(image, matrix, MOUTH_SIZE))
            if path.stem.endswith(("_neutral", "_smiling")):
                matrix = patch_matrix(points, (LEARNED, LEARNED), autoencode.MIDDLE, autoencode.REACH)
                swapped.append((path.stem.split("_")[0], cut_patch(image, matrix, (LEARNED, LEARNED))))
    logging.info("%d faces", len(names))
    if options.only in (None, "swap"):
        learn_swaps(swapped, options.out / "swap.safetensors", options.steps)
    if options.only in (None, "mouths"):
        learn_mouths(names, mouths, options.out / "mouths.npz")
    if options.only in (None, "restore"):
        torch.manual_seed(0)
        net = Bottleneck()
        sizes = [(n, n) for n in (96, 112, 128, 160)]
        fit(net, faces, options.steps, 8, np.random.default_rng(1), sizes, 1.5e-3)
        write(net, options.out / "restore.safetensors")


def learn_swaps(faces: list[tuple[str, np.ndarray]], out: Path, steps: int) -> None:
    """Teach the shared part of the swapping network on many people, and keep their average as a start."""
    people = sorted({person for person, _ in faces})[:48]
    faces = [(person, face) for person, face in faces if person in people]
    owners = [people.index(person) for person, _ in faces]
    net = autoencode.train_swapper(
        [face for _, face in faces], owners, len(people), iterations=steps, batch=12, rate=1.5e-3
    )
    one = SharedEncoder(1, size=LEARNED)
    one.start_from(net.state_dict())
    write(one, out)


def learn_mouths(names: list[str], mouths: list[np.ndarray], out: Path, count: int = 96) -> None:
    """Write the principal components of mouths and their mirror images, and what a smile is in them."""
    rows = np.stack(mouths).reshape(len(mouths), -1).astype(np.float32)
    mirrored = np.stack(mouths)[:, :, ::-1].reshape(len(mouths), -1)
    both = np.concatenate([rows, mirrored]).astype(np.float32)
    mean = both.mean(0)
    values, vectors = np.linalg.eigh((both - mean) @ (both - mean).T)
    entries = vectors[:, np.argsort(values)[::-1][:count]].T @ (both - mean)
    entries /= np.linalg.norm(entries, axis=1, keepdims=True)
    where = {name: i for i, name in enumerate(names)}
    pairs = np.array(
        [
            (where[name], where[name.replace("_neutral", "_smiling")])
            for name in names
            if name.endswith("_neutral") and name.replace("_neutral", "_smiling") in where
        ]
    )
    smile = (rows[pairs[:, 1]] - rows[pairs[:, 0]]).mean(0) if len(pairs) else np.zeros_like(mean)
    # Whole numbers with a step of about half a per cent of the largest entry.
    whole = np.round(entries / np.abs(entries).max(1, keepdims=True) * 127).astype(np.int8)
    np.savez_compressed(
        out, mean=np.round(mean).astype(np.uint8), entries=whole, smile=(entries @ smile).astype(np.float32)
    )
    logging.info("%s: %.0f kB", out, out.stat().st_size / 1e3)


def fit(
    net: nn.Module,
    pictures: list[np.ndarray],
    steps: int,
    batch: int,
    rng: np.random.Generator,
    sizes: list[tuple[int, int]],
    rate: float,
) -> None:
    """Teach a network to give back what it gets."""
    optimizer = torch.optim.Adam(net.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    for step in range(steps):
        size = sizes[rng.integers(len(sizes))]
        shown = [augment(pictures[i], rng, size) for i in rng.integers(len(pictures), size=batch)]
        image = to_tensor(shown)
        made = net(image)
        loss = (made - image).abs().mean()
        # Edges count too, or eyes and teeth stay smears.
        loss = loss + sum((made.diff(dim=d) - image.diff(dim=d)).abs().mean() for d in (2, 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            logging.info("%s step %d loss %.4f", type(net).__name__, step, loss.item())


def augment(picture: np.ndarray, rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Return the picture at a size, a little moved, perhaps mirrored, in other light."""
    height, width = picture.shape[:2]
    turn, scale = rng.normal(0, 5), rng.uniform(0.92, 1.12)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn, scale)
    matrix[:, 2] += rng.normal(0, 0.02, 2) * [width, height]
    fit = np.diag([size[1] / width, size[0] / height])
    matrix = fit @ matrix
    if scale * size[0] / height < 0.75:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.5 * height / size[0])
    moved = cv2.warpAffine(picture, matrix, size[::-1], borderMode=cv2.BORDER_REFLECT_101)
    if rng.random() < 0.5:
        moved = moved[:, ::-1]
    light = moved.astype(np.float32) * rng.uniform(0.8, 1.2) * rng.uniform(0.95, 1.05, 3)
    return np.clip(light, 0, 255).astype(np.uint8)


def to_tensor(pictures: list[np.ndarray]) -> Tensor:
    """Return (B, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


def write(net: nn.Module, path: Path) -> None:
    """Write half-precision weights."""
    save_file({name: value.half().contiguous() for name, value in net.state_dict().items()}, path)
    logging.info("%s: %.0f kB", path, path.stat().st_size / 1e3)


if __name__ == "__main__":
    main()
