"""Channels and actions as they are declared: what they become, and every refusal word for word."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from predseg.language import actions, channels
from predseg.language.actions import Action, Quiet, parse_actions
from predseg.language.channels import Dry, Folder, Identify, Mail, Webhook, parse_channels
from predseg.language.secrets import Secret
from predseg.language.time import DAY, HOUR
from predseg.language.urls import Url
from predseg.language.yaml import read_documents
from tests.language.refusals import Case, line_of, read_cases, refuse, refusing_lines, update

GOLDEN = Path(__file__).parent / "refusals_of_channels.txt"


def read(text: str) -> object:
    """The channels under ``channels:``, or the actions under ``on_enter:`` or ``on_leave:``."""
    [node] = read_documents(text, "p.yaml")
    [(key, value)] = node.value.items()
    return parse_channels(value) if key == "channels" else parse_actions(value, key)


update(GOLDEN, read)
CASES = read_cases(GOLDEN)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_channel_or_an_action_is_refused_in_these_words(case: Case) -> None:
    error = refuse(read, case.text)
    assert str(error) == case.answer
    assert re.fullmatch(r"p\.yaml:\d+:\d+", error.place) and error.help and error.exit_code == 3
    assert "whsec_" not in str(error), "a secret is never repeated"


@pytest.mark.parametrize("module", [actions, channels], ids=lambda module: module.__name__)
def test_every_refusal_has_a_case(module: object) -> None:
    reached = {line_of(refuse(read, case.text), module) for case in CASES}  # type: ignore[arg-type]
    left = {line: text for line, text in refusing_lines(module).items() if line not in reached}  # type: ignore[arg-type]
    assert not left
    assert max(Counter(case.title for case in CASES).values()) == 1


def test_channels_become_declarations() -> None:
    found = read("""
channels:
  recovery: {webhook: "https://Mail.example.com:8443/hooks?a=1", secret: [env:NEW, env:OLD], attempts: 3}
  local: {webhook: "http://127.0.0.1:9000/in", secret: env:S, private: true}
  profiles: {identify: "https://events.example.com/v1/identify", key: env:EVENTS_KEY}
  crm: {file: ../exports}
  lake: {file: /data/lake, format: parquet}
  mail: {smtp: "smtp://mail.example.com", from: shop@example.com, to: {trait: email}, subject: Hello $first_name, text: "$$5 off", user: u, password: env:P}
  ops: {smtp: "smtps://mail.example.com", from: shop@example.com, to: ops@example.com, subject: a, text: b}
  trial: {dry: true}
""")
    host = "mail.example.com"
    assert found == {
        "recovery": Webhook("recovery", Url("https", host, 8443, "/hooks?a=1"), (Secret("NEW"), Secret("OLD")), attempts=3),
        "local": Webhook("local", Url("http", "127.0.0.1", 9000, "/in"), (Secret("S"),), private=True),
        "profiles": Identify("profiles", Url("https", "events.example.com", 443, "/v1/identify"), Secret("EVENTS_KEY")),
        "crm": Folder("crm", "../exports"),
        "lake": Folder("lake", "/data/lake", "parquet"),
        "mail": Mail("mail", Url("smtp", host, 587), "shop@example.com", "Hello $first_name", "$$5 off", None, "email", "u", Secret("P")),
        "ops": Mail("ops", Url("smtps", host, 465), "shop@example.com", "a", "b", "ops@example.com"),
        "trial": Dry("trial"),
    }


def test_actions_become_declarations() -> None:
    night = Quiet(22 * 60, 8 * 60, "UTC")
    assert read("on_enter: {send: a}") == (Action("a"),)
    whole = "on_enter: {send: a, limit: once per 7 days, quiet: 22:00-08:00, after: 2 hours}"
    assert read(whole) == (Action("a", 7 * DAY, night, 2 * HOUR),)
    assert read("on_leave: [{send: a, limit: once per day}, {send: b, quiet: 12:30-24:00, timezone: Asia/Tokyo}]") == (
        Action("a", DAY),
        Action("b", None, Quiet(12 * 60 + 30, 0, "Asia/Tokyo")),
    )
    [node] = read_documents("{send: a, quiet: 22:00-08:00}")
    assert parse_actions(node, "on_enter", "Europe/Paris")[0].quiet == Quiet(22 * 60, 8 * 60, "Europe/Paris"), "the project's time zone"
    assert Action("a", 7 * DAY, night, 2 * HOUR).sentence() == "a, 2 hours later, once per 7 days, not 22:00-08:00 UTC"
