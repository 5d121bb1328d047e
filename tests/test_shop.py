from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from scipy import stats

from predseg import config
from predseg.errors import UsageError
from predseg.language.time import DAY, HOUR, MINUTE, parse_instant
from predseg.shop import KINDS, Kind, Shop, simulate, true_probability, write
from predseg.shop.clock import make_clock
from predseg.shop.files import APP_NAMES

START = parse_instant("2024-06-01")


@pytest.fixture(scope="module")
def shop() -> Shop:
    return simulate(customers=5000, seed=0)


@pytest.fixture(scope="module")
def events(shop: Shop) -> pd.DataFrame:
    frame = shop.events.drop_columns("products").to_pandas()
    frame["cents"] = (frame.value.astype(float) * 100).round()
    return frame.sort_values(["event_time", "received_at"], kind="stable")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Shop]:
    path = tmp_path_factory.mktemp("demo")
    return path, write(path, customers=1500, days=200, seed=4)


# the same bytes


def digests(path: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted((path / "data").iterdir())}


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write(tmp_path / name, customers=150, days=90, seed=seed)
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert sorted(a) == ["app.jsonl", "customers.parquet", "events.parquet", "truth.parquet"]
    assert a == b
    assert all(a[name] != c[name] for name in a)


def test_customers_of_a_full_block_do_not_depend_on_how_many_follow() -> None:
    few, many = (simulate(customers=n, days=60, seed=2, kind="gifts").truth for n in (4096, 4500))
    assert many.slice(0, 4096).equals(few)
    assert many.slice(0, 404)["conversion"].to_pylist() != many.slice(4096, 404)["conversion"].to_pylist()


# what the tables look like


def test_schema_of_the_events(shop: Shop) -> None:
    text, money, instant = pa.string(), pa.decimal128(18, 4), pa.timestamp("us", tz="UTC")
    columns = dict.fromkeys(("customer_id", "anonymous_id", "event"), text)
    columns |= {"event_time": instant, "received_at": instant, "value": money, "event_id": text, "order_id": text, "product_id": text}
    columns |= {"category": text, "brand": text, "price": money, "quantity": pa.int64(), "products": pa.list_(text)}
    columns |= dict.fromkeys(("campaign", "coupon", "source", "device"), text)
    assert shop.events.schema.equals(pa.schema(list(columns.items())))
    shop.events.validate(full=True)
    never = ("event", "event_time", "received_at", "event_id")
    assert all(shop.events[name].null_count == 0 for name in never)


def test_the_numbers_of_the_default_shop(shop: Shop, events: pd.DataFrame) -> None:
    assert shop.customers.num_rows == shop.truth.num_rows == 5000
    assert 700_000 < shop.events.num_rows < 1_000_000
    share = events.event.value_counts(normalize=True)
    bounds = {
        "Product Viewed": (0.58, 0.68), "Email Delivered": (0.12, 0.17), "Product Added": (0.08, 0.12), "Checkout Started": (0.04, 0.055),
        "Email Opened": (0.03, 0.045), "Order Completed": (0.025, 0.035), "Email Link Clicked": (0.005, 0.01), "Signed Up": (0.005, 0.008),
        "Order Refunded": (0.0012, 0.003), "Unsubscribed": (0.0001, 0.0005),
    }  # fmt: skip
    assert set(share.index) == set(bounds)
    assert {name: share[name] for name, (low, high) in bounds.items() if not low < share[name] < high} == {}


def test_events_arrive_in_order_after_they_happened_and_before_the_export(shop: Shop) -> None:
    happened, arrived = (shop.events[name].cast(pa.int64()).to_numpy() for name in ("event_time", "received_at"))
    assert (arrived >= happened).all()
    assert (np.diff(arrived) >= 0).all()
    assert happened.min() >= shop.start
    assert shop.end - HOUR * 3 < arrived.max() <= shop.end
    assert pc.count_distinct(shop.events["event_id"]).as_py() == shop.events.num_rows


