"""A model on disk: text and JSON in a folder, with a manifest that says what every byte must be.

    NAME/VERSION/
        member-0.txt, ...   the trees of each member, LightGBM's own text
        bundle.json         features in order, categories, linear member, calibration, declarations, facts
        card.md             the model card, for people
        manifest.json       SHA-256 and size of each file above, and a signature when a key is set

`load` reads each file once, checks those bytes, and builds the model from the same bytes. Nothing is unpickled, and the
loader of the trees, which does not survive damaged text, never sees a byte that the manifest does not vouch for.
The sums say that nothing was changed by accident; only a signature, or the sum of the manifest kept elsewhere
(``expected``), says that nobody changed files and manifest together.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from predseg.disks import disk_errors, replaced
from predseg.errors import ModelError
from predseg.forecast.forecaster import Calibration, Forecaster, Linear
from predseg.forecast.rhythm import Rhythm
from predseg.forecast.taste import Taste
from predseg.forecast.visits import Visits

FORMAT = 1
MANIFEST, BODY, CARD = "manifest.json", "bundle.json", "card.md"
_MAX_MANIFEST, _MAX_BODY, _MAX_FILES = 1 << 20, 8 << 20, 128 << 20
"""Bytes of the manifest, of ``bundle.json``, and of all files together, that are read at most; models are far smaller."""
_FILE = re.compile(r"[a-z0-9][a-z0-9-]{0,40}\.(txt|json|md)", re.ASCII)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,150}", re.ASCII)
_AGAIN = "export it again from the registry (delete the folder and run `predseg score`), or train again"


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified model and all that is known about it.

    Attributes:
        name: What it is registered as.
        version: Of that name, from 1.
        forecaster: The model itself.
        declarations: What each feature means, by name; plain JSON values.
        facts: Cutoffs, horizon, as_of, versions of libraries, fingerprint of the data and the like; plain JSON values.
        card: The model card, Markdown.
        manifest: SHA-256 of the manifest: it stands for every byte of the bundle.
        signed: Whether a signature was checked.
    """

    name: str
    version: int
    forecaster: Forecaster
    declarations: dict[str, Any] = field(repr=False)
    facts: dict[str, Any] = field(repr=False)
    card: str = field(repr=False)
    manifest: str
    signed: bool


@dataclass(frozen=True)
class Verified:
    """The bytes of a bundle, read once and found to be what the manifest says.

    Attributes:
        files: Content by file name, the manifest left out.
        manifest: SHA-256 of the manifest.
        signed: Whether a signature was checked.
    """

    files: dict[str, bytes] = field(repr=False)
    manifest: str
    signed: bool


def save(
    forecaster: Forecaster,
    folder: str | Path,
    *,
    name: str,
    version: int,
    facts: Mapping[str, Any],
    card: str,
    declarations: Mapping[str, Any] | None = None,
    key: bytes | None = None,
) -> Path:
    """Write a model to ``folder/NAME/VERSION`` and return that folder.

    It is written aside and renamed: the folder is there whole or not at all. One that is there already is replaced.

    Args:
        forecaster: The model.
        folder: The folder of all models, usually ``models``.
        name: What it is registered as: letters, digits, ``_``, ``-`` and ``.``.
        version: From 1.
        facts: Plain values; a number that is not finite becomes null.
        card: The model card, Markdown.
        declarations: What each feature means, by name.
        key: Signs the manifest (HMAC-SHA-256); of several with commas between, the first.

    Raises:
        DataError: E410 when the folder is not writable, E411 when the disk is full.
        ValueError: When the name or the version cannot be a folder.
    """
    if not _NAME.fullmatch(name) or version < 1:
        raise ValueError(f"name == {name!r}, version == {version}: names are letters, digits, `_`, `-` and `.`, versions count from 1")
    files = _files(forecaster, name, version, facts, card, declarations or {})
    files[MANIFEST] = _manifest(files, key)
    target = Path(folder) / name / str(version)
    with disk_errors(target):
        _swap_in(files, target)
    return target


def load(folder: str | Path, *, key: bytes | None = None, expected: str | None = None) -> Bundle:
    """Return the model of a folder, verified before anything of it is interpreted.

    Args:
        folder: ``models/NAME/VERSION``.
        key: When given, the bundle must carry a signature made with it; of several keys with commas between, with one of them.
        expected: When given, the SHA-256 that its manifest must have; of several with spaces between, one of them.

    Raises:
        ModelError: E700 to E708, naming the file, when there is no bundle or it is not as it was saved.
    """
    verified = verify(folder, key=key, expected=expected)
    return _build(Path(folder), verified)


