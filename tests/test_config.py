"""The project file: every key with its default, every refusal word for word."""

from __future__ import annotations

import os
import re
from dataclasses import FrozenInstanceError
from decimal import Decimal
from pathlib import Path

import pytest

from predseg import config
from predseg.config import CANONICAL, Config, Contract, EventFeatures, TasteFeatures, VisitFeatures, load, parse
from predseg.errors import ConfigError
from predseg.language import conditions as c
from predseg.language import measures
from predseg.language.channels import Webhook
from predseg.language.consent import Consent
from predseg.language.engines import Spark
from predseg.language.expectations import Expectations, OfEvent, OfSource
from predseg.language.measures import Events, Measure, Window
from predseg.language.monitoring import Limits
from predseg.language.outcomes import Outcomes
from predseg.language.secrets import Secret
from predseg.language.serving import Alerts, Stream
from predseg.language.time import DAY, HOUR, MINUTE
from tests.language.refusals import Case, line_of, read_cases, refuse, refusing_lines, update

FILE = Path("/project/predseg.yaml")
GOLDEN = Path(__file__).parent / "refusals_of_config.txt"

WHOLE = """\
project: online_retail
timezone: Europe/London
store: ../output/online_retail
sources:
  orders:
    path: ../data/online_retail.csv.gz
    query: |
      select * from source
      where CustomerID is not null
    columns: {customer_id: CustomerID, event_time: InvoiceDate, event: "=Order Completed", value: amount}
  clicks: {path: [clicks/*.jsonl, more.jsonl], timezone: UTC}
  returns: {table: returns, url: "postgresql://shop@localhost/shop"}
customers: {path: ../data/customers.parquet, customer_id: id, event_time: changed, known_since: created, static: true}
contract: {tolerance: 2.5%, events: [Order Completed, Product Viewed], properties: [coupon]}
features:
  windows: [30 days, 7 days, 1 month, 48 hours]
  events:
    Order Completed: {value: value, distinct: [product_id, brand]}
    Product Viewed: {}
    Email Opened:
  visits: {did: [Product Viewed, Cart Viewed], pause: 1 hour, signs: Email Clicked, brought_by: {source: [email, ad]}}
  taste: {did: [Order Completed, Gift Bought], of: product_id}
  measures:
    luxury_views_48h: {did: Product Viewed, where: {category: Luxury Watches}, within: 48 hours}
    biggest_fee: {did: Fee Charged, max: fee}
  traits: [country, tier]
models:
  purchase: {predict: {did: Order Completed, sum: margin, more_than: 10, within_next: 30 days}}
  churn:
    predict: {did_not: Order Completed, within_next: 90 days}
    among: {all: [{did: Order Started, within: 365 days}, {did: Order Completed, avg: price, at_least: 1}, {trait: {country: GB}}]}
    cutoffs: 12
    every: 1 week
    seed: 7
    allow: [tenure]
    tune: 20
    refresh: live
segments: segments/*.yaml
channels:
  recovery: {webhook: "https://mail.example.com/hooks/recovery", secret: "env:RECOVERY_SECRET"}
consent: {path: ../data/optouts.csv}
pseudonymize: [env:SHOP_OLD, env:SHOP_KEY]
outcomes: {goal: Order Completed, campaign: utm_campaign, within: 3 days, every: 1 week}
monitor: {freshness: 2 days, scores: off, volume: 40%, rejected: 0.5%, send: recovery}
expectations: {events: {Order Completed: {volume: 50%, nulls: {product_id: 0%, city: 5%}, between: {value: [0, 10.5]}}}, sources: {orders: {max_lag: 1 day}}}
engine: duckdb
audience: {url: "postgresql://writer@db.example.com/shop", table: marketing.audience}
smallest_group: 20
serve: {port: 8123, read_key: "env:READ", stream: {url: "nats://broker:4222", topic: shop.events}, alerts: {rejected: 2.5%, silence: {Order Completed: 6 hours}}}
"""


