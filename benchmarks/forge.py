"""How many 512 pixel crops a second each classical family forges: `python benchmarks/forge.py`.

A crop is decoded, forged, looked at by the gate, and encoded with its mask, as `unseen forge` does it. Times
are of one core's processor time, so that other work on the machine does not count; two cores make twice as
many, since crops are independent. Beside the swap runs the usual way of warping a face, a `cv2.warpAffine`
and a mask for each triangle on the whole frame, in the same process, so that the ratio holds on any machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from scipy.spatial import Delaunay

from unseen.forge.check import Gate, check_forgery
from unseen.forge.families import family
from unseen.forge.family import Portrait, Unforgeable, eye_distance
from unseen.forge.synthetic import synthesise
from unseen.forge.warp import face_window, grid_step, read_through, triangle_map
from unseen.media.crop import encode_crop
from unseen.media.faces import RetinaFaceMesh


def triangle_by_triangle(image: np.ndarray, there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """Warp a face as tutorials do."""
    height, width = image.shape[:2]
    result = np.zeros_like(image)
    for corners in Delaunay(here).simplices:
        matrix = cv2.getAffineTransform(there[corners], here[corners])
        warped = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, np.round(here[corners]).astype(np.int32), 1)
        result[mask > 0] = warped[mask > 0]
    return result


def cost(work: Callable[[int], object], count: int, repeats: int) -> float:
    """Return seconds of one core a call, the best of a few rounds."""
    best = np.inf
    for _ in range(repeats):
        start = time.process_time()
        for i in range(count):
            work(i)
        best = min(best, (time.process_time() - start) / count)
    return float(best)


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crops", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    known = parser.parse_args()
    cv2.setNumThreads(1)
    people = [synthesise(seed, size=512) for seed in range(known.crops + 1)]
    files = [np.frombuffer(encode_crop(p.image), np.uint8) for p in people]
    finder = RetinaFaceMesh(threads=1)

    def portrait(i: int) -> Portrait:
        image = cv2.cvtColor(cv2.imdecode(files[i], cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        return replace(people[i], image=np.asarray(image, np.uint8))

    print(f"512 x 512 pixels, {eye_distance(people[0].landmarks):.0f} between the eyes")
    for name in ("swap", "poisson", "reenact", "sbi"):
        maker = family(name)

        def forge(i: int, maker=maker) -> object:  # noqa: ANN001
            try:
                return maker(portrait(i), portrait(i + 1), np.random.default_rng(i))
            except Unforgeable:
                return None

        def whole(i: int, forge=forge) -> None:  # noqa: ANN001
            forged = forge(i)
            if forged is not None:
                check_forgery(forged, people[i].image, finder, Gate())
                encode_crop(forged.image)
                cv2.imencode(".png", np.round(forged.mask * 255).astype(np.uint8))

        alone, all_of_it = (cost(f, known.crops, known.repeats) for f in (forge, whole))
        print(
            f"{name:8}  {1000 * alone:6.1f} ms to forge   {1000 * all_of_it:6.1f} ms with gate and files   "
            f"{2 / all_of_it:5.1f} crops/s on two cores"
        )

    target, donor = people[0], people[1]
    here, there = target.landmarks[:68], donor.landmarks[:68]

    def ours(_: int) -> None:
        window = face_window(here, target.image.shape, 10)
        read_through(donor.image, triangle_map(here, there, window, step=grid_step(100)))

    fast = cost(ours, 5, known.repeats)
    slow = cost(lambda _: triangle_by_triangle(donor.image, there, here), 2, known.repeats)
    print(
        f"the warp alone: {1000 * fast:.1f} ms; triangle by triangle: {1000 * slow:.1f} ms; "
        f"ratio {slow / fast:.1f}"
    )


if __name__ == "__main__":
    main()
