from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unseen.media.reader import Limits, open_media
from unseen.types import InputError


def scene() -> np.ndarray:
    """48 rows, 64 columns; red top-left corner, blue bottom-right, grey ramp between."""
    picture = np.repeat(np.linspace(40, 200, 64, dtype=np.uint8)[None, :, None], 48, axis=0)
    picture = np.repeat(picture, 3, axis=2)
    picture[:16, :16] = (255, 0, 0)
    picture[-16:, -16:] = (0, 0, 255)
    return picture


def read(path: Path) -> np.ndarray:
    (frame,) = open_media(path).frames()
    assert frame.image.dtype == np.uint8 and frame.image.flags.c_contiguous
    return frame.image


def close(a: np.ndarray, b: np.ndarray, tolerance: float = 6) -> bool:
    return a.shape == b.shape and float(np.abs(a.astype(int) - b).mean()) < tolerance


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000", "PPM"])
def test_formats_by_content_whatever_the_name(form: str, tmp_path: Path) -> None:
    path = tmp_path / "holiday.mp4"
    Image.fromarray(scene()).save(path, form)
    media = open_media(path)
    assert (media.kind, media.width, media.height, media.frame_count) == ("image", 64, 48, 1)
    assert media.container == form.lower() and len(media.sha256) == 64 and media.warnings == []
    assert close(read(path), scene())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(orientation: int, tmp_path: Path) -> None:
    # How a camera would have stored the upright scene (EXIF 2.3, tag 0x0112).
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](scene())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, quality=95, subsampling=0, exif=exif)
    media = open_media(path)
    assert (media.width, media.height) == (64, 48)
    assert close(read(path), scene())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_modes_become_rgb(mode: str, tmp_path: Path) -> None:
    grey = np.ascontiguousarray(scene()[:, :, 1])
    path = tmp_path / "a.tif"
    if mode == "I;16":
        Image.fromarray(grey.astype(np.uint16) * 256 + 7).save(path)
    elif mode == "I":
        Image.fromarray(grey.astype(np.int32) * 256 + 7).save(path)
    elif mode == "F":
        Image.fromarray(grey.astype(np.float32) / 255).save(path)
    elif mode in ("P", "PA"):
        path = tmp_path / "a.png"
        palette = Image.fromarray(grey).convert("RGBA" if mode == "PA" else "RGB").quantize(256)
        palette.save(path)
    else:
        Image.fromarray(grey).convert("RGB").convert(mode).save(path, "JPEG" if mode == "YCbCr" else None)
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    found = read(path)
    assert found.shape == (48, 64, 3)
    assert close(found, expected, 200 if mode == "1" else 6)
    assert len(np.unique(found)) == 2 if mode == "1" else len(np.unique(found)) > 10


def test_sixteen_bit_png_keeps_the_upper_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 256, 65535, 32768]], np.uint16)).save(path)
    assert read(path)[0, :, 0].tolist() == [0, 1, 255, 128]


def test_transparency_lies_on_white(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = (0, 255, 128)  # clear, opaque and half-clear black
    Image.fromarray(pixels).save(path)
    assert read(path)[0, :, 0].tolist() == [255, 0, 127]


def test_cmyk_jpeg_has_the_right_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(scene()).convert("CMYK").save(path, quality=95)
    assert close(read(path), scene())


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animations_are_videos_with_times(form: str, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    frames = [Image.fromarray(np.full((32, 32, 3), 20 * i, np.uint8)) for i in range(10)]
    frames[0].save(path, form, save_all=True, append_images=frames[1:], duration=100, loop=0)
    media = open_media(path)
    assert (media.kind, media.frame_count) == ("video", 10)
    assert media.duration == pytest.approx(1.0, abs=0.01) and media.fps == pytest.approx(10, rel=0.02)
    found = list(media.frames(5))
    assert [frame.index for frame in found] == [1, 3, 5, 7, 9]
    assert [frame.time for frame in found] == pytest.approx([0.1, 0.3, 0.5, 0.7, 0.9], abs=0.01)
    for frame in found:
        assert abs(int(frame.image.mean()) - 20 * frame.index) < 8


def test_a_cut_off_gif_gives_what_is_left_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.gif"
    rng = np.random.default_rng(0)
    frames = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(10)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    media = open_media(path)
    found = list(media.frames())
    assert 2 <= len(found) < 10 and media.warnings


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_cut_off_picture_is_read_with_a_warning(form: str, portrait: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a"
    Image.fromarray(portrait).save(path, form)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    media = open_media(path)
    (frame,) = media.frames()
    assert close(frame.image[:200], portrait[:200], 8)
    assert "cut off" in media.warnings[0]


def test_a_picture_without_pixels_is_unreadable(portrait: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(portrait).save(path)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        list(open_media(path).frames())
    assert caught.value.reason == "unreadable"


def test_an_absurd_header_is_refused_before_decoding(tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    Image.fromarray(scene()).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = (60_000).to_bytes(4, "little") * 2  # width and height in a BMP header
    path.write_bytes(data)
    with pytest.raises(InputError, match="pixels") as caught:
        open_media(path)
    assert caught.value.reason == "too_large"


def test_pixel_limit_is_an_argument(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(scene()).save(path)
    assert open_media(path, Limits(pixels=64 * 48)).width == 64
    with pytest.raises(InputError, match=r"a\.png: 64x48"):
        open_media(path, Limits(pixels=64 * 48 - 1))


def test_broken_exif_does_not_cost_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(scene()).save(path, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff" + b"\x99" * 30)
    assert close(read(path), scene(), 15)
