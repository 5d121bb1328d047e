"""Latent segments: what is found where clusters were planted, what is refused where there are none, and names that stay."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg import config
from predseg.cli import main
from predseg.errors import LabelError, UsageError
from predseg.evaluate import reference
from predseg.evaluate.batch import evaluate, truth
from predseg.evaluate.block import blocks
from predseg.forecast.latent import choice, discovery
from predseg.forecast.latent.measures import Aspect, candidates, fit_scaling, select, spread_ties
from predseg.forecast.latent.names import Known, Memory, call, match, renamed
from predseg.forecast.latent.profiles import Discovery
from predseg.forecast.latent.rules import Bound, _conditions, read_rule, sayable, write_rule
from predseg.language import conditions as c
from predseg.language.documents import parse_condition, parse_measure
from predseg.language.measures import Events, Measure, Window
from predseg.language.time import DAY, parse_instant
from predseg.language.yaml import read_documents
from predseg.project import Project
from predseg.segments.facts import Facts
from predseg.store import Store
from tests.segments.stores import Row, write_events

T = parse_instant("2026-06-01")
ORDER, VIEW = "Order Completed", "Product Viewed"
PROJECT = """\
project: planted
store: store
sources: {events: {path: events.parquet}}
features:
  windows: [90 days, 365 days]
  events:
    Order Completed: {value: value}
    Product Viewed: {}
  measures:
    watch_views: {did: Product Viewed, where: {category: [Luxury Watches, "on"]}, within: 90 days}
"""


def planted(until: int = T) -> list[Row]:
    """200 regulars, 150 who came once long ago, 100 new ones who look at watches, and 30 who never bought; up to T + 3 days."""
    rng = np.random.default_rng(7)
    rows: list[Row] = []

    def order(who: str, days_ago: float, value: float) -> None:
        rows.append((who, T - int(days_ago * DAY), ORDER, {"value": Decimal(f"{value:.2f}"), "category": None}))

    def view(who: str, days_ago: float, category: str) -> None:
        rows.append((who, T - int(days_ago * DAY), VIEW, {"value": None, "category": category}))

    for i in range(200):
        for at in rng.uniform(-3, 300, rng.integers(18, 30)):
            order(f"a{i:03d}", at, rng.lognormal(4, 0.3))
    for i in range(150):
        order(f"b{i:03d}", rng.uniform(200, 320), rng.lognormal(2.5, 0.3))
    for i in range(100):
        for at in rng.uniform(5, 40, rng.integers(2, 4)):
            order(f"c{i:03d}", at, rng.lognormal(6.5, 0.3))
        for at in rng.uniform(1, 60, rng.integers(20, 40)):
            view(f"c{i:03d}", at, "Luxury Watches" if rng.random() < 0.8 else "Bags")
    for i in range(30):
        view(f"d{i:03d}", rng.uniform(1, 300), "Bags")
    return [row for row in rows if row[1] <= until]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with planted clusters, on which `predseg discover` ran at T."""
    path = tmp_path_factory.mktemp("planted")
    write_events(path, planted())
    (path / "part-00000.parquet").rename(path / "events.parquet")
    (path / "predseg.yaml").write_text(PROJECT)
    return path


@pytest.fixture(scope="module")
def project(folder: Path) -> Project:
    return Project.load(folder)


@pytest.fixture(scope="module")
def first(project: Project) -> Discovery:
    return project.discover(as_of=T)


def members(found: Discovery) -> dict[str, set[str]]:
    """The first letters of the members of each cluster, that is which planted groups it holds."""
    assert found.members is not None
    table = found.members.to_pydict()
    return {p.name: {who[0] for who, name in zip(table["customer_id"], table["cluster"], strict=True) if name == p.name} for p in found.personas}


# what is found


