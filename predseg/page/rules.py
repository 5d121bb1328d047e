"""What the page does with rules: how many they reach, and what an edited one would reach, before anything is saved."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from predseg.errors import ConfigError, UsageError, nearest
from predseg.language.floor import Floor
from predseg.language.yaml import Node, read_documents
from predseg.page.figures import short, without_name
from predseg.segments.definitions import Segment, load_segments
from predseg.segments.edits import Edit, apply, diff, document, lines_of, write
from predseg.segments.preview import Preview
from predseg.segments.workspace import Workspace

SAMPLED = 1_000_000
"""Events that are looked at while somebody types."""


@dataclass(frozen=True)
class Step:
    """One condition of a funnel in texts; ``share`` of the known customers remain, in percent, 0 where that is hidden."""

    condition: str
    alone: str
    removes: str
    remains: str
    share: float


@dataclass(frozen=True)
class Funnel:
    """What a rule reaches, in texts."""

    sentence: str
    as_of: str
    known: str
    members: str
    about: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...]
    overlaps: tuple[tuple[str, str, str, str], ...]


def funnel(found: Preview, floor: Floor, warnings: tuple[str, ...] = ()) -> Funnel:
    """Return a preview as the page shows it; small groups are hidden."""
    about = "" if found.sampled == 1 else f"estimated from {found.sampled:.0%} of the customers, ± {found.error:,}"
    return Funnel(
        without_name(found.segment, found.sentence),
        short(found.as_of),
        floor.count(found.known),
        floor.count(found.members),
        about,
        tuple(_step(step.condition, step.alone, step.removes, step.remains, found.known, floor) for step in found.steps),
        (*_notes(found, floor), *(f"{s.condition}: unknown of {floor.count(s.unknown)}" for s in found.steps if s.unknown), *warnings),
        tuple((o.segment, floor.count(o.both), _percent(o.share, o.both, floor), _percent(o.jaccard, o.both, floor)) for o in found.overlaps),
    )


def reached(workspace: Workspace, as_of: int, name: str) -> Funnel:
    """Return what a segment reaches."""
    return funnel(workspace.preview(name, as_of), workspace.config.smallest_group, tuple(workspace.warnings(as_of, [name])))


def _step(condition: str, alone: int, removes: int, remains: int, known: int, floor: Floor) -> Step:
    share = round(100 * remains / known, 2) if known and floor.shown(remains) else 0.0
    return Step(condition, floor.count(alone), floor.count(removes), floor.count(remains), share)


def _notes(found: Preview, floor: Floor) -> list[str]:
    notes = [f"{floor.count(found.opted_out)} of the members opted out, {floor.count(found.contactable)} can be contacted."]
    if found.held_out:
        notes.append(f"{floor.count(found.held_out)} are held out.")
    notes += [f"{floor.count(number)} get {name}." for name, number in found.variants.items()]
    if found.before is not None and found.entered is not None and found.left is not None:
        notes.append(f"The run before had {floor.count(found.before)}: {floor.count(found.entered)} would enter, {floor.count(found.left)} leave.")
    return notes


def _percent(part: float, people: int, floor: Floor) -> str:
    return f"{part:.0%}" if floor.shown(people) else floor.few


@dataclass(frozen=True)
class Draft:
    """One document of a rule file, to be edited.

    Attributes:
        name: The segment that it declares.
        file: The file, as places name it.
        whole: The whole file.
        first: The first line of the document, from 1.
        last: The last one; before the first where a document is to be added.
        before: Lines that are put before it.
        stamp: What tells whether the files are still the same, where that is not asked of this file alone.
    """

    name: str
    file: str
    whole: str
    first: int
    last: int
    before: tuple[str, ...] = ()
    stamp: str = ""

    @property
    def text(self) -> str:
        """The document."""
        return "\n".join(lines_of(self.whole)[self.first - 1 : self.last])

    @property
    def base(self) -> str:
        """What tells whether the file is still the same."""
        return self.stamp or hashlib.sha256(self.whole.encode()).hexdigest()[:16]

    def edit(self, text: str) -> Edit:
        """Return the edit that puts a text in the place of the document."""
        return Edit(self.file, self.first, self.last, (*self.before, *lines_of(text.replace("\r\n", "\n").strip("\n"))))


def draft(workspace: Workspace, name: str) -> Draft:
    """Return the document of a segment as its file is now.

    Raises:
        UsageError: E220 when no file has it any more.
        ConfigError: when the file cannot be read as rules.
    """
    for file, whole in workspace.texts().items():
        for node in read_documents(whole, file):
            if _name(node) == name:
                return Draft(name, file, whole, *document(whole, node))
    raise UsageError("E220", name, "no such segment", nearest(name, tuple(workspace.segments)))


def _name(node: Node) -> str | None:
    named = node.value.get("segment") if node.is_mapping else None
    return named.value if named is not None and isinstance(named.value, str) else None


@dataclass(frozen=True)
class Edited:
    """An edited document that was accepted: the name of its segment, all rules with it, and the difference as text."""

    name: str
    segments: dict[str, Segment]
    diff: str


def accept(workspace: Workspace, found: Draft, text: str) -> Edited:
    """Return what a text would be in the place of a document.

    Raises:
        ConfigError: as the loader says it, with the place in the file; E349 when it is not one document.
    """
    edit = found.edit(text)
    whole = apply(found.whole, [edit])
    own = [node for node in read_documents(whole, found.file) if found.first <= node.line < found.first + len(edit.lines)]
    if len(own) != 1 or (name := _name(own[0])) is None:
        remedy = "write one `segment: NAME` with its `match:`; other segments are edited on their own pages"
        raise ConfigError("E349", f"{found.file}:{found.first}:1", f"one segment is edited here, found {len(own)} documents", remedy)
    segments = load_segments(workspace.config, workspace.vocabulary, {found.file: whole})
    return Edited(name, segments, diff({found.file: found.whole}, [edit]))


def reach(workspace: Workspace, edited: Edited, as_of: int) -> Preview:
    """Count what an edited rule reaches, on a sample where the history is large."""
    wanted = {name: segment for name, segment in edited.segments.items() if name in _needed(edited)}
    return workspace.tried(edited.name, wanted, as_of, SAMPLED)


def _needed(edited: Edited) -> set[str]:
    found, ahead = set[str](), [edited.name]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += edited.segments[name].uses()
    return found


@dataclass(frozen=True)
class Trial:
    """What the page shows of an edit.

    Attributes:
        draft: What is edited.
        text: The document as it is now written.
        refused: What the loader says of it; empty when it is accepted.
        line: Which line of the text it means, from 1; 0 where that is another place.
        funnel: What it reaches; None when it was not accepted.
        diff: The difference to the file; empty without one.
        changed: Whether the file is another than when the edit began.
    """

    draft: Draft
    text: str
    refused: str = ""
    line: int = 0
    funnel: Funnel | None = None
    diff: str = ""
    changed: bool = False


def tried(workspace: Workspace, as_of: int, name: str, text: str | None = None, base: str | None = None) -> Trial:
    """Return what a text would do in the place of a segment's document; without a text, the document as it is."""
    found = draft(workspace, name)
    return trial(workspace, as_of, found, found.text if text is None else text, base)


