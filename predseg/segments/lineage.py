"""What a project consists of and what rests on what: sources, features, models, segments, channels, as one graph.

    source.orders ──► table.events ──► feature.order_completed ──► model.churn ──► segment.lapsing ──► channel.recovery

A node is called KIND.NAME. Its definition is a hash of what is declared, not of where or in which order it is written; that of
a segment includes the segments that it uses.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from predseg.config import Config, Model
from predseg.language import conditions as c
from predseg.language.measures import slug
from predseg.language.urls import without_password
from predseg.segments.definitions import Segment, canonical

KINDS = ("source", "table", "feature", "model", "cluster", "segment", "channel")
EVENTS, CUSTOMERS = "table.events", "source.customers"


@dataclass(frozen=True)
class Node:
    """One thing that a project declares.

    Attributes:
        kind: source, table, feature, model, cluster, segment or channel.
        name: Its name, unique in its kind.
        definition: Twelve hexadecimal digits, the same for the same meaning.
        uses: Ids of the nodes that it rests on.
        about: What it is for, in words.
        owner: Who answers for it.
        tags: Words to find it by.
        refresh: daily or live, for models and segments.
        file: Where it is written, relative to the project file's folder.
        line: The line there, counted from 1; 0 where it has none of its own.
    """

    kind: str
    name: str
    definition: str
    uses: tuple[str, ...] = ()
    about: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    refresh: str = ""
    file: str = ""
    line: int = 0

    @property
    def id(self) -> str:
        """KIND.NAME."""
        return f"{self.kind}.{self.name}"


def lineage(config: Config, segments: Mapping[str, Segment]) -> dict[str, Node]:
    """Return the nodes of a project by id, each after those that it uses."""
    found = [*_sources(config), *_features(config)]
    every = tuple(node.id for node in found if node.kind == "feature")
    found += [_model(model, every) for model in config.models.values()]
    clusters = dict.fromkeys(part.model for s in segments.values() for part in c.walk(s.match) if isinstance(part, c.Cluster))
    found += [Node("cluster", name, _hash(name), every) for name in clusters]
    found += [_segment(segment) for segment in segments.values()]
    found += [_channel(config, name, segments.values()) for name in config.channels]
    known = {node.id for node in found}
    return {n.id: replace(n, file=n.file or config.file.name, uses=tuple(u for u in n.uses if u in known)) for n in found}


def used_by(nodes: Mapping[str, Node]) -> dict[str, list[str]]:
    """Return for each node those that use it."""
    found: dict[str, list[str]] = {name: [] for name in nodes}
    for node in nodes.values():
        for other in node.uses:
            found[other].append(node.id)
    return found


def reached(start: Iterable[str], steps: Mapping[str, Sequence[str]], most: int | None = None) -> set[str]:
    """Return the nodes that can be reached, the first ones among them, in at most so many steps."""
    found, edge, count = set(start), set(start), 0
    while edge and (most is None or count < most):
        edge = {other for name in edge for other in steps[name]} - found
        found |= edge
        count += 1
    return found


def _sources(config: Config) -> Iterator[Node]:
    for source in config.sources.values():
        plain = replace(source, url=without_password(source.url) if source.url else None)
        yield Node("source", source.name, _hash(plain), **_at(source.place))
    if config.customers is not None:
        yield Node("source", "customers", _hash(config.customers), **_at(config.customers.source.place))
    every = tuple(f"source.{name}" for name in config.sources)
    yield Node("table", "events", _hash(config.contract), every, "The history: every accepted event, by customer and time.")


def _features(config: Config) -> Iterator[Node]:
    for event, declared in config.features.events:
        yield Node("feature", slug(event), _hash((event, declared, config.features.windows)), (EVENTS,), f"When, how often and for how much: {event}")
    if config.features.visits:
        yield Node("feature", "visits", _hash(config.features.visits), (EVENTS,), "How often somebody comes, and the last sign of life")
    if config.features.taste:
        yield Node(
            "feature",
            "taste",
            _hash(config.features.taste),
            (EVENTS,),
            f"Every {config.features.taste.of} so far, in a few numbers that training learns",
        )
    for name, measure in config.features.measures:
        yield Node("feature", name, _hash(measure), (EVENTS,))
    if config.customers is not None:
        yield from (Node("feature", trait, _hash(trait), (CUSTOMERS,), "A trait of the customer") for trait in config.features.traits)


def _model(model: Model, features: tuple[str, ...]) -> Node:
    refresh = "live" if model.live else "daily"
    return Node("model", model.name, _hash(replace(model, tags=())), features, tags=model.tags, refresh=refresh, **_at(model.place))


def _segment(segment: Segment) -> Node:
    uses = dict.fromkeys(name for part in c.walk(segment.match) for name in _asked(part))
    place = _at(segment.node.place) if segment.node is not None else {}
    texts: dict[str, Any] = {"about": segment.about, "owner": segment.owner, "tags": segment.tags, "refresh": segment.refresh}
    return Node("segment", segment.name, segment.definition, tuple(uses), **texts, **place)


def _asked(part: c.Condition) -> Iterator[str]:
    """Yield the ids of the nodes that a condition asks about."""
    if isinstance(part, c.Score):
        yield f"model.{part.model}"
    elif isinstance(part, c.In):
        yield f"segment.{part.segment}"
    elif isinstance(part, c.Cluster):
        yield f"cluster.{part.model}"
    elif isinstance(part, c.Trait):
        yield CUSTOMERS
    elif isinstance(part, c.Did | c.Rfv):
        yield EVENTS


def _channel(config: Config, name: str, segments: Iterable[Segment]) -> Node:
    senders = [f"segment.{s.name}" for s in segments if any(a.send == name for a in (*s.on_enter, *s.on_leave))]
    return Node("channel", name, _hash(config.channels[name]), tuple(senders))


def _at(place: str) -> dict[str, Any]:
    file, line, _ = [*place.rsplit(":", 2), "", ""][:3]
    return {"file": file, "line": int(line)} if line.isdigit() else {}


def _hash(declared: Any) -> str:
    return hashlib.sha256(json.dumps(canonical(declared), sort_keys=True).encode()).hexdigest()[:12]
