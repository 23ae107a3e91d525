"""One name for each data set and forgery, whatever the spelling."""

from __future__ import annotations

import re

import pytest

from unseen.data.names import METHODS, SETS, method_name, near_set, set_name


@pytest.mark.parametrize(
    ("spelt", "ours"),
    [
        ("FaceForensics++", "ff++"),
        ("ff++", "ff++"),
        ("ffpp_c40", "ff++"),
        ("FF++ raw", "ff++"),
        ("Celeb-DF", "celeb-df-v2"),
        ("Celeb-DF-v1", "celeb-df-v1"),
        ("CelebDFv2", "celeb-df-v2"),
        ("DFDC", "dfdc"),
        ("DFDCP", "dfdc-preview"),
        ("DF-1.0", "deeperforensics-1.0"),
        ("DeepFakeDetection_c23", "dfd"),
        ("my phone", None),
        ("", None),
    ],
)
def test_spellings_of_data_sets(spelt: str, ours: str | None) -> None:
    assert set_name(spelt) == ours


@pytest.mark.parametrize(
    ("spelt", "ours"),
    [
        ("FF-DF", "deepfakes"),
        ("FSW", "faceswap"),
        ("FSh", "faceshifter"),
        ("NeuralTextures", "neuraltextures"),
    ],
)
def test_spellings_of_methods(spelt: str, ours: str) -> None:
    assert method_name(spelt) == ours


def test_an_unknown_method_stays_as_it_is() -> None:
    assert method_name("My Swap 2") == "My Swap 2"


def test_no_spelling_means_two_things() -> None:
    for names in (SETS, METHODS):
        owners: dict[str, set[str]] = {}
        for ours, others in names.items():
            for spelling in (ours, *others):
                bare = re.sub(r"[^a-z0-9]", "", spelling.lower().replace("+", "p"))
                owners.setdefault(bare, set()).add(ours)
        assert not {bare: who for bare, who in owners.items() if len(who) > 1}
    assert all(set_name(ours) == ours for ours in SETS)
    assert all(method_name(ours) == ours for ours in METHODS)


def test_the_nearest_name_is_offered() -> None:
    assert near_set("celebdf2")[0] == "celeb-df-v2"
    assert near_set("qqqqq") == []
