"""The manifest: a table with a row for each face crop, kept beside the crops."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from unseen.data.columns import SCHEMA, fit_types, read_table, write_table
from unseen.data.places import address, exists
from unseen.types import LANDMARKS, FaceRecord, InputError, Label

__all__ = ["Manifest", "rows_of"]


def rows_of(records: Sequence[FaceRecord], split: str | None, name: str) -> list[FaceRecord]:
    """Return the records of one split; all of them for None.

    Args:
        records: Of a manifest, or of several.
        split: Such as `test`.
        name: What they are called in the error.

    Raises:
        InputError: There are none; it says which splits there are, or how rows get one.
    """
    found = [record for record in records if split in (None, record.split)]
    if found:
        return found
    there = ", ".join(sorted({record.split for record in records if record.split}))
    if not records:
        raise InputError(f"{name}: there is no crop in it", reason="empty")
    if not there:
        raise InputError(
            f"{name}: no rows of split '{split}', since no row has one; give it while preparing (`unseen "
            "prepare --split`, or folders named train, val and test with --layout folders), or divide by "
            "people with Manifest.split (docs/prepare.md)",
            reason="empty",
        )
    raise InputError(f"{name}: no rows of split '{split}' (there are: {there})", reason="empty")


class Manifest:
    """Rows about face crops. Columns are the fields of `FaceRecord`, plus any others, which are kept.

    Only `path` must be there. Paths are relative to the manifest's folder where they lie below it. A row
    whose `status` is something else than `kept` (say, a frame without a face) is a row and no record.
    In errors the first row is row 1; in a CSV file that is line 2.

    Args:
        frame: The table.
        root: The folder that relative paths start from.
        name: What the table is called in errors.

    Raises:
        InputError: If the column `path` is missing or a value does not fit its column.

    Example:
        >>> rows = Manifest(pl.DataFrame({"path": ["a.jpg", "b.jpg"], "label": [0, 1]}), Path("/crops"))
        >>> [record.path for record in rows.where(label=1).records()]
        ['/crops/b.jpg']
    """

    def __init__(self, frame: pl.DataFrame, root: Path, *, name: str = "manifest") -> None:
        self.frame = fit_types(frame, name)
        self.root, self.name = Path(root), name
        self._url: str | None = None  # of the folder, where it lies in object storage

    @classmethod
    def read(cls, path: Path | str) -> Manifest:
        """Read `.parquet` or `.csv`, from the file system or an address of object storage.

        Raises:
            InputError: If it is missing, damaged, or holds a value that does not fit; says in which row.
        """
        path = Path(path)
        read = cls(read_table(path), path.parent, name=path.name)
        url = address(path)
        read._url = None if url is None else url.rpartition("/")[0]
        return read

    @classmethod
    def from_records(cls, records: Iterable[FaceRecord], root: Path | str = ".") -> Manifest:
        """Make a manifest of records."""
        rows = list(records)
        columns: dict[str, list[Any]] = {name: [getattr(r, name) for r in rows] for name in SCHEMA}
        columns["label"] = [None if label is None else int(label) for label in columns["label"]]
        for name in ("landmarks", "box"):
            columns[name] = [
                None if v is None else np.asarray(v, np.float32).ravel().tolist() for v in columns[name]
            ]
        return cls(pl.DataFrame(columns, schema=SCHEMA), Path(root))

    def write(self, path: Path | str) -> None:
        """Write `.parquet` or `.csv`, whole or not at all, with paths as seen from its folder."""
        path = Path(path)
        there = path.parent.absolute()
        moved = [
            pl.Series(name, [self._from(there, text) for text in self.frame[name]], pl.String)
            for name in ("path", "source", "mask")
            if self.frame.schema.get(name) == pl.String
        ]
        write_table(self.frame.with_columns(moved), path)

    def __len__(self) -> int:
        return len(self.frame)

    def __iter__(self) -> Iterator[FaceRecord]:
        return iter(self.records())

    def where(self, **wanted: Any) -> Manifest:
        """Return the rows whose columns are as wanted.

        Args:
            **wanted: For a column a value, several values (list, tuple, set), None for an empty cell, or a
                function of the value that says whether to keep the row.

        Raises:
            InputError: If there is no such column.
        """
        frame = self.frame
        for column, want in wanted.items():
            self._require(column)
            if callable(want):
                keep = pl.Series([bool(want(value)) for value in frame[column]], dtype=pl.Boolean)
                frame = frame.filter(keep)
            elif isinstance(want, list | tuple | set | frozenset):
                frame = frame.filter(pl.col(column).is_in(list(want), nulls_equal=True))
            else:
                frame = frame.filter(pl.col(column).eq_missing(pl.lit(want)))
        return self._with(frame)

    def split(self, fractions: Mapping[str, float] | None = None, seed: int = 0) -> Manifest:
        """Return the rows with a new `split`, by whole people.

        Rows of one `identity` stay together, and with them rows whose `donor` it is; a row without an
        identity goes with its video, and without a video alone.

        Args:
            fractions: Share of the people for each split, 80 % `train`, 10 % `val`, 10 % `test` if None.
            seed: The same seed gives the same split, in whatever order the rows are.

        Raises:
            InputError: If shares are not positive numbers, or there are fewer people than splits.
        """
        fractions = {"train": 0.8, "val": 0.1, "test": 0.1} if fractions is None else dict(fractions)
        if not fractions or min(fractions.values()) <= 0:
            raise InputError(f"{self.name}: split {fractions}; expected positive shares")
        groups = self._people()
        names = sorted(set(groups))
        if len(names) < len(fractions):
            raise InputError(
                f"{self.name}: {len(names)} people for {len(fractions)} splits; "
                "add people or ask for fewer splits",
                reason="few_people",
            )
        order = np.random.default_rng(seed).permutation(len(names))
        total = sum(fractions.values())
        counts = {name: max(1, int(share / total * len(names))) for name, share in fractions.items()}
        while sum(counts.values()) != len(names):
            step = 1 if sum(counts.values()) < len(names) else -1
            able = [name for name in counts if counts[name] + step > 0]
            # The split furthest from its share gives or takes.
            best = max(able, key=lambda n: step * (fractions[n] / total * len(names) - counts[n]))
            counts[best] += step
        parts = np.repeat(list(counts), list(counts.values()))
        of = {names[person]: str(part) for person, part in zip(order, parts, strict=True)}
        frame = self.frame.with_columns(pl.Series("split", [of[group] for group in groups], pl.String))
        return self._with(frame)

    def check(self, *, needs: Sequence[str] = ("label",), files: bool = True) -> None:
        """Look for what would go wrong later.

        Args:
            needs: Columns that must be there, and filled in every kept row.
            files: Look whether the crops exist.

        Raises:
            InputError: Names file, rows and mend; up to five findings, and how many there are.
        """
        for column in needs:
            self._require(column)
        found = sorted(self._findings(needs, files))
        if found:
            lines = [f"{self.name} row {row}: {text}" for row, _, text in found[:5]]
            if len(found) > 5:
                lines.append(f"and {len(found) - 5} more")
            raise InputError("\n".join(lines), reason=found[0][1])

    def records(self) -> list[FaceRecord]:
        """Return the kept rows as records, with absolute paths.

        Raises:
            InputError: If a label is neither 0 nor 1, or landmarks or box have another length.
        """
        frame = self._kept()
        numbers = [int(row) for row in frame["row"]]
        columns: dict[str, list[Any]] = {
            name: frame[name].to_list()
            for name in SCHEMA
            if name in frame.columns and name not in ("landmarks", "box")
        }
        columns["label"] = [
            self._label(v, n) for v, n in zip(columns.get("label", []), numbers, strict=False)
        ]
        for name in ("path", "source"):
            if name in columns:
                columns[name] = [None if v is None else self.absolute(v) for v in columns[name]]
        for name, length, shape in (("landmarks", 2 * LANDMARKS, (-1, 2)), ("box", 4, (-1,))):
            if name in frame.columns:
                columns[name] = [
                    None if v is None else self._floats(name, v, length, n).reshape(shape)
                    for v, n in zip(frame[name], numbers, strict=True)
                ]
        # An empty cell is the field's default.
        fields = [(name, values) for name, values in columns.items() if values]
        return [
            FaceRecord(**{name: values[i] for name, values in fields if values[i] is not None})
            for i in range(len(frame))
        ]

    def paths(self, column: str) -> list[str | None]:
        """Return where a column of paths, such as `mask`, leads for each of `records()`.

        None where a row, or the whole table, has none.
        """
        frame = self._kept()
        if frame.schema.get(column) != pl.String:
            return [None] * len(frame)
        return [self.absolute(text) if text else None for text in frame[column]]

    def _with(self, frame: pl.DataFrame) -> Manifest:
        made = Manifest(frame, self.root, name=self.name)
        made._url = self._url
        return made

    def _kept(self) -> pl.DataFrame:
        frame = self.frame.with_row_index("row", 1)
        if "status" in frame.columns:
            frame = frame.filter(pl.col("status").is_null() | (pl.col("status") == "kept"))
        return frame

    def _findings(self, needs: Sequence[str], files: bool) -> Iterator[tuple[int, str, str]]:
        frame = self._kept()
        first: dict[str, int] = {}
        for row, path in frame.select("row", "path").rows():
            if not path:
                yield row, "no_path", "no path of a crop"
                continue
            if path in first:
                yield row, "duplicate", f"path {path} again, as in row {first[path]}; remove one of them"
                continue
            first[path] = row
            if files and not exists(self.absolute(path)):
                yield (
                    row,
                    "missing",
                    f"no file {self.absolute(path)}; was the manifest moved without its crops?",
                )
        for column in needs:
            for row in frame.filter(pl.col(column).is_null())["row"]:
                expected = "0 (real) or 1 (fake)" if column == "label" else "a value"
                yield row, f"no_{column}", f"no {column}; expected {expected}"
        if "label" in frame.columns:
            for row, label in frame.filter(~pl.col("label").is_in([0, 1])).select("row", "label").rows():
                yield row, "bad_label", f"label {label}; expected 0 (real) or 1 (fake)"
        for column, length in (("landmarks", 2 * LANDMARKS), ("box", 4)):
            if column in frame.columns:
                lengths = frame.select("row", pl.col(column).list.len().alias("n"))
                for row, n in lengths.filter(pl.col("n") != length).rows():
                    yield row, f"bad_{column}", f"{column} of {n} numbers; expected {length}"
        yield from self._leaks(frame)

    def _leaks(self, frame: pl.DataFrame) -> Iterator[tuple[int, str, str]]:
        """Find people who are in more than one split."""
        if not {"identity", "split"} <= set(frame.columns):
            return
        seen: dict[str, tuple[str, int]] = {}
        rows = frame.drop_nulls(["identity", "split"]).unique(["identity", "split"], keep="first")
        for row, identity, split in rows.sort("row").select("row", "identity", "split").rows():
            part, before = seen.setdefault(identity, (split, row))
            if part != split:
                yield (
                    row,
                    "leak",
                    f"identity {identity} in split {split}, but in {part} in row {before}; "
                    "`split` keeps people together",
                )

    def _people(self) -> list[str]:
        """Return for each row the name of its group: people who share a picture are in one."""
        empty: list[str | None] = [None] * len(self.frame)
        identity, donor, video = (
            self.frame[name].to_list() if name in self.frame.columns else empty
            for name in ("identity", "donor", "video")
        )
        dataset = self.frame["dataset"].to_list() if "dataset" in self.frame.columns else empty
        own = [
            f"person {who}" if who else f"video {d} {v}" if v else f"file {path}"
            for who, d, v, path in zip(identity, dataset, video, self.frame["path"], strict=True)
        ]
        parent = {name: name for name in own}

        def root(name: str) -> str:
            while parent.setdefault(name, name) != name:
                parent[name] = parent[parent[name]]
                name = parent[name]
            return name

        for name, other in zip(own, donor, strict=True):
            if other:
                a, b = sorted((root(name), root(f"person {other}")))
                parent[b] = a
        return [root(name) for name in own]

    def _require(self, column: str) -> None:
        if column not in self.frame.columns:
            near = difflib.get_close_matches(column, self.frame.columns, n=1)
            raise InputError(
                f"{self.name}: no column {column!r}"
                + (f", did you mean {near[0]!r}?" if near else "")
                + f"; columns are {', '.join(self.frame.columns)}",
                reason="columns",
            )

    def absolute(self, text: str) -> str:
        """Return where a path of this table leads."""
        if self._url is not None:
            return text if address(text) else f"{self._url}/{text}"
        return text if address(text) else str(self.root.absolute() / text)

    def _from(self, there: Path, text: str | None) -> str | None:
        """Return a path as seen from a folder: relative if below it."""
        if not text:
            return text
        if address(text) or self._url is not None:
            return self.absolute(text)
        path = Path(self.absolute(text))
        return str(PurePosixPath(path.relative_to(there))) if path.is_relative_to(there) else str(path)

    def _label(self, value: int | None, row: int) -> Label | None:
        if value is None:
            return None
        if value not in (0, 1):
            raise InputError(
                f"{self.name} row {row}: label {value}; expected 0 (real) or 1 (fake)", reason="bad_label"
            )
        return Label(value)

    def _floats(self, name: str, values: pl.Series, length: int, row: int) -> NDArray[np.float32]:
        if len(values) != length:
            raise InputError(
                f"{self.name} row {row}: {name} of {len(values)} numbers; expected {length}",
                reason=f"bad_{name}",
            )
        return values.to_numpy().astype(np.float32)
