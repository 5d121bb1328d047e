"""JSON Schema (2020-12) of project files and segment files, with descriptions, for editors that complete and check while one types.

A schema accepts what the loader accepts, and nothing else, but for what no schema can say. The loader alone

- compares: `between` from low to high, `from` further back than `until`, `some` not asking for more than it has, an absence
  that its window outlasts, one property that ties a chain, decile and percentile of a stated score that agree, the sum of a `split`;
- looks names up: sources, events, properties, models, segments, channels, time zones, and names that stand twice; segments in a circle;
- reads the YAML itself: at most 256 KB and 20 levels, no aliases, no tags, no key twice or named on, off, yes or no, and numbers
  only as digits (`1e5` and numbers of more than 18 digits are text, and 2.0 is no whole number where one counts or ranks);
- knows addresses: which of them are private, metadata of clouds or none, and which ports there are; what a $ in a template may begin;
- knows the calendar (no 30 February, no duration over 200 years) and rare spellings of instants (`20260301`, `2026-W09-1`);
- reads the lines of `events` in a test.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from predseg.language.audience import audience_schema
from predseg.language.channels import channels_schema
from predseg.language.consent import PURPOSE
from predseg.language.documents import ADVERBS
from predseg.language.engines import engine_schema
from predseg.language.expectations import expectations_schema
from predseg.language.floor import MOST
from predseg.language.measures import COMPARISONS, PROPERTY_AGGREGATES
from predseg.language.monitoring import limits_schema
from predseg.language.outcomes import outcomes_schema
from predseg.language.serving import ON_STALE, serving_schema

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
SPACE = r"[ \t\n\r\f\v]*"
NAME = r"^[A-Za-z][A-Za-z0-9_]{0,63}$"
CANONICAL = ("customer_id", "event_time", "event", "received_at", "value", "event_id", "anonymous_id")


_UNITS = ("m", "h", "d", "w", "y", *(f"{word}{s}" for word in ("min", "minute", "hour", "day", "week", "month", "year") for s in ("", "s")))


def _any_case(word: str) -> str:
    return "".join(f"[{letter}{letter.upper()}]" for letter in word)


_UNIT = "(" + "|".join(_any_case(unit) for unit in sorted(_UNITS, key=lambda u: (-len(u), u))) + ")"
_LENGTH = rf"(?=0*[1-9])[0-9]{{1,9}}{SPACE}{_UNIT}"
_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?"
_NO_NUMBER = r"^(?![^A-Za-z0-9_ \t\n\r\f\v]*[ \t\n\r\f\v]*[-+]?[0-9][0-9 .,_']*[ \t\n\r\f\v]*[^A-Za-z0-9_ \t\n\r\f\v]*$)"


def _text(description: str, pattern: str = r"\S") -> Schema:
    return {"type": "string", "pattern": pattern, "description": description}


def _texts(description: str, one: Schema | None = None) -> Schema:
    item = one or {"type": "string", "pattern": r"\S"}
    return {"anyOf": [item, {"type": "array", "items": item, "minItems": 1}], "description": description}


def _ref(name: str, description: str = "") -> Schema:
    return {"$ref": f"#/$defs/{name}"} | ({"description": description} if description else {})


def _object(properties: Mapping[str, Schema], description: str, required: Sequence[str] = (), **more: Any) -> Schema:
    found: Schema = {"type": "object", "description": description, "properties": dict(properties), "additionalProperties": False}
    return found | ({"required": list(required)} if required else {}) | more


def _map(values: Schema, description: str, **more: Any) -> Schema:
    return {"type": "object", "description": description, "additionalProperties": values, **more}


def _one_at_most(keys: Iterable[str]) -> Schema:
    """Not two of the keys."""
    found = list(keys)
    return {"not": {"anyOf": [{"required": [a, b]} for i, a in enumerate(found) for b in found[i + 1 :]]}}


def _one_of(keys: Iterable[str]) -> Schema:
    """Exactly one of the keys."""
    return {"oneOf": [{"required": [key]} for key in keys]}


def _some_of(keys: Iterable[str]) -> Schema:
    return {"anyOf": [{"required": [key]} for key in keys]}


def _either(schemas: Mapping[str, Schema], what: str) -> Schema:
    """Choose the schema by the key that is there, so that an editor speaks of that one alone; two of the keys are refused."""
    chosen: list[Schema] = [{"if": {"type": "object", "required": [key]}, "then": schema} for key, schema in schemas.items()]
    described = {key: {"description": str(schema["properties"][key]["description"])} for key, schema in schemas.items()}
    return {"type": "object", "description": what, "properties": described, **_one_of(schemas), "allOf": chosen}


# the language


def _comparisons() -> Schema:
    number: Schema = {"type": "number"}
    said = {
        "more_than": "Over this number, not equal to it.",
        "at_least": "This number or more.",
        "less_than": "Under this number, not equal to it.",
        "at_most": "This number or less.",
        "exactly": "This number; `exactly: 0` holds for everyone without such an event.",
    }
    found: Schema = {op: number | {"description": said[op]} for op in COMPARISONS if op != "between"}
    return found | {"between": {"type": "array", "items": number, "minItems": 2, "maxItems": 2, "description": "[low, high], both included."}}


def _when() -> Schema:
    return {
        "within": _ref("duration", "Only this long back from the moment: (moment − within, moment]."),
        "from": _ref("ago", "Only since so long ago, as in `12 months ago`."),
        "until": _ref("ago", "Only until so long ago, as in `90 days ago`."),
        "since": _ref("instant", "Only from this instant on, itself included."),
    }


_WINDOWS: Schema = {"dependentSchemas": {"within": {"not": _some_of(("from", "until", "since"))}, "from": {"not": {"required": ["since"]}}}}


def _aggregates() -> Schema:
    said = {"sum": "sum", "avg": "average", "min": "smallest value", "max": "largest value", "distinct": "number of different values"}
    return {name: _text(f"Measure the {said[name]} of this property instead of counting the events.") for name in PROPERTY_AGGREGATES}


def _measured(extra: Iterable[str] = (), bare: Iterable[str] = ()) -> list[Schema]:
    """One comparison, one aggregate, and no aggregate without a comparison but for the ``bare`` ones."""
    aggregates = [*PROPERTY_AGGREGATES, *extra]
    needs = {"if": _some_of([a for a in PROPERTY_AGGREGATES if a not in bare]), "then": _some_of(COMPARISONS)}
    return [_one_at_most(COMPARISONS), _one_at_most(aggregates), needs]


_EVENT = "The event, or a list of events, that happened."
_WHERE = "Only events whose properties pass: `{category: Books, price: {more_than: 100}, coupon: {exists: true}}`."


def _did() -> Schema:
    keys = {"did": _texts(_EVENT), **_aggregates(), **_comparisons(), **_when(), "where": _ref("where", _WHERE)}
    keys["then"] = _ref("then", "What must follow, or must not.")
    return _object(keys, "It happened.", **_WINDOWS, allOf=_measured())


def _did_not() -> Schema:
    keys = {"did_not": _texts("The event, or events, none of which happened."), "where": _ref("where", _WHERE), **_when()}
    return _object(keys, "It did not happen.", **_WINDOWS)


def _score() -> Schema:
    keys = {
        "score": _text("A model of the project file: its last published probability or rank."),
        **_comparisons(),
        "top": _ref("share", "Among the highest share of scores, as in `10%`."),
        "bottom": _ref("share", "Among the lowest share of scores, as in `10%`."),
        "decile": _ranks(10, "Tenths of the scored customers; 1 is the highest."),
        "rises": {"type": "number", "description": "The probability is at least so much above what it was `within` ago."},
        "falls": {"type": "number", "description": "The probability is at least so much below what it was `within` ago."},
        "within": _ref("duration", "How far back `rises` or `falls` looks."),
    }
    moved = {"if": _some_of(("rises", "falls")), "then": {"required": ["within"]}, "else": {"not": {"required": ["within"]}}}
    ways = (*COMPARISONS, "top", "bottom", "decile", "rises", "falls")
    return _object(keys, "A score.", allOf=[_one_of(ways), moved])


def _ranks(highest: int, description: str) -> Schema:
    one: Schema = {"type": "integer", "minimum": 1, "maximum": highest}
    return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}], "description": description}


def _rfv() -> Schema:
    dimension = {"recency": "How recently, 5 is most recently.", "frequency": "How often, 5 is most often.", "value": "For how much, 5 is most."}
    compared = _object(_comparisons(), "A comparison of the score.", allOf=[_one_of(COMPARISONS)])
    ranks = {name: {"anyOf": [_ranks(5, said), compared], "description": said} for name, said in dimension.items()}
    keys = {"of": _texts("The event, or events, that are scored."), "where": _ref("where", _WHERE), **ranks, **_when()}
    inner = _object(keys, "Recency, frequency and value, each scored 1 to 5.", ["of"], **_WINDOWS, allOf=[_some_of(dimension)])
    return _object({"rfv": inner}, "Scores of recency, frequency and value.")


def _alone(verb: str, value: Schema, what: str) -> Schema:
    return _object({verb: value}, what)


def _conditions(name: str) -> dict[str, Schema]:
    """Every verb with what it takes; ``name`` is the definition that conditions within refer to."""
    parts: Schema = {"type": "array", "items": _ref(name), "minItems": 1}
    some = _object(
        {"at_least": {"type": "integer", "minimum": 1, "description": "How many must be true."}, "of": parts | {"description": "The conditions."}},
        "So many of some conditions.",
        ["at_least", "of"],
    )
    cluster = _map(
        _texts("Names of clusters."), "A latent segmentation and its clusters: `{personas: [bargain hunter]}`.", minProperties=1, maxProperties=1
    )
    traits = _map(_ref("tests"), "Facts of the customer: `{country: [GB, FR], tier: {not: bronze}}`.", minProperties=1)
    return {
        "did": _did(),
        "did_not": _did_not(),
        "score": _score(),
        "in": _alone("in", _text("A segment that the customer is in."), "Membership of another segment."),
        "not_in": _alone("not_in", _text("A segment that the customer is not in."), "No membership of another segment."),
        "trait": _alone("trait", traits, "Facts of the customer."),
        "rfv": _rfv() | {"required": ["rfv"]},
        "cluster": _alone("cluster", cluster, "Latent segments."),
        "all": _alone("all", parts | {"description": "All of these are true."}, "Layering."),
        "any": _alone("any", parts | {"description": "At least one of these is true."}, "Layering."),
        "none": _alone("none", parts | {"description": "None of these is true."}, "Layering."),
        "some": _alone("some", some | {"description": "At least so many of these are true."}, "Layering."),
    }


def _definitions() -> dict[str, Schema]:
    """What documents refer to."""
    number: Schema = {"type": "number"}
    operand: Schema = {"type": ["string", "number", "boolean"]}
    operands: Schema = {"anyOf": [operand, {"type": "array", "items": operand, "minItems": 1}]}
    threshold: Schema = {"anyOf": [number, {"type": "string", "pattern": _NO_NUMBER}]}
    pair = {"type": "array", "minItems": 2, "maxItems": 2}
    tests: Schema = {op: threshold for op in COMPARISONS if op != "between"}
    tests["between"] = {"anyOf": [pair | {"items": number}, pair | {"items": {"type": "string", "pattern": _NO_NUMBER}}]}
    tests |= {"not": operands, "contains": {"type": "string", "pattern": r"\S"}, "exists": {"type": "boolean"}}
    value: Schema = {"type": ["string", "number", "boolean", "null"]}
    return {
        "duration": _text("A duration: `48 hours`, `90 days`, `6 months`, `90d`.", rf"^{SPACE}{_LENGTH}{SPACE}$"),
        "ago": _text("A duration ago: `90 days ago`.", rf"^{SPACE}{_LENGTH}{SPACE} ago$"),
        "instant": _text("An instant in UTC, or with an offset: `2026-03-01`, `2026-03-01 12:00`.", rf"^{SPACE}{_INSTANT}{SPACE}$"),
        "share": _text("A share: `10%`.", r"^(?![0.]*%|[0.]* )(0?[0-9]{1,2}(\.[0-9]{1,15})?|100(\.0{1,15})?)[ \t\n\r\f\v]*%$"),
        "tests": {
            "anyOf": [operands, _object(tests, "Tests that all must pass.", minProperties=1)],
            "description": "A value, a list of values of which one must be found, or tests: `{more_than: 100}`, `{not: bronze}`, `{exists: true}`.",
        },
        "where": _map(_ref("tests"), "Tests of properties."),
        "value": {"anyOf": [value, {"type": "array", "items": _ref("value")}], "description": "Text, a number, true or false, or a list of these."},
        "then": _then(),
        "condition": _either(_conditions("condition"), f"One condition. Its verb is one of {', '.join(ADVERBS)}."),
    }


def _then() -> Schema:
    within = _ref("duration", "Counted from the step before.")
    same = _text("A property that ties this event to the one before.")
    where = _ref("where", _WHERE)
    number: Schema = {"type": "integer", "minimum": 1, "description": "How many must follow."}
    did = _object(
        {
            "did": _texts("What must follow."),
            "where": where,
            "within": within,
            "same": same,
            "at_least": number,
            "then": _ref("then", "And what must follow that."),
        },
        "It follows.",
    )
    did_not = _object({"did_not": _texts("What must not follow."), "where": where, "within": within, "same": same}, "It does not follow.")
    return _either({"did": did, "did_not": did_not}, "What must follow strictly later, or must not.")


# segment files


def segments_schema() -> Schema:
    """Return the schema of one document of a segment file."""
    actions = _actions()
    keys = {
        "segment": _text("The name of the segment: letters, digits and `_`.", NAME),
        "about": _text("What it is for, in a sentence."),
        "owner": _text("Who answers for it."),
        "purpose": _text("The purpose for which consent is asked; who withdrew it is never written to.", f"^{PURPOSE}$"),
        "refresh": {
            "enum": ["daily", "live"],
            "description": "live: changes the moment its customers do; daily: by the last run of `predseg segment`.",
        },
        "max_stale": _ref("duration", "How old an answer may be; of a daily segment 2 days."),
        "on_stale": {"enum": list(ON_STALE), "description": "What is answered when it is older: the old answer, nothing, or that nobody belongs."},
        "match": _ref("condition", "Who belongs."),
        "holdout": _ref("share", "The share of members that nothing is sent to, so that the effect can be measured: `10%`."),
        "split": _map(
            _ref("share"),
            "Variants for the others with their shares: `{control: 50%, new_subject: 50%}`.",
            propertyNames={"pattern": NAME, "not": {"const": "holdout"}},
            minProperties=2,
        ),
        "on_enter": actions | {"description": "What is sent to who enters."},
        "on_leave": actions | {"description": "What is sent to who leaves."},
        "tags": _texts("Words to find it by."),
        "tests": {"type": "array", "items": _ref("test"), "description": "Tests of the rule, run by `predseg test`."},
    }
    whole = _object(keys, "A segment: a named rule.", ["segment", "match"], dependentRequired={"on_stale": ["max_stale"]})
    return {"$schema": DIALECT, "title": "predseg segment", **whole, "$defs": _definitions() | {"test": _test(), "facts": _facts()}}


def _actions() -> Schema:
    clock = "([01][0-9]|2[0-3]):[0-5][0-9]"
    action = _object(
        {
            "send": _text("A channel of the project file."),
            "limit": _text("How often at most: `once per 7 days`.", rf"^once per {SPACE}({_LENGTH}|{_UNIT}){SPACE}$"),
            "quiet": _text("When nothing is sent: `22:00-08:00`.", rf"^(?!(.{{5}})-\1$)(?!00:00-24:00$){clock}-({clock}|24:00)$"),
            "timezone": _text("Time zone of the quiet hours; else that of the project."),
            "after": _ref("duration", "How long to wait; nothing is sent to who changed back by then."),
        },
        "What is sent.",
        ["send"],
        dependentRequired={"timezone": ["quiet"]},
    )
    return {"anyOf": [action, {"type": "array", "items": action, "minItems": 1}]}


def _test() -> Schema:
    moments: Schema = {"anyOf": [{"const": "never"}, _ref("instant"), {"type": "array", "items": _ref("instant"), "minItems": 1}]}
    member = {"type": "object", "propertyNames": _ref("instant"), "additionalProperties": {"type": "boolean"}, "minProperties": 1}
    facts = {"anyOf": [_ref("facts"), {"type": "array", "items": _ref("facts")}]}
    keys = {
        "it": _text("What the segment does here."),
        "events": _text("A line each: instant in UTC, two spaces, event, optionally two spaces and properties `{value: 12.50}`."),
        "facts": facts | {"description": "What is known beside the events; a list with `at:` for facts that change."},
        "enters": moments | {"description": "All instants at which the customer enters, or never."},
        "leaves": moments | {"description": "All instants at which the customer leaves, or never."},
        "member_at": member | {"description": "Whether the customer is a member at some instants: `{2026-03-02 12:00: true}`."},
    }
    return _object(keys, "A test of the rule.", ["it"], allOf=[_some_of(("enters", "leaves", "member_at"))])


def _facts() -> Schema:
    share: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    score = _object(
        {
            "probability": share | {"description": "The probability."},
            "value": {"type": "number", "description": "The expected value, of a model that predicts a sum; instead of the probability."},
            "percentile": share | {"description": "1 − h/N, with h of N customers strictly higher."},
            "decile": {"type": "integer", "minimum": 1, "maximum": 10, "description": "1 is the highest tenth."},
        },
        "A score.",
        minProperties=1,
        allOf=[_one_at_most(["probability", "value"])],
    )
    rank: Schema = {"type": "integer", "minimum": 1, "maximum": 5}
    texts = {"anyOf": [{"type": "string", "pattern": r"\S"}, {"type": "array", "items": {"type": "string", "pattern": r"\S"}}]}
    keys = {
        "at": _ref("instant", "From when these facts hold; without it, always."),
        "score": _map({"anyOf": [share, score]}, "Model → probability, or `{probability: 0.9, percentile: 0.97}`."),
        "trait": _map(_ref("value"), "Trait → value."),
        "rfv": _object({name: rank for name in ("recency", "frequency", "value")}, "Scores 1 to 5."),
        "cluster": _map(_text("The cluster."), "Latent segmentation → cluster."),
        "in": texts | {"description": "Segments of which the customer is a member, whatever their rules say."},
        "not_in": texts | {"description": "Segments of which the customer is no member, whatever their rules say."},
    }
    return _object(keys, "What is known beside the events.")


# the project file


def project_schema() -> Schema:
    """Return the schema of the project file."""
    keys = {
        "project": _text("The name of the project: letters, digits, `_`, `-` and `.`.", r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"),
        "timezone": _text("Time zone of times without an offset, such as Europe/London."),
        "store": {"type": "string", "pattern": r"\S", "description": "Folder of tables and models; relative to this file.", "default": "store"},
        "sources": _map(_source(), "Where events come from, by name."),
        "customers": _customers(),
        "contract": _contract(),
        "expectations": expectations_schema(),
        "features": _features(),
        "models": _map(_model(), "What is predicted, by name.", propertyNames={"pattern": NAME}),
        "segments": _texts("Files of segments; a pattern such as `segments/*.yaml`."),
        "channels": channels_schema(),
        "consent": _consent(),
        "outcomes": outcomes_schema(),
        "monitor": limits_schema(),
        "serve": serving_schema(),
        "pseudonymize": _secrets(
            "Ids become hashes with this key at ingest, everywhere: `env:NAME`. A list names the keys of before and the one that was added, see `predseg pseudonyms rotate`."
        ),
        "engine": engine_schema(),
        "audience": audience_schema(),
        "smallest_group": {
            "type": "integer",
            "minimum": 1,
            "maximum": MOST,
            "description": "Groups of fewer people are not shown in aggregates (10); 1 shows all.",
        },
    }
    whole = _object(keys, "A project.", ["project"])
    definitions = _definitions()
    among = {verb: schema for verb, schema in _conditions("among").items() if verb not in ("score", "in", "not_in", "rfv", "cluster")}
    definitions |= {"among": _either(among, "A condition about events and traits."), "measure": _measure()}
    return {"$schema": DIALECT, "title": "predseg project", **whole, "$defs": definitions}


_SOURCE = {
    "path": _texts("A file or files: csv, csv.gz, parquet, jsonl, a pattern; relative to this file."),
    "table": _text("A table of a database; without `url` one of Spark's catalog."),
    "url": _text("The database of `table`: postgresql://user@host/database, or a path of sqlite or duckdb."),
    "query": _text("SQL that reshapes the rows; `source` is the raw table."),
    "timezone": _text("Time zone of times without an offset."),
}
_ONE_PLACE: list[Schema] = [_one_of(("path", "table")), {"dependentRequired": {"url": ["table"]}}]


def _columns() -> Schema:
    column: Schema = {"type": "string", "pattern": r"\S"}
    return _object({name: column for name in CANONICAL}, "Our column → the source's column, or `=text` for the same in every row.")


def _source() -> Schema:
    return _object(_SOURCE | {"columns": _columns()}, "A source of events.", allOf=_ONE_PLACE)


def _customers() -> Schema:
    named = {
        "customer_id": _text("The column of the id."),
        "event_time": _text("The column that says from when a row is true."),
        "known_since": _text("The column that says from when the customer is known."),
        "static": {"type": "boolean", "description": "Traits without a time may be used in training."},
    }
    return _object(_SOURCE | {"columns": _columns()} | named, "Where facts of customers come from.", allOf=_ONE_PLACE)


def _contract() -> Schema:
    percent = {"type": "string", "pattern": r"^(0?[0-9]{1,2}(\.[0-9]{1,15})?%|100(\.0{1,15})?%|0{1,3}(\.[0-9]{1,15})?|0{0,2}1(\.0{1,15})?)$"}
    share = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, percent]}
    keys = {
        "tolerance": share | {"description": "The share of rows that may be bad: `1%`."},
        "events": _texts("The events that may occur; any when it is left away."),
        "properties": _texts("Properties that rules may name before an event has them."),
    }
    return _object(keys, "What the data must keep.")


def _secrets(description: str) -> Schema:
    return _texts(description, {"type": "string", "pattern": r"^env:[A-Za-z_][A-Za-z0-9_]{0,127}$"})


def _consent() -> Schema:
    purpose: Schema = {"type": "string", "pattern": f"^{PURPOSE}$"}
    said = _map(_texts("", {"type": "string", "pattern": rf"^(\*|{PURPOSE})$"}), "Event → purposes; `*` is every purpose.")
    keys = {
        "path": _text("A CSV file with customer_id and, if wanted, purpose: who opted out elsewhere."),
        "purposes": _texts("Purposes beside email_marketing, training and profiling.", purpose),
        "opt_out": said | {"description": "Event → purposes that it withdraws; by default `{Unsubscribed: email_marketing}`."},
        "opt_in": said | {"description": "Event → purposes that it gives back."},
        "key": _secrets("What the list of opt-outs is made unreadable with: `env:NAME`; a new key is added after the old one."),
    }
    return _object(keys, "Who must be left alone, and for what.")


def _features() -> Schema:
    duration = _ref("duration")
    event = _object({"value": _text("The property that is summed."), "distinct": _texts("Properties whose values are counted.")}, "What is measured.")
    visits = {"did": _texts("What is done on a visit."), "signs": _texts("What else tells of a customer, as an opened e-mail.")}
    visits["pause"] = _ref("duration", "Without any of it for so long it is over; 30 minutes by default.")
    visits["brought_by"] = _ref("where", "What tells that something else brought a visit: `{source: [email, ad]}`.")
    keys = {
        "windows": {"anyOf": [duration, {"type": "array", "items": duration}], "description": "How far back counts and sums look."},
        "events": _map({"anyOf": [event, {"type": "null"}]}, "Recency, frequency and value of each of these events."),
        "visits": _object(visits, "How often customers come, and what share of visits ends in what is predicted.", ["did"]),
        "taste": _object({"did": _texts("The events."), "of": _text("Their property.")}, "What was bought, in a few numbers.", ["did", "of"]),
        "measures": _map(_ref("measure"), "More measures, by name.", propertyNames={"pattern": "^[A-Za-z][A-Za-z0-9_]*$"}),
        "traits": {
            "anyOf": [_texts("")["anyOf"][0], {"type": "array", "items": {"type": "string", "pattern": r"\S"}}, {"enum": [None, False, 0, "", {}]}]
        },
    }
    keys["traits"]["description"] = "Facts of customers that models may use."
    return _object(keys, "What is known of every customer.")


def _measure() -> Schema:
    keys = {"did": _texts(_EVENT), **_aggregates(), **_when(), "where": _ref("where", _WHERE), "then": _ref("then", "What must follow, or must not.")}
    keys["days_since"] = {"enum": ["first", "last"], "description": "Days since the first or the last of them."}
    keys["gap"] = {"enum": ["mean", "std", "last"], "description": "Days between one and the next: mean, deviation, last."}
    return _object(keys, "A measure.", ["did"], **_WINDOWS, allOf=[_one_at_most([*PROPERTY_AGGREGATES, "days_since", "gap"])])


def _model() -> Schema:
    horizon = _ref("duration", "How far ahead it looks.")
    did = _object(
        {"did": _texts("What will happen."), **_aggregates(), **_comparisons(), "where": _ref("where", _WHERE), "within_next": horizon},
        "It will happen; a `sum` without a comparison is an expected value.",
        ["within_next"],
        allOf=_measured(bare=["sum"]),
    )
    did_not = _object(
        {"did_not": _texts("What will not happen."), "where": _ref("where", _WHERE), "within_next": horizon}, "It will not happen.", ["within_next"]
    )
    keys = {
        "predict": _either({"did": did, "did_not": did_not}, "What is predicted."),
        "among": _ref("among", "Of whom; everyone known by default."),
        "cutoffs": {"type": "integer", "minimum": 2, "description": "How many moments of the past to learn from."},
        "every": _ref("duration", "The time between them."),
        "seed": {"type": "integer", "minimum": 0, "description": "What randomness is made from."},
        "allow": _texts("Features that may look like leaks."),
        "tune": {"type": "integer", "minimum": 0, "description": "Trials of a search for parameters."},
        "refresh": {"enum": ["daily", "live"], "description": "`live` scores a customer anew as its events come; `daily` is the default."},
        "tags": _texts("Words to find it by."),
    }
    return _object(keys, "A model.", ["predict"])
