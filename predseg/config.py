"""The project file: one YAML document becomes one frozen `Config`.

Relative paths are relative to the file. Unknown keys, wrong types and words that are not understood are refused
with file:line:column and the nearest thing that is accepted.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from predseg.errors import ConfigError, nearest
from predseg.language.actions import read_timezone
from predseg.language.audience import Audience, parse_audience
from predseg.language.channels import Channel, parse_channels
from predseg.language.conditions import Cluster, Condition, In, Prediction, Rfv, Score, measures, walk
from predseg.language.consent import Consent, parse_consent
from predseg.language.documents import parse_condition, parse_measure, parse_prediction, parse_where, read_duration
from predseg.language.engines import Spark, parse_engine
from predseg.language.expectations import Expectations, parse_expectations
from predseg.language.floor import Floor, parse_floor
from predseg.language.measures import Filter, Measure
from predseg.language.monitoring import Limits, parse_limits
from predseg.language.outcomes import Outcomes, parse_outcomes
from predseg.language.secrets import Secret, read_keys
from predseg.language.serving import Serving, parse_serving
from predseg.language.time import DAY, MINUTE
from predseg.language.yaml import MAX_BYTES, Node, read_documents

DEFAULT_FILE = "predseg.yaml"
CANONICAL = ("customer_id", "event_time", "event", "received_at", "value", "event_id", "anonymous_id")
"""The columns that ``columns:`` maps; every other column of a source becomes a property."""


@dataclass(frozen=True)
class Source:
    """Where events come from, and how its columns are named. A table without ``url`` is one of Spark's catalog."""

    name: str
    path: tuple[str, ...] = ()
    table: str | None = None
    url: str | None = None
    query: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    timezone: str | None = None
    place: str = ""


@dataclass(frozen=True)
class Customers:
    """Where traits come from. ``known_since`` and ``event_time`` name columns that say from when a row is known or true."""

    source: Source
    customer_id: str = "customer_id"
    event_time: str | None = None
    known_since: str | None = None
    static: bool = False


@dataclass(frozen=True)
class Contract:
    """What the data must keep: the share of rows that may be bad, the event names that may occur (none: any), and properties that are yet to come."""

    tolerance: float = 0.01
    events: tuple[str, ...] | None = None
    properties: tuple[str, ...] = ()


@dataclass(frozen=True)
class EventFeatures:
    """Recency and frequency of one event, and its value and distinct properties when named."""

    value: str | None = None
    distinct: tuple[str, ...] = ()


@dataclass(frozen=True)
class VisitFeatures:
    """What a visit is: any of these events, until none of them comes for a pause (microseconds); which others are signs of life; and what tells visits that something brought."""

    did: tuple[str, ...]
    pause: int = 30 * MINUTE
    signs: tuple[str, ...] = ()
    brought_by: tuple[Filter, ...] = ()


@dataclass(frozen=True)
class TasteFeatures:
    """Whose taste is learned: the different values of a property over all of these events."""

    did: tuple[str, ...]
    of: str


@dataclass(frozen=True)
class Features:
    """What is known of every customer: windows (microseconds) × events, visits, taste, named measures, traits."""

    windows: tuple[int, ...] = tuple(n * DAY for n in (7, 30, 90, 180, 365))
    events: tuple[tuple[str, EventFeatures], ...] = ()
    measures: tuple[tuple[str, Measure], ...] = ()
    traits: tuple[str, ...] = ()
    visits: VisitFeatures | None = None
    taste: TasteFeatures | None = None


@dataclass(frozen=True)
class Model:
    """What is to be predicted, of whom, and how it is trained; ``live`` scores customers anew as their events come."""

    name: str
    predict: Prediction
    among: Condition | None = None
    cutoffs: int | None = None
    every: int | None = None
    seed: int = 0
    allow: tuple[str, ...] = ()
    tune: int = 0
    live: bool = False
    tags: tuple[str, ...] = ()
    place: str = ""

    @property
    def value(self) -> bool:
        """Whether a sum is predicted, not whether something comes true."""
        return self.predict.comparison is None


