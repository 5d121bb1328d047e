"""A rule with one thing changed: a threshold, a window, a share, or a layer that is taken away or added."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from predseg.errors import ConfigError
from predseg.language.measures import COMPARISONS
from predseg.language.time import DAY, HOUR, MINUTE, parse_duration, short_duration
from predseg.language.yaml import Node
from predseg.segments import edits
from predseg.segments.definitions import Segment
from predseg.segments.edited import edited, models_in, read_again
from predseg.segments.edits import Edit

FACTORS = (Decimal("0.25"), Decimal("0.5"), Decimal("0.8"), Decimal("1.25"), Decimal(2), Decimal(4))
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


@dataclass(frozen=True)
class Variation:
    """A changed rule, what was changed in words, and the edit of the rule file."""

    says: str
    rule: Segment
    edit: Edit


def variations(segment: Segment, segments: Mapping[str, Segment], texts: Mapping[str, str], layers: Sequence[dict[str, Any]] = ()) -> list[Variation]:
    """Return the rules that differ from a segment's by one change and mean something else; each is the edited file, read again.

    Args:
        segment: The rule.
        segments: All rules of the project.
        texts: The rule files by the name that their nodes carry.
        layers: Conditions to try as a further layer, as they stand in YAML.
    """
    assert segment.node is not None
    found, models = dict[str, Variation](), models_in(segments)
    for says, edit in (*_bounds(segment.node.value["match"], texts), *_layers(segment, texts, layers)):
        rule = edited(segment, edit, texts[edit.file], segments, models)
        if rule is not None and rule.definition != segment.definition:
            found.setdefault(rule.definition, Variation(says, rule, edit))
    return list(found.values())


def _bounds(match: Node, texts: Mapping[str, str]) -> Iterator[tuple[str, Edit]]:
    for leaf, key, node in _scalars(match, match):
        for value in _values(key, node, leaf):
            yield f"`{key}: {value}` instead of `{key}: {node.plain()}`{_about(leaf)}", edits.with_scalar(texts[node.file], node, value)


def _scalars(node: Node, leaf: Node) -> Iterator[tuple[Node, str, Node]]:
    """Yield the scalars of a rule with their key, and the condition that they belong to; filters of properties are no bounds."""
    for item in node.value if node.is_list else ():
        yield from _scalars(item, item if item.is_mapping else leaf)
    for key, value in node.value.items() if node.is_mapping else ():
        if key in ("where", "trait", "cluster"):
            continue
        if value.is_mapping or value.is_list:
            yield from _scalars(value, value if key in ("rfv", "some") else leaf)
        else:
            yield leaf, key, value


def _about(leaf: Node) -> str:
    verb = next((leaf.value[key].plain() for key in ("did", "did_not", "score", "of") if key in leaf.value), None)
    return f" for {verb}" if isinstance(verb, str) else ""


def _values(key: str, node: Node, leaf: Node) -> list[str]:
    value = node.value
    if key in COMPARISONS and isinstance(value, int | Decimal) and not isinstance(value, bool):
        return _numbers(value, chance="score" in leaf.value, rank="of" in leaf.value and "did" not in leaf.value)
    if key in ("top", "bottom") and isinstance(value, str):
        share = Decimal(value.removesuffix("%").strip())
        return [f"{min(share * f, Decimal(100)).normalize():f}%" for f in FACTORS]
    if key in ("within", "from", "until") and isinstance(value, str):
        ago = " ago" if value.endswith(" ago") else ""
        length = parse_duration(value.removesuffix(" ago"))
        return [_spelled(n) + ago for n in dict.fromkeys(_rounded(length * f) for f in FACTORS) if n]
    return []


def _numbers(value: int | Decimal, chance: bool, rank: bool) -> list[str]:
    """A number scaled; a chance moved by a tenth, a rank by one."""
    if rank:
        return [str(n) for n in (value - 1, value + 1) if 1 <= n <= 5]
    if chance:
        return [f"{p.normalize():f}" for step in ("-0.2", "-0.1", "0.1", "0.2") if 0 < (p := value + Decimal(step)) < 1]
    whole = isinstance(value, int)
    found = [str(max(int(value * f), 1)) if whole else f"{(value * f).normalize():f}" for f in FACTORS if value > 0]
    small = [str(value + n) for n in (1, 2)] if whole and 0 < value < 5 else []
    return [text for text in dict.fromkeys([*found, *small]) if text != str(value)]


def _rounded(micros: Decimal) -> int:
    """A length in whole days, hours or minutes, whichever is the largest that it has at least three of."""
    unit = next((unit for unit in (DAY, HOUR, MINUTE) if micros >= 3 * unit), MINUTE)
    return int(micros // unit * unit)


def _spelled(micros: int) -> str:
    short = short_duration(micros)
    return f"{short[:-1]} {_UNITS[short[-1]]}"


def _layers(segment: Segment, texts: Mapping[str, str], layers: Sequence[dict[str, Any]]) -> Iterator[tuple[str, Edit]]:
    """Yield edits that take one condition of the outermost `all` away, or add one."""
    assert segment.node is not None
    node = segment.node.value["match"]
    parts = node.value["all"].value if node.is_mapping and "all" in node.value else [node]
    plain = [part.plain() for part in parts]
    for number, part in enumerate(parts if len(parts) > 1 else ()):
        rest = plain[:number] + plain[number + 1 :]
        yield f"without {edits.flow(plain[number])}", _rewritten(segment, texts, rest, taken=part)
    for layer in layers:
        if layer not in plain:
            yield f"with {edits.flow(layer)} as well", _rewritten(segment, texts, [*plain, layer], after=parts[-1], added=layer)


def _rewritten(
    segment: Segment, texts: Mapping[str, str], parts: list[Any], *, taken: Node | None = None, after: Node | None = None, added: Any = None
) -> Edit:
    """Return the edit that makes a rule ask for these conditions: of one line when each stands on a line of its own, else a new rule."""
    node = segment.node
    assert node is not None
    spot = taken or after
    assert spot is not None
    line = edits.lines_of(texts[node.file])[spot.line - 1]
    if line.lstrip().startswith("- {"):
        indent = line[: len(line) - len(line.lstrip())]
        lines = (line, f"{indent}- {edits.flow(added)}") if taken is None else ()
        edit = Edit(node.file, spot.line, spot.line, lines)
        if _means(segment, edit, texts[edit.file], parts):
            return edit
    return edits.with_match(texts[node.file], node, parts[0] if len(parts) == 1 else {"all": parts})


def _means(segment: Segment, edit: Edit, text: str, parts: list[Any]) -> bool:
    """Say whether the edited file has these conditions under the outermost `all` of the segment."""
    try:
        found = read_again(segment, edit, text).value["match"]
    except ConfigError:
        return False
    return found.is_mapping and list(found.value) == ["all"] and found.value["all"].plain() == parts
