"""Columns as they come → ids, instants and exact numbers, a whole batch at a time.

Every reader returns the values, which of them are there, and which could not be read; nothing is raised for a bad value.

- **Ids** are text, stripped; an empty one is missing. Whole numbers of a float or decimal column lose their ``.0``.
- **Instants** are microseconds since 1970 UTC. A naive local time is read in the zone of its source: one that occurs
  twice (clocks go back) is the first of both, one that never occurs (clocks go forward) counts from before the gap, as
  `datetime` does. A date is 00:00 UTC, whatever the zone. Digits finer than a microsecond are floored.
- **Numbers** are whole ten-thousandths, rounded half-even; ±10⁹ and more is refused where they are computed with. A float means its shortest
  decimal text, so 0.1 is one tenth; digits that only floating point made are not counted as rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from predseg.language.time import DAY, to_datetime

INSTANT = pa.timestamp("us", "UTC")
EXACT = pa.decimal128(18, 4)
SCALE = 10_000
LIMIT = 10**9
"""Numbers that are computed with stay below this; others below ``WIDE``, what DECIMAL(18,4) holds."""
WIDE = 10**14
YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
"""First and last instant of the years 1 to 9999."""

_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?"
_OFFSET = r"\s?([zZ]|UTC|[+-][0-9]{2}(:?[0-9]{2})?)$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_PLAIN_NUMBER = r"^-?[0-9]{1,9}(\.[0-9]{1,4})?$"


class NaiveTimes(Exception):
    """A time without offset in a column whose zone is not known; ``example`` shows it."""

    def __init__(self, example: str) -> None:
        self.example = example
        super().__init__(example)


@dataclass(frozen=True)
class Instants:
    """Microseconds (int64, 0 where not known), which are known, which could not be read."""

    micros: np.ndarray
    known: np.ndarray
    unreadable: np.ndarray


@dataclass(frozen=True)
class Numbers:
    """Ten-thousandths (int64, 0 where not known), which are known, and per row what is wrong.

    Attributes:
        scaled: Value × 10,000; exact.
        known: Which rows have a value.
        unreadable: Not a number at all.
        infinite: NaN or infinite.
        large: 10⁹ and more.
        rounded: Kept, with fewer digits than it came with.
    """

    scaled: np.ndarray
    known: np.ndarray
    unreadable: np.ndarray
    infinite: np.ndarray
    large: np.ndarray
    rounded: np.ndarray


def flags(array: pa.Array) -> np.ndarray:
    """Return a boolean array of Arrow as NumPy, null as False."""
    return np.asarray(pc.fill_null(array, False).to_numpy(zero_copy_only=False), dtype=bool)


def present(array: pa.Array) -> np.ndarray:
    """Return which values are not null."""
    return flags(pc.is_valid(array))


# ids


def ids(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """Return ids as text (null where missing), and which were numbers too long to be exact.

    >>> texts, inexact = ids(pa.array([17850.0, float("nan"), None]))
    >>> texts.to_pylist()
    ['17850', None, None]
    """
    inexact = np.zeros(len(array), dtype=bool)
    kind = array.type
    if pa.types.is_dictionary(kind):
        array = array.cast(kind.value_type)
    if pa.types.is_floating(kind):
        array = pc.if_else(pc.is_finite(array), array, pa.scalar(None, kind))
        inexact = flags(pc.greater_equal(pc.abs(array), 2.0**53))
        array = _number_text(array)
    elif pa.types.is_decimal(kind):
        array = _number_text(array)
    text = array.cast(pa.string())
    if not _tidy(text):
        text = pc.utf8_trim_whitespace(text)
        text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    return text, inexact


def _tidy(text: pa.Array) -> bool:
    """Say whether no text is empty, and none begins or ends with what may be white space: then all stay as they are, as most do."""
    if text.null_count == len(text):
        return True
    _, ends, held = text.buffers()
    ends = np.frombuffer(ends, np.int32)[text.offset : text.offset + len(text) + 1]
    first, last = ends[:-1], ends[1:] - 1
    if text.null_count:
        first, last = first[known := present(text)], last[known]
    if (last < first).any():
        return False
    letters = np.frombuffer(held, np.uint8)
    return not any(((edge <= 32) | (edge >= 128)).any() for edge in (letters[first], letters[last]))


def _number_text(array: pa.Array) -> pa.Array:
    text = array.cast(pa.string())
    whole = pc.equal(array, pc.trunc(array))
    if pa.types.is_floating(array.type):
        safe = pc.if_else(pc.and_(whole, pc.less(pc.abs(array), 2.0**53)), array, pa.scalar(None, array.type))
        return pc.if_else(pc.is_valid(safe), safe.cast(pa.int64()).cast(pa.string()), text)
    return pc.if_else(whole, pc.replace_substring_regex(text, r"\.0*$", ""), text)


# instants


def instants(array: pa.Array, zone: str | None) -> Instants:
    """Return a column of times as instants.

    Raises:
        NaiveTimes: when a time has no offset and ``zone`` is None.
    """
    kind = array.type
    if pa.types.is_timestamp(kind):
        return _timestamps(array, zone)
    if pa.types.is_date(kind):
        days = array.cast(pa.date32()).cast(pa.int32()).cast(pa.int64())
        return _in_years(pc.multiply(days, 86_400_000_000), present(array))
    if pa.types.is_null(kind):
        nothing = np.zeros(len(array), dtype=bool)
        return Instants(np.zeros(len(array), dtype=np.int64), nothing, nothing)
    return _texts_of_times(pc.utf8_trim_whitespace(array.cast(pa.string())), zone)


def _in_years(micros: pa.Array, given: np.ndarray) -> Instants:
    values = np.asarray(pc.fill_null(micros, 0).to_numpy(zero_copy_only=False), dtype=np.int64)
    inside = given & (values >= YEARS[0]) & (values <= YEARS[1])
    return Instants(np.where(inside, values, 0), inside, given & ~inside)


def _timestamps(array: pa.Array, zone: str | None) -> Instants:
    kind = array.type
    if kind.tz is None and zone is None and array.null_count < len(array):
        raise NaiveTimes(str(pc.drop_null(array)[0].as_py()))
    ticks = array.cast(pa.int64()) if kind.tz is None else array.cast(pa.timestamp(kind.unit)).cast(pa.int64())
    per = {"s": 1_000_000, "ms": 1_000, "us": 1}.get(kind.unit)
    raw = pc.fill_null(ticks, 0).to_numpy(zero_copy_only=False)
    far = np.abs(raw) > (YEARS[1] // per if per else np.iinfo(np.int64).max - 1)
    micros = raw // 1_000 if per is None else np.where(far, YEARS[1] + 1, raw * per)
    if kind.tz is None and zone is not None:
        micros = np.where(far, micros, _localised(np.where(far, 0, micros), zone))
    return _in_years(pa.array(micros), present(array))


def _localised(micros: np.ndarray, zone: str) -> np.ndarray:
    """Return local times as instants, as `datetime` with ``fold=0`` reads them; only days on which the clocks change are read one by one."""
    where = ZoneInfo(zone)
    days = np.clip(micros // DAY, YEARS[0] // DAY, YEARS[1] // DAY)
    unique, position = np.unique(days, return_inverse=True)
    offsets = np.array([_offset(int(day) * DAY, where) for day in unique], dtype=np.int64)
    after = np.array([_offset(min((int(day) + 1) * DAY, YEARS[1]), where) for day in unique], dtype=np.int64)
    result = micros - offsets[position]
    for row in np.flatnonzero((offsets != after)[position]):
        result[row] = micros[row] - _offset(int(micros[row]), where)
    return result


def _offset(local: int, where: ZoneInfo) -> int:
    """Return what a local time is ahead of UTC, in microseconds."""
    ahead = to_datetime(local).replace(tzinfo=where).utcoffset()
    return (ahead or timedelta()) // timedelta(microseconds=1)


def _texts_of_times(text: pa.Array, zone: str | None) -> Instants:
    given = flags(pc.not_equal(text, ""))
    date = flags(pc.match_substring_regex(text, _DATE))
    offset = flags(pc.match_substring_regex(text, _TIME + _OFFSET))
    naive = flags(pc.match_substring_regex(text, _TIME + "$"))
    if zone is None and naive.any():
        raise NaiveTimes(text[int(naive.argmax())].as_py())
    micros = np.zeros(len(text), dtype=np.int64)
    read = np.zeros(len(text), dtype=bool)
    text = pc.replace_substring_regex(pc.ascii_upper(text), r"(\.[0-9]{6})[0-9]+", r"\1")
    text = pc.replace_substring_regex(text, r"\s?UTC$", "Z")
    for rows in (date, offset, naive):
        if rows.any():
            micros[rows], read[rows] = _parsed(text.filter(pa.array(rows)))
    if naive.any() and zone is not None:
        micros[naive] = _localised(micros[naive], zone)
    inside = read & (micros >= YEARS[0]) & (micros <= YEARS[1])
    return Instants(np.where(inside, micros, 0), inside, given & ~inside)


def _parsed(text: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return microseconds of ISO texts, as if UTC where they have no offset, and which are real times."""
    moments = pd.to_datetime(text.to_pandas(), format="ISO8601", utc=True, errors="coerce").dt.as_unit("us")
    valid = moments.notna().to_numpy()
    return np.where(valid, moments.astype("int64").to_numpy(), 0), valid


