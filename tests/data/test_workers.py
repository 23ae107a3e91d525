"""Batches that workers send are those that a process makes for itself, and travel with few handles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from unseen.data.dataset import collate
from unseen.data.workers import planes, start_worker
from unseen.types import FaceBatch, FaceRecord, FaceSample, Label


def pictures(seed: int, count: int = 5, side: int = 90) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    made = [rng.integers(0, 256, (side, side + 6, 3), np.uint8) for _ in range(count)]
    made[1] = made[1][:, ::-1]  # flipped, without a copy
    return made


class Made(Dataset[FaceBatch]):
    """Batches with all that a batch may carry."""

    def __getitem__(self, seeds: Sequence[int]) -> FaceBatch:
        regions = [np.random.default_rng(s).random((s % 3, 4), np.float32) for s in range(5)]
        batch = collate(
            [FaceSample(image, Label(i % 2), FaceRecord(f"{i}.png", Label(i % 2), method="swap"), weight=i,
                        regions=regions[i])]
            for i, image in enumerate(pictures(seeds[0]))
        )  # fmt: skip
        batch.residual = torch.full((5, 3, 4, 4), seeds[0] / 3, dtype=torch.bfloat16)
        return batch


def test_planes_are_a_permuted_copy() -> None:
    wanted = torch.from_numpy(np.stack(pictures(0))).permute(0, 3, 1, 2)
    made = planes(pictures(0))
    assert torch.equal(made, wanted) and made.is_contiguous() and not made.is_shared()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_send_the_batches_that_this_process_makes(workers: int) -> None:
    source = Made()
    loader = DataLoader(
        source,
        batch_size=None,
        sampler=[[s] for s in range(6)],
        num_workers=workers,
        collate_fn=lambda batch: batch,
        worker_init_fn=start_worker,
    )
    for seed, sent in enumerate(loader):
        made = source[[seed]]
        assert sent.image.is_shared() and not sent.label.is_shared()
        assert not any(region.is_shared() for region in sent.regions)
        for name in ("image", "label", "weight", "residual"):
            assert torch.equal(getattr(sent, name), getattr(made, name)), name
        assert all(torch.equal(a, b) for a, b in zip(sent.regions, made.regions, strict=True))
        assert [r.path for r in sent.records] == [r.path for r in made.records]
        sent.label += 1  # whoever trains may write to what it was sent
