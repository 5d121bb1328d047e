"""`predseg list`: what the project consists of, and what a selection finds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from predseg.cli.frame import Answer, Run, command
from predseg.cli.options import Exclude, Select

if TYPE_CHECKING:
    from rich.console import Console

    from predseg.segments.lineage import Node


@command("list", "predseg list", "predseg list --select +champions", "predseg list --select tag:daily --exclude abandoned_cart+")
def list_nodes(run: Run, select: Select = None, exclude: Exclude = None) -> Answer:
    """List what the project consists of and what rests on what; no data are read."""
    from predseg.cli.artifacts import plain_node
    from predseg.segments.definitions import load_segments
    from predseg.segments.lineage import lineage
    from predseg.segments.selection import select as selected

    config = run.project().config
    nodes = lineage(config, load_segments(config))
    found = [nodes[name] for name in selected(nodes, select or (), exclude or ())]
    return Answer({"nodes": {node.id: plain_node(node) for node in found}}, lambda console: _show(console, found))


def _show(console: Console, found: list[Node]) -> None:
    from predseg.cli.views import count, table

    rows = [(n.id, " ".join(n.tags), n.refresh, _short(n.uses)) for n in found]
    console.print(table(("what", "tags", "refresh", "uses"), rows))
    console.print(f"\n{count(len(found), 'node')}")


def _short(uses: tuple[str, ...]) -> str:
    return " ".join(uses) if len(uses) <= 4 else f"{len(uses)} nodes"
