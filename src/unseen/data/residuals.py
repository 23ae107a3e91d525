"""Residuals of aligned faces on disk, so that a frozen inpainter looks at each picture once (RFFR).

A picture is found by the hash of its pixels, so that other alignments, crops that were made anew and
augmented pictures cannot be mistaken for the stored one. Rows lie in shards: `shard_00000.npy` holds the
numbers without the frame, which is zero, and `shard_00000.keys`, written after it, 16 bytes a row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unseen.types import InputError

__all__ = ["ResidualStore", "ResidualWriter", "picture_key"]

HEADER = "header.json"
_FORMAT, _KEY = 1, 16
_MEND = "make them with `unseen prepare residuals MANIFEST --inpainter RUN --out DIR`"


def picture_key(picture: NDArray[np.uint8]) -> bytes:
    """Return 16 bytes that tell a picture from all others. Shape: (3, H, W)."""
    return hashlib.blake2b(np.ascontiguousarray(picture).data, digest_size=_KEY).digest()


class ResidualStore:
    """Reads what `ResidualWriter` wrote; may be handed to worker processes.

    Args:
        folder: Where it lies.

    Raises:
        InputError: It is no such folder, or damaged.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.header = _read_header(self.folder)
        self.frame = int(self.header["frame"])
        self._places: dict[bytes, tuple[int, int]] = {}
        self._paths: list[Path] = []
        for keys in sorted(self.folder.glob("shard_*.keys")):
            data = keys.read_bytes()
            rows = _open(keys.with_suffix(".npy"))
            if len(data) != _KEY * len(rows):
                raise InputError(
                    f"{keys}: {len(data)} bytes for {len(rows)} rows; remove this shard and {_MEND}",
                    reason="unreadable",
                )
            for row in range(len(rows)):
                self._places[data[row * _KEY : (row + 1) * _KEY]] = (len(self._paths), row)
            self._paths.append(keys.with_suffix(".npy"))
        self._opened: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, key: bytes) -> bool:
        return key in self._places

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}  # each process maps the files itself

    def of(self, pictures: NDArray[np.uint8], names: Sequence[str] = ()) -> NDArray[Any]:
        """Return the residuals of aligned pictures.

        Args:
            pictures: As the network gets them, not normalised.
            names: Of the files, for errors.

        Shape:
            (B, 3, H, W) uint8 -> (B, 3, H, W) int8 in steps of 1 / 127, or float16.

        Raises:
            InputError: A picture is not in the store.
        """
        found = np.zeros(pictures.shape, self.header["dtype"])
        inner = slice(self.frame, -self.frame or None)
        for number, picture in enumerate(pictures):
            place = self._places.get(picture_key(picture))
            if place is None:
                what = names[number] if number < len(names) else f"picture {number} of the batch"
                raise InputError(
                    f"{self.folder}: holds no residual of {what} as it is aligned here; {_MEND}, with this "
                    "manifest and the recipe's AlignFace",
                    reason="missing",
                )
            shard, row = place
            if shard not in self._opened:
                self._opened[shard] = _open(self._paths[shard])
            found[number, :, inner, inner] = self._opened[shard][row]
        return found

    def check(self, made_by: Mapping[str, Any]) -> None:
        """Compare what the residuals were made by with what would make them now.

        Raises:
            InputError: They differ; says in what.
        """
        for name, ours in made_by.items():
            theirs = self.header["made_by"].get(name)
            if theirs != ours:
                what = "another inpainter" if name == "inpainter" else f"another {name}"
                raise InputError(
                    f"{self.folder}: was made by {what} ({_short(theirs)}; expected {_short(ours)}); {_MEND}",
                    reason="other_inpainter" if name == "inpainter" else "other_residuals",
                )

    def check_network(self, network: object, word: str = "data.residuals") -> None:
        """Refuse residuals that a network would not have made itself.

        Args:
            network: Its `backbone` says what its residuals depend on (`recipe_of_residuals`).
            word: What the user called the store.

        Raises:
            InputError: They were made by another inpainter or otherwise, or the network has no use for any.
        """
        backbone = getattr(network, "backbone", None)
        if getattr(backbone, "residual_branch", None) is None:
            raise InputError(
                f"{word}: {self.folder}: this run's network looks at no residual", reason="usage"
            )
        made_by = backbone.recipe_of_residuals()  # type: ignore[union-attr]
        if made_by["residual"] == "high_pass":
            raise InputError(
                f"{word}: a filter's residual is cheap and is not stored; leave it out", reason="usage"
            )
        self.check(made_by)


