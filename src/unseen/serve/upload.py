"""One file out of a request, written while it comes, refused as soon as it is too much."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from unseen.detect.report import visible
from unseen.serve.spool import Full, Spool

__all__ = ["Refused", "Upload", "display_name", "receive"]

FIELD = "file"
AROUND = 16_384  # bytes that boundaries and headers may take beside the file
LONGEST = 200  # letters of a name
DRAINED = 8_000_000  # bytes read and thrown away so that a client which sends before it reads hears why


class Refused(Exception):
    """A request that is not carried out: status, stable reason, sentence, seconds to wait."""

    def __init__(self, status: int, reason: str, message: str, *, wait: int | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.message, self.wait = status, reason, message, wait


def display_name(given: str) -> str:
    r"""What a file is called in words: the last part of a path, nothing that hides or reorders text.

    It is never part of a path on this machine.

    >>> names = ["../../etc/passwd", "C:\\a\\cat.jpg", "a\u202egpj.exe", "/"]
    >>> tuple(map(display_name, names))
    ('passwd', 'cat.jpg', 'a\\u202egpj.exe', 'upload')
    """
    last = given.replace("\\", "/").rstrip("/").rpartition("/")[2].strip()
    shown = visible(last)
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST - 21]}…{shown[-20:]}"
    return shown if shown.strip(". ") else "upload"


class Upload:
    """Reads a multipart body piece by piece; the file goes to the spool and through SHA-256 on its way.

    Args:
        boundary: From the content type.
        spool: Where the file goes.
        most: Bytes that the file may have.
    """

    def __init__(self, boundary: bytes, spool: Spool, most: int) -> None:
        self.spool = spool
        self.most = most
        self.name = ""
        self.size = 0
        self.path: Path | None = None
        self.complete = False
        self._digest = hashlib.sha256()
        self._out: BinaryIO | None = None
        self._header = [b"", b""]
        self._in_file = False
        self._read = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._gather(0, data[start:end]),
                "on_header_value": lambda data, start, end: self._gather(1, data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._finish,
            },
            max_header_count=8,
            max_header_size=4096,
        )

    @property
    def sha256(self) -> str:
        """Of the file, in hexadecimal."""
        return self._digest.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Take the next bytes of the body.

        Raises:
            Refused: Too many, or no multipart body with one file.
        """
        self._read += len(chunk)
        if self._read > self.most + AROUND:
            raise too_large(self.most)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise broken(str(error)) from error

    def finish(self) -> None:
        """Make sure that the body was whole.

        Raises:
            Refused: It was not, or held no file.
        """
        if not self.complete:
            raise broken("it ends in the middle")
        if self.path is None:
            raise Refused(422, "no_file", f"no file in the request; send one in the field {FIELD!r}")

    def discard(self) -> None:
        """Forget the file, if it was not handed on."""
        if self._out is not None:
            self._out.close()
            self._out = None
        if self.path is not None:
            self.spool.remove(self.path, self.size)
            self.path = None

    def _begin(self) -> None:
        self._in_file = False
        self._disposition = b""

    def _gather(self, part: int, data: bytes) -> None:
        self._header[part] += data

    def _header_end(self) -> None:
        if self._header[0].lower() == b"content-disposition":
            self._disposition = self._header[1]
        self._header = [b"", b""]

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        field = options.get(b"name", b"").decode("utf-8", "replace")
        if field != FIELD:
            raise Refused(
                422,
                "unknown_field",
                f"field {visible(field)[:40]!r}; expected one file in the field {FIELD!r}",
            )
        if self.path is not None:
            raise Refused(422, "several_files", "more than one file; send one in each request")
        if b"filename" not in options:
            raise Refused(422, "no_file", f"the field {FIELD!r} is no file; send it with a file name")
        self.name = display_name(options[b"filename"].decode("utf-8", "replace"))
        self.path, self._out = self.spool.create()
        self._in_file = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._out is not None
        count = end - start
        if self.size + count > self.most:
            raise too_large(self.most)
        try:
            self.spool.claim(count)
        except Full:
            raise Refused(503, "busy", "too much waits to be examined; try again soon", wait=10) from None
        self.size += count
        piece = memoryview(data)[start:end]
        self._digest.update(piece)
        try:
            self._out.write(piece)
        except OSError as error:
            raise Refused(
                503, "disk", "the server has no room for this file now; try again later", wait=60
            ) from error

    def _end(self) -> None:
        if self._in_file and self._out is not None:
            self._out.close()
            self._out = None
            self._in_file = False

    def _finish(self) -> None:
        self.complete = True


def too_large(most: int) -> Refused:
    """The refusal of a file beyond the limit."""
    return Refused(
        413, "too_large", f"the file has more than {most:,} bytes, which is the limit; send a shorter passage"
    )


def broken(why: str) -> Refused:
    """The refusal of a body that cannot be read."""
    return Refused(400, "broken_multipart", f"the multipart body cannot be read ({visible(why)[:200]})")


async def receive(
    headers: dict[str, str], stream: AsyncIterator[bytes], spool: Spool, *, most: int, seconds: float
) -> Upload:
    """Read the one file of a request.

    Args:
        headers: Of the request, names in lower case.
        stream: Its body.
        spool: Where the file goes; the caller owns it afterwards.
        most: Bytes that it may have.
        seconds: That it may take.

    Raises:
        Refused: With what was wrong; nothing stays behind.
    """
    kind, options = parse_options_header(headers.get("content-type", ""))
    boundary = options.get(b"boundary", b"")
    upload: Upload | None = None
    try:
        if kind != b"multipart/form-data":
            raise Refused(
                415, "content_type", f"expected multipart/form-data with one file in the field {FIELD!r}"
            )
        if not boundary:
            raise broken("its content type names no boundary")
        # A length that is stated is believed only where it condemns; what comes is counted in any case.
        stated = headers.get("content-length", "")
        if stated.isdigit() and int(stated) > most + AROUND:
            raise too_large(most)
        try:
            upload = Upload(boundary, spool, most)
        except FormParserError as error:
            raise broken(str(error)) from error
        async with asyncio.timeout(seconds):
            async for chunk in stream:
                upload.write(chunk)
        upload.finish()
        return upload
    except TimeoutError:
        if upload is not None:
            upload.discard()
        raise Refused(408, "slow", f"the upload took more than {seconds:g} s, which is the limit") from None
    except Refused:
        if upload is not None:
            upload.discard()
        if "expect" not in headers:  # who waits for a word before it sends needs no draining
            await drain(stream)
        raise
    except BaseException:  # the client went away
        if upload is not None:
            upload.discard()
        raise


async def drain(stream: AsyncIterator[bytes]) -> None:
    """Read on for a little, and throw it away: many clients hear an answer only when all is sent."""
    left = DRAINED
    try:
        async with asyncio.timeout(2):
            async for chunk in stream:
                left -= len(chunk)
                if left < 0:
                    return
    except Exception:  # gone, or slow: then it does not hear why
        return
