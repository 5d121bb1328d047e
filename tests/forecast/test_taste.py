"""Taste: two kinds of customers told apart by what they bought, learned from nothing bought later, and the same wherever a model with it answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from predseg import Project
from predseg.config import Features, TasteFeatures
from predseg.errors import ConfigError, ModelError
from predseg.evaluate.block import Array
from predseg.forecast import bundle
from predseg.forecast.bags import Bag
from predseg.forecast.features import compile_features
from predseg.forecast.reasons import say_feature
from predseg.forecast.taste import NUMBERS, Taste, about, fit_taste, say_taste
from predseg.forecast.training import Settings, train
from predseg.language.measures import Events
from predseg.language.time import parse_instant
from predseg.live.opening import open_durable
from tests import small
from tests.forecast.test_training import AS_OF, H, world

BAG = Bag(Events(("order",)), "product")
TEA, TOOLS = [f"tea {i}" for i in range(12)], [f"tool {i}" for i in range(12)]
TASTE = Taste(BAG.name, "order", "product", ("a", "b", "c"), (1.0, 1.0, 2.0), ((0.6, 0.0), (-0.6, 0.8), (0.8, 0.6)))


def bought(customers: int, seed: int = 0) -> tuple[list[list[str]], Array]:
    """What customers bought, mostly of one shelf; and of which."""
    rng = np.random.default_rng(seed)
    tea = rng.random(customers) < 0.5
    return [sorted({str(rng.choice(TEA if (rng.random() < 0.9) == likes else TOOLS)) for _ in range(4)}) for likes in tea], tea


def frame(lists: Sequence[Sequence[str]]) -> pd.DataFrame:
    return pd.DataFrame({BAG.name: pd.Series([*map(list, lists)], dtype=object)})


def learned(lists: Sequence[Sequence[str]]) -> Taste:
    found = fit_taste(frame(lists), BAG)
    assert found is not None
    return found


def test_two_kinds_of_customers_are_told_apart_by_what_they_buy() -> None:
    lists, tea = bought(600)
    taste = learned(lists)
    said = taste.extend(frame(lists))
    assert list(said.columns) == [BAG.name, "taste_1", "taste_2", "taste_3", "taste_4"] == [BAG.name, *taste.names]
    apart = (said["taste_2"] > 0) == tea
    assert max(apart.mean(), 1 - apart.mean()) > 0.9
    fresh, liked = bought(200, seed=9)
    again = (taste.extend(frame(fresh))["taste_2"] > 0) == liked
    assert max(again.mean(), 1 - again.mean()) > 0.9


def test_its_signs_and_numbers_do_not_depend_on_the_order_of_customers() -> None:
    lists, _ = bought(400)
    taste, other = learned(lists), learned(lists[::-1])
    vectors = np.array(taste.vectors)
    assert (vectors[np.abs(vectors).argmax(axis=0), np.arange(NUMBERS)] > 0).all()
    assert taste.products == other.products and np.allclose(vectors, np.array(other.vectors), atol=2e-6)
    assert learned(lists) == taste and list(taste.products) == sorted([*TEA, *TOOLS])


def test_what_few_customers_bought_is_in_no_dictionary() -> None:
    """Nor what is no name: it would only fill the model."""
    lists, _ = bought(300)
    rare, known = learned([some + ["for Ann"] * (i < 9) for i, some in enumerate(lists)]), learned(lists)
    assert rare == known
    assert "for all" in learned([some + ["for all"] * (i < 10) for i, some in enumerate(lists)]).products
    assert learned([[*some, "x" * 201] for some in lists]) == known


def test_what_is_not_known_counts_as_nothing() -> None:
    said = TASTE.extend(frame([["a", "b"], ["b", "c", "new"], ["c", "b"], ["new"], []]))
    root = np.sqrt(5)
    assert said["taste_1"][:3].tolist() == pytest.approx([0.0, (1.6 - 0.6) / root, (1.6 - 0.6) / root])
    assert said["taste_2"][1] == said["taste_2"][2] == pytest.approx((1.2 + 0.8) / root)
    assert said.loc[3:, ["taste_1", "taste_2"]].isna().all(axis=None)
    bare = pd.DataFrame({"a": [1.0]})
    assert TASTE.extend(bare) is bare and TASTE.extend(frame([])).shape == (0, 3)


def test_of_too_little_none_is_learned() -> None:
    lists, _ = bought(300)
    assert fit_taste(frame(lists[:99]), BAG) is None, "too few customers"
    assert fit_taste(frame([[p for p in some if p in TEA[:7]] for some in lists]), BAG) is None, "too few products"
    assert fit_taste(frame([[] for _ in lists]), BAG) is None
    assert fit_taste(frame([TEA] * 100), BAG) is not None, "everybody has bought everything"
    assert say_taste(about(None, BAG)).startswith(
        "No taste was learned from `product`: it needs 100 customers, and 8 values that 10 customers or more have each"
    )


def sample() -> Any:
    """Rows of which who likes tea orders more often; a product appears with every cutoff."""
    found = world(300)
    lists, tea = bought(300)
    number = np.searchsorted(found.cutoffs(), found.cutoff)
    every = [[*lists[i % 300], f"new {number[i]}"] for i in range(len(found))]
    y = (np.random.default_rng(1).random(len(found)) < np.where(tea[np.arange(len(found)) % 300], 0.8, 0.2)).astype(np.int8)
    return replace(found, X=found.X.assign(**frame(every)), y=y)


def test_it_is_learned_from_nothing_later_than_the_newest_cutoff_that_is_learned_from() -> None:
    trained = train(sample(), Settings(horizon=H, as_of=AS_OF, rounds=30, bag=BAG))
    cutoffs = trained.learned.cutoffs()
    assert trained.tested.taste is not None and trained.forecaster.taste is not None
    assert [p for p in trained.tested.taste.products if p.startswith("new")] == [f"new {len(cutoffs) - 1}"]
    assert [p for p in trained.forecaster.taste.products if p.startswith("new")] == ["new 5"]
    assert BAG.name not in trained.forecaster.features and BAG.name not in trained.forecaster.categories


def test_a_model_with_taste_comes_back_from_its_bundle_and_one_without_it_too(tmp_path: Path) -> None:
    rows = sample()
    model = train(rows, Settings(horizon=H, as_of=AS_OF, rounds=30, bag=BAG)).forecaster
    assert model.features[-NUMBERS:] == ("taste_1", "taste_2", "taste_3", "taste_4") and not {"taste_1"} & set(model.inputs)
    told = model.contributions(rows.X[:200])
    assert np.abs(told[:, -NUMBERS:]).max() > 0.1 and np.allclose(told.sum(axis=1) + model.base_value(), model.raw(rows.X[:200]))
    folder = bundle.save(model, tmp_path, name="m", version=1, facts={}, card="")
    assert bundle.load(folder).forecaster.taste == model.taste
    assert bundle.load(folder).forecaster.probability(rows.X).tobytes() == model.probability(rows.X).tobytes()
    plain = train(rows, Settings(horizon=H, as_of=AS_OF, rounds=30, features=("recency", "count"))).forecaster
    older = {k: v for k, v in json.loads((folder / "bundle.json").read_bytes()).items() if k != "taste"}
    assert bundle._forecaster({**older, "features": plain.features, "linear": None}, plain.boosters).taste is None
    with pytest.raises(ModelError, match=r"E710.*taste_1"):
        model.probability(rows.X.drop(columns=BAG.name))


def test_a_damaged_dictionary_is_refused() -> None:
    whole = TASTE.to_dict()
    assert Taste.from_dict(json.loads(json.dumps(whole))) == TASTE
    for changed in ({"weights": [1.0]}, {"vectors": [[1.0], [1.0, 2.0], [1.0]]}, {"products": [], "weights": [], "vectors": []}):
        with pytest.raises(ValueError, match="products have"):
            Taste.from_dict(whole | changed)


def test_its_reasons_are_words() -> None:
    says = TASTE.declare("Order Completed")
    assert say_feature("taste_1", 0.31, says)[0] == "product of order more like c, a, b than like b, a, c (0.31)"
    assert say_feature("taste_1", -0.3, says)[0] == "product of order more like b, a, c than like c, a, b (0.30)"
    assert say_feature("taste_1", None, says)[0] == "no product of order that is known"


def test_a_name_that_is_taken_is_refused() -> None:
    taste = TasteFeatures(("order",), "product")
    with pytest.raises(ConfigError, match=r"E309.*features\.taste: the column 'taste_2' stands for something else"):
        compile_features(Features(taste=taste, measures=(("taste_2", compile_features(Features()).measures[0]),)))


# --- a project

CONFIG = small.CONFIG.replace("models:", "  taste: {did: Order Completed, of: product}\nmodels:").replace("cutoffs: 4", "cutoffs: 4, refresh: live")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained project whose customers with an even number like tea."""
    folder, rng = tmp_path_factory.mktemp("taste"), np.random.default_rng(2)
    lines = [f"{line},{rng.choice(TEA if int(line[1:5]) % 2 else TOOLS)}" for line in small.rows()]
    small.write(folder, [], CONFIG)
    (folder / "events.csv").write_text("\n".join(["customer_id,event_time,event,value,product", *lines]) + "\n", "utf-8")
    Project.load(folder / "predseg.yaml").train()
    return folder


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, np.ndarray | list) else value


