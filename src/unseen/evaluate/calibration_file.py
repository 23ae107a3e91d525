"""The file `calibration.json`: written with care, read with suspicion."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from unseen.evaluate.scope import Scope
from unseen.types import InputError

if TYPE_CHECKING:
    from unseen.evaluate.calibration import Calibration

__all__ = ["VERSION", "decode", "encode"]

VERSION = 2  # 1 had no scope, and is still read
_NUMBERS = ("temperature", "bias", "real_threshold")
_COUNTS = ("n_real", "n_fake", "n_real_people", "n_fake_people")
_LISTS = ("real_scores", "real_weights")


def encode(calibration: Calibration) -> str:
    """Return JSON text with one key a line (long lists in one line), the same for the same calibration."""
    values: dict[str, Any] = {"version": VERSION}
    for item in fields(calibration):
        value = getattr(calibration, item.name)
        if isinstance(value, Scope):
            value = value.to_dict()
        values[item.name] = list(value) if isinstance(value, tuple) else value
    lines = [
        f"  {json.dumps(k)}: {json.dumps(v, allow_nan=False, sort_keys=True)}" for k, v in values.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def decode(source: Path | str, name: str | None = None) -> dict[str, Any]:
    """Return the constructor's arguments of a calibration.

    Args:
        source: A file, or the text itself if it starts with a brace.
        name: What messages call it; default the file's name.

    Raises:
        InputError: Naming the file and the key.
    """
    if isinstance(source, str) and source.lstrip().startswith("{"):
        text, name = source, name or "calibration.json"
    else:
        path, name = Path(source), name or str(source)
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise InputError(f"{name}: no such file", reason="missing") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{name}: cannot be read ({error})", reason="unreadable") from error
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{name}: not JSON ({error})", reason="unreadable") from error
    if not isinstance(values, dict):
        raise InputError(f"{name}: expected a JSON object", reason="unreadable")
    return _checked(values, name)


def _checked(values: dict[str, Any], name: str) -> dict[str, Any]:
    def wrong(key: str, expected: str) -> NoReturn:
        found = repr(values.get(key))
        raise InputError(
            f"{name}: `{key}` is {found[:60]}; expected {expected}. Take the file from the run again",
            reason="calibration",
        )

    if values.get("version") not in (1, VERSION):
        raise InputError(
            f"{name}: `version` is {values.get('version')!r}; this unseen reads versions 1 and {VERSION}",
            reason="version",
        )
    if values["version"] == 1:
        values = {**values, "scope": None}
    keys = {
        *_NUMBERS,
        *_COUNTS,
        *_LISTS,
        "version",
        "thresholds",
        "default",
        "miss_rate",
        "made_from",
        "notes",
        "scope",
    }
    for key in sorted(keys - values.keys()):
        raise InputError(f"{name}: the key `{key}` is missing", reason="calibration")
    for key in sorted(values.keys() - keys):
        raise InputError(f"{name}: unknown key `{key}`", reason="calibration")
    for key in _NUMBERS:
        if not _number(values[key]):
            wrong(key, "a finite number")
    if values["temperature"] <= 0:
        wrong("temperature", "a number above 0")
    for key in _COUNTS:
        if not isinstance(values[key], int) or isinstance(values[key], bool) or values[key] < 0:
            wrong(key, "a whole number, 0 or more")
    for key in _LISTS:
        if not isinstance(values[key], list) or not all(_number(v) for v in values[key]):
            wrong(key, "a list of finite numbers")
    scores, weights = values["real_scores"], values["real_weights"]
    if any(a > b for a, b in pairwise(scores)):
        wrong("real_scores", "rising numbers")
    if len(weights) != len(scores) or min(weights, default=1) <= 0:
        wrong("real_weights", f"{len(scores)} numbers above 0, one a real score")
    if abs(sum(weights) - values["n_real_people"]) > 1e-6 * max(1, values["n_real_people"]):
        wrong("real_weights", f"numbers whose sum is n_real_people ({values['n_real_people']})")
    if not isinstance(values["made_from"], str):
        wrong("made_from", "text")
    if not isinstance(values["notes"], list) or not all(isinstance(v, str) for v in values["notes"]):
        wrong("notes", "a list of texts")
    miss = values["miss_rate"]
    if miss is not None and not (_number(miss) and 0 < miss < 1):
        wrong("miss_rate", "a share between 0 and 1, or null")
    thresholds = values["thresholds"]
    if not isinstance(thresholds, dict) or not all(_number(v) for v in thresholds.values()):
        wrong("thresholds", "false-alarm rates to finite scores")
    if values["default"] not in thresholds:
        wrong("default", f"one of the thresholds {sorted(thresholds)}")
    if miss is not None:
        try:
            rates = {float(key): score for key, score in thresholds.items()}
        except ValueError:
            wrong("thresholds", "keys that are false-alarm rates such as '0.01'")
        falling = [rates[rate] for rate in sorted(rates)]
        if min(rates) <= 0 or max(rates) >= 1 or falling != sorted(falling, reverse=True):
            wrong("thresholds", "scores that fall as the false-alarm rate, in (0, 1), rises")
    if values["scope"] is not None:
        try:
            values = {**values, "scope": Scope.from_dict(values["scope"])}
        except (KeyError, TypeError, ValueError) as error:
            wrong("scope", f"measures with rising numbers, or null ({error})")
    values = {key: value for key, value in values.items() if key != "version"}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