def read(text: str) -> Config:
    return parse(text, FILE)


update(GOLDEN, read)
CASES = read_cases(GOLDEN)


@pytest.fixture(scope="module")
def whole() -> Config:
    return read(WHOLE)


def test_only_the_name_is_needed() -> None:
    """Events may come live, so even the sources may be empty."""
    found = read("project: shop\n")
    assert found.project == "shop" and found.store == Path("/project/store") and found.timezone is None
    assert found.sources == found.models == found.channels == {} and found.customers is None and found.consent == Consent()
    assert found.features.windows == tuple(n * DAY for n in (7, 30, 90, 180, 365))
    assert found.contract == Contract(0.01, None) and found.engine is None and found.segments == ()
    assert read("project: shop\nsources: {}\n").sources == {}


def test_the_whole_file_uses_every_key(whole: Config) -> None:
    """A key added to the project file needs its line in the text above and its check below."""
    assert [key for key in config._KEYS if not re.search(f"^{key}:", WHOLE, re.MULTILINE)] == []
    assert whole.text == WHOLE and whole.file == FILE


def test_outcomes(whole: Config) -> None:
    assert whole.outcomes == Outcomes("Order Completed", "utm_campaign", 3 * DAY, 7 * DAY)
    assert read("project: shop\n").outcomes == Outcomes(None, None, 7 * DAY, 28 * DAY)


def test_audience_and_smallest_group(whole: Config) -> None:
    assert whole.audience is not None and whole.audience.table == "marketing.audience" and whole.smallest_group.k == 20
    assert read("project: shop\n").audience is None and read("project: shop\n").smallest_group.k == 10


def test_expectations(whole: Config) -> None:
    event = OfEvent(0.5, nulls=(("product_id", 0.0), ("city", 0.05)), between=(("value", Decimal(0), Decimal("10.5")),))
    assert whole.expectations == Expectations((("orders", OfSource(DAY)),), (("Order Completed", event),))
    assert read("project: shop\n").expectations is None


def test_monitor(whole: Config) -> None:
    assert whole.monitor == Limits(freshness=2 * DAY, scores=None, volume=0.4, rejected=0.005, send="recovery")
    assert read("project: shop\n").monitor == Limits()


def test_serve(whole: Config) -> None:
    serve = whole.serve
    assert (serve.host, serve.port, serve.write_key, serve.read_key) == ("127.0.0.1", 8123, None, Secret("READ"))
    assert serve.stream == Stream("nats://broker:4222", "shop.events") and serve.stream.broker == "nats"
    assert serve.alerts == Alerts(MINUTE, 0.025, 0.8, (("Order Completed", 6 * HOUR),))


def test_sources(whole: Config) -> None:
    orders, clicks, returns = whole.sources.values()
    assert orders.path == ("../data/online_retail.csv.gz",) and orders.query == "select * from source\nwhere CustomerID is not null\n"
    assert orders.columns == (("customer_id", "CustomerID"), ("event_time", "InvoiceDate"), ("event", "=Order Completed"), ("value", "amount"))
    assert orders.place == "predseg.yaml:6:5" and orders.timezone is None and whole.timezone == "Europe/London"
    assert clicks.path == ("clicks/*.jsonl", "more.jsonl") and clicks.timezone == "UTC" and clicks.columns == ()
    assert (returns.table, returns.url, returns.path) == ("returns", "postgresql://shop@localhost/shop", ())


def test_customers(whole: Config) -> None:
    customers = whole.customers
    assert customers is not None and customers.source.path == ("../data/customers.parquet",) and customers.source.name == "customers"
    assert (customers.customer_id, customers.event_time, customers.known_since, customers.static) == ("id", "changed", "created", True)
    plain = read("project: shop\ncustomers: {path: x}\n").customers
    assert plain is not None and (plain.customer_id, plain.event_time, plain.known_since, plain.static) == ("customer_id", None, None, False)


