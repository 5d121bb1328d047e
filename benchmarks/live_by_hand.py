"""The three rules of `live.py` by hand, as a user of Bytewax or of Pathway would write them. Needs nothing of predseg.

An event is (customer, name, time, category, value), time in microseconds; a transition (customer, rule, entered, instant).
Bytewax keeps a customer's events and decides as they come. Pathway recomputes the log of each customer with new events from all
its events, and retracts what is no longer so.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

HOUR = 3_600_000_000
DAY = 24 * HOUR
Event = tuple[str, str, int, str, float]
Transition = tuple[str, str, bool, int]
MOST = {"abandoned": 3 * DAY, "spender": 180 * DAY, "looker": 48 * HOUR}
EVENTS = {"abandoned": ("Product Added", "Order Completed"), "spender": ("Order Completed",), "looker": ("Product Viewed",)}
FAR = 2**62


def holds(rule: str, events: Sequence[tuple[int, str, float]], t: int) -> bool:
    """Whether a rule is true at t, over its own events (time, name, value) up to t, in order of time."""
    inside = [e for e in events if t - MOST[rule] < e[0] <= t]
    if rule == "spender":
        return sum(e[2] for e in inside) > 500
    if rule == "looker":
        return len(inside) >= 3
    after = [e[0] for e in inside[1:]] + [FAR]
    return any(
        name == "Product Added" and time + DAY <= t and following > time + DAY for (time, name, _), following in zip(inside, after, strict=False)
    )


def instants(rule: str, time: int) -> tuple[int, ...]:
    """When an event can change a rule: at once, and by the clock alone."""
    return (time, time + DAY, time + MOST[rule]) if rule == "abandoned" else (time, time + MOST[rule])


def means(rule: str, name: str, category: str) -> bool:
    """Whether a rule looks at an event."""
    return name in EVENTS[rule] and (rule != "looker" or category == "Luxury Watches")


def whole_log(rule: str, events: Sequence[tuple[int, str, float]], end: int) -> Iterator[tuple[bool, int]]:
    """Yield when a rule became true and false over all of a customer's events for it, until ``end``."""
    member = False
    for t in sorted({t for time, _, _ in events for t in instants(rule, time) if t <= end}):
        if holds(rule, events, t) != member:
            member = not member
            yield member, t


def bytewax(events: Iterable[Event], end: int, say: Callable[[Transition], object]) -> None:
    """A keyed stateful step with timers in event time. Its own timers (``notify_at``) are of the machine's clock, which a replay
    leaves behind at once: so a timer fires with the customer's next event, or when the stream ends."""
    import bytewax.operators as op
    from bytewax.dataflow import Dataflow
    from bytewax.testing import TestingSource, run_main

    class Rules(op.StatefulLogic):
        def __init__(self, kept: dict[str, list[tuple[int, str, float]]] | None) -> None:
            self.kept = kept or {rule: [] for rule in MOST}
            self.member = dict.fromkeys(MOST, False)
            self.timers: list[tuple[int, str]] = []

        def until(self, t: int) -> Iterator[tuple[str, bool, int]]:
            while self.timers and self.timers[0][0] <= t:
                at, rule = self.timers.pop(0)
                if holds(rule, self.kept[rule], at) != self.member[rule]:
                    self.member[rule] = not self.member[rule]
                    yield rule, self.member[rule], at

        def on_item(self, value: Event) -> tuple[list[tuple[str, bool, int]], bool]:
            _, name, time, category, number = value
            said = list(self.until(time - 1))
            for rule, kept in self.kept.items():
                if means(rule, name, category):
                    insort(kept, (time, name, number))
                    while kept[0][0] <= time - MOST[rule]:
                        kept.pop(0)
                    for at in instants(rule, time):
                        insort(self.timers, (at, rule))
            return [*said, *self.until(time)], False

        def on_eof(self) -> tuple[list[tuple[str, bool, int]], bool]:
            return list(self.until(end)), True

        def snapshot(self) -> Any:
            return {rule: list(kept) for rule, kept in self.kept.items()}

    from bytewax.outputs import DynamicSink, StatelessSinkPartition

    class Part(StatelessSinkPartition):
        def write_batch(self, items: list[Any]) -> None:
            for customer, (rule, member, at) in items:
                say((customer, rule, member, at))

    class Sink(DynamicSink):
        def build(self, step_id: str, worker_index: int, worker_count: int) -> Part:
            return Part()

    flow = Dataflow("carts")
    keyed = op.key_on("customer", op.input("events", flow, TestingSource(events, batch_size=100)), lambda event: event[0])
    op.output("said", op.stateful("rules", keyed, Rules), Sink())
    run_main(flow)


def pathway(events: Iterable[Event], end: int, say: Callable[[Transition, bool], object]) -> None:
    """The log of each customer as a function of its sorted events, kept up to date; late events are in their place."""
    import pathway as pw

    class Schema(pw.Schema):
        customer: str
        rule: str
        time: int
        name: str
        value: float

    class Source(pw.io.python.ConnectorSubject):
        def run(self) -> None:
            for customer, name, time, category, value in events:
                for rule in MOST:
                    if means(rule, name, category):
                        self.next(customer=customer, rule=rule, time=time, name=name, value=value)

    def log(rule: str, of: tuple[Any, ...]) -> list[tuple[bool, int]]:
        return list(whole_log(rule, of, end))

    rows = pw.io.python.read(Source(), schema=Schema, autocommit_duration_ms=100)
    keyed = rows.groupby(pw.this.customer, pw.this.rule).reduce(
        pw.this.customer, pw.this.rule, of=pw.reducers.sorted_tuple(pw.make_tuple(pw.this.time, pw.this.name, pw.this.value))
    )
    logs = keyed.select(pw.this.customer, pw.this.rule, change=pw.apply_with_type(log, list[tuple[bool, int]], pw.this.rule, pw.this.of))
    changes = logs.flatten(pw.this.change).select(pw.this.customer, pw.this.rule, member=pw.this.change[0], at=pw.this.change[1])

    def changed(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
        say((row["customer"], row["rule"], row["member"], row["at"]), is_addition)

    pw.io.subscribe(changes, changed)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE, default_logging=False)
