"""From a project to the texts of its handbook."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from predseg.config import Config, Source
from predseg.language.channels import Dry, Folder
from predseg.language.english import say_measure
from predseg.language.floor import Floor
from predseg.language.measures import slug
from predseg.language.time import say_duration, say_instant
from predseg.language.urls import without_password
from predseg.outcomes.handbook.drawing import Drawing, draw
from predseg.segments.definitions import Segment
from predseg.segments.edits import document, lines_of
from predseg.segments.lineage import Node, lineage, used_by
from predseg.segments.memberships import Ledger
from predseg.segments.workspace import Workspace

if TYPE_CHECKING:
    from predseg.forecast.bundle import Bundle
    from predseg.history.report import IngestReport

Links = tuple[tuple[str, str], ...]
"""Name and anchor of other entries."""


@dataclass(frozen=True)
class Entry:
    """One thing of the project.

    Attributes:
        anchor: Where it stands on the page.
        name: Its name.
        says: What it is, in a sentence.
        about: What it is for.
        tags: Words to find it by.
        facts: Name → value.
        uses: What it rests on.
        used_by: What rests on it.
        code: How it is written; empty where that is not shown.
        place: Where it is written.
        card: More about it, HTML.
    """

    anchor: str
    name: str
    says: str
    about: str = ""
    tags: tuple[str, ...] = ()
    facts: Mapping[str, str] | None = None
    uses: Links = ()
    used_by: Links = ()
    code: str = ""
    place: str = ""
    card: str = ""


@dataclass(frozen=True)
class Chapter:
    """Entries of one kind."""

    key: str
    title: str
    about: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class Handbook:
    """The whole page."""

    project: str
    as_of: str
    facts: Mapping[str, str]
    drawing: Drawing
    rows: tuple[tuple[str, str, Links], ...]
    chapters: tuple[Chapter, ...]
    floor: Floor


def build(workspace: Workspace, report: IngestReport | None, champion: Callable[[str], Bundle | None], as_of: int) -> Handbook:
    """Return the handbook of a project at a moment; ``champion`` gives the version that speaks for a model, None when it is not trained."""
    config = workspace.config
    nodes = lineage(config, workspace.segments)
    users = used_by(nodes)
    write = Writer(nodes, users)
    known = report.customers if report is not None else 0
    chapters = (
        Chapter("segments", "Segments", "Who belongs, in words and as it is written.", write.segments(workspace, as_of, known)),
        Chapter("models", "Models", "What is predicted, of whom, and how well it has been.", write.models(config, champion)),
        Chapter("channels", "Channels", "Where messages go when somebody enters or leaves.", write.channels(config)),
        Chapter("features", "Features", "What is known of every customer at a moment.", write.features(config)),
        Chapter("sources", "Sources", "Where the history comes from.", write.sources(config, report)),
    )
    facts = {"customers": f"{known:,}", "events": f"{report.rows if report is not None else 0:,}"}
    facts |= {chapter.title.lower(): f"{len(chapter.entries)}" for chapter in chapters if chapter.entries}
    rows = tuple((node.id, anchor(node.id), write.links(node.uses)) for node in nodes.values())
    return Handbook(
        config.project,
        say_instant(as_of)[:16].replace("T", " "),
        facts,
        draw(nodes),
        rows,
        tuple(c for c in chapters if c.entries),
        config.smallest_group,
    )


def anchor(node: str) -> str:
    """Return where a node stands on the page; what has no entry of its own leads to those that are next to it.

    >>> anchor("segment.champions"), anchor("table.events")
    ('segment-champions', 'sources')
    """
    elsewhere = {"table": "sources", "cluster": "lineage", "feature": "features"}
    kind, _, name = node.partition(".")
    return elsewhere[kind] if kind in elsewhere and not (kind == "feature" and name) else slug(node).replace("_", "-")


@dataclass(frozen=True)
class Writer:
    """Writes entries about nodes."""

    nodes: Mapping[str, Node]
    users: Mapping[str, Sequence[str]]

    def links(self, nodes: Iterable[str]) -> Links:
        """Return nodes as links; all features together are one."""
        found = dict.fromkeys("feature" if node.startswith("feature.") else node for node in nodes)
        return tuple(("features" if n == "feature" else self.nodes[n].name, anchor(n)) for n in found)

    def entry(self, node: str, says: str, **more: object) -> Entry:
        """Return the entry of a node."""
        found = self.nodes[node]
        place = f"{found.file}:{found.line}" if found.line else found.file
        given = {"about": found.about, "tags": found.tags, "place": place, **more}
        return Entry(anchor(node), found.name, says, uses=self.links(found.uses), used_by=self.links(self.users[node]), **given)  # type: ignore[arg-type]

    def segments(self, workspace: Workspace, as_of: int, known: int) -> tuple[Entry, ...]:
        """Return the entries of the segments."""
        ledger, texts = workspace.ledger(), workspace.texts()
        return tuple(
            self.entry(
                f"segment.{s.name}",
                _capital(s.sentence().partition(": ")[2]),
                about=s.about,
                facts=_size(s, ledger, as_of, known, workspace.config.smallest_group) | _agreed(s),
                code=_document(s, texts),
            )
            for s in workspace.segments.values()
        )

    def models(self, config: Config, champion: Callable[[str], Bundle | None]) -> tuple[Entry, ...]:
        """Return the entries of the models with the cards of their champions."""
        from predseg.forecast.learn import statement

        found = []
        for name, model in config.models.items():
            bundle = champion(name)
            says = statement(model)
            facts = {"scored": "live" if model.live else "daily", "champion": "not trained yet"}
            if bundle is not None:
                facts |= {"champion": f"version {bundle.version}", "trained at": str(bundle.facts.get("as_of", "?"))[:10]}
            card = card_html(bundle.card) if bundle is not None else ""
            found.append(self.entry(f"model.{name}", _capital(says), facts=facts, card=card))
        return tuple(found)

    def features(self, config: Config) -> tuple[Entry, ...]:
        """Return the entries of the features."""
        said, windows = {}, ", ".join(say_duration(w) for w in config.features.windows)
        for event, declared in config.features.events:
            parts = [f"total {declared.value}"] if declared.value else []
            parts += [f"different {name}" for name in declared.distinct]
            said[slug(event)] = f"{event}: days since, how often{''.join(f', {part}' for part in parts)}; in the last {windows}"
        said |= {name: say_measure(measure) for name, measure in config.features.measures}
        nodes = [node for node in self.nodes.values() if node.kind == "feature"]
        return tuple(self.entry(node.id, _capital(said.get(node.name, node.about)), about="") for node in nodes)

    def sources(self, config: Config, report: IngestReport | None) -> tuple[Entry, ...]:
        """Return the entries of the sources."""
        counts = {s.name: s for s in report.sources} if report is not None else {}
        found = []
        for source in config.sources.values():
            one = counts.get(source.name)
            facts = {n: f"{getattr(one, n):,}" for n in ("received", "accepted", "duplicates", "quarantined")} if one is not None else {}
            found.append(self.entry(f"source.{source.name}", _where(source), facts=facts, code=(source.query or "").strip()))
        if config.customers is not None:
            found.append(self.entry("source.customers", f"{_where(config.customers.source)}: one row a customer, with traits"))
        return tuple(found)

    def channels(self, config: Config) -> tuple[Entry, ...]:
        """Return the entries of the channels."""
        found = []
        for name, channel in config.channels.items():
            kind = type(channel).__name__.lower()
            where = "" if isinstance(channel, Dry) else f" to {channel.folder}" if isinstance(channel, Folder) else f" to {channel.url.host}"
            found.append(
                self.entry(f"channel.{name}", "Notes what would be sent, and sends nothing" if kind == "dry" else f"{kind.capitalize()}{where}")
            )
        return tuple(found)


def _capital(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def _size(segment: Segment, ledger: Ledger, as_of: int, known: int, floor: Floor) -> dict[str, str]:
    """How many belong; small groups are hidden."""
    if ledger.last_run(segment.name, segment.definition) is None:
        return {"members": "not run yet"}
    members = len(ledger.spells(segment.name, segment.definition).at(as_of))
    share = {"of all customers": f"{members / known:.1%}"} if known and floor.shown(members) else {}
    return {"members": floor.count(members), **share}


def _agreed(segment: Segment) -> dict[str, str]:
    found = {"refreshed": segment.refresh, "owner": segment.owner, "consent for": segment.purpose or ""}
    for title, actions in (("sends on entering", segment.on_enter), ("sends on leaving", segment.on_leave)):
        found[title] = "; ".join(action.sentence() for action in actions)
    if segment.experiment is not None:
        found["tries"] = segment.experiment.says()
    return {name: value for name, value in found.items() if value}


def _document(segment: Segment, texts: Mapping[str, str]) -> str:
    if segment.node is None:
        return ""
    first, last = document(texts[segment.node.file], segment.node)
    return "\n".join(lines_of(texts[segment.node.file])[first - 1 : last])


def _where(source: Source) -> str:
    return f"Table {source.table} of {without_password(source.url) if source.url else 'Spark'}" if source.table else ", ".join(source.path)


def card_html(markdown: str) -> str:
    """Return a model card as HTML for the inside of an entry: headings two levels lower, without its title, and nothing that loads.

    >>> card_html("# shop: churn\\n\\n## Data & <b>\\n\\ntrue")
    '<h4>Data &amp; &lt;b&gt;</h4>\\n<p>true</p>\\n'
    """
    from markdown_it import MarkdownIt

    reader = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
    tokens = reader.parse(markdown)
    title = tokens[:1] and tokens[0].tag == "h1"
    kept = tokens[3:] if title else tokens
    for token in kept:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    return str(reader.renderer.render(kept, reader.options, {}))


def render(handbook: Handbook) -> str:
    """Return the page as one HTML text that loads nothing."""
    from jinja2 import Environment, select_autoescape

    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True)
    style = _asset("predseg.outcomes.report", "page.css") + _asset(__package__, "handbook.css")
    template = environment.from_string(_asset(__package__, "handbook.html"))
    return template.render(book=handbook, anchor=anchor, floor=handbook.floor.k, style=style, script=_asset(__package__, "handbook.js"))


@cache
def _asset(package: str, name: str) -> str:
    return (files(package) / name).read_text("utf-8")
