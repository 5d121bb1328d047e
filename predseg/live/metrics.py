"""The state of the server as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from predseg.language.time import SECOND
from predseg.live.desk import BUCKETS, OUTCOMES, Desk


def exposition(desk: Desk) -> bytes:
    """Return the text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(desk))
    return generate_latest(registry)


class _Families:
    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def collect(self) -> Iterator[Metric]:
        desk, now, state = self.desk, self.desk.clock(), self.desk.writer.state
        yield _labelled(
            CounterMetricFamily, "predseg_messages", "Messages by outcome.", "outcome", {n: desk.counts.outcomes[n] for n in OUTCOMES.values()}
        )
        yield _labelled(
            CounterMetricFamily, "predseg_refused_requests", "Requests refused whole.", "status", {str(s): n for s, n in desk.counts.refused.items()}
        )
        yield GaugeMetricFamily("predseg_up", "Whether the store can be used.", 1 if state.down is None else 0)
        yield GaugeMetricFamily("predseg_lag_seconds", "How long the oldest event waits.", desk.lag(now) / SECOND)
        if state.as_of is not None:
            yield GaugeMetricFamily("predseg_freshness_seconds", "Time since the last commit.", max(now - state.as_of, 0) / SECOND)
        yield GaugeMetricFamily("predseg_queue_rows", "Events that wait.", desk.writer.queue.rows)
        yield GaugeMetricFamily("predseg_queue_fill", "Share of the queue that is full.", desk.fill())
        yield CounterMetricFamily("predseg_commits", "Transactions.", value=state.commits)
        yield GaugeMetricFamily("predseg_subscribers", "Readers of changes.", len(desk.subscribers))
        yield _labelled(GaugeMetricFamily, "predseg_segment_members", "Members of a segment.", "segment", desk.served.sizes())
        yield _labelled(
            GaugeMetricFamily, "predseg_alarm", "Whether an alarm rings.", "alarm", {n: int(a.since is not None) for n, a in desk.alarms.items()}
        )
        yield self._took()

    def _took(self) -> HistogramMetricFamily:
        counts, total, buckets = self.desk.counts, 0, []
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), counts.took, strict=True):
            total += number
            buckets.append((bound, total))
        return HistogramMetricFamily("predseg_decision_seconds", "From request to durable decision.", buckets=buckets, sum_value=counts.seconds)


def _labelled(family: type, name: str, said: str, label: str, values: Mapping[str, float]) -> Metric:
    found = family(name, said, labels=[label])
    for value, number in values.items():
        found.add_metric([value], number)
    return found
