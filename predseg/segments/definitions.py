"""Segment files: several YAML documents become checked rules, in an order in which each can use those before it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from predseg.config import Config, read_text
from predseg.errors import ConfigError, DataError, nearest
from predseg.language import conditions as c
from predseg.language.actions import Action, parse_actions
from predseg.language.assignment import HOLDOUT, Experiment
from predseg.language.consent import purpose_name
from predseg.language.documents import parse_condition, read_share
from predseg.language.english import say_condition
from predseg.language.measures import PROPERTY_AGGREGATES
from predseg.language.serving import Stale, read_stale
from predseg.language.yaml import Node, read_documents

REFRESH = ("daily", "live")
KEYS = tuple("segment about owner purpose refresh max_stale on_stale match holdout split on_enter on_leave tags tests".split())

STANDARD_EVENTS = frozenset(
    "Product Viewed|Product Clicked|Products Searched|Product List Viewed|Product List Filtered|Promotion Viewed|Promotion Clicked|Product Added|Product Removed|"
    "Cart Viewed|Checkout Started|Checkout Step Viewed|Checkout Step Completed|Payment Info Entered|Order Completed|Order Updated|Order Refunded|Order Cancelled|"
    "Coupon Entered|Coupon Applied|Coupon Denied|Coupon Removed|Product Added to Wishlist|Product Removed from Wishlist|Wishlist Product Added to Cart|"
    "Product Shared|Cart Shared|Product Reviewed|Email Delivered|Email Opened|Email Link Clicked|Email Bounced|Email Marked as Spam|Unsubscribed|"
    "Signed Up|Signed In|Signed Out|Trial Started|Trial Ended|Identify|Page Viewed|Screen Viewed|Group|Alias".split("|")
)
"""Event names that a rule may use before they first occur (Segment's e-commerce and e-mail specifications)."""


@dataclass(frozen=True)
class Segment:
    """A named rule. ``definition`` is the hash of its meaning and of what it uses: a changed rule starts a new history."""

    name: str
    match: c.Condition
    definition: str
    about: str = ""
    owner: str = ""
    purpose: str | None = None
    refresh: str = "daily"
    tags: tuple[str, ...] = ()
    on_enter: tuple[Action, ...] = ()
    on_leave: tuple[Action, ...] = ()
    experiment: Experiment | None = None
    stale: Stale = Stale()
    node: Node | None = None

    @property
    def live(self) -> bool:
        """Whether it changes the moment its customers do."""
        return self.refresh == "live"

    def sentence(self) -> str:
        """The rule as one English sentence."""
        tries = f" {self.experiment.says()}." if self.experiment else ""
        return f"{self.name}: customers who {say_condition(self.match)}.{tries}"

    def uses(self) -> list[str]:
        """The segments that its rule asks about."""
        return list(dict.fromkeys(p.segment for p in c.walk(self.match) if isinstance(p, c.In)))


@dataclass(frozen=True)
class Vocabulary:
    """What a rule may name. None means that nothing is known yet, so anything may be named."""

    models: frozenset[str]
    events: frozenset[str] | None = None
    occurred: frozenset[str] | None = None
    properties: frozenset[str] | None = None
    present: frozenset[str] | None = None
    traits: frozenset[str] | None = None
    channels: frozenset[str] | None = None
    numberless: frozenset[str] = frozenset()
    purposes: tuple[str, ...] = ()


def load_segments(config: Config, vocabulary: Vocabulary | None = None, instead: Mapping[str, str] | None = None) -> dict[str, Segment]:
    """Read all segment files of a project, in dependency order; ``instead`` of what stands in some files these texts are read.

    Raises:
        ConfigError: with the place, for anything that is not understood, a name that stands twice, or a cycle.
    """
    return arrange(_nodes(config, instead or {}), vocabulary or Vocabulary(frozenset(config.models)), config.timezone or "UTC")


def with_used(segments: Mapping[str, Segment], wanted: Collection[str]) -> dict[str, Segment]:
    """Return the wanted segments and all that they use; ``segments`` stand in dependency order, and so do these."""
    needed: set[str] = set()
    for name in reversed(list(segments)):
        if name in wanted or name in needed:
            needed |= {name, *segments[name].uses()}
    return {name: s for name, s in segments.items() if name in needed}


def no_segments(config: Config) -> ConfigError:
    """Return the refusal of a project without segments."""
    if config.segments:
        remedy = "write a rule into such a file, see docs/rules.md, or correct `segments:`"
        return ConfigError("E345", config.file.name, f"no rule is in any file that is called {' or '.join(config.segments)}", remedy)
    return ConfigError("E345", config.file.name, "the project has no segments", "name their files with `segments: segments/*.yaml`")


def _nodes(config: Config, instead: Mapping[str, str]) -> Iterator[Node]:
    ahead = dict(instead)
    for pattern in config.segments:
        found = sorted(config.root.glob(pattern)) if not Path(pattern).is_absolute() else [Path(pattern)]
        if not found and not set("*?[") & set(pattern):
            raise ConfigError("E330", f"segments: {pattern}", "no such file", "create it, or correct `segments:` in the project file")
        for path in found:
            text = read_text(path, str(path))
            name = str(path.relative_to(config.root) if path.is_relative_to(config.root) else path)
            yield from read_documents(ahead.pop(name), name) if name in ahead else _documents(text, name)
    for name, text in ahead.items():  # files that are yet to be written
        yield from read_documents(text, name)


@lru_cache(maxsize=1024)
def _documents(text: str, file: str) -> tuple[Node, ...]:
    """Read the documents of a file once: a command does so to answer, and again to leave a manifest of what it was asked."""
    return tuple(read_documents(text, file))


def arrange(nodes: Iterable[Node], vocabulary: Vocabulary, timezone: str = "UTC") -> dict[str, Segment]:
    """Return the segments of some documents, checked, each after those that it uses; ``timezone`` is that of their quiet hours."""
    drafts: dict[str, tuple[Node, c.Condition]] = {}
    for node in nodes:
        name, match = _draft(node)
        if name in drafts:
            raise ConfigError(
                "E331", node.value["segment"].place, f"the segment {name!r} stands twice, first at {drafts[name][0].place}", "rename one of them"
            )
        drafts[name] = (node, match)
    for node, _ in drafts.values():
        check_names(node, vocabulary, frozenset(drafts))
    done: dict[str, Segment] = {}
    for name in drafts:
        _place(name, drafts, done, ())
    return {name: _with_actions(segment, timezone) for name, segment in done.items()}


def _with_actions(segment: Segment, timezone: str) -> Segment:
    assert segment.node is not None
    keys = segment.node.value
    enter, leave = (parse_actions(keys[key], key, timezone) if key in keys else () for key in ("on_enter", "on_leave"))
    return replace(segment, on_enter=enter, on_leave=leave)


def _draft(node: Node) -> tuple[str, c.Condition]:
    keys = node.mapping("a segment", KEYS)
    for key in ("segment", "match"):
        if key not in keys:
            raise ConfigError("E332", node.place, f"a segment needs `{key}`", "write `segment: NAME` and `match: {did: ...}`")
    name = keys["segment"].text("`segment`")
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
        raise ConfigError(
            "E332", keys["segment"].place, f"{name!r} cannot be the name of a segment", "use letters, digits and `_`, beginning with a letter"
        )
    return name, parse_condition(keys["match"])


def _place(name: str, drafts: dict[str, tuple[Node, c.Condition]], done: dict[str, Segment], path: tuple[str, ...]) -> None:
    if name in done:
        return
    if name in path:
        cycle = " → ".join([*path[path.index(name) :], name])
        raise ConfigError("E333", drafts[name][0].place, f"segments use each other in a circle: {cycle}", "take one `in:` or `not_in:` away")
    node, match = drafts[name]
    used = dict.fromkeys(p.segment for p in c.walk(match) if isinstance(p, c.In))
    for other in used:
        _place(other, drafts, done, (*path, name))
    done[name] = _segment(name, node, match, [done[other].definition for other in used])


def _segment(name: str, node: Node, match: c.Condition, used: list[str]) -> Segment:
    keys = node.value
    texts = {key: keys[key].text(f"`{key}`") for key in ("about", "owner", "purpose", "refresh") if key in keys}
    refresh = texts.get("refresh", "daily")
    if refresh not in REFRESH:
        raise ConfigError("E332", keys["refresh"].place, f"`refresh` is live or daily, found {refresh!r}", nearest(refresh, REFRESH))
    tags = keys["tags"].texts("`tags`") if "tags" in keys else ()
    tries = _experiment(name, keys)
    return Segment(name, match, fingerprint(match, refresh, used), tags=tags, experiment=tries, stale=read_stale(keys), node=node, **texts)


def _experiment(name: str, keys: dict[str, Node]) -> Experiment | None:
    if not {"holdout", "split"} & set(keys):
        return None
    holdout = read_share(keys["holdout"], "holdout") if "holdout" in keys else Decimal(0)
    return Experiment(name, holdout, _split(keys["split"]) if "split" in keys else ())


def _split(node: Node) -> tuple[tuple[str, Decimal], ...]:
    variants = node.mapping("`split`")
    for variant in variants:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", variant) or variant == HOLDOUT:
            remedy = "use letters, digits and `_`, beginning with a letter; who gets nothing is declared by `holdout: 10%`"
            raise ConfigError("E346", node.key_place(variant), f"{variant!r} cannot be the name of a variant", remedy)
    if len(variants) < 2:
        raise ConfigError("E346", node.place, "`split` compares at least two variants", "write `split: {control: 50%, new_subject: 50%}`")
    shares = tuple((variant, read_share(share, variant)) for variant, share in variants.items())
    if (total := sum((share for _, share in shares), Decimal(0))) > 100:
        raise ConfigError("E346", node.place, f"the shares of `split` add up to {total.normalize():f}%, over 100%", "lower one of them")
    return shares


def fingerprint(match: c.Condition, refresh: str, used: Iterable[str] = ()) -> str:
    """Return the hash of a rule's meaning: the order in which equals are written does not matter."""
    text = json.dumps([canonical(match), refresh, sorted(used)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def canonical(value: Any) -> Any:
    """Return a declaration as plain JSON values, equal for equal meanings, wherever it is written."""
    if isinstance(value, c.LAYERS):
        parts = sorted((canonical(p) for p in value.of), key=lambda p: json.dumps(p, sort_keys=True))
        return [type(value).__name__, getattr(value, "at_least", None), parts]
    if is_dataclass(value):
        return [type(value).__name__, *(canonical(getattr(value, f.name)) for f in fields(value) if f.name != "place")]
    if isinstance(value, Decimal):
        return ["number", f"{value.normalize():f}"]
    return [canonical(v) for v in value] if isinstance(value, tuple) else value


def check_names(node: Node, vocabulary: Vocabulary, segments: frozenset[str]) -> None:
    """Refuse names that nothing has, with the nearest that something has, and sums of a property that has no number."""
    known = {
        "event": (vocabulary.events, "E335", "it never occurred and is not listed; add it under `contract: {events: [...]}` if it will"),
        "property": (vocabulary.properties, "E336", _WILL_COME),
        "number": (vocabulary.properties, "E336", _WILL_COME),
        "trait": (vocabulary.traits, "E336", ""),
        "model": (vocabulary.models, "E337", "declare it under `models:`"),
        "segment": (segments, "E338", ""),
        "channel": (vocabulary.channels, "E339", "declare it under `channels:`"),
    }
    if "purpose" in node.value:
        purpose = node.value["purpose"]
        purpose_name(purpose.text("`purpose`"), purpose.place, vocabulary.purposes)
    for kind, name, place in references(node):
        names, code, remedy = known[kind]
        if names is not None and name not in names:
            hint = nearest(name, tuple(names))
            what = "property" if kind == "number" else kind
            raise ConfigError(code, place, f"unknown {what} {name!r}", f"{hint}; {remedy}" if remedy else hint)
        if kind == "number" and name in vocabulary.numberless:
            remedy = "cast it in the source's `query`, or use `distinct`; texts of a table of an earlier version are read anew by `predseg check --rebuild`"
            raise DataError("E432", place, f"{name!r} cannot be summed or compared as a number: none of its values in the data is one", remedy)


def never_occurred(segments: Iterable[Segment], vocabulary: Vocabulary) -> list[str]:
    """Return a warning for every event that a rule names and nobody ever did, and for every property that no event had."""
    if vocabulary.occurred is None:
        return []
    named = {found for s in segments if s.node for found in references(s.node)}
    did = ", ".join(sorted(vocabulary.occurred)) or "none"
    never = sorted((name, place) for kind, name, place in named if kind == "event" and name not in vocabulary.occurred)
    missing = sorted((name, place) for kind, name, place in named if kind in ("property", "number") and name not in (vocabulary.present or {name}))
    return [
        *(f"{place}: the event {name!r} never occurred; the events that did: {did}" for name, place in never),
        *(f"{place}: no event had the property {name!r} yet" for name, place in missing),
    ]


def references(node: Node) -> Iterator[tuple[str, str, str]]:
    """Yield (kind, name, place) of everything that a segment names, outside its tests."""
    if node.is_list:
        for item in node.value:
            yield from references(item)
    if not node.is_mapping:
        return
    for key, value in node.value.items():
        if key == "tests":
            continue
        if key in _NAMING:
            for item in value.value if value.is_list else [value]:
                if isinstance(item.value, str):
                    yield _NAMING[key], item.value, item.place
        elif key in ("where", "trait") and value.is_mapping:
            for name in value.value:
                yield ("property" if key == "where" else "trait"), name, value.key_place(name)
        if key not in ("where", "trait"):
            yield from references(value)


_WILL_COME = "no event had it and it is not listed; add it under `contract: {properties: [...]}` if one will"
_NAMING = {
    "did": "event",
    "did_not": "event",
    "of": "event",
    "score": "model",
    "in": "segment",
    "not_in": "segment",
    "same": "property",
    "send": "channel",
}
_NAMING |= dict.fromkeys(PROPERTY_AGGREGATES, "number")
_NAMING["distinct"] = "property"