def test_planted_clusters_are_found_with_their_number_and_told_in_names(first: Discovery) -> None:
    assert first.chosen == 3 and first.customers == 450
    assert members(first) == {
        "frequent_buyers": {"a"},
        "lapsed_small_spending_one_timers": {"b"},
        "new_big_spenders_with_many_product_viewed": {"c"},
    }
    assert [p.size for p in first.personas] == [200, 150, 100]
    assert {p.id for p in first.personas} == {1, 2, 3} and not any(p.found_again for p in first.personas)


def test_rules_mean_what_was_measured_counted_by_hand(first: Discovery) -> None:
    histories: dict[str, list[reference.Event]] = {}
    for who, time, event, properties in planted():
        histories.setdefault(who, []).append(reference.Event(time, event, properties))
    assert first.members is not None
    table = first.members.to_pydict()
    belongs = dict(zip(table["customer_id"], table["cluster"], strict=True))
    for persona in first.personas:
        assert persona.rule is not None
        rule = read_rule(persona.rule)
        found = {who for who, events in histories.items() if reference.decide(rule, events, T) is True}
        hits = sum(belongs.get(who) == persona.name for who in found)
        assert persona.precision == hits / len(found) and persona.recall == hits / persona.size
        assert persona.precision > 0.95 and persona.recall > 0.95, "planted groups are far apart"
        assert len(c.measures(rule)) <= 2, "and one or two conditions tell them"


def test_profiles_hold_the_medians_by_hand(first: Discovery) -> None:
    counts = list(Counter(who for who, _, event, _ in planted() if who[0] == "a" and event == ORDER).values())
    [regulars] = [p for p in first.personas if p.name == "frequent_buyers"]
    [line] = [t for t in regulars.profile if t.measure == "count_order_completed_365d"]
    assert line.median == np.median(counts) and line.overall < line.median
    assert line.says == f"{np.median(counts):.0f} Order Completed in the last 365 days"


def test_clusters_answer_in_rules(project: Project, first: Discovery) -> None:
    facts = Facts(Store(project.config.store))
    [node] = read_documents("cluster: {personas: [frequent_buyers]}")
    found = facts(parse_condition(node), np.array(["a000", "b000", "d000", "a000"], object), np.array([T, T, T, T - 1]))
    assert found.true.tolist() == [True, False, False, False]
    assert found.unknown.tolist() == [False, False, True, True], "never bought; not yet published"


def test_the_same_seed_gives_the_same_answer(project: Project, first: Discovery) -> None:
    again = discovery.discover(project.config, Store(project.config.store), "personas", T, seed=0)
    assert again == first and again.members == first.members
    assert again.memory is not None and first.memory is not None and again.memory.to_text() == first.memory.to_text()