class ResidualWriter:
    """Writes shards; a killed run loses only the rows of the shard that was not full yet.

    Args:
        folder: Made if it is not there; a store that is there is continued if it was made alike.
        made_by: See `ResidualStore.check`.
        frame: Pixels on each side that are not kept.
        dtype: `int8` for residuals in [-1, 1], in steps of 1 / 127; `float16` for any.
        rows: Rows of a shard.

    Raises:
        InputError: The folder holds other residuals.
    """

    def __init__(
        self,
        folder: Path | str,
        made_by: Mapping[str, Any],
        *,
        frame: int,
        dtype: Literal["int8", "float16"] = "int8",
        rows: int = 256,
    ) -> None:
        self.folder, self.dtype, self.frame, self.rows = Path(folder), dtype, frame, rows
        if dtype == "int8" and not made_by.get("clamp", False):
            raise InputError("residuals that are not clamped do not fit int8; store them as float16")
        header = {"format": _FORMAT, "dtype": dtype, "frame": frame, "made_by": dict(made_by)}
        self.folder.mkdir(parents=True, exist_ok=True)
        self.known: set[bytes] = set()
        if (self.folder / HEADER).is_file():
            before = ResidualStore(self.folder)
            before.check(made_by)
            if before.header != header:
                raise InputError(f"{self.folder}: holds residuals as {before.header['dtype']}, not {dtype}")
            self.known = set(before._places)
        else:
            _write(self.folder / HEADER, json.dumps(header, indent=1).encode())
        self._keys: list[bytes] = []
        self._rows: list[NDArray[Any]] = []

    def add(self, key: bytes, residual: NDArray[np.floating[Any]]) -> None:
        """Keep one picture's residual. Shape: (3, H, W), the frame included."""
        if key in self.known:
            return
        inner = slice(self.frame, -self.frame or None)
        value = residual[:, inner, inner]
        stored = np.rint(np.clip(value, -1, 1) * 127) if self.dtype == "int8" else value
        self.known.add(key)
        self._keys.append(key)
        self._rows.append(stored.astype(self.dtype))
        if len(self._keys) >= self.rows:
            self.flush()

    def flush(self) -> None:
        """Write what is waiting as a shard of its own."""
        if not self._keys:
            return
        number = len(list(self.folder.glob("shard_*.keys")))
        path = self.folder / f"shard_{number:05d}.npy"
        fresh = path.with_suffix(".new.npy")
        np.save(fresh, np.stack(self._rows))
        fresh.replace(path)
        _write(path.with_suffix(".keys"), b"".join(self._keys))
        self._keys, self._rows = [], []


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / HEADER
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
        good = header["format"] == _FORMAT and header["dtype"] in ("int8", "float16")
        good = good and isinstance(header["made_by"], dict) and isinstance(header["frame"], int)
    except FileNotFoundError:
        raise InputError(
            f"{path}: missing; this is no folder of residuals; {_MEND}", reason="missing"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error}); {_MEND}", reason="unreadable") from error
    if not good:
        raise InputError(f"{path}: of another version or damaged; {_MEND}", reason="unreadable")
    return dict(header)


def _open(path: Path) -> NDArray[Any]:
    try:
        rows: NDArray[Any] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {_MEND}", reason="unreadable") from error
    return rows


def _write(path: Path, data: bytes) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
