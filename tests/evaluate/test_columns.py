"""The one pass that gives floating point columns gives the numbers of the exact answers."""

from __future__ import annotations

import numpy as np
import pytest

from predseg.evaluate import batch
from predseg.language.measures import Events, Measure
from tests.evaluate.worlds import MOMENTS, random_measure, random_world, seeded


@pytest.mark.parametrize("seed", range(30))
def test_columns_are_the_exact_answers_as_numbers(seed: int) -> None:
    """Also for a measure that is asked for twice, one that is wanted both ways, and customers with late events."""
    r = seeded(seed)
    block, measures = random_world(r).block, [random_measure(r) for _ in range(5)]
    asked, also = [*measures, measures[0]], [measures[1], Measure(Events())]
    matrix, exact = batch.columns(block, MOMENTS, asked, also=also)
    expected = batch.evaluate(block, MOMENTS, [*asked, *also])
    assert matrix.shape == (len(asked), len(block.customers), len(MOMENTS)) and list(exact) and set(exact) == set(also)
    for i, values in enumerate(expected[: len(asked)]):
        np.testing.assert_array_equal(matrix[i], values.to_float())
    for measure, values in zip(also, expected[len(asked) :], strict=True):
        np.testing.assert_array_equal(exact[measure].number, values.number)


def test_nothing_asked_is_answered() -> None:
    block = random_world(seeded(0)).block
    matrix, exact = batch.columns(block, MOMENTS, [])
    assert matrix.shape == (0, len(block.customers), len(MOMENTS)) and exact == {}
    assert batch.columns(block, [], [Measure(Events())])[0].shape == (1, len(block.customers), 0)
