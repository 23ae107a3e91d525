"""How often one client may do something: a bucket of tokens that fills again, for each client."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict

__all__ = ["Rate", "client_key"]


def client_key(address: str) -> str:
    """Who counts as one client: an IPv4 address, or the /64 of an IPv6 address, which is one household.

    >>> client_key("192.0.2.7"), client_key("2001:db8::7"), client_key("testclient")
    ('192.0.2.7', '2001:db8::/64', 'testclient')
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return address


class Rate:
    """At most `count` a minute on average, and `count` at once.

    Args:
        count: A minute; 0 for no limit.
        most: Clients that are remembered; the one that was quiet longest is forgotten first.
    """

    def __init__(self, count: int, *, most: int = 10_000) -> None:
        self.count = count
        self.most = most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens left, when
        self._guard = threading.Lock()

    def wait(self, client: str, *, now: float | None = None, take: bool = True) -> int:
        """Take one; return 0, or the whole seconds until there is one.

        Args:
            client: Who asks.
            now: Seconds of a clock that only goes forward.
            take: False only looks.

        >>> rate = Rate(2)
        >>> [rate.wait("a", now=now) for now in (0.0, 0.0, 0.0, 30.0)]
        [0, 0, 30, 0]
        """
        if not self.count:
            return 0
        now = time.monotonic() if now is None else now
        each = 60.0 / self.count
        with self._guard:
            left, then = self._buckets.get(client, (float(self.count), now))
            left = min(float(self.count), left + (now - then) / each)
            if left < 1.0:
                return max(1, math.ceil((1.0 - left) * each - 1e-9))
            if take:
                self._buckets[client] = (left - 1.0, now)
                self._buckets.move_to_end(client)
                while len(self._buckets) > self.most:
                    self._buckets.popitem(last=False)
            return 0
