"""From YAML to checked declarations: verb-first mappings become measures, conditions and predictions.

A condition is one mapping whose verb key says what it is; the other keys are its adverbs. Everything that is not
understood is refused with its place, what was expected and the nearest thing that is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any as Anything

from predseg.errors import ConfigError, nearest
from predseg.language.conditions import All, Any, Change, Cluster, Condition, Did, In, NoneOf, Prediction, Rfv, Score, Some, Trait
from predseg.language.measures import COMPARISONS, PROPERTY_AGGREGATES, Aggregate, Comparison, Events, Filter, Measure, Step, Test, Window, kind_of
from predseg.language.time import parse_duration, parse_instant
from predseg.language.yaml import Node

AT_LEAST_ONE = Comparison("at_least", Decimal(1))
NEVER = Comparison("exactly", Decimal(0))

_WHEN = ("within", "from", "until", "since")
_DID = (*PROPERTY_AGGREGATES, *COMPARISONS, *_WHEN, "where", "then")
ADVERBS: dict[str, tuple[str, ...]] = {
    "did": _DID,
    "did_not": ("where", *_WHEN),
    "score": (*COMPARISONS, "top", "bottom", "decile", "rises", "falls", "within"),
    "in": (),
    "not_in": (),
    "trait": (),
    "rfv": (),
    "cluster": (),
    "all": (),
    "any": (),
    "none": (),
    "some": (),
}
"""The verbs of a condition, each with the adverbs it takes."""

_MEASURE_ONLY = ("days_since", "gap")
_WORDS = {*_MEASURE_ONLY, *(adverb for adverbs in ADVERBS.values() for adverb in adverbs)}
_STEP = ("did", "did_not", "where", "within", "at_least", "same", "then")
_TESTS = (*COMPARISONS, "not", "contains", "exists")
_MISSPELLED_NUMBER = re.compile(r"[^\w\s]*\s*[-+]?\d[\d.,_' ]*\s*[^\w\s]*", re.ASCII)
_SHARE = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,15})?)\s*%", re.ASCII)


def parse_condition(node: Node) -> Condition:
    """Return the condition of a mapping such as ``{did: Order Completed, at_least: 2, within: 90 days}``."""
    verb = _verb(node, "a condition", tuple(ADVERBS))
    _allowed(node, verb, ADVERBS[verb])
    return _PARSERS[verb](node, node.value[verb])


def parse_measure(node: Node) -> Measure:
    """Return the measure of a mapping such as ``{did: Product Viewed, within: 48 hours}``: a condition without its threshold."""
    _verb(node, "a measure", ("did",))
    _allowed(node, "did", tuple(a for a in _DID if a not in COMPARISONS) + _MEASURE_ONLY)
    return _measure(node, node.value["did"])


def parse_prediction(node: Node) -> Prediction:
    """Return the prediction of a mapping such as ``{did_not: Order Completed, within_next: 90 days}``; a ``sum`` alone is an expected value."""
    verb = _verb(node, "`predict`", ("did", "did_not"))
    adverbs = ("where", "within_next") if verb == "did_not" else (*PROPERTY_AGGREGATES, *COMPARISONS, "where", "within_next")
    _allowed(node, verb, adverbs)
    if "within_next" not in node.value:
        raise ConfigError("E311", node.place, "a prediction needs its horizon", "add `within_next: 30 days`")
    horizon = read_duration(node.value["within_next"], "within_next")
    aggregate, of = _aggregate(node)
    measure = Measure(_events(node, node.value[verb]), Window(horizon), aggregate, of)
    comparison = NEVER if verb == "did_not" else _comparison(node)
    if aggregate == "sum" and comparison is None:
        return Prediction(measure, None, horizon)
    if comparison is None and aggregate != "count":
        raise ConfigError("E312", node.place, f"a prediction of the {aggregate} needs a threshold", "add a comparison such as `more_than: 100`")
    return Prediction(measure, comparison or AT_LEAST_ONE, horizon)


def _verb(node: Node, what: str, verbs: tuple[str, ...]) -> str:
    keys = node.mapping(what)
    found = [key for key in keys if key in verbs]
    if len(found) > 1:
        raise ConfigError(
            "E313",
            node.key_place(found[1]),
            f"{what} has one verb, found {found[0]!r} and {found[1]!r}",
            "put each into its own mapping under `all:`",
        )
    if not found:
        hint = nearest(next(iter(keys)), verbs) if keys else "write for example `did: Order Completed`"
        raise ConfigError("E314", node.place, f"{what} needs a verb, found {', '.join(keys) or 'nothing'}", hint)
    return found[0]


def _allowed(node: Node, verb: str, adverbs: tuple[str, ...]) -> None:
    for key in node.value:
        if key != verb and key not in adverbs:
            place = node.key_place(key)
            if key in ("days_since", "gap"):
                raise ConfigError("E315", place, f"`{key}` belongs to measures, not to conditions", "write `did: ..., within: ...` instead")
            if key == "same" and "then" in adverbs:
                raise ConfigError("E315", place, "`same` ties a step to the one before", "write it inside the `then`")
            raise ConfigError("E315", place, f"`{verb}` takes no {key!r}", _adverb_help(key, adverbs) if adverbs else f"`{verb}` stands alone")


def _adverb_help(key: str, adverbs: tuple[str, ...]) -> str:
    """Name the nearest adverb, but none for a word that has a meaning elsewhere."""
    hint = nearest(key, adverbs)
    return f"it takes only {', '.join(adverbs)}" if key in _WORDS and key not in hint else hint


def _events(node: Node, verb: Node) -> Events:
    return Events(tuple(sorted(set(verb.texts("an event name")))), parse_where(node.value.get("where")))


def parse_where(node: Node | None) -> tuple[Filter, ...]:
    """Return the tests of properties that a mapping declares, none of nothing."""
    if node is None:
        return ()
    return tuple(Filter(name, _tests(test, name)) for name, test in sorted(node.mapping("`where`").items()))


def _tests(node: Node, name: str) -> tuple[Test, ...]:
    if not node.is_mapping:
        return (Test("is", _operands(node, name)),)
    found = node.mapping(f"the tests of {name!r}", _TESTS)
    if not found:
        raise ConfigError("E316", node.place, f"no test of {name!r}", f"write one of {', '.join(_TESTS)}")
    return tuple(_test(op, operand, name) for op, operand in sorted(found.items()))


def _test(op: str, node: Node, name: str) -> Test:
    if op == "not":
        return Test("not", _operands(node, name))
    if op == "exists":
        if not isinstance(node.value, bool):
            raise ConfigError("E316", node.place, f"`exists` is true or false, found {node.show()}", f"write `{name}: {{exists: true}}`")
        return Test("exists", (node.value,))
    if op == "contains":
        return Test("contains", (node.text("`contains`"),))
    return Test(op, read_pair(node, _threshold) if op == "between" else (_threshold(node, f"`{op}`"),))


def _threshold(node: Node, what: str) -> str | Decimal:
    """Return what a property is compared with: a number, or text that is no misspelled number (`> 5000`, `5,000`)."""
    return node.value if isinstance(node.value, str) and not _MISSPELLED_NUMBER.fullmatch(node.value) else node.number(what)


def _operands(node: Node, name: str) -> tuple[str | bool | Decimal, ...]:
    nodes = node.value if node.is_list else [node]
    if not nodes:
        raise ConfigError("E316", node.place, f"no value for {name!r}", "write one value or a list of them")
    found = dict.fromkeys((kind_of(o), o) for o in (_operand(n, name) for n in nodes))
    return tuple(operand for _, operand in sorted(found))


def _operand(node: Node, name: str) -> str | bool | Decimal:
    if node.value is None or node.is_list or node.is_mapping:
        raise ConfigError(
            "E316",
            node.place,
            f"the value of {name!r} must be text, a number, true or false, found {node.show()}",
            "for an absent property write `exists: false`",
        )
    return node.value if isinstance(node.value, str | bool) else Decimal(node.value)


def read_pair(node: Node, read: Callable[[Node, str], Anything] = Node.number) -> tuple[Anything, Anything]:
    """Return the ends of `between`, the lower one first, or refuse."""
    if not node.is_list or len(node.value) != 2:
        raise ConfigError(
            "E317", node.place, f"`between` takes two numbers, found {node.show()}", "write `between: [10, 20]`; both ends are included"
        )
    low, high = (read(n, "`between`") for n in node.value)
    if kind_of(low) != kind_of(high):
        raise ConfigError("E317", node.place, "`between` has a number and a text", "write two of one kind")
    if low > high:
        raise ConfigError("E317", node.place, f"`between` has {low} before {high}", f"write `between: [{high}, {low}]`")
    return low, high


def _comparison(node: Node) -> Comparison | None:
    found = [op for op in COMPARISONS if op in node.value]
    if len(found) > 1:
        raise ConfigError(
            "E317", node.key_place(found[1]), f"one comparison at most, found {found[0]!r} and {found[1]!r}", "write `between: [low, high]`"
        )
    if not found:
        return None
    op, operand = found[0], node.value[found[0]]
    return Comparison(op, *read_pair(operand)) if op == "between" else Comparison(op, operand.number(f"`{op}`"))


def _aggregate(node: Node) -> tuple[Aggregate, str | None]:
    found = [a for a in (*PROPERTY_AGGREGATES, *_MEASURE_ONLY) if a in node.value]
    if len(found) > 1:
        raise ConfigError("E318", node.key_place(found[1]), f"one aggregate at most, found {found[0]!r} and {found[1]!r}", "declare two measures")
    if not found:
        return "count", None
    name, operand = found[0], node.value[found[0]].text(f"`{found[0]}`")
    if name in PROPERTY_AGGREGATES:
        return name, operand
    choices = {"days_since": ("first", "last"), "gap": ("mean", "std", "last")}[name]
    if operand not in choices:
        raise ConfigError("E318", node.value[name].place, f"`{name}` is one of {', '.join(choices)}, found {operand!r}", nearest(operand, choices))
    return f"{name}_{operand}", None  # type: ignore[return-value]


def _window(node: Node) -> Window:
    found = node.value
    if "within" in found:
        for other in ("from", "until", "since"):
            if other in found:
                raise ConfigError(
                    "E319", node.key_place(other), f"`within` and `{other}` exclude each other", "use `from: 12 months ago` with `until: 90 days ago`"
                )
        return Window(read_duration(found["within"], "within"))
    if "from" in found and "since" in found:
        raise ConfigError("E319", node.key_place("since"), "`from` and `since` exclude each other", "keep one start")
    start = _ago(found["from"], "from") if "from" in found else None
    until = _ago(found["until"], "until") if "until" in found else 0
    if start is not None and start <= until:
        raise ConfigError("E319", node.key_place("from"), "the window is empty: `from` must lie further back than `until`", "exchange the two")
    return Window(start, until, _instant(found["since"]) if "since" in found else None)


def time_error(node: Node, what: str, error: ValueError) -> ConfigError:
    """Return the refusal of a duration or an instant; the error's text is "what was found: how to write it"."""
    found, _, remedy = str(error).partition(": ")
    return ConfigError("E320", node.place, f"`{what}`: {found}", remedy)


