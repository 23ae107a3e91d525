"""Each layout on a tree of its shape: labels, splits, people, sources, counts, and its errors."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.data.layouts.trees import celeb, faceforensics, touch
from unseen.data.layouts import LAYOUTS, Listing, list_dataset
from unseen.data.names import set_name
from unseen.types import InputError, Label


def by_video(listing: Listing) -> dict[str, object]:
    return {row.video: row for row in listing.rows}


def splits(listing: Listing) -> Counter[str | None]:
    return Counter(row.split for row in listing.rows)


def test_faceforensics_has_six_videos_a_folder_name(tmp_path: Path) -> None:
    listing = list_dataset("FaceForensics++", faceforensics(tmp_path))
    assert len(listing.rows) == 6 + 5 * 6
    assert splits(listing) == {"train": 12, "val": 12, "test": 12}
    # Five forgeries of one folder name stay five videos.
    same = [row for row in listing.rows if row.path.stem == "033_097"]
    assert len({row.video for row in same}) == 5
    row = by_video(listing)["face2face/033_097"]
    assert (row.label, row.method, row.split, row.dataset) == (Label.FAKE, "face2face", "val", "ff++_c23")
    assert (row.identity, row.donor) == ("ff++/033", "ff++/097")
    assert row.source == tmp_path / "original_sequences/youtube/c23/videos/033.mp4"
    real = by_video(listing)["original/054"]
    assert (real.label, real.method, real.split, real.source) == (Label.REAL, "real", "test", None)
    assert set_name(row.dataset) == "ff++"
    assert str(listing.counts[0]) == "real: found 6 of 1,000"
    assert [str(c) for c in listing.counts[-3:]] == [
        "real in train: found 2 of 720", "real in val: found 2 of 140", "real in test: found 2 of 140"
    ]  # fmt: skip


def test_two_compressions_must_be_told_apart(tmp_path: Path) -> None:
    faceforensics(tmp_path)
    faceforensics(tmp_path, compression="raw")
    with pytest.raises(InputError, match="raw and c23 are there; choose with --compression"):
        list_dataset("ff++", tmp_path)
    assert {row.dataset for row in list_dataset("ff++", tmp_path, compression="raw").rows} == {"ff++_raw"}
    with pytest.raises(InputError, match="no folder c40; there is raw, c23"):
        list_dataset("ff++", tmp_path, compression="c40")


def test_the_official_lists_are_asked_for_and_never_made_up_silently(tmp_path: Path) -> None:
    faceforensics(tmp_path / "set", lists=False)
    with pytest.raises(InputError, match=r"no train\.json; the official lists") as caught:
        list_dataset("ff++", tmp_path / "set")
    assert caught.value.reason == "no_splits"
    derived = list_dataset("ff++", tmp_path / "set", splits="derive")
    assert any("not the official ones" in note for note in derived.notes)
    assert splits(list_dataset("ff++", tmp_path / "set", splits="none")) == {None: 36}
    faceforensics(tmp_path / "lists")
    given = list_dataset("ff++", tmp_path / "set", splits=str(tmp_path / "lists"))
    assert splits(given) == {"train": 12, "val": 12, "test": 12}


def test_derived_splits_keep_whole_chains_of_people_together(tmp_path: Path) -> None:
    touch(tmp_path, (f"original_sequences/youtube/c23/videos/{i:03d}.mp4" for i in range(100)))
    # A chain 0-1-2-3 and pairs: nobody may be in two splits, as target or as donor.
    stems = ["000_001", "001_002", "003_002", *(f"{i:03d}_{i + 1:03d}" for i in range(4, 100, 2))]
    touch(tmp_path, (f"manipulated_sequences/Deepfakes/c23/videos/{s}.mp4" for s in stems))
    listing = list_dataset("ff++", tmp_path, splits="derive")
    where: dict[str | None, set[str | None]] = {}
    for row in listing.rows:
        for person in (row.identity, row.donor):
            where.setdefault(person, set()).add(row.split)
    where.pop(None)
    assert all(len(found) == 1 for found in where.values())
    assert len(where) == 100
    number = Counter(next(iter(found)) for found in where.values())
    assert 68 <= number["train"] <= 76  # 72, 14, 14 % of 100 people, in steps of a pair or the chain
    assert 10 <= number["val"] <= 18


def test_lists_that_share_a_person_are_refused(tmp_path: Path) -> None:
    faceforensics(tmp_path)
    (tmp_path / "val.json").write_text('[["033", "000"]]')
    with pytest.raises(InputError, match=r"000 is in train\.json too") as caught:
        list_dataset("ff++", tmp_path)
    assert caught.value.reason == "leak"
    (tmp_path / "val.json").write_text("{}")
    with pytest.raises(InputError, match="expected a list of pairs"):
        list_dataset("ff++", tmp_path)


def test_faceshifter_is_a_set_of_its_own_with_the_same_reals(tmp_path: Path) -> None:
    listing = list_dataset("faceshifter", faceforensics(tmp_path))
    assert Counter(row.method for row in listing.rows) == {"real": 6, "faceshifter": 6}
    assert {row.dataset for row in listing.rows} == {"faceshifter_c23"}


def test_a_manipulation_that_is_missing_is_said(tmp_path: Path) -> None:
    faceforensics(tmp_path)
    for path in (tmp_path / "manipulated_sequences/NeuralTextures/c23/videos").iterdir():
        path.unlink()
    listing = list_dataset("ff++", tmp_path)
    assert any("no videos of NeuralTextures in c23" in note for note in listing.notes)
    with pytest.raises(InputError, match=r"not complete \(real: found 6 of 1,000"):
        listing.check_complete()


def test_dfd_scene_and_actors(tmp_path: Path) -> None:
    touch(tmp_path, ["original_sequences/actors/c23/videos/01__exit_phone_room.mp4"])
    touch(
        tmp_path, ["manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4"]
    )
    real, fake = sorted(list_dataset("dfd", tmp_path).rows, key=lambda row: row.label)
    assert (fake.identity, fake.donor, fake.source) == ("dfd/01", "dfd/02", real.path)
    assert (real.identity, real.dataset, fake.split) == ("dfd/01", "dfd_c23", None)


def test_celeb_labels_come_from_the_folder_not_from_the_list(tmp_path: Path) -> None:
    listing = list_dataset("CDFv2", celeb(tmp_path))
    row = by_video(listing)
    # The list says 1 for a real video.
    assert row["YouTube-real/00170"].label is Label.REAL
    assert row["Celeb-synthesis/id1_id0_0007"].label is Label.FAKE
    assert splits(listing) == {"test": 3, "train": 3}
    fake = row["Celeb-synthesis/id1_id0_0007"]
    assert (fake.identity, fake.donor) == ("celeb-df/id1", "celeb-df/id0")
    assert fake.source == tmp_path / "Celeb-real/id1_0007.mp4"
    said = [str(c) for c in listing.counts]
    assert "Celeb-synthesis: found 2 of 5,639" in said
    assert "real in test: found 2 of 178" in said
    assert "test list: found 3 of 3" in said


def test_celeb_flipped_list_changes_no_label(tmp_path: Path) -> None:
    before = [(r.video, r.label) for r in list_dataset("celeb-df-v2", celeb(tmp_path)).rows]
    path = tmp_path / "List_of_testing_videos.txt"
    flipped = [f"{1 - int(line[0])}{line[1:]}" for line in path.read_text().splitlines()]
    path.write_text("\n".join(flipped))
    assert [(r.video, r.label) for r in list_dataset("celeb-df-v2", tmp_path).rows] == before


def test_celeb_missing_test_video_and_missing_list(tmp_path: Path) -> None:
    celeb(tmp_path)
    (tmp_path / "YouTube-real/00170.mp4").unlink()
    listing = list_dataset("celeb-df-v1", tmp_path)
    assert listing.missing == ["youtube-real/00170.mp4"]
    (tmp_path / "List_of_testing_videos.txt").unlink()
    with pytest.raises(InputError, match=r"List_of_testing_videos\.txt comes with the videos"):
        list_dataset("celeb-df-v1", tmp_path)


def test_dfdc_parts_and_test_set(tmp_path: Path) -> None:
    touch(tmp_path, [f"dfdc_train_part_00/{n}.mp4" for n in ("aaa", "bbb")] + ["test/ccc.mp4"])
    (tmp_path / "dfdc_train_part_00/metadata.json").write_text(
        json.dumps(
            {
                "aaa.mp4": {"label": "REAL", "split": "train"},
                "bbb.mp4": {"label": "FAKE", "split": "train", "original": "aaa.mp4"},
                "gone.mp4": {"label": "FAKE", "split": "train", "original": "aaa.mp4"},
            }
        )
    )
    (tmp_path / "test/labels.csv").write_text("filename,label\nccc.mp4,1\n")
    listing = list_dataset("dfdc", tmp_path)
    row = by_video(listing)
    assert (row["bbb"].label, row["bbb"].split, row["bbb"].source) == (Label.FAKE, "train", row["aaa"].path)
    assert (row["ccc"].label, row["ccc"].split) == (Label.FAKE, "test")
    assert [Path(p).name for p in listing.missing] == ["gone.mp4"]
    assert "named in lists: found 3 of 4" in [str(c) for c in listing.counts]
    # Given the test folder itself, it is still the test set.
    assert splits(list_dataset("dfdc", tmp_path / "test")) == {"test": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "not readable JSON"), ('{"a.mp4": {"label": "MAYBE"}}', "label 'MAYBE'; expected REAL or FAKE")],
)
def test_dfdc_damaged_metadata(tmp_path: Path, text: str, said: str) -> None:
    touch(tmp_path, ["a.mp4"])
    (tmp_path / "metadata.json").write_text(text)
    with pytest.raises(InputError, match=said):
        list_dataset("dfdc", tmp_path)


def test_dfdc_preview(tmp_path: Path) -> None:
    real, fake = "original_videos/643618/643618_A.mp4", "method_A/643618/643618_A/643618_A_A_1224068_0.mp4"
    touch(tmp_path, [real.replace("/643618_A", "/deeper/643618_A"), fake])  # a copy with other depths
    (tmp_path / "dataset.json").write_text(
        json.dumps(
            {
                real: {"label": "real", "set": "test", "target_id": 643618, "swapped_id": None},
                fake: {"label": "fake", "set": "test", "target_id": 643618, "swapped_id": 1224068},
            }
        )
    )
    found = list_dataset("dfdc-preview", tmp_path)
    row = {r.label: r for r in found.rows}
    assert row[Label.FAKE].source == row[Label.REAL].path
    assert (row[Label.FAKE].method, row[Label.FAKE].split) == ("method_A", "test")
    assert (row[Label.FAKE].identity, row[Label.FAKE].donor) == (
        "dfdc-preview/643618",
        "dfdc-preview/1224068",
    )
    assert "real: found 1 of 1,131" in [str(c) for c in found.counts]


def test_uadfv(tmp_path: Path) -> None:
    touch(tmp_path, ["real/0000.mp4", "fake/0000_fake.mp4"])
    fake, real = list_dataset("uadfv", tmp_path).rows
    assert (fake.label, fake.source, real.label) == (Label.FAKE, real.path, Label.REAL)


def test_deeperforensics_variants_are_methods_and_have_no_reals(tmp_path: Path) -> None:
    for variant in ("end_to_end", "end_to_end_mix_3_distortions"):
        touch(tmp_path, (f"manipulated_videos/{variant}/{s}.mp4" for s in ("000_M004", "001_W101")))
    touch(tmp_path, ["source_videos/M004/light_up/happy/camera_up/M004_light_up_happy_camera_up.mp4"])
    touch(tmp_path, (f"lists/splits/{name}.txt" for name in ("train", "val", "test")))
    (tmp_path / "lists/splits/train.txt").write_text("000_M004.mp4\n")
    (tmp_path / "lists/splits/test.txt").write_text("001_W101.mp4\n")
    listing = list_dataset("deeperforensics-1.0", tmp_path)
    assert {row.label for row in listing.rows} == {
        Label.FAKE
    }  # the actors' recordings are not the real class
    row = by_video(listing)["end_to_end_mix_3_distortions/001_W101"]
    assert (row.split, row.identity, row.donor) == ("test", "ff++/001", "deeperforensics-1.0/W101")
    assert any("FaceForensics++ in c23" in note for note in listing.notes)
    one = list_dataset("deeperforensics-1.0", tmp_path, variant="end_to_end")
    assert {row.method for row in one.rows} == {"end_to_end"}
    with pytest.raises(InputError, match="no variant mix; there is end_to_end"):
        list_dataset("deeperforensics-1.0", tmp_path, variant="mix")


def test_wilddeepfake_folders_are_videos_and_archives_are_missing(tmp_path: Path) -> None:
    touch(tmp_path, (f"fake_test/4/fake/21/{i}.png" for i in (10, 2, 7)))
    touch(tmp_path, ["real_train/1.tar.gz"])
    listing = list_dataset("wilddeepfake", tmp_path)
    assert [row.frame for row in listing.rows] == [2, 7, 10]  # by number, not by spelling
    assert {row.video for row in listing.rows} == {"fake_test/4/fake/21"}
    assert listing.missing == [str(tmp_path / "real_train/1.tar.gz")]
    with pytest.raises(InputError, match="not complete"):
        listing.check_complete()


def test_wilddeepfake_only_packed(tmp_path: Path) -> None:
    touch(tmp_path, ["real_train/1.tar.gz"])
    with pytest.raises(InputError, match="1 archives are there"):
        list_dataset("wilddeepfake", tmp_path)


def test_ffiw(tmp_path: Path) -> None:
    touch(tmp_path, [f"FFIW10K-v1-release/{kind}/train/a.mp4" for kind in ("source", "target")])
    touch(
        tmp_path, ["FFIW10K-v1-release-test/source/test_b.mp4", "FFIW10K-v1-release/target_mask/train/a.mp4"]
    )
    listing = list_dataset("ffiw", tmp_path)
    assert Counter((row.label, row.split) for row in listing.rows) == {
        (Label.REAL, "train"): 1, (Label.FAKE, "train"): 1, (Label.REAL, "test"): 1
    }  # fmt: skip
    fake = next(row for row in listing.rows if row.label is Label.FAKE)
    assert fake.source == tmp_path / "FFIW10K-v1-release/source/train/a.mp4"


def test_df40(tmp_path: Path) -> None:
    touch(tmp_path, (f"simswap/ff/frames/000_003/{i:03d}.png" for i in range(3)))
    touch(tmp_path, ["blendface/cdf/frames/id0_id1_0000/000.png", "heygen/real/x.png", "heygen/fake/y.png"])
    touch(tmp_path, ["simswap/ff/landmarks/000_003/000.npy", "ddim/ff/00001.png"])
    row = {(r.video, r.frame): r for r in list_dataset("df40", tmp_path).rows}
    assert row["simswap/ff/000_003", 2].identity == "ff++/000"
    assert row["blendface/cdf/id0_id1_0000", 0].donor == "celeb-df/id1"
    assert (row["heygen/real/x", None].label, row["heygen/fake/y", None].method) == (Label.REAL, "heygen")
    assert row["ddim/ff/00001", None].label is Label.FAKE
    assert len(row) == 7


def test_dffd(tmp_path: Path) -> None:
    touch(tmp_path, ["ffhq/train/1.png", "pggan_v2/test/2.png", "stylegan_ffhq/validation/3.png"])
    found = {row.method: (row.label, row.split) for row in list_dataset("dffd", tmp_path).rows}
    assert found == {
        "real": (Label.REAL, "train"), "pggan": (Label.FAKE, "test"), "stylegan": (Label.FAKE, "val")
    }  # fmt: skip
    (tmp_path / "holidays").mkdir()
    with pytest.raises(InputError, match="holidays: not a source of DFFD"):
        list_dataset("dffd", tmp_path)


def test_forgerynet_takes_the_reals_only(tmp_path: Path) -> None:
    touch(tmp_path, ["Training/image/a/1.jpg", "Training/image/b/2.jpg"])
    (tmp_path / "Training/image_list.txt").write_text("a/1.jpg 0 0 0\nb/2.jpg 1 2 7\na/gone.jpg 0 0 0\n")
    listing = list_dataset("forgerynet", tmp_path)
    assert [(r.label, r.split, r.path.name) for r in listing.rows] == [(Label.REAL, "train", "1.jpg")]
    assert listing.missing == ["Training/a/gone.jpg"]
    (tmp_path / "Training/image_list.txt").write_text("a/1.jpg 0 3\n")
    with pytest.raises(InputError, match=r"line 1: .* is real \(0\) in one column and fake in another"):
        list_dataset("forgerynet", tmp_path)


def test_lfw(tmp_path: Path) -> None:
    touch(tmp_path, ["lfw/Ada_Byron/Ada_Byron_0001.jpg", "lfw/Ada_Byron/Ada_Byron_0002.jpg", "lfw/x.jpg"])
    listing = list_dataset("lfw", tmp_path)
    assert [row.identity for row in listing.rows] == ["lfw/Ada_Byron"] * 2
    assert len({row.video for row in listing.rows}) == 2
    assert [str(c) for c in listing.counts] == ["pictures: found 2 of 13,233", "people: found 1 of 5,749"]


def test_plain_folders(tmp_path: Path) -> None:
    touch(tmp_path / "mine", ["train/real/a.jpg", "train/fake/F2F/b.jpg", "test/0_real/c.mp4"])
    found = {r.video: (r.label, r.split, r.method) for r in list_dataset("folders", tmp_path / "mine").rows}
    assert found == {
        "train/real/a": (Label.REAL, "train", "real"),
        "train/fake/F2F/b": (Label.FAKE, "train", "face2face"),
        "test/0_real/c": (Label.REAL, "test", "real"),
    }
    touch(tmp_path / "mine", ["other/d.jpg"])
    with pytest.raises(InputError, match="neither real nor fake"):
        list_dataset("folders", tmp_path / "mine")


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_a_folder_of_something_else_is_an_error_that_says_where_to_get_it(name: str, tmp_path: Path) -> None:
    touch(tmp_path, ["holiday/beach.txt"])
    if name == "dffd":
        (tmp_path / "holiday/beach.txt").unlink()
        (tmp_path / "holiday").rmdir()
    with pytest.raises(InputError) as caught:
        list_dataset(name, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "expected" in str(caught.value) or "no folder" in str(caught.value)
    with pytest.raises(InputError, match="does not exist"):
        list_dataset(name, tmp_path / "gone")


@pytest.mark.parametrize("name", sorted(set(LAYOUTS) - {"folders"}))
def test_names_are_those_of_protocols(name: str) -> None:
    assert set_name(name) == name


def test_options_and_names_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected one of ff\\+\\+"):
        list_dataset("ffpq", tmp_path)
    with pytest.raises(InputError, match="layout dfdc: no option 'variant'; it has no options"):
        list_dataset("dfdc", tmp_path, variant="x")


def test_two_files_of_one_video_are_refused(tmp_path: Path) -> None:
    faceforensics(tmp_path)
    touch(tmp_path, ["original_sequences/youtube/c23/videos/copy/033.mp4"])
    touch(tmp_path, ["manipulated_sequences/Deepfakes/c23/videos/copy/033_097.mp4"])
    with pytest.raises(InputError, match="2 files are video 'deepfakes/033_097'") as caught:
        list_dataset("ff++", tmp_path)
    assert caught.value.reason == "duplicate"
