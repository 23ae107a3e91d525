"""Published tables as files: what they say, what they refuse, and what is measured beside them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import unseen.evaluate
from tests.train.faces import faces_file, tiny
from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.data.names import SETS
from unseen.evaluate.metrics import auc
from unseen.evaluate.protocol import Cell, Protocol, compare, protocols, read_protocol
from unseen.evaluate.protocol_card import protocol_card, rows_hash, to_json, to_markdown
from unseen.evaluate.run import fingerprint
from unseen.evaluate.scores import ScoreTable, ScoreWriter
from unseen.types import FaceRecord, InputError, Label

__all__ = ["faces_file", "tiny"]

RECIPES = Path(__file__).parents[2] / "recipes"
TABLES = {
    "RealID": 5,
    "CADDM": 7,
    "DID": 5,
    "PRLE": 9,
    "RFFR": 9,
}  # tables and studies with numbers or a recipe
ALL = protocols()


def ids(protocol: Protocol) -> str:
    return protocol.name


# What the files say


def test_every_table_of_the_five_papers_is_there() -> None:
    count = {name: sum(p.paper.method == name for p in ALL) for name in TABLES}
    assert count == TABLES
    assert sum(v is not None for p in ALL for r in p.rows for v in r.published.values()) == 1_102


@pytest.mark.parametrize("protocol", ALL, ids=ids)
def test_every_row_has_a_recipe_that_exists_or_says_why_not(protocol: Protocol) -> None:
    there = {path.stem for path in RECIPES.glob("*.yaml")}
    missing = {row.recipe for row in protocol.rows if row.recipe is not None} - there
    assert not missing
    assert all(len(row.why) > 20 for row in protocol.rows if row.recipe is None)
    assert protocol.row(protocol.own).recipe is not None


def test_overrides_fit_their_recipes() -> None:
    from unseen.recipe import Recipe, read_recipe

    # Numbers and lists of one key are alike: one of each is tried, and every word.
    asked: dict[tuple[Any, ...], tuple[str, dict[str, Any]]] = {}
    for row in (row for p in ALL for row in p.rows if row.recipe and row.overrides):
        words = sorted((key, value if isinstance(value, str) else "") for key, value in row.overrides.items())
        asked[row.recipe, *words] = (str(row.recipe), dict(row.overrides))
    read: dict[str, Recipe] = {}
    for name, overrides in asked.values():
        if name not in read:
            read[name] = read_recipe(RECIPES / f"{name}.yaml")
        changed = read[name].with_values(overrides)
        assert changed.settings != read[name].settings, f"{name} {overrides}: changes nothing"


@pytest.mark.parametrize("protocol", ALL, ids=ids)
def test_printed_averages_are_those_of_their_row_or_called_slips(protocol: Protocol) -> None:
    # Papers round or cut: two decimals may be off by .01, one decimal (CADDM, Table 4) by .1.
    allowed = 0.101 if protocol.name == "caddm_table4" else 0.0101
    for row in protocol.rows:
        for column in protocol.columns.values():
            parts = [row.published.get(name) for name in column.mean]
            printed = row.published.get(column.name)
            if not parts or printed is None or None in parts:
                continue
            off = abs(printed - float(np.mean(np.array(parts, float)))) > allowed
            noted = bool({column.name, *column.mean} & set(row.slips))
            assert off <= noted, f"{row.name}: {column.name} {printed} is not the mean of {parts}"


def test_the_misprints_that_the_tables_are_known_for() -> None:
    row = read_protocol("realid_table2").row("ViT-L+RealID")
    # (90.00 + 81.80 + 91.60 + 98.92) / 4 = 362.32 / 4 = 90.58
    assert sum(row.published[c] for c in ("Celeb-DF", "DFDC", "DFDCp", "UADFV")) / 4 == pytest.approx(90.58)  # type: ignore[misc]
    assert row.published["AVG"] == 90.77
    assert "90.58" in row.slips["AVG"]
    row = read_protocol("rffr_table1").row("RFFR, trained on F2F")
    assert row.published["DF"] == 93.75
    assert "93.44" in row.slips["DF"]
    row = read_protocol("prle_table2").row("VGG")
    assert row.slips.keys() == {"AVG ACC"}  # (58.06 + 63.96 + 66.62) / 3 = 62.88, printed 62.75


def test_a_number_that_is_printed_twice_is_the_same_twice() -> None:
    def row(name: str, of: str) -> dict[str, Any]:
        return dict(read_protocol(name).row(of).published)

    rffr = row("rffr_table4", "RFFR")
    assert (
        rffr
        == row("rffr_table3", "RFFR, FN+FF")
        == row("rffr_table6", "RFFR, validated")
        == row("rffr_table9", "4x4")
    )
    assert (
        row("rffr_table5", "random image + random residual")
        == row("rffr_table8", "MIM")
        == {"FSW": rffr["FSW"]}
    )
    whole = row("realid_table1", "RealID")
    assert row("realid_table3", "both").items() <= whole.items()
    assert row("realid_table3", "backbone").items() <= row("realid_table1", "EfficientNet").items()
    assert row("caddm_table2", "DA + MFS + ADM") == row("caddm_table3", "CADDM ResNet-34")
    assert row("caddm_table6", "SBI") == row("caddm_table3", "SBI")
    assert row("did_table1", "DID")["Celeb-DF EER"] == row("did_table3", "full")["Celeb-DF EER"]
    for network in ("Xception", "EfficientNet", "VGG", "F3-Net", "ResNet-50"):
        main_table = row("prle_table2", f"{network}+PRLE")
        aucs = {name: main_table[f"{name} AUC"] for name in ("DFDC", "DF-1.0", "Celeb-DF")}
        assert (
            aucs == row("prle_table4", f"{network}, primary") == row("prle_table5", f"{network}, neighbour")
        )


@pytest.mark.parametrize("protocol", ALL, ids=ids)
def test_what_the_paper_leaves_open_is_flagged(protocol: Protocol) -> None:
    assert "checkpoint" in protocol.not_said or protocol.paper.method == "RFFR"
    if protocol.paper.method == "RealID":
        assert {"level", "frames", "aggregation"} <= protocol.not_said.keys()
    assert protocol.frames == {"RFFR": 1, "DID": None}.get(protocol.paper.method, 32)
    assert set(protocol.datasets) <= set(SETS)


def test_a_protocol_is_the_same_by_name_and_by_file() -> None:
    path = Path(unseen.evaluate.__file__).parent / "protocols" / "realid_table1.yaml"
    assert read_protocol("realid_table1") == read_protocol(path)


# What a file may not say

TOY = yaml.safe_load("""
title: A toy
paper: {method: Toy, authors: A. Author, title: T, venue: V, year: 2026, table: 1}
own: ours
train: {FF++: {dataset: ff++}}
columns:
  A: {dataset: uadfv}
  B: {dataset: FF++_c23, methods: [DF, NT], videos: 12}
  C: {dataset: deeperforensics-1.0, reals: [deeperforensics-1.0, ff++]}
  AVG: {mean: [A, B]}