def read_duration(node: Node, what: str) -> int:
    """Return the microseconds of a duration, or refuse: ``what`` names the key."""
    try:
        return parse_duration(node.value if isinstance(node.value, str) else node.show())
    except ValueError as error:
        raise time_error(node, what, error) from None


def _ago(node: Node, what: str) -> int:
    text = str(node.plain())
    if not text.endswith(" ago"):
        raise ConfigError("E320", node.place, f"`{what}` is a duration ago, found {node.show()}", f"write `{what}: 90 days ago`")
    try:
        return parse_duration(text.removesuffix(" ago"))
    except ValueError as error:
        raise time_error(node, what, error) from None


def _instant(node: Node) -> int:
    try:
        return parse_instant(str(node.plain()))
    except ValueError as error:
        raise time_error(node, "since", error) from None


def _measure(node: Node, verb: Node) -> Measure:
    aggregate, of = _aggregate(node)
    window = _window(node)
    then = _then(node.value["then"], None) if "then" in node.value else None
    _check_absence(node, window, then)
    return Measure(_events(node, verb), window, aggregate, of, then)


def _then(node: Node, tied: str | None) -> Step:
    verb = _verb(node, "`then`", ("did", "did_not"))
    _allowed(node, verb, _STEP)
    same = node.value["same"].text("`same`") if "same" in node.value else None
    if tied and same and same != tied:
        raise ConfigError("E321", node.value["same"].place, f"one property ties a chain, found {tied!r} and {same!r}", f"write `same: {tied}`")
    within = read_duration(node.value["within"], "within") if "within" in node.value else None
    if verb == "did_not":
        for key in ("then", "at_least"):
            if key in node.value:
                raise ConfigError("E321", node.key_place(key), f"`did_not` inside `then` takes no `{key}`", "let `did_not` be the last step")
        return Step(_events(node, node.value[verb]), within, False, 1, same)
    at_least = node.value["at_least"].number("`at_least`") if "at_least" in node.value else Decimal(1)
    if at_least != int(at_least) or at_least < 1:
        raise ConfigError("E321", node.value["at_least"].place, f"`at_least` counts events: 1 or more, found {at_least}", "write `at_least: 1`")
    then = _then(node.value["then"], same or tied) if "then" in node.value else None
    return Step(_events(node, node.value[verb]), within, True, int(at_least), same, then)


