"""Scores: the same for every cut into blocks, ranks in integers, reasons for every row."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg.errors import DataError, ModelError
from predseg.forecast import effects, scoring, trees
from predseg.forecast.bundle import Bundle
from predseg.forecast.effects import strongest
from predseg.forecast.forecaster import Calibration, Forecaster, encode
from predseg.forecast.reasons import Speaker
from predseg.forecast.scoring import SCHEMA, ranks, score
from tests.forecast.tiny import DECLARATIONS, FEATURES, customers, forecaster

ROWS = 60


def bundle_of(model: Forecaster) -> Bundle:
    return Bundle("shop-purchase", 7, model, DECLARATIONS, {"model": "purchase"}, "", "", False)


BUNDLE = bundle_of(forecaster())


def cut(frame: pd.DataFrame, at: list[int]) -> list[pd.DataFrame]:
    ends = [0, *sorted(at), len(frame)]
    return [frame.iloc[a:b] for a, b in zip(ends, ends[1:], strict=False)]


def bytes_of(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())


@pytest.mark.parametrize("reasons", ["exact", "quick", "auto"])
@settings(max_examples=25)
@given(at=st.lists(st.integers(0, ROWS), max_size=8), rows=st.integers(1, 70), columns=st.permutations(["customer_id", "as_of", *FEATURES]))
def test_no_cut_into_blocks_and_no_order_of_columns_changes_a_byte(reasons: scoring.Reasons, at: list[int], rows: int, columns: list[str]) -> None:
    frame = customers(ROWS, 2)
    whole = score(BUNDLE, [frame], as_of=0, reasons=reasons)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "_ROWS", rows)
        parts = score(BUNDLE, iter(cut(frame[columns], at)), as_of=0, reasons=reasons)
    assert bytes_of(parts) == bytes_of(whole)


@settings(max_examples=15)
@given(order=st.permutations(range(ROWS)))
def test_the_order_of_customers_changes_no_score(order: list[int]) -> None:
    frame = customers(ROWS, 2)
    straight, mixed = (score(BUNDLE, [f], as_of=0, reasons="quick") for f in (frame, frame.iloc[order]))
    assert mixed.sort_by("customer_id").equals(straight.sort_by("customer_id"))


def test_the_table_is_as_declared() -> None:
    found = score(BUNDLE, [customers(ROWS)], as_of=0)
    assert found.schema == SCHEMA
    assert found["customer_id"].to_pylist() == list(customers(ROWS)["customer_id"])
    assert set(found["model"].to_pylist()) == {"purchase"}
    assert set(found["model_version"].to_pylist()) == {7}
    assert [m.isoformat() for m in set(found["as_of"].to_pylist())] == ["1970-01-01T00:00:00+00:00"]
    assert found["probability"].to_numpy().tobytes() == forecaster().probability(customers(ROWS)).tobytes()
    assert not any(column.null_count for column in found.columns)


def test_the_project_may_name_the_model_itself() -> None:
    assert score(BUNDLE, [customers(3)], as_of=0, model="loyalty")["model"].to_pylist() == ["loyalty"] * 3


@given(raw=st.lists(st.sampled_from([-1.5, 0.0, 0.25, 0.5, 3.0]), max_size=40))
def test_ranks_are_their_definition_in_integers(raw: list[float]) -> None:
    percentile, decile = ranks(np.array(raw))
    n = len(raw)
    for value, p, d in zip(raw, percentile, decile, strict=True):
        higher = sum(other > value for other in raw)
        assert p == 1 - higher / n
        assert d == 1 + int(10 * Fraction(higher, n))


def test_deciles_of_exact_tenths_do_not_slip() -> None:
    for n in (10, 30, 70, 1000):
        _, decile = ranks(-np.arange(n, dtype=float))
        assert np.bincount(decile).tolist() == [0, *[n // 10] * 10]


def test_ranks_see_through_the_plateaus_of_calibration() -> None:
    flat = Forecaster(FEATURES, forecaster().boosters, forecaster().categories, calibration=Calibration("isotonic", x=(-9.0, 9.0), y=(0.5, 0.5)))
    found = score(bundle_of(flat), [customers(200)], as_of=0)
    assert set(found["probability"].to_pylist()) == {0.5}
    assert set(found["decile"].to_pylist()) == set(range(1, 11))


def test_every_row_has_up_to_three_reasons_from_the_contributions() -> None:
    frame, model = customers(50, 3), forecaster()
    found = score(BUNDLE, [frame], as_of=0, reasons="exact")["reasons"].to_pylist()
    matrix = encode(frame, model.features, model.categories)
    features, sizes = strongest(model.contributions(frame))
    wanted = Speaker(model, DECLARATIONS).say(np.take_along_axis(matrix, features, axis=1), features, sizes).to_pylist()
    assert found == wanted
    assert all(1 <= len(reasons) <= 3 for reasons in found)
    assert all(reason.endswith((" raises it", " lowers it", " raise it", " lower it")) for reasons in found for reason in reasons)
    assert len({tuple(r) for r in found}) > 10


def test_a_wish_for_no_reasons_is_kept() -> None:
    assert score(BUNDLE, [customers(5)], as_of=0, reasons="none")["reasons"].to_pylist() == [[]] * 5


def test_the_table_has_the_same_bytes_when_the_loops_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    frame = customers(700, 5)
    wanted = score(bundle_of(forecaster(leaves=7)), [frame], as_of=0, reasons="quick")
    monkeypatch.setattr(trees, "PAYS", 0)
    monkeypatch.setattr(trees, "FEW", 0)
    bundle = bundle_of(replace(forecaster(leaves=7)))
    score(bundle, [frame[:300]], as_of=0, reasons="none")
    monkeypatch.setattr(effects, "quick_contributions", None)
    assert bytes_of(score(bundle, [frame], as_of=0, reasons="quick")) == bytes_of(wanted)


@pytest.mark.parametrize("rows", [1, 7, 30, ROWS, 10 * ROWS])
def test_chunks_of_the_table_do_not_follow_the_blocks(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(scoring, "_SPOKEN", rows)
    frame = customers(ROWS, 2)
    for blocks in ([frame], cut(frame, [1, 20, 20, 50])):
        found = score(BUNDLE, blocks, as_of=0, reasons="quick")
        assert [len(chunk) for chunk in found["reasons"].chunks] == [len(frame[i : i + rows]) for i in range(0, ROWS, rows)]
        assert bytes_of(found) == bytes_of(score(BUNDLE, [frame], as_of=0, reasons="quick"))


def test_auto_is_exact_while_that_is_cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = customers(ROWS, 2)
    exact, quick = (score(BUNDLE, [frame], as_of=0, reasons=how) for how in ("exact", "quick"))
    assert not exact.equals(quick)
    assert score(BUNDLE, cut(frame, [20, 40]), as_of=0).equals(exact)
    work = scoring.exact_work(BUNDLE.forecaster)
    for rows, wanted in ((ROWS, exact), (ROWS - 1, quick)):
        monkeypatch.setattr(scoring, "EXACT_WORK", rows * work)
        assert score(BUNDLE, cut(frame, [20, 40]), as_of=0).equals(wanted)


def test_auto_holds_no_more_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless stream of blocks must be read as scores are written, not before."""
    monkeypatch.setattr(scoring, "EXACT_WORK", 0.0)
    monkeypatch.setattr(scoring, "_SPOKEN", 1)
    monkeypatch.setattr(scoring, "_ROWS", 10)
    pulled = 0

    def blocks():  # type: ignore[no-untyped-def]
        nonlocal pulled
        for i in range(50):
            pulled = i + 1
            yield customers(10, i)

    parts = scoring._parts(BUNDLE, blocks(), 0, "auto")
    next(parts)
    assert pulled <= 5
    parts.close()


