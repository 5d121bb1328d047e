"""The JSON Schemas accept what the loader accepts, and nothing else but what no schema can say."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from predseg.config import parse
from predseg.errors import ConfigError
from predseg.language.schema import _UNITS, project_schema, segments_schema
from predseg.language.time import parse_duration
from predseg.language.yaml import read_documents
from predseg.segments.cases import parse_cases
from predseg.segments.definitions import Vocabulary, arrange

MODELS = frozenset({"churn"})
UNSAYABLE = (
    ("E309", "the project has no source"),
    ("E382", "one key for"),  # two names that are the same
    ("E308", ""),  # keys named on, off, yes, no
    ("E309", "unknown time zone"),
    ("E317", "before"),
    ("E319", "the window is empty"),
    ("E320", "is not an instant"),  # 30 February
    ("E321", "one property ties a chain"),
    ("E322", ""),
    ("E326", "is a whole number from 1 to"),
    ("E333", ""),
    ("E337", ""),
    ("E338", ""),
    ("E341", ""),
    ("E342", "`events`"),
    ("E342", "is not an instant"),
    ("E343", "lies in decile"),
    ("E344", ""),
    ("E346", "add up to"),
)
"""What the loader refuses and no schema can say: code, and what the message has in it."""

RULES = r"""
{did: Order Completed}
{did: [A, B], at_least: 2, within: 90 days, where: {category: X, price: {more_than: 100, not: 150}, brand: [A, 1, true], name: {contains: gold}, coupon: {exists: false}}}
{did: A, sum: value, between: [1, 2.5], from: 12 months ago, until: 90 days ago}
{did: A, distinct: product_id, exactly: 0, since: 2026-01-01}
{did: A, where: {price: {between: [a, b]}, other: {between: [1, 2], at_most: z}}, until: 90d ago}
{did: A, then: {did_not: [B, C], within: 24 hours, where: {x: 1}, same: id}}
{did: A, within: 3 days, then: {did: B, at_least: 2, within: 1 hour, same: id, then: {did: C, then: {did_not: D}}}}
{did_not: A, within: 30 days, where: {a: b}}
{score: churn, at_least: 0.5}
{score: churn, top: 10%}
{score: churn, bottom: 2.5 %}
{score: churn, decile: [1, 2]}
{score: churn, rises: 0.2, within: 14 days}
{in: other}
{not_in: other}
{trait: {country: [GB, FR], tier: {not: bronze}}}
{rfv: {of: A, within: 365 days, recency: [4, 5], frequency: 3, value: {at_least: 4}, where: {a: b}}}
{cluster: {personas: [bargain hunter]}}
{all: [{did: A}, {any: [{did: B}, {none: [{did: C}]}]}, {some: {at_least: 2, of: [{did: A}, {did: B}]}}]}
""".strip().splitlines()

SEGMENT = """
segment: one
about: text
owner: a@example.com
purpose: email
refresh: live
max_stale: 2 hours
on_stale: hold
match: {did: A}
holdout: 10%
split: {control: 50%, new_subject: 12.5 %}
on_enter: {send: mail, limit: once per 7 days, quiet: 22:00-08:00, timezone: Europe/London, after: 1 hour}
on_leave: [{send: mail, limit: once per Day}, {send: other, quiet: 20:30-24:00}]
tests:
  - it: works
    events: |
      2026-03-01 10:00  A  {value: 3}
    facts: {at: 2026-03-01, score: {churn: 0.9}, trait: {country: GB, tags: [a, b], none: null}, rfv: {recency: 5}, cluster: {personas: x}, in: [other], not_in: one}
    enters: 2026-03-01 10:00
    leaves: never
    member_at: {2026-03-01 11:00: true}
  - {it: again, facts: [{score: {churn: {probability: 0.5, percentile: 0.95, decile: 1}}}], enters: [2026-03-01, 2026-03-02T10:00Z]}