def _check_absence(node: Node, window: Window, then: Step | None) -> None:
    """Refuse an absence that outlasts the window of what it follows: nobody could ever match."""
    step = then
    while step is not None:
        if not step.did and step.within is not None and window.start is not None and step.within >= window.start:
            found, needed = (
                node.value["then"].place,
                "the absence is known only when its time has passed, and by then the first event has left its window",
            )
            raise ConfigError("E322", found, f"nobody can ever match: {needed}", "make the outer `within` longer than the one of `did_not`")
        step = step.then


def _did(node: Node, verb: Node) -> Condition:
    measure, comparison = _measure(node, verb), _comparison(node)
    if measure.aggregate != "count" and comparison is None:
        raise ConfigError("E312", node.place, f"`{measure.aggregate}: {measure.of}` needs a threshold", "add a comparison such as `more_than: 100`")
    return Did(measure, comparison or AT_LEAST_ONE)


def _did_not(node: Node, verb: Node) -> Condition:
    return Did(Measure(_events(node, verb), _window(node)), NEVER)


def _score(node: Node, verb: Node) -> Condition:
    model, comparison = verb.text("the name of a model"), _comparison(node)
    ways = [k for k in ("top", "bottom", "decile", "rises", "falls") if k in node.value] + (["a comparison"] if comparison else [])
    if len(ways) != 1:
        raise ConfigError(
            "E323",
            node.place,
            f"`score` needs one way to choose, found {', '.join(ways) or 'none'}",
            "write `top: 10%`, `decile: [1, 2]` or `at_least: 0.5`",
        )
    if "within" in node.value and ways[0] not in ("rises", "falls"):
        raise ConfigError("E323", node.key_place("within"), "`within` goes with `rises` or `falls`", "leave it away")
    match ways[0]:
        case "top":
            return Score(model, top=read_share(node.value["top"], "top"))
        case "bottom":
            return Score(model, bottom=read_share(node.value["bottom"], "bottom"))
        case "decile":
            return Score(model, deciles=_ranks(node.value["decile"], "decile", 10))
        case "rises" | "falls" as direction:
            if "within" not in node.value:
                raise ConfigError("E323", node.place, f"`{direction}` needs its time", "add `within: 14 days`")
            return Score(
                model, change=Change(direction, node.value[direction].number(f"`{direction}`"), read_duration(node.value["within"], "within"))
            )
    return Score(model, comparison)


