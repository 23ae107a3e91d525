"""What every part, head and transform must do: found by walking, tested the moment it exists."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial

import numpy as np
import pytest
import torch

from tests.train.faces import ellipse_landmarks
from unseen.data.transforms import Transform, for_evaluation
from unseen.methods.rffr import FaceInpainter, ResidualBackbone
from unseen.models.backbone import Backbone, TimmBackbone
from unseen.models.detector import Detector, Head, Part
from unseen.models.heads import BinaryHead
from unseen.types import FaceBatch, FaceRecord, FaceSample, Label

NETS = ["test_resnet", "test_convnext", "test_mambaout", "test_vit", "test_efficientnet", "residual"]
# What a constructor cannot do without; everything else has the paper's default.
ARGUMENTS: dict[str, dict[str, object]] = {"AlignFace": {"size": 96}}
ARGUMENTS["PrimaryRegionMask"] = {"regions": "nowhere"}  # samples here bring their map along
# 96 pixels make maps of 3 x 3, where the paper's 224 make 7 x 7.
ARGUMENTS["ArtifactDetector"] = {"grid": "adapt"}


def found(kind: type) -> list[type]:
    """Every public subclass of `kind` in the rooms that recipes are made of."""
    classes: set[type] = set()
    for room in ("unseen.models", "unseen.methods", "unseen.data"):
        package = importlib.import_module(room)
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{room}.{info.name}")
            classes |= {
                item
                for name, item in vars(module).items()
                if inspect.isclass(item) and issubclass(item, kind) and item is not kind and name[0] != "_"
            }
    return sorted(classes, key=lambda item: item.__name__)


HEADS, PARTS, TRANSFORMS = found(Head), found(Part), found(Transform)


def test_walking_finds_something() -> None:
    assert BinaryHead in HEADS
    assert {"AlignFace", "Flip", "JpegCompress"} <= {kind.__name__ for kind in TRANSFORMS}


def fillings() -> Iterator[tuple[str, type[Head], list[Callable[[Backbone], Part]]]]:
    for head in HEADS:
        yield head.__name__, head, []
    for part in PARTS:
        yield part.__name__, BinaryHead, [partial(part, **ARGUMENTS.get(part.__name__, {}))]


@pytest.fixture(scope="module", params=NETS)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    if request.param == "residual":
        inpainter = FaceInpainter("tiny", image_size=32, patch=4, blocks=2)
        return ResidualBackbone(inpainter, name="test_vit", blocks=2)
    size = 160 if request.param == "test_vit" else 96
    return TimmBackbone(request.param, image_size=size)


@pytest.fixture(params=list(fillings()), ids=lambda filling: filling[0])
def detector(request: pytest.FixtureRequest, backbone: Backbone) -> Detector:
    _, head, parts = request.param
    torch.manual_seed(0)
    return Detector(copy.deepcopy(backbone), head, parts)


def batch(size: int, label: tuple[int, ...] = (0, 1, 0, 1)) -> FaceBatch:
    image = torch.rand(len(label), 3, size, size, generator=torch.Generator().manual_seed(1))
    boxes = [torch.tensor([[8.0, 8.0, 40.0, 40.0]])[:kind] for kind in label]
    return FaceBatch(
        image,
        torch.tensor(label),
        domain=torch.tensor(label),
        regions=boxes,
        records=[FaceRecord(f"{i}.png", Label(kind)) for i, kind in enumerate(label)],
    )


def total(terms: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(terms.values())).sum()


def test_shapes(detector: Detector) -> None:
    output = detector(batch(detector.image_size).image)
    assert output.logits.ndim == 2 and len(output.logits) == 4
    assert output.score.shape == (4,) and len(output.aux) == len(detector.parts)
    assert output.features.map.shape[0] == 4 and output.features.map.ndim == 4
    assert output.features.vector.shape == (4, detector.backbone.dim)


def test_losses_are_finite_scalars_and_reach_every_weight(detector: Detector) -> None:
    detector.train()
    terms = detector.losses(batch(detector.image_size))
    assert terms and all(value.shape == () and torch.isfinite(value) for value in terms.values())
    total(terms).backward()
    left_out = [n for n, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert left_out == []


@pytest.mark.parametrize("label", [(0, 0), (1, 1)], ids=["only real", "only fake"])
def test_a_batch_of_one_class_is_finite_and_stays_on_the_graph(
    detector: Detector, label: tuple[int, ...]
) -> None:
    terms = detector.train().losses(batch(detector.image_size, label))
    assert all(torch.isfinite(value) for value in terms.values())
    total(terms).backward()
    gradients = [p.grad for p in detector.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_evaluation_is_deterministic_and_does_not_see_the_rest_of_the_batch(detector: Detector) -> None:
    detector.eval()
    image = batch(detector.image_size).image
    with torch.no_grad():
        first, again = detector(image).score, detector(image).score
        alone = torch.cat([detector(one[None]).score for one in image])
    assert torch.equal(first, again)
    torch.testing.assert_close(first, alone, rtol=1e-4, atol=1e-4)


def test_a_state_dict_carries_everything(detector: Detector) -> None:
    detector.train().losses(batch(detector.image_size))  # running statistics and memories move
    other = copy.deepcopy(detector)
    for value in other.state_dict().values():
        value.zero_()
    other.load_state_dict(detector.state_dict())
    image = batch(detector.image_size).image
    with torch.no_grad():
        assert torch.equal(detector.eval()(image).score, other.eval()(image).score)


def test_the_picture_is_not_written_to(detector: Detector) -> None:
    faces = batch(detector.image_size)
    before = faces.image.clone()
    detector.losses(faces)
    assert torch.equal(faces.image, before)


@pytest.mark.slow
def test_a_higher_score_means_a_more_likely_fake(detector: Detector) -> None:
    """A few steps on one batch must raise the fakes over the reals, whatever the head's logits mean."""
    faces = batch(detector.image_size)
    optimizer = torch.optim.Adam([p for p in detector.parameters() if p.requires_grad], lr=3e-3)
    detector.train()
    for _ in range(15):
        optimizer.zero_grad()
        total(detector.losses(faces)).backward()
        optimizer.step()
    # Means: a backbone that draws what it looks at gives a face another score each time.
    score = detector(faces.image).score
    assert score[faces.label == 1].mean() > score[faces.label == 0].mean()