tags: [a, b]
"""

PROJECT = """
project: shop
timezone: Europe/London
store: ../store
sources:
  orders: {path: [a.csv, b.csv], query: select 1, columns: {customer_id: id, event: =Order Completed}, timezone: UTC}
  more: {table: t, url: "postgresql://user@host/db"}
customers: {path: c.csv, customer_id: id, event_time: at, known_since: since, static: true, columns: {customer_id: x}}
contract: {tolerance: 1%, events: [A, B]}
features:
  windows: [7 days, 90d]
  events: {A: {value: value, distinct: [x, y]}, B: , C: {}}
  measures: {m1: {did: A, within: 48 hours, where: {a: b}}, m2: {did: A, days_since: first}, m3: {did: [A, B], gap: std}, m4: {did: A, avg: value, then: {did: B}}}
  traits: [country]
models:
  purchase: {predict: {did: A, sum: value, more_than: 10, where: {a: b}, within_next: 30 days}, cutoffs: 3, every: 7 days, seed: 1, allow: [a], tune: 5}
  churn: {predict: {did_not: A, within_next: 90 days}, among: {all: [{did: A}, {trait: {country: GB}}]}}
segments: segments/*.yaml
channels:
  hook: {webhook: "https://mail.example.com:8443/hooks?x=1&y", secret: [env:NEW, env:OLD], attempts: 3}
  local: {webhook: "http://127.0.0.1:9000/in", secret: env:S, private: true}
  profiles: {identify: "https://[2001:4860:4860::8888]/v1/identify", key: env:K, private: false}
  crm: {file: ../exports, format: jsonl}
  mail: {smtp: "smtp://mail.example.com", from: shop@example.com, to: {trait: email}, subject: Hello $first_name, text: "$$5 off", user: u, password: env:P}
  ops: {smtp: "smtps://mail.example.com:465/", from: shop@example.com, to: ops@example.com, subject: a, text: b}
  trial: {dry: true}
consent: {path: out.csv, purposes: [sms, by post], opt_out: {Unsubscribed: email_marketing, Left: ["*"]}, opt_in: {Subscribed: sms}, key: [env:OLD, env:NEW_2]}
pseudonymize: env:SHOP
outcomes: {goal: Order Completed, campaign: utm_campaign, within: 3 days, every: 1 week}
monitor: {freshness: 2 days, scores: off, volume: 40%, ctr: off, send: mail}
expectations:
  within: 14 days
  sources: {orders: {max_lag: 1 day, rejected: 0%}}
  events: {A: {volume: 50%, max_lag: 6 hours, nulls: {x: 5%, y: 0}, between: {value: [-1, 10.5]}}, B: {}}
  vanished: warn
  new: off
  allow: [volume of A, nulls of A.x]
engine: {spark: {master: "local[2]", options: {spark.executor.memory: 8g, spark.executor.instances: 20, spark.ui.enabled: false}}}
serve:
  host: 127.0.0.1
  port: 8000
  write_key: env:WRITE
  read_key: env:READ
  stream: {url: "redis://127.0.0.1:6379/0", topic: events, group: shop, user: me, password: env:PASS}
  alerts: {lag: 1 minute, rejected: 5%, queue: 80%, silence: {Order Completed: 6 hours}, send: mail}
"""

BAD_RULES = r"""
{did: A, did_not: B}
{dd: A}
{}
{did: A, more_then: 3}
{did: A, more_than: 1, at_least: 2}
{did: A, more_than: "> 5000"}
{did: A, sum: value}
{did: A, sum: value, avg: value, more_than: 3}
{did: A, within: 24h 5}
{did: A, within: 0 days}
{did: A, within: 24}
{did: A, within: 1 fortnight}
{did: A, within: 1 day, until: 1 hour ago}
{did: A, from: 3 days}
{did: A, from: 3 days ago, since: 2026-01-01}
{did: A, since: yesterday}
{did: A, days_since: first}
{did: A, same: x}
{did: []}
{did: ""}
{did: 7}
{did: A, where: {x: null}}
{did: A, where: {x: []}}
{did: A, where: {x: {}}}
{did: A, where: {x: {more_than: "5,000"}}}
{did: A, where: {x: {bigger: 5}}}
{did: A, where: {x: {exists: 1}}}
{did: A, where: {x: {between: [1, a]}}}
{did: A, where: [x]}
{did: A, between: [1, 2, 3]}
{did: A, between: [a, b]}
{did_not: A, at_least: 3}
{did: A, then: {did_not: B, at_least: 2}}
{did: A, then: {did: B, at_least: 0}}
{did: A, then: {did: B, sum: value}}
{did: A, then: B}
{score: churn}
{score: churn, top: 10}
{score: churn, top: 0%}
{score: churn, top: 101%}
{score: churn, top: 10%, bottom: 10%}
{score: churn, decile: 0}
{score: churn, decile: [1, 11]}
{score: churn, decile: []}
{score: churn, rises: 0.2}
{score: churn, at_least: 0.5, within: 3 days}
{in: [a, b]}
{in: other, within: 3 days}
{trait: {}}
{trait: {country: }}
{rfv: {of: A}}
{rfv: {recency: 5}}
{rfv: {of: A, recency: 6}}
{rfv: {of: A, recency: {above: 3}}}
{rfv: {of: A, recency: {}}}
{rfv: {of: A, recency: 5}, within: 3 days}
{cluster: {a: x, b: y}}
{cluster: personas}
{all: []}
{all: {did: A}}
{none: did}
{some: [{did: A}]}
{some: {at_least: 0, of: [{did: A}]}}
{some: {of: [{did: A}]}}
[{did: A}]
Order Completed
""".strip().splitlines()

BAD_SEGMENTS = (
    ("segment: one", "segment: one two"),
    ("segment: one", "name: one"),
    ("match: {did: A}", "matches: {did: A}"),
    ("refresh: live", "refresh: hourly"),
    ("on_enter: {send: mail,", "on_enter: {to: mail,"),
    ("max_stale: 2 hours", "max_stale: 2"),
    ("max_stale: 2 hours", ""),
    ("on_stale: hold", "on_stale: stop"),
    ("holdout: 10%", "holdout: 10"),
    ("holdout: 10%", "holdout: 0%"),
    ("control: 50%", "control: 0.5"),
    ("control: 50%", "a b: 50%"),
    ("control: 50%", "holdout: 50%"),
    ("{control: 50%, new_subject: 12.5 %}", "{control: 50%}"),
    ("limit: once per 7 days", "limit: 7"),
    ("limit: once per 7 days", "limit: once"),
    ("limit: once per 7 days", "limit: once per 0 days"),
    ("limit: once per 7 days", "limit: twice per day"),
    ("quiet: 22:00-08:00", "quiet: at night"),
    ("quiet: 22:00-08:00", "quiet: 22:00-8:00"),
    ("quiet: 22:00-08:00", "quiet: 22:00-22:00"),
    ("quiet: 22:00-08:00", "quiet: 00:00-24:00"),
    ("quiet: 22:00-08:00", "quiet: 24:00-08:00"),
    ("quiet: 22:00-08:00, timezone", "timezone"),
    ("after: 1 hour", "after: soon"),
    ("on_leave: [{send: mail, limit: once per Day}, {send: other, quiet: 20:30-24:00}]", "on_leave: []"),
    ("on_leave: [{send: mail, limit: once per Day}, {send: other, quiet: 20:30-24:00}]", "on_leave: [{limit: once per day}]"),
    ("tags: [a, b]", "tags: []"),
    ("- it: works", "- that: works"),
    ("enters: 2026-03-01 10:00\n", "enter: 2026-03-01 10:00\n"),
    ("leaves: never", "leaves: nevr"),
    ("leaves: never", "leaves: []"),
    ("member_at: {2026-03-01 11:00: true}", "member_at: {2026-03-01 11:00: yes}"),
    ("member_at: {2026-03-01 11:00: true}", "member_at: {soon: true}"),
    ("member_at: {2026-03-01 11:00: true}", "member_at: {}"),
    ("{churn: 0.9}", "{churn: 9}"),
    ("{churn: 0.9}", "{churn: {}}"),
    ("{recency: 5}", "{recency: 6}"),
    ("rfv: {recency: 5}", "rfv: {r: 5}"),
    ("country: GB", "country: {is: GB}"),
    ("at: 2026-03-01", "at: soon"),
    (", enters: [2026-03-01, 2026-03-02T10:00Z]", ""),
)

BAD_PROJECTS = (
    ("project: shop", "projekt: shop"),
    ("project: shop", "project: a b"),
    ("project: shop", "project: 7"),
    ("path: [a.csv, b.csv],", ""),
    ("{table: t, url:", "{table: t, link:"),
    ("{table: t, ", "{"),
    ("columns: {customer_id: id", "columns: {customer: id"),
    ("static: true", "static: yes"),
    ("tolerance: 1%", "tolerance: 2"),
    ("tolerance: 1%", "tolerance: a lot"),
    ("7 days, 90d", "7 dayz"),
    ("B: ,", "B: 3,"),
    ("m1:", "1m:"),
    ("{did: A, days_since: first}", "{did: A, days_since: middle}"),
    ("{did: A, days_since: first}", "{did: A, days_since: first, gap: mean}"),
    ("{did: A, days_since: first}", "{did: A, at_least: 1}"),
    ("{did: A, days_since: first}", "{did_not: A}"),
    ("purchase:", "my purchase:"),
    (", within_next: 30 days", ""),
    ("sum: value, more_than: 10, ", "avg: value, "),
    ("cutoffs: 3", "cutoffs: 1"),
    ("seed: 1", "seed: -1"),
    ("among: {all: [{did: A}", "among: {all: [{score: churn, top: 10%}"),
    ("among: {all: [{did: A}", "among: {all: [{cluster: {p: x}}"),
    ("engine: {spark: {", "engine: {sparks: {"),
    ('master: "local[2]"', "master: 2"),
    ("spark.executor.memory: 8g", "executor.memory: 8g"),
    ("spark.executor.memory: 8g", "spark.executor.memory: [8g]"),
    ("every: 1 week", "every: week"),
    ("campaign: utm_campaign", "campaigns: utm_campaign"),
    ("goal: Order Completed", "goal: []"),
    ("freshness: 2 days", "freshness: 2"),
    ("scores: off", "scores: no"),
    ("volume: 40%", "volume: 0.4"),
    ("trial: {dry: true}", "trial: [dry]"),
    ("trial: {dry: true}", "trial: {dry: false}"),
    ("trial: {dry: true}", "the trial: {dry: true}"),
    ("trial: {dry: true}", "trial: {dry: true, file: out}"),
    ("trial: {dry: true}", "trial: {}"),
    ("secret: [env:NEW, env:OLD]", "secret: []"),
    ("secret: [env:NEW, env:OLD]", "secret: [env:NEW, whsec_abc]"),
    ("secret: [env:NEW, env:OLD],", ""),
    ("attempts: 3", "attempts: 101"),
    ("attempts: 3", "tries: 3"),
    ("secret: env:S, private: true", "secret: env:S"),
    ("secret: env:S, private: true", "secret: env:S, private: false"),
    ("secret: env:S, private: true", "secret: env:S, private: 1"),
    ("https://mail.example.com:8443", "https://shop@mail.example.com:8443"),
    ("https://mail.example.com:8443", "ftp://mail.example.com:8443"),
    ("https://mail.example.com:8443", "https://mail.example.com:0443"),
    ("?x=1&y", "#x"),
    ("?x=1&y", "\\\\x"),
    ("format: jsonl", "format: xlsx"),
    ("from: shop@example.com, to: {trait", "from: shop, to: {trait"),
    ("to: {trait: email}", "to: {traits: email}"),
    ("user: u, password: env:P", "user: u"),
    ("465/", "465/in"),
    ("{path: out.csv,", "{file: out.csv,"),
    ("pseudonymize: env:SHOP", "pseudonymize: yes please"),
    ("new: off", "new: maybe"),
    ("volume: 50%, max_lag", "volume: half, max_lag"),
    ("between: {value: [-1, 10.5]}", "between: {value: [-1]}"),
    ("nulls: {x: 5%, y: 0}", "nulls: {x: 5}"),
    ("allow: [volume of A,", "allow: [volumes of A,"),
    ("B: {}}", "B: {sum: 1}}"),
    ("pseudonymize: env:SHOP", "pseudonymize: []"),
    ("purposes: [sms, by post]", "purposes: []"),
    ("purposes: [sms, by post]", 'purposes: ["*"]'),
    ("Unsubscribed: email_marketing", "Unsubscribed: 3"),
    ("[env:OLD, env:NEW_2]", "hunter2"),
    ("[env:OLD, env:NEW_2]", "[env:2]"),
    ("port: 8000", "port: 70000"),
    ("port: 8000", "port: a"),
    ("port: 8000", "prt: 8000"),
    ("host: 127.0.0.1", "host: http://x"),
    ("write_key: env:WRITE", "write_key: secret"),
    ("redis://127", "redis://me:pw@127"),
    ("redis://127", "amqp://127"),
    ("topic: events", "topic: a b"),
    ("topic: events,", ""),
    ("lag: 1 minute", "lag: 0"),
    ("rejected: 5%", "rejected: 5"),
    ("{Order Completed: 6 hours}", "6 hours"),
)


def plain(text: str) -> Any:
    """A document as an editor sees it: JSON values."""

    def numbers(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: numbers(v) for key, v in value.items()}
        if isinstance(value, list):
            return [numbers(v) for v in value]
        return float(value) if isinstance(value, Decimal) else value

    [document] = read_documents(text)
    return numbers(document.plain())


def load_segment(text: str) -> None:
    nodes = read_documents(text)
    others = read_documents("segment: other\nmatch: {did: A}")
    segments = arrange([*others, *nodes], Vocabulary(MODELS))
    for segment in segments.values():
        parse_cases(segment, MODELS, segments)


def load_project(text: str) -> None:
    parse(text, Path("/nowhere/predseg.yaml"))


Loader = Callable[[str], None]
KINDS: dict[str, tuple[Loader, Draft202012Validator]] = {
    "segments": (load_segment, Draft202012Validator(segments_schema())),
    "project": (load_project, Draft202012Validator(project_schema())),
}


def refusal(load: Loader, text: str) -> ConfigError | None:
    try:
        load(text)
    except ConfigError as error:
        return error
    return None


def sayable(error: ConfigError) -> bool:
    return not any(error.code == code and part in error.message for code, part in UNSAYABLE)


def check(kind: str, text: str, accepted: bool) -> None:
    load, validator = KINDS[kind]
    error = refusal(load, text)
    assert (error is None) == accepted, f"the loader says {error}:\n{text}"
    said = list(validator.iter_errors(plain(text)))
    assert (not said) == accepted, f"the schema says {[e.message for e in said]}:\n{text}"


def segment_with(rule: str) -> str:
    return f"segment: one\nmatch: {rule}" if rule.startswith(("{", "[")) else f"segment: one\nmatch:\n  {rule}"


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_a_schema_and_describes_every_key(kind: str) -> None:
    schema = KINDS[kind][1].schema
    Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")
    assert [key for key, value in schema["properties"].items() if not value.get("description")] == []
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize("rule", RULES)
def test_good_rules(rule: str) -> None:
    check("segments", segment_with(rule), True)


@pytest.mark.parametrize("rule", BAD_RULES)
def test_bad_rules(rule: str) -> None:
    check("segments", segment_with(rule), False)


def test_good_documents() -> None:
    check("segments", SEGMENT, True)
    check("project", PROJECT, True)


@pytest.mark.parametrize("change", BAD_SEGMENTS, ids=lambda c: c[1])
def test_bad_segments(change: tuple[str, str]) -> None:
    assert change[0] in SEGMENT
    check("segments", SEGMENT.replace(*change), False)


@pytest.mark.parametrize("change", BAD_PROJECTS, ids=lambda c: c[1])
def test_bad_projects(change: tuple[str, str]) -> None:
    assert change[0] in PROJECT
    check("project", PROJECT.replace(*change), False)


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("{did: A, between: [2, 1]}", "E317"),
        ("{did: A, from: 3 days ago, until: 4 days ago}", "E319"),
        ("{some: {at_least: 3, of: [{did: A}]}}", "E326"),
        ("{did: A, within: 1 day, then: {did_not: B, within: 2 days}}", "E322"),
        ("{in: one}", "E333"),
        ("{did: A, since: 2026-02-30}", "E320"),
    ],
)
def test_what_no_schema_can_say_is_refused_by_the_loader(rule: str, code: str) -> None:
    error = refusal(load_segment, segment_with(rule))
    assert error is not None and error.code == code and not sayable(error)
    assert KINDS["segments"][1].is_valid(plain(segment_with(rule)))


def test_units_of_durations_are_those_of_the_language() -> None:
    for unit in _UNITS:
        assert parse_duration(f"1 {unit.upper()}")
    validator = Draft202012Validator(segments_schema()["$defs"]["duration"])
    for text in ("1 D", "090 Days", " 3 weeks ", "24hours"):
        assert parse_duration(text) and validator.is_valid(text), text


POOL: list[Any] = [None, True, False, 0, 1, 2, -1, 0.5, 12, "", " ", "x", "never", "10%", "10", "48 hours", "90 days ago", "2026-03-01"]
POOL += [
    "UTC",
    [],
    ["x"],
    [1, 2],
    [0.5],
    {},
    {"x": 1},
    {"did": "A"},
    [{"did": "A"}],
    {"exists": True},
    {"more_than": 5},
    {"at_least": 1, "of": [{"did": "A"}]},
]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, v in inner for p in places(v, (*path, key)))]


def mutated(r: random.Random, document: Any, keys: list[str]) -> Any:
    """Change one place: another value, a key more, less or of another name."""
    found = json.loads(json.dumps(document))
    *path, last = r.choice(places(found)[1:])
    parent = found
    for key in path:
        parent = parent[key]
    way = r.randrange(5)
    if way == 0:
        del parent[last]
    elif way == 1 and isinstance(parent, dict):
        parent[r.choice(keys)] = parent.pop(last)
    elif way == 2 and isinstance(parent[last], dict):
        parent[last][r.choice(keys)] = r.choice(POOL)
    else:
        parent[last] = r.choice(POOL)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_loader_and_schema_agree_on_thousands_of_broken_documents(kind: str) -> None:
    load, validator = KINDS[kind]
    documents = [plain(SEGMENT), *(plain(segment_with(rule)) for rule in RULES)] if kind == "segments" else [plain(PROJECT)]
    keys = sorted({key for d in documents for path in places(d) for key in path if isinstance(key, str)})
    accepted = refused = 0
    for seed in range(1_800 if kind == "segments" else 300):
        r = random.Random(seed)
        document = mutated(r, r.choice(documents), keys)
        if r.random() < 0.2:
            document = mutated(r, document, keys)
        error = refusal(load, json.dumps(document))
        valid = validator.is_valid(document)
        if error is None:
            accepted += 1
            assert valid, f"seed {seed}: the loader accepts, the schema says {[e.message for e in validator.iter_errors(document)][:3]}:\n{document}"
        elif sayable(error):
            refused += 1
            assert not valid, f"seed {seed}: the schema accepts, the loader says {error}:\n{document}"
    assert accepted > 25 and refused > 120, (accepted, refused)
