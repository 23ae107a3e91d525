"""Any image or video file to upright RGB frames with time stamps.

The format is decided by content, never by the file's name. Whatever a file holds, the only exception is
`InputError`; trouble that leaves something to look at becomes a sentence in `Media.warnings`.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unseen.media.frames import Frame, Limits, spread
from unseen.media.pictures import Picture, probe_picture, read_animation, read_still
from unseen.media.video import VideoIndex, index_video, read_video
from unseen.types import InputError

__all__ = ["Frame", "Limits", "Media", "open_media"]


@dataclass
class Media:
    """A file that can be looked at; nothing stays open between calls.

    Width and height are in pixels after rotation, duration in seconds. An animated picture is a video.
    `frame_count` counts what the file holds, not what its header promises.
    """

    path: Path
    kind: Literal["image", "video"]
    width: int
    height: int
    duration: float
    fps: float | None  # mean frames a second; None for an image
    frame_count: int | None
    container: str
    codec: str
    sha256: str
    warnings: list[str] = field(default_factory=list)
    _source: Picture | VideoIndex | None = field(default=None, repr=False, compare=False)

    def frames(self, count: int = 32) -> Iterator[Frame]:
        """Yield frames at equal intervals by time stamp, each from the middle of its interval.

        An image yields one frame. Frames that cannot be decoded are left out with a sentence in `warnings`.
        One frame is in memory at a time, however long the video.

        Args:
            count: How many intervals; fewer frames come where one stays for several.

        Raises:
            InputError: Not one frame can be decoded (`no_frames`, `unreadable`), or count is below 1.
        """
        if count < 1:
            raise InputError(f"frames(count={count}): expected at least 1")
        if isinstance(self._source, VideoIndex):
            wanted = spread(self._source.times, self._source.duration, count)
            self.warnings += _sparse(self._source.times, len(wanted), count)
            stream = read_video(self.path, self._source, wanted, self.warnings)
        elif isinstance(self._source, Picture) and self._source.times:
            times = np.array(self._source.times)
            wanted = spread(times, self._source.duration, count)
            self.warnings += _sparse(times, len(wanted), count)
            stream = read_animation(self.path, wanted, self._source.times, self.warnings)
        else:
            stream = iter([read_still(self.path, self.warnings)])
        empty = True
        for frame in stream:
            empty = False
            yield frame
        if empty:
            raise InputError(
                f"{self.path.name}: not one frame can be decoded; the file is damaged", reason="no_frames"
            )


def open_media(path: str | Path, limits: Limits | None = None, *, threads: int | None = None) -> Media:
    """Look into a file: what it is, how large and how long.

    Args:
        path: The file.
        limits: What it may ask of this machine.
        threads: Of the video decoder; None lets FFmpeg choose. Use 1 in worker processes.

    Raises:
        InputError: With reason `missing`, `not_a_file`, `permission`, `empty`, `unreadable`, `too_large` or
            `no_frames`.
    """
    path = Path(path)
    limits = limits or Limits()
    digest = _check_file(path, limits)
    picture = probe_picture(path, limits)
    if picture is None:
        index = index_video(path, limits, threads=threads)
        return Media(
            path=path,
            kind="video",
            width=index.width,
            height=index.height,
            duration=index.duration,
            fps=len(index.times) / index.duration,
            frame_count=len(index.times),
            container=index.container,
            codec=index.codec,
            sha256=digest,
            warnings=list(index.remarks),
            _source=index,
        )
    return Media(
        path=path,
        kind="video" if picture.times else "image",
        width=picture.width,
        height=picture.height,
        duration=picture.duration,
        fps=len(picture.times) / picture.duration if picture.times else None,
        frame_count=len(picture.times) or 1,
        container=picture.format.lower(),
        codec=picture.format.lower(),
        sha256=digest,
        warnings=list(picture.remarks),
        _source=picture,
    )


def _check_file(path: Path, limits: Limits) -> str:
    """Return the file's SHA-256, or raise `InputError` if it is none, or no size we take."""
    try:
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):  # a pipe or device would block, a folder cannot be read
            what = "a folder" if stat.S_ISDIR(facts.st_mode) else "no ordinary file"
            raise InputError(f"{path}: is {what}; expected an image or a video file", reason="not_a_file")
        if facts.st_size == 0:
            raise InputError(f"{path.name}: the file is empty (0 bytes); copy it again", reason="empty")
        if facts.st_size > limits.bytes:
            raise InputError(
                f"{path.name}: {facts.st_size:,} bytes, more than the limit of {limits.bytes:,}. "
                "Cut it, or raise Limits.bytes.",
                reason="too_large",
            )
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except InputError:  # a ValueError too
        raise
    except PermissionError as error:
        raise InputError(f"{path}: permission denied; make the file readable", reason="permission") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{path}: no such file", reason="missing") from error
    except (OSError, ValueError) as error:  # a name too long or with a null byte; a disk that fails
        raise InputError(f"{path!s:.200}: cannot be read ({error})", reason="unreadable") from error


def _sparse(times: NDArray[np.float64], chosen: int, count: int) -> list[str]:
    """Say so when gaps between time stamps leave most of a video out: one bad stamp hides all other frames.

    Shape:
        times: (N,) seconds.
    """
    if 2 * chosen >= min(count, len(times)):
        return []
    return [
        f"Only {chosen} of the video's {len(times)} frames were looked at: a frame that stays for "
        f"{np.diff(times).max():.1f} s fills most of {count} equal intervals of time."
    ]
