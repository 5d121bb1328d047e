"""The addresses over HTTP: keys, limits, conservation, overload, slow clients, changes as they happen."""

from __future__ import annotations

import base64
import gzip
import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest

from predseg.live import server as server_
from predseg.live import web
from predseg.live.service import Limits
from tests.live.fakes import Store
from tests.live.serving import READ, WRITE, Running, running
from tests.live.test_collector import JUNK, mutated
from tests.patience import PATIENCE, eventually


@pytest.fixture(scope="module")
def up() -> Iterator[Running]:
    with running() as found:
        yield found


def track(event: str = "Enter", customer: str | None = "ann", **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": customer, "event": event, **more}


def conserved(up: Running) -> None:
    _, health, _ = up.ask("/health")
    total = health["received"]
    assert total["received"] == sum(total[name] for name in ("accepted", "duplicates", "quarantined", "suppressed"))


# keys


def test_the_write_key_writes_and_the_read_key_reads(up: Running) -> None:
    basic = f"Basic {base64.b64encode(f'{WRITE}:'.encode()).decode()}"
    for given in ({"Authorization": basic}, {"Authorization": f"Bearer {WRITE}"}):
        assert up.ask("/v1/track", track("Look"), "", **given)[0] == 200
    assert up.ask("/v1/batch", {"batch": [track("Look")], "writeKey": WRITE}, "")[0] == 200
    for wrong in ("", READ, WRITE + "x", WRITE[:-1], "é"):
        status, answer, headers = up.ask("/v1/track", track(), wrong)
        assert status == 401 and answer["code"] == "refused" and "www-authenticate" in headers
        assert up.ask("/v1/batch", {"batch": [track()], "writeKey": wrong}, "")[0] == 401
    for odd in ("Basic", "Basic !!", "Basic " + "A" * 9_000, "Digest x", "Basic " + base64.b64encode(b"\xff:").decode()):
        assert up.ask("/v1/track", track(), "", Authorization=odd)[0] == 401
    for path in ("/v1/customers/ann", "/v1/segments", "/v1/segments/inside", "/v1/changes", "/metrics"):
        for wrong in ("", WRITE, READ + "x"):
            assert up.ask(path, key=wrong)[0] == 401


def test_a_wrong_header_is_refused_before_the_body_is_read(up: Running) -> None:
    head = "POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer nope\r\nContent-Length: 100000\r\n\r\n"
    with socket.create_connection(("127.0.0.1", up.port), PATIENCE) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 401")


def test_health_tells_strangers_little(up: Running) -> None:
    status, found, _ = up.ask("/health", key="")
    assert status == 200 and found["status"] == "ok" and "segments" not in found and "last_error" not in found
    assert {"segments", "alarms", "received", "last_error"} <= set(up.ask("/health")[1])


# messages


def test_every_call_is_answered_with_exactly_200(up: Running) -> None:
    for kind, more in {
        "track": {"event": "Look"},
        "identify": {},
        "page": {},
        "screen": {},
        "group": {"groupId": 1},
        "alias": {"previousId": "v"},
    }.items():
        status, answer, _ = up.ask(f"/v1/{kind}", {"userId": "ann", "messageId": kind, **more})
        assert (status, answer["accepted"]) == (200, 1), answer
        assert up.ask(f"/v1/{kind}", {"userId": "ann", "messageId": kind, **more})[1]["duplicates"] == 1
    assert up.ask("/v1/batch", {"batch": []})[1] == {
        "success": True,
        "accepted": 0,
        "duplicates": 0,
        "quarantined": 0,
        "suppressed": 0,
        "rejected": [],
    }


def test_one_bad_message_never_loses_the_others(up: Running) -> None:
    text = '{"batch": [%s, {"type": "track", "userId": "x", "event": "A", "properties": {"value": NaN}}, 7, %s], "writeKey": "%s"}'
    status, answer, _ = up.ask("/v1/batch", (text % (json.dumps(track("A")), json.dumps(track("B", "gone")), WRITE)).encode(), "")
    assert status == 200 and (answer["accepted"], answer["quarantined"], answer["suppressed"]) == (1, 2, 1)
    assert [(r["index"], r["reason"]) for r in answer["rejected"]] == [(1, "message NaN is no number"), (2, "message is not an object")]
    conserved(up)


def test_a_body_that_is_no_json_is_kept_and_refused(up: Running) -> None:
    before = len(up.store.quarantine)
    status, answer, _ = up.ask("/v1/batch", b'{"batch": [')
    assert status == 400 and "not JSON" in answer["message"] and set(answer) == {"code", "message"}
    assert up.store.quarantine[before:][0].raw == '{"batch": ['
    assert up.ask("/v1/batch", b'{"batch": [', "")[0] == 400 and len(up.store.quarantine) == before + 1, "a stranger fills nothing"
    assert up.ask("/v1/batch", gzip.compress(b"{}"))[0] == 400 and up.ask("/v1/track", b"[]")[0] == 400
    assert up.ask("/v1/batch", gzip.compress(b"{}")[:-4], Content_Encoding="gzip")[0] == 400
    assert up.ask("/v1/batch", b"{}", Content_Encoding="br")[0] == 415
    conserved(up)


def test_limits_of_length(up: Running) -> None:
    assert up.ask("/v1/batch", b" " * 512_001)[0] == 413
    assert up.ask("/v1/batch", gzip.compress(b" " * 512_001), Content_Encoding="gzip")[0] == 413
    long = track("A", properties={"a": "x" * 33_000})
    answer = up.ask("/v1/batch", {"batch": [long, track("B")]})[1]
    assert (answer["accepted"], answer["quarantined"]) == (1, 1)
    with socket.create_connection(("127.0.0.1", up.port), PATIENCE) as client:
        client.sendall(f"POST /v1/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRITE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        try:
            for _ in range(40):
                client.sendall(b"8000\r\n" + b" " * 0x8000 + b"\r\n")
        except OSError:
            pass
        assert client.recv(100).startswith(b"HTTP/1.1 413")


def test_malformed_messages_are_all_accounted_for(up: Running) -> None:
    """received = accepted + duplicates + quarantined + suppressed, whatever comes; nothing breaks."""
    r = random.Random(11)
    sent = refused = 0
    _, before, _ = up.ask("/health")
    for _ in range(150):
        batch = [mutated(r) for _ in range(r.randint(0, 20))] + [track(r.choice(["Enter", "Leave"]), f"c{r.randrange(5)}")]
        body = json.dumps(r.choice([{"batch": batch}, {"batch": batch}, {"batch": batch}, r.choice(JUNK), {"batch": r.choice(JUNK)}])).encode()
        if r.random() < 0.2:
            body = bytes(b if r.random() > 0.01 else r.randrange(256) for b in body)
        status, answer, _ = up.ask("/v1/batch", body)
        assert status in (200, 400), (status, answer)
        if status == 200:
            outcomes = sum(answer[name] for name in ("accepted", "duplicates", "quarantined", "suppressed"))
            assert len(answer["rejected"]) == min(answer["quarantined"], 100)
            sent += outcomes
        else:
            refused += 1
    _, after, _ = up.ask("/health")
    assert sent > 500 and refused > 5
    assert after["received"]["received"] - before["received"]["received"] == sent + refused, "a body that is no JSON is one message"
    conserved(up)


# answers


def test_a_customer_and_a_segment(up: Running) -> None:
    up.ask("/v1/track", track("Enter", "bob/1 ü", timestamp="2026-03-01T12:00:00Z"))
    _, found, _ = up.ask("/v1/customers/bob%2F1%20%C3%BC")
    [inside] = found["segments"]
    assert found["customer_id"] == "bob/1 ü" and inside["since"] == "2026-03-01T12:00Z" and inside["until"] is None and not inside["stale"]
    assert up.ask("/v1/customers/nobody")[1]["segments"] == []
    _, segment, _ = up.ask("/v1/segments/inside")
    assert "bob/1 ü" in segment["sample"] and segment["size"] == len(up.store.members) and len(segment["hours"]) == 24
    before = segment["hours"][-1]
    up.ask("/v1/batch", {"batch": [track("Enter", "h1"), track("Enter", "h2"), track("Leave", "h1")]})
    hour = up.ask("/v1/segments/inside")[1]["hours"][-1]
    assert (hour["entered"], hour["left"]) == (before["entered"] + 2, before["left"] + 1) or hour["hour"] != before["hour"]
    assert up.ask("/v1/segments")[1]["segments"][0]["segment"] == "inside"
    status, answer, _ = up.ask("/v1/segments/insdie")
    assert status == 404 and "did you mean 'inside'?" in answer["message"]


@pytest.mark.parametrize("who", ["a\nb", "a\r\n\nb", "a/b", "/", "//a/", "a#b?c=d&e", "100%", "%41", "ü\u2028ñ", "a+b c", ";", "a\0b"])
def test_a_customer_is_found_whatever_its_id(up: Running, who: str) -> None:
    up.ask("/v1/batch", {"batch": [track("Enter", "ann", timestamp="2026-03-01T12:00:00Z"), track("Enter", who, timestamp="2026-03-01T13:00:00Z")]})
    status, found, _ = up.ask(f"/v1/customers/{quote(who, safe='')}")
    assert (status, found["customer_id"], [s["since"] for s in found["segments"]]) == (200, who, ["2026-03-01T13:00Z"])
    assert up.ask("/v1/customers/" + quote(f" {who}\n", safe=""))[1] == found, "space around an id is no part of it, as where events come in"


def test_metrics_are_what_prometheus_reads(up: Running) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    found = {family.name: family for family in text_string_to_metric_families(up.ask("/metrics")[1])}
    outcomes = {sample.labels["outcome"]: sample.value for sample in found["predseg_messages"].samples}
    assert sum(outcomes.values()) == up.ask("/health")[1]["received"]["received"] > 0
    assert found["predseg_up"].samples[0].value == 1
    buckets = [sample.value for sample in found["predseg_decision_seconds"].samples if sample.name.endswith("bucket")]
    assert buckets == sorted(buckets) and buckets[-1] > 0


# changes as they happen


def events(up: Running, count: int, after: int | None = None, path: str = "/v1/changes") -> list[dict[str, Any]]:
    """Read some server-sent events; `until` is told when the stream is open."""
    head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {READ}\r\n" + (f"Last-Event-ID: {after}\r\n" if after is not None else "")
    found: list[dict[str, Any]] = []
    with socket.create_connection(("127.0.0.1", up.port), PATIENCE) as client:
        client.sendall((head + "\r\n").encode())
        file = client.makefile("rb")
        number, kind = None, None
        for line in file:
            if line.startswith(b": follow"):
                OPEN.set()
            name, _, rest = line.decode().strip().partition(": ")
            if name == "id":
                number = int(rest)
            if name == "event":
                kind = rest
            if name == "data":
                found.append({"number": number, "kind": kind, **json.loads(rest)})
                if len(found) == count:
                    return found
    return found


OPEN = threading.Event()


def test_changes_come_as_they_happen_and_go_on_from_any_of_them(up: Running) -> None:
    OPEN.clear()
    with ThreadPoolExecutor() as pool:
        reader = pool.submit(events, up, 2)
        assert OPEN.wait(PATIENCE)
        up.ask("/v1/batch", {"batch": [track("Enter", "s1"), track("Leave", "s1"), track("Enter", "s2")]})
        found = reader.result(PATIENCE)
    assert [(e["kind"], e["customer_id"], e["segment"]) for e in found] == [("entered", "s1", "inside"), ("left", "s1", "inside")]
    assert found[0]["number"] == found[0]["id"] and found[0]["correction"] is False and found[0]["definition"] == "d1"
    [again] = events(up, 1, after=found[0]["number"])
    assert again == found[1]
    whole = events(up, len(up.store.changes), after=0)
    assert [e["number"] for e in whole] == list(range(1, len(up.store.changes) + 1))
    assert up.ask("/v1/changes", Last_Event_ID="x")[0] == 400 and up.ask("/v1/changes?segment=nope")[0] == 404


def test_a_reader_that_falls_behind_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    from predseg.live import desk

    monkeypatch.setattr(desk, "STREAM_LENGTH", 5)
    with running() as up:
        with socket.create_connection(("127.0.0.1", up.port), PATIENCE) as client:
            client.sendall(f"GET /v1/changes HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {READ}\r\n\r\n".encode())
            eventually(lambda: up.desk.subscribers)
            up.ask("/v1/batch", {"batch": [track("Enter", f"c{i}") for i in range(100)]})
            eventually(lambda: not up.desk.subscribers)
        assert len(events(up, 100, after=0)) == 100


def test_there_is_a_bound_of_readers(up: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "STREAMS", 0)
    status, _, headers = up.ask("/v1/changes")
    assert status == 503 and headers["retry-after"]


# slow and greedy clients


def test_a_slow_head_and_an_endless_head_are_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_, "HEAD_SECONDS", 0.3)
    with running() as up:
        with socket.create_connection(("127.0.0.1", up.port), PATIENCE) as idle, socket.create_connection(("127.0.0.1", up.port), PATIENCE) as slow:
            slow.sendall(b"POST /v1/track HTTP/1.1\r\nX-A: ")
            assert ended(slow) and ended(idle)
        with socket.create_connection(("127.0.0.1", up.port), PATIENCE) as greedy:
            greedy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)  # else what nobody has read yet may be megabytes
            assert flood(greedy) < 3_000_000
        monkeypatch.setattr(server_, "HEAD_SECONDS", PATIENCE)
        assert up.ask("/v1/track", track("Look"))[0] == 200


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(10) == b""
    except ConnectionResetError:
        return True


