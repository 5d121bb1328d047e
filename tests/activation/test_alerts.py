"""Alerts: told through the channels of the project, told again when they did not arrive, and from the monitor on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from standardwebhooks import Webhook as Verifier

from predseg.activation.alerts import ATTEMPTS, Teller, alarms
from predseg.activation.sending import Alert
from predseg.cli import main
from predseg.config import load
from predseg.errors import ChannelError, ConfigError
from predseg.language.channels import Channel, Dry, Folder, Identify, Mail
from predseg.language.secrets import Secret
from predseg.language.time import parse_instant
from predseg.language.urls import parse_url
from tests.activation.receiver import Got, receiving
from tests.activation.test_mail import server
from tests.activation.test_web import SECRET, hook, world
from tests.patience import eventually

ALERT = Alert("alert_1", parse_instant("2026-03-02T12:00"), "failing", "shop: size of vips is past its limit", {"watch": "size", "of": "vips"})


def tell(channel: Channel, **given: object) -> None:
    Teller("ops", channel, world(**given), pause=0.01)(ALERT)


def test_a_webhook_gets_a_signed_alert() -> None:
    with receiving() as receiver:
        tell(hook(receiver.url()))
    [got] = receiver.got
    assert got.headers["webhook-id"] == "alert_1"
    assert Verifier(SECRET).verify(got.body, dict(got.headers)) == {
        "type": "alert.failing",
        "timestamp": "2026-03-02T12:00:00Z",
        "data": {"subject": "shop: size of vips is past its limit", "watch": "size", "of": "vips"},
    }


def test_a_mail_goes_to_the_address_of_the_channel() -> None:
    with server() as box:
        url = parse_url(f"smtp://127.0.0.1:{box.port}", ("smtp",))
        tell(Mail("ops", url, "shop@example.com", "s", "t", to="ops@example.com", private=True))
        with pytest.raises(ChannelError, match="a fixed address"):
            tell(Mail("ops", url, "shop@example.com", "s", "t", trait="email", private=True))
    [mail] = box.mails
    assert mail["Subject"] == ALERT.subject and mail["To"] == "ops@example.com" and mail.get_content().splitlines()[2:] == ["watch: size", "of: vips"]


def test_a_folder_gets_a_file_and_a_dry_channel_nothing(tmp_path: Path) -> None:
    tell(Folder("ops", "out", "jsonl"), root=tmp_path)
    [file] = (tmp_path / "out").iterdir()
    assert file.name.startswith("alert-20260302T120000Z") and json.loads(file.read_text())["subject"] == ALERT.subject
    tell(Dry("ops"))


def test_a_channel_for_customers_tells_nobody() -> None:
    with pytest.raises(ChannelError, match="for customers"):
        tell(Identify("ops", parse_url("https://example.com/", ("https",)), Secret("KEY")))


def test_what_does_not_arrive_is_tried_again_and_then_said() -> None:
    def second(got: Got) -> tuple[int, dict[str, str], bytes]:
        return (200 if len(receiver.got) > 1 else 503), {}, b""

    with receiving(answer=second) as receiver:
        tell(hook(receiver.url()))
        assert len(receiver.got) == 2 and {got.headers["webhook-id"] for got in receiver.got} == {"alert_1"}
    with receiving(answer=lambda _: (503, {}, b"")) as receiver, pytest.raises(ChannelError) as refusal:
        tell(hook(receiver.url()))
    assert len(receiver.got) == ATTEMPTS and refusal.value.code == "E802" and "503" in refusal.value.message


PROJECT = """\
project: shop
sources:
  shop: {path: events.csv}
segments: segments.yaml
channels:
  ops: {webhook: "http://127.0.0.1:PORT/", secret: "env:HOOK", private: true}
monitor: {freshness: 2 days, send: ops}
"""


def test_the_monitor_tells_a_breach_and_a_recovery_once_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOOK", SECRET)
    Path("segments.yaml").write_text("segment: viewers\nmatch: {did: View}\n")

    def look(at: str, code: int, *newest: str) -> str:
        days = ["2026-03-01", *newest]
        Path("events.csv").write_text("customer_id,event_time,event\n" + "".join(f"a,{day}T00:00:00Z,View\n" for day in days))
        assert main(["segment", "--as-of", days[-1], "-q"]) == 0 and main(["monitor", "--as-of", at]) == code
        return capsys.readouterr().err

    down = True
    with receiving(answer=lambda _: (503 if down else 200, {}, b"")) as receiver:
        Path("predseg.yaml").write_text(PROJECT.replace("PORT", str(receiver.port)))
        assert not look("2026-03-02", 0)
        assert "error[E802] ops: an alert did not arrive" in look("2026-03-04", 8) and len(receiver.got) == ATTEMPTS
        receiver.got.clear()
        down = False
        look("2026-03-05", 1)
        look("2026-03-06", 1)
        look("2026-03-07", 0, "2026-03-07")
        look("2026-03-08", 0, "2026-03-07")
    told = [json.loads(got.body) for got in receiver.got]
    assert [(one["type"], one["data"]["watch"], one["data"]["project"]) for one in told] == [
        ("alert.failing", "freshness", "shop"),
        ("alert.ok", "freshness", "shop"),
    ]


def test_an_unknown_channel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    Path("segments.yaml").write_text("segment: viewers\nmatch: {did: View}\n")
    Path("events.csv").write_text("customer_id,event_time,event\na,2026-03-01,View\n")
    Path("predseg.yaml").write_text(PROJECT.replace("send: ops", "send: opps").replace("PORT", "8999"))
    assert main(["monitor"]) == 3
    assert "error[E339] monitor.send: unknown channel 'opps'" in capsys.readouterr().err


def test_an_alarm_of_the_server_is_told_when_it_begins_and_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[str] = []
    with receiving() as receiver:
        (tmp_path / "predseg.yaml").write_text(
            f'project: shop\nserve: {{alerts: {{send: ops}}}}\nchannels: {{ops: {{webhook: "{receiver.url()}", secret: "env:OPS", private: true}}}}\n'
        )
        ring = alarms(load(tmp_path), {"OPS": SECRET}, lambda: ALERT.at + 1, failed.append)
        ring("lag", ALERT.at, "events wait for 2 minutes")
        ring("lag", None, "lag is in order again")
        eventually(lambda: len(receiver.got) >= 2)
    said = {got.headers["webhook-id"]: json.loads(got.body) for got in receiver.got}
    assert [said[i]["type"] for i in sorted(said)] == ["alert.failing", "alert.ok"] and failed == []
    assert said[min(said)]["data"]["subject"] == "shop: events wait for 2 minutes" and said[min(said)]["data"]["alarm"] == "lag"


def test_an_alarm_needs_a_channel_that_there_is(tmp_path: Path) -> None:
    (tmp_path / "predseg.yaml").write_text("project: shop\nserve: {alerts: {send: ops}}\n")
    with pytest.raises(ConfigError, match="E339.*serve.alerts.send"):
        alarms(load(tmp_path), {}, lambda: 0, print)