def test_a_customer_never_seen_is_scored() -> None:
    """No history to speak of, a country that training never saw."""
    newcomer = pd.DataFrame({"customer_id": ["new"], **{name: [np.nan] for name in FEATURES[:4]}, "trait_country": ["Atlantis"]})
    [row] = score(BUNDLE, [newcomer], as_of=0).to_pylist()
    assert 0 < row["probability"] < 1
    assert (row["percentile"], row["decile"]) == (1.0, 1)
    assert row["reasons"]


@pytest.mark.parametrize("frames", [[], [customers(0)]])
@pytest.mark.parametrize("reasons", ["auto", "none"])
def test_nobody_to_score_is_an_empty_table(frames: list[pd.DataFrame], reasons: scoring.Reasons) -> None:
    found = score(BUNDLE, frames, as_of=0, reasons=reasons)
    assert (found.num_rows, found.schema) == (0, SCHEMA)


def test_features_that_do_not_fit_are_named() -> None:
    frame = customers(5).rename(columns={"count_order_completed_90d": "count_order_completed_60d"})
    with pytest.raises(ModelError) as caught:
        score(BUNDLE, [frame], as_of=0)
    assert (caught.value.code, caught.value.exit_code) == ("E710", 7)
    assert "count_order_completed_90d" in caught.value.message
    assert "count_order_completed_60d" in caught.value.message


def test_a_customer_twice_is_refused_also_across_blocks() -> None:
    with pytest.raises(DataError) as caught:
        score(BUNDLE, [customers(5), customers(1)], as_of=0)
    assert caught.value.code == "E430"
    assert "'c000000'" in caught.value.message


def test_a_row_without_customer_is_refused() -> None:
    with pytest.raises(DataError, match="E430"):
        score(BUNDLE, [customers(2).assign(customer_id=["a", None])], as_of=0)


def test_rows_of_another_moment_are_refused() -> None:
    with pytest.raises(DataError) as caught:
        score(BUNDLE, [customers(5).assign(as_of=[0, 0, 86_400_000_000, 0, 0])], as_of=0)
    assert caught.value.code == "E431"
    assert "1 rows are of 1970-01-02" in caught.value.message
