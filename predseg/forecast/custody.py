"""The keeping of models: whether every version is as it was registered, signing them with a new key, and trainings cut short."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from predseg.errors import ModelError
from predseg.forecast import bundle as bundles
from predseg.forecast.tracking import MANIFEST, Registry

if TYPE_CHECKING:
    from predseg.forecast.runs import Record


@dataclass(frozen=True)
class Kept:
    """One registered version: how many copies of it there are, whether a signature was checked, and what is wrong; empty when all is well."""

    model: str
    version: int
    copies: int
    signed: bool
    wrong: str = ""
    help: str = ""

    @property
    def said(self) -> str:
        """What there is to say of a version that is as it was registered."""
        return f"{self.copies} {'copy' if self.copies == 1 else 'copies'} as registered, {'signature checked' if self.signed else 'not signed'}"


def verify(registry: Registry) -> list[Kept]:
    """Look at every copy of every version: each byte against its manifest, the manifest against the registry, the signature against the keys."""
    return [_look(registry, model, record) for model, record in _records(registry)]


def _records(registry: Registry) -> Iterator[tuple[str, Record]]:
    for model in registry.models():
        for record in registry.records(model).values():
            yield model, record


def _look(registry: Registry, model: str, record: Record) -> Kept:
    number = int(record.version)
    try:
        copies = registry.copies(model, record)
        signed = [bundles.verify(folder, key=registry.key, expected=record.tags[MANIFEST]).signed for folder in copies]
    except ModelError as error:
        return Kept(model, number, 0, False, f"{error.code} {error.place}: {error.message}", error.help)
    return Kept(model, number, len(copies), all(signed))


def sign(registry: Registry) -> list[str]:
    """Sign every version anew with the first key, after its old signature was checked, and return which were.

    Cut short in the middle, the old and the new signature are both accepted until it is done again.

    Raises:
        ModelError: E708 when there is no key or a signature was made with none of the keys, E700 to E707 when a version is not as it was.
    """
    if registry.key is None:
        raise ModelError(
            "E708", "models sign", "there is no key to sign with", "set PREDSEG_MODEL_KEY; with several, separated by commas, the first signs"
        )
    done = []
    for model, record in list(_records(registry)):
        copies, old = registry.copies(model, record), record.tags[MANIFEST]
        texts = {folder: bundles.resigned(folder, registry.key, expected=old) for folder in copies}
        new = {bundles.sum_of(text) for text in texts.values()}
        if new == {old}:
            continue
        with registry.session() as client:
            name = registry.registered(model)
            client.set_model_version_tag(name, record.version, MANIFEST, " ".join(sorted({*old.split(), *new})))
            for folder, text in texts.items():
                bundles.write_manifest(folder, text)
            client.set_model_version_tag(name, record.version, MANIFEST, " ".join(sorted(new)))
        done.append(f"{model} {record.version}")
    return done


def unfinished(registry: Registry) -> list[str]:
    """Return the trainings that were cut short: versions without files that can be trusted, and runs that no process goes on with."""
    return [what for what, _ in _open_ends(registry)]


def close_unfinished(registry: Registry) -> list[str]:
    """Remove versions of trainings that were cut short and close their runs; while no training is at work."""
    done = []
    for what, close in _open_ends(registry):
        close()
        done.append(what)
    return done


def _open_ends(registry: Registry) -> Iterator[tuple[str, Callable[[], object]]]:
    with registry.session() as client:
        for model in registry.models():
            name = registry.registered(model)
            for record in registry.all_records(model):
                if MANIFEST not in record.tags:
                    yield f"version {record.version} of {model}", partial(client.delete_model_version, name, record.version)
        for run in registry.running():
            yield f"run {run.info.run_name}", partial(client.set_terminated, run.info.run_id, "KILLED")
