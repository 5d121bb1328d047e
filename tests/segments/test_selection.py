"""What a project consists of, and which part of it is meant."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from predseg.config import Config, parse
from predseg.errors import UsageError
from predseg.segments.definitions import load_segments
from predseg.segments.lineage import Node, lineage
from predseg.segments.selection import chosen, select

CONFIG = """\
project: shop
sources:
  orders: {table: orders, url: "postgresql://ann:secret@db.example.com/shop"}
  app: {path: app.jsonl}
customers: {path: customers.csv}
features:
  windows: [7 days]
  events: {Order Completed: {value: value}}
  measures: {last_order: {did: Order Completed, days_since: last}}
  traits: [country]
models:
  purchase: {predict: {did: Order Completed, within_next: 7 days}, tags: weekly}
  churn: {predict: {did_not: Order Completed, within_next: 7 days}}
segments: rules.yaml
channels:
  crm: {file: exports}
"""
RULES = """\
segment: buyers
tags: [daily, core]
owner: crm@example.com
match: {score: purchase, top: 10%}
on_enter: {send: crm}
---
segment: british_buyers
tags: [daily]
match: {all: [{in: buyers}, {trait: {country: GB}}]}
---
segment: at_risk
match: {any: [{score: churn, top: 10%}, {cluster: {personas: [sleepers]}}, {did: Order Completed, within: 7 days}]}
refresh: daily
"""


def project(folder: Path, config: str = CONFIG, rules: str = RULES) -> tuple[Config, dict[str, Node]]:
    (folder / "rules.yaml").write_text(rules, "utf-8")
    found = parse(config, folder / "predseg.yaml")
    return found, lineage(found, load_segments(found))


@pytest.fixture
def nodes(tmp_path: Path) -> dict[str, Node]:
    return project(tmp_path)[1]


def test_what_rests_on_what(nodes: dict[str, Node]) -> None:
    features = ("feature.order_completed", "feature.last_order", "feature.country")
    assert {name: node.uses for name, node in nodes.items()} == {
        "source.orders": (),
        "source.app": (),
        "source.customers": (),
        "table.events": ("source.orders", "source.app"),
        "feature.order_completed": ("table.events",),
        "feature.last_order": ("table.events",),
        "feature.country": ("source.customers",),
        "model.purchase": features,
        "model.churn": features,
        "cluster.personas": features,
        "segment.buyers": ("model.purchase",),
        "segment.british_buyers": ("segment.buyers", "source.customers"),
        "segment.at_risk": ("model.churn", "cluster.personas", "table.events"),
        "channel.crm": ("segment.buyers",),
    }
    order = list(nodes)
    assert all(order.index(other) < order.index(name) for name, node in nodes.items() for other in node.uses)
    assert (nodes["segment.british_buyers"].file, nodes["segment.british_buyers"].line) == ("rules.yaml", 7)
    assert nodes["model.purchase"].tags == ("weekly",) and nodes["model.purchase"].file == "predseg.yaml"


def test_a_definition_is_of_the_meaning(tmp_path: Path) -> None:
    """Comments, places, tags and passwords do not change it, what is declared does."""
    _, before = project(tmp_path)
    moved = CONFIG.replace("project: shop", "# moved\nproject: shop").replace("secret", "other").replace(", tags: weekly", "")
    _, same = project(tmp_path, moved, RULES.replace("daily, core", "x"))
    assert {n: v.definition for n, v in same.items()} == {n: v.definition for n, v in before.items()}
    changed = CONFIG.replace("app.jsonl", "app2.jsonl").replace("windows: [7 days]", "windows: [8 days]").replace("exports}", "elsewhere}")
    _, after = project(tmp_path, changed, RULES.replace("top: 10%}\non_enter", "top: 20%}\non_enter"))
    assert {n for n, v in after.items() if v.definition != before[n].definition} == {
        "source.app",
        "feature.order_completed",
        "segment.buyers",
        "segment.british_buyers",
        "channel.crm",
    }


@pytest.mark.parametrize(
    ("wanted", "unwanted", "found"),
    [
        ("buyers", "", "segment.buyers"),
        ("tag:daily", "", "segment.buyers segment.british_buyers"),
        ("tag:daily,tag:core", "", "segment.buyers"),
        ("tag:weekly tag:core", "", "model.purchase segment.buyers"),
        ("owner:crm*", "", "segment.buyers"),
        ("kind:channel refresh:live", "", None),
        ("*buyers", "british*", "segment.buyers"),
        ("buyers+", "", "segment.buyers segment.british_buyers channel.crm"),
        ("purchase+1", "", "model.purchase segment.buyers"),
        ("1+british_buyers", "", "source.customers segment.buyers segment.british_buyers"),
        ("0+buyers", "", "segment.buyers"),
        ("+events", "", "source.orders source.app table.events"),
        ("+buyers,kind:model", "", "model.purchase"),
        ("1+buyers+1", "", "model.purchase segment.buyers segment.british_buyers channel.crm"),
        ("", "kind:feature kind:source kind:table kind:model churn+", "cluster.personas segment.buyers segment.british_buyers channel.crm"),
    ],
)
def test_selections(nodes: dict[str, Node], wanted: str, unwanted: str, found: str | None) -> None:
    if found is None:
        with pytest.raises(UsageError, match="E232"):
            select(nodes, [wanted])
        return
    assert select(nodes, [wanted] if wanted else [], [unwanted] if unwanted else []) == found.split()


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ("buyer", "did you mean 'buyers'"),
        ("tag:dayly", "did you mean 'tag:daily'"),
        ("tags:daily", "did you mean 'tag'"),
        ("a+b", "not understood"),
        ("++", "not understood"),
    ],
)
def test_what_finds_nothing_is_refused(nodes: dict[str, Node], term: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"(?s)E232.*--exclude.*{said}"):
        select(nodes, [], [term])


def test_a_command_takes_its_own_kind(nodes: dict[str, Node]) -> None:
    assert chosen(nodes, "model", ["+british_buyers"]) == ["purchase"]
    with pytest.raises(UsageError, match="selects no model"):
        chosen(nodes, "model", ["crm"])


def test_a_cycle_of_uses_ends(nodes: dict[str, Node]) -> None:
    """The language refuses one; the walk must not hang on it all the same."""
    nodes["model.purchase"] = replace(nodes["model.purchase"], uses=("segment.buyers",))
    assert select(nodes, ["+buyers"]) == ["model.purchase", "segment.buyers"]
