"""Features: declared once, named by rule, and at as_of a function of what was visible by then."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from predseg.config import EventFeatures, Features, parse
from predseg.errors import ConfigError
from predseg.evaluate import reference
from predseg.evaluate.reference import Event
from predseg.forecast.features import FeatureSet, Ratio, block_features, block_frame, compile_features, features_at, frames
from predseg.forecast.gaps import gaps_of
from predseg.language.measures import Events, Measure, Window
from predseg.language.time import DAY, HOUR
from tests.evaluate.stories import parse_events, rule
from tests.evaluate.worlds import MOMENTS, PROPERTIES, SECOND, TICKS, random_event, random_events_of_customers, seeded, to_block, to_table

DECLARED = """
project: shop
features:
  windows: [30 days, 90 days]
  events:
    Order Completed: {value: value, distinct: [sku]}
    Product Viewed: {}
  measures:
    luxury_views_48h: {did: Product Viewed, where: {category: Luxury Watches}, within: 48 hours}
    bought_after_view: {did: Product Viewed, then: {did: Order Completed, within: 1 day, same: sku}}
  traits: [country]
"""
SHOP = compile_features(parse(DECLARED, Path("/p/predseg.yaml")).features)

SMALL = compile_features(
    Features((3 * SECOND, 8 * SECOND), (("A", EventFeatures("value", ("word",))), ("B", EventFeatures())), (("c", Measure(Events(("C",)))),))
)
"""The same kinds of columns over windows of a few ticks."""
ASKED = FeatureSet((*SMALL.columns, *((gaps.name, gaps) for gaps in gaps_of(Events(("A",)), [3 * SECOND]))))


def test_columns_are_named_by_rule_and_stand_in_this_order() -> None:
    assert SHOP.names == [
        "tenure",
        "days_since_order_completed",
        "days_since_first_order_completed",
        "gap_mean_order_completed",
        "gap_std_order_completed",
        "gap_last_order_completed",
        "count_order_completed_30d",
        "count_order_completed_90d",
        "count_order_completed",
        "sum_value_order_completed_30d",
        "sum_value_order_completed_90d",
        "sum_value_order_completed",
        "avg_value_order_completed_30d",
        "avg_value_order_completed_90d",
        "avg_value_order_completed",
        "max_value_order_completed_30d",
        "max_value_order_completed_90d",
        "max_value_order_completed",
        "distinct_sku_order_completed_30d",
        "distinct_sku_order_completed_90d",
        "distinct_sku_order_completed",
        "recency_over_gap_order_completed",
        "share_count_order_completed_30d_of_90d",
        "share_sum_value_order_completed_30d_of_90d",
        "days_since_product_viewed",
        "days_since_first_product_viewed",
        "gap_mean_product_viewed",
        "gap_std_product_viewed",
        "gap_last_product_viewed",
        "count_product_viewed_30d",
        "count_product_viewed_90d",
        "count_product_viewed",
        "recency_over_gap_product_viewed",
        "share_count_product_viewed_30d_of_90d",
        "luxury_views_48h",
        "bought_after_view",
        "trait_country",
    ]


def test_a_set_of_features_knows_what_it_reads() -> None:
    assert SHOP.properties() == {"value", "sku", "category"} and SHOP.traits == ("country",)
    assert len(SHOP.measures) == len(SHOP.names) - 1 - sum(isinstance(f, Ratio) for _, f in SHOP.columns)
    assert FeatureSet(()).properties() == set() and compile_features(Features()).names == ["tenure"]


@pytest.mark.parametrize(
    ("features", "place", "column"),
    [
        (Features(events=(("A", EventFeatures()), ("a", EventFeatures()))), "features.events.a", "count_a"),
        (Features(events=(("A", EventFeatures()),), measures=(("count_a", Measure(Events(("B",)))),)), "features.measures.count_a", "count_a"),
        (Features(measures=(("tenure", Measure(Events(("B",)))),)), "features.measures.tenure", "tenure"),
        (Features(measures=(("as_of", Measure(Events(("B",)))),)), "features.measures.as_of", "as_of"),
        (Features(measures=(("trait_country", Measure(Events(("B",)))),), traits=("country",)), "features.measures.trait_country", "trait_country"),
    ],
)
def test_two_declarations_never_share_a_column(features: Features, place: str, column: str) -> None:
    """The second would silently take the place of the first."""
    with pytest.raises(ConfigError, match=column) as caught:
        compile_features(features)
    assert caught.value.code == "E309" and caught.value.place == place and caught.value.help


def frame_of(events: str | dict[str, list[Event]], *as_of: int, features: FeatureSet = SHOP, **more: object) -> pd.DataFrame:
    histories = {"ann": parse_events(events)} if isinstance(events, str) else events
    return block_frame(to_block(histories, KINDS), as_of, features, **more)  # type: ignore[arg-type]


KINDS = {"value": PROPERTIES["value"], "sku": PROPERTIES["word"], "category": PROPERTIES["word"]}

ORDERS = """
    1970-01-11  Product Viewed  {sku: x, category: Luxury Watches}
    1970-01-11 12:00  Order Completed  {sku: x, value: 10}
    1970-03-02  Order Completed  {sku: y, value: 30.50}
    1970-03-22  Order Completed  {sku: x}
