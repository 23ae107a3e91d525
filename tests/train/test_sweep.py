from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unseen.cli import main
from unseen.data.manifest import Manifest
from unseen.evaluate.scores import ScoreTable
from unseen.recipe import read_recipe
from unseen.train.sweep import measure_trial, sweep, to_markdown, variants
from unseen.types import FaceRecord, InputError, Label

Tiny = Callable[..., dict]


def small(tiny: Tiny, manifest: Path, **more: object) -> dict:
    settings = tiny(**more)
    settings["data"] |= {"manifest": str(manifest), "workers": 0}
    settings["trainer"] = {"max_steps": 1, "accelerator": "cpu", "graph": False}
    return settings


@pytest.fixture(scope="module")
def judged(faces_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of split test: reals of two data sets, fakes of two methods in one of them."""
    records = []
    for i, record in enumerate(Manifest.read(faces_file).records()):
        fake = i % 3
        more = {"label": Label.FAKE, "method": f"m{fake}", "source": record.path} if fake else {}
        elsewhere = {"dataset": "elsewhere"} if not fake and i % 2 else {}
        records.append(replace(record, split="test", video=f"v{i}", **more, **elsewhere))
    folder = tmp_path_factory.mktemp("judged")
    Manifest.from_records(records, folder).write(folder / "faces.parquet")
    return folder / "faces.parquet"


def test_every_combination_is_a_variant(tiny: Tiny) -> None:
    over = {"BinaryHead.dropout": [0.0, 0.5], "optimizer.init_args.lr": [1e-3]}
    made = variants(read_recipe(tiny()), over, name="tiny")
    assert list(made) == ["tiny dropout=0.0 lr=0.001", "tiny dropout=0.5 lr=0.001"]
    assert made["tiny dropout=0.5 lr=0.001"].expanded()["detector"]["head"]["init_args"]["dropout"] == 0.5


@pytest.mark.parametrize(
    ("key", "match"),
    [
        ("RealMemori.margin", "RealMemori is used 0 times"),
        ("schedule.warm", r"no 'warm'; expected one of decay, warmup"),
        ("data.transforms.7", "no '7'; expected one of 0, 1"),
        ("BinaryHead.dropuot", "no 'dropuot'; expected one of dropout"),
    ],
)
def test_a_key_that_is_not_there_is_named(tiny: Tiny, key: str, match: str) -> None:
    with pytest.raises(InputError, match=match):
        variants(read_recipe(tiny()), {key: [1]}, name="tiny")


def test_a_value_of_another_kind_is_refused(tiny: Tiny) -> None:
    with pytest.raises(InputError, match="dropout"):
        variants(read_recipe(tiny()), {"BinaryHead.dropout": ["much"]}, name="tiny")


@pytest.mark.timeout(300)
def test_a_sweep_trains_scores_and_goes_on(
    tiny: Tiny, faces_file: Path, judged: Path, tmp_path: Path
) -> None:
    recipes = variants(
        read_recipe(small(tiny, faces_file)), {"BinaryHead.label_smoothing": [0.0, 0.1]}, name="t"
    )
    first = sweep(recipes, tmp_path, seeds=(0, 1), measured=[(judged, "test")])
    assert first["variant"].unique().sort().to_list() == list(recipes)
    names = set(zip(first["group"], first["name"], first["metric"], strict=True))
    assert {("method", "m1", "auc"), ("method", "m2", "eer"), ("mean", "all methods", "auc")} <= names
    assert {("reals", "made", "false_alarms"), ("reals", "elsewhere", "false_alarms")} <= names
    text = (tmp_path / "sweep.md").read_text()
    assert text == to_markdown(first) and "over 2 seeds" in text and text.count("±") >= 10
    run = tmp_path / "t_label_smoothing=0.0" / "seed1"
    before = (run / "weights.safetensors").stat().st_mtime_ns
    again = sweep(recipes, tmp_path, seeds=(0, 1), measured=[(judged, "test")])
    assert again.equals(first) and (run / "weights.safetensors").stat().st_mtime_ns == before
    # Another recipe under the same name is not passed off as the one that was asked for.
    other = {name: recipe.with_values({"optimizer.init_args.lr": 0.5}) for name, recipe in recipes.items()}
    with pytest.raises(InputError, match=r"another recipe \(optimizer\.init_args\.lr\)"):
        sweep(other, tmp_path, seeds=(0,), measured=[(judged, "test")])


def test_numbers_by_hand() -> None:
    def rows(kind: Label, scores: list[float], **more: str) -> list[tuple]:
        return [
            (FaceRecord(f"{more}{i}.png", kind, video=f"{more}{i}", **more), score, None, None)  # type: ignore[arg-type]
            for i, score in enumerate(scores)
        ]

    table = ScoreTable.from_rows(
        [
            *rows(Label.REAL, [-1.0, 0.5], split="validation", dataset="a"),
            *rows(Label.REAL, [-2.0, 0.6], split="measured", dataset="a"),
            *rows(Label.REAL, [0.4, 0.7, 0.8, 3.0], split="measured", dataset="b"),
            *rows(Label.FAKE, [0.0, 1.0], split="measured", dataset="a", method="swap"),
        ]
    )
    found = {
        (r["level"], r["group"], r["name"], r["metric"]): r["value"] for r in measure_trial(table, "x", 0)
    }
    # swap against the reals of data set a only: pairs (0, -2) (1, -2) (1, .6) are right, (0, .6) is wrong
    assert found["frame", "method", "swap", "auc"] == 0.75
    # threshold: just above the highest of two validation reals, .5
    assert found["frame", "reals", "a", "false_alarms"] == 0.5
    assert found["frame", "reals", "b", "false_alarms"] == 0.75
    assert found["frame", "mean", "caught", "caught"] == 0.5
    assert np.isclose(found["video", "mean", "all methods", "auc"], 0.75)


def test_methods_that_stay_unseen(tiny: Tiny, judged: Path, tmp_path: Path) -> None:
    from unseen.recipe.settings import DataSettings
    from unseen.train.rows import _known

    rows = Manifest.read(judged).records()
    kept = _known(rows, DataSettings(manifest="x.parquet", methods=["m2"]))
    assert {r.method for r in kept if r.label == Label.FAKE} == {"m2"}
    assert sum(r.label == Label.REAL for r in kept) == sum(r.label == Label.REAL for r in rows)
    with pytest.raises(InputError, match=r"no fakes of method m9; there are: m1, m2"):
        _known(rows, DataSettings(manifest="x.parquet", methods=["m9"]))


def test_the_command(
    tiny: Tiny, faces_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import yaml

    recipe = tmp_path / "one.yaml"
    recipe.write_text(yaml.safe_dump(small(tiny, faces_file)))
    words = ["sweep", str(recipe), "--out", str(tmp_path / "out"), "--seeds", "3"]
    assert main([*words, "--over", "BinaryHead.dropout"]) != 0
    assert "expected KEY=V1,V2" in capsys.readouterr().err
    assert main([*words, "--trainer.max_steps", "1", "--measure", f"{faces_file}:test"]) == 0
    assert "over 1 seed." in capsys.readouterr().out
    assert (tmp_path / "out" / "one" / "seed3" / "weights.safetensors").is_file()


def test_without_faces_to_measure_the_table_has_columns_and_no_rows(tmp_path: Path) -> None:
    table = sweep({}, tmp_path)
    assert table.is_empty() and {"variant", "level", "metric", "value"} <= set(table.columns)
    assert to_markdown(table).startswith("| variant |")
