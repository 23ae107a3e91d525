from __future__ import annotations

import pytest

from unseen.data.domains import domain_of, forgery_methods
from unseen.types import FaceRecord, InputError, Label


def row(method: str | None, label: Label | None = Label.FAKE) -> FaceRecord:
    return FaceRecord(f"{method}.png", label, method=method)


def test_real_is_zero_and_methods_are_in_the_order_of_their_names() -> None:
    records = [row("swap"), row("youtube", Label.REAL), row("blend"), row("real", Label.REAL), row("swap")]
    methods = forgery_methods(records)
    assert methods == ["blend", "swap"]
    assert [domain_of(r.label, r, methods) for r in records] == [2, 0, 1, 0, 2]
    assert domain_of(None, row("real", None), methods) == 0
    # What is shown counts: a fake that was made of a real row.
    assert domain_of(Label.FAKE, row("swap", Label.REAL), methods) == 2


def test_a_name_before_real_in_the_alphabet_does_not_take_its_place() -> None:
    assert forgery_methods([row("a"), row("real", Label.REAL)], made=["zzz", "a"]) == ["a", "zzz"]


@pytest.mark.parametrize("method", [None, "", "real"])
def test_a_fake_without_a_name_is_named(method: str | None) -> None:
    records = [row("real", Label.REAL), row("swap"), row(method), row(method)]
    with pytest.raises(
        InputError, match=rf"row 3 \({method}\.png\).*1 more like it.*`method` column"
    ) as error:
        forgery_methods(records)
    assert error.value.reason == "no_method"


def test_a_method_that_was_not_learned_has_no_domain() -> None:
    with pytest.raises(InputError, match=r"new\.png: method 'new'; expected one of real, swap") as error:
        domain_of(Label.FAKE, row("new"), ["swap"])
    assert error.value.reason == "unknown_method"
