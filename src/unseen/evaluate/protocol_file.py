"""Protocols: each table that a paper prints, as a YAML file that says how its numbers came about.

A file names the paper and the table, what was trained on, what each column is (a data set, its forgeries, a
metric), the level, the frames a video, the aggregation, the checkpoint rule, and the printed rows, each with
the recipe that runs it here or the reason why none does. What the paper leaves open stands under `not_said`
with our reading.

Example:
    >>> table = read_protocol("realid_table1")
    >>> table.level, table.unit, table.row("RealID").published["Celeb-DF"]
    ('video', 'percent', 95.16)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from unseen.data.names import SETS, method_name, near_set, set_name
from unseen.evaluate.aggregate import AGGREGATES, video_score
from unseen.evaluate.published import (
    ELSEWHERE,
    METRICS,
    UNITS,
    Column,
    Paper,
    Protocol,
    Row,
    Training,
    near,
)
from unseen.types import InputError

__all__ = ["protocols", "read_protocol"]

FOLDER = Path(__file__).parent / "protocols"
# What `not_said` may name.
OPEN = ("train", "columns", "level", "frames", "aggregation", "checkpoint", "metric")


@cache
def protocols() -> tuple[Protocol, ...]:
    """Return every protocol that comes with the package, by name."""
    return tuple(_read(path) for path in sorted(FOLDER.glob("*.yaml")))


def read_protocol(source: str | Path) -> Protocol:
    """Read and check a protocol.

    Args:
        source: The name of one that comes with the package, or a YAML file of your own.

    Raises:
        InputError: There is no such protocol, or its file says what cannot be: names file, key and mend.
    """
    names = [path.stem for path in sorted(FOLDER.glob("*.yaml"))]
    if str(source) in names:
        return _read(FOLDER / f"{source}.yaml")
    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(
            f"no protocol {str(source)!r}{near(str(source), names)}; `unseen evaluate --list-protocols` "
            "lists them",
            reason="missing",
        )
    return _read(path)


def _read(path: Path) -> Protocol:
    try:
        data = path.read_bytes()
        found = yaml.safe_load(data.decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no readable protocol ({error})", reason="unreadable") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}", reason="unreadable") from error
    reader = _Reader(path.name, found)
    return reader.protocol(path.stem, hashlib.sha256(data).hexdigest())


class _Reader:
    """Turns the mapping of a file into a `Protocol`; every complaint names the file and the key."""

    def __init__(self, file: str, found: Any) -> None:
        self.file = file
        self.found = self.mapping(
            "the file", found, Protocol, drop=("name", "digest"), more=("metric", "unit")
        )
        self.sets = dict(self.found.get("sets") or {})

    def wrong(self, key: str, text: str) -> InputError:
        return InputError(f"{self.file}: {key}: {text}", reason="protocol")

    def mapping(
        self, key: str, value: Any, kind: Any, drop: Iterable[str] = (), more: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return a mapping with none but the fields of a class as keys, and all that have no default."""
        asked = [f for f in fields(kind) if f.name not in drop]
        known = [f.name for f in asked]
        needed = [f.name for f in asked if f.default is MISSING and f.default_factory is MISSING]
        if not isinstance(value, Mapping):
            raise self.wrong(key, f"{value!r}; expected keys such as {', '.join(known[:4])}")
        for name in value:
            if name not in (*known, *more):
                raise self.wrong(key, f"no key {name!r} is known{near(str(name), [*known, *more])}")
        for name in needed:
            if name not in value:
                raise self.wrong(key, f"`{name}:` is missing")
        return dict(value)

    def one_of(self, key: str, value: Any, known: Iterable[str]) -> Any:
        known = list(known)
        if value not in known:
            raise self.wrong(key, f"{value!r}; expected one of {', '.join(known)}{near(str(value), known)}")
        return value

    def dataset(self, key: str, value: Any) -> str:
        """Return our name of a data set."""
        text = str(value)
        name = text if text in self.sets else set_name(text)
        if name is None:
            alike = near_set(text)
            raise self.wrong(
                key,
                f"unknown data set {text!r}{f', did you mean {alike[0]!r}?' if alike else ''}; expected one "
                f"of {', '.join(SETS)}, or one that is described under `sets:`",
            )
        return name

    def protocol(self, name: str, digest: str) -> Protocol:
        found = self.found
        said = self.mapping("paper", found["paper"], Paper)
        paper = Paper(**said | {k: str(said[k]) for k in ("table", "figure") if said.get(k) is not None})
        if (paper.table is None) == (paper.figure is None):
            raise self.wrong("paper", "expected either `table:` or `figure:`")
        train = {str(k): self.training(f"train.{k}", v) for k, v in dict(found["train"]).items()}
        columns = {str(k): self.column(str(k), v) for k, v in dict(found["columns"]).items()}
        for column in columns.values():
            for part in column.mean:
                self.one_of(f"columns.{column.name}.mean", part, columns)
        rows = tuple(self.row(i, row, columns, train) for i, row in enumerate(found["rows"], 1))
        names = [row.name for row in rows]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise self.wrong("rows", f"{twice!r} twice; give each row a name of its own")
        not_said = {str(k): str(v) for k, v in dict(found.get("not_said") or {}).items()}
        for key in not_said:
            self.one_of("not_said", key, OPEN)
        return Protocol(
            name=name,
            title=str(found["title"]),
            paper=paper,
            own=self.one_of("own", found["own"], names),
            train=train,
            columns=columns,
            rows=rows,
            level=self.one_of("level", found["level"], ("frame", "video")),
            frames=self.frames(found["frames"]),
            aggregation=self.aggregation(found["aggregation"]),
            checkpoint=str(found["checkpoint"]),
            not_said=not_said,
            cautions=tuple(map(str, found.get("cautions") or ())),
            sets=self.sets,
            digest=digest,
        )

    def frames(self, value: Any) -> int | None:
        if value == "all":
            return None
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong("frames", f"{value!r}; expected a number of frames a video, or `all`")
        return value

    def aggregation(self, value: Any) -> str:
        try:
            video_score(str(value))
        except InputError:
            raise self.wrong(
                "aggregation", f"{value!r}; expected one of {', '.join(AGGREGATES)}, or top3, top5, ..."
            ) from None
        return str(value)

    def training(self, key: str, value: Any) -> Training:
        given = self.mapping(key, value, Training)
        given["dataset"] = self.dataset(f"{key}.dataset", given["dataset"])
        given["methods"] = tuple(method_name(str(m)) for m in given.get("methods", ()))
        return Training(**given)

    def column(self, name: str, value: Any) -> Column:
        key = f"columns.{name}"
        given = self.mapping(key, value, Column, drop=("name",))
        if ("mean" in given) == ("dataset" in given):
            raise self.wrong(key, "expected either `dataset:` or `mean:` (the columns it is the mean of)")
        if "dataset" in given:
            given["dataset"] = self.dataset(f"{key}.dataset", given["dataset"])
        reals = given.get("reals", ())
        reals = [reals] if isinstance(reals, str) else reals
        given["reals"] = tuple(self.dataset(f"{key}.reals", r) for r in reals)
        given["methods"] = tuple(method_name(str(m)) for m in given.get("methods", ()))
        given["mean"] = tuple(map(str, given.get("mean", ())))
        metric, unit = (
            given.get(k, self.found.get(k, d)) for k, d in (("metric", "auc"), ("unit", "percent"))
        )
        given["metric"] = self.one_of(f"{key}.metric", metric, (*METRICS, *ELSEWHERE))
        given["unit"] = self.one_of(f"{key}.unit", unit, UNITS)
        return Column(name=name, **given)

    def row(
        self, number: int, value: Any, columns: Mapping[str, Column], train: Mapping[str, Training]
    ) -> Row:
        given = self.mapping(f"rows[{number}]", value, Row, more=("recipe",))
        key = f"rows[{number}] {given['name']}"
        published: dict[str, float | None] = {}
        for name, number_ in self.cells(f"{key}.published", given["published"], columns).items():
            low, high = UNITS[columns[name].unit]
            if number_ is not None and not (isinstance(number_, int | float) and low <= number_ <= high):
                raise self.wrong(
                    f"{key}.published.{name}", f"{number_!r}; expected a number in [{low:g}, {high:g}]"
                )
            published[name] = None if number_ is None else float(number_)
        if "train" in given or len(train) > 1:
            self.one_of(f"{key}.train", given.get("train"), train)
        if (given.get("recipe") is None) != bool(given.get("why")):
            raise self.wrong(key, "expected either `recipe:`, or `recipe: null` with the reason under `why:`")
        if given.get("overrides") and given.get("recipe") is None:
            raise self.wrong(key, "`overrides:` without a recipe")
        slips = self.cells(f"{key}.slips", given.get("slips") or {}, columns)
        train_name = str(given.get("train") or next(iter(train)))
        return Row(
            **{
                **given,
                "name": str(given["name"]),
                "published": published,
                "slips": slips,
                "train": train_name,
            }
        )

    def cells(self, key: str, value: Any, columns: Mapping[str, Column]) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise self.wrong(key, f"{value!r}; expected column: number")
        for name in value:
            self.one_of(key, name, columns)
        return dict(value)
