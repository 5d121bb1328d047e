"""Reasons: how they read."""

from __future__ import annotations

import numpy as np
import pytest

from predseg import config as declared
from predseg.forecast.features import compile_features
from predseg.forecast.forecaster import encode
from predseg.forecast.reasons import Speaker, declare, say_feature
from predseg.language.time import DAY
from tests.forecast.tiny import DECLARATIONS, FEATURES, customers, forecaster

ORDER = declared.Features((30 * DAY, 90 * DAY), (("Order Completed", declared.EventFeatures("value", ("product_id",))),), traits=("country",))
SAID = declare(compile_features(ORDER))


@pytest.mark.parametrize(
    ("name", "value", "phrase", "plural"),
    [
        ("tenure", 120.4, "first any event 120 days ago", False),
        ("days_since_order_completed", 3.2, "last Order Completed 3 days ago", False),
        ("days_since_order_completed", 0.25, "last Order Completed 0.2 days ago", False),
        ("days_since_order_completed", 1.0, "last Order Completed 1 day ago", False),
        ("days_since_order_completed", None, "no Order Completed", False),
        ("count_order_completed_90d", 0.0, "no Order Completed in the last 90 days", False),
        ("count_order_completed_90d", 1.0, "1 Order Completed in the last 90 days", False),
        ("count_order_completed", 1234.0, "1,234 Order Completed", True),
        ("sum_value_order_completed_30d", 1234.5, "total value 1,234 of Order Completed in the last 30 days", False),
        ("sum_value_order_completed_30d", 0.0, "total value 0 of Order Completed in the last 30 days", False),
        ("avg_value_order_completed_30d", float("nan"), "no Order Completed in the last 30 days", False),
        ("max_value_order_completed", 9.96, "largest value 10 of Order Completed", False),
        ("distinct_product_id_order_completed_30d", 4.0, "4 different product_id of Order Completed in the last 30 days", True),
        ("gap_mean_order_completed", 20.0, "usual gap of 20 days between Order Completed", False),
        ("gap_std_order_completed", 2.5, "spread of 2 days of the gaps between Order Completed", False),
        ("gap_last_order_completed", None, "no second Order Completed yet", False),
        ("recency_over_gap_order_completed", 0.5, "last Order Completed 0.5 times the usual gap ago", False),
        ("share_count_order_completed_30d_of_90d", 0.4, "40% of Order Completed in the last 90 days being in the last 30 days", False),
        (
            "share_sum_value_order_completed_30d_of_90d",
            0.123,
            "12% of the value of Order Completed in the last 90 days being in the last 30 days",
            False,
        ),
        ("share_count_order_completed_30d_of_90d", None, "no Order Completed in the last 90 days", False),
        ("trait_country", "FR", "country is FR", False),
        ("trait_country", None, "country not known", False),
        ("never_declared", 3.0, "never_declared 3", False),
        ("never_declared", None, "never_declared missing", False),
    ],
)
def test_how_a_value_reads(name: str, value: float | str | None, phrase: str, plural: bool) -> None:
    assert say_feature(name, value, SAID) == (phrase, plural)


def test_every_feature_of_a_project_has_words() -> None:
    for name in compile_features(ORDER).names:
        for value in (None, 0.0, 0.4, 1.0, 7.0, 12345.6) if not name.startswith("trait") else (None, "FR"):
            phrase, _ = say_feature(name, value, SAID)
            assert name not in phrase
            assert "  " not in phrase


def test_rows_get_their_own_words_in_the_right_order() -> None:
    model = forecaster()
    frame = customers(4)
    frame[list(FEATURES[:4])] = [[3.2, 4, 0, np.nan], [40.0, 1, 1234.0, 2.0], [np.nan, 0, 5.0, 0.5], [1.0, 2, 3.0, 4.0]]
    frame["trait_country"] = ["GB", "XX", None, "FR"]
    matrix = encode(frame, model.features, model.categories)
    features = np.array([[0, 1, 4], [2, 3, 4], [0, 4, -1], [-1, -1, -1]])
    sizes = np.array([[0.5, 0.4, 0.3], [0.5, -0.4, -0.3], [-0.5, 0.1, 0.0], [0.0, 0.0, 0.0]])
    values = np.take_along_axis(matrix, features, axis=1)
    speaker = Speaker(model, DECLARATIONS)
    wanted = [
        ["last Order Completed 3 days ago raises it", "4 Order Completed in the last 90 days raise it", "country is GB raises it"],
        [
            "total value 1,230 of Order Completed in the last 365 days raises it",
            "last Order Completed 2 times the usual gap ago lowers it",
            "country not known lowers it",
        ],
        ["no Order Completed lowers it", "country not known raises it"],
        [],
    ]
    assert speaker.say(values, features, sizes).to_pylist() == wanted
    backwards = speaker.say(values[::-1], features[::-1], sizes[::-1]).to_pylist()
    assert backwards == wanted[::-1], "words remembered from before changed"