level: video
frames: 2
aggregation: mean
checkpoint: the last
rows:
  - {name: ours, published: {A: 90.0, B: 80.0, AVG: 86.0}, recipe: tiny, slips: {AVG: is 85}}
  - {name: theirs, published: {A: 70.0}, recipe: null, why: somebody else's detector}
  - {name: plain, published: {A: null, C: 50.0}, recipe: tiny}
""")


@pytest.fixture
def toy(tmp_path: Path) -> Callable[..., Protocol]:
    def make(change: Callable[[dict[str, Any]], Any] = lambda _: None) -> Protocol:
        found = copy.deepcopy(TOY)
        change(found)
        path = tmp_path / "toy.yaml"
        path.write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")
        return read_protocol(path)

    return make


WRONG: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda f: f["columns"]["A"].update(dataset="celebdf2"), r"columns\.A\.dataset: unknown .*'celeb-df-v2'"),
    (lambda f: f["columns"]["A"].update(dataset="my phone"), r"columns\.A\.dataset: unknown .*`sets:`"),
    (lambda f: f["columns"]["C"].update(reals="ffff"), r"columns\.C\.reals: unknown data set 'ffff'"),
    (lambda f: f.update(level="clip"), r"level: 'clip'; expected one of frame, video"),
    (lambda f: f.update(frames=0), r"frames: 0; expected a number of frames a video, or `all`"),
    (lambda f: f.update(frames=True), r"frames: True"),
    (lambda f: f.update(aggregation="mode"), r"aggregation: 'mode'; expected one of mean, .*top3"),
    (lambda f: f["columns"]["A"].update(metric="aucc"), r"columns\.A\.metric: 'aucc'.*did you mean 'auc'"),
    (
        lambda f: f["columns"]["A"].update(unit="points"),
        r"columns\.A\.unit: 'points'; expected one of percent",
    ),
    (lambda f: f["columns"]["A"].update(datset="x"), r"columns\.A: no key 'datset'.*did you mean 'dataset'"),
    (
        lambda f: f["columns"]["AVG"].update(mean=["A", "D"]),
        r"columns\.AVG\.mean: 'D'; expected one of A, B, C",
    ),
    (
        lambda f: f["columns"]["AVG"].update(dataset="dfdc"),
        r"columns\.AVG: expected either `dataset:` or `mean:`",
    ),
    (lambda f: f["rows"][0]["published"].update(D=1.0), r"rows\[1\] ours\.published: 'D'; expected one of A"),
    (
        lambda f: f["rows"][0]["published"].update(A=104.0),
        r"rows\[1\] ours\.published\.A: 104.0; .*\[0, 100\]",
    ),
    (lambda f: f["rows"][0]["published"].update(A="x"), r"rows\[1\] ours\.published\.A: 'x'"),
    (lambda f: f["rows"][1].pop("why"), r"rows\[2\] theirs: expected either `recipe:`, or"),
    (lambda f: f["rows"][0].update(why="no"), r"rows\[1\] ours: expected either `recipe:`, or"),
    (lambda f: f["rows"][2].update(name="ours"), r"rows: 'ours' twice"),
    (
        lambda f: f["train"].update(Other={"dataset": "dfdc"}),
        r"rows\[1\] ours\.train: None; expected one of FF\+\+",
    ),
    (lambda f: f.update(own="our"), r"own: 'our'; expected one of .*did you mean 'ours'"),
    (lambda f: f.update(not_said={"levels": "x"}), r"not_said: 'levels'.*did you mean 'level'"),
    (lambda f: f["paper"].update(figure=2), r"paper: expected either `table:` or `figure:`"),
    (lambda f: f.pop("rows"), r"the file: `rows:` is missing"),
    (lambda f: f.update(tests=1), r"the file: no key 'tests'"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_a_wrong_file_names_file_key_and_mend(
    toy: Callable[..., Protocol], change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    with pytest.raises(InputError, match=r"^toy\.yaml: " + message) as error:
        toy(change)
    assert error.value.reason == "protocol"


def test_a_data_set_of_ones_own_is_described(toy: Callable[..., Protocol]) -> None:
    def change(found: dict[str, Any]) -> None:
        found["sets"] = {"my phone": "forty clips of the office"}
        found["columns"]["A"]["dataset"] = "my phone"

    assert toy(change).columns["A"].dataset == "my phone"


def test_no_such_protocol_and_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no protocol 'realid_tabel1', did you mean 'realid_table1'"):
        read_protocol("realid_tabel1")
    with pytest.raises(InputError, match=r"no readable protocol"):
        read_protocol(tmp_path / "gone.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"bad\.yaml: not YAML"):
        read_protocol(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(InputError, match=r"list\.yaml: the file: .*expected keys such as title"):
        read_protocol(tmp_path / "list.yaml")


# What is measured beside it


def faces(
    dataset: str, scores: dict[str, list[float]], label: int, method: str, split: str | None = "test"
) -> list[Any]:
    return [
        (
            FaceRecord(
                f"{dataset}/{label}{v}{i}.png", label, dataset, f"{method}/{v}", i, 0.0, method, split
            ),
            s,
        )
        for v, values in scores.items()
        for i, s in enumerate(values)
    ]


def table(rows: list[Any]) -> ScoreTable:
    return ScoreTable.from_records([r for r, _ in rows], [s for _, s in rows])


def cells(protocol: Protocol, scores: Any, **more: Any) -> dict[str, Cell]:
    return {cell.column: cell for cell in compare(protocol, scores, **more) if cell.own}


UADFV = [
    # Three frames a video of which the protocol takes two, the first (.5 * 1.5 = 0) and the last (2): the
    # means are 0, 2, 4 for reals and 3, 5, 7 for fakes; the frame in the middle would turn all around.
    *faces("UADFV", {"a": [-1, 90, 1], "b": [1, 90, 3], "c": [3, 90, 5]}, 0, "real"),
    *faces("UADFV", {"d": [2, -90, 4], "e": [4, -90, 6], "f": [6, -90, 8]}, 1, "fakeapp"),
]


def test_numbers_by_hand_at_both_levels(toy: Callable[..., Protocol]) -> None:
    found = cells(toy(), table(UADFV), least=3)["A"]
    # Pairs of videos: 3 beats 0, 2; 5 and 7 beat all: 8 of 9.
    assert found.measured == pytest.approx(800 / 9)
    assert (found.n_real, found.n_fake) == (3, 3)
    assert found.difference == pytest.approx(800 / 9 - 90)
    # Pairs of frames, reals -1 1 1 3 3 5 and fakes 2 4 4 6 6 8: 3 + 5 + 5 + 6 + 6 + 6 = 31 of 36.
    assert found.other == pytest.approx(3100 / 36)


def test_the_level_the_frames_and_the_aggregation_change_the_number(toy: Callable[..., Protocol]) -> None:
    frame = cells(toy(lambda f: f.update(level="frame")), table(UADFV), least=3)["A"]
    assert frame.measured == pytest.approx(3100 / 36)
    assert (frame.n_real, frame.n_fake) == (6, 6)
    # All frames: video means are 30, 31.3, 32.7 for reals, -28, -26.7, -25.3 for fakes.
    assert cells(toy(lambda f: f.update(frames="all")), table(UADFV), least=3)["A"].measured == 0
    # Highest frame: reals 1, 3, 5 and fakes 4, 6, 8: again 8 of 9; a single frame is the middle one: 0.
    highest = cells(toy(lambda f: f.update(aggregation="max")), table(UADFV), least=3)["A"]
    assert highest.measured == pytest.approx(800 / 9)
    assert cells(toy(lambda f: f.update(frames=1)), table(UADFV), least=3)["A"].measured == 0


def test_a_column_counts_its_own_methods_and_reals(toy: Callable[..., Protocol]) -> None:
    six = {str(i): [float(i)] for i in range(6)}
    rows = [
        *faces("ff++", six, 0, "real"),
        *faces("FaceForensics++", {k: [v[0] + 2.5] for k, v in six.items()}, 1, "Deepfakes"),
        *faces("ff++", {k: [-9.0] for k in six}, 1, "face2face"),  # not of this column
        *faces("DF-1.0", {k: [9.0] for k in six}, 1, "end_to_end"),
    ]
    found = cells(toy(), table(rows))
    # Deepfakes at 2.5 .. 7.5 against reals 0 .. 5: 3 + 4 + 5 + 6 + 6 + 6 = 30 of 36.
    assert found["B"].measured == pytest.approx(3000 / 36)
    assert found["B"].n_fake == 6
    assert "6 of 12" not in found["B"].notes  # 12 videos: the list is whole
    assert not any("of the paper's list" in note for note in found["B"].notes)
    assert found["C"].measured == 100
    assert "reals of ff++" in found["C"].notes
    assert found["A"].why == "no fakes of uadfv: the scores hold DF-1.0, FaceForensics++, ff++"
    assert found["AVG"].why == "the mean of columns of which there is no number: A"


def test_own_reals_come_before_borrowed_ones(toy: Callable[..., Protocol]) -> None:
    six = {str(i): [float(i)] for i in range(6)}
    rows = [*faces("ff++", six, 0, "real"), *faces("DF-1.0", {k: [9.0] for k in six}, 0, "real")]
    rows += faces("DF-1.0", {k: [8.0] for k in six}, 1, "end_to_end")
    found = cells(toy(), table(rows))["C"]
    assert found.measured == 0
    assert not any(note.startswith("reals of") for note in found.notes)


def test_means_misprints_and_short_lists_are_said(toy: Callable[..., Protocol]) -> None:
    six = {str(i): [float(i), float(i)] for i in range(6)}
    rows = [*UADFV, *faces("uadfv", six, 0, "real"), *faces("uadfv", six, 1, "fakeapp")]
    rows += [*faces("ff++", six, 0, "real"), *faces("ff++", {"x": [9.0], **six}, 1, "NT")]
    found = cells(toy(), table(rows))
    assert found["AVG"].measured == pytest.approx((found["A"].measured + found["B"].measured) / 2)  # type: ignore[operator]
    assert found["AVG"].difference == pytest.approx(found["AVG"].measured - 86.0)  # type: ignore[operator]
    assert found["AVG"].notes == ("printed number: is 85",)
    assert "13 of 12 videos of the paper's list" in found["B"].notes
    assert "1 of 13 videos have fewer than 2 scored faces, the least 1" in found["B"].notes


def test_what_cannot_be_measured_says_why(toy: Callable[..., Protocol]) -> None:
    few = faces("uadfv", {"a": [0.0], "b": [0.0]}, 0, "real") + faces("uadfv", {"c": [1.0]}, 1, "x")
    assert (
        cells(toy(), table(few))["A"].why == "2 real and 1 fake videos; fewer than 5 of a class say nothing"
    )
    assert cells(toy(), table(few), least=1)["A"].measured == 100
    assert cells(toy(), table(few[2:]))["A"].why == "no reals of uadfv"
    unread = ScoreTable.from_rows([(r, None, "unreadable", "empty file") for r, _ in few])
    assert cells(toy(), unread)["A"].why == "none of 3 rows was scored: empty file"
    trained = [(replace(r, split="train"), s) for r, s in few]
    assert cells(toy(), table(trained))["A"].why == (
        "no fakes of uadfv: the scores hold no test rows (3 rows of other splits than test are left out)"
    )
    assert cells(toy(), table(trained), split=None, least=1)["A"].measured == 100
    elsewhere = toy(lambda f: f["columns"]["A"].update(metric="primary_area"))
    assert "unseen prepare primary-regions" in cells(elsewhere, table(few))["A"].why


def test_rows_that_could_not_be_scored_are_counted(toy: Callable[..., Protocol]) -> None:
    rows = [(r, None if r.frame == 0 and "d" in r.video else s, None, None) for r, s in UADFV]
    found = cells(toy(), ScoreTable.from_rows(rows), least=3)["A"]
    assert found.unscored == 1
    assert found.measured == pytest.approx(100 * auc([0, 2, 4, 4, 5, 7], [0, 0, 0, 1, 1, 1]))


def test_other_rows_say_how_to_get_them_or_why_not(toy: Callable[..., Protocol]) -> None:
    found = {(c.row, c.column): c for c in compare(toy(), table(UADFV), least=3)}
    assert len(found) == 3 * 4
    assert found["theirs", "A"].why == "somebody else's detector"
    assert found["theirs", "A"].published == 70
    assert found["plain", "C"].why == "no scores given; train recipes/tiny.yaml"
    both = {"ours": table(UADFV), "plain": table(UADFV[:-3])}
    found = {(c.row, c.column): c for c in compare(toy(), both, least=2)}
    assert found["ours", "A"].measured != found["plain", "A"].measured
    assert found["plain", "A"].difference is None  # nothing is printed there
    with pytest.raises(InputError, match=r"toy: no row 'our', did you mean 'ours'"):
        compare(toy(), table(UADFV), row="our")


def test_a_corrupted_column_is_the_mean_of_its_levels(toy: Callable[..., Protocol]) -> None:
    protocol = toy(lambda f: f["columns"]["A"].update(corruption="blur"))
    plain = table(UADFV)
    assert "no scores under blur are given" in cells(protocol, plain, least=3)["A"].why
    mild = replace(plain, card={"corruption": "blur", "severity": 1})
    hard = replace(table([(r, -s) for r, s in UADFV]), card={"corruption": "blur", "severity": 5})
    found = cells(protocol, {"ours": [plain, mild, hard]}, least=3)["A"]
    assert found.measured == pytest.approx((800 / 9 + 100 / 9) / 2)
    assert "mean of 2 levels" in found.notes


# The card, and the command


def test_the_card_says_what_a_number_depends_on(toy: Callable[..., Protocol], tmp_path: Path) -> None:
    records = [r for r, _ in UADFV]
    with ScoreWriter(tmp_path / "s.parquet", card={"weights": "ab" * 32, "seed": 3}) as writer:
        for record, score in UADFV:
            writer.add(record, score)
    scores = ScoreTable.read(tmp_path / "s.parquet")
    assert rows_hash(scores) == fingerprint(records)
    assert rows_hash(scores) != fingerprint(records[1:])
    card = protocol_card(toy(lambda f: f.update(not_said={"frames": "a guess"})), scores)
    assert card["rows"] == fingerprint(records)
    assert card["seed"] == "3"
    assert card["weights"] == "ab" * 8
    assert card["crop"] == "unknown"
    assert "our reading" in card["frames"]
    assert "our reading" not in card["level"]
    other = protocol_card(toy(lambda f: f.update(frames=5)), scores)
    assert other["protocol"] != card["protocol"]  # the file's digest is part of it


def test_as_text_and_as_json(toy: Callable[..., Protocol]) -> None:
    protocol = toy()
    found = compare(protocol, table(UADFV), least=3)
    text = to_markdown(protocol, found, protocol_card(protocol, table(UADFV)))
    assert "| A AUC | 88.89 | 90.00 | -1.11 | 86.11 | 3 | 3 |  |" in text
    assert "| theirs | 70.00 | - | - | - | somebody else's detector |" in text
    assert "aggregation: mean" in text
    data = json.loads(to_json(protocol, found, {}))
    assert data["cells"][0]["difference"] == pytest.approx(800 / 9 - 90)
    assert data["cells"][1]["measured"] is None


def test_command_measures_a_table_of_scores(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["dataset,video,frame,label,probability"]
    rows += [
        f"CDFv2,{label}_{v},{f},{label},{0.2 + 0.5 * label}"
        for label in (0, 1)
        for v in range(6)
        for f in (0, 1)
    ]
    (tmp_path / "s.csv").write_text("\n".join(rows))
    assert main(["evaluate", "--scores", str(tmp_path / "s.csv"), "--protocol", "did_table1"]) == 0
    said = capsys.readouterr().out
    assert "| Celeb-DF AUC | 1.000 | 0.779 | +0.221 |" in said
    assert "| Celeb-DF EER | 0.000 | 0.286 | -0.286 |" in said
    assert "not measured: no fakes of ff++ by deepfakes" in said
    assert (
        main(["evaluate", "--scores", str(tmp_path / "s.csv"), "--protocol", "did_table1", "--row", "x"]) == 2
    )
    assert "no row 'x'" in capsys.readouterr().err
    assert main(["evaluate", "--protocol", "did_table1"]) == 2
    assert main(["evaluate", "--list-protocols"]) == 0
    assert "realid_table1" in capsys.readouterr().out


def test_command_scores_what_the_protocol_counts(
    faces_file: Path, tiny: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from unseen.checkpoint import save_run
    from unseen.recipe import read_recipe

    recipe = read_recipe({**tiny(), "seed": 7})
    run = save_run(tmp_path / "tiny", recipe.detector(pretrained=False), recipe)
    records = [
        replace(r, dataset="UADFV", split="test", label=Label(i % 2), method="fakeapp" if i % 2 else "real")
        for i, r in enumerate(Manifest.read(faces_file))
    ]
    records[0] = replace(records[0], dataset="another")  # no column of the table counts it
    Manifest.from_records(records, tmp_path).write(tmp_path / "faces.parquet")
    words = [
        "evaluate",
        str(run),
        "--manifest",
        str(tmp_path / "faces.parquet"),
        "--workers",
        "0",
        "--device",
        "cpu",
    ]
    out = tmp_path / "scores.parquet"
    assert main([*words, "--protocol", "realid_table1", "--row", "RealID", "--out", str(out), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    cell = next(c for c in found["cells"] if (c["row"], c["column"]) == ("RealID", "UADFV"))
    assert (cell["n_real"], cell["n_fake"]) == (6, 6)
    assert cell["difference"] == pytest.approx(cell["measured"] - 98.34)
    assert found["card"]["seed"] == "7"
    assert found["card"]["crop"].startswith("AlignFace(size=64")
    assert found["card"]["rows"] == fingerprint(records[1:])
    assert len(ScoreTable.read(out)) == 12
    assert main([*words, "--protocol", "caddm_table3"]) == 2
    assert "the data sets there are UADFV, another" in capsys.readouterr().err


def test_command_knows_the_row_of_a_run_that_is_called_like_its_recipe() -> None:
    from unseen.cli.protocol import _row_of

    table = read_protocol("realid_table1")
    assert _row_of(table, "realid_effb4") == "RealID"
    assert _row_of(table, "my_run") is None
    assert (
        _row_of(read_protocol("caddm_table5_methods"), "caddm_xception") is None
    )  # four rows, four trainings
