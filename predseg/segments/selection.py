"""Which nodes of a project are meant: names, tags, and what they rest on or what rests on them, as in dbt.

abandoned_cart            a node by its name, or KIND.NAME; * and ? stand for any letters
tag:daily  owner:crm*     nodes by a word about them; also kind: and refresh:
+champions                and all that it rests on;  2+champions  two steps of it
champions+                and all that rests on it;  champions+1  one step of it
a b                       either;  a,b  both
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from predseg.errors import UsageError, nearest
from predseg.segments.lineage import Node, reached, used_by

METHODS = ("tag", "owner", "kind", "refresh")
_TERM = re.compile(r"(?:(?P<before>\d*)\+)?(?P<what>[^+]+)(?:\+(?P<after>\d*))?")


def select(nodes: Mapping[str, Node], wanted: Sequence[str], unwanted: Sequence[str] = ()) -> list[str]:
    """Return the ids that are wanted and not unwanted, each after those that it uses; all when none is wanted.

    Raises:
        UsageError: E232 when a part is not understood or finds nothing.
    """
    found = _either(nodes, wanted, "--select") if wanted else set(nodes)
    left = _either(nodes, unwanted, "--exclude")
    return [name for name in nodes if name in found and name not in left]


def chosen(nodes: Mapping[str, Node], kind: str, wanted: Sequence[str], unwanted: Sequence[str] = ()) -> list[str]:
    """Return the names of the selected nodes of one kind.

    Raises:
        UsageError: E232 also when there is none.
    """
    names = [nodes[node].name for node in select(nodes, wanted, unwanted) if nodes[node].kind == kind]
    if not names:
        said = " ".join([*wanted, *(f"--exclude {term}" for term in unwanted)])
        raise UsageError("E232", said, f"selects no {kind}", "predseg list shows what there is, predseg list --select what is selected")
    return names


def _either(nodes: Mapping[str, Node], terms: Sequence[str], option: str) -> set[str]:
    return {node for term in terms for part in term.split() for node in _both(nodes, part, option)}


def _both(nodes: Mapping[str, Node], part: str, option: str) -> set[str]:
    return set.intersection(*(_term(nodes, term, option) for term in part.split(",")))


def _term(nodes: Mapping[str, Node], term: str, option: str) -> set[str]:
    match = _TERM.fullmatch(term)
    if match is None:
        raise UsageError("E232", option, f"{term!r} is not understood", "write for example `champions`, `+champions`, `champions+` or `tag:daily`")
    start = _named(nodes, match["what"], option)
    found = set(start)
    if match["before"] is not None:
        found |= reached(start, {name: node.uses for name, node in nodes.items()}, int(match["before"] or len(nodes)))
    if match["after"] is not None:
        found |= reached(start, used_by(nodes), int(match["after"] or len(nodes)))
    return found


def _named(nodes: Mapping[str, Node], what: str, option: str) -> set[str]:
    method, colon, pattern = what.partition(":")
    if not colon:
        found = {node.id for node in nodes.values() if fnmatchcase(node.name, what) or fnmatchcase(node.id, what)}
        names = [name for node in nodes.values() for name in (node.name, node.id)]
    elif method in METHODS:
        words = {node.id: _words(node, method) for node in nodes.values()}
        found = {name for name, said in words.items() if any(fnmatchcase(word, pattern) for word in said)}
        names = [f"{method}:{word}" for said in words.values() for word in said if word]
    else:
        raise UsageError("E232", option, f"nothing is selected by {method!r}", nearest(method, METHODS))
    if not found:
        raise UsageError("E232", option, f"{what!r} finds nothing", nearest(what, tuple(dict.fromkeys(names))))
    return found


def _words(node: Node, method: str) -> tuple[str, ...]:
    return node.tags if method == "tag" else (str(getattr(node, method)),)
