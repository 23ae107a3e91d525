"""A clip with a forged face in it: landmarks calmed over time, one set of parameters, sound untouched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from unseen.forge.families import family as make_family
from unseen.forge.family import Family, Learner, Portrait, Unforgeable
from unseen.forge.shape import STILL, move, similarity
from unseen.forge.warp import face_window
from unseen.media.faces import FaceFinder, face_finder
from unseen.media.frames import Limits
from unseen.media.video import VideoIndex, index_video, read_video
from unseen.types import InputError

__all__ = ["ENCODER", "ForgedClip", "forge_clip", "smooth_track"]

COPIED_SOUND = ("aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac")  # what an MP4 file may hold
LONGEST_GAP = 12  # frames without a face that are bridged
# libx264's macroblock tree reads memory that nobody wrote where a row is not a multiple of 16 blocks, and the
# bytes then change from run to run.
ENCODER = {"preset": "medium", "x264-params": "mbtree=0"}
STILLS = 12  # frames from which a family learns who is in a clip
WINDOW = 9  # frames; with order 2 it leaves the movement of lips and takes the landmarks' trembling


@dataclass(frozen=True)
class ForgedClip:
    """What was written.

    Args:
        path: The clip, MP4 with H.264.
        frames: Frames in it; `forged` of them hold a forgery.
        crf: Constant rate factor of the encoder.
        sound: `copied`, `none`, or why it was left out.
        parameters: The family's, of the first forged frame; they hold for all.
        warnings: What went wrong on the way and did not stop it.
    """

    path: Path
    frames: int
    forged: int
    crf: int
    sound: str
    parameters: dict[str, float | int | str]
    warnings: tuple[str, ...]


def forge_clip(
    target: str | Path,
    donor: Portrait | None,
    family: Family | str | None,
    out: str | Path,
    *,
    crf: int = 23,
    seed: int = 0,
    mask: str | Path | None = None,
    identity: str | None = None,
    finder: FaceFinder | None = None,
    limits: Limits | None = None,
) -> ForgedClip:
    """Forge the largest face of every frame of a clip.

    Two passes over the file: the first finds landmarks, which are then smoothed over time; the second forges
    and encodes, one frame in memory at a time. The family draws the same numbers for every frame, and the
    same arguments give the same file. A real clip to stand beside the forged ones is made by the same path
    with `family=None`.

    Args:
        target: The clip.
        donor: Who lends the face, if the family needs somebody.
        family: A family or its name; None re-encodes the clip as it is. By name, `reenact` adds the donor's
            expression to the target's own (`own=1`), so that who speaks goes on speaking, and one that learns
            people learns who is in the clip and the donor.
        out: The result, `.mp4`.
        crf: H.264's constant rate factor, 0 to 51; 23 is what public data sets call light compression.
        seed: Of everything random.
        mask: Where to write the forged region as a lossless grey clip, `.mkv`.
        identity: Who is in the clip, as a family that learned people calls them; default: the file's name.
        finder: Finds faces; default: the default finder.
        limits: What the clip may ask of this machine.

    Raises:
        InputError: The clip cannot be read, no frame has a face (`no_face`), or none could be forged.
    """
    target, out = Path(target), Path(out)
    if out.suffix.lower() != ".mp4":
        raise InputError(f"{out}: a forged clip ends in .mp4", reason="format")
    if not 0 <= crf <= 51:
        raise InputError(f"{out.name}: crf {crf}; expected 0 to 51", reason="invalid")
    known = not isinstance(family, str)
    if isinstance(family, str):
        family = make_family(family, {"own": 1.0} if family == "reenact" else None)
    identity = target.name if identity is None else identity
    if family is not None and family.needs_donor and donor is None:
        raise InputError(f"{target.name}: {family.name} needs a donor; give a portrait", reason="no_donor")
    index = index_video(target, limits or Limits())
    warnings: list[str] = []
    track: NDArray[np.float32] | None = None
    calm: NDArray[np.float32] | None = None
    if family is not None:
        track = _track(target, index, finder or face_finder(), warnings)
        if not np.isfinite(track).any():
            raise InputError(f"{target.name}: no face in any frame", reason="no_face")
        calm = _calm(track)
        if isinstance(family, Learner) and donor is not None and not known:
            family.learn([*_stills(target, index, track, identity, warnings), donor])
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial.mp4")
    shadow = None if mask is None else Path(mask).with_name(f".{Path(mask).name}.partial.mkv")
    counts = {"frames": 0, "forged": 0}
    parameters: dict[str, float | int | str] = {}
    try:
        with _Writer(partial, index, target, crf) as clip, _MaskWriter(shadow, index) as region:
            for number, frame in enumerate(_frames(target, index, warnings)):
                image, where = frame.image, np.zeros(frame.image.shape[:2], np.float32)
                points = None if track is None else track[frame.index]
                if family is not None and points is not None and np.isfinite(points[:68]).all():
                    try:
                        image, where, drawn = _forge(
                            Portrait(image, points, identity, rest=calm), donor, family, seed
                        )
                        parameters = parameters or drawn
                        counts["forged"] += 1
                    except Unforgeable as error:
                        warnings.append(f"frame {number}: {error.reason}")
                clip.write(image, index.stamps[frame.index])
                region.write(where, index.stamps[frame.index])
                counts["frames"] += 1
            sound = clip.copy_sound()
        if family is not None and not counts["forged"]:
            raise InputError(
                f"{target.name}: no frame could be forged ({warnings[-1]})", reason="unforgeable"
            )
        partial.replace(out)
        if shadow is not None and mask is not None:
            shadow.replace(mask)
    finally:
        partial.unlink(missing_ok=True)
        if shadow is not None:
            shadow.unlink(missing_ok=True)
    return ForgedClip(out, counts["frames"], counts["forged"], crf, sound, parameters, tuple(warnings[:50]))


def smooth_track(track: NDArray[np.float32], *, gap: int = LONGEST_GAP) -> NDArray[np.float32]:
    """Bridge short gaps of a track of landmarks and calm it (Savitzky and Golay, order 2).

    Args:
        track: Landmarks by frame; NaN where there is no face.
        gap: Longest gap that is bridged, frames.

    Shape:
        track: (T, 81, 2). Returns the same.
    """
    seen = np.flatnonzero(np.isfinite(track[:, :68]).all((1, 2)))
    result = np.full_like(track, np.nan)
    if not len(seen):
        return result
    for piece in np.split(seen, np.flatnonzero(np.diff(seen) > gap + 1) + 1):
        frames = np.arange(piece[0], piece[-1] + 1)
        flat = track[piece].reshape(len(piece), -1)
        full = np.column_stack([np.interp(frames, piece, column) for column in flat.T])
        window = min(WINDOW, len(frames) - 1 + len(frames) % 2)
        if window >= 5:
            full = _calmed(full, window)
        result[frames] = full.reshape(len(frames), *track.shape[1:])
    return result


def _calmed(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Fit a parabola to each window of an odd number of rows and return its middle; at the ends, its ends.

    SciPy has the same as `savgol_filter(values, window, 2)`, whose import takes longer than a short clip.
    """
    half = window // 2
    basis = np.arange(-half, half + 1.0)[:, None] ** np.arange(3)
    fit = basis @ np.linalg.pinv(basis)  # (W, W) from values to the parabola's
    middle = np.lib.stride_tricks.sliding_window_view(values, window, axis=0) @ fit[half]
    return np.concatenate([fit[:half] @ values[:window], middle, fit[half + 1 :] @ values[-window:]])


