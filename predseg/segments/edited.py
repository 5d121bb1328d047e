"""Rules as an edit of their file would have them: one document is read again, however many there are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from predseg.errors import ConfigError
from predseg.language import conditions as c
from predseg.language.yaml import Node, read_documents
from predseg.segments.definitions import Segment, Vocabulary, arrange
from predseg.segments.edits import Edit, apply, document, lines_of


def read_again(segment: Segment, edit: Edit, text: str) -> Node:
    """Return the document of a segment after an edit within it; ``text`` is its file without the edit.

    Raises:
        ConfigError: when the edited text is no document.
    """
    assert segment.node is not None
    after = apply(text, [edit])
    first, last = document(after, segment.node)
    lines = lines_of(after)[first - 1 : last]
    [node] = read_documents("\n" * (first - 1) + "\n".join(lines), edit.file)  # each line where it is in the file
    return node


def edited(segment: Segment, edit: Edit, text: str, segments: Mapping[str, Segment]) -> Segment | None:
    """Return a segment as the edit makes it, see `read_again`; None when it makes it a rule that nobody can match."""
    models = frozenset(p.model for s in segments.values() for p in c.walk(s.match) if isinstance(p, c.Score | c.Cluster))
    try:
        node = read_again(segment, edit, text)
        used = _used(node.value["match"], segments)
        others = [s.node for name, s in segments.items() if name in used and name != segment.name and s.node is not None]
        return arrange([node, *others], Vocabulary(models))[segment.name]
    except ConfigError:
        return None


def _used(match: Node, segments: Mapping[str, Segment]) -> set[str]:
    """Return the segments that a rule asks about, and those that they ask about."""
    found, waiting = set(), [*_named(match)]
    while waiting:
        if (name := waiting.pop()) in segments and name not in found:
            found.add(name)
            waiting += segments[name].uses()
    return found


def _named(node: Node) -> Iterator[str]:
    for item in node.value if node.is_list else ():
        yield from _named(item)
    for key, value in node.value.items() if node.is_mapping else ():
        if key in ("in", "not_in"):
            yield str(value.value)
        else:
            yield from _named(value)