def verify(folder: str | Path, *, key: bytes | None = None, expected: str | None = None) -> Verified:
    """Return the bytes of a bundle after checking all of them; raises as `load` does."""
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelError("E700", str(folder), "there is no model here", "train one with `predseg train`")
    text = _read(folder / MANIFEST, _MAX_MANIFEST)
    sums, signature = _parse_manifest(folder / MANIFEST, text)
    found = hashlib.sha256(text).hexdigest()
    if expected is not None and not any(hmac.compare_digest(found, one) for one in expected.split()):
        message = f"the manifest has SHA-256 {found[:12]}..., the registry recorded {expected[:12]}..."
        raise ModelError("E707", str(folder / MANIFEST), message, f"this is not the model that was registered; {_AGAIN}")
    if key is not None:
        _check_signature(folder / MANIFEST, sums, signature, key)
    return Verified(_checked_files(folder, sums), found, key is not None)


def _files(forecaster: Forecaster, name: str, version: int, facts: Mapping[str, Any], card: str, declarations: Mapping[str, Any]) -> dict[str, bytes]:
    members = {f"member-{i}.txt": booster.model_to_string().encode() for i, booster in enumerate(forecaster.boosters)}
    body = {
        "format": FORMAT,
        "name": name,
        "version": int(version),
        "members": list(members),
        "features": list(forecaster.features),
        "categories": {trait: list(levels) for trait, levels in forecaster.categories.items()},
        "linear": forecaster.linear.to_dict() if forecaster.linear else None,
        "blend": float(forecaster.blend),
        "calibration": forecaster.calibration.to_dict(),
        "rhythm": forecaster.rhythm.to_dict() if forecaster.rhythm else None,
        "visits": forecaster.visits.to_dict() if forecaster.visits else None,
        "taste": forecaster.taste.to_dict() if forecaster.taste else None,
        "declarations": plain(declarations),
        "facts": plain(facts),
    }
    return {**members, BODY: _json(body), CARD: card.encode()}


def plain(value: Any) -> Any:
    """Return a value as JSON has it: numbers of numpy as numbers, not finite as null, anything unknown as text.

    >>> plain({"auc": float("nan"), "cutoffs": (1, 2)})
    {'auc': None, 'cutoffs': [1, 2]}
    """
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in (sorted(value, key=str) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _manifest(files: Mapping[str, bytes], key: bytes | None) -> bytes:
    sums = {name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in sorted(files.items())}
    return _manifest_text(sums, _sign(sums, key) if key is not None else None)


def _manifest_text(sums: Mapping[str, Any], signature: str | None) -> bytes:
    """One spelling only, closed by its own sum, so that no byte of it can change unnoticed."""
    body = {"format": FORMAT, "files": sums, "signature": signature}
    return _json({**body, "sha256": hashlib.sha256(_json(body)).hexdigest()})


def _sign(sums: Mapping[str, Any], key: bytes) -> str:
    return hmac.new(key.split(b",")[0], _json({"format": FORMAT, "files": sums}), hashlib.sha256).hexdigest()


def sum_of(manifest: bytes) -> str:
    """Return what a manifest is registered by."""
    return hashlib.sha256(manifest).hexdigest()


def resigned(folder: Path, key: bytes, *, expected: str) -> bytes:
    """Return the manifest of a bundle, signed anew with the first of the keys; raises as `load` does when it is not as it was saved."""
    verify(folder, key=key, expected=expected)
    sums, _ = _parse_manifest(folder / MANIFEST, _read(folder / MANIFEST, _MAX_MANIFEST))
    return _manifest_text(sums, _sign(sums, key))


def write_manifest(folder: Path, manifest: bytes) -> None:
    """Put a manifest in place of the one that is there, whole or not at all."""
    with disk_errors(folder), replaced(folder / MANIFEST) as aside:
        aside.write_bytes(manifest)


def _check_signature(place: Path, sums: Mapping[str, Any], signature: str | None, key: bytes) -> None:
    if signature is None:
        raise ModelError(
            "E708", str(place), "the model is not signed and a key is set", "train again with the key, or unset it to trust unsigned models"
        )
    if not any(hmac.compare_digest(_sign(sums, one), signature) for one in key.split(b",") if one):
        raise ModelError(
            "E708",
            str(place),
            "the signature was not made with this key over these files",
            "check the key; if it is right the model was changed: train again",
        )


def _parse_manifest(place: Path, text: bytes) -> tuple[dict[str, Any], str | None]:
    try:
        read = json.loads(text, object_pairs_hook=_once)
        sums, signature = read["files"], read["signature"]
        known = all(_FILE.fullmatch(name) and _is_sum(entry) for name, entry in sums.items()) and (signature is None or signature.isascii())
        if known and {BODY, CARD} <= set(sums) and _manifest_text(sums, signature) == text:
            return _bounded(place, sums), signature
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    raise ModelError("E705", str(place), "this is not a manifest as predseg writes it: it was changed or cut off", _AGAIN)


def _is_sum(entry: Mapping[str, Any]) -> bool:
    return set(entry) == {"bytes", "sha256"} and type(entry["bytes"]) is int and entry["bytes"] >= 0 and type(entry["sha256"]) is str


def _bounded(place: Path, sums: dict[str, Any]) -> dict[str, Any]:
    sizes = {name: entry["bytes"] for name, entry in sums.items()}
    if sizes[BODY] > _MAX_BODY or sum(sizes.values()) > _MAX_FILES:
        message = f"it names {sum(sizes.values()):,} bytes, {sizes[BODY]:,} of them in {BODY}; at most {_MAX_FILES:,} and {_MAX_BODY:,} are read"
        raise ModelError("E704", str(place), message, _AGAIN)
    return sums


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)


