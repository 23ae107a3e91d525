"""What a monitoring system may know: counts, times and sizes, never names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from unseen.serve.desk import Desk, Inspection

__all__ = ["Metrics"]


class Metrics(Collector):
    """The numbers of one server, in Prometheus' text format.

    Args:
        desk: Asked for what is so at the moment.
    """

    def __init__(self, desk: Desk) -> None:
        self.registry = CollectorRegistry()
        self.desk = desk
        self.inspections = Counter(
            "unseen_inspections", "Finished inspections by verdict.", ["verdict"], registry=self.registry
        )
        self.lost = Counter(
            "unseen_workers_lost",
            "Inspections whose worker was killed or died.",
            ["reason"],
            registry=self.registry,
        )
        self.refused = Counter(
            "unseen_requests_refused", "Requests that were refused.", ["reason"], registry=self.registry
        )
        self.uploaded = Counter("unseen_upload_bytes", "Bytes of files taken in.", registry=self.registry)
        buckets = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120, 300)
        self.seconds = Histogram(
            "unseen_inspection_seconds",
            "From the first byte examined to the verdict.",
            buckets=buckets,
            registry=self.registry,
        )
        self.waited = Histogram(
            "unseen_wait_seconds", "From the upload to the start.", buckets=buckets, registry=self.registry
        )
        for reason in ("timeout", "crashed"):
            self.lost.labels(reason)
        self.registry.register(self)

    def heard(self, inspection: Inspection, lost: str | None) -> None:
        """Count a finished inspection."""
        self.inspections.labels(inspection.state).inc()
        if lost in ("timeout", "crashed"):
            self.lost.labels(lost).inc()
        if inspection.started is not None and inspection.finished is not None:
            self.seconds.observe(inspection.finished - inspection.started)
            self.waited.observe(inspection.started - inspection.created)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What is so at this moment."""
        desk = self.desk
        for name, text, value in (
            ("unseen_queue", "Files that wait.", desk.queued),
            ("unseen_running", "Files that are being examined.", desk.running),
            ("unseen_results", "Results that can be fetched.", desk.kept),
            ("unseen_result_bytes", "Memory that they take.", desk.kept_bytes),
            ("unseen_spool_bytes", "Bytes of files that wait or come in.", desk.spool.used),
            ("unseen_workers", "Worker processes.", len(desk.slots)),
        ):
            yield GaugeMetricFamily(name, text, value=float(value))

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
