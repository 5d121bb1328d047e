"""Models that somebody changed on disk: bits, lengths, files, manifests, signatures."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.trust.figures import Figure, Tally
from predseg.errors import ModelError
from predseg.forecast import bundle
from tests.forecast.tiny import DECLARATIONS, forecaster

TRIED = "model files changed on disk: bits, lengths, exchanged files and manifests, forged signatures"
PROMISED = "all refused before any loader, 0 crashes"
FULL, SMALL = 10_000, 300
KEY, OTHER = b"the key of the owner", b"the key of somebody else"
Files = dict[str, bytes]


@dataclass(frozen=True)
class Case:
    """What a folder is made to hold, and what its owner knows: the key, the sum that the registry recorded, or only the files."""

    files: Files
    knows: tuple[str, ...]


def measure(cases: int, folder: Path, seed: int) -> Figure:
    models = [written(folder / str(n), n) for n in range(3)]
    r, tally = random.Random(seed), Tally()
    loaders: list[Path] = []
    sound = bundle.sum_of(models[0][bundle.MANIFEST])
    assert bundle.load(laid(folder / "sound", models[0]), key=KEY, expected=sound).signed, "an untouched model loads"
    with mock.patch.object(bundle, "_build", lambda where, verified: loaders.append(where)):
        for number in range(cases):
            name = r.choice(list(ATTACKS))
            case = ATTACKS[name](r, models)
            refused(tally, f"{number} {name}", laid(folder / "case", case.files), case, sound, loaders)
    tally.demand(loaders == [] or bool(tally.faults), "a loader ran unseen")
    return tally.figure(f"{tally.counts['refused']:,} refused, {len(loaders)} loaded, {tally.counts['crashed']} crashes")


def refused(tally: Tally, what: str, folder: Path, case: Case, sound: str, loaders: list[Path]) -> None:
    """Load as the owner does; anything but a refusal before the loaders is a fault."""
    tally.cases += 1
    before = len(loaders)
    try:
        bundle.load(folder, key=KEY if "key" in case.knows else None, expected=sound if "record" in case.knows else None)
    except ModelError as error:
        tally.counts["refused"] += 1
        tally.demand(bool(error.place and error.help) and error.exit_code == 7, f"{what}: a refusal without a place or a remedy: {error!r}")
    except Exception as error:
        tally.counts["crashed"] += 1
        tally.fault(f"{what}: {type(error).__name__}: {error}")
    if len(loaders) != before:
        tally.fault(f"{what}: it reached the loaders")


def written(folder: Path, seed: int) -> Files:
    place = bundle.save(forecaster(seed), folder, name="shop-purchase", version=1, facts={"seed": seed}, card=f"# {seed}\n", declarations=DECLARATIONS, key=KEY)  # fmt: skip
    return {file.name: file.read_bytes() for file in place.iterdir()}


def laid(folder: Path, files: Files) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


ANY = (("key",), ("record",), ("key", "record"), ())


def changed(r: random.Random, models: list[Files], change: Callable[[random.Random, bytes], bytes]) -> Case:
    """One file, the manifest among them, is changed: whatever the owner knows must be enough."""
    files = dict(models[0])
    name = r.choice(sorted(files))
    files[name] = change(r, files[name])
    return Case(files, r.choice(ANY))


def flipped(r: random.Random, content: bytes) -> bytes:
    found = bytearray(content)
    for _ in range(r.choice([1, 1, 1, 2, 9])):
        found[r.randrange(len(found))] ^= 1 << r.randrange(8)
    return bytes(found) if bytes(found) != content else flipped(r, content)


def resized(r: random.Random, content: bytes) -> bytes:
    at = r.randrange(len(content))
    return r.choice([content[:at], content[at + 1 :], content + content[at:], content[:at] + bytes(r.randrange(1, 9)) + content[at:], b""])


def exchanged(r: random.Random, models: list[Files]) -> Case:
    """Some files of another model of the same owner, its manifest perhaps among them; or two files of one model change places."""
    files, other = dict(models[0]), r.choice(models[1:])
    if r.random() < 0.3:
        a, b = r.sample(sorted(files), 2)
        files[a], files[b] = files[b], files[a]
    else:
        names = r.sample(sorted(files), r.randrange(1, len(files)))
        files |= {name: other[name] for name in names}
    return Case(files, r.choice(ANY))


def another(r: random.Random, models: list[Files]) -> Case:
    """A whole other model of the owner in its place: sound by itself, but not what was registered."""
    return Case(dict(r.choice(models[1:])), r.choice([("record",), ("key", "record")]))


def added(r: random.Random, models: list[Files]) -> Case:
    files = dict(models[0])
    if r.random() < 0.5:
        del files[r.choice(sorted(files))]
    else:
        files[r.choice(["member-9.txt", "model.pkl", ".hidden", "MANIFEST.json", "x"])] = r.randbytes(20)
    return Case(files, r.choice(ANY))


def signature(r: random.Random, models: list[Files]) -> Case:
    """Only the signature is another one: made up, of another model, by another key, none; with a manifest that agrees with itself."""
    files = dict(models[0])
    sums, own = parts(files)
    made = r.choice([None, f"{r.getrandbits(256):064x}", parts(models[1])[1], bundle._sign(sums, OTHER), "", str(own)[:-1], str(own).upper()])
    files[bundle.MANIFEST] = bundle._manifest_text(sums, made)
    return Case(files, r.choice([("key",), ("record",), ("key", "record")]))


def forged(r: random.Random, models: list[Files]) -> Case:
    """Files changed with the manifest to match: signed with another key, not at all, or with the signature that was there."""
    files = dict(models[0])
    own = files.pop(bundle.MANIFEST)
    name = r.choice(sorted(files))
    files[name] = r.choice([flipped, resized])(r, files[name])
    text = bundle._manifest(files, r.choice([None, OTHER]))
    if r.random() < 0.4:
        text = bundle._manifest_text(json.loads(text)["files"], json.loads(own)["signature"])
    return Case({**files, bundle.MANIFEST: text}, r.choice([("key",), ("record",), ("key", "record")]))


def respelled(r: random.Random, models: list[Files]) -> Case:
    """The same manifest, written another way."""
    files = dict(models[0])
    read = json.loads(files[bundle.MANIFEST])
    text = r.choice([json.dumps(read), json.dumps(read, indent=2), json.dumps(dict(reversed(read.items())), indent=1)])
    files[bundle.MANIFEST] = text.encode() + r.choice([b"", b"\n"])
    return Case(files, r.choice(ANY))


def typed(r: random.Random, models: list[Files]) -> Case:
    """A manifest that agrees with itself and holds values of another kind than it should."""
    files = dict(models[0])
    sums, own = parts(files)
    strange = r.choice([None, -1, True, "5", 1.5, [], {}, "é", "\u2028", 10**30, 2**63, ""])
    name, signature = r.choice(sorted(sums)), own
    kind = r.choice(["bytes", "sha256", "entry", "signature", "name"])
    if kind == "entry":
        sums[name] = strange
    elif kind == "signature":
        signature = strange  # type: ignore[assignment]
    elif kind == "name":
        sums[r.choice(["../x.txt", "/etc/passwd", "x", "", ".", "a/b.txt", "member-0.TXT", "x" * 60 + ".txt", "m\n.txt"])] = sums.pop(name)
    else:
        sums[name] = {**sums[name], kind: strange}
    files[bundle.MANIFEST] = bundle._manifest_text(sums, signature)
    return Case(files, r.choice([*ANY[:3], () if kind not in ("signature",) else ("key",)]))


def parts(files: Files) -> tuple[dict[str, Any], str | None]:
    read = json.loads(files[bundle.MANIFEST])
    return read["files"], read["signature"]


ATTACKS: dict[str, Callable[[random.Random, list[Files]], Case]] = {
    "bits": partial(changed, change=flipped),
    "length": partial(changed, change=resized),
    "exchanged files": exchanged,
    "another model": another,
    "a file more or less": added,
    "signature": signature,
    "forged": forged,
    "spelling": respelled,
    "types": typed,
}
