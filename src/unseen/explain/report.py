"""One page on one question: how much identity does this detector use?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from unseen.evaluate.svg import Point, panels
from unseen.explain.leakage import DatasetLeakage

__all__ = ["leakage_html", "leakage_json", "leakage_markdown", "probe_svg"]

Settings = Mapping[str, Any]
TITLE = "How much identity does this detector use?"
KNOWS = (
    "**Knows.** A linear layer on the frozen features tells people apart with this accuracy, on faces it has "
    "not learned from. A detector may know who somebody is without using it; a network that never learned "
    "knows some as well, because faces look different."
)
USES = (
    "**Uses.** The share of what scores differ by, among faces of one class, that lies between people; 0 if "
    "people do not matter. Above `chance` it is more than 95 % of shuffles of people give. Forgeries that "
    "are better on some people than on others raise it too."
)
WHOLE = (
    "**Judges by the whole.** The interaction I([N]) of CADDM's eq. 1: what all cells of a face say together "
    "beyond what each says alone, as a score of fake. The paper finds its AUC above 0.5 on the data set that "
    "was trained on and below it on others (Table 1): the whole helps at home and misleads elsewhere."
)


def leakage_json(name: str, found: Sequence[DatasetLeakage], settings: Settings) -> str:
    """Return all numbers as JSON; what is not a number is null."""
    told = {"run": name, "settings": dict(settings), "datasets": [one.to_dict() for one in found]}
    return json.dumps(_plain(told), indent=1) + "\n"


def leakage_markdown(name: str, found: Sequence[DatasetLeakage], settings: Settings) -> str:
    """Return the report as Markdown."""
    lines = [f"# {TITLE}", "", f"Run `{name}`. {_told(settings)}", ""]
    for title, (columns, rows) in _tables(found).items():
        lines += [title, "", "| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines.append("")
    lines += [f"* {one.dataset or 'rows'}: {note}" for one in found for note in one.notes]
    return "\n".join(lines).rstrip() + "\n"


def leakage_html(name: str, found: Sequence[DatasetLeakage], settings: Settings) -> str:
    """Return the report as one page that needs nothing from elsewhere."""
    body = [f"<h1>{TITLE}</h1><p>Run <code>{escape(name)}</code>. {escape(_told(settings))}</p>"]
    for title, (columns, rows) in _tables(found).items():
        first, _, rest = title.removeprefix("**").partition("** ")
        head = "".join(f"<th>{escape(word)}</th>" for word in columns)
        cells = "".join("<tr>" + "".join(f"<td>{escape(v)}</td>" for v in row) + "</tr>" for row in rows)
        text = escape(rest).replace("`chance`", "<code>chance</code>")
        body.append(
            f"<h2>{escape(first.rstrip('.'))}</h2><p>{text}</p>"
            f'<div class="wide"><table><tr>{head}</tr>{cells}</table></div>'
        )
        if title == KNOWS and (drawn := probe_svg(found)):
            body.append(drawn)
    body += [f"<p>{escape(one.dataset or 'rows')}: {escape(note)}</p>" for one in found for note in one.notes]
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{TITLE}</title><style>{_STYLE}</style>{"".join(body)}</html>\n'
    )


def probe_svg(found: Sequence[DatasetLeakage]) -> str:
    """Draw the probe's accuracy over its training, a panel a data set; empty without probes."""
    probes = {one.dataset or "rows": one.probe for one in found if one.probe is not None}
    if not probes:
        return ""
    last = max(probe.epochs[-1] for probe in probes.values())
    # One dashed line for all panels: the chance of each stands in its name.
    return panels(
        {
            f"{name}, chance {probe.chance:.3f}": [
                Point(epoch, value) for epoch, value in zip(probe.epochs, probe.accuracy, strict=True)
            ]
            for name, probe in probes.items()
        },
        title="People recognised by a linear layer on frozen features",
        x=(0, last),
        y=(0, 1),
        x_ticks=(0, last / 2, last),
        y_ticks=(0, 0.25, 0.5, 0.75, 1),
        x_label="epochs of the probe",
        baseline=max(probe.chance for probe in probes.values()),
    )


def _tables(found: Sequence[DatasetLeakage]) -> dict[str, tuple[list[str], list[list[str]]]]:
    knows = [
        [
            one.dataset or "rows",
            _home(one),
            f"{one.probe.best:.3f}",
            f"{one.probe.chance:.3f}",
            str(one.probe.people),
            f"{one.probe.train} / {one.probe.test}",
            "other videos" if one.probe.unlike else "frames of the same videos",
        ]
        for one in found
        if one.probe is not None
    ]
    uses = [
        [
            one.dataset or "rows",
            _home(one),
            f"{one.share.share:.3f}",
            f"{one.share.chance:.3f}",
            str(one.share.people),
            str(one.share.faces),
        ]
        for one in found
        if one.share is not None
    ]
    whole = [
        [
            one.dataset or "rows",
            _home(one),
            _number(one.whole.auc),
            _number(one.whole.score_auc),
            _number(one.whole.real),
            _number(one.whole.fake),
            str(one.whole.faces),
        ]
        for one in found
        if one.whole is not None
    ]
    columns = ["data set", "trained on"]
    told = {
        KNOWS: ([*columns, "accuracy", "chance", "people", "faces learned / asked", "asked on"], knows),
        USES: ([*columns, "share", "chance", "people", "faces"], uses),
        WHOLE: ([*columns, "AUC of I([N])", "AUC of scores", "mean of real", "of fake", "faces"], whole),
    }
    return {title: table for title, table in told.items() if table[1]}


def _home(one: DatasetLeakage) -> str:
    return {True: "yes", False: "no", None: "unknown"}[one.trained_on]


def _number(value: float) -> str:
    return f"{value:.3f}" if math.isfinite(value) else "-"


def _told(settings: Settings) -> str:
    told = "; ".join(f"{key} {value}" for key, value in settings.items())
    return told[:1].upper() + told[1:] + "."


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


_STYLE = (
    "body{font:15px/1.45 system-ui,sans-serif;max-width:52em;margin:1.5em auto;padding:0 1em;color:#222}"
    "table{border-collapse:collapse;margin:.6em 0}th,td{border:1px solid #ccc;padding:.25em .6em;"
    "text-align:right}.wide{overflow-x:auto}th:first-child,td:first-child{text-align:left}svg{max-width:100%;height:auto}"
)
