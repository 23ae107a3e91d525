"""Pictures through video codecs, by PyAV: one key frame, or a whole clip."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from unseen.types import InputError

__all__ = ["CODECS", "Codec", "key_frame", "write_clip"]

_Image = NDArray[np.uint8]
Codec = str

# One thread, and no macroblock tree, which reads memory that nobody wrote: the same picture, the same bytes.
CODECS: dict[Codec, tuple[str, str, dict[str, str]]] = {
    "h264": ("libx264", "h264", {"preset": "medium", "x264-params": "mbtree=0:threads=1"}),
    "h265": (
        "libx265",
        "hevc",
        {"preset": "medium", "x265-params": "log-level=none:pools=none:frame-threads=1"},
    ),
}


def _encoder(codec: Codec) -> tuple[str, str, dict[str, str]]:
    if codec not in CODECS:
        raise InputError(f"no codec {codec!r}; expected {' or '.join(CODECS)}", reason="codec")
    name = CODECS[codec][0]
    if name not in av.codecs_available:
        raise InputError(f"PyAV was built without {name}; install its wheel from PyPI", reason="codec")
    return CODECS[codec]


def _even(image: _Image) -> _Image:
    """Repeat the last row or column where there is an odd number: 4:2:0 needs even sides."""
    height, width = image.shape[:2]
    return np.ascontiguousarray(np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))


def key_frame(image: _Image, codec: Codec, crf: int) -> _Image:
    """Return a picture after one key frame of a codec, 4:2:0.

    Shape:
        image: (H, W, 3) uint8 RGB, and so is the result.

    Raises:
        InputError: PyAV lacks the codec, or the codec cannot take a picture so small.
    """
    name, decoder, options = _encoder(codec)
    height, width = image.shape[:2]
    whole = _even(image)
    try:
        encode: Any = av.CodecContext.create(name, "w")
        encode.height, encode.width = whole.shape[:2]
        encode.pix_fmt, encode.time_base = "yuv420p", Fraction(1, 25)
        encode.thread_count = 1
        encode.options = {"crf": str(crf), **options}
        frame = av.VideoFrame.from_ndarray(whole, format="rgb24").reformat(format="yuv420p")
        frame.pts = 0
        packets = [*encode.encode(frame), *encode.encode(None)]
        decode: Any = av.CodecContext.create(decoder, "r")
        decode.thread_count = 1
        pictures = [p for packet in [*packets, None] for p in decode.decode(packet)]
    except (av.FFmpegError, ValueError) as error:
        raise InputError(
            f"{codec} cannot take a picture of {width} x {height} pixels ({type(error).__name__})",
            reason="codec",
        ) from error
    return np.ascontiguousarray(pictures[0].to_ndarray(format="rgb24")[:height, :width], np.uint8)


def write_clip(
    path: Path,
    frames: Iterable[tuple[_Image, int]],
    *,
    time_base: Fraction,
    rate: Fraction,
    codec: Codec,
    crf: int,
    report: Callable[[int], None] | None = None,
) -> int:
    """Write frames as an MP4 file without sound.

    Args:
        path: The file.
        frames: Pictures of one size, each with its time stamp, rising.
        time_base: Seconds of a stamp's unit.
        rate: Frames a second, as the header says.
        codec: In `CODECS`.
        crf: Constant rate factor.
        report: Called with the frames written so far.

    Returns:
        How many frames were written.
    """
    name, _, options = _encoder(codec)
    part = path.with_name(path.name + ".part")
    written = 0
    try:
        with av.open(str(part), "w", format="mp4") as container:
            stream: Any = container.add_stream(name, rate=rate)
            stream.pix_fmt, stream.options = "yuv420p", {"crf": str(crf), **options}
            stream.codec_context.time_base = time_base
            for image, stamp in frames:
                whole = _even(image)
                if not written:
                    stream.height, stream.width = whole.shape[:2]
                frame = av.VideoFrame.from_ndarray(whole, format="rgb24")
                frame.pts, frame.time_base = stamp, time_base
                for packet in stream.encode(frame):
                    container.mux(packet)
                written += 1
                if report is not None:
                    report(written)
            for packet in stream.encode() if written else []:
                container.mux(packet)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return written