@dataclass(frozen=True)
class Config:
    """A project. ``file`` is where it was read from, ``text`` what stood there."""

    project: str
    file: Path
    text: str = field(repr=False, default="")
    timezone: str | None = None
    store: Path = Path("store")
    sources: dict[str, Source] = field(default_factory=dict)
    customers: Customers | None = None
    contract: Contract = Contract()
    expectations: Expectations | None = None
    features: Features = Features()
    models: dict[str, Model] = field(default_factory=dict)
    segments: tuple[str, ...] = ()
    channels: dict[str, Channel] = field(default_factory=dict)
    consent: Consent = Consent()
    outcomes: Outcomes = Outcomes()
    monitor: Limits = Limits()
    serve: Serving = Serving()
    pseudonymize: tuple[Secret, ...] = ()
    engine: Spark | None = None
    audience: Audience | None = None
    smallest_group: Floor = Floor()

    @property
    def root(self) -> Path:
        """The folder of the file: relative paths start here."""
        return self.file.parent

    def resolve(self, path: str) -> Path:
        """Return a path of the file as an absolute one."""
        return _absolute(self.root, path)

    def measures(self) -> list[Measure]:
        """Every measure that features and models read, each once."""
        found = [m for _, m in self.features.measures]
        for model in self.models.values():
            found.append(model.predict.measure)
            found += measures(model.among) if model.among else []
        return list(dict.fromkeys(found))

    def numeric_properties(self) -> set[str]:
        """The properties that are summed, averaged or compared as money: these must be exact numbers."""
        named = {events.value for _, events in self.features.events if events.value}
        return named | {m.of for m in self.measures() if m.numeric and m.of} | {"value"}

    def event_names(self) -> dict[str, str]:
        """Every event name that the file mentions, each with the place to name when it never occurs."""
        found = {name: "features.events" for name, _ in self.features.events}
        found |= {name: "expectations.events" for name, _ in (self.expectations.events if self.expectations else ())}
        if visits := self.features.visits:
            found |= dict.fromkeys((*visits.did, *visits.signs), "features.visits")
        if taste := self.features.taste:
            found |= dict.fromkeys(taste.did, "features.taste")
        found |= {name: f"features.measures.{key}" for key, m in self.features.measures for name in m.names()}
        for model in self.models.values():
            found |= {name: f"models.{model.name}.predict" for name in model.predict.measure.names()}
            found |= {name: f"models.{model.name}.among" for m in (measures(model.among) if model.among else []) for name in m.names()}
        return found


def load(path: str | Path) -> Config:
    """Read a project file.

    Raises:
        ConfigError: with the place, when anything in it is not accepted.
    """
    file = Path(path).absolute()
    if file.is_dir():
        file = file / DEFAULT_FILE
    if not file.is_file():
        raise ConfigError("E300", str(path), "no such project file", "create one with `predseg init`, or name it with -c FILE")
    return parse(read_text(file, str(path)), file)