def test_constructors_take_the_backbone_and_do_not_keep_it() -> None:
    for kind in [*HEADS, *PARTS]:
        made = kind(Backbone(8, 8, 32, mean=(0, 0, 0), std=(1, 1, 1)))
        assert not any(isinstance(module, Backbone) for module in made.modules()), kind


# --- transforms -------------------------------------------------------------------------------------------


@pytest.fixture
def sample() -> FaceSample:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (120, 100, 3), dtype=np.uint8)
    return FaceSample(
        image=image,
        label=Label.FAKE,
        record=FaceRecord("a.png", Label.FAKE),
        source=image[::-1].copy(),
        attention=rng.integers(0, 256, (120, 100), dtype=np.uint8),
        landmarks=ellipse_landmarks((50, 60), (30, 38)),
        regions=np.float32([[20, 30, 60, 70]]),
    )


def make(kind: Callable[..., Transform], **arguments: object) -> Transform:
    return kind(**{**ARGUMENTS.get(kind.__name__, {}), **arguments})  # type: ignore[attr-defined]


def always(kind: type[Transform]) -> Transform:
    """The transform, made to happen if it happens by chance."""
    return make(kind, p=1.0) if "p" in inspect.signature(kind).parameters else make(kind)


def same(first: FaceSample, second: FaceSample) -> bool:
    return all(
        np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b
        for a, b in ((getattr(first, f.name), getattr(second, f.name)) for f in fields(FaceSample))
    )


@pytest.mark.parametrize("kind", TRANSFORMS, ids=lambda kind: kind.__name__)
class TestTransform:
    def test_same_generator_same_result_and_input_untouched(
        self, kind: type[Transform], sample: FaceSample
    ) -> None:
        before = copy.deepcopy(sample)
        before.record = sample.record  # records are told apart by identity
        first = always(kind)(sample, np.random.default_rng(3))
        assert same(sample, before)
        assert same(first, always(kind)(sample, np.random.default_rng(3)))

    def test_result_is_a_sample_in_one_piece(self, kind: type[Transform], sample: FaceSample) -> None:
        result = always(kind)(sample, np.random.default_rng(3))
        assert result.image.dtype == np.uint8 and result.image.ndim == 3 and result.image.shape[2] == 3
        assert result.source is not None and result.source.shape == result.image.shape
        assert result.attention is not None and result.attention.shape == result.image.shape[:2]
        assert result.landmarks is not None and result.landmarks.dtype == np.float32
        assert result.landmarks.shape == (81, 2)
        assert result.label == sample.label and result.record is sample.record

    def test_evaluation_draws_nothing(self, kind: type[Transform], sample: FaceSample) -> None:
        for fixed in for_evaluation([always(kind)]):
            rng = np.random.default_rng(3)
            state = rng.bit_generator.state
            results = [fixed(sample, rng), fixed(sample, np.random.default_rng(4))]
            assert same(*results)
            assert rng.bit_generator.state == state or kind.__name__ == "Grayscale"

    def test_what_it_needs_is_a_field(self, kind: type[Transform], sample: FaceSample) -> None:
        assert set(kind.needs) <= {f.name for f in fields(FaceSample)}

    def test_it_changes_something(self, kind: type[Transform], sample: FaceSample) -> None:
        assert not same(sample, always(kind)(sample, np.random.default_rng(3)))