# numbers


def numbers(array: pa.Array, limit: int = LIMIT) -> Numbers:
    """Return a column of numbers, or of texts of numbers, as exact ten-thousandths; ``limit`` and more is large.

    >>> numbers(pa.array(["12.50", "0.00005", "many", None])).scaled.tolist()
    [125000, 0, 0, 0]
    """
    kind = array.type
    if pa.types.is_integer(kind):
        return _from_integers(array, limit)
    if pa.types.is_floating(kind):
        return _from_floats(array.cast(pa.float64()), limit)
    if pa.types.is_decimal(kind):
        return _from_decimals(array, limit)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return _from_texts(pc.utf8_trim_whitespace(array.cast(pa.string())), limit)
    given = present(array)
    return _numbers(np.zeros(len(array), dtype=np.int64), given & False, unreadable=given)


def _numbers(scaled: np.ndarray, known: np.ndarray, **wrong: np.ndarray) -> Numbers:
    none = np.zeros(len(known), dtype=bool)
    found = {name: wrong.get(name, none) for name in ("unreadable", "infinite", "large", "rounded")}
    known = known & ~found["unreadable"] & ~found["infinite"] & ~found["large"]
    return Numbers(np.where(known, scaled, 0), known, found["unreadable"], found["infinite"], found["large"], found["rounded"] & known)