def read_text(file: Path, place: str) -> str:
    """Return what stands in a file of YAML; of a longer one than is accepted no more than that is read.

    Raises:
        ConfigError: E300 when it cannot be read, E305 when it is too long, E306 when it is not UTF-8.
    """
    try:
        with file.open("rb") as content:
            found = content.read(MAX_BYTES + 1)
        if len(found) > MAX_BYTES:
            raise ConfigError("E305", place, f"the file has more than {MAX_BYTES:,} bytes, no more are read", "split it into several files")
        return found.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError("E306", place, f"not UTF-8 at byte {error.start}", "save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError("E300", place, f"cannot be read: {error.strerror}", "check its permissions") from None


def parse(text: str, file: Path) -> Config:
    """Return the project of a YAML text, as if it stood in ``file``."""
    documents = read_documents(text, file.name)
    if len(documents) != 1:
        remedy = "rules of segments go into their own files" if documents else "begin with `project: my_shop`"
        place = documents[1].place if documents else f"{file.name}:1:1"
        raise ConfigError("E302", place, f"a project is one YAML document, found {len(documents)}", remedy)
    keys = documents[0].mapping("the project file", tuple(_KEYS))
    if "project" not in keys:
        raise ConfigError("E309", documents[0].place, "the project has no name", "add `project: my_shop`")
    read: dict[str, Any] = {name: _KEYS[name](node) for name, node in keys.items()}
    read["store"] = _absolute(file.parent, read.get("store", "store"))
    config = Config(file=file, text=text, **read)
    for source in (*config.sources.values(), *([config.customers.source] if config.customers else [])):
        _check_source(source, config.engine is not None)
    for name, _ in config.expectations.sources if config.expectations else ():
        if name not in config.sources:
            place = keys["expectations"].value["sources"].key_place(name)
            raise ConfigError("E309", place, f"the project has no source {name!r}", nearest(name, tuple(config.sources)))
    return config


def _absolute(root: Path, path: str) -> Path:
    return (root / os.path.expanduser(path)).absolute()  # noqa: PTH111 (a home that nobody has is a name like any other)


def _name(node: Node) -> str:
    name = node.text("`project`")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
        raise ConfigError("E309", node.place, f"{name!r} is not a name", "use letters, digits, `_`, `-` and `.`")
    return name


_SOURCE_KEYS = ("path", "table", "url", "query", "columns", "timezone")
_WHERE = "; what our columns are called there stands in `columns: {event: NAME}`, or `{event: =Order Completed}` for the same in every row"
_OTHERS = "; all other columns are properties under their own names (`query: select price as amount, * from source` gives another)"


def _source(name: str, node: Node, keys: dict[str, Node]) -> Source:
    columns = keys["columns"].mapping("`columns`", CANONICAL, _OTHERS) if "columns" in keys else {}
    return Source(
        name,
        keys["path"].texts("`path`") if "path" in keys else (),
        keys["table"].text("`table`") if "table" in keys else None,
        keys["url"].text("`url`") if "url" in keys else None,
        keys["query"].text("`query`") if "query" in keys else None,
        tuple((column, str(n.text(f"`{column}`"))) for column, n in columns.items()),
        read_timezone(keys["timezone"]) if "timezone" in keys else None,
        node.place,
    )


def _sources(node: Node) -> dict[str, Source]:
    return {name: _source(name, n, n.mapping(f"source {name!r}", _SOURCE_KEYS, _WHERE)) for name, n in node.mapping("`sources`").items()}


def _check_source(source: Source, spark: bool) -> None:
    if bool(source.path) == bool(source.table):
        found = "both" if source.path else "neither"
        raise ConfigError(
            "E310",
            source.place,
            f"source {source.name!r} needs `path` or `table`, found {found}",
            "write `path: data/events.csv`, or `table:` with `url:`",
        )
    if source.url and not source.table:
        raise ConfigError("E310", source.place, f"source {source.name!r} has a `url` and no `table`", "add `table: events`")
    if source.table and not source.url and not spark:
        help_ = "add `url: postgresql://user@host/database`; a table of Spark's catalog needs `engine: {spark: ...}`"
        raise ConfigError("E310", source.place, f"source {source.name!r} has a `table` and no `url`", help_)


def _customers(node: Node) -> Customers:
    keys = node.mapping("`customers`", (*_SOURCE_KEYS, "customer_id", "event_time", "known_since", "static"))
    source = _source("customers", node, keys)
    names = {key: keys[key].text(f"`{key}`") for key in ("customer_id", "event_time", "known_since") if key in keys}
    return Customers(source, static=_flag(keys["static"]) if "static" in keys else False, **names)


def _flag(node: Node) -> bool:
    if not isinstance(node.value, bool):
        raise ConfigError("E303", node.place, f"expected true or false, found {node.show()}", "write `true` or `false`")
    return node.value


def _contract(node: Node) -> Contract:
    keys = node.mapping("`contract`", ("tolerance", "events", "properties"))
    events, properties = (keys[name].texts(f"`{name}`") if name in keys else None for name in ("events", "properties"))
    return Contract(_share(keys["tolerance"]) if "tolerance" in keys else 0.01, events, properties or ())


def _share(node: Node) -> float:
    match = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,15})?)(%?)", f"{node.value:f}" if isinstance(node.value, Decimal) else str(node.value), re.ASCII)
    share = Decimal(match[1]) / (100 if match[2] else 1) if match else None
    if share is None or share > 1:
        raise ConfigError("E304", node.place, f"expected a share between 0% and 100%, found {node.show()}", "write for example `1%`")
    return float(share)


def _features(node: Node) -> Features:
    keys = node.mapping("`features`", ("windows", "events", "visits", "taste", "measures", "traits"))
    read: dict[str, Any] = {}
    if "windows" in keys:
        read["windows"] = tuple(sorted({read_duration(n, "windows") for n in _items(keys["windows"])}))
    if "events" in keys:
        read["events"] = tuple((name, _event_features(name, n)) for name, n in keys["events"].mapping("`events`").items())
    if "visits" in keys:
        read["visits"] = _visit_features(keys["visits"])
    if "taste" in keys:
        read["taste"] = _taste_features(keys["taste"])
    if "measures" in keys:
        read["measures"] = tuple((_column(keys["measures"], name), parse_measure(n)) for name, n in keys["measures"].mapping("`measures`").items())
    if "traits" in keys:
        read["traits"] = keys["traits"].texts("`traits`") if keys["traits"].value else ()
    return Features(**read)


