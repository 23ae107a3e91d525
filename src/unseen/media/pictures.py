"""Still and animated pictures through Pillow: any mode and orientation to upright RGB uint8.

GIF, WebP, PNG and AVIF with several frames are read here too: Pillow composes their frames, each of which may
be a patch with holes, into whole pictures; FFmpeg hands out the patches or reads the first only.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from unseen.media.frames import Frame, Limits, check_pixels
from unseen.types import InputError

__all__ = ["Picture", "probe_picture", "read_animation", "read_still", "to_rgb"]

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "AVIF", "TIFF", "BMP", "DIB", "MPO", "JPEG2000", "PPM", "ICO")
ANIMATED = ("GIF", "WEBP", "AVIF", "PNG")
ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # EXIF tag, and its values that swap width and height
SHORTEST = 0.011  # seconds; browsers and FFmpeg show faster frames for a tenth of a second
ANIMATION_BUDGET = 50  # an animation may ask for this many frames of the pixel limit in total
_truncation = threading.Lock()  # Pillow's switch for truncated files is global to the process


@dataclass(frozen=True)
class Picture:
    """What the headers of a picture say; times are empty for a still."""

    format: str
    mode: str
    width: int
    height: int
    times: tuple[float, ...] = ()  # when each frame appears, in seconds from the first
    duration: float = 0.0
    remarks: tuple[str, ...] = ()


@contextmanager
def _failures_named(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises on damaged files into `InputError`, and silence its remarks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: {error}", reason="too_large") from error
    except PermissionError as error:
        raise InputError(f"{name}: permission denied; make the file readable", reason="permission") from error
    # Damaged headers make Pillow's decoders raise nearly any built-in exception (struct.error, SyntaxError,
    # IndexError, MemoryError and more), so that no shorter list is safe.
    except Exception as error:
        raise InputError(
            f"{name}: the picture is damaged and cannot be decoded ({type(error).__name__}: {error})",
            reason="unreadable",
        ) from error


def probe_picture(path: Path, limits: Limits) -> Picture | None:
    """Read a picture's headers, or return None if the content is no picture that we know.

    Raises:
        InputError: It is one, but damaged or over a limit.
    """
    with _failures_named(path.name), path.open("rb") as file:
        try:
            image = Image.open(file, formats=_formats())
        except UnidentifiedImageError:
            return None
        with image:
            width, height = image.size
            check_pixels(path.name, width, height, limits)
            form, mode = str(image.format), image.mode
            if _orientation(image) in SIDEWAYS:
                width, height = height, width
            count = int(getattr(image, "n_frames", 1)) if form in ANIMATED else 1
            if count < 2:
                return Picture(form, mode, width, height)
            if count > limits.frames or count * width * height > ANIMATION_BUDGET * limits.pixels:
                raise InputError(
                    f"{path.name}: {count:,} frames of {width}x{height} pixels are over the limits; cut it",
                    reason="too_large",
                )
            times, now = [], 0.0
            for position in range(count):
                try:
                    image.seek(position)
                    image.load()  # WebP and AVIF know a frame's duration only then
                except (EOFError, OSError, SyntaxError, ValueError):
                    break
                times.append(now)
                pause = float(image.info.get("duration") or 0) / 1000
                now += pause if pause >= SHORTEST else 0.1
            if now > limits.seconds:
                raise InputError(
                    f"{path.name}: {now:.0f} s, limit {limits.seconds:.0f} s", reason="too_large"
                )
            if not times:
                raise InputError(f"{path.name}: none of {count} frames can be decoded", reason="no_frames")
            remarks = []
            if len(times) < count:
                remarks.append(f"The file is damaged: {len(times)} of {count} frames can be decoded.")
            file.seek(-64, 2)  # an animation has more bytes than that
            if form == "GIF" and not file.read().rstrip(b"\0").endswith(b";"):
                remarks.append(f"The file is cut off after {len(times)} frames: its end mark is missing.")
            return Picture(form, mode, width, height, tuple(times), now, tuple(remarks))
    raise AssertionError("unreachable")  # _failures_named never swallows


def read_still(path: Path, remarks: list[str]) -> Frame:
    """Decode a picture; of several pages the first.

    Args:
        path: The file.
        remarks: Sentences about trouble are appended here.

    Raises:
        InputError: Nothing can be decoded.
    """
    with _failures_named(path.name):
        try:
            with path.open("rb") as file, Image.open(file, formats=_formats()) as image:
                image.load()
                return Frame(to_rgb(image), 0, 0.0)
        except OSError as error:
            if isinstance(error, PermissionError) or "truncated" not in str(error):
                raise
        with _truncation, path.open("rb") as file, Image.open(file, formats=_formats()) as image:
            before = ImageFile.LOAD_TRUNCATED_IMAGES
            ImageFile.LOAD_TRUNCATED_IMAGES = True
            try:
                image.load()
            finally:
                ImageFile.LOAD_TRUNCATED_IMAGES = before
            picture = to_rgb(image)
        if picture.min() == picture.max():
            raise InputError(f"{path.name}: the file ends before the first pixel", reason="unreadable")
        remarks.append("The file is cut off: the missing part of the picture is filled with one colour.")
        return Frame(picture, 0, 0.0)


def read_animation(
    path: Path, wanted: NDArray[np.int64], times: tuple[float, ...], remarks: list[str]
) -> Iterator[Frame]:
    """Decode chosen frames of an animated picture, one in memory at a time.

    Args:
        path: The file.
        wanted: Frame numbers, ascending.
        times: When each frame appears, in seconds.
        remarks: Sentences about trouble are appended here.
    """
    with _failures_named(path.name):
        file = path.open("rb")
    with file:
        with _failures_named(path.name):
            image = Image.open(file, formats=_formats())
        for position in wanted.tolist():
            try:
                with _failures_named(path.name):
                    image.seek(position)
                    picture = to_rgb(image)
            except InputError:
                remarks.append(
                    f"Decoding stopped at frame {position} of {len(times)}: the file is damaged there."
                )
                return
            yield Frame(picture, position, times[position])


def to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Bring a Pillow picture of any mode to upright RGB, with white behind transparency.

    Sixteen bits keep the upper eight; floats are taken as 0 to 1, or as 0 to 255 when they exceed 1.

    Shape:
        Returns: (H, W, 3) uint8.
    """
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        if image.mode == "F":
            values = values * (255.0 if values.max(initial=0) <= 1 else 1.0)
        elif image.mode.startswith("I;16") or values.max(initial=0) > 255:
            values = values // 256
        grey = np.clip(values, 0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        if np.asarray(image.getchannel("A")).min() < 255:
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"), dtype=np.uint8)


@cache
def _formats() -> tuple[str, ...]:
    """Return those of our formats that this Pillow was built with; its other parsers stay out of reach."""
    Image.init()
    return tuple(form for form in FORMATS if form in Image.OPEN)


def _orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 (upright) when there is none that can be read."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF raises nearly anything, and must not cost us the picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
