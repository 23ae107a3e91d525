"""Score tables: grouping, writing in pieces, other people's files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from unseen.evaluate.metrics import auc
from unseen.evaluate.scores import ScoreTable, ScoreWriter
from unseen.evaluate.summary import summary, to_json, to_markdown
from unseen.types import FaceRecord, InputError

METHODS = ("deepfakes", "face2face", "faceswap", "neuraltextures")


def face(
    video: str, frame: int, label: int | None, method: str | None = None, dataset: str = "ffpp"
) -> FaceRecord:
    return FaceRecord(
        f"{dataset}/{video}/{frame:03d}.png",
        label,
        dataset,
        video,
        frame,
        frame / 10,
        method or ("real" if label == 0 else None),
    )


def same_folder_names() -> tuple[list[FaceRecord], list[float], float]:
    """Four forgeries of each pair share a folder name, as in FaceForensics++; two of the four are missed."""
    rng = np.random.default_rng(0)
    records, scores, per_video = [], [], []
    for pair in range(35):
        for i, method in enumerate(METHODS):
            level = (3.0, 3.0, -1.0, -1.0)[i] + rng.normal(0, 0.3)
            records += [face(f"{method}/{pair:03d}", frame, 1, method) for frame in range(4)]
            scores += (level + rng.normal(0, 0.1, 4)).tolist()
            per_video.append((level, 1))
        level = rng.normal(0, 0.3)
        records += [face(f"real/{pair:03d}", frame, 0) for frame in range(4)]
        scores += (level + rng.normal(0, 0.1, 4)).tolist()
        per_video.append((level, 0))
    level, label = np.array(per_video).T
    return records, scores, auc(level, label)


def test_four_forgeries_of_one_folder_name_stay_four_videos():
    records, scores, expected = same_folder_names()
    table = ScoreTable.from_records(records, scores)
    found = table.video_metrics()
    assert (found["n_real"], found["n_fake"]) == (35, 140)
    assert found["auc"] == pytest.approx(expected, abs=0.02)
    # What grouping by the folder's name would give: averaging the seen with the missed makes all look seen.
    collapsed: dict[tuple[str, int], list[float]] = {}
    for record, score in zip(records, scores, strict=True):
        collapsed.setdefault((record.video.split("/")[-1], int(record.label)), []).append(score)
    wrong = auc([np.mean(s) for s in collapsed.values()], [label for _, label in collapsed])
    assert wrong > found["auc"] + 0.3


def test_equal_names_in_two_data_sets_or_of_two_methods_stay_apart():
    records = [face("000_003", 0, 1, m) for m in METHODS] + [face("000_003", 0, 1, "deepfakes", "other")]
    records += [face("000", 0, 0)]
    table = ScoreTable.from_records(
        [
            FaceRecord(f"{i}.png", r.label, r.dataset, r.video, 0, 0.0, r.method)
            for i, r in enumerate(records)
        ],
        [1.0, 2.0, 3.0, 4.0, 5.0, 0.0],
    )
    assert table.videos()["score"].to_list() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_an_unreadable_frame_is_counted_and_relabels_nothing():
    records = [face(f"f{i:02d}", j, 1, "swap") for i in range(10) for j in range(8)]
    records += [face(f"r{i:02d}", j, 0) for i in range(10) for j in range(8)]
    scores: list[float | None] = [2.0] * 80 + [-2.0] * 80
    scores[3] = scores[17] = scores[100] = None
    scores[8:16] = [None] * 8  # a whole video
    table = ScoreTable.from_records(records, scores)
    assert table.counts() == {"rows": 160, "scored": 149, "unreadable": 11, "unlabelled": 0}
    found = table.video_metrics()
    assert found["auc"] == 1.0
    assert (found["n_real"], found["n_fake"]) == (10, 9)
    assert table.frame_metrics()["n_fake"] == 70


def test_both_labels_in_one_video_is_an_error_that_names_it():
    table = ScoreTable.from_records(
        [face("a", 0, 0), face("a", 1, 1, "swap"), face("b", 0, 0)], [0.0, 1.0, 2.0]
    )
    assert table.frame_metrics()["n_fake"] == 1
    with pytest.raises(InputError, match=r"row 1: video 'a' of data set 'ffpp'") as error:
        table.video_metrics()
    assert error.value.reason == "mixed_video"


def test_aggregates_by_hand():
    rows = [face("a", i, 1, "swap") for i in range(3)]
    table = ScoreTable.from_records(rows, [-1.0, 0.0, 4.0])
    chance = np.mean(1 / (1 + np.exp([1.0, 0.0, -4.0])))
    expected = {"mean": 1.0, "median": 0.0, "max": 4.0, "mean_probability": math.log(chance / (1 - chance))}
    for way, value in expected.items():
        assert table.videos(way)["score"].item() == pytest.approx(value)  # type: ignore[arg-type]
    assert table.videos()["frames"].item() == 3
    with pytest.raises(InputError, match="mean_probability"):
        table.videos("mode")  # type: ignore[arg-type]


def test_each_method_is_held_against_all_reals_and_rows_without_label_count_nowhere():
    records, scores, _ = same_folder_names()
    records.append(face("who", 0, None))
    table = ScoreTable.from_records(records, [*scores, 9.0])
    methods = table.per_method("video")
    assert set(methods) == set(METHODS)
    assert {(m["n_real"], m["n_fake"]) for m in methods.values()} == {(35, 35)}
    assert methods["deepfakes"]["auc"] == 1.0
    assert methods["faceswap"]["auc"] < 0.1
    assert table.counts()["unlabelled"] == 1
    assert table.where(method=["real", "deepfakes"]).video_metrics()["auc"] == 1.0
    assert table.per_method("frame")["deepfakes"]["n_fake"] == 140


def test_rows_without_a_video_stand_alone():
    records = [FaceRecord(f"{i}.png", label=i % 2) for i in range(6)]
    table = ScoreTable.from_records(records, [0.0, 1, 0, 1, 0, 1])
    assert len(table.videos()) == 6


def test_writing_130_000_rows_in_pieces(tmp_path):
    path = tmp_path / "scores.parquet"
    with ScoreWriter(path, card={"model": "m", "rows_hash": "abc"}, piece=16_384) as writer:
        for i in range(130_000):
            record = FaceRecord(f"{i}.png", i // 32 % 2, "d", f"v{i // 32}", i % 32)
            writer.add(record, float(i % 7) if i % 1000 else None, reason=None if i % 1000 else "empty file")
            assert len(writer._held) < 16_384
            if i == 50_000:
                assert writer.part.exists()
                assert not path.exists()
    file = pq.ParquetFile(path)
    sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
    assert sizes == [16_384] * 7 + [130_000 - 7 * 16_384]
    assert not writer.part.exists()
    table = ScoreTable.read(path)
    assert table.card["rows"] == 130_000
    assert table.card["scored"] == 129_870
    assert table.card["model"] == "m"
    assert table.card["level"] == "frame"
    assert len(table.videos()) == 4063


def test_a_writer_that_fails_leaves_no_table(tmp_path):
    path = tmp_path / "deep" / "scores.parquet"
    with pytest.raises(KeyboardInterrupt), ScoreWriter(path, piece=2) as writer:
        for i in range(5):
            writer.add(FaceRecord(f"{i}.png"), 0.0)
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []


def test_scores_that_are_not_finite_are_no_scores(tmp_path):
    path = tmp_path / "scores.parquet"
    with ScoreWriter(path) as writer:
        writer.add(face("a", 0, 0), float("nan"))
        writer.add(face("a", 1, 0), float("inf"))
        writer.add(face("a", 2, 0), None, status="no_face", reason="nobody there")
        writer.add(face("a", 3, 0), -1.0)
    table = ScoreTable.read(path)
    assert table.counts() == {
        "rows": 4,
        "scored": 1,
        "unreadable": 0,
        "unlabelled": 0,
        "no_face": 1,
        "not_finite": 2,
    }
    assert table.videos()["score"].item() == -1.0


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        with ScoreWriter(tmp_path / name, card={"x": 1, "a": 2}) as writer:
            writer.add(face("v", 0, 1, "swap"), 0.5)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def csv(folder: Path, text: str, name: str = "scores.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_foreign_names_probabilities_and_words_are_read(tmp_path):
    path = csv(tmp_path, "Video_ID;P_Fake;is_fake\na;0.9;fake\nb;0.2;REAL\nc;;1\nd;0;0\n")
    table = ScoreTable.read(path)
    rows = table.rows.collect()
    assert rows["label"].to_list() == [1, 0, 1, 0]
    assert rows["score"].to_list()[:2] == pytest.approx([math.log(9), -math.log(4)])
    assert rows["score"][2] is None
    assert math.isfinite(rows["score"][3])
    assert table.counts()["unreadable"] == 1
    assert table.video_metrics()["auc"] == 1.0


def test_columns_can_be_named_and_parquet_of_others_is_read(tmp_path):
    frame = pl.DataFrame({"clip": ["a", "b"], "s1": [1.0, -1.0], "s2": [-1.0, 1.0], "label": [True, False]})
    frame.write_parquet(tmp_path / "x.parquet")
    table = ScoreTable.read(tmp_path / "x.parquet", columns={"score": "s2"})
    assert table.video_metrics()["auc"] == 0.0
    assert table.card == {}
    with pytest.raises(InputError, match="no column 's3'"):
        ScoreTable.read(tmp_path / "x.parquet", columns={"score": "s3"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("video,label,score\na,0,1\nb,2,1\n", r"scores\.csv row 2: label '2'; expected 0 or real"),
        ("video,label,score\na,0,1\nb,1,high\n", r"row 2: score 'high'; expected a number"),
        ("video,label,score\na,0,nan\n", r"row 1: score nan; leave it empty"),
        ("video,label,score\na,0,inf\n", r"row 1: score inf"),
        ("video,label,probability\na,0,0.5\nb,1,1.5\n", r"row 2: probability 1\.5"),
        ("video,score\na,1\n", "no column `label`"),
        ("video,label\na,1\n", "no column `score`"),
        ("video,label,y_true,target,score\na,1,1,1,1\n", None),
        ("video,y_true,target,score\na,1,1,1\n", "y_true, target could each be `label`"),
        ("video,frame,label,score\na,1,1,1\na,2,1,1\na,1,1,3\n", r"row 3: the same face as row 1"),
        ("path,label,score\na.png,1,1\nb.png,0,1\nb.png,0,1\n", r"row 3: the same face as row 2"),
        ("video,label,score,method\na,1,1,real\n", r"row 1: label 1 \(fake\) but method 'real'"),
        ("video,label,score,status\na,1,1,unreadable\n", r"row 1: status 'unreadable' with score 1\.0"),
        ("", "empty"),
    ],
)
def test_bad_files_name_file_row_and_mend(tmp_path, text, said):
    path = csv(tmp_path, text)
    if said is None:
        assert len(ScoreTable.read(path)) == 1
        return
    with pytest.raises(InputError, match=said) as error:
        ScoreTable.read(path)
    assert "scores.csv" in str(error.value)


def test_files_that_are_no_tables(tmp_path):
    broken = tmp_path / "scores.parquet"
    broken.write_bytes(b"PAR1 and then nothing")
    for path, reason in [
        (broken, "unreadable"),
        (tmp_path / "none.csv", "missing"),
        (tmp_path, "missing"),
        (csv(tmp_path, "x", "scores.txt"), "format"),
    ]:
        with pytest.raises(InputError) as error:
            ScoreTable.read(path)
        assert error.value.reason == reason


def test_suspicious_scores_and_missing_videos_warn(tmp_path):
    table = ScoreTable.read(csv(tmp_path, "label,score\n0,0.1\n1,0.9\n"))
    assert len(table.warnings) == 2
    assert "probabilities" in " ".join(table.warnings)
    assert "Warning: " in to_markdown(summary(table))


def test_summary_names_both_levels_and_markdown_puts_the_hardest_method_first():
    records, scores, _ = same_folder_names()
    table = ScoreTable.from_records(records, scores)
    found = summary(table)
    assert found["frame"]["n_fake"] == 560
    assert found["video"]["n_fake"] == 140
    assert found["video"]["auc"] == table.video_metrics()["auc"]
    assert found["video"]["per_dataset"]["ffpp"]["n_real"] == 35
    text = to_markdown(found)
    assert text.index("| video | method faceswap") < text.index("| video | method deepfakes")
    assert "| frame | all |" in text
    assert "| video | all |" in text
    assert "700 rows, 700 scored" in text


def test_a_table_of_one_class_still_gives_json_and_markdown():
    table = ScoreTable.from_records([face("a", 0, 0)], [1.0])
    found = summary(table)
    assert math.isnan(found["video"]["auc"])
    assert '"auc": null' in to_json(found)
    assert "NaN" not in to_json(found)
    assert "| video | all | - |" in to_markdown(found)
    empty = summary(ScoreTable.from_records([], []))
    assert empty["counts"]["rows"] == 0


def test_only_strangers_tables_are_suspected_of_probabilities(tmp_path: Path) -> None:
    with ScoreWriter(tmp_path / "ours.parquet") as writer:
        for i in range(4):
            writer.add(FaceRecord(f"{i}.png", i % 2, "d", f"v{i}"), 0.1 + 0.2 * i)
    assert not ScoreTable.read(tmp_path / "ours.parquet").warnings
    (tmp_path / "theirs.csv").write_text("label,score,video\n0,0.1,a\n1,0.7,b\n")
    (warning,) = ScoreTable.read(tmp_path / "theirs.csv").warnings
    assert "lie in [0, 1]" in warning
