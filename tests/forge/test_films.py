from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from unseen.forge.films import forge_clips
from unseen.media.reader import open_media
from unseen.prepare.inputs import list_inputs
from unseen.prepare.run import prepare
from unseen.prepare.work import CropRule
from unseen.types import InputError

RULE = CropRule(frames=2)


@pytest.fixture(scope="module")
def manifest(clip_file: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two 'people' of four frames each."""
    root = tmp_path_factory.mktemp("films")
    rows = [f"{clip_file(f'{who}.mp4', frames=4)},real,{who},train" for who in ("ann", "bob")]
    (root / "list.csv").write_text("path,label,identity,split\n" + "\n".join(rows) + "\n")
    return prepare(list_inputs([root / "list.csv"]), root / "crops", rule=RULE, workers=1).manifest


def test_clips_are_paired_listed_and_not_made_twice(manifest: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = forge_clips(manifest, tmp_path, families=["sbi"], workers=1, report=lambda *at: seen.append(at))
    assert made.kept == {"real": 2, "sbi": 2}
    assert made.dropped == {}
    rows = list(csv.DictReader(made.list.open()))
    assert {row["identity"] for row in rows} == {"ann", "bob"}
    for row in rows:
        assert sum(1 for _ in open_media(tmp_path / row["path"]).frames(10)) == 4
        assert (row["label"] == "1") == bool(row["source"]) == (row["method"] == "sbi")
    assert len(list_inputs([made.list])) == 4  # what `unseen prepare` takes next, sources and all
    seen.clear()
    assert forge_clips(
        manifest, tmp_path, families=["sbi"], workers=1, report=lambda *at: seen.append(at)
    ).kept
    assert seen == [(4, 4)]


def test_pictures_are_no_clips(portrait_file: Path, tmp_path: Path) -> None:
    rows = f"path,label,identity\n{portrait_file},real,ann\n"
    (tmp_path / "list.csv").write_text(rows)
    made = prepare(list_inputs([tmp_path / "list.csv"]), tmp_path / "crops", rule=RULE, workers=1)
    with pytest.raises(InputError, match="no video among its rows") as caught:
        forge_clips(made.manifest, tmp_path / "out", families=["sbi"])
    assert caught.value.reason == "no_clips"
    with pytest.raises(InputError, match="crf 99; expected 0"):
        forge_clips(made.manifest, tmp_path / "out", families=["sbi"], crf=99)
