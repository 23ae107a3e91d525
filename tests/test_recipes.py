"""Every recipe in recipes/ is read, built at full size, and learns for three steps with a tiny network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.train.faces import faces_file, tiny
from unseen.data.batched import movable
from unseen.data.dataset import FaceDataset, collate
from unseen.data.manifest import Manifest
from unseen.data.photometric import Blur, Grayscale
from unseen.data.regions import RULE, SHARDS, FaceRegions, pack_shard, region_key
from unseen.data.samplers import Draw
from unseen.data.transforms import AlignFace, Flip
from unseen.recipe import read_recipe
from unseen.train.fit import train
from unseen.train.rows import places
from unseen.types import FaceRecord, Label

__all__ = ["faces_file", "tiny"]

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def ids(path: Path) -> str:
    return path.stem


@pytest.fixture(scope="module")
def labelled_file(faces_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The faces with every other one called a fake, for recipes that learn from known forgeries."""
    from dataclasses import replace

    records: list[FaceRecord] = []
    for i, record in enumerate(Manifest.read(faces_file)):
        fake = {"label": Label.FAKE, "method": "made", "source": record.path}
        records.append(replace(record, **fake) if i % 2 else record)
    folder = tmp_path_factory.mktemp("labelled")
    Manifest.from_records(records, folder).write(folder / "faces.parquet")
    return folder / "faces.parquet"


