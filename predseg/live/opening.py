"""How a live loop starts: from its state when the rules are the same, else from the history of the batch side, silently."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from predseg.columns import mixed_in
from predseg.evaluate.leaves import TRUE
from predseg.evaluate.live import BEGINNING, LATENESS, Engine
from predseg.evaluate.program import Origin, Program, Row, Rule
from predseg.history.persons import EVERYBODY, Persons
from predseg.layers import readers
from predseg.live.lines import Contract
from predseg.live.loop import Loop
from predseg.live.published import Published, Snapshot
from predseg.live.rescoring import rescorer_of
from predseg.live.state import DATABASE, State, connect
from predseg.segments.facts import Facts
from predseg.segments.lookup import to_event

if TYPE_CHECKING:
    from predseg.config import Config
    from predseg.segments.workspace import Workspace

FORMAT = 1
"""Raised when the state of customers is kept in another way; it is then built anew from history."""


def rules_of(workspace: Workspace) -> list[Rule]:
    """Return the live segments of a project, each after those that it asks about."""
    return [Rule(s.name, s.match, s.definition) for s in workspace.segments.values() if s.live]


def published_of(workspace: Workspace, state: State | None = None) -> Published:
    """Return what is published in a project, with the traits that came live."""
    facts = workspace.facts(workspace.ledger())
    published = Published(Facts(Snapshot(workspace.store), facts.traits, facts.members, facts.rescored), workspace.listed())
    for who, time, visible, traits in state.traits() if state is not None else ():
        published.learn(who, traits, time, visible)
    return published


def open_durable(config: Config, workspace: Workspace, now: int, **options: Any) -> Loop:
    """Return the loop of a project's live state; what happened before ``now`` is never said again.

    Args:
        config: The project file.
        workspace: Its segments over the events as they are now.
        now: The clock (microseconds).
        options: Of `Loop`.
    """
    state = State(connect(config.store / DATABASE))
    program, published = Program(rules_of(workspace)), published_of(workspace, state)
    published.score(state.scores())
    options.setdefault("rescore", rescorer_of(config, workspace, state))
    contract, fingerprint = Contract.of(config), fingerprint_of(program)
    if state.get("program") == fingerprint:
        return _lean(resumed(program, contract, published, state, **options), now)
    engine = Engine(program, published)
    fill(engine, workspace.files, now)
    before = {rule.name: state.members(rule.name) for rule in program.rules if state.get(f"definition.{rule.name}") == rule.definition}
    entered = workspace.run(now, write=False).spells if workspace.files else {}
    since = {name: dict(zip(s.customers.tolist(), s.entered.tolist(), strict=True)) for name, s in entered.items()} | before
    join(engine, since)
    with state.transaction():
        for table in ("people", "links", "memberships"):
            state.connection.execute(f"delete from {table}")
        state.save(engine, engine.people)
        state.link(engine.owners, engine.owners)
        state.enter(engine)
        state.put(program=fingerprint, clock=now, **{f"definition.{rule.name}": rule.definition for rule in program.rules})
    engine.touched, engine.relinked, engine.recall = set(), set(), state.fetch
    return _lean(Loop(engine, contract, published, state, **options), now)


def _lean(loop: Loop, now: int) -> Loop:
    loop.forget_scores(now)
    return loop


def resumed(program: Program, contract: Contract, published: Published, state: State, **options: Any) -> Loop:
    """Return the loop of a state that was kept for the same rules, as it was after the last commit."""
    engine = Engine(program, published, int(state.get("clock") or BEGINNING), recall=state.fetch)
    engine.owners = state.links()
    engine.schedule(state.timers())
    loop = Loop(engine, contract, published, state, **options)
    for seen in state.ahead(engine.clock):
        engine.put(loop.row_of(seen))
    return loop


def refresh(loop: Loop, workspace: Workspace, now: int) -> bool:
    """Let a running loop know what was published since: scores, rfv scores, clusters, daily memberships, traits.

    Customers of whom it changes anything are decided anew at the next instant.

    Returns:
        False when the rules are other ones: then the loop has to be closed and opened again.
    """
    program = loop.engine.program
    if fingerprint_of(Program(rules_of(workspace))) != fingerprint_of(program):
        return False
    old, new = loop.published, published_of(workspace, loop.state)
    new.facts.live = old.facts.rescored
    if loop.state is not None:
        loop.rescore = rescorer_of(workspace.config, workspace, loop.state)
    ids = np.array(loop.state.customers() if loop.state is not None else sorted(loop.engine.people), object)
    at = np.full(len(ids), now)
    loop.engine.facts = loop.published = new
    for leaf, condition in program.facts if len(ids) else ():
        before, after = old.facts(condition, ids, at), new.facts(condition, ids, at)
        loop.engine.touch(ids[(before.true != after.true) | (before.unknown != after.unknown)].tolist(), max(now, loop.engine.clock + 1), [leaf])
    for customer_id, since in new.since.items():
        if customer_id not in old.since:
            loop.engine.know(customer_id, max(since, loop.engine.clock + 1))
    return True


def open_in_memory(config: Config, workspace: Workspace, clock: int | None, *, for_ever: bool = False, persons: Persons = EVERYBODY) -> Loop:
    """Return a loop that keeps nothing; what the project's events say up to ``clock`` is known and never said (None: nothing is known).

    ``for_ever`` keeps whatever a correction can need, however late an event comes.
    """
    published = published_of(workspace)
    engine = Engine(Program(rules_of(workspace)), published, lateness=2**61 if for_ever else LATENESS)
    if clock is not None:
        fill(engine, workspace.files, clock, to_come=False)  # what comes after is what the lines tell, of which the table may have some
        join(engine, {})
    return Loop(engine, Contract.of(config), published, persons=persons)


def fingerprint_of(program: Program) -> str:
    """Return a hash of the rules and of the way in which customers are kept for them."""
    streams = [[repr(s.events), s.since, s.columns, s.span] for s in program.streams]
    text = json.dumps([FORMAT, [[r.name, r.definition] for r in program.rules], streams], default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def fill(engine: Engine, files: Sequence[Path], clock: int, *, to_come: bool = True) -> None:
    """Give the engine the events that were visible by ``clock`` as history, and those after it, if wanted, as what is to come."""
    links: list[Row] = []
    for row in _rows(engine.program, files):
        if row.visible > clock:
            if to_come:
                engine.put(row)
            continue
        origin = (engine.own if row.customer_id is not None else engine.anonymous).setdefault(str(row.customer_id or row.anonymous_id), Origin())
        if row.hits or row.link or row.visible < origin.since:
            origin.rows.append(row)
        origin.since = min(origin.since, row.visible)
        links += [row] if row.link else []
    for row in sorted(links, key=lambda r: (r.visible, str(r.customer_id))):
        engine.tie(row)
        engine.owners.setdefault(str(row.anonymous_id), (row.visible, str(row.customer_id)))
    for origins in (engine.own, engine.anonymous):
        for origin in origins.values():
            origin.rows.sort(key=lambda r: r.visible)
    engine.clock = clock


def join(engine: Engine, since: Mapping[str, Mapping[str, int]]) -> None:
    """Answer everything for every known customer as of the clock: members are so since when ``since`` says, else since the clock."""
    clock, listed = engine.clock, getattr(engine.facts, "since", {})
    for customer_id in sorted({*engine.own, *engine.anonymous, *listed}):
        person = engine.person(customer_id)
        engine.settle(person)
        for i, rule in enumerate(engine.program.rules):
            if person.known and engine.program.decide[i](person.truth, person.members) == TRUE:
                person.enter(i, since.get(rule.name, {}).get(customer_id, clock))
    engine.schedule((min(p.due), p.id) for p in engine.people.values() if p.due)
    for customer_id, start in listed.items():
        if start > clock:
            engine.know(customer_id, start)
    engine.prune()


def _rows(program: Program, files: Iterable[Path]) -> Iterator[Row]:
    """Yield the events of a store's events table that some rule looks at, and one of everybody else, as they came."""
    wanted = {name for s in program.streams for _, name in s.columns} | {f.property for s in program.streams for f in s.events.where}
    core = {"customer_id", "anonymous_id", "linked_at", "event", "event_time", "received_at"}
    for reader in readers(files):
        columns = [name for name in reader.names if name in core | wanted]
        several = mixed_in(reader.file.schema_arrow)
        for group in range(len(reader.sizes)):
            for row in (row for batch in reader.group(group, columns).to_batches(65_536) for row in batch.to_pylist()):
                customer, anonymous, linked = row["customer_id"], row.get("anonymous_id"), row.get("linked_at")
                own = None if anonymous is not None and (linked is not None or customer == anonymous) else customer
                event = to_event({**row, "linked_at": None}, several)
                yield Row(event.visible, event.time, program.route(event.name).hits(event.time, event.properties), own, anonymous)