def _column(node: Node, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ConfigError("E309", node.key_place(name), f"{name!r} cannot be the name of a measure", "use letters, digits and `_`")
    return name


def _event_features(name: str, node: Node) -> EventFeatures:
    keys = node.mapping(f"features of {name!r}", ("value", "distinct")) if node.value is not None else {}
    return EventFeatures(
        keys["value"].text("`value`") if "value" in keys else None, keys["distinct"].texts("`distinct`") if "distinct" in keys else ()
    )


def _visit_features(node: Node) -> VisitFeatures:
    keys = node.mapping("`visits`", ("did", "pause", "signs", "brought_by"))
    if "did" not in keys:
        raise ConfigError("E309", node.place, "`visits` does not say what a visit is", "add `did:` with the events of a visit")
    pause = read_duration(keys["pause"], "pause") if "pause" in keys else VisitFeatures.pause
    signs = keys["signs"].texts("`signs`") if "signs" in keys else ()
    return VisitFeatures(keys["did"].texts("`did`"), pause, signs, parse_where(keys.get("brought_by")))


def _taste_features(node: Node) -> TasteFeatures:
    keys = node.mapping("`taste`", ("did", "of"))
    if lacking := [key for key in ("did", "of") if key not in keys]:
        raise ConfigError("E309", node.place, f"`taste` has no `{lacking[0]}`", "write for example `taste: {did: Order Completed, of: product_id}`")
    return TasteFeatures(keys["did"].texts("`did`"), keys["of"].text("`of`"))


def _items(node: Node) -> list[Node]:
    return node.value if node.is_list else [node]


def _models(node: Node) -> dict[str, Model]:
    return {name: _model(_model_name(node, name), n) for name, n in node.mapping("`models`").items()}


def _model_name(node: Node, name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", name):
        raise ConfigError("E309", node.key_place(name), f"{name!r} cannot be the name of a model", "use letters, digits and `_`")
    return name


def _model(name: str, node: Node) -> Model:
    keys = node.mapping(f"model {name!r}", ("predict", "among", "cutoffs", "every", "seed", "allow", "tune", "refresh", "tags"))
    if "predict" not in keys:
        raise ConfigError("E311", node.place, f"model {name!r} predicts nothing", "add `predict: {did: Order Completed, within_next: 30 days}`")
    among = parse_condition(keys["among"]) if "among" in keys else None
    if among is not None and any(isinstance(c, Score | In | Rfv | Cluster) for c in walk(among)):
        raise ConfigError(
            "E311", keys["among"].place, "`among` may ask about events and traits only", "scores and segments are made from models, not before them"
        )
    whole = {key: _whole(keys[key], lowest) for key, lowest in (("cutoffs", 2), ("seed", 0), ("tune", 0)) if key in keys}
    every = read_duration(keys["every"], "every") if "every" in keys else None
    allow, tags = (keys[key].texts(f"`{key}`") if key in keys else () for key in ("allow", "tags"))
    live = "refresh" in keys and _refresh(keys["refresh"])
    return Model(name, parse_prediction(keys["predict"]), among, every=every, allow=allow, live=live, tags=tags, place=node.place, **whole)


def _refresh(node: Node) -> bool:
    if node.value not in ("daily", "live"):
        raise ConfigError("E309", node.place, f"`refresh` is `daily` or `live`, found {node.show()}", "write `refresh: live`, or leave it away")
    return bool(node.value == "live")


def _whole(node: Node, lowest: int) -> int:
    if not isinstance(node.value, int) or isinstance(node.value, bool) or node.value < lowest:
        raise ConfigError(
            "E304", node.place, f"expected a whole number of at least {lowest}, found {node.show()}", f"write for example {max(lowest, 12)}"
        )
    return node.value


_KEYS: dict[str, Any] = {
    "project": _name,
    "timezone": read_timezone,
    "store": lambda node: node.text("`store`"),
    "sources": _sources,
    "customers": _customers,
    "contract": _contract,
    "expectations": parse_expectations,
    "features": _features,
    "models": _models,
    "segments": lambda node: node.texts("`segments`"),
    "channels": parse_channels,
    "consent": parse_consent,
    "outcomes": parse_outcomes,
    "monitor": parse_limits,
    "serve": parse_serving,
    "pseudonymize": lambda node: read_keys(node, "`pseudonymize`"),
    "engine": parse_engine,
    "audience": parse_audience,
    "smallest_group": parse_floor,
}
