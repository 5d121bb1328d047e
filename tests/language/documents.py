"""Rules as texts: a corpus of everything the language says, and random documents for fuzzing."""

from __future__ import annotations

import random
from typing import Any

CONDITIONS = (
    "{did: Product Added, within: 3 days, then: {did_not: [Order Completed, Product Added], within: 24 hours}}",
    "{did: Order Completed, sum: value, more_than: 5000, within: 6 months}",
    "{did: Product Viewed, where: {category: Luxury Watches}, within: 48 hours}",
    "{in: abandoned_cart}",
    "{score: churn, top: 10%}",
    "{score: churn, rises: 0.2, within: 14 days}",
    "{trait: {country: [GB, FR], tier: {not: bronze}}}",
    "{rfv: {of: Order Completed, within: 365 days, recency: [4, 5], value: {at_least: 4}}}",
    "{cluster: {personas: [bargain hunter]}}",
    "{did: A, where: {category: X, price: {more_than: 100}, brand: [A, B], name: {contains: gold}, coupon: {exists: true}}}",
    "{did: Order Completed, from: 12 months ago, until: 90 days ago, between: [1, 3]}",
    "{did: Order Completed, avg: value, at_least: 12.50, since: 2026-01-01}",
    "{did: A, then: {did: B, within: 1 hour, same: session, then: {did: C, at_least: 2, same: session}}}",
    "{some: {at_least: 2, of: [{did: A}, {did_not: B, within: 1 week}, {all: [{not_in: s}, {none: [{did: C, exactly: 2}]}]}]}}",
)
MEASURES = (
    "{did: Order Completed}",
    "{did: Order Completed, within: 90 days}",
    "{did: Order Completed, sum: value, within: 365 days}",
    "{did: Order Completed, days_since: last}",
    "{did: Order Completed, days_since: first}",
    "{did: Order Completed, gap: std}",
    "{did: Product Viewed, within: 36 hours}",
    "{did: [Email Opened, Email Link Clicked], distinct: campaign}",
)

_NAMES = ("A", "B", "C", "Order Completed")
_DURATIONS = ("2 days", "48h", "3 weeks", "6 months", "1 year")
_NUMBERS = (0, 1, 2, 5000, -3, "12.50", "0.0001")
_COMPARISONS = ("more_than", "at_least", "less_than", "at_most", "exactly")


def random_document(r: random.Random, depth: int = 3) -> dict[str, Any]:
    """A random rule of every verb: dicts, lists, text (in Python's quotes) and numbers as they are written."""
    verb = r.choice(["did", "did", "did", "did_not", "score", "in", "trait", "rfv", "cluster", *(["all", "any", "none", "some"] if depth else [])])
    if verb in ("all", "any", "none"):
        return {verb: [random_document(r, depth - 1) for _ in range(r.randrange(1, 4))]}
    if verb == "some":
        parts = [random_document(r, depth - 1) for _ in range(r.randrange(1, 4))]
        return {"some": {"at_least": r.randrange(1, len(parts) + 1), "of": parts}}
    return _random_leaf(r, verb)


def _random_leaf(r: random.Random, verb: str) -> dict[str, Any]:
    match verb:
        case "did":
            aggregate = {r.choice(["sum", "avg", "min", "max", "distinct"]): "value"} if r.random() < 0.4 else {}
            then = {"then": _random_step(r, 2)} if r.random() < 0.4 else {}
            return {"did": _names(r)} | _where(r) | _when(r) | aggregate | (_comparison(r) if aggregate or r.random() < 0.4 else {}) | then
        case "did_not":
            return {"did_not": _names(r)} | _where(r) | _when(r)
        case "score":
            ways = [{"top": "10%"}, {"bottom": "2.5%"}, {"decile": [1, 2]}, {"rises": "0.2", "within": "2 weeks"}, _comparison(r)]
            return {"score": "churn"} | r.choice(ways)
        case "rfv":
            return {"rfv": {"of": _names(r), "recency": [1, 2], "value": {"at_least": 3}} | _when(r) | _where(r)}
        case "trait":
            return {"trait": {name: _test(r) for name in r.sample(["country", "tier", "age"], r.randrange(1, 4))}}
        case "cluster":
            return {"cluster": {"personas": ["a", "b"]}}
    return {r.choice(["in", "not_in"]): "segment_a"}


def _random_step(r: random.Random, depth: int) -> dict[str, Any]:
    within = {"within": "36 hours"} if r.random() < 0.5 else {}
    same = {"same": "session"} if r.random() < 0.3 else {}
    if r.random() < 0.4:
        return {"did_not": _names(r)} | _where(r) | within | same
    count = {"at_least": r.randrange(1, 3)} if r.random() < 0.3 else {}
    then = {"then": _random_step(r, depth - 1)} if depth and r.random() < 0.4 else {}
    return {"did": _names(r)} | _where(r) | within | same | count | then


def _names(r: random.Random) -> str | list[str]:
    return r.choice(_NAMES) if r.random() < 0.6 else r.sample(_NAMES, 2)


def _where(r: random.Random) -> dict[str, Any]:
    return {"where": {name: _test(r) for name in r.sample(["category", "price", "coupon"], r.randrange(1, 3))}} if r.random() < 0.4 else {}


def _test(r: random.Random) -> Any:
    return r.choice(
        [
            "Luxury Watches",
            ["X", "Y"],
            5,
            "true",
            {"not": ["X", 3]},
            {"contains": "gold"},
            {"exists": "false"},
            {"more_than": 3, "at_most": "7.5"},
            {"between": [1, 2]},
            {"at_least": "Text"},
        ]
    )


def _when(r: random.Random) -> dict[str, Any]:
    ways: list[dict[str, Any]] = [
        {},
        {"within": r.choice(_DURATIONS)},
        {"from": "13 months ago", "until": "2 days ago"},
        {"since": "2026-01-01"},
        {"until": "3 weeks ago", "since": "2020-01-01"},
    ]
    return r.choice(ways)


def _comparison(r: random.Random) -> dict[str, Any]:
    return {"between": [-1, 2]} if r.random() < 0.15 else {r.choice(_COMPARISONS): r.choice(_NUMBERS)}


_ORDERED = {"between", "all", "any", "none", "of"}  # here the order of a list is part of the declaration


def to_yaml(document: Any, shuffle: random.Random | None = None, key: str = "") -> str:
    """Write a document in flow style, with its keys and the names in its lists in another order if asked."""
    if isinstance(document, dict):
        items = list(document.items())
        if shuffle:
            shuffle.shuffle(items)
        return "{" + ", ".join(f"{k}: {to_yaml(v, shuffle, k)}" for k, v in items) + "}"
    if isinstance(document, list):
        parts = shuffle.sample(document, len(document)) if shuffle and (key not in _ORDERED or not isinstance(document[0], dict | int)) else document
        return "[" + ", ".join(to_yaml(v, shuffle) for v in parts) + "]"
    return str(document)
