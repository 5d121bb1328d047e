"""Rules and project files that were damaged or made up, and attacks that know the grammar.

An attack is a name or a value that is code to whoever pastes it into SQL. Each stands in a rule of its own, and one customer has
exactly what the rule asks for when it is taken for a text: he must be the only member. The same attack is given to `naive`, a compiler
of the kind that predseg is not, to see that it is one.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from benchmarks.trust.figures import Figure, Tally
from predseg import Project, config
from predseg.errors import ConfigError
from predseg.language.documents import parse_condition, parse_measure, parse_prediction
from predseg.language.yaml import read_documents
from predseg.segments.definitions import Vocabulary, arrange
from tests.language.documents import CONDITIONS, MEASURES, random_document, to_yaml
from tests.language.test_fuzz import WORDS

TRIED = "damaged and made-up rules and project files; names and values that are code to a compiler of f-strings"
PROMISED = "0 injections, 0 files read, 0 over 1 s, every refusal with file:line:column"
FULL, SMALL = 100_000, 400
LONGEST = 1.0
_PLACE = re.compile(r"[\w.]+:[1-9]\d*:[1-9]\d*")
SEGMENT = "segment: s\nabout: x\nowner: a@example.com\nrefresh: live\nmatch: %s\non_enter: {send: hook, limit: once per 7 days}\n"
SEGMENT += "tests:\n  - it: works\n    events: |\n      2026-03-01 10:00  A  {category: X}\n    enters: 2026-03-01 10:00\n"
PROJECT = """\
project: shop
timezone: Europe/London
sources:
  orders: {path: orders.csv, columns: {customer_id: id, event: "=Order Completed"}}
customers: {path: customers.parquet, customer_id: id}
features:
  windows: [7 days, 90 days]
  events: {Order Completed: {value: value, distinct: [product_id]}}
  measures: {luxury: %s}
  traits: [country]
models:
  churn: {predict: {did_not: Order Completed, within_next: 90 days}, among: {did: Order Completed}}
channels:
  hook: {webhook: "https://mail.example.com/hooks", secret: "env:HOOK"}
  crm: {file: exports}