"""


def test_the_numbers_of_one_customer() -> None:
    """At day 90, counting from 0: orders at day 10.5, 60 and 80, a view at day 10."""
    [row] = frame_of(ORDERS, 90 * DAY).to_dict("records")
    assert row["customer_id"] == "ann" and row["as_of"] == 90 * DAY
    expected = {
        "tenure": 80.0,
        "days_since_order_completed": 10.0,
        "days_since_first_order_completed": 79.5,
        "gap_mean_order_completed": (49.5 + 20) / 2,
        "gap_std_order_completed": (49.5 - 20) / 2,
        "gap_last_order_completed": 20.0,
        "count_order_completed_30d": 1.0,  # the one of day 60 has just left: (60, 90]
        "count_order_completed_90d": 3.0,
        "sum_value_order_completed_30d": 0.0,
        "sum_value_order_completed": 40.5,
        "avg_value_order_completed_90d": 20.25,  # the one without a value is skipped
        "max_value_order_completed": 30.5,
        "distinct_sku_order_completed": 2.0,
        "distinct_sku_order_completed_30d": 1.0,
        "recency_over_gap_order_completed": 10 / 34.75,
        "share_count_order_completed_30d_of_90d": 1 / 3,
        "share_sum_value_order_completed_30d_of_90d": 0.0,
        "days_since_product_viewed": 80.0,
        "luxury_views_48h": 0.0,
        "bought_after_view": 1.0,
    }
    assert {name: row[name] for name in expected} == expected
    missing = {name for name, value in row.items() if value is None or value != value}
    assert missing == {
        *("avg_value_order_completed_30d", "max_value_order_completed_30d"),  # over nothing
        *("gap_mean_product_viewed", "gap_std_product_viewed", "gap_last_product_viewed", "recency_over_gap_product_viewed"),
        "trait_country",
    }


def test_a_share_of_nothing_or_of_refunds_is_missing() -> None:
    """0 of 0 is no share; neither is a part of a negative sum."""
    row = frame_of("1970-01-11  Order Completed  {value: -5}\n1970-03-02  Order Completed  {value: 5}", 90 * DAY).iloc[0]
    assert np.isnan(row["share_sum_value_order_completed_30d_of_90d"]), "5 of 0"
    row = frame_of("1970-01-11  Order Completed  {value: -9}\n1970-03-22  Order Completed  {value: 5}", 90 * DAY).iloc[0]
    assert np.isnan(row["share_sum_value_order_completed_30d_of_90d"]), "5 of -4"
    row = frame_of("1970-01-11  Product Viewed", 10**9 * SECOND).iloc[0]
    assert np.isnan(row["share_count_product_viewed_30d_of_90d"]), "0 of 0"


def test_tenure_counts_from_any_event() -> None:
    found = frame_of("1970-01-02  Newsletter\n1970-01-05  Order Completed", 1 * DAY, 2 * DAY, 10 * DAY)
    assert found["tenure"].tolist() == [0.0, 1.0, 9.0]


def test_a_row_per_known_customer_and_moment() -> None:
    """Nobody has a row before the first event is visible; moments keep the order in which they are asked."""
    histories = {"ann": parse_events("1970-01-11  A"), "bob": parse_events("1970-01-21  A  received 1970-01-31")}
    found = frame_of(histories, 20 * DAY, 10 * DAY, 9 * DAY, 29 * DAY, 30 * DAY)
    assert list(zip(found["as_of"] // DAY, found["customer_id"], strict=True)) == [(20, "ann"), (10, "ann"), (29, "ann"), (30, "ann"), (30, "bob")]
    assert found["as_of"].dtype == np.int64 and found["tenure"].tolist() == [10.0, 0.0, 19.0, 20.0, 10.0]
    assert frame_of(histories).empty and list(frame_of(histories).columns) == ["customer_id", "as_of", *SHOP.names]


def test_features_are_what_the_reference_says() -> None:
    """Every column at every tick, ratios from their parts."""
    compared = 0
    for seed in range(12):
        events = random_events_of_customers(seeded(seed))
        found = block_frame(to_block(events), MOMENTS, SMALL).set_index(["customer_id", "as_of"])
        for customer, history in events.items():
            for t in MOMENTS:
                if not any(e.visible <= t for e in history):
                    assert (customer, t) not in found.index
                    continue
                row, parts = found.loc[(customer, t)], {}
                for name, feature in SMALL.columns:
                    if isinstance(feature, Measure):
                        parts[name] = reference.measure(feature, history, t).to_float()
                for name, feature in SMALL.columns:
                    if isinstance(feature, Ratio):
                        above, below = parts[feature.numerator], parts[feature.denominator]
                        parts[name] = above / below if below > 0 else np.nan
                np.testing.assert_array_equal(
                    row[SMALL.names].to_numpy(float), [parts[name] for name in SMALL.names], f"seed {seed}, {customer} at {t}"
                )
                compared += len(parts)
    assert compared > 10_000


def test_moments_asked_together_or_alone_give_the_same_rows() -> None:
    events = random_events_of_customers(seeded(1), customers=10)
    together = block_frame(to_block(events), MOMENTS, SMALL)
    alone = pd.concat([block_frame(to_block(events), [t], SMALL) for t in MOMENTS], ignore_index=True)
    pd.testing.assert_frame_equal(together, alone)


def stored(path: Path, events: dict[str, list[Event]], files: int = 2) -> list[Path]:
    """The events table of some histories in several files, customers never split."""
    customers = np.array_split(sorted(events), files)
    found = [path / f"part-{i:05d}.parquet" for i in range(files)]
    for file, part in zip(found, customers, strict=True):
        pq.write_table(to_table({str(i): events[str(i)] for i in part}), file)
    return found


def test_what_is_not_visible_yet_changes_no_feature(tmp_path: Path) -> None:
    """The law of time, from the stored files on: appended are events after as_of, and earlier ones received after it."""
    r = seeded(3)
    events = random_events_of_customers(r, customers=20)
    as_of = 9 * SECOND
    before = pd.concat(list(frames(stored(tmp_path, events), [as_of], SMALL)), ignore_index=True)
    ahead = {
        c: [*h, replace(random_event(r, 0), time=as_of + r.randrange(1, 9)), replace(random_event(r, 0), time=r.randrange(as_of), received=as_of + 1)]
        for c, h in events.items()
    }
    ahead["newcomer"] = [replace(random_event(r, 0), time=0, received=as_of + 1)]
    after = pd.concat(list(frames(stored(tmp_path, ahead), [as_of], SMALL)), ignore_index=True)
    pd.testing.assert_frame_equal(before, after)
    at_once = pd.concat(list(frames(stored(tmp_path, ahead), [as_of + TICKS * SECOND], SMALL)), ignore_index=True)
    assert "newcomer" in set(at_once["customer_id"]), "later it does change"


def test_among_chooses_rows_and_changes_no_number(tmp_path: Path) -> None:
    """Eligibility is seen at each moment; its own properties are read too."""
    files = stored(tmp_path, random_events_of_customers(seeded(5), customers=20))
    condition = rule("{did: A, where: {flag: true}}")
    narrow = FeatureSet((("tenure", Measure(Events(), Window(), "days_since_first")),))
    everyone = pd.concat(list(frames(files, MOMENTS, narrow)), ignore_index=True)
    chosen = pd.concat(list(frames(files, MOMENTS, narrow, among=condition)), ignore_index=True)
    assert 0 < len(chosen) < len(everyone)
    pd.testing.assert_frame_equal(chosen, everyone.merge(chosen[["customer_id", "as_of"]], how="right"))
    for customer, history in random_events_of_customers(seeded(5), customers=20).items():
        mine = set(chosen.loc[chosen["customer_id"] == customer, "as_of"])
        assert mine == {t for t in MOMENTS if reference.decide(condition, history, t)}


def test_among_an_unknown_fact_is_nobody() -> None:
    """Unknown at the top is not eligible."""
    traits = pd.DataFrame({"customer_id": ["ann"], "event_time": [20 * DAY], "country": ["GB"]})
    histories = {"ann": parse_events("1970-01-11  A"), "bob": parse_events("1970-01-11  A")}
    for text, expected in {"{trait: {country: GB}}": [("ann", 20)], "{none: [{trait: {country: FR}}]}": [("ann", 20)]}.items():
        found = frame_of(histories, 15 * DAY, 20 * DAY, among=rule(text), traits=traits)
        assert list(zip(found["customer_id"], found["as_of"] // DAY, strict=True)) == expected


def test_traits_are_those_of_each_moment() -> None:
    traits = pd.DataFrame({"customer_id": ["ann", "ann"], "event_time": [12 * DAY, 20 * DAY], "country": ["GB", "FR"]})
    found = frame_of("1970-01-11  A", 11 * DAY, 12 * DAY, 20 * DAY, traits=traits)
    assert found["trait_country"].tolist() == [None, "GB", "FR"] and list(found.columns)[-1] == "trait_country"


def test_known_customers_and_matrix_of_a_block() -> None:
    known, matrix = block_features(to_block({"ann": [Event(2 * HOUR, "A", {"value": Decimal(1)})]}), [HOUR, 2 * HOUR], SMALL)
    assert known.tolist() == [[False, True]] and matrix.shape == (len(SMALL.columns), 1, 2)
    assert np.isnan(matrix[0, 0, 0]) and matrix[0, 0, 1] == 0


def test_at_moments_of_their_own_customers_have_the_features_of_everyone_at_that_moment() -> None:
    compared = 0
    for seed in range(30):
        r = seeded(seed)
        block = to_block(random_events_of_customers(r, 6))
        everyone = {t: block_frame(block, [t], ASKED).set_index("customer_id") for t in MOMENTS}
        pairs = [(str(c), t) for t in MOMENTS for c in everyone[t].index if r.random() < 0.3] + [("nobody", MOMENTS[0])]
        r.shuffle(pairs)
        found = features_at(block, np.array([c for c, _ in pairs], object), np.array([t for _, t in pairs]), ASKED)
        for (c, t), row in zip(pairs, found[ASKED.names].to_numpy(np.float64), strict=True):
            expected = np.full(len(row), np.nan) if c == "nobody" else everyone[t].loc[c, ASKED.names].to_numpy(np.float64)
            np.testing.assert_allclose(row, expected, rtol=1e-12, err_msg=f"seed {seed}, {c} at {t}")
            compared += 1
    assert compared > 300
