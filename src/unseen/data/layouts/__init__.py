"""Public data sets as they lie on disk, one function each: a folder to rows of a list.

Only names are looked at, never pixels. What a set's own lists say of a split is taken from them; what is not
certain is said in the function's docstring and no count is expected of it.

Example:
    >>> sorted(LAYOUTS)[:4]
    ['celeb-df-v1', 'celeb-df-v2', 'deeperforensics-1.0', 'df40']
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from unseen.data.layouts.celeb import celeb_df_v1, celeb_df_v2, uadfv
from unseen.data.layouts.dfdc import dfdc, dfdc_preview
from unseen.data.layouts.faces import df40, dffd, ffiw, folders, forgerynet_real, lfw, wilddeepfake
from unseen.data.layouts.ffpp import deeperforensics, dfd, faceshifter, ffpp
from unseen.data.layouts.listing import Count, Listing, ListRow
from unseen.data.names import set_name
from unseen.types import InputError

__all__ = ["LAYOUTS", "Count", "ListRow", "Listing", "list_dataset"]

LAYOUTS: dict[str, Callable[..., Listing]] = {
    "ff++": ffpp,
    "faceshifter": faceshifter,
    "dfd": dfd,
    "celeb-df-v1": celeb_df_v1,
    "celeb-df-v2": celeb_df_v2,
    "dfdc": dfdc,
    "dfdc-preview": dfdc_preview,
    "uadfv": uadfv,
    "deeperforensics-1.0": deeperforensics,
    "wilddeepfake": wilddeepfake,
    "ffiw": ffiw,
    "df40": df40,
    "dffd": dffd,
    "forgerynet": forgerynet_real,
    "lfw": lfw,
    "folders": folders,
}


def list_dataset(name: str, root: Path | str, **options: str | None) -> Listing:
    """List a data set.

    Args:
        name: A key of `LAYOUTS`, or any spelling of it that `unseen.data.names` knows.
        root: Its folder.
        **options: `compression`, `splits` or `variant`, for the layouts that have them; None is the default.

    Raises:
        InputError: Unknown name or option, or the folder is something else; says what is missing and where
            one gets it.
    """
    layout = LAYOUTS.get(name) or LAYOUTS.get(set_name(name) or "")
    if layout is None:
        raise InputError(f"layout {name!r}; expected one of {', '.join(LAYOUTS)}", reason="usage")
    root = Path(root)
    if not root.is_dir():
        kind = "is a file" if root.exists() else "does not exist"
        raise InputError(f"{root}: {kind}; expected the folder of {name}", reason="missing")
    given = {key: value for key, value in options.items() if value is not None}
    known = list(inspect.signature(layout).parameters)[1:]
    for key in given:
        if key not in known:
            has = f"has only {', '.join(known)}" if known else "has no options"
            raise InputError(f"layout {name}: no option {key!r}; it {has}", reason="usage")
    listing = layout(root, **given)
    listing.rows.sort(key=lambda row: (row.dataset, row.video, row.frame or 0))
    twice = Counter((row.dataset, row.video, row.frame) for row in listing.rows)
    for (dataset, video, frame), number in twice.items():
        if number > 1:
            paths = [
                str(r.path) for r in listing.rows if (r.dataset, r.video, r.frame) == (dataset, video, frame)
            ]
            raise InputError(
                f"{root}: {number} files are video {video!r} of {dataset}: {', '.join(paths[:3])}; "
                "move the copies away",
                reason="duplicate",
            )
    return listing
