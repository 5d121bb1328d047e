"""Properties of several kinds in SQL and in Arrow: how values come into a column of texts that says of each of which kind it is.

How they are spelled there is said by `predseg.language.spelling`. On their way into the table numbers stand as they were written; `tidy`
spells them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from predseg.columns import field_of
from predseg.engine import literal
from predseg.history import values
from predseg.language.spelling import NUMBER, READ, TAKEN, spelled

MIXED = "MIXED"
"""The type of a column of a source whose values are of several kinds."""
JSON = "MIXED JSON"
"""The same where they are of JSON, which says of each of which kind it is."""
ITEMS = "JSON[]"
"""The type of a column of JSON that has lists of more than texts: lists of texts as well, but for a query, which sees their JSON."""
_WHOLE = r"^(0|-?[1-9][0-9]{0,18})$"
"""Whole numbers, which stand as they are."""
_SPACES = " \t\n\r\v\f"
"""What may stand around a number in a text file."""
CODE = r"\s*\+?[0-9A-Za-z_./:-]*[0-9][0-9A-Za-z_./:-]*\s*"
"""A text that makes a column of numbers in a file without types one of codes, which are texts: ``00123``, ``85123A``, but not ``n/a`` or ``12 EUR``."""


def field(name: str) -> pa.Field:
    """Return the column of a table that holds values of several kinds."""
    return field_of(name, pa.string(), mixed=True)


def column(values_: Any, already: bool = False) -> list[str | None]:
    """Return the values of a column, of one kind or of several ``already``, as they stand in one of several."""
    found = values_.to_pylist()
    return found if already else [spelled(tuple(v) if isinstance(v, list) else v) for v in found]


def of_text(text: str) -> str:
    """Return the SQL of a text as it stands in the column."""
    return f"case when regexp_full_match({text}, {literal(TAKEN)}, 'is') then '''' || {text} else {text} end"


def of_untyped(text: str, fits: str) -> str:
    """Return the SQL of a value of a file without types; ``fits`` says whether it is a number."""
    flag = f"lower(trim({text})) in ('true', 'false')"
    return f"case when {fits} then trim({text}, {literal(_SPACES)}) when {flag} then lower(trim({text})) else {of_text(text)} end"


def of_json(value: str) -> str:
    """Return the SQL of a value of JSON, which is of its own kind, whatever stands beside it; elements of lists and whole numbers of too many digits are texts."""
    kind, plain = f"json_type({value})", f"({value} ->> '$')"
    number = f"{kind} in ('UBIGINT', 'BIGINT', 'HUGEINT', 'DOUBLE') and (not regexp_full_match({plain}, '-?[0-9]+') or try_cast({plain} as bigint) is not null)"
    parts = [
        f"when {kind} is null or {kind} = 'NULL' then null",
        f"when {number} or {kind} = 'BOOLEAN' then {plain}",
        f"when {kind} = 'ARRAY' then to_json(json_extract_string({value}, '$[*]'))::varchar",
    ]
    return f"case {' '.join(parts)} else {of_text(plain)} end"


def of_kind(column: str, kind: str) -> str:
    """Return the SQL of a column of one kind, or of several already, as one of several."""
    if kind == "text":
        return of_text(column)
    return f"to_json({column})::varchar" if kind == "list" else f"{column}::varchar"


def plain(column: str) -> str:
    """Return the SQL of the values as texts, as they would be in a column of texts."""
    return f"case when starts_with({column}, '''') then substr({column}, 2) else {column} end"


def json_sql(column: str) -> str:
    """Return the SQL of the values as canonical JSON: the same as of columns of one kind each."""
    other = f"{column} in ('true', 'false') or starts_with({column}, '[') or regexp_full_match({column}, {literal(NUMBER)})"
    return f"case when {other} then {column} else to_json({plain(column)})::varchar end"


def json_as_written(column: str) -> str:
    """Return the SQL of the values as JSON before their numbers are tidy."""
    number = f"regexp_full_match({column}, {literal(READ)})"
    odd = f"{number} and not regexp_full_match({column}, {literal(NUMBER)})"
    return f"case when {column} is null then null when {odd} then to_json({column}::double) else ({json_sql(column)})::json end"


def tidy(column: pa.Array) -> tuple[pa.Array, np.ndarray, np.ndarray]:
    """Return the values with their numbers as they are spelled; which are 10^14 or more, and which lost digits."""
    number = values.flags(pc.match_substring_regex(column, f"^({READ})$"))
    odd = np.flatnonzero(number & ~values.flags(pc.match_substring_regex(column, _WHOLE)))
    large, rounded = np.zeros(len(column), bool), np.zeros(len(column), bool)
    if not len(odd):
        return column, large, rounded
    found = values.numbers(column.take(pa.array(odd)), values.WIDE)
    large[odd], rounded[odd] = found.large, found.rounded
    mask = np.zeros(len(column), bool)
    mask[odd] = True
    plainly = pc.replace_substring_regex(values.exact(found).cast(pa.string()), r"\.?0+$", "")
    return pc.replace_with_mask(column, pa.array(mask), plainly), large, rounded
