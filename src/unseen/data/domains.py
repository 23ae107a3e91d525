"""Domains: 0 is every real face, 1 to k are the forgery methods in the order of their names."""

from __future__ import annotations

from collections.abc import Sequence

from unseen.types import FaceRecord, InputError, Label

__all__ = ["domain_of", "forgery_methods"]

_MEND = "fill the manifest's `method` column with who forged each fake"


def forgery_methods(records: Sequence[FaceRecord], made: Sequence[str] = ()) -> list[str]:
    """Return the names of the forgery methods, sorted; the first one is domain 1.

    Args:
        records: Manifest rows; what real ones say of their method does not matter.
        made: Methods of fakes that are made of these rows while training.

    Raises:
        InputError: A fake does not say who forged it, or calls itself real; names the first such row.

    Example:
        >>> fakes = [FaceRecord("a.png", Label.FAKE, method=name) for name in ("swap", "blend", "swap")]
        >>> forgery_methods(fakes, made=["sbi"])
        ['blend', 'sbi', 'swap']
    """
    nameless = [
        (row, record)
        for row, record in enumerate(records, 1)
        if record.label == Label.FAKE and (not record.method or record.method == "real")
    ]
    if nameless:
        row, record = nameless[0]
        raise InputError(
            f"row {row} ({record.path}): a fake with method {record.method!r}, and {len(nameless) - 1} more "
            f"like it; expected the forgery's name; {_MEND}",
            reason="no_method",
        )
    return sorted({str(r.method) for r in records if r.label == Label.FAKE} | set(made))


def domain_of(label: Label | None, record: FaceRecord, methods: Sequence[str]) -> int:
    """Return the domain of a face.

    Args:
        label: What is shown; without one, a record of method `real` is real.
        record: Its method says who forged it.
        methods: From `forgery_methods`.

    Raises:
        InputError: The record's method is none of them.
    """
    if label == Label.REAL or (label is None and record.method == "real"):
        return 0
    if record.method is None or record.method not in methods:
        raise InputError(
            f"{record.path}: method {record.method!r}; expected one of {', '.join(['real', *methods])}",
            reason="unknown_method",
        )
    return 1 + methods.index(record.method)