def flood(client: socket.socket) -> int:
    sent = 0
    try:
        client.sendall(b"GET /health HTTP/1.1\r\n")
        while sent < 50_000_000:
            client.sendall(b"X-A: " + b"b" * 10_000 + b"\r\n")
            sent += 10_000
    except OSError:
        pass
    return sent


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODY_SECONDS", 0.3)
    with running() as up, socket.create_connection(("127.0.0.1", up.port), PATIENCE) as client:
        client.sendall(f"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRITE}\r\nContent-Length: 100\r\n\r\n{{".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 408")
        assert up.desk.reading == 0


def test_a_client_that_goes_away_holds_nothing(up: Running) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", up.port), PATIENCE) as client:
            client.sendall(f"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WRITE}\r\nContent-Length: 100\r\n\r\n{{".encode())
    eventually(lambda: up.desk.reading == 0)
    assert up.ask("/v1/track", track("Look"))[0] == 200


def test_all_bodies_together_are_bounded(up: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "BODIES_BYTES", -1)
    status, _, headers = up.ask("/v1/track", track("Look"))
    assert status == 503 and headers["retry-after"] == "1"


# somebody says no


def test_a_no_is_answered_when_nothing_is_on_its_way_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[str]] = []

    def settled(customers: Any) -> bool:
        asked.append(set(customers))
        return len(asked) > 3

    with running(noes=frozenset({"Unsubscribed"}), settled=settled) as up:
        assert up.ask("/v1/track", track("Look"))[0] == 200 and asked == []
        assert up.ask("/v1/track", track("Unsubscribed", "ann"))[1]["accepted"] == 1 and asked == [{"ann"}] * 4
        monkeypatch.setattr(web, "SETTLE", 0.1)
        up.desk.settled = lambda customers: False
        status, _, headers = up.ask("/v1/track", track("Unsubscribed", "bob", messageId="u1"))
        assert status == 503 and headers["retry-after"] and "u1" in up.store.ids, "it is stored, and the client asks again"
        up.desk.settled = lambda customers: True
        assert up.ask("/v1/track", track("Unsubscribed", "bob", messageId="u1"))[1]["duplicates"] == 1


# overload


def test_overload_is_answered_429_with_bounded_memory_and_nothing_is_lost() -> None:
    store = Store(slow=0.15)
    with running(store, limits=Limits(rows=60, group=20)) as up:

        def client(number: int) -> tuple[int, int]:
            batch = [track("Look", f"c{number}", messageId=f"{number}.{i}") for i in range(10)]
            for attempt in range(200):
                status, _, headers = up.ask("/v1/batch", {"batch": batch})
                if status == 200:
                    return status, attempt
                assert status == 429 and headers["retry-after"] == "1"
                time.sleep(0.05)
            return status, attempt

        with ThreadPoolExecutor(30) as pool:
            found = list(pool.map(client, range(30)))
        assert {status for status, _ in found} == {200} and sum(attempts for _, attempts in found) > 0
        assert max(up.desk.writer.queue.rows for _ in range(1)) <= 60 and len(store.rows) == 300 == len(store.ids)
        assert max(store.groups) <= 20, "a transaction is bounded too"
        conserved(up)