def _track(path: Path, index: VideoIndex, finder: FaceFinder, warnings: list[str]) -> NDArray[np.float32]:
    """Return the smoothed landmarks of one person: who is largest at first, then who is nearest."""
    track = np.full((len(index.stamps), 81, 2), np.nan, np.float32)
    last = None
    for frame in _frames(path, index, warnings):
        faces = finder(frame.image)
        if last is not None:
            faces = [f for f in faces if np.linalg.norm(f.landmarks[:68].mean(0) - last[0]) < last[1]]
        if faces:
            track[frame.index] = faces[0].landmarks
            last = faces[0].landmarks[:68].mean(0), faces[0].size
    return smooth_track(track)


def _calm(track: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the usual face of a clip: the median of its frames, each moved onto the first."""
    faces = track[np.isfinite(track[:, :68]).all((1, 2))]
    some = faces[:: max(1, len(faces) // 200)]
    moved = [move(face, similarity(face[STILL], some[0][STILL])) for face in some]
    return np.asarray(np.median(moved, axis=0), np.float32)


def _frames(path: Path, index: VideoIndex, warnings: list[str]) -> Iterator[Any]:
    yield from read_video(path, index, np.arange(len(index.stamps)), warnings)


def _stills(
    path: Path, index: VideoIndex, track: NDArray[np.float32], identity: str, warnings: list[str]
) -> list[Portrait]:
    """Return a few frames of the clip's person, spread over the clip."""
    seen = np.flatnonzero(np.isfinite(track[:, :68]).all((1, 2)))
    some = seen[np.unique(np.linspace(0, len(seen) - 1, STILLS).round().astype(int))]
    return [Portrait(f.image, track[f.index], identity) for f in read_video(path, index, some, warnings)]


def _forge(
    whole: Portrait, donor: Portrait | None, family: Family, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32], dict[str, float | int | str]]:
    """Forge the neighbourhood of the face and put it back."""
    image, points = whole.image, whole.landmarks
    low, high = points[:68].min(0), points[:68].max(0)
    window = face_window(points[:68], image.shape, 0.6 * float((high - low).max()))
    near = replace(whole, image=np.ascontiguousarray(window.of(image)), landmarks=points - window.origin)
    forged = family(near, donor, np.random.default_rng(seed))
    result, mask = image.copy(), np.zeros(image.shape[:2], np.float32)
    window.of(result)[:] = forged.image
    window.of(mask)[:] = forged.mask
    return result, mask, forged.parameters