def _from_integers(array: pa.Array, limit: int) -> Numbers:
    given = present(array)
    large = flags(pc.or_(pc.greater_equal(array, pa.scalar(limit, pa.int64())), pc.less_equal(array, pa.scalar(-limit, pa.int64()))))
    safe = pc.if_else(pa.array(given & ~large), array, pa.scalar(0, array.type)).cast(pa.int64())
    return _numbers(safe.to_numpy(zero_copy_only=False) * SCALE, given, large=large)


def _from_floats(array: pa.Array, limit: int) -> Numbers:
    given = present(array)
    values = np.where(given, pc.fill_null(array, 0.0).to_numpy(zero_copy_only=False), 0.0)
    infinite = ~np.isfinite(values)
    large = ~infinite & (np.abs(values) >= limit)
    values = np.where(infinite | large, 0.0, values)
    product = values * SCALE
    scaled = np.rint(product).astype(np.int64)
    noise = np.spacing(np.abs(product))
    ties = np.flatnonzero(np.abs(np.abs(product - np.floor(product)) - 0.5) <= 4 * noise)
    for i in ties:
        scaled[i] = int(_half_even(Decimal(repr(float(values[i])))) * SCALE)
    large |= np.abs(scaled) >= limit * SCALE
    return _numbers(scaled, given, infinite=infinite, large=large, rounded=np.abs(product - scaled) > np.maximum(1e-6, 64 * noise))


