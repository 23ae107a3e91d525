"""What a server may use and what it gives: every number in one place, checked once."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from typing import Literal

from unseen.media.reader import Limits
from unseen.types import InputError

__all__ = ["Settings", "is_loopback"]

MEGABYTE = 1_000_000


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def default_workers() -> int:
    """Half of the cores that this process may use, four at most; the network takes several threads."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // 2))


@dataclass(frozen=True)
class Settings:
    """How a server behaves.

    Args:
        host: The address to listen on. Anything but loopback needs a token.
        port: 0 takes a free one.
        token: What clients must show; None for nobody.
        run: The model, see `unseen.Inspector`; `engine`, `device` and `frames` too.
        workers: Processes that examine files, one file at a time each.
        queue: Files that may wait, uploads under way included.
        max_bytes: Of one file.
        max_pixels: Of one frame.
        max_duration: Of a video, in seconds.
        time_limit: Seconds that a file may take before its worker is killed.
        memory: Address space that a worker may take beside its model, in bytes; 0 for no limit.
        rate: Uploads a minute from one client; 0 for no limit. As many may come at once.
        keep: Seconds that a result stays.
        keep_bytes: Of all results together; the oldest go first.
        spool_bytes: Of all waiting files together.
        upload_time: Seconds that an upload may take.
        proxy: Address of a reverse proxy whose `X-Forwarded-For` is believed.
        names: Further host names under which a server without a token may be called.
        folder: Where waiting files lie, in a new private folder; None for the system's temporary folder.
        recycle: Files after which a worker is replaced, so that no leak of a decoder adds up.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    token: str | None = None
    run: str = "default"
    engine: Literal["auto", "onnx", "torch"] = "auto"
    device: str = "auto"
    frames: int = 32
    workers: int = default_workers()
    queue: int = 64
    max_bytes: int = 256 * MEGABYTE
    max_pixels: int = 50 * MEGABYTE
    max_duration: float = 600.0
    time_limit: float = 120.0
    memory: int = 4096 * MEGABYTE
    rate: int = 120
    keep: float = 3600.0
    keep_bytes: int = 512 * MEGABYTE
    spool_bytes: int = 4096 * MEGABYTE
    upload_time: float = 300.0
    proxy: str | None = None
    names: tuple[str, ...] = ()
    folder: str | None = None
    recycle: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot work, and what would open the server to strangers."""
        for name in ("workers", "queue", "max_bytes", "max_pixels", "frames", "recycle"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}; expected at least 1")
        for name in ("max_duration", "time_limit", "keep", "upload_time", "keep_bytes", "spool_bytes"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} {getattr(self, name)}; expected more than 0")
        if not 0 <= self.port <= 65535:  # the system would take it modulo 65536, and serve somewhere else
            raise InputError(f"--port {self.port}; expected 0 (a free one) to 65535")
        if self.token is not None and (len(self.token) < 16 or not self.token.isascii()):
            raise InputError(
                "the token is shorter than 16 characters or not ASCII; make one with "
                "`python -c 'import secrets; print(secrets.token_urlsafe(32))'`",
                reason="token",
            )
        if self.token is not None and self.token != self.token.strip():
            raise InputError("the token begins or ends with white space; remove it", reason="token")
        if self.token is None and not is_loopback(self.host):
            raise InputError(
                f"--host {self.host}: other machines could reach this address and have files examined;"
                " give a token (--token-file, or UNSEEN_TOKEN), or stay on 127.0.0.1",
                reason="token",
            )
        if self.token is None and self.proxy is not None:
            raise InputError(
                "--behind-proxy: what a proxy passes on comes from other machines; give a token "
                "(--token-file, or UNSEEN_TOKEN)",
                reason="token",
            )

    @property
    def limits(self) -> Limits:
        """What one file may ask of a worker."""
        return Limits(pixels=self.max_pixels, bytes=self.max_bytes, seconds=self.max_duration, frames=200_000)
