"""A manifest's columns: their types, and Parquet and CSV files of them that come back exactly as they were.

CSV has no types. Numbers are written in the shortest form that reads back to the same bits, lists as JSON
text; a value that does not fit its column is an error with its row.
"""

from __future__ import annotations

import json
import os
from io import BytesIO
from pathlib import Path

import polars as pl

from unseen.data.places import address, read_place
from unseen.types import InputError

__all__ = ["SCHEMA", "fit_types", "read_table", "write_table"]

_FLOATS = pl.List(pl.Float32)

SCHEMA: dict[str, pl.DataType] = {  # the fields of a FaceRecord
    "path": pl.String(),
    "label": pl.Int8(),
    "dataset": pl.String(),
    "video": pl.String(),
    "frame": pl.Int64(),
    "time": pl.Float64(),
    "method": pl.String(),
    "split": pl.String(),
    "identity": pl.String(),
    "source": pl.String(),
    "landmarks": _FLOATS,
    "box": _FLOATS,
}
# Further columns that `prepare` and `forge` write: an identity such as "007" must stay text.
_FURTHER: dict[str, pl.DataType] = {
    **dict.fromkeys(("status", "reason", "note", "donor", "file", "sha256"), pl.String()),
    **dict.fromkeys(("face_score", "face_size", "blur", "origin_x", "origin_y", "scale"), pl.Float64()),
    **dict.fromkeys(("person", "frame_width", "frame_height"), pl.Int64()),
}


def read_table(path: Path) -> pl.DataFrame:
    """Read a Parquet or CSV file, by its ending.

    Raises:
        InputError: If it is missing, damaged, of another kind, or a value does not fit its column.
    """
    url = address(path)
    if url is None and path.is_dir():
        inside = path / "manifest.parquet"
        mend = f"give {inside}" if inside.exists() else f"`unseen prepare {path} --out CROPS` makes one"
        raise InputError(f"{path}: a folder; expected a .parquet or .csv file; {mend}", reason="not_a_file")
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise InputError(f"{path}: a manifest ends in .parquet or .csv", reason="format")
    if url is not None:
        return _read(BytesIO(read_place(url)), path)
    if not path.exists():
        raise InputError(f"{path}: no such manifest; `unseen prepare` makes one", reason="missing")
    return _read(path, path)


def _read(source: Path | BytesIO, path: Path) -> pl.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            frame = pl.read_parquet(source, glob=False)
        else:
            frame = pl.read_csv(source, infer_schema=False, glob=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        said = str(error).strip().splitlines()
        raise InputError(
            f"{path}: not a readable manifest ({said[0] if said else type(error).__name__})",
            reason="unreadable",
        ) from error
    return fit_types(frame, path.name, guess=path.suffix.lower() == ".csv")


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write a Parquet or CSV file, by its ending; whole or not at all."""
    if path.suffix.lower() not in (".parquet", ".csv"):
        raise InputError(f"{path}: a manifest ends in .parquet or .csv", reason="format")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        if path.suffix.lower() == ".parquet":
            frame.write_parquet(partial)
        else:
            frame.with_columns(_as_json(frame, name) for name in _lists(frame)).write_csv(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def fit_types(frame: pl.DataFrame, name: str, *, guess: bool = False) -> pl.DataFrame:
    """Return the frame with known columns in their types.

    Args:
        frame: Any table with a `path` column.
        name: What it is called in an error.
        guess: Bring text in unknown columns to numbers where that loses nothing.

    Raises:
        InputError: If `path` is missing or a value does not fit; says in which row.
    """
    if "path" not in frame.columns:
        raise InputError(
            f"{name}: no column 'path'; columns are {', '.join(frame.columns) or 'none'}", reason="columns"
        )
    known = SCHEMA | _FURTHER
    columns = []
    for column in frame.get_columns():
        wanted = known.get(column.name)
        if wanted is not None:
            columns.append(_fit(column, wanted, name))
        else:
            columns.append(_guess(column) if guess else column)
    return pl.DataFrame(columns)


def _fit(column: pl.Series, wanted: pl.DataType, name: str) -> pl.Series:
    if column.dtype == wanted:
        return column
    if wanted == _FLOATS and column.dtype == pl.String:
        return _from_json(column, name)
    try:
        fitted = column.cast(wanted, strict=False)
    except pl.exceptions.PolarsError:
        raise InputError(
            f"{name}: column {column.name!r} is {column.dtype}; expected {wanted}", reason="columns"
        ) from None
    strange = fitted.is_null()
    if wanted.is_integer() and column.dtype.is_float():  # a cast would cut 0.5 to 0
        strange |= fitted != column
    bad = (strange & column.is_not_null()).arg_true()
    if len(bad):
        row = int(bad[0])
        expected = "0 (real) or 1 (fake)" if column.name == "label" else str(wanted)
        raise InputError(
            f"{name} row {row + 1}: {column.name} {column[row]!r}; expected {expected}", reason="bad_value"
        )
    return fitted


def _guess(column: pl.Series) -> pl.Series:
    if column.dtype != pl.String or column.null_count() == len(column):
        return column
    for dtype in (pl.Int64, pl.Float64):
        # "007" and "1e5" would come back as other text: they are no numbers here.
        fitted = column.cast(dtype, strict=False)
        if fitted.null_count() == column.null_count() and (fitted.cast(pl.String) == column).all():
            return fitted
    if column.is_in(["true", "false"]).all():
        return column == "true"
    return column


def _lists(frame: pl.DataFrame) -> list[str]:
    return [name for name, dtype in frame.schema.items() if isinstance(dtype, pl.List)]


def _as_json(frame: pl.DataFrame, name: str) -> pl.Expr:
    """Write a list as JSON, NaN as null."""
    number = pl.element().cast(pl.String)
    usual = number.is_null() | (number == "NaN")
    texts = pl.col(name).list.eval(pl.when(usual).then(pl.lit("null")).otherwise(number)).list.join(",")
    return pl.when(pl.col(name).is_null()).then(None).otherwise("[" + texts + "]").alias(name)


def _from_json(column: pl.Series, name: str) -> pl.Series:
    try:
        numbers = column.str.json_decode(pl.List(pl.Float64))
    except pl.exceptions.PolarsError:
        row = next(i for i, text in enumerate(column) if not _is_numbers(text))
        text = str(column[row])
        raise InputError(
            f"{name} row {row + 1}: {column.name} {text[:40]!r}; expected a JSON list of numbers",
            reason="bad_value",
        ) from None
    frame = numbers.cast(_FLOATS).to_frame()
    return frame.select(pl.col(column.name).list.eval(pl.element().fill_null(float("nan")))).to_series()


def _is_numbers(text: str | None) -> bool:
    try:
        value = json.loads(text) if text is not None else []
    except ValueError:
        return False
    return isinstance(value, list) and all(isinstance(x, int | float) or x is None for x in value)
