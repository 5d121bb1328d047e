"""Consent: whatever was said in whatever order, the list says the same, and it tells nobody who is on it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predseg.errors import DataError
from predseg.history import keys, privacy
from predseg.language.consent import PURPOSES, Consent
from tests.history.projects import Place

KEYS = (b"0123456789abcdef",)
Said = tuple[str, int, bool, str]


def fresh() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    privacy.prepare(connection, KEYS)
    return connection


@pytest.fixture
def listed() -> Iterator[sqlite3.Connection]:
    connection = fresh()
    yield connection
    connection.close()


def tell(connection: sqlite3.Connection, *said: Said, customer: str = "c1") -> None:
    for purpose, at, out, origin in said:
        privacy.say(connection, [customer], [purpose], at, out=out, origin=origin)


def oracle(said: list[Said], purpose: str | None) -> bool:
    """The latest of what was said of this purpose or of all; at one instant the no."""
    if purpose is None:
        return any(oracle(said, p) for p in {p for p, *_ in said})
    mine = [(at, out) for p, at, out, _ in said if p in (purpose, "*")]
    return max(mine)[1] if mine else False


STATEMENTS = st.lists(
    st.tuples(st.sampled_from(["*", *PURPOSES]), st.integers(-3, 3), st.booleans(), st.sampled_from(["command", "event", "live"])), max_size=6
)


@given(STATEMENTS, st.randoms())
def test_the_latest_word_counts_in_any_order(said: list[Said], random: Any) -> None:
    connection = fresh()
    shuffled = [*said, *said]
    random.shuffle(shuffled)
    tell(connection, *shuffled)
    for purpose in (*PURPOSES, None):
        wanted = oracle(said, purpose)
        assert privacy.opted_out(connection, "c1", purpose) == wanted
        everybody = privacy.all_opted_out(connection, KEYS, purpose)
        assert ("c1" in everybody) == wanted and "c2" not in everybody and len(everybody) == wanted
    connection.close()


def test_a_line_of_the_file_outlasts_any_yes(listed: sqlite3.Connection, tmp_path: Path) -> None:
    file = tmp_path / "optouts.csv"
    file.write_text("customer_id,purpose\nc1,email_marketing\n c2 ,\n,email_marketing\n", "utf-8-sig")
    privacy.follow_file(listed, file)
    tell(listed, ("*", 9 * 10**17, False, "command"))
    assert privacy.opted_out(listed, "c1", "email_marketing") and not privacy.opted_out(listed, "c1", "training")
    assert privacy.opted_out(listed, "c2", "training") and privacy.opted_out(listed, "c2", "own purpose")
    file.write_text("customer_id\nc3\n", "utf-8")
    privacy.follow_file(listed, file)
    assert not privacy.opted_out(listed, "c1", "email_marketing") and privacy.opted_out(listed, "c3", None)


def test_ids_of_the_file_that_were_floats_are_those_of_the_tables(listed: sqlite3.Connection, tmp_path: Path) -> None:
    (tmp_path / "optouts.csv").write_text("customer_id\n17850.0\n1.5\n'+44123\n")
    privacy.follow_file(listed, tmp_path / "optouts.csv")
    assert all(privacy.opted_out(listed, who, None) for who in ("17850", "17850.0", "1.5", "+44123")) and not privacy.opted_out(listed, "1", None)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"customer_id,purpose\nc1,\nc2,Email_Marketing\n", "optouts.csv:3: unknown purpose 'Email_Marketing'"),
        (b"customer_id,purpose\nc1,email marketing\n", "optouts.csv:2: unknown purpose 'email marketing'"),
        ("customer_id\nc1\n".encode("utf-16"), "cannot be read: 'utf-8' codec"),
    ],
)
def test_a_no_that_would_count_for_nothing_is_refused(listed: sqlite3.Connection, tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "optouts.csv").write_bytes(content)
    with pytest.raises(DataError, match="E440") as error:
        privacy.follow_file(listed, tmp_path / "optouts.csv", Consent().known)
    assert told in str(error.value)


def test_without_the_file_nobody_is_asked(listed: sqlite3.Connection, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="E440"):
        privacy.follow_file(listed, tmp_path / "missing.csv")
    (tmp_path / "other.csv").write_text("id\nc1\n")
    with pytest.raises(DataError, match="no column customer_id, found id"):
        privacy.follow_file(listed, tmp_path / "other.csv")


# the events table


ROWS = [
    {"customer_id": "c1", "event": "Unsubscribed", "event_time": "2026-05-01T10:00:00Z"},
    {"customer_id": "c2", "event": "Order Completed", "event_time": "2026-05-01T10:00:00Z"},
    {"customer_id": "c3", "event": "Unsubscribed", "event_time": "2026-05-01T10:00:00Z"},
    {"customer_id": "c3", "event": "Subscribed", "event_time": "2026-05-02T10:00:00Z"},
]
TEXT = "sources: {orders: {path: orders.jsonl}}\n"


def test_events_say_no_and_yes_again(place: Place, listed: sqlite3.Connection) -> None:
    place.jsonl("orders.jsonl", ROWS)
    place.ingest(TEXT)
    privacy.follow_events(listed, place.store, Consent())
    assert [privacy.opted_out(listed, c, "email_marketing") for c in ("c1", "c2", "c3")] == [True, False, True]
    assert not privacy.opted_out(listed, "c1", "training")
    both = Consent(opt_out=(("Unsubscribed", ("email_marketing", "profiling")),), opt_in=(("Subscribed", ("*",)),))
    privacy.follow_events(listed, place.store, both)
    assert privacy.opted_out(listed, "c1", "profiling") and not privacy.opted_out(listed, "c3", None)
    place.jsonl("orders.jsonl", [*ROWS, {"customer_id": "c2", "event": "Unsubscribed", "event_time": "2026-05-03T10:00:00Z"}])
    place.ingest(TEXT)
    privacy.follow_events(listed, place.store, both)
    assert privacy.opted_out(listed, "c2", "email_marketing")
    privacy.follow_events(listed, place.store, Consent(opt_out=()))
    assert privacy.counts(listed) == {}


def test_the_events_are_read_once_whether_they_are_held_or_not(place: Place, listed: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    place.jsonl("orders.jsonl", ROWS)
    place.ingest(TEXT)
    with place.store.reading("events"):
        privacy.follow_events(listed, place.store, Consent())
    assert privacy.opted_out(listed, "c1", "email_marketing")
    monkeypatch.delattr(privacy, "_told")
    privacy.follow_events(listed, place.store, Consent())
    with place.store.reading("events"):
        privacy.follow_events(listed, place.store, Consent())


def test_live_events_are_heard_and_a_merged_customer_keeps_the_no(listed: sqlite3.Connection) -> None:
    listed.execute("begin immediate")
    privacy.hear(listed, Consent(), "visitor", "Unsubscribed", 5)
    privacy.hear(listed, Consent(), "c2", "Order Completed", 5)
    assert listed.in_transaction, "it is a part of the transaction that stores the event"
    listed.rollback()
    assert not privacy.opted_out(listed, "visitor", "email_marketing")
    privacy.hear(listed, Consent(), "visitor", "Unsubscribed", 5)
    privacy.joined(listed, "visitor", "c1")
    assert privacy.opted_out(listed, "c1", "email_marketing") and not privacy.opted_out(listed, "c2", None)


# the keys


def test_the_list_does_not_hold_ids(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "live.db")
    privacy.prepare(connection, KEYS)
    privacy.say(connection, ["customer-canary-7"], ["*"], 1, out=True, origin="command")
    connection.close()
    assert b"canary" not in (tmp_path / "live.db").read_bytes()
    import hashlib

    assert keys.person("customer-canary-7", KEYS) != hashlib.sha256(b"customer-canary-7").digest(), "a plain hash is found by trying ids"


def test_a_key_is_added_without_knowing_who_is_listed(tmp_path: Path) -> None:
    file, chain = tmp_path / "live.db", (KEYS[0], b"second key 23456", b"third key 345678")
    for n in (1, 3, 3):
        connection = sqlite3.connect(file)
        privacy.prepare(connection, chain[:n])
        privacy.say(connection, [f"c{n}"], ["training"], 1, out=True, origin="command")
        assert all(privacy.opted_out(connection, f"c{i}", "training") for i in (1, n)) and not privacy.opted_out(connection, "c9", None)
        connection.close()


@pytest.mark.parametrize("others", [(b"second key 23456", KEYS[0]), (b"another key 1234",)])
def test_another_key_is_refused_before_anybody_is_written_to(tmp_path: Path, others: tuple[bytes, ...]) -> None:
    connection = sqlite3.connect(tmp_path / "live.db")
    privacy.prepare(connection, KEYS)
    with pytest.raises(DataError, match="E450"):
        privacy.prepare(connection, others)
    connection.close()


@pytest.mark.parametrize("others", [(), (KEYS[0], b"second key 23456"), (b"another key 1234",)], ids=["none", "one more", "another"])
def test_other_pseudonyms_are_refused_before_anybody_is_written_to(tmp_path: Path, others: tuple[bytes, ...]) -> None:
    connection = sqlite3.connect(tmp_path / "live.db")
    privacy.prepare(connection, KEYS, KEYS)
    privacy.say(connection, ["c1"], ["*"], 1, out=True, origin="command")
    with pytest.raises(DataError, match="E451"):
        privacy.prepare(connection, KEYS, others)
    privacy.prepare(connection, KEYS, KEYS)
    assert privacy.opted_out(connection, "c1", None) and not privacy.opted_out(connection, "c2", None)
    connection.close()


def test_a_store_of_before_takes_the_pseudonyms_it_is_opened_with(listed: sqlite3.Connection) -> None:
    privacy.note(listed, "names", None)
    privacy.prepare(listed, KEYS, KEYS)
    with pytest.raises(DataError, match="E451"):
        privacy.prepare(listed, KEYS)


def test_the_key_of_the_store_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    first = keys.keys_of(tmp_path, [])
    assert keys.keys_of(tmp_path, []) == first and len(first[0]) == 64
    assert (tmp_path / "privacy.key").stat().st_mode & 0o777 == 0o600
    assert keys.keys_of(tmp_path, [b"x" * 16]) == (*first, b"x" * 16), "the kept key stays the first"
    assert [p.name for p in tmp_path.iterdir()] == ["privacy.key"]


def test_a_project_with_its_own_key_keeps_none_and_a_dry_run_writes_none(tmp_path: Path) -> None:
    assert keys.keys_of(tmp_path, [b"x" * 16]) == (b"x" * 16,)
    assert len(keys.keys_of(tmp_path, [], dry_run=True)) == 1
    with privacy.opened(tmp_path, KEYS, Consent(), root=tmp_path, dry_run=True) as connection:
        privacy.say(connection, ["c1"], ["*"], 1, out=True, origin="command")
        assert privacy.opted_out(connection, "c1", None)
    assert list(tmp_path.iterdir()) == []
    with privacy.opened(tmp_path, KEYS, Consent(), root=tmp_path) as connection:
        assert not privacy.opted_out(connection, "c1", None)
        privacy.say(connection, ["c2"], ["*"], 1, out=True, origin="command")
    with privacy.opened(tmp_path, KEYS, Consent(), root=tmp_path, dry_run=True) as connection:
        assert privacy.opted_out(connection, "c2", None), "a dry run knows who opted out"


def test_a_file_that_is_no_longer_named_no_longer_counts(tmp_path: Path) -> None:
    (tmp_path / "optouts.csv").write_text("customer_id\nc1\n")
    for consent, wanted in ((Consent(path="optouts.csv"), True), (Consent(), False)):
        with privacy.opened(tmp_path, KEYS, consent, root=tmp_path) as connection:
            assert privacy.opted_out(connection, "c1", "training") == wanted