def _checked_files(folder: Path, sums: Mapping[str, Any]) -> dict[str, bytes]:
    try:
        there = {entry.name for entry in os.scandir(folder)} - {MANIFEST}
    except OSError as error:
        raise ModelError("E702", str(folder), f"the folder cannot be read: {error.strerror}", _AGAIN) from None
    if extra := sorted(there - set(sums)):
        raise ModelError("E703", str(folder / extra[0]), "the manifest does not know this file", "a model folder holds nothing else: remove the file")
    return {name: _check_file(folder / name, entry) for name, entry in sums.items()}


def _check_file(file: Path, entry: Mapping[str, Any]) -> bytes:
    content = _read(file, entry["bytes"])
    if len(content) != entry["bytes"]:
        found = f"{len(content):,}" if len(content) < entry["bytes"] else "more"
        raise ModelError(
            "E704", str(file), f"the file has {found} bytes, the manifest says {entry['bytes']:,}", f"it was cut off or changed; {_AGAIN}"
        )
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ModelError("E701", str(file), "the file was changed after it was saved: its SHA-256 is not the manifest's", _AGAIN)
    return content


def _read(file: Path, limit: int) -> bytes:
    """Read a regular file once, one byte more than the limit at most; links and pipes are not followed."""
    try:
        handle = os.open(file, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(handle, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OSError(0, "not a regular file")
            return stream.read(limit + 1)
    except OSError as error:
        raise ModelError("E702", str(file), f"the file is missing or cannot be read: {error.strerror}", _AGAIN) from None


def _build(folder: Path, verified: Verified) -> Bundle:
    """Interpret verified bytes. What is wrong from here on was signed off by whoever wrote the manifest."""
    import lightgbm as lgb

    try:
        body = json.loads(verified.files[BODY], object_pairs_hook=_once)
        if body["format"] != FORMAT:
            raise ValueError(f"format {body['format']}, this version of predseg reads {FORMAT}")
        boosters = tuple(lgb.Booster(model_str=verified.files[member].decode()) for member in body["members"])
        forecaster = _forecaster(body, boosters)
        facts = (body["name"], int(body["version"]), forecaster, dict(body["declarations"]), dict(body["facts"]))
        return Bundle(*facts, verified.files[CARD].decode(), verified.manifest, verified.signed)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, lgb.basic.LightGBMError) as error:
        message = f"the manifest is right, but this is not a model that can be read ({type(error).__name__}: {str(error)[:200]})"
        raise ModelError(
            "E706", str(folder / BODY), message, "it was written by another version of predseg: install that version, or train again"
        ) from None


def _forecaster(body: Mapping[str, Any], boosters: tuple[Any, ...]) -> Forecaster:
    features = tuple(map(str, body["features"]))
    for booster in boosters:
        if booster.num_feature() != len(features):
            raise ValueError(f"a member knows {booster.num_feature()} features, the bundle {len(features)}")
    return Forecaster(
        features=features,
        boosters=boosters,
        categories={trait: tuple(levels) for trait, levels in body["categories"].items()},
        linear=Linear.from_dict(body["linear"]) if body["linear"] else None,
        blend=float(body["blend"]),
        calibration=Calibration.from_dict(body["calibration"]),
        rhythm=Rhythm.from_dict(body["rhythm"]) if body.get("rhythm") else None,
        visits=Visits.from_dict(body["visits"]) if body.get("visits") else None,
        taste=Taste.from_dict(body["taste"]) if body.get("taste") else None,
    )


def _swap_in(files: Mapping[str, bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent, ignore_cleanup_errors=True) as aside:
        new, old = Path(aside) / "new", Path(aside) / "old"
        new.mkdir()
        for name, content in files.items():
            _write(new / name, content)
        _sync(new)
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        _sync(target.parent)


def _write(file: Path, content: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
