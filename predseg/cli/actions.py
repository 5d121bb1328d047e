"""The command about messages, and what the daily run says of them."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from predseg.cli.frame import Answer, Run, command, plain

if TYPE_CHECKING:
    from predseg.activation.daily import Acted
    from predseg.activation.upkeep import Entry


class Verb(StrEnum):
    """What `predseg actions` does."""

    LIST = "list"
    RETRY = "retry"
    CANCEL = "cancel"


class Status(StrEnum):
    """Where a message stands."""

    PENDING = "pending"
    CLAIMED = "claimed"
    SENT = "sent"
    FAILED = "failed"
    DEAD = "dead"
    CANCELLED = "cancelled"
    SUPPRESSED = "suppressed"


@command("actions", "predseg actions", "predseg actions list --status dead --segment abandoned_cart", "predseg actions retry --all")
def actions(
    run: Run,
    verb: Annotated[Verb, typer.Argument(metavar="[list|retry|cancel]", help="list: look; retry: send again now; cancel: never send.")] = Verb.LIST,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Messages, to retry or cancel.")] = None,
    status: Annotated[list[Status] | None, typer.Option("--status", metavar="STATUS", help="List only these; may be repeated.")] = None,
    segment: Annotated[str | None, typer.Option("--segment", metavar="NAME", help="List only those of a segment.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", metavar="ID", help="List only those to a customer.")] = None,
    most: Annotated[int, typer.Option("--most", metavar="N", min=1, help="List at most so many.")] = 50,
    everything: Annotated[bool, typer.Option("--all", help="Retry all that failed or are dead; cancel all that wait or are dead.")] = False,
) -> Answer:
    """List the messages to customers, send some again, or let some never be sent."""
    from predseg.activation import upkeep

    if verb is not Verb.LIST:
        return _changed(run, verb, ids or [], everything)
    with upkeep.opened(run.project().config.store) as connection:
        found = upkeep.entries(connection, statuses=status or (), segment=segment, customer=customer, most=most)
        counts = upkeep.counts(connection)
    return Answer({"counts": counts, "actions": [_entry(e) for e in found]}, lambda console: _show(console, counts, found))


def _changed(run: Run, verb: Verb, ids: list[str], everything: bool) -> Answer:
    from predseg.activation import upkeep
    from predseg.errors import UsageError
    from predseg.moment import clock

    if bool(ids) == everything:
        found = "both messages and --all" if ids else "no message"
        raise UsageError("E282", f"actions {verb}", f"{found} is named", f"predseg actions {verb} ID..., or predseg actions {verb} --all")
    with upkeep.opened(run.project().config.store, dry_run=run.dry_run) as connection:
        done = upkeep.retry(connection, ids, clock()) if verb is Verb.RETRY else upkeep.cancel(connection, ids)

    def show(console: Any) -> None:
        from predseg.cli.views import count

        said = f"{count(len(done), 'message is', 'messages are')} {'due now' if verb is Verb.RETRY else 'cancelled'}"
        console.print(said + ("; what is due is sent by predseg run and predseg serve" if verb is Verb.RETRY and done else ""))

    return Answer({"changed": done, "dry_run": run.dry_run}, show)


def _entry(entry: Entry) -> dict[str, Any]:
    from predseg.language.time import say_instant

    found = plain(entry)
    return found | {name: None if found[name] is None else say_instant(found[name]) for name in ("at", "due_at", "sent_at")}


def _show(console: Any, counts: dict[str, int], found: list[Entry]) -> None:
    from predseg.cli.views import table
    from predseg.language.time import say_instant

    if not counts:
        console.print("no message was ever due; what is sent is declared by on_enter and on_leave of a segment")
        return
    lines = [(e.action_id, e.segment, e.customer_id, e.channel, e.status, say_instant(e.sent_at or e.due_at)[:16], e.reason) for e in found]
    console.print(table(("message", "segment", "customer", "channel", "status", "sent or due", "why"), lines))
    console.print("\n" + ", ".join(f"{n:,} {status}" for status, n in counts.items()))


def acted(run: Run, found: Acted) -> Answer:
    """Answer with what a daily run did about its changes."""
    rows = [{"segment": segment, "channel": channel, **states} for (segment, channel), states in found.rows.items()]
    for name in found.live:
        run.note(f"note: the messages of {name} are sent when it is entered, by `predseg serve`: it is a live segment")
    if found.elsewhere:
        run.note("note: another run sends at the moment; what is due was left to it")
    lost = found.count("failed", "dead")
    sent: dict[str, int] = {}
    for (_, channel), states in found.rows.items():
        sent[f"channel.{channel}"] = sent.get(f"channel.{channel}", 0) + states.get("sent", 0)
    results = {"as_of": _say(found.as_of), "actions": rows, "started": found.started, "live": found.live, "elsewhere": found.elsewhere}
    return Answer(results, lambda console: _show_acted(console, found, run.dry_run), "failed" if lost else "ok", 8 if lost else 0, nodes=sent)


def _show_acted(console: Any, found: Acted, dry_run: bool) -> None:
    from predseg.cli.views import table

    columns = ("would be sent" if dry_run else "sent", "waiting", "failed", "dead", "left out")
    states = (("sent",), ("pending", "claimed"), ("failed",), ("dead",), ("suppressed", "cancelled"))
    lines = [
        (segment, channel, *(f"{sum(by.get(s, 0) for s in some):,}" for some in states)) for (segment, channel), by in sorted(found.rows.items())
    ]
    console.print(table(("segment", "channel", *columns), lines, columns) if lines else "nothing was due")
    for name in found.started:
        console.print(f"{name}: messages begin with who enters from now on; nothing is sent for the past")
    if found.count("failed", "dead"):
        console.print("\nnext: predseg actions list --status failed --status dead")


def _say(instant: int) -> str:
    from predseg.language.time import say_instant

    return say_instant(instant)
