"""Every state of a verdict, from files made here and a random network."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from unseen.detect.inspector import Inspector
from unseen.media.reader import Limits
from unseen.types import InputError

KEYS = {
    *("file", "verdict", "reason", "headline", "explanation", "probability", "threshold", "threshold_rule"),
    *("people", "evidence", "warnings", "sha256", "model", "model_card", "media", "counts", "command"),
    *("version", "versions", "settings", "p_value", "score", "inconclusive_from", "created", "seconds"),
}


@pytest.fixture(scope="module")
def inspector(real_run: Path) -> Inspector:
    return Inspector(real_run, frames=6)


def save(path: Path, image: np.ndarray) -> Path:
    assert cv2.imwrite(str(path), image[..., ::-1])
    return path


def strict(text: str) -> object:
    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize(
    ("thresholds", "state", "reason"),
    [
        ((60.0, 60.0), "real", "below_threshold"),
        ((-60.0, -60.0), "fake", "above_threshold"),
        ((60.0, -60.0), "inconclusive", "in_band"),
    ],
)
def test_states_of_a_photograph(make_run, portrait_file: Path, thresholds, state: str, reason: str) -> None:
    verdict = Inspector(make_run(*thresholds)).inspect(portrait_file)
    assert (verdict.verdict, verdict.reason) == (state, reason)
    facts = strict(verdict.to_json())
    assert facts.keys() >= KEYS
    assert facts["model"] == "tiny"
    assert facts["media"]["kind"] == "image"
    assert len(facts["sha256"]) == 64
    assert "random" in facts["model_card"]["Card"]
    (person,) = facts["people"]
    assert person["probability"] == facts["probability"]
    (sighting,) = person["frames"]
    assert sighting["status"] == "scored"
    x0, y0, x1, y1 = sighting["box"]
    height, width = cv2.imread(str(portrait_file)).shape[:2]
    assert 0 < x0 < x1 < width
    assert 0 < y0 < y1 < height


def test_a_video_is_judged_person_by_person(inspector: Inspector, clip_file) -> None:
    path = clip_file()
    verdict = inspector.inspect(path)
    assert verdict.verdict == "real"
    assert verdict.media["kind"] == "video"
    assert verdict.counts["frames"] == 6
    person = max(verdict.people, key=lambda p: len(p.frames))
    assert len(person.scored) >= 5
    times = [sighting.time for sighting in person.frames]
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 3
    scores = [sighting.score for sighting in person.scored]
    assert person.score == pytest.approx(np.mean(scores))
    assert verdict.score == max(p.score for p in verdict.people if p.score is not None)
    assert "--frames 6" in verdict.command
    assert str(path) in verdict.command


def test_the_heat_map_lies_on_the_face_of_the_original_frame(
    inspector: Inspector, portrait_file: Path
) -> None:
    (piece,) = inspector.inspect(portrait_file).evidence
    matrix, size = np.array(piece.matrix), piece.input_size
    assert size == (96, 96)
    x0, y0, x1, y1 = piece.sighting.box
    centre = matrix @ [(x0 + x1) / 2, (y0 + y1) / 2, 1]
    assert np.abs(centre - 48).max() < 16  # the middle of the face is the middle of the network's input
    heat = np.array(piece.heatmap)
    assert heat.ndim == 2
    assert heat.max() in (0, 1)
    for picture in (piece.frame_picture, piece.face_picture, piece.heat_picture):
        assert cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR) is not None


def test_detection_gives_the_scores_of_prepared_crops(inspector: Inspector, portrait: np.ndarray) -> None:
    """The picture that reaches the network is the one that `unseen prepare` and training would give it."""
    from unseen.data.transforms import AlignFace
    from unseen.detect.seeing import Gate, look
    from unseen.media.crop import crop_faces, encode_crop
    from unseen.media.reader import Frame
    from unseen.types import FaceRecord, FaceSample

    finder = inspector.finder
    seen = look(Frame(portrait, 0, 0.0), finder, Gate())
    given, to_input = inspector.load().input_of(seen.sights[0])
    (crop,) = crop_faces(portrait, finder(portrait)[:1])
    stored = cv2.imdecode(np.frombuffer(encode_crop(crop.image), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    sample = FaceSample(np.ascontiguousarray(stored), None, FaceRecord(""), landmarks=crop.landmarks)
    wanted = AlignFace(96)(sample, np.random.default_rng(1))
    assert np.array_equal(given, wanted.image)
    assert np.allclose(to_input, AlignFace(96).matrix(sample, np.random.default_rng(1)), atol=1e-3)


def test_same_file_same_verdict_whatever_the_batch(real_run: Path, clip_file) -> None:
    path = clip_file()
    verdicts = [Inspector(real_run, frames=5, batch_size=size).inspect(path) for size in (2, 2, 16)]
    first, second, third = (v.to_dict() for v in verdicts)
    for facts in (first, second):
        for name in ("created", "seconds"):
            facts.pop(name)
    assert first == second
    assert third["score"] == pytest.approx(first["score"], abs=1e-4)


def test_no_face_in_a_picture_and_in_a_video(inspector: Inspector, tmp_path: Path, clip_file) -> None:
    grey = save(tmp_path / "grey.png", np.full((200, 200, 3), 90, np.uint8))
    for path in (grey, clip_file("grey.mp4", face=False)):
        verdict = inspector.inspect(path)
        assert (verdict.verdict, verdict.reason) == ("not_applicable", "no_face")
        assert verdict.probability is None
        assert verdict.people == []
        assert verdict.sha256
        assert strict(verdict.to_json())["probability"] is None
        assert verdict.headline in verdict.to_html()


def test_small_and_blurred_faces_are_not_judged(inspector: Inspector, tmp_path: Path, portrait) -> None:
    canvas = np.full((400, 400, 3), 120, np.uint8)
    small = cv2.resize(portrait, (102, 120), interpolation=cv2.INTER_AREA)
    canvas[100:220, 100:202] = small
    verdict = inspector.inspect(save(tmp_path / "small.png", canvas))
    assert (verdict.verdict, verdict.reason) == ("not_applicable", "face_too_small")
    assert verdict.people[0].frames[0].reason == "face_too_small"
    assert verdict.counts["dropped"] == {"face_too_small": 1}
    verdict = inspector.inspect(save(tmp_path / "soft.png", cv2.GaussianBlur(portrait, (0, 0), 9)))
    assert (verdict.verdict, verdict.reason) == ("not_applicable", "face_too_blurred")
    assert any("blurred" in text for text in verdict.warnings)


def test_one_forged_person_makes_a_forged_file(make_run, tmp_path: Path, portrait) -> None:
    """Two different faces get two scores; a threshold between them must make the file fake."""
    other = cv2.convertScaleAbs(portrait[:, ::-1], alpha=0.6, beta=70)
    path = save(tmp_path / "two.png", np.hstack([portrait, other]))
    scores = sorted(p.score for p in Inspector(make_run()).inspect(path).people)
    assert len(scores) == 2
    middle = (scores[0] + scores[1]) / 2
    verdict = Inspector(make_run(middle, middle)).inspect(path)
    assert verdict.verdict == "fake"
    assert sorted(p.verdict for p in verdict.people) == ["fake", "real"]
    assert verdict.score == pytest.approx(scores[1])
    assert "of 2" in verdict.explanation


def test_a_crowd_is_judged_face_by_face(inspector: Inspector, tmp_path: Path, portrait) -> None:
    face = cv2.resize(portrait[:420, 60:460], (160, 168), interpolation=cv2.INTER_AREA)
    verdict = inspector.inspect(save(tmp_path / "crowd.png", np.tile(face, (5, 5, 1))))
    assert len(verdict.people) >= 23
    assert verdict.verdict == "real"
    assert any("people were judged" in text for text in verdict.warnings)
    assert len(verdict.evidence) == 4
    page = verdict.to_html()
    assert "more people, less suspicious" in page
    assert len(page) < 2_000_000


def hidden(path: Path) -> Path:
    path.write_bytes(b"secret")
    path.chmod(0)
    return path


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "reasons"),
    [
        (lambda folder: folder / "gone.jpg", {"missing"}),
        (lambda folder: folder, {"not_a_file"}),
        (lambda folder: written(folder / "empty.mp4", b""), {"empty"}),
        (lambda folder: written(folder / "text.jpg", b"no picture " * 100), {"unreadable"}),
        (lambda folder: written(folder / "cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"), {"unreadable"}),
        (lambda folder: Path(f"{folder}/a\0b.jpg"), {"unreadable", "missing"}),
        (lambda folder: folder / ("a" * 300), {"unreadable"}),  # the system refuses to look
        pytest.param(
            lambda folder: hidden(folder / "closed.jpg"),
            {"permission"},
            marks=pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything"),
        ),
    ],
)
def test_bad_files_give_a_verdict(inspector: Inspector, tmp_path: Path, make, reasons: set[str]) -> None:
    verdict = inspector.inspect(make(tmp_path))
    assert verdict.verdict == "error"
    assert verdict.reason in reasons
    assert verdict.message
    facts = strict(verdict.to_json())
    assert facts["probability"] is None
    assert facts["people"] == []
    assert facts["model"] == "tiny"
    assert verdict.headline in verdict.to_html()


def test_a_truncated_video_is_judged_with_a_warning(inspector: Inspector, clip_file, tmp_path: Path) -> None:
    data = clip_file("long.mkv", frames=200).read_bytes()
    verdict = inspector.inspect(written(tmp_path / "cut.mkv", data[: int(len(data) * 0.6)]))
    assert verdict.verdict == "real"
    assert verdict.warnings


def test_limits_are_errors_not_crashes(real_run: Path, portrait_file: Path) -> None:
    verdict = Inspector(real_run, limits=Limits(pixels=1000)).inspect(portrait_file)
    assert (verdict.verdict, verdict.reason) == ("error", "too_large")


def test_a_network_that_gives_nan_judges_nobody(make_run, portrait_file: Path) -> None:
    verdict = Inspector(make_run(nan=True)).inspect(portrait_file)
    assert (verdict.verdict, verdict.reason) == ("not_applicable", "not_finite")
    assert strict(verdict.to_json())["people"][0]["score"] is None


def test_a_fault_of_the_program_is_told_and_stops_nothing(real_run: Path, portrait_file: Path) -> None:
    class Broken:
        name = "broken"

        def __call__(self, image: np.ndarray) -> list:
            raise RuntimeError("out of luck")

    verdict = Inspector(real_run, finder=Broken()).inspect(portrait_file)
    assert (verdict.verdict, verdict.reason) == ("error", "internal")
    assert "out of luck" in verdict.message


def test_a_broken_run_is_an_error_of_the_run(real_run: Path, portrait_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(real_run, folder)
    (folder / "calibration.json").write_text("{}")
    inspector = Inspector(folder)
    for _ in range(2):  # and again: a failed load is not remembered as a success
        with pytest.raises(InputError, match=r"calibration\.json"):
            inspector.inspect(portrait_file)
    with pytest.raises(InputError, match="nowhere"):
        Inspector(tmp_path / "nowhere").inspect(portrait_file)


def test_command_and_names_survive_spaces_and_quotes(inspector: Inspector, tmp_path: Path, portrait) -> None:
    import shlex

    path = save(tmp_path / "it's a $(touch x).png", portrait)
    verdict = inspector.inspect(path)
    assert shlex.split(verdict.command)[2] == str(path)
    assert verdict.file == str(path)


def test_a_file_in_object_storage(inspector: Inspector, portrait_file: Path, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/inspected/face.jpg", portrait_file.read_bytes())
    memory.pipe("/inspected/text.jpg", b"no picture")
    far, near = (inspector.inspect(p) for p in ("memory://inspected/face.jpg", portrait_file))
    assert (far.verdict, far.score, far.sha256) == (near.verdict, near.score, near.sha256)
    assert far.file == "memory://inspected/face.jpg" and far.media["bytes"] == near.media["bytes"]
    bad = inspector.inspect("memory://inspected/text.jpg")
    gone = inspector.inspect("memory://inspected/gone.jpg")
    assert (bad.verdict, gone.verdict, gone.reason) == ("error", "error", "missing")
    assert not any("/tmp" in one.message for one in (bad, gone))
