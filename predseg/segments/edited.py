"""Rules as an edit of their file would have them: one document is read again, however many there are."""

from __future__ import annotations

from collections.abc import Mapping

from predseg.errors import ConfigError
from predseg.language import conditions as c
from predseg.language.yaml import Node, read_documents
from predseg.segments.definitions import Segment, Vocabulary, arrange, references, with_used
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


def models_in(segments: Mapping[str, Segment]) -> frozenset[str]:
    """Return the models that some rules ask for."""
    return frozenset(p.model for s in segments.values() for p in c.walk(s.match) if isinstance(p, c.Score | c.Cluster))


def edited(segment: Segment, edit: Edit, text: str, segments: Mapping[str, Segment], models: frozenset[str]) -> Segment | None:
    """Return a segment as the edit makes it, see `read_again`; None when it makes it a rule that nobody can match.

    ``models`` may be asked for, see `models_in`: they are the same for all edits that are tried.
    """
    try:
        node = read_again(segment, edit, text)
        used = with_used(segments, {name for kind, name, _ in references(node.value["match"]) if kind == "segment"})
        others = [s.node for name, s in used.items() if name != segment.name and s.node is not None]
        return arrange([node, *others], Vocabulary(models))[segment.name]
    except ConfigError:
        return None
