"""Videos through PyAV (FFmpeg): an index of every packet first, then only the frames that are wanted.

Reading all packets without decoding costs little and tells what headers often get wrong or leave out: how
many frames there are, when each is shown, how long the video lasts, and from where decoding can start.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
from numpy.typing import NDArray

from unseen.media.frames import Frame, Limits, check_pixels
from unseen.types import InputError

__all__ = ["VideoIndex", "index_video", "read_video"]

# FFmpeg stays silent; what matters is in `Media.warnings`. None, the default, not PANIC: any level installs
# a callback that takes the GIL in FFmpeg's threads, which deadlocks when a codec context is freed by a thread
# that holds the GIL and waits for them.
av.logging.set_level(None)

# Containers only: playlists (hls, concat, dash) name other files and addresses, which FFmpeg would open.
CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,flv,asf,ogg,mxf,nut,ivf,dv,h264,hevc,"
    "mjpeg,rm,wtv,swf,gxf,y4m,yuv4mpegpipe,vob"
)
# After a jump, others (MPEG program streams, raw streams) give frames stamps that are off by some frames.
SEEKABLE = ("mov", "matroska", "avi", "mpegts", "flv", "asf")
WORTH_SEEKING = 12  # frames; a seek costs about as much as decoding this many


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """Every frame of a video stream, in the order of showing, before any is decoded.

    Shape:
        stamps: (N,) int64, in units of `time_base`. times: (N,) float64, seconds from the first frame.
        keys: (K,) int64, stamps of the frames where decoding can start, ascending.
    """

    stamps: NDArray[np.int64]
    times: NDArray[np.float64]
    keys: NDArray[np.int64]
    time_base: Fraction
    width: int
    height: int
    duration: float
    container: str
    codec: str
    limits: Limits
    threads: int | None
    remarks: tuple[str, ...]


@contextmanager
def _opened(path: Path, limits: Limits, threads: int | None) -> Iterator[tuple[Any, Any]]:
    """Open a video's container and its first stream of moving pictures."""
    try:
        # The prefix keeps a file called "http:..." a file.
        container = av.open(
            f"file:{path}",
            options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
    except PermissionError as error:
        raise InputError(
            f"{path.name}: permission denied; make the file readable", reason="permission"
        ) from error
    except (av.FFmpegError, OSError, ValueError, UnicodeError, MemoryError) as error:
        raise InputError(
            f"{path.name}: neither a picture nor a video that can be read ({type(error).__name__}); "
            "expected JPEG, PNG, WebP, GIF, TIFF, BMP, AVIF, MP4, MOV, MKV, WebM, AVI or MPEG",
            reason="unreadable",
        ) from error
    with container:
        # An audio file's cover is a video stream too, marked as an attached picture.
        cover = int(getattr(av.stream.Disposition, "attached_pic", 0))
        streams = [s for s in container.streams.video if not int(s.disposition) & cover]
        if not streams:
            raise InputError(
                f"{path.name}: holds no moving pictures; expected a video stream", reason="no_frames"
            )
        stream = streams[0]
        if stream.codec_context is None:
            raise InputError(f"{path.name}: its video codec is unknown to FFmpeg", reason="unreadable")
        stream.codec_context.options = {"max_pixels": str(limits.pixels)}
        stream.thread_type = "AUTO"
        stream.codec_context.thread_count = threads or 0
        yield container, stream


def index_video(path: Path, limits: Limits, *, threads: int | None = None) -> VideoIndex:
    """Read every packet of a video without decoding, then one frame for its size.

    Args:
        path: The file.
        limits: What the video may ask of this machine.
        threads: Of the decoder; None lets FFmpeg choose.

    Raises:
        InputError: With reason `unreadable`, `no_frames`, `too_large` or `permission`.
    """
    stamps: list[int] = []
    keys: list[int] = []
    remarks: list[str] = []
    with _opened(path, limits, threads) as (container, stream):
        if stream.codec_context.width and stream.codec_context.height:
            check_pixels(path.name, stream.codec_context.width, stream.codec_context.height, limits)
        time_base = stream.time_base or Fraction(1, 90000)
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        step = max(1, round(1 / (rate * time_base))) if rate > 0 else 1
        last = 0
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                stamp = packet.pts if packet.pts is not None else packet.dts
                if stamp is None:  # raw streams carry no time stamps: count frames
                    stamp = stamps[-1] + step if stamps else 0
                stamps.append(stamp)
                if packet.is_keyframe:
                    keys.append(stamp)
                last = (
                    max(last, packet.duration or 0)
                    if packet.duration and packet.duration < 100 * step
                    else last
                )
                if len(stamps) > limits.frames:
                    raise InputError(
                        f"{path.name}: more than {limits.frames:,} frames; cut it", reason="too_large"
                    )
        except InputError:  # a ValueError too
            raise
        except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
            remarks.append(
                f"Reading stopped after {len(stamps)} frames ({type(error).__name__}): the file is damaged."
            )
        promised = int(stream.frames or 0)
        declared = float(stream.duration * time_base) if stream.duration else (container.duration or 0) / 1e6
        form, codec = container.format.name.split(",")[0], stream.codec_context.name
    if not stamps:
        raise InputError(f"{path.name}: its video stream holds no frame", reason="no_frames")
    order = np.unique(np.array(stamps, dtype=np.int64))
    times = (order - order[0]) * float(time_base)
    typical = float(np.median(np.diff(times))) if len(times) > 1 else float(step * time_base)
    duration = float(times[-1]) + (last * float(time_base) or typical)
    if duration > limits.seconds:
        raise InputError(
            f"{path.name}: {duration:.0f} s, more than the limit of {limits.seconds:.0f} s; cut it",
            reason="too_large",
        )
    if promised > len(stamps) * 1.02 + 1:
        remarks.append(f"The file is cut off: {len(stamps)} of {promised} frames are there.")
    elif declared > duration * 1.05 + 1:
        remarks.append(f"The file is cut off: {duration:.1f} s of {declared:.1f} s are there.")
    index = VideoIndex(
        stamps=order,
        times=times,
        keys=np.unique(np.array(keys, dtype=np.int64)),
        time_base=time_base,
        width=0,
        height=0,
        duration=max(duration, 1e-3),
        container=form,
        codec=codec,
        limits=limits,
        threads=threads,
        remarks=tuple(remarks),
    )
    return _with_size(path, index)


def _with_size(path: Path, index: VideoIndex) -> VideoIndex:
    """Decode until one frame comes out: only it knows how it is turned, and that the codec works."""
    remarks: list[str] = []
    first = next(read_video(path, index, np.array([0]), remarks), None)
    if first is None:
        first = next(read_video(path, index, np.arange(len(index.stamps)), remarks), None)
    if first is None:
        raise InputError(
            f"{path.name}: not one of its {len(index.stamps)} frames can be decoded ({index.codec}); "
            "the file is damaged",
            reason="no_frames",
        )
    return replace(index, width=first.image.shape[1], height=first.image.shape[0])


def read_video(
    path: Path, index: VideoIndex, wanted: NDArray[np.int64], remarks: list[str]
) -> Iterator[Frame]:
    """Decode chosen frames, in the order of showing, one in memory at a time.

    Between two wanted frames the decoder jumps to the last key frame where that saves work. A frame that is
    damaged is replaced by the next good one before the next wanted frame, or left out.

    Args:
        path: The file.
        index: What `index_video` found in it.
        wanted: Positions in the index, ascending.
        remarks: Sentences about trouble are appended here.
    """
    try:
        yield from _Walk(path, index, wanted, remarks).frames()
    except InputError:  # a ValueError too
        raise
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        remarks.append(f"Decoding stopped early ({type(error).__name__}): the file is damaged.")


class _Walk:
    """One way through a video, from wanted frame to wanted frame."""

    def __init__(self, path: Path, index: VideoIndex, wanted: NDArray[np.int64], remarks: list[str]) -> None:
        self.path, self.index, self.remarks = path, index, remarks
        self.goals: list[int] = index.stamps[wanted].tolist()
        self.stamps: list[int] = index.stamps.tolist()
        self.keys: list[int] = index.keys.tolist()
        self.next = 0  # the goal we are walking to
        self.seeking = index.container in SEEKABLE and len(self.keys) > 1
        self.astray = False  # a jump landed behind its goal
        self.broken = 0  # packets that could not be decoded

    def frames(self) -> Iterator[Frame]:
        given = 0
        while self.next < len(self.goals):
            with _opened(self.path, self.index.limits, self.index.threads) as (container, stream):
                for frame in self._walk(container, stream):
                    given += 1
                    yield frame
            if not self.astray:
                break
            self.astray = self.seeking = False  # start over, without jumps
        if self.broken:
            self.remarks.append(f"{self.broken} pieces of the video are damaged and were passed over.")
        if 0 < given < len(self.goals):
            self.remarks.append(
                f"{len(self.goals) - given} of {len(self.goals)} chosen frames could not be decoded."
            )

    def _walk(self, container: Any, stream: Any) -> Iterator[Frame]:
        wanted = set(self.goals)
        landing = self._jump(container, stream, None)  # until the first frame tells if the jump was good
        packets = container.demux(stream)
        now = self.stamps[0] - 1
        while (packet := next(packets, None)) is not None:
            # Frames that no other frame refers to need no decoding unless they are wanted.
            needed = packet.pts is None or packet.pts in wanted
            stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
            try:
                pictures = packet.decode()
            except (av.FFmpegError, ValueError):
                self.broken += 1
                continue
            for picture in pictures:
                now = picture.pts if picture.pts is not None else now + 1
                if landing and now > self.goals[self.next]:
                    self.astray = True
                if self.astray:
                    return
                landing = False
                if now < self.goals[self.next] or picture.is_corrupt:
                    continue
                # Goals that a gap has made us pass share this frame.
                self.next = bisect.bisect_right(self.goals, now, lo=self.next)
                yield self._frame(picture, now)
                if self.next >= len(self.goals):
                    return
                landing = self._jump(container, stream, now)
                if landing or self.astray:
                    packets = container.demux(stream)
                    break

    def _jump(self, container: Any, stream: Any, now: int | None) -> bool:
        """Seek to the key frame before the next goal if that is cheaper than decoding on."""
        if not self.seeking:
            return False
        key = self.keys[max(0, bisect.bisect_right(self.keys, self.goals[self.next]) - 1)]
        here = 0 if now is None else bisect.bisect_left(self.stamps, now)
        if bisect.bisect_left(self.stamps, key) - here < WORTH_SEEKING:
            return False
        try:
            container.seek(key, stream=stream, backward=True, any_frame=False)
        except (av.FFmpegError, OSError, ValueError):
            self.astray = True
        return True

    def _frame(self, picture: Any, stamp: int) -> Frame:
        check_pixels(self.path.name, picture.width, picture.height, self.index.limits)
        image = picture.to_ndarray(format="rgb24")
        turns = round(getattr(picture, "rotation", 0) / 90) % 4  # quarter turns, counter-clockwise
        if turns:
            image = np.ascontiguousarray(np.rot90(image, turns))
        place = max(0, bisect.bisect_right(self.stamps, stamp) - 1)
        return Frame(image, place, float(self.index.times[place]))
