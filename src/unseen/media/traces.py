"""What a file says about its own making: encoders, editors, compression and provenance. Hints, no proof.

Every one of these can be missing from a genuine file and forged in another: platforms strip metadata and
compress again whatever they are given. They are read as text and numbers; nothing is run, nothing fetched.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from unseen.media.provenance import c2pa_of

__all__ = ["double_compression", "jpeg_quality", "traces_of"]

LONGEST = 200  # letters of a tag that are kept
HEAD = 1 << 20  # bytes of a video in which an encoder's own line is looked for
# Tables of the JPEG standard, annex K.1, luminance; libjpeg scales them by a quality from 1 to 100.
STANDARD = np.array(
    [
        *(16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55),
        *(14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62),
        *(18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92),
        *(49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99),
    ]
)
# Numbers of first AC frequencies whose counts are looked at for a former compression: row, column.
LOW = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))
EDITORS = (
    r"photoshop|gimp|lightroom|affinity|snapseed|facetune|picsart|canva|premiere|capcut|davinci|final cut"
)
GAPS = 0.35  # from so large a share of missing values on, a former compression is likely


def traces_of(path: Path, kind: str) -> dict[str, Any]:
    """Return what a file says about its making, as plain text and numbers; never raises for a bad file.

    Args:
        path: A file that could be opened.
        kind: `image` or `video`, from its content.

    Returns:
        `software` (programs named in tags), `camera`, `created`, `encoder`; for JPEG `jpeg_quality`,
        `jpeg_tables`, `jpeg_sampling`, `jpeg_gaps`; `reencoded`, a list of sentences; `c2pa`. What is absent
        is None.
    """
    found: dict[str, Any] = dict.fromkeys(("software", "camera", "created", "encoder"))
    try:
        if kind == "image":
            found |= _of_picture(path)
        else:
            found |= _of_video(path)
    except (OSError, ValueError, SyntaxError, ArithmeticError, LookupError, TypeError, MemoryError) as error:
        found["unread"] = _short(f"{type(error).__name__}: {error}")
    found["reencoded"] = _hints(found)
    found["c2pa"] = c2pa_of(path)
    return found


def jpeg_quality(table: NDArray[np.integer]) -> tuple[int, bool]:
    """Return the libjpeg quality whose luminance table is nearest, and whether it is exactly that table.

    Shape:
        table: (64,), in rows, not in zigzag order.
    """
    quality = np.arange(1, 101)[:, None]
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    tables = ((STANDARD * scale + 50) // 100).clip(1, 255)  # (100, 64)
    distance = np.abs(tables - np.asarray(table)).sum(1)
    best = int(distance.argmin())
    return best + 1, bool(distance[best] == 0)


def double_compression(grey: NDArray[np.uint8], table: NDArray[np.integer]) -> float | None:
    """Return the share of values that low frequencies of a JPEG skip, in [0, 1]; None of small pictures.

    A picture that was compressed coarsely and then finely has coefficients near multiples of the former step
    only, so that in units of the present step whole values never occur (Lukas & Fridrich, 2003, "Estimation
    of primary quantization matrix in double compressed JPEG images"). One compression leaves no such gaps.
    The other order, finely and then coarsely, leaves none either and is not seen. Measured on 37 pictures of
    about 350 pixels: 0 of 193 single compressions (quality 60 to 98) reach `GAPS`, 258 of 259 double ones do
    where the second is finer by five points or more, and none where it is coarser or the same.

    Shape:
        grey: (H, W) uint8 as decoded, never scaled or turned. table: (64,) in rows.
    """
    height, width = (length // 8 * 8 for length in grey.shape)
    if height < 128 or width < 128:
        return None
    height, width = min(height, 2048), min(width, 2048)
    blocks = grey[:height, :width].astype(np.float32) - 128
    blocks = blocks.reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    dct = np.zeros((8, 8), np.float32)  # orthonormal DCT-II
    for k in range(8):
        dct[k] = np.cos((2 * np.arange(8) + 1) * k * np.pi / 16) * (np.sqrt(1 / 8) if k == 0 else 0.5)
    shares = []
    for row, column in LOW:
        step = int(table[8 * row + column])
        values = np.einsum("i,nij,j->n", dct[row], blocks, dct[column]) / step
        whole = np.abs(np.rint(values)).astype(np.int64)
        counts = np.bincount(whole, minlength=16)[:16].astype(np.float64)
        # Look only as far as a smooth distribution would have given every value a few dozen times.
        reach = int(np.searchsorted(-np.maximum.accumulate(counts[::-1])[::-1], -40))
        if reach < 5:
            continue
        around = np.array([max(counts[i - 1], counts[i + 1]) for i in range(1, reach - 1)])
        shares.append(float((counts[1 : reach - 1] < 0.2 * around).mean()))
    return round(float(np.median(shares)), 3) if len(shares) >= 3 else None


def _of_picture(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(path)
        except UnidentifiedImageError:
            return found
        with image:
            exif = {ExifTags.TAGS.get(key, str(key)): value for key, value in image.getexif().items()}
            text = {k: v for k, v in image.info.items() if isinstance(v, str)}
            maker = " ".join(str(exif.get(name, "")).strip("\0 ") for name in ("Make", "Model")).strip()
            found["camera"] = _short(maker)
            found["created"] = _short(exif.get("DateTime") or text.get("date:create"))
            said = [exif.get("Software"), exif.get("ProcessingSoftware"), text.get("Software"), *_xmp(image)]
            said += [
                f"{key} (text of a generator)" for key in ("parameters", "prompt", "workflow") if key in text
            ]
            if b"Photoshop" in bytes(image.info.get("photoshop", b"") or b"") or "photoshop" in image.info:
                said.append("Photoshop block")
            found["software"] = _short("; ".join(dict.fromkeys(str(s).strip("\0 ") for s in said if s)))
            if image.format in ("JPEG", "MPO"):
                found |= _of_jpeg(image)
    return found


def _of_jpeg(image: Any) -> dict[str, Any]:
    tables = getattr(image, "quantization", {})
    if 0 not in tables:
        return {}
    table = np.array(tables[0])
    quality, exact = jpeg_quality(table)
    sampling = getattr(image, "layer", [])
    found: dict[str, Any] = {
        "jpeg_quality": quality,
        "jpeg_tables": "those of libjpeg" if exact else "a maker's or an editor's own",
        "jpeg_sampling": ", ".join(f"{entry[1]}x{entry[2]}" for entry in sampling) or None,
        "jpeg_progressive": bool(image.info.get("progressive")),
        "jpeg_gaps": None,
    }
    grey = _luma(image)
    if grey is not None:
        found["jpeg_gaps"] = double_compression(grey, table)
    return found


def _luma(image: Any) -> NDArray[np.uint8] | None:
    """Return the brightness that a JPEG holds, as stored; None where it has none or is cut off."""
    image.draft("L", image.size)  # libjpeg then leaves colour and its rounding out
    try:
        return np.array(image) if image.mode == "L" else None
    except OSError:  # what is missing would be filled, and the filling has no gaps
        return None


def _xmp(image: Any) -> list[str]:
    """Programs that the XMP block names; searched as text, since a parser is one more thing to attack."""
    block = image.info.get("xmp", b"") or image.info.get("XML:com.adobe.xmp", "")
    text = block.decode("utf-8", "replace") if isinstance(block, bytes) else str(block)
    found = re.findall(r"(?:CreatorTool|softwareAgent)(?:=\"|>)([^\"<]{1,100})", text[:500_000])
    return list(dict.fromkeys(found))[:5]


def _of_video(path: Path) -> dict[str, Any]:
    import av

    found: dict[str, Any] = {}
    with av.open(str(path), metadata_errors="replace") as container:
        tags = {key.lower(): value for key, value in container.metadata.items()}
        streams = [s for s in container.streams if s.type in ("video", "audio")]
        handlers = [str(s.metadata.get("handler_name", "")) for s in streams]
        inner = [str(s.metadata.get("encoder", "")) for s in streams]
        maker = [tags.get(key, "") for key in ("com.apple.quicktime.make", "com.apple.quicktime.model")]
        maker += [f"Android {tags['com.android.version']}" if "com.android.version" in tags else ""]
        found["camera"] = _short(" ".join(filter(None, maker)))
        found["created"] = _short(tags.get("creation_time") or tags.get("com.apple.quicktime.creationdate"))
        said = [tags.get("encoder"), tags.get("com.apple.quicktime.software"), tags.get("software"), *inner]
        found["software"] = _short("; ".join(dict.fromkeys(str(s) for s in said if s)))
        found["handlers"] = _short("; ".join(dict.fromkeys(filter(None, handlers))))
        found["brand"] = _short(tags.get("major_brand"))
        rate = container.bit_rate
        found["bit_rate"] = int(rate) if rate else None
    with path.open("rb") as file:
        start = file.read(HEAD)
    line = re.search(rb"(x26[45] [ -~]{0,60}|Lavc[0-9.]+[ -~]{0,30})", start)
    found["encoder"] = _short(line.group(1).decode("ascii")) if line else None
    return found


def _hints(found: dict[str, Any]) -> list[str]:
    """Say what the facts suggest of a file's history, most telling first."""
    said = []
    gaps = found.get("jpeg_gaps")
    if gaps is not None and gaps >= GAPS:
        said.append(
            "It was probably saved as JPEG of lower quality before: values that one compression would give "
            "are missing."
        )
    names = f"{found.get('software') or ''} {found.get('encoder') or ''}"
    if re.search(EDITORS, names, re.I):
        said.append("An editing program is named in it.")
    if re.search(r"generator|stable diffusion|midjourney|dall|comfyui|automatic1111|firefly", names, re.I):
        said.append("A program that generates pictures is named in it.")
    if re.search(r"lavf|lavc|x26[45]|handbrake|ffmpeg", names, re.I):
        said.append(
            "It was written by software (FFmpeg, x264 or x265) and not by a camera: encoded again, or made."
        )
    if found.get("jpeg_tables") == "those of libjpeg" and not found.get("camera"):
        said.append(
            "Its JPEG tables are those that most software and platforms write, and no camera is named."
        )
    return said


def _short(value: Any) -> str | None:
    """A tag as text of bounded length; None for nothing."""
    if value is None:
        return None
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = text.strip("\0 \n\t")
    return (text[:LONGEST] + "...") if len(text) > LONGEST else (text or None)