def read_share(node: Node, what: str) -> Decimal:
    """Return the percentage of a share such as ``10%``, or refuse."""
    if isinstance(node.value, int | Decimal) and not isinstance(node.value, bool) and 0 < node.value <= 100:
        raise ConfigError("E324", node.place, f"`{what}` is a share, found {node.show()}", f"did you mean {node.show()}%?")
    match = _SHARE.fullmatch(node.value) if isinstance(node.value, str) else None
    if match is None or not 0 < Decimal(match[1]) <= 100:
        raise ConfigError("E324", node.place, f"`{what}` is a share over 0% and up to 100%, found {node.show()}", f"write `{what}: 10%`")
    return Decimal(match[1])


def _ranks(node: Node, what: str, highest: int) -> tuple[int, ...]:
    nodes = node.value if node.is_list else [node]
    ranks = tuple(sorted({n.value for n in nodes if isinstance(n.value, int) and not isinstance(n.value, bool) and 1 <= n.value <= highest}))
    if not nodes or len(ranks) < len({str(n.plain()) for n in nodes}):
        raise ConfigError("E324", node.place, f"`{what}` takes whole numbers from 1 to {highest}, found {node.plain()}", f"write `{what}: [1, 2]`")
    return ranks


def _in(node: Node, verb: Node) -> Condition:
    return In(verb.text("the name of a segment"))