consent: {path: optouts.csv}
contract: {tolerance: 1%%, events: [Order Completed, A]}
"""


def measure(cases: int, folder: Path, seed: int) -> Figure:
    r, tally = random.Random(seed), Tally()
    (folder / "canary").write_text("canary")
    opened = watched(folder / "canary")
    for number in range(cases):
        fuzzed(tally, f"seed {seed}, {number}", r, folder)
    broken = attacked(tally, folder)
    tally.counts["read"] += opened()
    tally.demand(tally.counts["read"] == 0, "the canary was read")
    naively(tally, folder, broken)
    counts = tally.counts
    return tally.figure(
        f"{len(broken)} attacks, {counts['naive']} of them break a naive compiler, {counts['injected']} predseg; {counts['read']} files read; "
        f"{counts['refused']:,} refused, {counts['nowhere']} without a place, {counts['slow']} over {LONGEST:g} s, {counts['crashed']} crashes"
    )


# made up and damaged


def condition(text: str, folder: Path) -> None:
    for node in read_documents(text, "rule.yaml"):
        parse_condition(node)


def measured(text: str, folder: Path) -> None:
    for node in read_documents(text, "rule.yaml"):
        parse_measure(node)
        parse_prediction(node)


def segments(text: str, folder: Path) -> None:
    arrange(read_documents(text, "rule.yaml"), Vocabulary(frozenset({"churn"}), channels=frozenset({"hook"})))


def project(text: str, folder: Path) -> None:
    config.parse(text, folder / "predseg.yaml")


Read = Callable[[str, Path], None]


def fuzzed(tally: Tally, what: str, r: random.Random, folder: Path) -> None:
    tally.cases += 1
    text, read = made(r, folder)
    begin = time.process_time()
    try:
        read(text, folder)
        tally.counts["accepted"] += 1
    except ConfigError as error:
        tally.counts["refused"] += 1
        placed = bool(_PLACE.fullmatch(error.place) and error.message and error.help)
        tally.counts["nowhere"] += not placed
        tally.demand(placed, f"{what}: refused without a place: {error!r} {text!r}")
    except Exception as error:
        tally.counts["crashed"] += 1
        tally.fault(f"{what}: {type(error).__name__}: {error}: {text!r}")
    seconds = time.process_time() - begin
    tally.counts["slow"] += seconds > LONGEST
    tally.demand(seconds <= LONGEST, f"{what}: {seconds:.1f} s: {text[:200]!r}")


def made(r: random.Random, folder: Path) -> tuple[str, Read]:
    """A text, and who reads it."""
    kind = r.random()
    if kind < 0.15:
        return r.choice(["", " "]).join(r.choices(words(folder), k=r.randrange(1, 40))), r.choice([condition, measured, segments, project])
    if kind < 0.25:
        keys = r.sample(list(config._KEYS), 2)
        return "project: p\n" + "".join(f"{key}: {r.choice(words(folder))}\n" for key in keys), project
    rule = to_yaml(random_document(r, 1)) if r.random() < 0.6 else r.choice(CONDITIONS)
    if kind < 0.65:
        return damaged(r, rule, folder), condition
    if kind < 0.75:
        return damaged(r, r.choice(MEASURES), folder), measured
    if kind < 0.95:
        return damaged(r, SEGMENT % rule, folder), segments
    return damaged(r, PROJECT % r.choice(MEASURES), folder), project


@cache
def words(folder: Path) -> tuple[str, ...]:
    texts = [text.replace("CANARY", str(folder / "canary")).replace("PWNED", str(folder / "pwned")) for text in TEXTS]
    return (
        *WORDS,
        *(json.dumps(text) for text in texts),
        str(folder / "canary"),
        "file:" + str(folder / "canary"),
        "!include canary",
        "{{7*7}}",
        "%(x)s",
    )


def damaged(r: random.Random, text: str, folder: Path) -> str:
    for _ in range(r.randrange(1, 4)):
        at, size = r.randrange(len(text) + 1), r.choice([0, 1, 1, 5])
        text = text[:at] + r.choice([r.choice(words(folder)), "", text[at : at + size] * 2]) + text[at + size :]
    return text


# attacks


TEXTS = (
    "' or '1'='1",
    "' or 1=1 --",
    "' or true or '",
    "') or ('1'='1",
    "x' or event <> 'x",
    "' or customer_id like '%",
    "'/**/or/**/1=1--",
    "' union select customer_id from events --",
    "' union all select 'mallory' --",
    "'; drop table events; --",
    "'; delete from events; select customer_id from events where '1'='1",
    "'; create table pwned (a integer); --",
    "'; copy (select 1) to 'PWNED'; --",
    "'; attach 'PWNED' as pwned; --",
    "' or exists (select * from read_text('CANARY')) --",
    "' or (select count(*) from read_blob('CANARY')) > 0 --",
    "' union select content from read_text('CANARY') --",
    "'; insert into events select 'mallory', content, null, null from read_text('CANARY'); --",
    "' or event not null --",
    "' = any (select 'x') or 'x' = 'x",
    "\\' or 1=1 --",
    "it's",
)
NAMES = (
    '" is not null or "event" <> \'',
    "\" = 'x' or true --",
    "event\" <> 'x' --",
    '" or 1=1 --',
    "customer_id\" like '%' --",
    '") is not null or (1=1) --',
    'x" from events; drop table events; --',
    "\" = '' or exists (select * from read_text('CANARY')) --",
    "\"; copy (select 1) to 'PWNED'; --",
    "\" = 'x' union select customer_id from events --",
    '"; create table pwned (a integer); --',
    'say "hi"',
)
SLOTS: dict[str, tuple[str, str]] = {
    "event": ("{{did: {text}}}", "event = '{raw}'"),
    "not event": ("{{none: [{{did_not: {text}}}]}}", "not (event <> '{raw}')"),
    "value": ("{{did: Look, where: {{note: {text}}}}}", "note = '{raw}'"),
    "part of a value": ("{{did: Look, where: {{note: {{contains: {text}}}}}}}", "note like '%{raw}%'"),
    "one of values": ("{{did: Look, where: {{note: [nothing, {text}]}}}}", "note in ('nothing', '{raw}')"),
    "value of a step": ("{{did: Look, then: {{did: {text}}}}}", "event = '{raw}'"),
    "property": ("{{did: Look, where: {{{text}: mine}}}}", "\"{raw}\" = 'mine'"),
    "sum": ("{{did: Look, sum: {text}, more_than: 5}}", '"{raw}" > 5'),
}
"""Where a text can stand in a rule, and what a naive compiler makes of it."""


def attacks(folder: Path) -> list[tuple[str, str]]:
    """Slot and text of each attack."""
    texts = {"property": NAMES, "sum": [f"{name}2" for name in NAMES]}
    found = [(slot, text) for slot in SLOTS for text in texts.get(slot, TEXTS)]
    return [(slot, text.replace("CANARY", str(folder / "canary")).replace("PWNED", str(folder / "pwned"))) for slot, text in found]


def rows(folder: Path) -> list[dict[str, object]]:
    """Each attack as a text of the one customer whom its rule is about; three others have nothing to do with any."""
    found: list[dict[str, object]] = [{"customer_id": f"other{n}", "event": "Look", "note": "nothing much"} for n in range(3)]
    for number, (slot, text) in enumerate(attacks(folder)):
        row: dict[str, object] = {"customer_id": f"c{number}", "event": "Look", "note": "-"}
        if slot in ("event", "not event"):
            row["event"] = text
        elif slot == "value of a step":
            found.append(row)
            row = {**row, "event": text}
        elif slot in ("property", "sum"):
            row[text] = "mine" if slot == "property" else 7
        else:
            row["note"] = f"a {text} b" if slot.startswith("part") else text
        found.append(row)
    return [{**row, "event_time": f"2026-03-01T00:{n // 60:02d}:{n % 60:02d}Z", "event_id": f"{n:05d}"} for n, row in enumerate(found)]


def attacked(tally: Tally, folder: Path) -> list[tuple[str, str]]:
    """Ask predseg for the members of all rules; return the attacks."""
    tried, home = attacks(folder), folder / "project"
    home.mkdir()
    (home / "events.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(folder)))
    (home / "predseg.yaml").write_text("project: p\nsources: {e: {path: events.jsonl}}\nsegments: rules.yaml\n")
    names = [SLOTS[slot][0].format(text=json.dumps(text)) for slot, text in tried]
    (home / "rules.yaml").write_text("---\n".join(f"segment: s{n}\nmatch: {match}\n" for n, match in enumerate(names)))
    shop = Project.load(home)
    found = shop.segments().members(shop.moment())
    for number, (slot, text) in enumerate(tried):
        tally.cases += 1
        wanted, got = literally(folder, slot, text), found[f"s{number}"]
        assert wanted, "somebody has exactly this"
        tally.counts["injected"] += got != wanted
        tally.demand(got == wanted, f"{slot} {text!r}: members {sorted(got)[:5]}, expected {sorted(wanted)}")
    tally.demand(not (folder / "pwned").exists(), "a file was written")
    return tried


def literally(folder: Path, slot: str, text: str) -> set[object]:
    """The customers for whom a rule is true when its text is a text."""
    looked: set[object] = set()
    found: set[object] = set()
    for row in rows(folder):
        note, customer = str(row["note"]), row["customer_id"]
        holds = {
            "event": row["event"] == text,
            "not event": row["event"] == text,
            "value": note == text,
            "part of a value": text in note,
            "one of values": note in ("nothing", text),
            "value of a step": row["event"] == text and customer in looked,
            "property": row.get(text) == "mine",
            "sum": row.get(text) == 7,
        }
        if holds[slot] and (row["event"] == "Look" or "event" in slot or "step" in slot):
            found.add(customer)
        looked |= {customer} if row["event"] == "Look" else set()
    return found


def naively(tally: Tally, folder: Path, tried: list[tuple[str, str]]) -> None:
    """The same attacks on a compiler that pastes texts into SQL: most must get through, else they are none."""
    import duckdb
    import pyarrow as pa

    given = rows(folder)
    names = sorted({name for row in given for name in row} - {"event_time", "event_id"})
    table = pa.table({name: [None if (v := row.get(name)) is None else str(v) for row in given] for name in names})
    opened = watched(folder / "canary")
    for slot, text in tried:
        with duckdb.connect() as connection:
            connection.register("given", table)
            connection.execute("create table events as select * from given")
            try:
                sql = f"select distinct customer_id from events where {SLOTS[slot][1].format(raw=text)}"
                got = {row[0] for row in connection.execute(sql).fetchall()}
            except duckdb.Error:
                got = set()
        tally.counts["naive"] += got != literally(folder, slot, text) or (folder / "pwned").exists()
        (folder / "pwned").unlink(missing_ok=True)
    tally.demand(tally.counts["naive"] >= 100, f"only {tally.counts['naive']} attacks break a naive compiler")
    tally.demand(opened() > 0, "no attack reads the canary through a naive compiler: the watch on it sees nothing")


def watched(file: Path) -> Callable[[], int]:
    """Have the system watch a file; the answer says how often anybody opened it since (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK)
    assert handle >= 0 and libc.inotify_add_watch(handle, os.fsencode(file), 0x20) >= 0  # IN_OPEN

    def opened() -> int:
        try:
            return len(os.read(handle, 1 << 16)) // 16
        except BlockingIOError:
            return 0
        finally:
            os.close(handle)

    return opened
