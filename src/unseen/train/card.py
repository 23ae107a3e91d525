"""The card of a model: what it was trained on, what it scored, what it cannot do."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import unseen
from unseen.evaluate.calibration import Calibration
from unseen.recipe import Recipe
from unseen.types import FaceRecord, Label

__all__ = ["describe_data", "write_card", "write_inpainter_card"]


def describe_data(records: Sequence[FaceRecord]) -> dict[str, Any]:
    """Return counts of rows, people and videos by data set and method, as JSON can hold them."""
    sets: dict[str, Any] = {}
    for name in sorted({r.dataset for r in records}):
        rows = [r for r in records if r.dataset == name]
        sets[name or "(unnamed)"] = {
            "rows": len(rows),
            "real": sum(r.label == Label.REAL for r in rows),
            "fake": sum(r.label == Label.FAKE for r in rows),
            "people": len({r.identity for r in rows if r.identity}),
            "videos": len({r.video for r in rows if r.video}),
            "methods": dict(sorted(Counter(str(r.method) for r in rows if r.method).items())),
        }
    return {"rows": len(records), "datasets": sets}


def write_card(
    name: str,
    recipe: Recipe,
    data: Mapping[str, Any],
    metrics: Mapping[str, Any],
    calibration: Calibration,
) -> str:
    """Return the card as Markdown.

    Args:
        name: Of the run.
        recipe: What it was trained by.
        data: `describe_data` of each split, by the split's role.
        metrics: Of the run folder.
        calibration: Of the run folder.
    """
    settings = recipe.settings
    backbone = settings["detector"]["backbone"]
    parts = ", ".join(_call(part) for part in settings["detector"]["parts"]) or "none"
    lines = [
        f"# {name}",
        "",
        "A detector of forged faces, trained by `unseen`. Its score is the log-odds that a face is forged.",
        "",
        "## What it is",
        "",
        f"- Backbone: `{_call(backbone)}`",
        f"- Parts: {parts if parts == 'none' else f'`{parts}`'}",
        f"- Head: `{_call(settings['detector']['head'])}`",
        f"- First weights: {settings['init'] or _own_weights(backbone)}",
        f"- Weights of step {metrics.get('step', '?')} of {metrics.get('steps', '?')}",
        "",
        *_trained_on(data),
    ]
    synthesise = settings["data"]["sampler"].get("init_args", {}).get("synthesise")
    if synthesise:
        lines += ["", f"Fakes were made of the real faces while training, by `{_call(synthesise)}`."]
    lines += [*_pictures(settings), "", "## What it scored", ""]
    if "val_auc" in metrics:
        lines += [
            f"On {metrics['protocol']}; these people chose the weights and the threshold, so expect less on "
            "others.",
            "",
            "| measure | value |",
            "| --- | ---: |",
            f"| frame AUC | {metrics['val_auc']:.4f} |",
            f"| video AUC | {metrics['val_video_auc']:.4f} |",
            f"| log loss before calibration | {metrics['val_log_loss']:.4f} |",
            "",
            f"Decision: {calibration.threshold_rule}.",
        ]
    else:
        lines += [
            "There was no validation split: its scores are not calibrated, its threshold is an even chance."
        ]
    lines += ["", "## What it cannot do", "", *_limits(data, bool(synthesise)), *_made_with(recipe)]
    return "\n".join(lines)


def write_inpainter_card(
    name: str, recipe: Recipe, data: Mapping[str, Any], metrics: Mapping[str, Any]
) -> str:
    """Return the card of an inpainter; see `write_card`."""
    settings = recipe.settings
    network = ", ".join(f"{key}={value}" for key, value in settings["inpainter"].items())
    lines = [
        f"# {name}",
        "",
        "An inpainter of real faces, trained by `unseen`: it repaints blocks of a face from the rest. What "
        "differs from the face is the residual that `ResidualBackbone` looks at; the residual's mean is its "
        "score, which orders faces and is no log-odds. It gives no verdicts.",
        "",
        "## What it is",
        "",
        f"- Network: `FaceInpainter({network})`",
        f"- Its weights' digest: `{metrics['digest']}`",
        f"- Weights of step {metrics['step']} of {metrics['steps']}, after {metrics['faces']} faces",
        "",
        *_trained_on(data),
        *_pictures(settings),
        "",
        "## What it scored",
        "",
    ]
    if "val_error" in metrics:
        lines += [
            f"On {metrics['protocol']}, which chose the weights: mean square error of repainted pixels "
            f"{metrics['val_error']:.5f} ({metrics['val_psnr']:.2f} dB), pictures in [0, 1].",
        ]
    else:
        lines += ["There was no validation split."]
    return "\n".join([*lines, *_made_with(recipe)])


def _trained_on(data: Mapping[str, Any]) -> list[str]:
    lines = [
        "## What it was trained on",
        "",
        "| role | data set | rows | real | fake | people | videos | methods |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for role, facts in data.items():
        lines += [
            f"| {role} | {dataset} | {f['rows']} | {f['real']} | {f['fake']} | "
            f"{f['people'] or 'not stated'} | {f['videos']} | {', '.join(f['methods']) or '-'} |"
            for dataset, f in facts["datasets"].items()
        ]
    return lines


def _pictures(settings: Mapping[str, Any]) -> list[str]:
    steps = [f"1. `{_call(transform)}`" for transform in settings["data"]["transforms"]] or ["nothing."]
    return ["", "What was done to the pictures, in this order:", "", *steps]


def _made_with(recipe: Recipe) -> list[str]:
    return [
        "",
        "## Made with",
        "",
        f"unseen {unseen.__version__}, torch {version('torch')}, timm {version('timm')}, "
        f"Python {platform.python_version()}; seed {recipe.seed}. The whole recipe is in `recipe.yaml`.",
        "",
    ]


def _limits(data: Mapping[str, Any], synthesised: bool) -> list[str]:
    people = sum(f["people"] for f in data["train"]["datasets"].values())
    sets = ", ".join(data["train"]["datasets"]) or "no named data set"
    lines = [
        f"- It has seen {people or 'an unstated number of'} people, of {sets}; of faces unlike theirs (age, "
        "skin, light, camera, make-up) it knows less, and how much less is unknown where no table says it.",
        "- Strong compression, small or blurred faces and heavy filters hide the traces it looks for, and "
        "may look like traces themselves.",
        "- It looks at single faces: a forged voice, context, or text goes unnoticed.",
        "- A score is evidence, not proof. Do not accuse a person on it alone.",
    ]
    if synthesised:
        lines.insert(
            1,
            "- It learned from blended faces. A face that was generated as a whole leaves no blending edge "
            "and may pass as real.",
        )
    return lines


def _call(value: Any) -> str:
    """Write a `class_path` and its arguments as a call."""
    if not isinstance(value, Mapping) or "class_path" not in value:
        return str(value)
    arguments = ", ".join(f"{k}={_call(v)}" for k, v in value.get("init_args", {}).items() if v is not None)
    return f"{value['class_path'].rpartition('.')[2]}({arguments})"


def _own_weights(backbone: Mapping[str, Any]) -> str:
    return "those that timm links to" if backbone.get("init_args", {}).get("pretrained") else "random"
