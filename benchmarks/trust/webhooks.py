"""Messages as receivers verify them: the vector that implementations of Standard Webhooks share, and messages of any content."""

from __future__ import annotations

import base64
import hashlib
import hmac
import random
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from standardwebhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError

from benchmarks.trust.figures import Figure, Tally
from predseg.activation.channels import open_channel
from predseg.activation.web import signing_key
from tests.activation.receiver import Receiver, receiving
from tests.activation.test_web import MESSAGE, OTHER, SECRET, hook, world

TRIED = "signatures beside the shared vector and HMAC by hand; messages sent, received, and changed on the way"
PROMISED = "all as Standard Webhooks has them, every change noticed"
FULL, SMALL = 1_000, 20
VECTOR = (SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, '{"test": 2432232314}', "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")


def measure(cases: int, folder: Path, seed: int) -> Figure:
    tally, r = Tally(), random.Random(seed)
    vector(tally, *VECTOR)
    for _ in range(cases):
        key, id_, at, body = r.randbytes(r.randrange(24, 65)), f"msg_{r.getrandbits(64):x}", r.randrange(2**31), f'{{"x": "{r.random()}"}}'
        by_hand = base64.b64encode(hmac.digest(key, f"{id_}.{at}.{body}".encode(), hashlib.sha256)).decode()
        vector(tally, "whsec_" + base64.b64encode(key).decode(), id_, at, body, f"v1,{by_hand}")
    with receiving() as receiver:
        channel = open_channel(hook(receiver.url()), world())
        for number in range(cases):
            customer = "".join(chr(r.choice([r.randrange(1, 128), r.randrange(0xD800), 0x1F6D2])) for _ in range(r.randrange(1, 40)))
            channel.send([replace(MESSAGE, action_id=f"act_{number}", customer_id=customer)])
            tally.demand(len(receiver.got) == number + 1, f"{number}: it did not arrive")
            arrived(tally, r, receiver)
    return tally.figure(
        f"{tally.counts['equal']:,} signatures equal, {tally.counts['verified']:,} verified, {tally.counts['noticed']:,} changes noticed"
    )


def vector(tally: Tally, secret: str, id_: str, at: int, body: str, expected: str) -> None:
    tally.cases += 1
    found = Verifier(signing_key(secret, "X")).sign(id_, datetime.fromtimestamp(at, UTC), body)
    tally.counts["equal"] += found == expected
    tally.demand(found == expected, f"{id_}: {found}, expected {expected}")


def arrived(tally: Tally, r: random.Random, receiver: Receiver) -> None:
    """The last message is verified as it is, and refused when anything of it is another."""
    got = receiver.got[-1]
    headers, text = dict(got.headers), got.body.decode()
    changes = {
        "body": (SECRET, text[:-1] + " }", headers),
        "id": (SECRET, text, {**headers, "webhook-id": headers["webhook-id"] + "0"}),
        "time": (SECRET, text, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 1)}),
        "replayed later": (SECRET, text, {**headers, "webhook-timestamp": str(int(headers["webhook-timestamp"]) - 3600)}),
        "key": (OTHER, text, headers),
    }
    tally.cases += 1
    tally.counts["verified"] += (sound := accepted(SECRET, text, headers))
    tally.demand(sound, f"{headers['webhook-id']}: it is not verified")
    what = r.choice(list(changes))
    tally.counts["noticed"] += (noticed := not accepted(*changes[what]))
    tally.demand(noticed, f"{headers['webhook-id']}: another {what} is not noticed")


def accepted(secret: str, body: str, headers: dict[str, str]) -> bool:
    try:
        Verifier(secret).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True
