"""From a zoo to a store: geometry, resuming, and every way in which it can go wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from unseen.checkpoint import Run
from unseen.cli import main
from unseen.data.dataset import FaceDataset
from unseen.data.manifest import Manifest
from unseen.data.regions import SHARDS, RegionStore
from unseen.data.transforms import AlignFace
from unseen.explain.gradcam import class_activation_map
from unseen.methods.prle import Fusion, PrimaryRegionMask, fuse_neighbors, rank_map
from unseen.regions.store import fuse_again, primary_regions
from unseen.regions.zoo import Seen, bring_back
from unseen.types import FaceRecord, InputError, Label


@pytest.fixture
def manifest(faces_file: Path) -> Manifest:
    return Manifest.read(faces_file).where(split="train")


def make(manifest: Manifest, zoo: list[Run], out: Path, **more: object):  # type: ignore[no-untyped-def]
    return primary_regions(manifest, zoo, out, size=64, batch_size=3, device="cpu", **more)  # type: ignore[arg-type]


def test_every_face_gets_what_the_networks_say(manifest: Manifest, zoo: list[Run], tmp_path: Path) -> None:
    """Against the long way: align, look, enlarge to the input, warp back by the inverse of AlignFace."""
    made = make(manifest, zoo, tmp_path / "regions")
    assert (made.made, made.kept, made.missing) == (8, 0, [])
    store = RegionStore(tmp_path / "regions")
    record = manifest.records()[3]
    found = store.read(store.keys[3])
    assert found.key == Path(record.path).name
    crop = cv2.imread(record.path)[..., ::-1]
    height, width = found.size
    assert (height, width) == crop.shape[:2]
    x0, y0, x1, y1 = found.window
    sample = FaceDataset([record], training=False).load(0)
    maps, seen = bring_back([found], 64)
    again = maps[0]
    for number, run in enumerate(zoo):
        align = run.transforms[0]
        assert isinstance(align, AlignFace)
        view = align(sample, np.random.default_rng(0))
        picture = torch.from_numpy(view.image.copy()).permute(2, 0, 1)[None]
        heat = class_activation_map(run.detector, picture, target=torch.tensor([0]))[0].numpy()
        assert np.allclose(found.maps[number], heat, atol=2e-3)
        assert heat.max() == 1
        size = run.detector.image_size
        wide = cv2.resize(found.maps[number].astype(np.float32), (size, size), interpolation=cv2.INTER_LINEAR)
        matrix = align.matrix(sample, np.random.default_rng(0))
        back = cv2.warpAffine(wide, matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        inside = cv2.warpAffine(
            np.ones((size, size), np.float32),
            matrix,
            (width, height),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        )
        there = cv2.resize(again[number].numpy(), (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
        gap = np.abs(there - back[y0:y1, x0:x1])[inside[y0:y1, x0:x1] > 0.999]
        assert np.quantile(gap, 0.98) < 0.05
        assert gap.mean() < 0.01
    assert np.array_equal(found.rank, rank_map(torch.where(seen[0], fuse_neighbors(again), 0)).numpy())


def test_bring_back_by_hand() -> None:
    # A crop of 8 x 4, a view of its right half: u = ((x + .5) - 4) / 4, v = (y + .5) / 4. Window: all of it.
    place = np.float32([[[1 / 4, 0, -3.5 / 4], [0, 1 / 4, 0.5 / 4]]])
    seen = Seen((4, 8), (0, 0, 8, 4), (np.float16([[0.25, 1.0]]),), place)
    maps, inside = bring_back([seen], 8)
    back = maps[0, 0]  # half a pixel of the crop high, one wide
    assert not inside[0, :, :4].any() and inside[0, :, 4:].all()
    assert (back[:, :4] == 0.25).all()  # not seen: as at the edge, so that nothing differs there
    # Four columns at u = 1/8, 3/8, 5/8, 7/8; cells centred at 1/4 and 3/4:
    # clamped .25; .25 + .75 * (1/8) / (1/2) = .4375; .8125; 1
    torch.testing.assert_close(back[0, 4:], torch.tensor([0.25, 0.4375, 0.8125, 1.0]))
    assert torch.equal(back[0], back[7])
    # Eq. 7 at columns 4 to 7: (0 + .1875) / 3, (.1875 + .375) / 3, (.375 + .1875) / 3, .1875 / 2; lambda .15.
    ranks = Fusion(threshold=1).rank(maps, inside)[0]
    assert (ranks > 0).all(0).tolist() == [False] * 5 + [True, True, False]


def test_the_edge_of_a_view_is_no_region() -> None:
    place = np.float32([[[1 / 4, 0, -3.5 / 4], [0, 1 / 4, 0.5 / 4]]])  # the right half, see above
    seen = Seen((4, 8), (0, 0, 8, 4), (np.float16([[0.25, 0.25]]),), place)
    assert Fusion().rank(*bring_back([seen], 8)).max() == 0  # nothing differs within what was seen
    whole = Seen((4, 8), (0, 0, 8, 4), (np.float16([[1.0, 1.0]]),), place)
    assert (Fusion().rank(*bring_back([whole], 8))[0] > 0).all(0).tolist() == [False] * 4 + [True] * 4


def test_target_is_the_label(manifest: Manifest, zoo: list[Run], tmp_path: Path) -> None:
    rows = [replace(r, label=Label.FAKE, method="made") for r in manifest.records()]
    fakes = Manifest.from_records(rows, manifest.root)
    make(manifest, zoo, tmp_path / "real")
    make(fakes, zoo, tmp_path / "fake")
    make(manifest, zoo, tmp_path / "as_fake", target="fake")
    real, fake, same = (RegionStore(tmp_path / name).read("00.png") for name in ("real", "fake", "as_fake"))
    assert not np.array_equal(real.maps[0], fake.maps[0])
    assert all(np.array_equal(a, b) for a, b in zip(fake.maps, same.maps, strict=True))


def test_stopped_and_started_again_it_makes_what_is_missing(
    manifest: Manifest, zoo: list[Run], tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def report(done: int, total: int) -> None:
        if done >= 5:
            raise Stop

    with pytest.raises(Stop):
        make(manifest, zoo, tmp_path / "cut", shard=2, report=report)
    there = len(RegionStore(tmp_path / "cut"))
    assert 4 <= there < 8
    made = make(manifest, zoo, tmp_path / "cut", shard=2)
    assert (made.made, made.kept) == (8 - there, there)
    make(manifest, zoo, tmp_path / "whole")
    cut, whole = RegionStore(tmp_path / "cut"), RegionStore(tmp_path / "whole")
    assert sorted(cut.keys) == sorted(whole.keys)
    assert all(np.array_equal(cut.read(k).rank, whole.read(k).rank) for k in whole.keys)
    again = make(manifest, zoo, tmp_path / "whole")
    assert (again.made, again.kept) == (0, 8)


def test_a_truncated_shard_is_repaired_by_the_next_call(
    manifest: Manifest, zoo: list[Run], tmp_path: Path
) -> None:
    out = tmp_path / "regions"
    make(manifest, zoo, out, shard=4)
    before = {key: RegionStore(out).read(key).rank for key in RegionStore(out).keys}
    shard = sorted((out / SHARDS).iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:-40])
    with pytest.raises(InputError, match="cut off"):
        PrimaryRegionMask(str(out)).check(manifest.records())
    made = make(manifest, zoo, out, shard=4)
    assert (made.made, made.kept) == (1, 7)
    assert len(made.repaired) == 1
    after = RegionStore(out)
    assert all(np.array_equal(after.read(key).rank, rank) for key, rank in before.items())


def test_another_zoo_or_rule_needs_another_folder(manifest: Manifest, zoo: list[Run], tmp_path: Path) -> None:
    make(manifest, zoo, tmp_path / "regions")
    for more in ({"zoo": zoo[:1]}, {"fusion": Fusion(threshold=0.1)}):
        with pytest.raises(InputError, match="another rule") as error:
            make(manifest, out=tmp_path / "regions", **{"zoo": zoo, **more})  # type: ignore[arg-type]
        assert error.value.reason == "other_rule"


def test_rows_without_a_map_are_named(manifest: Manifest, zoo: list[Run], tmp_path: Path) -> None:
    good = manifest.records()[0]
    rows = [
        good,
        FaceRecord(good.path.replace("00.png", "gone.png"), Label.REAL, landmarks=good.landmarks),
        replace(manifest.records()[1], landmarks=None),
        replace(manifest.records()[2], label=None),
    ]
    made = make(Manifest.from_records(rows, manifest.root), zoo, tmp_path / "regions")
    assert made.made == 1
    said = dict(made.missing)
    assert len(said) == 3
    assert [
        word for word in ("No such file", "no landmarks", "no label") if word in " ".join(said.values())
    ] == [
        "No such file",
        "no landmarks",
        "no label",
    ]
    mask = PrimaryRegionMask(str(tmp_path / "regions"))
    with pytest.raises(InputError, match=r"no map of 3 of 4") as error:
        FaceDataset(rows, [mask])
    assert error.value.reason == "no_regions"


def test_missing_faces_are_kept_and_counted(manifest: Manifest, zoo: list[Run], tmp_path: Path) -> None:
    rows = manifest.records()[:4]
    make(Manifest.from_records(rows[:2], manifest.root), zoo, tmp_path / "regions")
    mask = PrimaryRegionMask(str(tmp_path / "regions"), p=1.0, alpha=(1, 1), missing="keep")
    faces, plain = FaceDataset(rows, [mask]), FaceDataset(rows)
    changed = [not np.array_equal(faces.load(i).image, plain.load(i).image) for i in range(4)]
    assert changed == [True, True, False, False]
    assert faces.notes == {"no_regions": 2}


def test_crops_and_store_may_move_apart(manifest: Manifest, zoo: list[Run], tmp_path: Path) -> None:
    make(manifest, zoo, tmp_path / "regions")
    moved = (tmp_path / "regions").rename(tmp_path / "elsewhere")
    there = [replace(r, path=f"/mnt/{Path(r.path).name}") for r in manifest.records()]
    PrimaryRegionMask(str(moved)).check(there)


def test_another_crop_under_the_same_name_is_refused(
    manifest: Manifest, zoo: list[Run], tmp_path: Path
) -> None:
    make(manifest, zoo, tmp_path / "regions")
    align, mask = AlignFace(64), PrimaryRegionMask(str(tmp_path / "regions"), p=1.0)
    rng = np.random.default_rng(0)
    sample = FaceDataset(manifest.records(), training=False).load(0)
    mask(sample, rng)
    with pytest.raises(InputError, match="before they are aligned") as error:
        mask(align(sample, rng), rng)
    assert error.value.reason == "stale_regions"


def test_fused_again_without_the_zoo(manifest: Manifest, zoo: list[Run], tmp_path: Path) -> None:
    make(manifest, zoo, tmp_path / "both")
    average = Fusion(kind="average", threshold=0.1)
    made = fuse_again(tmp_path / "both", tmp_path / "again", fusion=average, size=64, batch_size=3)
    assert made.made == 8
    make(manifest, zoo, tmp_path / "straight", fusion=average)
    again, straight = RegionStore(tmp_path / "again"), RegionStore(tmp_path / "straight")
    assert again.rule == straight.rule
    assert all(np.array_equal(again.read(k).rank, straight.read(k).rank) for k in straight.keys)
    one = fuse_again(tmp_path / "both", tmp_path / "one", size=64, zoo=["run_test_resnet"])
    make(manifest, zoo[1:], tmp_path / "alone")
    found, alone = RegionStore(one.folder), RegionStore(tmp_path / "alone")
    assert found.rule["zoo_hash"] == alone.rule["zoo_hash"]
    assert len(found.read("00.png").maps) == 1
    with pytest.raises(InputError, match="no maps of vgg"):
        fuse_again(tmp_path / "both", tmp_path / "none", zoo=["vgg"])


def test_the_command(
    faces_file: Path, zoo: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prepare", "primary-regions", str(faces_file), "--workers", "0", "--device", "cpu"]
    words += ["--out", str(tmp_path / "regions"), "--size", "64", "--split", "all"]
    assert main([*words, "--detectors", *(str(run.folder) for run in zoo)]) == 0
    assert "13" in capsys.readouterr().out
    assert main([*words, "--detectors", str(tmp_path / "no_run")]) == 2
    assert "does not exist" in capsys.readouterr().err
    assert main(["prepare", "primary-regions", "--out", str(tmp_path / "x")]) == 2
    assert "--from STORE" in capsys.readouterr().err
    again = [
        "prepare",
        "primary-regions",
        "--from",
        str(tmp_path / "regions"),
        "--out",
        str(tmp_path / "two"),
    ]
    assert main([*again, "--fusion", "average", "--threshold", "0.1"]) == 0
    assert len(RegionStore(tmp_path / "two")) == 13
