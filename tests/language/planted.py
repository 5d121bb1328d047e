"""Bugs to plant in the language: what is written would become another declaration, or be accepted, or said otherwise."""

from __future__ import annotations

from tests.planting import Bug

BUGS = (
    # time
    Bug("a month is 31 days", "time", "MONTH = 30 * DAY", "MONTH = 31 * DAY"),
    Bug("a week is five days", "time", "WEEK = 7 * DAY", "WEEK = 5 * DAY"),
    Bug("no time at all is a duration", "time", "int(match[1]) == 0", "False"),
    Bug("the offset of an instant is not looked at", "time", "text if text.tzinfo else text.replace(tzinfo=UTC)", "text.replace(tzinfo=UTC)"),
    # YAML
    Bug("yes is true", "yaml", '"TRUE": True,', '"TRUE": True, "yes": True,'),
    Bug("aliases are accepted", "yaml", 'or getattr(event, "anchor", None)', "or False"),
    Bug("tags are accepted", "yaml", 'if getattr(event, "tag", None):', "if False:"),
    Bug("a key may stand twice", "yaml", "if name in values:", "if False:"),
    Bug("on may be a key", "yaml", "if name.lower() in _SWITCHES:", "if False:"),
    Bug("21 levels are read", "yaml", "if depth > MAX_DEPTH:", "if depth > MAX_DEPTH + 1:"),
    Bug("columns are counted from 0", "yaml", "event.start_mark.column + 1", "event.start_mark.column"),
    Bug("an unknown key is accepted", "yaml", "if allowed is not None and key not in allowed:", "if False:"),
    # declarations
    Bug("at least is more than", "measures", "return ceil(low), None", "return floor(low) + 1, None"),
    Bug("less than is at most", "measures", "return None, ceil(low) - 1", "return None, floor(low)"),
    Bug("a flag is a number", "measures", 'return "flag" if isinstance(value, bool) else ', "return "),
    Bug(
        "a missing value passes not",
        "measures",
        "        if value is None:\n            return False\n        return self._single",
        "        return self._single",
    ),
    Bug("all elements of a list must pass", "measures", "return any(self.accepts(element)", "return all(self.accepts(element)"),
    Bug("a window is closed at its start", "measures", "time > t - self.start", "time >= t - self.start"),
    Bug("since is open at its start", "measures", "time >= self.since", "time > self.since"),
    # conditions
    Bug(
        "did_not is did",
        "documents",
        "Did(Measure(_events(node, verb), _window(node)), NEVER)",
        "Did(Measure(_events(node, verb), _window(node)), AT_LEAST_ONE)",
    ),
    Bug("not_in is in", "documents", 'In(verb.text("the name of a segment"), member=False)', 'In(verb.text("the name of a segment"))'),
    Bug("where is not looked at", "documents", '_where(node.value.get("where"))', "()"),
    Bug("the order of names matters", "documents", 'tuple(sorted(set(verb.texts("an event name"))))', 'tuple(verb.texts("an event name"))'),
    Bug("the order of values matters", "documents", "for _, operand in sorted(found)", "for _, operand in found"),
    Bug("until is not looked at", "documents", "return Window(start, until, ", "return Window(start, 0, "),
    Bug("same is not looked at", "documents", "True, int(at_least), same, then)", "True, int(at_least), None, then)"),
    Bug("the number of steps is not looked at", "documents", "True, int(at_least), same, then)", "True, 1, same, then)"),
    Bug("an absence may outlast its window", "documents", "step.within >= window.start:", "step.within > window.start:"),
    Bug("a chain may be tied by two properties", "documents", "if tied and same and same != tied:", "if False:"),
    Bug("an aggregate needs no threshold", "documents", 'if measure.aggregate != "count" and comparison is None:', "if False:"),
    Bug("between takes its ends in any order", "documents", "if low > high:", "if False:"),
    Bug("top: 10 is ten percent", "documents", "not isinstance(node.value, bool) and 0 < node.value <= 100:", "False:"),
    Bug("more than all may be the top", "documents", "0 < Decimal(match[1]) <= 100", "0 < Decimal(match[1])"),
    Bug("deciles go to 9", "documents", '"decile", 10)', '"decile", 9)'),
    Bug("some of none is accepted", "documents", "not 1 <= n <= len(parts)", "not 0 <= n"),
    Bug(
        "the horizon is no window",
        "documents",
        "Measure(_events(node, node.value[verb]), Window(horizon), aggregate, of)",
        "Measure(_events(node, node.value[verb]), Window(), aggregate, of)",
    ),
    Bug("a condition takes every adverb", "documents", "if key != verb and key not in adverbs:", "if False:"),
    Bug(
        "two verbs are one too few",
        "documents",
        'if len(found) > 1:\n        raise ConfigError(\n            "E313"',
        'if len(found) > 2:\n        raise ConfigError(\n            "E313"',
    ),
    # English
    Bug("an absence is said as a presence", "english", '"did not do"', '"did"'),
    Bug("any is said as all", "english", 'say_list(parts, "and" if isinstance(condition, c.All) else "or")', 'say_list(parts, "and")'),
)
