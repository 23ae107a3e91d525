"""One ONNX file says what the run folder says."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from unseen.cli import main
from unseen.detect.engine import load_engine
from unseen.detect.inspector import Inspector
from unseen.detect.one_file import export_run
from unseen.types import InputError


@pytest.fixture(scope="module")
def exported(real_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "tiny.onnx"
    assert main(["export", str(real_run), "--format", "onnx", "--out", str(path)]) == 0
    return path


def test_scores_are_torchs_in_any_batch(exported: Path, real_run: Path) -> None:
    ours, torch = load_engine(exported), load_engine(real_run, kind="torch")
    rng = np.random.default_rng(1)
    for count in (1, 3, 7):
        images = rng.integers(0, 256, (count, 96, 96, 3), np.uint8)
        assert ours.score(images) == pytest.approx(torch.score(images), abs=1e-4)
        heat, theirs = ours.heat(images), torch.heat(images)
        assert heat is not None and theirs is not None
        assert heat == pytest.approx(theirs, abs=1e-3)


def test_a_verdict_is_the_same_without_the_run_folder(
    exported: Path, real_run: Path, portrait_file: Path
) -> None:
    ours = Inspector(exported).inspect(portrait_file).to_dict()
    theirs = Inspector(real_run, engine="torch").inspect(portrait_file).to_dict()
    for key in ("verdict", "reason", "threshold", "inconclusive_from", "threshold_rule", "p_value"):
        assert ours[key] == theirs[key], key
    assert ours["score"] == pytest.approx(theirs["score"], abs=1e-4)
    assert ours["model"] == "tiny.onnx"
    assert ours["model_card"]["Exported from"] == "tiny"
    assert "random" in ours["model_card"]["Card"]


def test_it_stands_alone_and_other_programs_can_read_it(
    exported: Path, real_run: Path, tmp_path: Path
) -> None:
    alone = tmp_path / "moved.onnx"
    alone.write_bytes(exported.read_bytes())
    session = onnxruntime.InferenceSession(str(alone), providers=["CPUExecutionProvider"])
    (score, *_) = session.run(None, {"image": np.zeros((2, 3, 96, 96), np.float32)})
    assert score.shape == (2,)
    told = session.get_modelmeta().custom_metadata_map
    calibration = load_engine(real_run).calibration
    assert json.loads(told["thresholds"]) == calibration.thresholds
    assert float(told["threshold"]) == calibration.threshold()
    assert float(told["temperature"]) == calibration.temperature
    onnx.checker.check_model(str(alone))
    assert not [t for t in onnx.load(str(alone)).graph.initializer if t.external_data]


def test_int8_stores_bytes_and_gives_verdicts(real_run: Path, portrait_file: Path, tmp_path: Path) -> None:
    small = export_run(real_run, tmp_path / "small.onnx", int8=True)
    weights = [t for t in onnx.load(str(small.path)).graph.initializer if np.prod(t.dims) > 5000]
    assert {t.data_type for t in weights} == {onnx.TensorProto.UINT8}  # biases and scales stay floats
    assert 0 < small.difference < 5
    facts = Inspector(small.path).inspect(portrait_file).to_dict()
    assert facts["verdict"] == "real"
    assert "int8" in facts["model_card"]["Weights stored as"]


def test_what_is_refused(real_run: Path, exported: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing is overwritten"):
        export_run(real_run, exported)
    with pytest.raises(InputError, match=r"ends in \.onnx"):
        export_run(real_run, tmp_path / "model.pt")
    with pytest.raises(InputError, match="give the run folder"):
        load_engine(exported, kind="torch")
    foreign = onnx.load(str(exported))
    del foreign.metadata_props[:]
    onnx.save(foreign, str(tmp_path / "foreign.onnx"))
    with pytest.raises(InputError, match="was not written by `unseen export`"):
        load_engine(tmp_path / "foreign.onnx")
    (tmp_path / "noise.onnx").write_bytes(b"noise")
    with pytest.raises(InputError, match="cannot be loaded"):
        load_engine(tmp_path / "noise.onnx")
    evil = onnx.load(str(exported))
    for entry in evil.metadata_props:
        if entry.key == "unseen_transforms":
            entry.value = json.dumps([{"class_path": "os.system", "init_args": {"command": "true"}}])
    onnx.save(evil, str(tmp_path / "evil.onnx"))
    with pytest.raises(InputError, match="is no transform of unseen"):
        load_engine(tmp_path / "evil.onnx")


def test_a_difference_from_torch_is_an_error(
    real_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unseen.detect.one_file.TOLERANCE", -1.0)
    with pytest.raises(InputError, match="differ from torch's"):
        export_run(real_run, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_detect_by_words(
    exported: Path, portrait: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "face.png"
    assert cv2.imwrite(str(picture), portrait[..., ::-1])
    capsys.readouterr()
    assert main(["detect", str(picture), "--engine", "onnx", "--run", str(exported), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert (facts["verdict"], facts["model_card"]["Engine"]) == ("real", "onnx")
