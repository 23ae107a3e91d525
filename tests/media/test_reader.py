from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from unseen.media.reader import Limits, open_media
from unseen.types import InputError


def reason_of(path: str | Path, limits: Limits | None = None) -> str:
    with pytest.raises(InputError) as caught:
        list(open_media(path, limits).frames(2))
    assert Path(path).name[:20] in str(caught.value)
    return caught.value.reason


def test_the_hash_is_the_files_own(portrait_file: Path) -> None:
    media = open_media(str(portrait_file))
    assert media.sha256 == hashlib.sha256(portrait_file.read_bytes()).hexdigest()
    assert media.path == portrait_file and media.kind == "image"


def test_what_is_no_file(tmp_path: Path, portrait_file: Path) -> None:
    assert reason_of(tmp_path / "nothing.jpg") == "missing"
    assert reason_of(portrait_file / "below_a_file.jpg") == "missing"
    assert reason_of(tmp_path) == "not_a_file"
    assert reason_of(tmp_path / ("x" * 5000)) == "unreadable"
    assert reason_of("a\0b") in ("unreadable", "missing")


def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert reason_of(tmp_path / "pipe.mp4") == "not_a_file"


def test_empty_and_meaningless_files(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"")
    assert reason_of(path) == "empty"
    for content in (
        b"\0",
        b"\xff\xd8\xff",
        b"hello " * 1000,
        b"\0" * 100_000,
        b"%PDF-1.7\n",
        b"PK\x03\x04" * 99,
    ):
        path.write_bytes(content)
        assert reason_of(path) == "unreadable"


def test_permission_denied(portrait_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so chmod would test nothing
    assert reason_of(portrait_file) == "permission"


def test_byte_limit(portrait_file: Path) -> None:
    assert reason_of(portrait_file, Limits(bytes=1000)) == "too_large"


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{}'\n",
    ],
)
def test_playlists_cannot_reach_other_files(playlist: str, clip_file: object, tmp_path: Path) -> None:
    secret = clip_file("secret.mp4")  # type: ignore[operator]
    path = tmp_path / "list.mp4"
    path.write_text(playlist.format(secret))
    assert reason_of(path) == "unreadable"


def test_a_name_that_looks_like_an_address_is_a_file(
    portrait_file: Path, tmp_path: Path, clip_file: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("concat:a.mp4").write_bytes(clip_file().read_bytes())  # type: ignore[operator]
    assert open_media("concat:a.mp4").kind == "video"


def test_zero_frames_are_no_request(portrait_file: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        list(open_media(portrait_file).frames(0))
