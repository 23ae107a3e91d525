from __future__ import annotations

from pathlib import Path

import pytest

from unseen.data.layouts import Listing, ListRow
from unseen.prepare.inputs import from_listing, list_inputs
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
        ("path,label\na/x.jpg,0\na/x.jpg,1\n", "x.jpg is listed twice, as real and as fake"),
        ("path,label\n", "a list without rows"),
        ("", "its first line names none at all"),
        ("path\n\udce9t\udce9.jpg\n", "byte 5 is not UTF-8; save the list as UTF-8"),
    ],
)
def test_a_bad_list_is_named_with_its_row(tree: Path, text: str, said: str) -> None:
    (tree / "list.csv").write_text(text, errors="surrogateescape")
    with pytest.raises(InputError) as caught:
        list_inputs([tree / "list.csv"])
    assert said in str(caught.value)


@pytest.mark.parametrize("given", ["gone.mp4", "nothing*.jpg"])
def test_nothing_found_is_an_error_not_an_empty_run(tmp_path: Path, given: str) -> None:
    with pytest.raises(InputError, match=given.replace("*", r"\*")) as caught:
        list_inputs([tmp_path / given])
    assert caught.value.reason == "missing"


def test_a_layout_becomes_inputs_with_people_sources_and_thinned_frames(tmp_path: Path) -> None:
    for name in ("real/a.mp4", "fake/swap/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    rows = [
        ListRow(tmp_path / "real/a.mp4", Label.REAL, "set", "real/a", "real", identity="set/a"),
        ListRow(
            tmp_path / "fake/swap/a.mp4", Label.FAKE, "set", "swap/a", "swap", "test", "set/a", "set/b",
            tmp_path / "real/a.mp4",
        ),
        *(ListRow(tmp_path / f"{i}.png", Label.FAKE, "set", "frames", "wild", frame=i) for i in range(10)),
    ]  # fmt: skip
    items = from_listing(Listing("set", rows), frames=4, split="val")
    fake = next(item for item in items if item.video == "swap/a")
    assert (fake.split, fake.identity, fake.donor) == ("test", "set/a", "set/b")
    assert fake.source == (tmp_path / "real/a.mp4").resolve()
    # The middles of four equal parts of ten: floor(1.25), floor(3.75), floor(6.25), floor(8.75).
    assert [item.frame for item in items if item.video == "frames"] == [1, 3, 6, 8]
    assert {item.split for item in items} == {"test", "val"}


def test_a_list_may_name_frames_of_a_video(tmp_path: Path) -> None:
    rows = "path,label,video,frame,donor\n1.png,1,v,5,x\n2.png,1,v,6,x\n"
    (tmp_path / "list.csv").write_text(rows)
    items = list_inputs([tmp_path / "list.csv"])
    assert [(item.video, item.frame, item.donor) for item in items] == [("v", 5, "x"), ("v", 6, "x")]
    (tmp_path / "list.csv").write_text("path,frame\n1.png,first\n")
    with pytest.raises(InputError, match="row 2: frame first; expected a whole number"):
        list_inputs([tmp_path / "list.csv"])
