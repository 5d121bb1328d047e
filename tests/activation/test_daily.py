"""Daily segments: what a run recorded is sent once, nothing for the past, nothing lost when a run is cut short or repeated."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from predseg import Project
from predseg.activation import daily
from predseg.activation.sender import DAILY, sole_sender
from predseg.cli import main
from predseg.errors import ChannelError, ConfigError
from predseg.language.time import DAY
from predseg.segments.customers import Customers
from predseg.segments.memberships import Ledger, record, standing
from tests.activation.desk import CART, MAIL, Desk, entered
from tests.activation.races import LONG
from tests.activation.receiver import Receiver, receiving
from tests.segments.stores import rules

CONFIG = """\
project: shop
timezone: UTC
sources:
  orders: {path: events.csv}
customers: {path: customers.csv}
segments: rules.yaml
consent: {path: out.csv}
channels:
  crm: {file: exports}
  trial: {dry: true}
"""
RULES = """\
segment: buyers
purpose: email_marketing
match: {did: Order Completed, within: 2 days}
on_enter: {send: crm}
on_leave: {send: trial}
"""
COLUMNS = ["action_id", "segment", "customer_id", "channel", "due_at", "sent_at", "status", "variant"]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, ["ann,2026-03-01T10:00:00Z"])
    (tmp_path / "predseg.yaml").write_text(CONFIG)
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "out.csv").write_text("customer_id,purpose\n")
    (tmp_path / "customers.csv").write_text("customer_id,email\nann,ann@example.com\nbob,bob@example.com\n")
    return tmp_path


def write(shop: Path, orders: list[str]) -> None:
    (shop / "events.csv").write_text("\n".join(["customer_id,event_time,event,value", *(f"{o},Order Completed,5" for o in orders)]) + "\n")


def act(day: str, **given: Any) -> daily.Acted:
    """Bring the segments to a day of March 2026, and act."""
    project = Project.load("predseg.yaml")
    project.segments().run(project.moment(f"2026-03-{day}"), write=not given.get("dry_run"))
    return project.act(f"2026-03-{day}", **given)


def exported() -> list[str]:
    return sorted(line.split(",")[2].strip('"') for path in Path("exports").glob("*.csv") for line in path.read_text().splitlines()[1:])


def rows() -> list[tuple[str, ...]]:
    with sqlite3.connect("store/live.db") as connection:
        return connection.execute("select customer_id, change, status from actions order by made_at, customer_id, change").fetchall()


# what recorded changes become


class Days:
    """Runs of a daily segment, told by who is a member, and what is sent."""

    def __init__(self, text: str = "segment: buyers\nmatch: {did: Add}\non_enter: {send: mail}\non_leave: {send: crm}\n") -> None:
        self.desk, self.ledger = Desk(text), Ledger.empty()
        daily.create(self.desk.connection)

    def use(self, text: str) -> None:
        self.desk.segments, self.desk._sender = rules(text), None

    def run(self, day: float, *members: str, act: bool = True) -> list[str]:
        """Record who is a member on a day, and return who is told what."""
        as_of = int(day * DAY)
        for segment in self.desk.segments.values():
            customers, _ = Customers.named(np.array(members, object))
            ledger, who = self.ledger.until(as_of).knowing(customers)
            self.ledger = ledger.with_({segment.name: record(ledger, segment, standing(who, as_of), as_of)}, as_of)
        return self.act(day) if act else []

    def act(self, day: float) -> list[str]:
        self.started = daily.catch_up(self.desk.connection, self.desk.segments, self.ledger, int(day * DAY), int(day * DAY))
        return sorted(f"{m.customer_id} {m.change}" for m in self.desk.deliver(24 * day))


def test_the_first_run_sends_nothing_for_the_past() -> None:
    days = Days()
    assert days.run(1, "ann", "bob") == [] and days.started == ["buyers"]
    assert days.run(2, "ann", "cleo") == ["bob left", "cleo entered"] and days.started == []
    assert days.run(3, "ann", "cleo") == [] and days.run(4, "bob") == ["ann left", "bob entered", "cleo left"]
    assert days.run(5, "ann", "bob") == ["ann entered"], "again, but another occasion"


def test_running_again_changes_nothing() -> None:
    days = Days()
    days.run(1, "ann")
    assert days.run(2, "ann", "bob") == ["bob entered"]
    before = days.desk.rows("action_id", "status")
    assert days.run(2, "ann", "bob") == [] and days.act(2) == [] and days.act(1.5) == [] and days.desk.rows("action_id", "status") == before


def test_a_run_that_is_repeated_with_other_data_corrects_itself() -> None:
    """At the same moment: who is no member after all gets nothing, who is one after all gets it, and nobody gets it twice."""
    days = Days("segment: buyers\nmatch: {did: Add}\non_enter: {send: mail, after: 1 hour}\n")
    days.run(1, "ann")
    assert days.run(2, "ann", "bob", "cleo") == []
    assert days.run(2, "ann", "cleo", "dan") == [] and days.act(2.1) == ["cleo entered", "dan entered"]
    assert days.desk.rows("customer_id", "status")[0] == ("bob", "cancelled")
    assert days.run(3, "ann", "cleo", "dan", "bob") == [] and days.act(3.1) == ["bob entered"]
    repeated = Days()
    repeated.run(1)
    assert repeated.run(2, "ann") == ["ann entered"] and repeated.run(2) == [] and repeated.run(2, "ann") == []


def test_runs_in_between_that_did_not_act_are_caught_up_with() -> None:
    """`predseg segment` records and sends nothing; a run may be cut short before it acts."""
    days = Days()
    days.run(1, "ann")
    days.run(2, "ann", "bob", act=False)
    days.run(3, "bob", "cleo", act=False)
    assert days.act(3) == ["ann left", "bob entered", "cleo entered"]


def test_new_rules_and_new_actions_send_nothing_for_the_past() -> None:
    days = Days()
    text = "segment: buyers\nmatch: {did: Add}\n"
    days.run(1, "ann")
    days.use(text.replace("did: Add", "did: Add, at_least: 2") + MAIL)
    assert days.run(2, "ann", "bob") == [] and days.started == ["buyers"]
    assert days.run(3, "ann", "bob", "cleo") == ["cleo entered"]
    days.use(text.replace("did: Add", "did: Add, at_least: 2"))
    assert days.run(4, "dan") == []
    days.use(text.replace("did: Add", "did: Add, at_least: 2") + MAIL)
    assert days.run(5, "dan", "eve") == [] and days.started == ["buyers"], "nothing for the time in which there were no actions"


def test_messages_of_a_run_survive_its_death() -> None:
    """Noted and not sent, or recorded and not noted: the next run sends them."""
    days = Days()
    days.run(1, "ann")
    days.run(2, "ann", "bob", act=False)
    daily.catch_up(days.desk.connection, days.desk.segments, days.ledger, 2 * DAY, 2 * DAY)
    assert days.act(2) == ["bob entered"]


# whole runs


def test_a_week(shop: Path) -> None:
    """The table, the file and the exit; who opted out is in none of them."""
    (shop / "out.csv").write_text("customer_id,purpose\ndora,email_marketing\ncleo,training\n")
    assert act("02T12:00").rows == {} and exported() == []
    write(shop, ["ann,2026-03-01T10:00:00Z", *(f"{c},2026-03-02T18:00:00Z" for c in ("bob", "cleo", "dora"))])
    before = rows()
    rehearsed = act("03T08:00", dry_run=True)
    assert rows() == before and not Path("exports").exists(), "a dry run changes nothing"
    found = act("03T08:00")
    assert found.rows == {("buyers", "crm"): {"sent": 2, "suppressed": 1}} == rehearsed.rows and found.started == () and exported() == ["bob", "cleo"]
    found = act("04T08:00")
    assert found.rows == {("buyers", "trial"): {"sent": 1}} and rows()[-1] == ("ann", "left", "sent")
    table = pq.read_table("store/tables/actions").sort_by("customer_id")
    assert table.column_names == COLUMNS and table["customer_id"].to_pylist() == ["ann", "bob", "cleo"]
    assert [str(t) for t in table.schema.types] == ["string"] * 4 + ["timestamp[us, tz=UTC]"] * 2 + ["string"] * 2
    assert table["due_at"].to_pylist()[0].isoformat() == "2026-03-04T08:00:00+00:00" and set(table["status"].to_pylist()) == {"sent"}


def test_limits_and_quiet_hours_follow_the_moment_of_the_run(shop: Path) -> None:
    """With --as-of it is as if it were that time: history can be gone through as it would have been."""
    action = "on_enter: {send: crm, limit: once per 7 days, quiet: 22:00-08:00}"
    (shop / "rules.yaml").write_text(RULES.replace("on_enter: {send: crm}", action).replace("2 days", "20 hours"))
    write(shop, [f"ann,2026-03-{d:02d}T02:00:00Z" for d in (1, 3, 9, 12)])
    sent = []
    for day in (2, 3, 4, 9, 10, 12):
        act(f"{day:02d}T06:00")
        assert len(exported()) == len(sent), "not before eight"
        act(f"{day:02d}T09:00")
        sent += [day] * (len(exported()) - len(sent))
    assert sent == [3, 12], "the 9th is within a week of the 3rd"


def test_another_sender_keeps_the_outbox_and_live_segments_theirs(shop: Path) -> None:
    cart = "---\nsegment: cart\nrefresh: live\nmatch: {did: Order Completed, within: 3 days}\non_enter: {send: crm}\n"
    (shop / "rules.yaml").write_text(RULES + cart)
    act("02T12:00")
    with sqlite3.connect("store/live.db") as connection:
        connection.execute(
            "insert into actions (action_id, segment, definition, customer_id, n, change, slot, at, channel, due_at, status, made_at) "
            "values ('act_live', 'cart', 'x', 'ann', 1, 'entered', 0, 0, 'crm', 0, 'claimed', 0)"
        )
    write(shop, ["ann,2026-03-01T10:00:00Z", "bob,2026-03-02T18:00:00Z"])
    with sole_sender(shop / "store", DAILY):
        found = act("03T08:00")
    assert found.elsewhere and found.rows[("buyers", "crm")] == {"pending": 1} and exported() == [] and found.live == ("cart",)
    assert act("03T08:00").rows == {("buyers", "crm"): {"sent": 1}} and ("ann", "entered", "claimed") in rows()


# secrets, and what does not arrive


def with_webhook(shop: Path, port: int, more: str = "") -> None:
    hook = f'  hook: {{webhook: "http://127.0.0.1:{port}/in", secret: "env:HOOK", private: true{more}}}\n'
    (shop / "predseg.yaml").write_text(CONFIG + hook)
    (shop / "rules.yaml").write_text(RULES.replace("on_enter: {send: crm}", "on_enter: {send: hook}"))


def test_without_its_secret_nothing_is_claimed(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_webhook(shop, 9)
    monkeypatch.delenv("HOOK", raising=False)
    with pytest.raises(ConfigError, match="the environment variable HOOK is not set"):
        act("02T12:00")
    monkeypatch.setenv("HOOK", "plain words")
    with pytest.raises(ChannelError, match="E801"):
        act("02T12:00")
    assert rows() == []


def test_what_does_not_arrive_waits_for_the_next_run(shop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    monkeypatch.setattr(daily, "PATIENCE", 0)
    with receiving(answer=lambda _: (500, {}, b"")) as receiver:
        with_webhook(shop, receiver.port)
        act("02T12:00")
        write(shop, ["ann,2026-03-01T10:00:00Z", "bob,2026-03-02T18:00:00Z"])
        assert main(["run", "--as-of", "2026-03-03T08:00"]) == 8 and len(receiver.got) == 1
        assert "all steps are done, but act did not succeed" in capsys.readouterr().out
        [entry] = said(capsys, "actions", "--status", "failed")["actions"]
        assert entry["reason"] == "answered 500" and entry["customer_id"] == "bob"
        receiver.answer = lambda _: (200, {}, b"")
        assert said(capsys, "actions", "retry", entry["action_id"], "--dry-run")["changed"] == [entry["action_id"]]
        assert rows() == [("bob", "entered", "failed")], "a dry run"
        assert said(capsys, "actions", "retry", "--all")["changed"] == [entry["action_id"]]
        assert act("03T08:01").rows == {("buyers", "hook"): {"sent": 1}}
        assert len({got.headers["webhook-id"] for got in receiver.got}) == 1


@pytest.mark.skipif(not LONG, reason="takes half a minute; PREDSEG_LONG=1 runs it")
def test_a_run_that_is_killed_while_it_sends_loses_nothing(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in its step `act` at several moments; the next run at the same moment ends as an undisturbed one."""
    write(shop, [f"c{i},2026-03-02T18:00:00Z" for i in range(40)] + ["ann,2026-03-01T10:00:00Z"])
    seen: list[str] = []
    with receiving() as receiver:
        receiver.answer = counting(receiver, seen)
        with_webhook(shop, receiver.port)
        monkeypatch.setenv("HOOK", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
        act("02T12:00")
        killed = 0
        for most in (3, 11, 23):
            process = subprocess.Popen(
                [sys.executable, "-m", "predseg", "run", "--as-of", "2026-03-03T08:00"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while process.poll() is None and len(seen) < most:
                pass
            process.send_signal(signal.SIGKILL)
            killed += process.wait() == -signal.SIGKILL
        assert killed == 3
        act("03T08:00")
        assert {c for c, _, _ in rows()} == {f"c{i}" for i in range(40)} and {s for _, _, s in rows()} == {"sent"}
        assert len(set(seen)) == 40 and 40 <= len(seen) < 80
        assert pq.read_table("store/tables/actions").num_rows == 40


def counting(receiver: Receiver, seen: list[str]) -> Callable[[Any], tuple[int, dict[str, str], bytes]]:
    def answer(got: Any) -> tuple[int, dict[str, str], bytes]:
        seen.append(got.headers["webhook-id"])
        return 200, {}, b""

    receiver.slow = 0.02
    return answer


# the command


def said(capsys: pytest.CaptureFixture[str], *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == exit_code
    return dict(json.loads(capsys.readouterr().out))


def test_messages_can_be_listed_and_cancelled(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, "actions")["actions"] == [] and main(["actions"]) == 0
    assert "no message was ever due" in capsys.readouterr().out
    desk = Desk(CART + "on_enter: {send: mail, after: 1 hour}\n", made(shop) / "live.db")
    desk.tell(entered(desk, 8, customer="bob"), entered(desk, 8, customer="cleo"))
    found = said(capsys, "actions", "list")
    assert found["counts"] == {"pending": 2} and [a["customer_id"] for a in found["actions"]] in (["bob", "cleo"], ["cleo", "bob"])
    assert found["actions"][0] | {"action_id": "", "customer_id": ""} == {
        "action_id": "",
        "segment": "cart",
        "customer_id": "",
        "change": "entered",
        "at": "1970-01-01T08:00Z",
        "channel": "mail",
        "due_at": "1970-01-01T09:00Z",
        "sent_at": None,
        "status": "pending",
        "reason": "",
        "attempts": 0,
        "variant": None,
    }
    [bob] = said(capsys, "actions", "--customer", "bob")["actions"]
    assert said(capsys, "actions", "--segment", "other")["actions"] == [] and len(said(capsys, "actions", "--most", "1")["actions"]) == 1
    assert said(capsys, "actions", "cancel", bob["action_id"])["changed"] == [bob["action_id"]]
    assert main(["actions"]) == 0
    shown = capsys.readouterr().out
    assert "by hand" in shown and "1 cancelled, 1 pending" in shown
    assert [m.customer_id for m in desk.deliver(9)] == ["cleo"]


REFUSALS = [
    (("retry",), "E282", "no message is named"),
    (("cancel", "act_x", "--all"), "E282", "both messages and --all"),
    (("cancel", "act_x"), "E280", "there is no such message"),
    (("retry", "act_1"), "E281", "the message is sent, expected failed or dead"),
    (("cancel", "act_1"), "E281", "the message is sent, expected pending or failed or dead"),
    (("send",), "E201", "is not one of"),
]


def test_refusals(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(file=made(shop) / "live.db")
    desk.tell(entered(desk, 1))
    desk.deliver(1)
    desk.connection.execute("update actions set action_id = 'act_1'")
    desk.connection.close()
    for arguments, code, words in REFUSALS:
        error = said(capsys, "actions", *arguments, exit_code=2)["error"]
        assert error["code"] == code and words in error["message"], arguments


def made(shop: Path) -> Path:
    (shop / "store").mkdir()
    return shop / "store"


def test_the_pipeline_acts(shop: Path) -> None:
    import pipelines.daily

    assert pipelines.daily.main(["predseg.yaml"]) == 0
    write(shop, ["ann,2026-03-01T10:00:00Z", "bob,2026-03-02T18:00:00Z"])
    assert pipelines.daily.main(["predseg.yaml"]) == 0
    assert exported() == ["bob"]


def test_traits_reach_mails_as_of_now(shop: Path) -> None:
    from predseg.activation.opening import traits_at
    from predseg.language.channels import Mail
    from predseg.language.time import parse_instant
    from predseg.language.urls import Url

    Project.load("predseg.yaml").check()
    frame = Project.load("predseg.yaml").segments().traits()
    mail = Mail("m", Url("smtp", "h", 25), "a@b", "$first_name", "$customer_id", trait="email")
    ask = traits_at(frame, [mail], parse_instant("2026-03-03"))
    assert ask("ann") == {"email": "ann@example.com", "customer_id": "ann"} and ask("nobody") == {}
    assert traits_at(None, [mail], 0)("ann") == {} and traits_at(frame, [], 0)("ann") == {}