def _not_in(node: Node, verb: Node) -> Condition:
    return In(verb.text("the name of a segment"), member=False)


def _trait(node: Node, verb: Node) -> Condition:
    traits = tuple(Trait(Filter(name, _tests(test, name))) for name, test in sorted(verb.mapping("`trait`").items()))
    if not traits:
        raise ConfigError("E316", verb.place, "`trait` names no trait", "write for example `trait: {country: [GB, FR]}`")
    return traits[0] if len(traits) == 1 else All(traits)


def _rfv(node: Node, verb: Node) -> Condition:
    keys = verb.mapping("`rfv`", ("of", "where", "recency", "frequency", "value", *_WHEN))
    scores = tuple((name, _rfv_score(keys[name], name)) for name in ("recency", "frequency", "value") if name in keys)
    if "of" not in keys or not scores:
        raise ConfigError(
            "E325",
            verb.place,
            "`rfv` needs `of: EVENT` and at least one of recency, frequency, value",
            "write `rfv: {of: Order Completed, recency: [4, 5]}`",
        )
    return Rfv(_events(verb, keys["of"]), _window(verb), scores)


def _rfv_score(node: Node, name: str) -> Comparison | tuple[int, ...]:
    if not node.is_mapping:
        return _ranks(node, name, 5)
    node.mapping(f"`{name}`", COMPARISONS)
    comparison = _comparison(node)
    if comparison is None:
        raise ConfigError("E325", node.place, f"`{name}` needs a comparison", f"write `{name}: {{at_least: 4}}`")
    return comparison


def _cluster(node: Node, verb: Node) -> Condition:
    names = verb.mapping("`cluster`")
    if len(names) != 1:
        raise ConfigError("E325", verb.place, "`cluster` names one latent segmentation", "write `cluster: {personas: [bargain hunter]}`")
    [(model, chosen)] = names.items()
    return Cluster(model, tuple(sorted(chosen.texts("a cluster"))))


def _parts(node: Node, what: str) -> tuple[Condition, ...]:
    if not node.is_list or not node.value:
        raise ConfigError(
            "E326", node.place, f"`{what}` takes a list of conditions, found {node.show()}", f"write `{what}: [{{did: Order Completed}}]`"
        )
    return tuple(parse_condition(part) for part in node.value)


def _some(node: Node, verb: Node) -> Condition:
    keys = verb.mapping("`some`", ("at_least", "of"))
    if "of" not in keys or "at_least" not in keys:
        raise ConfigError("E326", verb.place, "`some` needs `at_least` and `of`", "write `some: {at_least: 2, of: [...]}`")
    parts, n = _parts(keys["of"], "of"), keys["at_least"].number("`at_least`")
    if n != int(n) or not 1 <= n <= len(parts):
        raise ConfigError(
            "E326", keys["at_least"].place, f"`at_least` is a whole number from 1 to {len(parts)}, found {n}", "it counts the conditions under `of`"
        )
    return Some(int(n), parts)


_PARSERS: dict[str, Callable[[Node, Node], Condition]] = {
    "did": _did,
    "did_not": _did_not,
    "score": _score,
    "in": _in,
    "not_in": _not_in,
    "trait": _trait,
    "rfv": _rfv,
    "cluster": _cluster,
    "all": lambda node, verb: All(_parts(verb, "all")),
    "any": lambda node, verb: Any(_parts(verb, "any")),
    "none": lambda node, verb: NoneOf(_parts(verb, "none")),
    "some": _some,
}