@pytest.fixture(scope="module")
def regions(labelled_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Primary regions of those faces, as no zoo would make them."""
    manifest = Manifest.read(labelled_file)
    ranks, whole = np.arange(256, dtype=np.uint8).reshape(16, 16), (20, 20, 200, 200)
    rows = [
        FaceRegions(region_key(r.path, manifest.root), "", (320, 320), whole, ranks, (), np.zeros((0, 2, 3)))
        for r in manifest
    ]
    folder = tmp_path_factory.mktemp("regions")
    (folder / SHARDS).mkdir()
    (folder / RULE).write_text("{}")
    (folder / SHARDS / "0.regions").write_bytes(pack_shard({}, rows))
    return folder


def small_rffr(settings: dict[str, Any], manifest: Path, inpainter: Path | None) -> dict[str, Any]:
    """An inpainter's recipe, or that of a detector that has one, at 64 pixels."""
    size = {"size": "tiny", "image_size": 64, "patch": 8}
    settings["data"] |= {"manifest": str(manifest), "workers": 0}
    settings["data"]["transforms"][0]["init_args"]["size"] = 64
    settings["data"]["sampler"]["init_args"]["batch_size"] = 4
    settings["trainer"] |= {"max_steps": 3, "accelerator": "cpu", "graph": False}
    if "inpainter" in settings:
        settings["inpainter"] |= {**size, "blocks": 3}
        settings["data"]["methods"] = []
        return settings
    arguments = settings["detector"]["backbone"]["init_args"]
    arguments |= {"name": "test_vit", "pretrained": False, "blocks": 3}
    arguments["inpainter"]["init_args"] |= {**size, "blocks": 3}
    settings["init"] = {"backbone.inpainter": str(inpainter)}
    return settings


@pytest.fixture(scope="module")
def inpainter(labelled_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that detectors with an inpainter start from."""
    (path,) = (path for path in RECIPES if path.stem == "rffr_inpainter_tiny")
    settings = small_rffr(read_recipe(path).expanded(), labelled_file, None)
    return train(read_recipe(settings), tmp_path_factory.mktemp("inpainter") / "run")


@pytest.mark.parametrize("path", RECIPES, ids=ids)
def test_recipe_builds_at_full_size_and_its_pictures_fit(path: Path) -> None:
    recipe = read_recipe(path)
    with torch.device("meta"):  # shapes only: B4 and Xception in no time
        detector = recipe.model(pretrained=False)
    sizes = {t.size for t in recipe.data().transforms if isinstance(t, AlignFace)}
    assert sizes == {detector.image_size}
    assert read_recipe(recipe.expanded()).expanded() == recipe.expanded()


@pytest.mark.parametrize("path", RECIPES, ids=ids)
def test_recipe_takes_three_steps(
    path: Path, labelled_file: Path, regions: Path, inpainter: Path, tmp_path: Path
) -> None:
    settings = read_recipe(path).expanded()
    if "inpainter" in settings or settings["detector"]["backbone"]["class_path"].endswith("ResidualBackbone"):
        learns(small_rffr(settings, labelled_file, inpainter), tmp_path / "run")
        return
    size = {"name": "test_efficientnet", "image_size": 64, "pretrained": False, "drop_path_rate": 0.0}
    if settings["detector"]["backbone"]["class_path"].endswith("F3Net"):
        size = {"name": "test_resnet", "image_size": 64, "pretrained": False, "mix_after": ["layer2"]}
    settings["detector"]["backbone"]["init_args"] |= size
    for transform in settings["data"]["transforms"]:
        if transform["class_path"].endswith("AlignFace"):
            transform["init_args"]["size"] = 64
        if transform["class_path"].endswith("PrimaryRegionMask"):
            transform["init_args"]["regions"] = str(regions)
    for part in settings["detector"]["parts"]:
        if part["class_path"].endswith("ArtifactDetector"):
            part["init_args"]["grid"] = "adapt"  # 64 pixels make no 7 x 7
    settings["data"] |= {"manifest": str(labelled_file), "workers": 0}
    settings["data"]["sampler"]["init_args"]["batch_size"] = 4
    settings["trainer"] |= {"max_steps": 3, "accelerator": "cpu", "graph": False}
    learns({**settings, "init": None}, tmp_path / "run")


MOVED = {
    "sbi_effb4": ["ColorJitter", "ColorJitter", "JpegCompress"],
    "default_lite0": ["ColorJitter", "Grayscale", "Downscale", "Blur", "Noise", "JpegCompress"],
    "caddm_resnet34": ["Distort"],
    "did_effv2l": ["Grayscale"],
    "realid_effb4": [],
    "prle_effb4": [],
    "rffr": [],
}


@pytest.mark.parametrize("name", MOVED)
def test_on_the_device_a_recipe_makes_the_pictures_that_it_makes_on_the_processor(
    name: str, labelled_file: Path
) -> None:
    (path,) = (path for path in RECIPES if path.stem == name)
    records = Manifest.read(labelled_file).records()
    transforms = read_recipe(path).data().transforms
    last = transforms[len(transforms) - movable(transforms) :]
    assert [type(t).__name__ for t in last] == MOVED[name]
    assert (f"on the device: {', '.join(MOVED[name])}" in places(transforms)) == bool(last)
    small, draws = [AlignFace(64), *last], [Draw(i, 0, i) for i in range(12)]
    near = collate([FaceDataset(records, small)[d] for d in draws])
    far = collate([FaceDataset(records, small, photometric="device")[d] for d in draws])
    assert bool(far.changes) == bool(last)
    assert ((near.to("cpu").image - far.to("cpu").image) != 0).float().mean() < 1e-3


def test_what_cannot_be_left_to_a_device_is_named() -> None:
    align, flip, blur = AlignFace(8), Flip(), Blur()
    assert places([align, blur, flip, Grayscale()]).endswith(
        "on the device: Grayscale; on the processor, since Flip comes later: Blur"
    )
    assert "the last transform, Flip, belongs to the processor" in places([align, flip])


def learns(settings: dict[str, Any], folder: Path) -> None:
    out = train(read_recipe(settings), folder)
    weights = load_file(out / "weights.safetensors")
    assert all(torch.isfinite(value).all() for value in weights.values())
    assert (out / "run.json").exists()


def test_there_are_recipes() -> None:
    assert {"tiny", "default_lite0", "sbi_effb4", "baseline_xception"} <= {path.stem for path in RECIPES}
