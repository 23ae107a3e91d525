"""Start the server, stop it cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable

from unseen.serve.settings import Settings, is_loopback
from unseen.types import InputError

__all__ = ["serve"]

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(settings: Settings, *, say: Callable[[str], None] = print) -> None:
    """Serve until SIGTERM or SIGINT; what is being examined then is given up, and every file removed.

    Args:
        settings: Where and how.
        say: Told the address once the server can be reached.

    Raises:
        InputError: A package is missing, the address cannot be taken, or the model cannot be loaded.
    """
    try:
        import uvicorn

        from unseen.serve.api import create_app
        from unseen.serve.desk import Desk
    except ImportError as error:
        raise InputError(
            f"{error.name} is missing; install it with: pip install 'unseen[serve]'", reason="missing_package"
        ) from error
    stop_on_signals()
    try:
        with contextlib.closing(listen(settings)) as listener, Desk(settings) as desk:
            config = uvicorn.Config(
                create_app(desk),
                log_level="warning",
                access_log=False,  # ids are what results are fetched with
                server_header=False,
                proxy_headers=settings.proxy is not None,
                forwarded_allow_ips=settings.proxy,
                ws="none",
                http="h11",
                limit_concurrency=1000,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=5,
                h11_max_incomplete_event_size=65_536,
            )
            server = uvicorn.Server(config)
            say(welcome(settings, listener.getsockname()[1]))  # it listens already; nothing sent now is lost
            try:
                asyncio.run(server.serve(sockets=[listener]))
            finally:
                for number in SIGNALS:  # a second Ctrl-C must not leave files behind
                    signal.signal(number, signal.SIG_IGN)
    except KeyboardInterrupt:  # asked for, and no failure
        return


def stop_on_signals() -> None:
    """Leave by an exception, so that all is cleaned up; uvicorn raises it again when it has stopped."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    for number in SIGNALS:
        signal.signal(number, stop)


def listen(settings: Settings) -> socket.socket:
    """Take the address before anything slow happens.

    Raises:
        InputError: It cannot be taken.
    """
    try:
        found = socket.getaddrinfo(
            settings.host.strip("[]"), settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        # A name may stand for any address; what counts is what it stands for here and now.
        if settings.token is None and not all(is_loopback(str(entry[4][0])) for entry in found):
            raise InputError(
                f"--host {settings.host}: is {found[0][4][0]}, which other machines can reach; give a token"
            )
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(256)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"{settings.host}:{settings.port}: cannot listen there ({error}); choose another --host or --port"
        ) from error
    return listener


def welcome(settings: Settings, port: int) -> str:
    """What is said once the server can be reached."""
    host = f"[{settings.host}]" if ":" in settings.host.strip("[]") else settings.host
    lines = [f"unseen: serving on http://{host}:{port}  (Ctrl-C stops)"]
    if not is_loopback(settings.host):
        lines.append(
            "Other machines can reach it, and what they send is not encrypted: put it behind a TLS proxy."
        )
    return "\n".join(lines)
