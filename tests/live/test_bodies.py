"""Bodies: bounds that hold, and flaws charged to the one message that has them."""

from __future__ import annotations

import gzip
import json
import resource
import time
import zlib
from typing import Any

import pytest

from predseg.live.bodies import BATCH_BYTES, DEPTH, EVENT_BYTES, RefusedBody, as_text, flaw, messages, read, too_long, unpacked


def refused(call: Any, *given: Any) -> tuple[int, str]:
    with pytest.raises(RefusedBody) as found:
        list(call(*given))
    return found.value.status, found.value.reason


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def test_gzip_is_unpacked_and_everything_else_refused() -> None:
    assert unpacked(b"{}", None) == unpacked(b"{}", "identity") == unpacked(gzip.compress(b"{}"), " GZIP ") == b"{}"
    assert unpacked(gzip.compress(b"[1") + gzip.compress(b"]"), "gzip") == b"[1]"
    assert refused(unpacked, b"{}", "br")[0] == 415
    for body in (b"{}", gzip.compress(b"{}")[:-9], gzip.compress(b"{}") + b"x", zlib.compress(b"{}")):
        assert refused(unpacked, body, "gzip")[0] == 400
    assert refused(unpacked, gzip.compress(b"") * 30, "gzip") == (400, "the gzip data have more than 16 parts")


def test_limits_hold_to_the_byte() -> None:
    assert len(unpacked(b" " * BATCH_BYTES, None)) == len(unpacked(gzip.compress(b" " * BATCH_BYTES), "gzip")) == BATCH_BYTES
    assert refused(unpacked, b" " * (BATCH_BYTES + 1), None)[0] == refused(unpacked, gzip.compress(b" " * (BATCH_BYTES + 1)), "gzip")[0] == 413
    room = EVENT_BYTES - len('{"a":""}')
    assert not too_long({"a": "x" * room}) and too_long({"a": "x" * (room + 1)}) and too_long({"a": "é" * (room // 2 + 1)})


def test_a_gzip_bomb_costs_no_memory_and_no_time() -> None:
    bomb = gzip.compress(gzip.compress(bytes(400 * 1024 * 1024), 9), 9)
    bomb = gzip.decompress(bomb)  # 400 KB that unpack to 400 MB
    assert len(bomb) < BATCH_BYTES
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    assert refused(unpacked, bomb, "gzip")[0] == 413
    assert time.process_time() - begin < 2 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": NaN}', "NaN is no number"),
        ('{"a": [1, -Infinity]}', "-Infinity is no number"),
        ('{"a": 1e999}', "a number is too large"),
        ('{"a": 1, "a": 2}', "a key stands twice"),
        ('{"x": {"a": 1, "b": [{"c": 1, "c": 1}]}}', "a key stands twice"),
        (r'{"a": "\ud800"}', "a text has half of a surrogate pair"),
        (r'{"\udfff": 1}', "a text has half of a surrogate pair"),
        ('{"a": ' + "9" * 5000 + "}", "a number of more than 40 digits"),
        (nested(DEPTH + 1), f"nested more than {DEPTH} levels deep"),
        (nested(400), f"nested more than {DEPTH} levels deep"),
        (nested(DEPTH), None),
        (r'{"a": "\ud83d\ude00 \u0000 é", "b": "\":1,\"b\":", "c": 1e300, "d": -0.0}', None),
    ],
)
def test_a_flaw_is_the_fault_of_its_message_alone(text: str, reason: str | None) -> None:
    value = read(f'{{"batch": [{{"ok": 1}}, {text}, {{"ok": 2}}]}}'.encode())
    assert [flaw(m) for m in messages(value)] == [None, reason, None]
    assert isinstance(as_text(value["batch"][1]).encode(), bytes)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"a": "\x01"}', b"{}x", nested(100_000).encode(), b'{"a": tru}', b"'a'", "{}".encode("utf-16")]
)
def test_what_is_no_json_is_refused_whole(body: bytes) -> None:
    assert refused(read, body)[0] == 400


def test_a_body_is_a_message_or_a_batch() -> None:
    assert list(messages({"type": "track"})) == [{"type": "track"}] and list(messages({"batch": []})) == []
    for value in ([], "a", 1, None, {"batch": {}}, {"batch": "x"}):
        assert refused(messages, value)[0] == 400


def test_kept_text_is_bounded_and_never_fails() -> None:
    assert len(as_text({"a": "x" * 100_000})) == EVENT_BYTES
    assert "twice" not in as_text(read(b'{"a": 1, "a": 2}')) and as_text(read(b'{"a": NaN}')) == '{"a":"NaN is no number"}'
    deep: Any = 1
    for _ in range(50_000):
        deep = [deep]
    assert as_text(deep) == "(nested too deeply to be written down)"
    assert as_text("\ud800") == '"\\ud800"' and json.loads(as_text({"a": "é"})) == {"a": "é"}
