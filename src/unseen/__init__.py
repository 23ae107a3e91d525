"""Detect deepfakes made by forgeries that the detector has never seen.

Importing this package is cheap: torch is loaded when the first network is.

Example:
    >>> import unseen
    >>> unseen.Label.FAKE
    <Label.FAKE: 1>
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unseen.types import FaceRecord, InputError, Label

if TYPE_CHECKING:
    from unseen.detect.inspector import Inspector
    from unseen.detect.verdict import Verdict

__all__ = ["FaceRecord", "InputError", "Inspector", "Label", "Verdict", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Inspector":
        from unseen.detect.inspector import Inspector

        return Inspector
    if name == "Verdict":
        from unseen.detect.verdict import Verdict

        return Verdict
    raise AttributeError(f"module 'unseen' has no attribute {name!r}")
