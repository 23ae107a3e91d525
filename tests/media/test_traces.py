"""Hints on a file's history, from files made here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from unseen.media import provenance
from unseen.media.traces import STANDARD, jpeg_quality, traces_of


@pytest.fixture(scope="module")
def fresh(portrait: np.ndarray) -> Image.Image:
    """A picture without any grid of its own: shrunk from one that had."""
    return Image.fromarray(portrait).resize((360, 420), Image.Resampling.LANCZOS)


def test_the_quality_of_libjpeg_by_hand() -> None:
    assert jpeg_quality(STANDARD) == (50, True)  # the tables of annex K are quality 50
    assert jpeg_quality(((STANDARD * 20 + 50) // 100).clip(1, 255)) == (90, True)  # 200 - 2 * 90 = 20 %
    assert jpeg_quality(STANDARD + 1)[1] is False


@pytest.mark.parametrize(("first", "second", "twice"), [(None, 90, False), (70, 92, True), (92, 70, False)])
def test_a_former_coarser_jpeg_leaves_gaps(fresh, tmp_path: Path, first, second: int, twice: bool) -> None:
    path, image = tmp_path / "a.jpg", fresh
    if first is not None:
        fresh.save(tmp_path / "first.jpg", quality=first)
        image = Image.open(tmp_path / "first.jpg").convert("RGB")
    image.save(path, quality=second)
    found = traces_of(path, "image")
    assert found["jpeg_quality"] == second and found["jpeg_tables"] == "those of libjpeg"
    assert found["jpeg_sampling"] == "2x2, 1x1, 1x1"
    assert any("saved as JPEG of lower quality before" in text for text in found["reencoded"]) is twice


def test_a_cut_jpeg_has_no_gaps_and_prints_nothing(
    fresh, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jpg"
    fresh.save(path, quality=90)
    assert traces_of(path, "image")["jpeg_gaps"] is not None
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = traces_of(path, "image")
    assert found["jpeg_quality"] == 90 and found["jpeg_gaps"] is None
    assert capfd.readouterr().err == ""  # libjpeg speaks for itself where nobody catches its words


def test_programs_and_cameras_are_named(fresh, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0110], exif[0x0131], exif[0x0132] = "Camera X", "Adobe Photoshop 25.0", "2024:01:02 03:04:05"
    fresh.save(tmp_path / "a.jpg", exif=exif)
    found = traces_of(tmp_path / "a.jpg", "image")
    assert (found["camera"], found["created"]) == ("Camera X", "2024:01:02 03:04:05")
    assert "Photoshop" in found["software"] and "An editing program is named in it." in found["reencoded"]
    tags = PngInfo()
    tags.add_text("parameters", "a face, steps: 20")
    fresh.save(tmp_path / "b.png", pnginfo=tags)
    hints = traces_of(tmp_path / "b.png", "image")["reencoded"]
    assert hints == ["A program that generates pictures is named in it."]
    tags.add_text("Software", "x" * 10_000)
    fresh.save(tmp_path / "c.png", pnginfo=tags)
    assert len(traces_of(tmp_path / "c.png", "image")["software"]) < 300


def test_a_clips_encoder_is_named(clip_file) -> None:
    found = traces_of(clip_file(frames=4), "video")
    assert "Lavf" in found["software"] and found["encoder"].startswith("x264")
    assert any("software (FFmpeg" in text for text in found["reencoded"])
    assert found["brand"] == "isom" and found["bit_rate"] > 0


def test_a_broken_file_is_no_crash(tmp_path: Path) -> None:
    for name, data in (("a.jpg", b"\xff\xd8\xff\xdb\x00"), ("b.mp4", b"\0\0\0\x18ftypmp42" + bytes(64))):
        (tmp_path / name).write_bytes(data)
        for kind in ("image", "video"):
            found = traces_of(tmp_path / name, kind)
            assert found["reencoded"] == [] and "c2pa" in found


def test_without_the_library_credentials_are_not_looked_for(fresh, tmp_path: Path, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "c2pa", None)
    fresh.save(tmp_path / "a.jpg")
    assert provenance.c2pa_of(tmp_path / "a.jpg")["status"] == "not looked for"


def openssl(folder: Path, *words: str) -> None:
    subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command to make a certificate")
def test_signed_and_changed_files(fresh, tmp_path: Path) -> None:
    import c2pa

    usage = "keyUsage=critical,digitalSignature\nextendedKeyUsage=emailProtection\n"
    usage += "basicConstraints=critical,CA:false\n"
    (tmp_path / "e.ext").write_text(usage + "subjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n")
    curve = ["ecparam", "-genkey", "-name", "prime256v1", "-noout", "-out"]
    openssl(tmp_path, *curve, "ca.key")
    ca = ["-x509", "-new", "-key", "ca.key", "-subj", "/CN=Test CA/O=Tests", "-days", "30", "-out", "ca.pem"]
    openssl(tmp_path, "req", *ca)
    openssl(tmp_path, *curve, "sec.key")
    openssl(tmp_path, "pkcs8", "-topk8", "-nocrypt", "-in", "sec.key", "-out", "key.pem")
    openssl(tmp_path, "req", "-new", "-key", "key.pem", "-subj", "/CN=Signer/O=Test Signer", "-out", "r.csr")
    sign = ["-req", "-in", "r.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "20"]
    openssl(tmp_path, "x509", *sign, "-extfile", "e.ext", "-out", "cert.pem")
    chain = (tmp_path / "cert.pem").read_bytes() + (tmp_path / "ca.pem").read_bytes()
    info = c2pa.C2paSignerInfo(b"es256", chain, (tmp_path / "key.pem").read_bytes(), None)
    plain, signed = tmp_path / "plain.jpg", tmp_path / "signed.jpg"
    fresh.save(plain, quality=90)
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture"
    done = [{"action": "c2pa.created", "digitalSourceType": kind}, {"action": "c2pa.edited"}]
    actions = {"label": "c2pa.actions", "data": {"actions": done}}
    generator = [{"name": "unseen tests", "version": "1"}]
    told = {"title": "a <b>title</b>", "claim_generator_info": generator, "assertions": [actions]}
    with c2pa.Builder(told) as builder, c2pa.Signer.from_info(info) as signer:
        builder.sign_file(str(plain), str(signed), signer)
    assert provenance.c2pa_of(plain) == {"status": "none"}
    found = provenance.c2pa_of(signed)
    assert (found["status"], found["validation"]) == ("present", "Valid")
    assert found["issuer"] == "Test Signer" and "c2pa.edited" in found["actions"]
    assert "unseen" in found["generator"]
    nameless = tmp_path / "0123abcd"  # as uploads are stored
    nameless.write_bytes(signed.read_bytes())
    assert provenance.c2pa_of(nameless) == found
    data = bytearray(signed.read_bytes())
    data[-2000] ^= 0xFF
    signed.write_bytes(data)
    assert provenance.c2pa_of(signed)["validation"] == "Invalid"