@pytest.mark.parametrize(
    ("written", "share"), [("1%", 0.01), ("2.5%", 0.025), ("0.02", 0.02), ("0", 0.0), ("100%", 1.0), ("1", 1.0), ("0.0000001", 1e-7)]
)
def test_a_tolerance_is_a_share(written: str, share: float) -> None:
    assert read(f"project: shop\ncontract: {{tolerance: {written}}}\n").contract.tolerance == share


def test_the_contract_names_events(whole: Config) -> None:
    assert whole.contract == Contract(0.025, ("Order Completed", "Product Viewed"), ("coupon",))


def test_features(whole: Config) -> None:
    """Windows are sorted and stand once: a month is 30 days."""
    features = whole.features
    assert features.windows == (2 * DAY, 7 * DAY, 30 * DAY)
    assert features.events == (
        ("Order Completed", EventFeatures("value", ("product_id", "brand"))),
        ("Product Viewed", EventFeatures()),
        ("Email Opened", EventFeatures()),
    )
    assert [name for name, _ in features.measures] == ["luxury_views_48h", "biggest_fee"] and features.traits == ("country", "tier")
    brought = (measures.Filter("source", (measures.Test("is", ("ad", "email")),)),)
    assert features.visits == VisitFeatures(("Product Viewed", "Cart Viewed"), 60 * MINUTE, ("Email Clicked",), brought)
    assert features.taste == TasteFeatures(("Order Completed", "Gift Bought"), "product_id")
    assert read("project: shop\nfeatures: {visits: {did: [A, B]}}\n").features.visits == VisitFeatures(("A", "B"), 30 * MINUTE)
    assert read("project: shop\nfeatures: {windows: 7 days, traits: }\n").features.windows == (7 * DAY,)


def test_models(whole: Config) -> None:
    purchase, churn = whole.models.values()
    assert (purchase.cutoffs, purchase.every, purchase.seed, purchase.allow, purchase.tune, purchase.among) == (None, None, 0, (), 0, None)
    assert churn.live and not purchase.live
    assert (churn.cutoffs, churn.every, churn.seed, churn.allow, churn.tune) == (12, 7 * DAY, 7, ("tenure",), 20)
    assert purchase.predict.horizon == 30 * DAY and churn.predict.measure == Measure(Events(("Order Completed",)), Window(90 * DAY))
    assert isinstance(churn.among, c.All) and churn.place == "predseg.yaml:30:5"


def test_the_rest(whole: Config) -> None:
    assert whole.segments == ("segments/*.yaml",) and whole.consent == Consent(path="../data/optouts.csv")
    assert whole.pseudonymize == (Secret("SHOP_OLD"), Secret("SHOP_KEY"))
    recovery = whole.channels["recovery"]
    assert isinstance(recovery, Webhook) and recovery.secrets == (Secret("RECOVERY_SECRET"),) and whole.engine is None
    spark = read('project: shop\nengine: {spark: {master: "local[2]", options: {spark.executor.instances: 20, spark.ui.enabled: false}}}\n').engine
    assert spark == Spark("local[2]", (("spark.executor.instances", "20"), ("spark.ui.enabled", "false")))
    assert read("project: shop\nengine: {spark: {}}\n").engine == Spark()
    assert read("project: shop\nsegments: [a.yaml, b.yaml]\n").segments == ("a.yaml", "b.yaml")


