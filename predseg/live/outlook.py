"""What the clock alone will do: when a customer leaves the live segments it is in, if nothing happens."""

from __future__ import annotations

from predseg.evaluate.live import BEGINNING, Engine
from predseg.evaluate.program import Facts, Program
from predseg.live.state import State

STEPS = 1_000
"""Instants that are looked at: each is one at which something may change."""


def ends(state: State, program: Program, facts: Facts, customer_id: str) -> dict[str, int]:
    """Return the instant (microseconds) at which the customer leaves each live segment by the clock alone; who never does is not in it.

    It is the live executor itself that says so, over a copy of this one customer.
    """
    engine = Engine(program, facts, int(state.get("clock") or BEGINNING), recall=state.fetch)
    engine.owners = state.links_of(customer_id)
    members = engine.person(customer_id).members
    inside = {rule.name for rule, since in zip(program.rules, members, strict=True) if since is not None}
    found: dict[str, int] = {}
    for _ in range(STEPS):
        at = engine.next_instant
        if at is None or not inside:
            break
        for change in engine.advance(at):
            if change.customer_id == customer_id and change.segment in inside:
                found[change.segment] = change.at
                inside.remove(change.segment)
    return found
