from __future__ import annotations

from pathlib import Path

import pytest

from unseen.prepare.inputs import list_inputs
from unseen.types import InputError, Label


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a/x.jpg", "a/x.png", "b/x.mp4", "b/.hidden.jpg", "notes.txt"):
        file = tmp_path / "set" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")
    return tmp_path / "set"


def test_a_folder_gives_its_media_with_unique_names(tree: Path) -> None:
    items = list_inputs([tree], label=Label.REAL)
    # Equal names inside one folder get their suffix back; the hidden file and the text are not media.
    assert [item.video for item in items] == ["a/x.jpg", "a/x.png", "b/x"]
    assert {item.dataset for item in items} == {"set"}
    assert {item.method for item in items} == {"real"}


def test_files_of_different_folders_and_one_stem_stay_two_videos(tree: Path) -> None:
    items = list_inputs([tree / "a/x.jpg", tree / "b/x.mp4"], dataset="one")
    assert len({item.video for item in items}) == 2


def test_globs_go_deep_and_each_file_counts_once(tree: Path) -> None:
    items = list_inputs([f"{tree}/**/*.jpg", tree / "a/x.jpg"])
    assert [item.path.name for item in items] == ["x.jpg"] or len(items) == 1


def test_a_list_says_what_is_known(tree: Path) -> None:
    rows = "path,label,video,identity,source\na/x.jpg,fake,f1,7,a/x.png\na/x.png,0,r1,7,\n"
    (tree / "list.csv").write_text(rows)
    fake, real = list_inputs([tree / "list.csv"])
    assert (fake.label, fake.video, fake.identity, fake.source) == (Label.FAKE, "f1", "7", real.path)
    assert real.method == "real"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file\nx.jpg\n", "no column 'path'"),
        ("path,label\na/x.jpg,2\n", "row 2: label 2; expected 0 (real) or 1 (fake)"),
        ("path\n\na/x.jpg\n  \n", "empty path"),
        ("path,source\na/x.jpg,gone.jpg\n", "is not among the inputs"),
        ("path,video\na/x.jpg,../../etc\n", "leaves the output folder"),
    ],
)
def test_a_bad_list_is_named_with_its_row(tree: Path, text: str, said: str) -> None:
    (tree / "list.csv").write_text(text)
    with pytest.raises(InputError) as caught:
        list_inputs([tree / "list.csv"])
    assert said in str(caught.value)


@pytest.mark.parametrize("given", ["gone.mp4", "nothing*.jpg"])
def test_nothing_found_is_an_error_not_an_empty_run(tmp_path: Path, given: str) -> None:
    with pytest.raises(InputError, match=given.replace("*", r"\*")) as caught:
        list_inputs([tmp_path / given])
    assert caught.value.reason == "missing"