class _Writer:
    """H.264 in MP4, with the time stamps of the clip that was read, then its sound as it is."""

    def __init__(self, path: Path, index: VideoIndex, source: Path, crf: int) -> None:
        self.index, self.source = index, source
        self.container = av.open(str(path), "w", format="mp4")
        step = float(np.median(np.diff(index.times))) if len(index.times) > 1 else 0.04
        rate = Fraction(1 / max(step, 1e-3)).limit_denominator(1001)
        self.video = self.container.add_stream("libx264", rate=rate)
        # 4:2:0 needs even sides; the last row or column is repeated.
        self.size = index.height + index.height % 2, index.width + index.width % 2
        self.video.height, self.video.width = self.size
        self.video.pix_fmt = "yuv420p"
        self.video.options = {"crf": str(crf), **ENCODER}
        self.video.codec_context.time_base = index.time_base
        self.video.codec_context.thread_count = 2
        with av.open(str(source)) as container:
            streams = container.streams.audio
            name = streams[0].codec_context.name if streams else None
            self.sound = None
            if name in COPIED_SOUND:
                self.sound = self.container.add_stream_from_template(streams[0])
        self.said = "copied" if self.sound else f"left out: {name} does not fit MP4" if name else "none"

    def __enter__(self) -> _Writer:
        return self

    def write(self, image: NDArray[np.uint8], stamp: int) -> None:
        frame = av.VideoFrame.from_ndarray(_even(image), format="rgb24")
        frame.pts, frame.time_base = int(stamp - self.index.stamps[0]), self.index.time_base
        for packet in self.video.encode(frame):
            self.container.mux(packet)

    def copy_sound(self) -> str:
        for packet in self.video.encode():
            self.container.mux(packet)
        if self.sound is None:
            return self.said
        with av.open(str(self.source)) as container:
            stream = container.streams.audio[0]
            start = float(
                self.index.stamps[0] * self.index.time_base
            )  # of the picture, which now begins at 0
            shift = round(start / float(stream.time_base or 1))
            for packet in container.demux(stream):
                if packet.dts is None or packet.size == 0:
                    continue
                # What sounded before the first picture goes; a decoder's run-up, which is negative, stays.
                if 0 <= packet.dts < shift:
                    continue
                if packet.pts is not None:
                    packet.pts -= shift
                packet.dts -= shift
                packet.stream = self.sound
                self.container.mux(packet)
        return self.said

    def __exit__(self, *error: object) -> None:
        self.container.close()


class _MaskWriter:
    """The forged region as FFV1, or nothing."""

    def __init__(self, path: Path | None, index: VideoIndex) -> None:
        self.container = None if path is None else av.open(str(path), "w", format="matroska")
        self.index = index
        if self.container is not None:
            self.stream = self.container.add_stream("ffv1", rate=25)
            self.stream.width, self.stream.height = index.width, index.height
            self.stream.pix_fmt = "gray"
            self.stream.codec_context.time_base = index.time_base

    def __enter__(self) -> _MaskWriter:
        return self

    def write(self, mask: NDArray[np.float32], stamp: int) -> None:
        if self.container is None:
            return
        frame = av.VideoFrame.from_ndarray(np.round(mask * 255).astype(np.uint8), format="gray")
        frame.pts, frame.time_base = int(stamp - self.index.stamps[0]), self.index.time_base
        for packet in self.stream.encode(frame):
            self.container.mux(packet)

    def __exit__(self, *error: object) -> None:
        if self.container is not None:
            for packet in self.stream.encode():
                self.container.mux(packet)
            self.container.close()


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    return np.ascontiguousarray(np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge"))