def _half_even(number: Decimal) -> Decimal:
    return number.quantize(Decimal("0.0001"), ROUND_HALF_EVEN)


def _from_decimals(array: pa.Array, limit: int) -> Numbers:
    given = present(array)
    if array.type.scale <= 4 and array.type.precision - array.type.scale <= 14:  # a word holds each, and nothing is rounded
        scaled = _words(array.cast(EXACT))
        return _numbers(scaled, given, large=given & (np.abs(scaled) >= limit * SCALE))
    array = array.cast(pa.decimal128(38, array.type.scale))
    large = flags(pc.greater_equal(pc.abs(array), pa.scalar(Decimal(limit))))
    array = pc.if_else(pa.array(given & ~large), array, pa.scalar(Decimal(0)).cast(array.type))
    exact = pc.round(array, 4, "half_to_even") if array.type.scale > 4 else array
    rounded = flags(pc.not_equal(exact, array))
    scaled = _words(exact.cast(pa.decimal128(38, 4)))
    large |= np.abs(scaled) >= limit * SCALE
    return _numbers(scaled, given, large=large, rounded=rounded)


def _words(array: pa.Array) -> np.ndarray:
    """Return the low 64 bits of decimals: their unscaled values when these fit."""
    whole = np.frombuffer(array.buffers()[1], dtype=np.int64)
    return whole[2 * array.offset : 2 * (array.offset + len(array)) : 2].copy()


def _from_texts(text: pa.Array, limit: int) -> Numbers:
    given = flags(pc.not_equal(text, ""))
    plain = flags(pc.match_substring_regex(text, _PLAIN_NUMBER))
    scaled = np.zeros(len(text), dtype=np.int64)
    if plain.any():
        scaled[plain] = _words(text.filter(pa.array(plain)).cast(pa.decimal128(38, 4)))
    state = np.zeros(len(text), dtype=np.int8)
    rest = np.flatnonzero(given & ~plain)
    if len(rest):
        unusual = text.take(pa.array(rest)).dictionary_encode()
        read = [_read_number(value, limit) for value in unusual.dictionary.to_pylist()]
        codes = unusual.indices.to_numpy(zero_copy_only=False)
        scaled[rest] = np.array([value for value, _ in read], dtype=np.int64)[codes]
        state[rest] = np.array([code for _, code in read], dtype=np.int8)[codes]
    return _numbers(scaled, given, unreadable=state == 1, infinite=state == 2, large=state == 3, rounded=state == 4)


def _read_number(text: str, limit: int) -> tuple[int, int]:
    """Return ten-thousandths and what is wrong: 0 nothing, 1 unreadable, 2 infinite, 3 large, 4 rounded."""
    try:
        number = Decimal(text) if text.isascii() and "_" not in text else Decimal("x")
    except InvalidOperation:
        return 0, 1
    if not number.is_finite():
        return 0, 2
    if number.adjusted() >= 15:
        return 0, 3 if number else 0
    if number.adjusted() < -6:
        return 0, 4 if number else 0
    kept = _half_even(number)
    return (int(kept * SCALE), 4 if kept != number else 0) if abs(kept) < limit else (0, 3)


def exact(numbers_: Numbers) -> pa.Array:
    """Return numbers as a DECIMAL(18,4) array, null where not known.

    >>> exact(numbers(pa.array([12.5, None]))).to_pylist()
    [Decimal('12.5000'), None]
    """
    words = np.empty((len(numbers_.scaled), 2), dtype=np.int64)
    words[:, 0] = numbers_.scaled
    words[:, 1] = numbers_.scaled >> 63
    valid = None if numbers_.known.all() else pa.array(numbers_.known).buffers()[1]
    return pa.Array.from_buffers(EXACT, len(words), [valid, pa.py_buffer(words)])


def moments(instants_: Instants) -> pa.Array:
    """Return instants as timestamps, null where not known."""
    return pa.array(instants_.micros, mask=~instants_.known).cast(INSTANT)