def test_names_and_ids_stay_when_a_day_is_added_and_given_names_stick(folder: Path, first: Discovery, tmp_path: Path) -> None:
    grown = shutil.copytree(folder, tmp_path / "grown")
    write_events(grown, planted(until=T + 3 * DAY))
    (grown / "part-00000.parquet").replace(grown / "events.parquet")
    project = Project.load(grown)
    second = project.discover(as_of=T + DAY, renames={"frequent_buyers": "our regulars"})
    ids = {p.id: p.name for p in first.personas}
    assert {p.id: p.name for p in second.personas} == {i: n.replace("frequent_buyers", "our regulars") for i, n in ids.items()}
    assert all(p.found_again for p in second.personas) and second.lost == ()
    third = project.discover(as_of=T + 2 * DAY)
    assert {p.id: p.name for p in third.personas} == {p.id: p.name for p in second.personas}
    assert members(third)["our regulars"] == {"a"}
    earlier = project.discover(as_of=T + DAY // 2, renames={"our regulars": "anybody"})
    assert any("do not stick" in note for note in earlier.notes)
    memory = discovery.remembered(project.config.store, "personas")
    assert memory is not None and memory.as_of == T + 2 * DAY and "our regulars" in {k.name for k in memory.clusters}


def test_everybody_is_assigned_when_only_a_sample_is_fitted(project: Project, first: Discovery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "SAMPLE", 250)
    found = discovery.discover(project.config, Store(project.config.store), "personas", T)
    assert 180 < found.sampled < 320 and found.customers == 450
    assert sorted(p.size for p in found.personas) == [100, 150, 200]
    assert found.members is not None and first.members is not None and found.members["customer_id"] == first.members["customer_id"]


def test_what_others_published_at_the_moment_stays(tmp_path: Path, first: Discovery) -> None:
    store = Store(tmp_path)
    store.write("clusters", pa.table({"customer_id": ["a000"], "model": ["other"], "cluster": ["theirs"]}), T)
    for _ in range(2):
        discovery.publish(store, first)
    table = store.read("clusters", T)
    assert table.column_names == ["customer_id", "model", "cluster", "as_of"]
    assert table["model"].to_pylist().count("other") == 1 and table.num_rows == 451
    memory = discovery.remembered(store.path, "personas")
    assert memory is not None and first.memory is not None and memory.to_text() == first.memory.to_text()


# what is refused


def _points(shape: str) -> np.ndarray:
    rng = np.random.default_rng(3)
    n = 1200
    match_ = {
        "one blob": lambda: rng.normal(size=(n, 4)),
        "elongated blob": lambda: rng.normal(size=(3000, 4)) * [8, 1, 1, 1],
        "elongated and turned": lambda: rng.normal(size=(n, 1)) * 2 + rng.normal(size=(n, 4)) * 0.4,
        "uniform noise": lambda: rng.random((n, 3)),
        "skewed": lambda: np.minimum(rng.exponential(size=(n, 5)), 4),
        "whole numbers": lambda: np.log1p(np.maximum(rng.poisson(rng.gamma(1, 2, (n, 1)), (n, 4)) + rng.uniform(-0.5, 0.5, (n, 4)), 0)),
    }
    return np.asarray(match_[shape]())


@pytest.mark.parametrize("shape", ["one blob", "elongated blob", "elongated and turned", "uniform noise", "skewed", "whole numbers"])
def test_one_cloud_is_refused_even_where_its_cuts_are_stable(shape: str) -> None:
    points = _points(shape)
    trials = choice.try_numbers((points, points), range(2, 6), np.random.default_rng(0))
    assert choice.choose(trials) is None, trials
    if shape.startswith("elongated"):
        assert trials[0].stable and not trials[0].better, "its halves come back every time, and prove nothing"


def test_the_corners_of_a_cube_come_back_but_are_hardly_tighter_than_noise() -> None:
    points = np.random.default_rng(4).random((3000, 3))
    [eight] = choice.try_numbers((points, points), [8], np.random.default_rng(0))
    assert eight.stability > 0.7 and eight.within < eight.chance and not eight.better


@pytest.mark.parametrize("number", [2, 4])
def test_separate_clouds_are_counted(number: int) -> None:
    rng = np.random.default_rng(5)
    middles = rng.normal(size=(number, 5)) * 2.5
    points = np.vstack([rng.normal(size=(n, 5)) + m for n, m in zip((600, 400, 300, 200), middles, strict=False)])
    chosen = choice.choose(choice.try_numbers((points, points), range(2, 6), np.random.default_rng(0)))
    assert chosen is not None and chosen.clusters == number


def test_the_number_of_the_last_run_stays_while_it_is_good() -> None:
    def trial(k: int, good: bool, gaps: bool = False) -> choice.Trial:
        return choice.Trial(k, 0.9, 0.8, 0.5, 0.6, 0.1, good, True, gaps)

    trials = [trial(2, True), trial(3, True), trial(4, False), trial(5, True)]
    chosen = {before: choice.choose(trials, before) for before in (None, 3, 4)}
    assert {before: t.clusters for before, t in chosen.items() if t} == {None: 5, 3: 3, 4: 5}
    assert choice.choose([*trials, trial(6, False, True)], 2) == trials[0]
    assert choice.choose([*trials, trial(3, True, True)], 2) == trial(3, True, True), "gaps come before cuts"
    assert choice.choose([replace(trial(2, True), smallest=0.001)]) is None, "an outlier is no cluster"


@pytest.fixture
def noise(tmp_path: Path) -> Iterator[Path]:
    """A shop whose customers are one cloud: the same rates for everybody but for chance."""
    rng = np.random.default_rng(1)
    rows: list[Row] = []
    for i in range(500):
        for at in rng.uniform(0, 350, 4 + rng.poisson(6)):
            rows.append((f"c{i:03d}", T - int(at * DAY), ORDER, {"value": Decimal(f"{rng.lognormal(4, 0.5):.2f}"), "category": None}))
    write_events(tmp_path, rows)
    (tmp_path / "part-00000.parquet").rename(tmp_path / "events.parquet")
    (tmp_path / "predseg.yaml").write_text(PROJECT)
    yield tmp_path


def test_no_clusters_is_said_and_nothing_is_published(noise: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["-c", str(noise / "predseg.yaml"), "--as-of", "2026-06-01"]
    assert main(["discover", *at, "--json"]) == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["status"] == "failed" and answer["chosen"] is None and answer["clusters"] == []
    assert len(answer["trials"]) == 7 and "no number of clusters from 2 to 8" in answer["verdict"]
    assert not Store(noise / "store").exists("clusters") and not list((noise / "store").glob("clusters-*"))
    assert main(["discover", *at, "--clusters", "3"]) == 0, "a number that is asked for is given, and judged"
    shown = capsys.readouterr().out
    assert "3 clusters were asked for; they are n" in shown and "500 rows written to the table clusters" in shown
    assert Store(noise / "store").read("clusters", T).num_rows == 500


def test_too_few_customers_and_too_little_to_compare(project: Project) -> None:
    store = Store(project.config.store)
    with pytest.raises(LabelError, match=r"E560.*customers have 'Order Completed' by") as refused:
        discovery.discover(project.config, store, "personas", T - 310 * DAY)
    assert refused.value.help
    nothing = replace(project.config, features=config.Features())
    with pytest.raises(LabelError, match="E561"):
        discovery.discover(nothing, store, "personas", T)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["../evil"], "E230"),
        (["--clusters", "1"], "E230"),
        (["--clusters", "21"], "E230"),
        (["--rename", "nobody=x"], "E231"),
        (["--rename", "x"], "E231"),
    ],
)
def test_refused_arguments(folder: Path, first: Discovery, arguments: list[str], code: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = (folder / "store" / "clusters-personas.json").read_bytes()
    assert main(["discover", *arguments, "-c", str(folder / "predseg.yaml"), "--as-of", "2026-06-01"]) == 2
    assert f"error[{code}]" in capsys.readouterr().err
    assert (folder / "store" / "clusters-personas.json").read_bytes() == before


def test_a_dry_run_writes_nothing(folder: Path, first: Discovery, capsys: pytest.CaptureFixture[str]) -> None:
    def files() -> dict[Path, int]:
        return {p: p.stat().st_mtime_ns for p in (folder / "store").rglob("*") if p.is_file() and p.name != ".lock"}

    before = files()
    assert main(["discover", "-c", str(folder / "predseg.yaml"), "--as-of", "2026-06-01T06:00", "--dry-run"]) == 0
    assert files() == before and "nothing was written" in capsys.readouterr().out


# names


def _memory(*known: Known) -> Memory:
    scaling = fit_scaling(np.random.default_rng(0).random((50, 2)))
    return Memory(T, ("x", "y"), ("x", "y", "z"), scaling, known, 7)


def test_clusters_are_matched_whatever_their_order_and_not_beyond_reach() -> None:
    known = (Known(1, "a", (0.0, 0.0)), Known(2, "b", (4.0, 0.0)), Known(3, "c", (0.0, 6.0)))
    old = np.array([k.center for k in known])
    found = match(np.array([[0.3, 5.5], [4.4, 0.1], [-0.5, 0.2]]), old, known)
    assert {new: was.name for new, was in found.items()} == {0: "c", 1: "b", 2: "a"}
    moved = match(np.array([[2.0, 0.5], [0.0, 9.2]]), old, known)
    assert moved == {}, "half way to a neighbour is nobody's; nor is further than that"


def test_memory_survives_writing_and_damage_is_refused() -> None:
    memory = _memory(Known(1, "a", (0.1, 1 / 3)), Known(5, "our regulars", (2.0, -1.0)))
    again = Memory.from_text(memory.to_text(), "file")
    assert again.clusters == memory.clusters and again.next_id == 7 and np.array_equal(again.scaling.scale, memory.scaling.scale)
    for damage in ("{", "[]", memory.to_text().replace('"version": 1', '"version": 2'), memory.to_text().replace("centroid", "c")):
        with pytest.raises(LabelError, match=r"E562] file: the memory"):
            Memory.from_text(damage, "file")


def test_names_are_unique_and_none_that_stands_for_something_else() -> None:
    aspects = candidates(config.parse(PROJECT, Path("/p/predseg.yaml")).features)
    roles = [a.role for a in aspects]
    same = np.array([[2.0 if r == "value" else 0.0 for r in roles]] * 3)
    same[1, roles.index("other")] = -1.0
    medians = np.full(same.shape, 5.0)
    names = call(same, medians, aspects, "buyers", ["big_spenders"])
    assert names == ["big_spenders_2", "big_spenders_with_few_product_viewed", "big_spenders_3"]
    assert call(np.zeros((1, len(roles))), medians[:1], aspects, "buyers", []) == ["typical_buyers"]


def test_renames_are_checked() -> None:
    assert renamed(["a", "b"], {"a": "b", "b": "a"}) == ["b", "a"]
    for renames in ({"a": "b"}, {"z": "y"}, {"a": "1st"}, {"a": "x}]"}):
        with pytest.raises(UsageError, match="E231"):
            renamed(["a", "b"], renames)


# measures and rules


def test_measures_that_say_the_same_or_nothing_are_left_out() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(400)
    columns = [base, -np.exp(base), rng.random(400), np.where(np.arange(400) < 5, 1.0, 0.0), np.where(rng.random(400) < 0.6, np.nan, base)]
    aspects = [Aspect(f"m{i}", Measure(Events((f"E{i}",)))) for i in range(5)]
    kept, left = select(np.column_stack(columns), aspects)
    assert kept == [0, 2]
    assert left == {"m1": "goes with m0", "m3": "the same for 99% of the customers", "m4": left["m4"]} and left["m4"].startswith("missing for")


def test_scaling_is_robust_and_fills_with_the_median() -> None:
    values = np.array([[1.0], [2.0], [3.0], [4.0], [np.nan], [1e9]])
    scaled = fit_scaling(values).apply(values)
    assert scaled[4, 0] == scaled[2, 0] == 0 and scaled[5, 0] == 3.0 and np.all(np.diff(scaled[:4, 0]) > 0)
    refunds = fit_scaling(np.array([[0.0]] * 90 + [[-5.0]] * 10)).apply(np.array([[0.0], [-5.0], [5.0]]))
    assert refunds[0, 0] == 0 and -3.01 < refunds[1, 0] < -2 and refunds[2, 0] == -refunds[1, 0]


def test_only_whole_numbers_are_spread() -> None:
    aspects = [Aspect("n", Measure(Events(("E",)))), Aspect("v", Measure(Events(("E",)), Window(), "sum", "value"))]
    values = np.ones((100, 2))
    spread = spread_ties(values, aspects, np.random.default_rng(0))
    assert np.all(np.abs(spread[:, 0] - 1) <= 0.5) and len(np.unique(spread[:, 0])) == 100 and np.array_equal(spread[:, 1], values[:, 1])


def test_features_without_a_verb_are_not_offered() -> None:
    text = PROJECT + "    rhythm: {did: Order Completed, gap: mean}\n    recent: {did: Order Completed, days_since: last, within: 90 days}\n"
    names = [a.name for a in candidates(config.parse(text, Path("/p/predseg.yaml")).features)]
    assert names[:3] == ["days_since_order_completed", "count_order_completed_365d", "avg_value_order_completed"]
    assert "watch_views" in names and "rhythm" not in names and "recent" not in names


MEASURES = [
    "{did: A, days_since: last}",
    "{did: A, days_since: first}",
    '{did: A, where: {p: [x, "yes", "1", 2, true], q: {not: y, exists: true}}, within: 3 days}',
    "{did: [A, B], from: 5 days ago, until: 36 hours ago}",
    "{did: A, sum: v, within: 3 days}",
    "{did: B, avg: v}",
    "{did: A, min: v, since: 2026-05-28}",
    "{did: A, distinct: p, within: 4 days}",
    "{did: A, within: 4 days, then: {did: B, where: {v: {between: [-5, 5]}}, at_least: 2, same: p, within: 90 minutes}}",
    '{did: "A: {b}", where: {p: {contains: "\\"c"}}}',
]


def _aspect(text: str) -> Aspect:
    return Aspect("m", parse_measure(read_documents(text)[0]))


@pytest.mark.parametrize("text", MEASURES)
def test_every_measure_survives_being_written_as_conditions(text: str) -> None:
    aspect = _aspect(text)
    assert sayable(aspect)
    for low, high in ((2.0, inf), (-inf, 7.0), (3.0, 9.0), (-inf, 0.0)):
        for condition in _conditions(Bound(0, low, high), aspect) if high > 0 or aspect.kind != "days" else ():
            assert read_rule(write_rule([condition])) == condition


_EVENTS = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 16), st.sampled_from(["A", "B"]), st.integers(-2, 2), st.sampled_from(["x", "yes", "1"])),
    min_size=1,
    max_size=14,
)