def test_only_the_app_and_emails_are_late_and_only_a_few_percent_of_them(events: pd.DataFrame) -> None:
    lag = events.received_at - events.event_time
    late = lag > pd.Timedelta(minutes=3)
    slow = (events.device == "app") | events.event.str.startswith("Email") | (events.event == "Unsubscribed")
    assert not late[~slow].any()
    assert 0.02 < late[slow].mean() < 0.08
    assert pd.Timedelta(days=2) < lag.max() < pd.Timedelta(days=5)


def test_traits_and_the_moment_of_signing_up(shop: Shop, events: pd.DataFrame) -> None:
    customers = shop.customers.to_pandas().set_index("id")
    assert list(customers.columns) == ["country", "tier", "signed_up", "birth_years", "channel"]
    assert not customers.isna().any().any()
    signed = events[events.event == "Signed Up"].set_index("customer_id").event_time
    assert signed.index.is_unique
    assert (signed.reindex(customers.index) == customers.signed_up).all()
    gold = (customers.tier == "gold").to_numpy()
    assert gold[np.array(shop.truth["group"].to_pylist()) == "collector"].mean() > gold.mean() + 0.1


# the laws of journeys


def test_orders_follow_their_checkout_and_cost_what_was_in_the_cart(shop: Shop, events: pd.DataFrame) -> None:
    asked = events[events.event.isin(["Checkout Started", "Order Completed"])].sort_values(["customer_id", "event_time"], kind="stable")
    before = asked.shift(1)
    order = asked.event == "Order Completed"
    pairs = order & (before.event == "Checkout Started") & (before.customer_id == asked.customer_id)
    assert pairs.sum() > 0.999 * order.sum()  # two sessions of a customer may overlap
    off = np.where(asked.coupon.notna(), before.cents // 10, 0)
    assert ((before.cents - off == asked.cents) | ~pairs)[pairs].mean() > 0.999
    assert (asked.event_time - before.event_time)[pairs].between(pd.Timedelta(0), pd.Timedelta(hours=6), inclusive="right").all()
    orders = shop.events.filter(pc.equal(shop.events["event"], "Order Completed"))
    assert pc.min(orders["value"]).as_py() > 0
    assert pc.min(pc.list_value_length(orders["products"])).as_py() == 1
    assert pc.max(pc.list_value_length(orders["products"])).as_py() > 5
    assert all(main in lines for main, lines in zip(orders["product_id"].to_pylist(), orders["products"].to_pylist(), strict=True))
    assert shop.events["products"].null_count == shop.events.num_rows - len(orders)


def test_order_numbers_count_up_in_time_and_belong_to_one_order(events: pd.DataFrame) -> None:
    number = events[events.event == "Order Completed"].order_id.astype(int)
    assert number.is_unique
    assert number.is_monotonic_increasing
    assert set(events[events.order_id.notna()].event) == {"Order Completed", "Order Refunded"}


def test_refunds_come_after_their_order_and_give_back_no_more_than_it_cost(events: pd.DataFrame) -> None:
    orders = events[events.event == "Order Completed"].set_index("order_id")
    refunds = events[events.event == "Order Refunded"]
    paid = orders.loc[refunds.order_id]
    assert refunds.order_id.is_unique
    assert (paid.customer_id.to_numpy() == refunds.customer_id.to_numpy()).all()
    assert (refunds.event_time.to_numpy() - paid.event_time.to_numpy() >= np.timedelta64(1, "D")).all()
    assert ((refunds.cents.to_numpy() > 0) & (refunds.cents.to_numpy() <= paid.cents.to_numpy())).all()
    assert 0.5 < (refunds.cents.to_numpy() == paid.cents.to_numpy()).mean() < 1


def test_no_answer_without_a_delivery_and_no_delivery_after_an_unsubscription(events: pd.DataFrame) -> None:
    mail = events[events.event.str.startswith("Email") | (events.event == "Unsubscribed")]
    key = ["customer_id", "campaign"]
    settled = mail[mail.event_time < events.received_at.max() - pd.Timedelta(days=5)]  # later deliveries may not have arrived
    times = settled.pivot_table(index=key, columns="event", values="event_time", aggfunc=["min", "size"])
    first = times["min"]
    assert (first["Email Delivered"] < first["Email Opened"])[first["Email Opened"].notna()].all()
    assert (first["Email Opened"] < first["Email Link Clicked"])[first["Email Link Clicked"].notna()].all()
    assert (first["Email Opened"] < first["Unsubscribed"])[first["Unsubscribed"].notna()].all()
    assert (times["size"].max() == 1).all()
    left = mail[mail.event == "Unsubscribed"].groupby("customer_id").event_time.agg(["max", "size"])
    assert (left["size"] == 1).all()
    delivered = mail[mail.event == "Email Delivered"]
    after = delivered.event_time > delivered.customer_id.map(left["max"])
    assert len(left) > 100
    assert not after.any()
    assert mail[mail.event == "Email Opened"].event_time.max() > delivered.event_time.max() - pd.Timedelta(days=14)


def test_every_account_is_linked_to_its_visitors_and_no_visitor_to_two(events: pd.DataFrame) -> None:
    both = events[events.customer_id.notna() & events.anonymous_id.notna()]
    assert both.groupby("anonymous_id").customer_id.nunique().max() == 1
    assert both.customer_id.nunique() == 5000
    assert both.groupby("customer_id").anonymous_id.nunique().max() == 2
    owner = both.groupby("anonymous_id").customer_id.first()
    hidden = events[events.customer_id.isna()]
    assert hidden.anonymous_id.notna().all()
    joined = hidden.anonymous_id.isin(owner.index)
    assert 0.05 < (~joined).mean() < 0.5, "some visitors never sign up, most do"
    assert hidden[~joined].event.isin(["Product Viewed", "Product Added"]).all()
    signed = events[events.event == "Signed Up"].set_index("customer_id").event_time
    before = hidden[joined].event_time < hidden[joined].anonymous_id.map(owner).map(signed)
    assert 0.2 < before.mean() < 0.95, "visitors look around before they sign up, and come back without logging in"
    named = events[events.customer_id.notna()]
    assert (named.event_time >= named.customer_id.map(signed)).all()


def test_repeat_purchases_and_carts_stay_in_line_with_the_figures_of_the_docstring(events: pd.DataFrame) -> None:
    orders = events[events.event == "Order Completed"]
    end = events.event_time.max()
    year = orders[orders.event_time > end - pd.Timedelta(days=374)]
    count = year.groupby("customer_id").size()
    assert 3.7 < count.mean() < 4.7
    assert 0.62 < (count > 1).mean() < 0.76
    first = orders.groupby("customer_id").event_time.min()
    after = orders.event_time - orders.customer_id.map(first)
    for days, low, high in ((30, 0.20, 0.30), (90, 0.45, 0.57), (180, 0.62, 0.74)):
        seen = first.index[first <= end - pd.Timedelta(days=days)]
        again = orders[(after > pd.Timedelta(0)) & (after <= pd.Timedelta(days=days))].customer_id.unique()
        assert low < np.isin(seen, again).mean() < high
    visits = events[events.anonymous_id.notna() & events.event.isin(["Product Viewed", "Product Added"])].sort_values(["anonymous_id", "event_time"])
    opens = (visits.anonymous_id != visits.anonymous_id.shift()) | (visits.event_time.diff() > pd.Timedelta(minutes=30))
    visits["visit"] = opens.cumsum()
    adds = visits[visits.event == "Product Added"].groupby("visit").event_time.agg(["min", "size"])
    waited = (adds["min"] - visits.groupby("visit").event_time.min().loc[adds.index]).dt.total_seconds() / 60
    assert 0.6 < waited.median() < 2.2
    assert 7 < waited.quantile(0.9) < 20
    assert 1.25 < adds["size"].mean() < 1.7
    value = orders.cents / 100
    assert value.quantile(0.99) > 12 * value.median()


def test_somebody_is_rich_in_love_with_watches_and_about_to_churn(shop: Shop, events: pd.DataFrame) -> None:
    as_of = events.received_at.max()
    mine = events[events.customer_id.notna()]
    age = as_of - mine.event_time

    def who(chosen: pd.Series) -> set[str]:
        return set(mine[chosen].customer_id)

    spent = mine[(mine.event == "Order Completed") & (age < pd.Timedelta(days=180))].groupby("customer_id").cents.sum()
    looked = who((mine.event == "Product Viewed") & (mine.category == "Luxury Watches") & (age < pd.Timedelta(hours=48)))
    last = mine[mine.event.isin(["Product Added", "Order Completed"])].groupby("customer_id")[["event_time", "event"]].last()
    waited = as_of - last.event_time
    left = set(last.index[(last.event == "Product Added") & (waited >= pd.Timedelta(hours=24)) & (waited < pd.Timedelta(days=3))])
    stay = pd.Series(true_probability(shop.truth, shop.end, 90 * DAY, "history"), shop.truth["customer_id"].to_pylist())
    stay = stay[list(who((mine.event == "Order Completed") & (age < pd.Timedelta(days=365))))]
    churning = set(stay.index[stay <= stay.quantile(0.1)])
    members = set(spent.index[spent > 500_000]) & looked & left & churning
    assert len(members) >= 3


# the truth


def futures(shop: Shop, as_of: int, horizon: int) -> np.ndarray:
    orders = shop.events.filter(pc.equal(shop.events["event"], "Order Completed"))
    time = orders["event_time"].cast(pa.int64()).to_numpy()
    bought = orders.filter(pa.array((time > as_of) & (time <= as_of + horizon)))["customer_id"]
    return pc.is_in(shop.truth["customer_id"], pc.unique(bought)).to_numpy().astype(float)


def deviation(p: np.ndarray, y: np.ndarray, groups: int) -> list[float]:
    """Standard deviations between what happened and what was expected, over all and within equal shares of rising probability."""
    order = np.argsort(p, kind="stable")
    parts = [part for part in [order, *np.array_split(order, groups)] if p[part].sum() > 5]
    return [float((y[part] - p[part]).sum() / np.sqrt((p[part] * (1 - p[part])).sum())) for part in parts]


def restless(**changes: float) -> Kind:
    """A shop in which everything that the truth must account for happens often: dropout, returns, answers, unsubscriptions."""
    often = {"dropout": 2.0, "cart": 0.6, "returns": 0.7, "email_order": 0.8, "clicks": 0.8, "opens": 0.45, "unsubscribes": 0.15, "opens_size": 3.0}
    first, second = KINDS["default"].groups
    groups = (
        replace(first, share=0.6, **{"visits": 8.0, "conversion": 0.15, **often, **changes}),
        replace(second, share=0.4, visits=5.0, conversion=0.3),
    )
    return replace(KINDS["default"], name="restless", groups=groups, season=0.6, return_days=8.0, at_opening=0.5)


CASES = [
    ("default", 400 * DAY, 30 * DAY),
    ("default", 300 * DAY + 5 * HOUR, 90 * DAY),
    (restless(), 225 * DAY + 9 * HOUR + 10 * MINUTE, 3 * DAY),  # in the middle of a mailing
    (restless(), 226 * DAY, 20 * DAY),
    (restless(returns=0.05, visits=1.0), 226 * DAY, 60 * DAY),
    (restless(email_order=0.01), 300 * DAY, 8 * DAY),
    (restless(email_order=0.01, returns=0.95, visits=1.0, first_order=0.1), 45 * DAY, 30 * DAY),  # carts of all ages
    (replace(restless(unsubscribes=0.5, returns=0.01, visits=0.5, opens=0.8), email_days=28), 29 * DAY + 11 * HOUR, 35 * DAY),  # about to unsubscribe
    (replace(restless(), season=0.0), 150 * DAY, 200 * DAY),
]


@pytest.mark.parametrize(
    ("kind", "at", "horizon"), CASES, ids=lambda x: x if isinstance(x, str) else x.name if isinstance(x, Kind) else f"{x / DAY:g}"
)
def test_the_truth_is_calibrated(kind: str | Kind, at: int, horizon: int) -> None:
    shop = simulate(customers=5000, days=(at + horizon) // DAY + 8, seed=31, kind=kind)
    y = futures(shop, START + at, horizon)
    known = None
    for given in ("state", "history"):
        p = true_probability(shop.truth, START + at, horizon, given)
        known = ~np.isnan(p)
        assert known.sum() > 1000
        assert ((p[known] >= 0) & (p[known] <= 1)).all()
        assert np.abs(deviation(p[known], y[known], 6)).max() < 4, given
    gap = (true_probability(shop.truth, START + at, horizon) - p)[known]
    assert abs(gap.mean()) < 4 * gap.std() / np.sqrt(known.sum()), "the history expects what the state knows"
    assert ((y - p)[known] ** 2).mean() > ((y - p - gap_of(gap, known)) ** 2)[known].mean(), "who knows the state forecasts better"


def gap_of(gap: np.ndarray, known: np.ndarray) -> np.ndarray:
    whole = np.zeros(len(known))
    whole[known] = gap
    return whole


def test_a_wrong_truth_is_noticed() -> None:
    shop = simulate(customers=6000, days=300, seed=31, kind=restless())
    y = futures(shop, START + 250 * DAY, 40 * DAY)
    for change in ({"email_order": 0.4}, {"returns": 0.35}, {"dropout": 0.4}):
        wrong = restless(**change)
        about = dict(shop.truth.schema.metadata) | simulate(customers=1, days=300, kind=wrong).truth.schema.metadata
        truth = shop.truth.replace_schema_metadata(about)
        p = true_probability(truth, START + 250 * DAY, 40 * DAY, "history")
        assert np.abs(deviation(p[~np.isnan(p)], y[~np.isnan(p)], 6)).max() > 4, change


def test_the_history_gives_the_pareto_nbd_answer() -> None:
    """An independent way to the same number: a sum over a grid of (visit rate, dropout rate, conversion), nothing conjugate."""
    group = replace(KINDS["default"].groups[0], share=1.0, cart=0.0, dropout=1.2, visits=9.0)
    kind = replace(KINDS["default"], groups=(group,), season=0.0, subscribed=0.0)
    shop = simulate(customers=300, days=300, seed=9, kind=kind)
    as_of, horizon = START + 250 * DAY, 45 * DAY
    found = true_probability(shop.truth, as_of, horizon, "history")
    clock = make_clock(START, 300, 0.0)
    u = (np.arange(160) + 0.5) / 160
    visit = stats.gamma.ppf(u, group.visit_shape, scale=1 / group.visit_scale)[:, None, None]
    dropout = stats.gamma.ppf(u, group.dropout_shape, scale=1 / group.dropout_scale)[None, :, None]
    v = (np.arange(60) + 0.5) / 60
    ahead = float(clock.busy(as_of + horizon) - clock.busy(as_of))
    checked = 0
    for i in np.flatnonzero(~np.isnan(found))[:40]:
        row = {name: shop.truth[name][int(i)].as_py() for name in ("signed", "visits", "ordered")}
        born, *days = [float(clock.busy(int(t.timestamp() * 1000) * 1000)) for t in (row["signed"], *row["visits"])]
        days = [d for d in days if d <= clock.busy(as_of)]
        orders = sum(row["ordered"][: len(days)])
        last, age = (days[-1] if days else born) - born, float(clock.busy(as_of)) - born
        p = stats.beta.ppf(v, group.conversion_law[0] + orders, group.conversion_law[1] + len(days) - orders)[None, None, :]
        both = visit + dropout
        alive = visit ** len(days) * np.exp(-both * age)
        lost = visit ** len(days) * dropout / both * (np.exp(-both * last) - np.exp(-both * age))
        none = (dropout + visit * p * np.exp(-(visit * p + dropout) * ahead)) / (visit * p + dropout)
        expected = 1 - (alive * none + lost).mean() / (alive + lost).mean()
        assert found[i] == pytest.approx(expected, abs=0.006)
        checked += 1
    assert checked == 40


def test_the_truth_of_a_lost_customer_and_of_one_not_yet_there() -> None:
    shop = simulate(customers=2000, days=200, seed=3, kind=restless())
    as_of = START + 150 * DAY
    p = true_probability(shop.truth, as_of, 30 * DAY)
    signed, lost = (shop.truth[name].cast(pa.int64()).to_numpy() for name in ("signed", "lost_at"))
    assert (np.isnan(p) == (signed > as_of)).all()
    long_lost = (lost < as_of - 20 * DAY) & (pc.list_value_length(shop.truth["carts"]).to_numpy() == 0)
    assert long_lost.sum() > 20
    assert (p[long_lost] == 0).all()
    assert np.nanmax(p) > 0.7


def test_a_longer_horizon_is_never_less_likely() -> None:
    shop = simulate(customers=500, days=200, seed=3, kind=restless())
    for given in ("state", "history"):
        p = [true_probability(shop.truth, START + 120 * DAY, h, given) for h in (HOUR, DAY, 14 * DAY, 15 * DAY, 200 * DAY)]
        steps = np.diff(np.array(p)[:, ~np.isnan(p[0])], axis=0)
        assert steps.min() > -1e-9
        assert steps.sum() > 10


def test_the_truth_needs_its_own_table_and_a_moment_within() -> None:
    shop = simulate(customers=30, days=90)
    with pytest.raises(UsageError, match="no metadata"):
        true_probability(shop.truth.replace_schema_metadata(None), START + 50 * DAY, DAY)
    for as_of, horizon, given in ((START - 1, DAY, "state"), (shop.end + 1, DAY, "state"), (shop.end, 0, "state"), (shop.end, DAY, "stats")):
        with pytest.raises(UsageError, match="E206"):
            true_probability(shop.truth, as_of, horizon, given)


# the clock


@pytest.mark.parametrize("season", [0.0, 0.4])
def test_the_clock_goes_there_and_back_and_keeps_the_week_and_the_year(season: float) -> None:
    clock = make_clock(START, 800, season)
    instants = START + np.arange(0, 1800 * DAY, 7_777_777_000, dtype=np.int64)
    back = clock.instant(clock.busy(instants))
    assert np.abs(back - instants).max() <= 1000
    assert (np.diff(clock.busy(instants)) > 0).all()
    year = float(clock.busy(START + 364 * DAY) - clock.busy(START))
    assert year == pytest.approx(364, rel=1e-9 if season == 0 else 0.01)
    winter, summer = (float(np.diff(clock.busy(np.array([t, t + 28 * DAY])))[0]) for t in (START + 170 * DAY, START))
    assert winter == pytest.approx(summer) if season == 0 else winter > 1.8 * summer


# files


def test_the_files_hold_the_shop_repeated_rows_and_a_handful_of_broken_ones(folder: tuple[Path, Shop]) -> None:
    path, shop = folder
    events = pq.read_table(path / "data" / "events.parquet")
    assert events.schema.equals(shop.events.schema)
    lines = (path / "data" / "app.jsonl").read_text("utf-8").splitlines()
    good = [row for row in map(parsed, lines) if row and not row["messageId"].startswith("broken")]
    broken = pc.starts_with(events["event_id"], "broken").to_numpy()
    clean = events.filter(pa.array(~broken))
    ids = clean["event_id"].to_pylist()
    assert set(ids) | {row["messageId"] for row in good} == set(shop.events["event_id"].to_pylist())
    assert len(set(ids)) + len(good) == shop.events.num_rows
    assert 0.002 < (len(ids) - len(set(ids))) / len(ids) < 0.006
    assert len(clean.to_pandas().astype(str).drop_duplicates()) == len(set(ids)), "a repeated row is the same row"
    assert broken.sum() == 8
    assert len(lines) - len(good) == 8
    assert (8 + 8) / (events.num_rows + len(lines)) < 0.002
    assert 8 / len(lines) < 0.01


def parsed(line: str) -> dict[str, object] | None:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None


def test_what_is_broken_about_the_broken_rows(folder: tuple[Path, Shop]) -> None:
    path, shop = folder
    events = pq.read_table(path / "data" / "events.parquet")
    rows = events.filter(pc.starts_with(events["event_id"], "broken"))
    assert rows["event_time"].null_count == 2
    ahead = pc.greater(rows["event_time"].cast(pa.int64()), shop.end)
    assert pc.sum(ahead).as_py() == 2
    nobody = pc.and_(pc.is_null(rows["customer_id"]), pc.is_null(rows["anonymous_id"]))
    assert pc.sum(nobody).as_py() == 3
    assert pc.max(rows["value"]).as_py() == Decimal(10**9)
    lines = [parsed(line) for line in (path / "data" / "app.jsonl").read_text("utf-8").splitlines()]
    bad = [row for row in lines if row and str(row["messageId"]).startswith("broken")]
    assert {row.get("value") for row in bad} >= {"-inf", "many"}
    assert lines.count(None) == 1
    assert all(set(row) <= set(APP_NAMES.values()) | set(events.column_names) for row in lines if row)


def test_the_app_exports_its_last_days_under_its_own_names(folder: tuple[Path, Shop]) -> None:
    path, shop = folder
    lines = [row for row in map(parsed, (path / "data" / "app.jsonl").read_text("utf-8").splitlines()) if row]
    whole = {row["event_id"]: row for row in shop.events.to_pylist()}
    checked = 0
    for row in lines:
        if (original := whole.get(str(row["messageId"]))) is not None:
            assert parse_instant(str(row["timestamp"])) == round(original["event_time"].timestamp() * 1e6)
            assert parse_instant(str(row["receivedAt"])) > shop.end - 30 * DAY
            assert original["device"] == row["device"] == "app"
            assert row.get("userId") == original["customer_id"]
            assert Decimal(str(row["value"])) == original["value"] if "value" in row else original["value"] is None
            checked += 1
    assert checked > 500


def test_the_project_of_the_demo_loads_and_names_what_the_files_hold(root: Path, folder: tuple[Path, Shop]) -> None:
    path, shop = folder
    project = config.load(root / "configs" / "demo" / "predseg.yaml")
    assert set(project.models) == {"purchase", "churn"}
    assert set(project.event_names()) <= set(shop.events["event"].unique().to_pylist())
    assert set(project.features.traits) <= set(shop.customers.column_names)
    assert project.customers is not None
    assert {project.customers.customer_id, project.customers.known_since} <= set(shop.customers.column_names)
    properties = {name for measure in project.measures() for name in measure.properties()}
    assert properties <= set(shop.events.column_names)
    assert dict(project.sources["app"].columns) == {k: v for k, v in APP_NAMES.items() if k != v}
    assert {p for s in project.sources.values() for p in s.path} == {"data/events.parquet", "data/app.jsonl"}
    assert all((path / p).is_file() for s in project.sources.values() for p in s.path)


# kinds and refusals


@pytest.mark.parametrize(
    ("kind", "low", "high"), [("few_buyers", 0.1, 0.6), ("weekly_groceries", 15, 40), ("gifts", 0.9, 2), ("subscriptions", 4, 9)]
)
def test_kinds_buy_as_often_as_their_name_says(kind: str, low: float, high: float) -> None:
    shop = simulate(customers=600, days=400, seed=1, kind=kind)
    orders = pc.sum(pc.equal(shop.events["event"], "Order Completed")).as_py()
    assert low < orders / 600 < high
    p = true_probability(shop.truth, START + 360 * DAY, 30 * DAY, "history")
    y = futures(shop, START + 360 * DAY, 30 * DAY)
    assert np.abs(deviation(p[~np.isnan(p)], y[~np.isnan(p)], 3)).max() < 4


def test_gifts_are_bought_in_winter() -> None:
    shop = simulate(customers=1500, days=730, seed=1, kind="gifts")
    orders = shop.events.filter(pc.equal(shop.events["event"], "Order Completed"))
    month = pc.month(orders["event_time"]).to_numpy()
    assert (month == 12).sum() > 3 * (month == 6).sum()


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"customers": 0}, "customers"),
        ({"days": 10}, "days"),
        ({"seed": -1}, "seed"),
        ({"start": START + 1}, "start"),
        ({"kind": "defualt"}, "did you mean 'default'"),
        ({"kind": replace(KINDS["default"], email_days=2)}, "email_days 2"),
    ],
)
def test_values_that_make_no_shop_are_refused(arguments: dict[str, object], found: str) -> None:
    with pytest.raises(UsageError, match="E206") as refused:
        simulate(**arguments)  # type: ignore[arg-type]
    assert found in str(refused.value)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("in the way")
    with pytest.raises(Exception, match="E410"):
        write(tmp_path, customers=20, days=60)
