"""From a stock client to one signed message: the whole live side, as a newcomer meets it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from predseg.cli import main
from tests.activation.receiver import receiving
from tests.patience import PATIENCE, eventually

SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()
RULES = """\
segment: abandoned_cart
refresh: live
match:
  did: Product Added
  within: 3 hours
  then: {did_not: [Order Completed, Product Added], within: 1 minute}
on_enter: {send: recovery}
"""


def test_a_cart_is_abandoned_and_one_signed_message_arrives(tmp_path: Path) -> None:
    """The event happened 58 seconds ago, so the wait of a minute is over two seconds after it came."""
    import segment.analytics as analytics

    with receiving() as receiver:
        channel = f'{{webhook: "{receiver.url("/hooks")}", secret: "env:RECOVERY_SECRET", private: true}}'
        (tmp_path / "rules.yaml").write_text(RULES)
        (tmp_path / "predseg.yaml").write_text(f"project: shop\nsources: {{}}\nsegments: rules.yaml\nchannels:\n  recovery: {channel}\n")
        server = started(tmp_path)
        try:
            url, key = announced(server)
            client = analytics.Client(key, host=url, sync_mode=True)
            client.track("ann", "Product Added", {"price": 12}, timestamp=instant(-58), message_id="m1")
            client.track("ann", "Product Added", {"price": 12}, timestamp=instant(-58), message_id="m1")
            eventually(lambda: receiver.got or server.poll() is not None)
            assert receiver.got, server_said(server)
            time.sleep(1)
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(PATIENCE)
        assert len(receiver.got) == 1
        got = receiver.got[0]
        assert b'"ann"' in got.body and b"abandoned_cart" in got.body
        assert signed(got.headers, got.body) in got.headers["webhook-signature"]
    assert main(["verify", "--live", "-c", str(tmp_path / "predseg.yaml"), "-q"]) == 0


def started(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "RECOVERY_SECRET": SECRET}
    command = [sys.executable, "-m", "predseg", "serve", "--port", "0"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def announced(server: subprocess.Popen[str]) -> tuple[str, str]:
    """The address and the write key that the server says when it starts."""
    assert server.stderr is not None
    said = ""
    for line in server.stderr:
        said += line
        if found := re.search(r"serving at (\S+),", line):
            key = re.search(r"write key.*: (\w+)", said)
            assert key is not None, said
            return found[1], key[1]
    raise AssertionError(f"the server did not start: {said}")


def server_said(server: subprocess.Popen[str]) -> str:
    server.send_signal(signal.SIGINT)
    return server.communicate(timeout=PATIENCE)[1]


def signed(headers: object, body: bytes) -> str:
    """The signature that the standard asks for: HMAC-SHA-256 of id, time and body."""
    given: dict[str, str] = headers  # type: ignore[assignment]
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    text = f"{given['webhook-id']}.{given['webhook-timestamp']}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode()


def instant(seconds: float) -> object:
    from datetime import UTC, datetime, timedelta

    return datetime.now(UTC) + timedelta(seconds=seconds)