def test_a_project_learns_it_says_so_and_scores_with_it(shop: Path, tmp_path: Path) -> None:
    project = Project.load(small.copied(shop, tmp_path))
    champion = project.registry().load("purchase")
    assert champion.facts["taste"] == {"of": "product", "values": 24, "numbers": 4} and champion.forecaster.taste is not None
    assert "What was bought is summed up by 4 numbers, learned from 24 values of `product`" in champion.card
    features = project.features()
    features.to_parquet(tmp_path / "features.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "features.parquet").map(_plain), features.map(_plain))
    assert features["all_product_order_completed"].map(len).max() > 3 and "taste_1" not in features
    assert "taste_1" in champion.facts["reference"]["features"], "drift looks at it"
    assert len(project.score()) > 200 and project.monitor()


def test_a_live_score_is_what_batch_scores_at_that_moment(shop: Path, tmp_path: Path) -> None:
    """What is bought now counts, and so does what nobody had bought before."""
    file = small.copied(shop, tmp_path)
    now, file_text = parse_instant("2025-11-01T00:00:00Z"), file.read_text("utf-8")
    file.write_text(file_text + "segments: rules.yaml\n", "utf-8")
    (tmp_path / "rules.yaml").write_text("segment: buyers\nrefresh: live\nmatch: {score: purchase, more_than: 0.3}\n", "utf-8")
    project = Project.load(file)
    loop = open_durable(project.config, project.segments(), now)
    events = [
        {"customer_id": f"c{i:04d}", "event": "Order Completed", "event_time": now + i, "product": p} for i, p in enumerate(["tea 1", "tool 1", "?"])
    ]
    loop.feed(events, now + 10)
    loop.tick(now + 10**6)
    assert loop.state is not None
    found = {row.customer_id: row.probability for row in loop.state.scores()}
    project.check()
    scored = project.score(as_of=now + 11, dry_run=True)
    wanted = dict(zip(scored["customer_id"], scored["probability"], strict=True))
    assert found == {who: wanted[who] for who in found} and set(found) == {"c0000", "c0001", "c0002"}
