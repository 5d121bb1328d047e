"""Stories: a rule, what one customer did, and what is true at some instants, told to every executor.

Events are lines as in the tests of rule files: an instant, two spaces, the event, optionally two spaces and properties,
optionally two spaces and ``received INSTANT``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa

from predseg.evaluate import batch, reference
from predseg.evaluate.reference import Event
from predseg.language.conditions import Condition
from predseg.language.documents import parse_condition, parse_measure
from predseg.language.time import HOUR, parse_instant, to_datetime
from predseg.language.yaml import read_documents
from tests.evaluate.worlds import to_block

MICROSECOND = 1
Facts = Callable[[Condition, int], bool | None]


def parse_events(text: str) -> list[Event]:
    found = []
    for line in filter(None, map(str.strip, text.splitlines())):
        instant, name, *rest = (part.strip() for part in line.split("  ") if part.strip())
        received = next((parse_instant(part.removeprefix("received ")) for part in rest if part.startswith("received ")), None)
        written = next((part for part in rest if part.startswith("{")), None)
        properties = {key: _value(value) for key, value in read_documents(written)[0].plain().items()} if written else {}
        found.append(Event(parse_instant(instant), name, properties, received))
    return found


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return Decimal(value) if isinstance(value, int) and not isinstance(value, bool) else value


def rule(text: str) -> Condition:
    [node] = read_documents(text)
    return parse_condition(node)


def decided(text: str | Condition, events: str, at: str | int, facts: Facts | None = None) -> bool | None:
    """What all executors say; they must agree."""
    condition = rule(text) if isinstance(text, str) else text
    history, t = parse_events(events), parse_instant(at) if isinstance(at, str) else at
    answer = reference.decide(condition, history, t, facts=facts)
    block, position = _among_neighbours(history)
    truth = batch.truth(block, [t], condition, facts=None if facts is None else _for_batch(facts))
    found = None if truth.unknown[position, 0] else bool(truth.true[position, 0])
    assert found is answer, f"batch says {found}, reference {answer}, at {at}"
    return answer


def measured(text: str, events: str, at: str) -> float | None:
    """The number that all executors give; None is missing."""
    [node] = read_documents(text)
    measure, history, t = parse_measure(node), parse_events(events), parse_instant(at)
    answer = reference.measure(measure, history, t).to_float()
    block, position = _among_neighbours(history)
    [values] = batch.evaluate(block, [t], [measure])
    found = float(values.to_float()[position, 0])
    assert found == answer or (math.isnan(found) and math.isnan(answer)), f"batch says {found}, reference {answer}, at {at}"
    return None if math.isnan(answer) else answer


def tell(text: str | Condition, events: str, expected: Mapping[str, bool | None], facts: Facts | None = None) -> None:
    """Check a rule at some instants. ``<INSTANT`` is one microsecond before it."""
    for at, answer in expected.items():
        t = parse_instant(at.removeprefix("<")) - at.startswith("<")
        found = decided(text, events, t, facts)
        assert found is answer, f"{text} at {at}: {found}, expected {answer}"


def _among_neighbours(history: list[Event]) -> tuple[Any, int]:
    """The history between two others that did much the same a little earlier and later: nothing may leak over."""
    neighbours = [[replace(e, time=e.time + d, received=None if e.received is None else e.received + d) for e in history] for d in (-HOUR, HOUR)]
    other = Event(parse_instant("2000-01-01"), "Something Else")
    events = {"a": [*neighbours[0], other], "me": [*history, other], "z": [*neighbours[1], other]}
    return to_block(events, _kinds(history)), 1


def _kinds(history: list[Event]) -> dict[str, pa.DataType]:
    found: dict[str, pa.DataType] = {}
    for event in history:
        for name, value in event.properties.items():
            if value is not None:
                found[name] = _kind(value)
    return found


def _kind(value: Any) -> pa.DataType:
    if isinstance(value, tuple):
        return pa.list_(pa.string())
    return pa.bool_() if isinstance(value, bool) else pa.decimal128(18, 4) if isinstance(value, Decimal) else pa.string()


def _for_batch(facts: Facts) -> Callable[..., batch.Truth]:
    def answer(condition: Condition, customers: Any, moments: Any) -> batch.Truth:
        found = [facts(condition, int(t)) for t in moments]
        return batch.Truth(np.array([f is True for f in found], bool), np.array([f is None for f in found], bool))

    return answer


def later(at: str, micros: int) -> str:
    """An instant some microseconds later, as text."""
    return to_datetime(parse_instant(at) + micros).isoformat()