def test_relative_paths_start_at_the_file(whole: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And never at the folder in which the command was called."""
    assert whole.root == Path("/project")
    assert whole.store == Path("/project/../output/online_retail") and whole.store.is_absolute()
    assert whole.resolve("data/x.csv") == Path("/project/data/x.csv") and whole.resolve("/data/x.csv") == Path("/data/x.csv")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert whole.resolve("~/x.csv") == Path("/home/somebody/x.csv")
    assert whole.resolve("~nobody-of-that-name/x") == Path("/project/~nobody-of-that-name/x"), "no crash"
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "predseg.yaml").write_text("project: shop\n")
    monkeypatch.chdir(tmp_path)
    found = load("shop/predseg.yaml")
    monkeypatch.chdir("/")
    assert found.store == tmp_path / "shop" / "store" and found.resolve("x.csv") == tmp_path / "shop" / "x.csv"
    assert load(tmp_path / "shop") == found, "a folder stands for its predseg.yaml"


def test_a_config_is_a_value(whole: Config) -> None:
    assert read(WHOLE) == whole
    with pytest.raises(FrozenInstanceError):
        whole.project = "other"  # type: ignore[misc]


def test_numeric_properties_are_those_used_as_numbers_anywhere(whole: Config) -> None:
    """Features, measures, predictions and eligibility alike; `distinct` needs no number, money is always one."""
    assert whole.numeric_properties() == {"value", "fee", "margin", "price"}
    assert read("project: shop\n").numeric_properties() == {"value"}


def test_event_names_say_where_they_are_mentioned(whole: Config) -> None:
    assert whole.event_names() == {
        "Order Completed": "models.churn.among",
        "Product Viewed": "features.measures.luxury_views_48h",
        "Email Opened": "features.events",
        "Cart Viewed": "features.visits",
        "Email Clicked": "features.visits",
        "Gift Bought": "features.taste",
        "Fee Charged": "features.measures.biggest_fee",
        "Order Started": "models.churn.among",
    }


def test_measures_are_all_that_is_read_each_once(whole: Config) -> None:
    found = whole.measures()
    assert len(found) == len(set(found)) == 6


@pytest.mark.parametrize("column", CANONICAL)
def test_every_canonical_column_can_be_mapped(column: str) -> None:
    found = read(f"project: shop\nsources: {{s: {{path: x, columns: {{{column}: theirs}}}}}}\n")
    assert found.sources["s"].columns == ((column, "theirs"),)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_a_project_is_refused_in_these_words(case: Case) -> None:
    error = refuse(read, case.text)
    assert str(error) == case.answer
    assert re.fullmatch(r"predseg\.yaml(:\d+:\d+)?", error.place) and error.help and error.exit_code == 3


def test_every_refusal_has_a_case() -> None:
    """A new ``raise`` needs its case in the golden file, or below."""
    reached = {line_of(refuse(read, case.text), config) for case in CASES}
    left = [text for line, text in refusing_lines(config).items() if line not in reached]
    assert all(any(code in text for code in ("E300", "E305", "E306")) for text in left)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    error = refuse(load, str(tmp_path / "predseg.yaml"))
    assert (error.code, error.exit_code) == ("E300", 3) and error.place == str(tmp_path / "predseg.yaml") and "predseg init" in error.help
    assert refuse(load, str(tmp_path)).code == "E300", "an empty folder has none either"


def test_a_file_of_another_encoding_names_the_byte(tmp_path: Path) -> None:
    file = tmp_path / "predseg.yaml"
    file.write_bytes("project: shop # café".encode("latin-1"))
    error = refuse(load, str(file))
    assert error.code == "E306" and "byte 19" in error.message and error.help == "save the file as UTF-8"


def test_a_file_without_an_end_is_not_read_to_it(tmp_path: Path) -> None:
    import os

    file = tmp_path / "predseg.yaml"
    file.write_text("project: p\n")
    os.truncate(file, 10**11)
    error = refuse(load, str(file))
    assert error.code == "E305" and "262,144" in error.message and "split" in error.help


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "predseg.yaml"
    file.write_text("project: shop")
    file.chmod(0)
    assert refuse(load, str(file)).code == "E300"


def test_a_refusal_within_a_rule_names_the_line_of_the_project_file() -> None:
    with pytest.raises(ConfigError) as caught:
        read(WHOLE.replace("within: 365 days", "within: 365 dayz"))
    line = 1 + WHOLE[: WHOLE.index("365 days")].count("\n")
    assert caught.value.place.startswith(f"predseg.yaml:{line}:") and caught.value.code == "E320"
