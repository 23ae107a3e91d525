"""What must be known to believe a number: the card of a protocol's run, and the table in words."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from unseen import __version__
from unseen.evaluate.card import STAMP, card_lines, facts, rows_hash
from unseen.evaluate.protocol import Cell, Protocol
from unseen.evaluate.scores import ScoreTable

__all__ = ["protocol_card", "rows_hash", "to_json", "to_markdown"]

_METRICS = {"auc": "AUC", "eer": "EER", "accuracy": "ACC", "average_precision": "AP"}


def protocol_card(protocol: Protocol, table: ScoreTable) -> dict[str, str]:
    """Return what a number of this protocol depends on, each fact in a few words.

    Facts that the table's own card does not hold (anybody's CSV has none) are said to be unknown.
    """
    known = facts(table)

    def rule(key: str, text: str) -> str:
        return text + (" (not said in the paper; our reading)" if key in protocol.not_said else "")

    frames = "all frames" if protocol.frames is None else f"{protocol.frames} a video, evenly spaced"
    return {
        "protocol": f"{protocol.name} {protocol.digest[:12]}",
        "weights": known["weights"],
        "rows": str(table.card.get("rows_hash") or known["rows"]),
        "crop": known["crop"],
        "level": rule("level", f"{protocol.level}"),
        "frames": rule("frames", frames),
        "aggregation": rule("aggregation", protocol.aggregation),
        "checkpoint": known["checkpoint"],
        "checkpoint of the paper": rule("checkpoint", protocol.checkpoint),
        "seed": known["seed"],
        "unseen": str(table.card.get("unseen", __version__)),
        **({STAMP: str(table.card[STAMP])} if table.card.get(STAMP) else {}),
    }


def to_json(protocol: Protocol, cells: Sequence[Cell], card: Mapping[str, str]) -> str:
    """Return the cells and the card as JSON."""
    rows = [{**asdict(cell), "difference": cell.difference} for cell in cells]
    return json.dumps(
        {"protocol": protocol.name, "card": dict(card), "cells": rows}, indent=2, allow_nan=False
    )


def to_markdown(protocol: Protocol, cells: Sequence[Cell], card: Mapping[str, str]) -> str:
    """Write rows that have scores as a table, a line a column; then the other rows, and the card."""
    paper = protocol.paper
    lines = [
        f"{paper.method}, {paper.place} ({paper.authors}, {paper.venue} {paper.year}): {protocol.title}",
        "",
    ]
    for name in dict.fromkeys(cell.row for cell in cells if cell.own):
        lines += _own(protocol, name, [cell for cell in cells if cell.row == name])
    lines += _others(protocol, cells)
    lines += card_lines(card)
    unsaid = protocol.not_said.items()
    lines += ["", *(f"Not said in the paper: {key}; our reading: {text}." for key, text in unsaid)]
    lines += [f"Caution: {text}" for text in protocol.cautions]
    return "\n".join(lines) + "\n"


def _own(protocol: Protocol, name: str, cells: Sequence[Cell]) -> list[str]:
    other = "frame" if protocol.level == "video" else "video"
    lines = [
        f"| {_cell(name)} | measured here, by {protocol.level} | published | difference | by {other} "
        "| real | fake | |",
        "|---|---:|---:|---:|---:|---:|---:|---|",
    ]
    for cell in cells:
        column = protocol.columns[cell.column]
        digits = {"percent": 2, "fraction": 3, "number": 2}[column.unit]
        metric = _METRICS.get(column.metric, column.metric)
        label = cell.column if metric in cell.column else f"{cell.column} {metric}"
        unscored = [f"{cell.unscored:,} rows not scored"] if cell.unscored else []
        text = f"not measured: {cell.why}" if cell.why else "; ".join([*cell.notes, *unscored])
        numbers = [_number(value, digits) for value in (cell.measured, cell.published)]
        difference = "-" if cell.difference is None else f"{cell.difference:+.{digits}f}"
        counts = [f"{n:,}" if n else "-" for n in (cell.n_real, cell.n_fake)]
        values = [*numbers, difference, _number(cell.other, digits), *counts, _cell(text)]
        lines.append(f"| {_cell(label)} | {' | '.join(values)} |")
    return [*lines, ""]


def _others(protocol: Protocol, cells: Sequence[Cell]) -> list[str]:
    own = {cell.row for cell in cells if cell.own}
    rows = [row for row in protocol.rows if row.name not in own]
    if not rows:
        return []
    lines = [
        "| published | " + " | ".join(map(_cell, protocol.columns)) + " | to measure it here |",
        "|---|" + "---:|" * len(protocol.columns) + "---|",
    ]
    for row in rows:
        numbers = []
        for column in protocol.columns.values():
            digits = {"percent": 2, "fraction": 3, "number": 2}[column.unit]
            numbers.append(_number(row.published.get(column.name), digits))
        how = row.why if row.recipe is None else f"recipes/{row.recipe}.yaml"
        changed = "".join(f" {key}={json.dumps(value)}" for key, value in row.overrides.items())
        lines.append(f"| {_cell(row.name)} | {' | '.join(numbers)} | {_cell(how + changed)} |")
    return [*lines, ""]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