def trial(workspace: Workspace, as_of: int, found: Draft, text: str, base: str | None) -> Trial:
    """Return what a text would do in a place; ``base`` tells how the files were when it was begun."""
    changed = base not in (None, found.base)
    try:
        edited = accept(workspace, found, text)
        warnings = tuple(replace(workspace, segments=edited.segments).warnings(as_of, [edited.name]))
        return Trial(
            found, text, funnel=funnel(reach(workspace, edited, as_of), workspace.config.smallest_group, warnings), diff=edited.diff, changed=changed
        )
    except ConfigError as error:
        return Trial(found, text, str(error), _line(error.place, found), changed=changed)


def _line(place: str, found: Draft) -> int:
    file, _, rest = place.rpartition(f"{found.file}:")
    number = rest.partition(":")[0]
    return max(int(number) - found.first - len(found.before) + 1, 0) if not file and number.isdigit() else 0


def saved(workspace: Workspace, as_of: int, name: str, text: str, base: str) -> Trial | str:
    """Put a text in the place of a segment's document and return the name it has now; a trial when that cannot be.

    The file is written whole or not at all, and only when nobody else changed it.
    """
    return save(workspace, draft(workspace, name), text, base)


def save(workspace: Workspace, found: Draft, text: str, base: str) -> Trial | str:
    """Write a text into its place, whole or not at all, and return the name of its segment; a trial when that cannot be."""
    if base != found.base:
        return Trial(found, text, changed=True)
    try:
        edited = accept(workspace, found, text)
    except ConfigError as error:
        return Trial(found, text, str(error), _line(error.place, found))
    path = workspace.config.root / found.file
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, apply(found.whole, [found.edit(text)]))
    return edited.name