@settings(max_examples=200)
@given(
    rows=_EVENTS, text=st.sampled_from(MEASURES[:-1]), low=st.integers(-2, 4), width=st.integers(1, 6), shape=st.sampled_from(["low", "high", "both"])
)
def test_a_range_and_its_conditions_mean_the_same(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], text: str, low: int, width: int, shape: str
) -> None:
    """Days fall on the very ends of windows: events lie on half days, thresholds on whole ones."""
    aspect = _aspect(text)
    low = max(low, 1) if aspect.kind == "days" else max(low, 0) if aspect.kind == "count" else low
    bound = Bound(0, low if shape != "high" else -inf, low + width if shape != "low" else inf)
    written = [(who, T - half * DAY // 2, event, _properties(value, p)) for who, half, event, value, p in rows]
    [block] = blocks(write_events(tmp_path_factory.mktemp("e"), written), {"v", "p", "q"})
    [values] = evaluate(block, [T], [aspect.measure])
    number = values.to_float()
    conditions = _conditions(bound, aspect)
    rule = read_rule(write_rule(conditions)) if conditions else None
    found = truth(block, [T], rule).true[:, 0] if rule is not None else np.ones(len(number), bool)
    expected = bound.holds(number, [aspect])
    if aspect.kind == "days":  # who never did it has no days since, but did not do it within them either
        found &= values.present[:, 0]
    assert found.tolist() == expected.tolist()


def _properties(value: int, text: str) -> Mapping[str, Any]:
    return {"v": Decimal(value), "p": text, "q": "z"}


def test_money_of_the_table_is_exact(folder: Path, first: Discovery) -> None:
    """The table that others read: one row per customer with the event, sorted, in whole."""
    [path] = (folder / "store" / "tables" / "clusters").glob("as_of=2026-06-01T00*/*.parquet")
    table = pq.read_table(path, partitioning=None)
    ids = table["customer_id"].to_pylist()
    assert ids == sorted(ids) and len(set(ids)) == 450 and set(table["model"].to_pylist()) == {"personas"}
    assert all(who[0] != "d" for who in ids)
