"""Scores: the probability, the rank and the reasons of every customer, block by block.

A block's rows are aligned with the model by column name and answered one by one, so that no cut into blocks changes a
bit. Only ranks need everyone: they are taken at the end, on the uncalibrated output, in integers.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from predseg.errors import DataError
from predseg.evaluate.ahead import ahead
from predseg.forecast.effects import Quick, exact_work, strongest
from predseg.forecast.forecaster import Array, Forecaster
from predseg.forecast.reasons import Speaker
from predseg.language.time import say_instant

if TYPE_CHECKING:
    import pandas as pd

    from predseg.forecast.bundle import Bundle

SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("as_of", pa.timestamp("us", "UTC")),
        ("model", pa.string()),
        ("model_version", pa.int64()),
        ("probability", pa.float64()),
        ("percentile", pa.float64()),
        ("decile", pa.int64()),
        ("reasons", pa.list_(pa.string())),
    ]
)
"""The scores table; its key is customer_id, as_of, model."""

Reasons = Literal["auto", "exact", "quick", "none"]
Explain = Callable[["pd.DataFrame", Array], tuple[Array, Array, Array]]
"""Makes of a frame, and its rows as they are given to the trees, their uncalibrated output, and the strongest features and what these add."""
Seen = Callable[["pd.DataFrame", Array, Array], None]
"""Is shown a frame, its rows as they are given to the trees, and their uncalibrated output."""
EXACT_WORK = 5e8
"""Exact reasons while their cost stays below this (see `exact_work`): about six seconds on two cores."""
_ROWS = 16_384
_SPOKEN = 1 << 17
_THREADS = 2
"""One part is in the trees, which have threads of their own, the other in NumPy."""


def score(
    bundle: Bundle,
    frames: Iterable[pd.DataFrame],
    *,
    as_of: int,
    model: str | None = None,
    reasons: Reasons = "auto",
    each: Each | None = None,
    seen: Seen | None = None,
) -> pa.Table:
    """Return the scores of all customers of the frames, in their order: a table of `SCHEMA`, one row per customer.

    A customer never seen in training is scored like any other.

    Args:
        bundle: The model.
        frames: Blocks of rows with ``customer_id`` and the features; other columns are ignored.
        as_of: The moment of the features (microseconds).
        model: Its name in the project; by default what the bundle's facts say.
        reasons: ``auto`` takes the exact contributions for as many rows as six seconds allow (some ten thousand rows of
            shallow trees) and the quick ones for more (see `predseg.forecast.reasons`); ``exact``, ``quick`` or ``none``
            decide it.
        each: Answers the same frames where they are computed, when that is not here: see `predseg.forecast.dataset.Source.each`.
            Those whose exact reasons are few enough are still answered here.
        seen: Shown the rows, as they are given to the trees, and their uncalibrated output, on any thread and in any order.

    Raises:
        ModelError: E710 naming the missing and the extra features, E711 when one is not a number.
        DataError: E430 when a customer comes twice, E431 when rows are of another moment.
    """
    parts = list(_parts(bundle, frames, as_of, reasons, each, seen))
    customers = pa.chunked_array([customer for customer, _, _ in parts], pa.string())
    _check_once(customers)
    raw = np.concatenate([np.zeros(0), *(raw for _, raw, _ in parts)])
    percentile, decile = ranks(raw)
    columns = {
        "customer_id": customers,
        "as_of": pa.repeat(pa.scalar(as_of, pa.timestamp("us", "UTC")), len(raw)),
        "model": pa.repeat(pa.scalar(model or str(bundle.facts.get("model", bundle.name)), pa.string()), len(raw)),
        "model_version": pa.repeat(pa.scalar(bundle.version, pa.int64()), len(raw)),
        "probability": bundle.forecaster.calibrate(raw),
        "percentile": percentile,
        "decile": decile,
        "reasons": pa.chunked_array([said for _, _, said in parts], SCHEMA.field("reasons").type),
    }
    return pa.table(columns, schema=SCHEMA)


def ranks(raw: Array) -> tuple[Array, Array]:
    """Return percentile and decile of each of N outputs: with h of them strictly higher, 1 − h/N and 1 + floor(10h/N).

    Equal outputs get equal ranks; the highest has percentile 1.0 and decile 1.

    >>> [r.tolist() for r in ranks(np.array([0.5, 2.0, 0.5, -1.0]))]
    [[0.75, 1.0, 0.75, 0.25], [3, 1, 3, 8]]
    """
    n = len(raw)
    if not n:
        return np.zeros(0), np.zeros(0, np.int64)
    order = np.argsort(raw)
    last = np.append(np.flatnonzero(np.diff(raw[order])), n - 1)  # of each run of equal outputs
    higher = np.empty(n, np.int64)
    higher[order] = np.repeat(n - 1 - last, np.diff(last, prepend=-1))
    return 1 - higher / n, 1 + 10 * higher // n


def _parts(
    bundle: Bundle, frames: Iterable[pd.DataFrame], as_of: int, reasons: Reasons, each: Each | None = None, seen: Seen | None = None
) -> Iterator[tuple[pa.Array, Array, pa.Array]]:
    """Yield customers, uncalibrated output and reasons of `_SPOKEN` rows at a time: far below the 2 GB that a chunk of texts may hold, and the same however frames are cut."""
    forecaster = bundle.forecaster
    if reasons == "auto":
        exact, frames = _hold(frames, EXACT_WORK / max(1.0, exact_work(forecaster)))
        reasons = "exact" if exact else "quick"
    answer = partial(_answer, forecaster, {"exact": _exact, "quick": _quick, "none": _none}[reasons](forecaster), seen=seen)
    answers = ahead(answer, _cut(frames, as_of), _THREADS)
    if each is not None and reasons != "exact":
        answers = chain.from_iterable(each(lambda frame: list(map(answer, _cut([frame], as_of)))))
    speaker = Speaker(forecaster, bundle.declarations)
    for part in _gather(answers):
        yield part.customers, part.raw, speaker.say(*part.why)


def _exact(forecaster: Forecaster) -> Explain:
    return lambda frame, matrix: (forecaster.raw_matrix(matrix), *strongest(forecaster.contributions(frame)))


def _quick(forecaster: Forecaster) -> Explain:
    quick = Quick(forecaster)
    return lambda _, matrix: quick(matrix)


def _none(forecaster: Forecaster) -> Explain:
    return lambda _, matrix: (forecaster.raw_matrix(matrix), *strongest(np.zeros((len(matrix), 0))))


def _cut(frames: Iterable[pd.DataFrame], as_of: int) -> Iterator[pd.DataFrame]:
    """Yield the rows of the frames in parts of `_ROWS` or a few more: what is done column by column is done as often as there are parts."""
    import pandas as pd

    held: list[pd.DataFrame] = []
    for frame in frames:
        _check_moment(frame, as_of)
        for start in range(0, len(frame), _ROWS):
            held.append(frame.iloc[start : start + _ROWS])
            if sum(map(len, held)) >= _ROWS:
                yield pd.concat(held, ignore_index=True) if len(held) > 1 else held[0]
                held = []
    if held:
        yield pd.concat(held, ignore_index=True)


def _gather(parts: Iterator[_Part]) -> Iterator[_Part]:
    """Put rows together to parts of `_SPOKEN`, the last one less: equal values are then found together, and said once."""
    held: list[_Part] = []
    for part in parts:
        held.append(part)
        while (more := sum(len(p.raw) for p in held) - _SPOKEN) >= 0:
            yield _joined([*held[:-1], held[-1][: len(held[-1].raw) - more]])
            held = [held[-1][len(held[-1].raw) - more :]] if more else []
    if held:
        yield _joined(held)


def _hold(frames: Iterable[pd.DataFrame], limit: float) -> tuple[bool, Iterable[pd.DataFrame]]:
    """Return whether all frames together have at most ``limit`` rows, and the frames; no more than that is held in memory."""
    held: list[pd.DataFrame] = []
    rows, coming = 0, iter(frames)
    for frame in coming:
        held.append(frame)
        rows += len(frame)
        if rows > limit:
            return False, chain(held, coming)
    return True, held


@dataclass(frozen=True, eq=False)
class _Part:
    """A few thousand rows, answered; ``why``: the values, the features and the sizes of the strongest contributions."""

    customers: pa.Array
    raw: Array
    why: tuple[Array, Array, Array]

    def __getitem__(self, rows: slice) -> _Part:
        return _Part(self.customers[rows], self.raw[rows], tuple(column[rows] for column in self.why))  # type: ignore[arg-type]

    def without(self, people: Container[str]) -> _Part:
        """Return the part without the rows of some customers."""
        kept = np.array([customer not in people for customer in self.customers.to_pylist()], bool)
        return self if kept.all() else _Part(self.customers.filter(pa.array(kept)), self.raw[kept], tuple(column[kept] for column in self.why))


def _joined(parts: Sequence[_Part]) -> _Part:
    values, features, sizes = (np.concatenate(column) for column in zip(*(part.why for part in parts), strict=True))
    return _Part(pa.concat_arrays([part.customers for part in parts]), np.concatenate([part.raw for part in parts]), (values, features, sizes))


Each = Callable[[Callable[["pd.DataFrame"], list[_Part]]], Iterable[list[_Part]]]
"""Answers frames where they are computed: gives what its argument makes of each."""


def _answer(forecaster: Forecaster, explain: Explain, frame: pd.DataFrame, seen: Seen | None = None) -> _Part:
    matrix = forecaster.encode(frame)
    customers = pa.array(frame["customer_id"], pa.string(), from_pandas=True)
    if isinstance(customers, pa.ChunkedArray):
        customers = customers.combine_chunks()
    raw, features, sizes = explain(frame, matrix)
    if seen is not None:
        seen(frame, matrix, raw)
    return _Part(customers, raw, (np.take_along_axis(matrix, features, axis=1), features, sizes))


def _check_moment(frame: pd.DataFrame, as_of: int) -> None:
    if "as_of" in frame.columns and len(frame) and (other := frame["as_of"].to_numpy() != as_of).any():
        found = say_instant(int(frame["as_of"].to_numpy()[other][0]))
        raise DataError(
            "E431",
            "features.as_of",
            f"{int(other.sum())} rows are of {found}, scores are of {say_instant(as_of)}",
            "compute the features at that moment",
        )


def _check_once(customers: pa.ChunkedArray) -> None:
    if not customers.null_count and (_ascending(customers) or pc.count_distinct(customers).as_py() == len(customers)):
        return
    counts = pc.value_counts(customers)
    twice = [row["values"] for row in counts.filter(pc.greater(counts.field("counts"), 1)).slice(0, 3).to_pylist()]
    message = f"a customer has one row, but {', '.join(map(repr, twice))} have more" if twice else "a row has no customer"
    raise DataError("E430", "features.customer_id", message, "give each customer's features at one moment, once")


def _ascending(customers: pa.ChunkedArray) -> bool:
    """Whether each customer comes after the one before, as those of stored events do: four times as fast as counting them."""
    return pc.all(pc.less(customers[:-1], customers[1:])).as_py() is not False
