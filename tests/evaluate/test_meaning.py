"""The exact meaning of windows, counts, aggregates and visibility at a moment, with both sides of every boundary.

Each story is told to the reference and to the batch executor, between two neighbours who did much the same.
``<INSTANT`` means one microsecond before.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from predseg.evaluate.reference import measure
from predseg.language import measures as m
from predseg.language.documents import parse_measure
from predseg.language.time import parse_instant
from predseg.language.yaml import read_documents
from tests.evaluate.stories import decided, measured, parse_events, tell

VIEW = "2026-03-01 10:00  Product Viewed"


class TestWindows:
    """An event at e counts from e until its window ends: (t - W, t], so it leaves exactly at e + W."""

    def test_within_is_open_at_its_start_and_closed_at_its_end(self) -> None:
        tell(
            "{did: Product Viewed, within: 48 hours}",
            VIEW,
            {"<2026-03-01 10:00": False, "2026-03-01 10:00": True, "<2026-03-03 10:00": True, "2026-03-03 10:00": False},
        )

    def test_without_within_the_whole_history_counts(self) -> None:
        tell("{did: Product Viewed}", VIEW, {"<2026-03-01 10:00": False, "2026-03-01 10:00": True, "2126-03-01": True})

    def test_from_is_another_word_for_within(self) -> None:
        tell("{did: Product Viewed, from: 2 days ago}", VIEW, {"<2026-03-03 10:00": True, "2026-03-03 10:00": False})

    def test_until_ends_in_the_past_and_has_no_start(self) -> None:
        tell("{did: Product Viewed, until: 2 days ago}", VIEW, {"<2026-03-03 10:00": False, "2026-03-03 10:00": True, "2126-03-01": True})

    def test_from_and_until_are_half_open_too(self) -> None:
        tell(
            "{did: Product Viewed, from: 3 days ago, until: 1 day ago}",
            VIEW,
            {"<2026-03-02 10:00": False, "2026-03-02 10:00": True, "<2026-03-04 10:00": True, "2026-03-04 10:00": False},
        )

    def test_since_is_the_only_closed_start(self) -> None:
        tell("{did: Product Viewed, since: 2026-03-01T10:00}", VIEW, {"<2026-03-01 10:00": False, "2026-03-01 10:00": True, "2126-03-01": True})
        tell("{did: Product Viewed, since: 2026-03-01T10:00:00.000001}", VIEW, {"2026-03-01 10:00": False, "2126-03-01": False})

    def test_since_and_until_together(self) -> None:
        tell("{did: Product Viewed, since: 2026-03-01T10:00, until: 1 day ago}", VIEW, {"<2026-03-02 10:00": False, "2026-03-02 10:00": True})
        tell("{did: Product Viewed, since: 2026-03-01T10:01, until: 1 day ago}", VIEW, {"2026-03-01 10:00": False, "2026-04-01": False})

    def test_two_windows_tile_the_time_line(self) -> None:
        """What leaves the window of the last day is in the day before, at the same microsecond."""
        today, yesterday = "{did: Product Viewed, within: 1 day}", "{did: Product Viewed, from: 2 days ago, until: 1 day ago}"
        for at in ("<2026-03-02 10:00", "2026-03-02 10:00", "<2026-03-03 10:00"):
            t = parse_instant(at.removeprefix("<")) - at.startswith("<")
            assert decided(today, VIEW, t) is not decided(yesterday, VIEW, t)

    def test_months_and_years_are_30_and_365_days(self) -> None:
        tell("{did: Product Viewed, within: 1 month}", VIEW, {"<2026-03-31 10:00": True, "2026-03-31 10:00": False})
        tell("{did: Product Viewed, within: 1 year}", "2028-02-29 00:00  Product Viewed", {"<2029-02-28": True, "2029-02-28": False})

    def test_an_empty_history(self) -> None:
        for text, answer in {
            "{did: A}": False,
            "{did_not: A}": True,
            "{did: A, exactly: 0}": True,
            "{did: A, at_most: 3}": True,
            "{did: A, sum: value, at_least: 0}": True,
            "{did: A, avg: value, at_least: 0}": None,
            "{did: A, then: {did_not: B}}": False,
        }.items():
            tell(text, "", {"2026-03-01": answer})


class TestCounts:
    """How often, against every comparison."""

    THREE = "2026-03-01 10:00  A\n2026-03-01 10:00  A\n2026-03-02 10:00  A\n2026-03-02 10:00  B"

    @pytest.mark.parametrize(
        ("comparison", "answer"),
        [
            *(("more_than: 2", True), ("more_than: 3", False), ("more_than: 2.5", True), ("at_least: 3", True), ("at_least: 3.5", False)),
            *(
                ("less_than: 4", True),
                ("less_than: 3", False),
                ("at_most: 3", True),
                ("at_most: 2", False),
                ("exactly: 3", True),
                ("exactly: 2.5", False),
            ),
            *(
                ("between: [3, 5]", True),
                ("between: [1, 3]", True),
                ("between: [4, 5]", False),
                ("between: [2.5, 2.9]", False),
                ("at_least: -1", True),
            ),
        ],
    )
    def test_comparisons(self, comparison: str, answer: bool) -> None:
        tell(f"{{did: A, {comparison}}}", self.THREE, {"2026-03-03": answer})

    def test_the_default_is_at_least_once(self) -> None:
        tell("{did: A}", self.THREE, {"<2026-03-01 10:00": False, "2026-03-01 10:00": True})

    def test_equal_events_at_one_instant_are_two(self) -> None:
        tell("{did: A, exactly: 2}", self.THREE, {"2026-03-01 10:00": True})

    def test_several_events_are_counted_together(self) -> None:
        tell("{did: [A, B], exactly: 4}", self.THREE, {"2026-03-02 10:00": True})

    def test_zero_is_a_value(self) -> None:
        tell(
            "{did: A, exactly: 0, within: 1 day}",
            self.THREE,
            {"<2026-03-01 10:00": True, "2026-03-01 10:00": False, "<2026-03-03 10:00": False, "2026-03-03 10:00": True},
        )

    def test_did_not_is_the_absence_of_all_of_them(self) -> None:
        tell("{did_not: [B, C]}", self.THREE, {"<2026-03-02 10:00": True, "2026-03-02 10:00": False})
        tell("{did_not: B, within: 1 day}", self.THREE, {"<2026-03-03 10:00": False, "2026-03-03 10:00": True})
        tell("{did_not: B, where: {p: x}}", self.THREE, {"2026-03-03": True})


class TestAggregates:
    """Exact decimals, nulls skipped, nothing over no event."""

    ORDERS = """
        2026-03-01 10:00  Order Completed  {value: 4999.9999}
        2026-03-02 10:00  Order Completed  {value: 0.0001}
        2026-03-03 10:00  Order Completed  {value: 0.0001}
        2026-03-04 10:00  Order Refunded  {value: -4000}
        2026-03-05 10:00  Order Completed
    """

    def test_exactly_5000_is_not_more_than_5000(self) -> None:
        at = {"2026-03-02 10:00": False, "2026-03-03 10:00": True}
        tell("{did: Order Completed, sum: value, more_than: 5000}", self.ORDERS, at)
        tell("{did: Order Completed, sum: value, at_least: 5000}", self.ORDERS, {"<2026-03-02 10:00": False, "2026-03-02 10:00": True})
        tell(
            "{did: Order Completed, sum: value, exactly: 5000}",
            self.ORDERS,
            {"<2026-03-02 10:00": False, "2026-03-02 10:00": True, "2026-03-03 10:00": False},
        )
        tell("{did: Order Completed, sum: value, at_most: 5000}", self.ORDERS, {"2026-03-02 10:00": True, "2026-03-03 10:00": False})
        tell("{did: Order Completed, sum: value, less_than: 5000}", self.ORDERS, {"<2026-03-02 10:00": True, "2026-03-02 10:00": False})
        tell(
            "{did: Order Completed, sum: value, between: [5000, 5000]}",
            self.ORDERS,
            {"<2026-03-02 10:00": False, "2026-03-02 10:00": True, "2026-03-03 10:00": False},
        )

    def test_tenths_add_up(self) -> None:
        """0.1 + 0.2 is 0.3, and thirty tenths are three."""
        tenths = "\n".join(f"2026-03-01 10:{i:02d}  A  {{value: 0.1}}" for i in range(30))
        tell("{did: A, sum: value, exactly: 3}", tenths, {"2026-03-02": True})
        tell("{did: A, sum: value, more_than: 3}", tenths, {"2026-03-02": False})
        tell("{did: A, avg: value, exactly: 0.1}", tenths, {"2026-03-02": True})

    def test_refunds_are_negative_and_leave_again(self) -> None:
        """A refund lowers the sum, and raises it when it leaves the window."""
        text = "{did: [Order Completed, Order Refunded], sum: value, more_than: 1000.0001, within: 5 days}"
        tell(text, self.ORDERS, {"<2026-03-04 10:00": True, "2026-03-04 10:00": False})
        refund = "2026-03-01 10:00  Order Refunded  {value: -50}\n2026-03-02 10:00  Order Completed  {value: 100}"
        text = "{did: [Order Completed, Order Refunded], sum: value, at_least: 100, within: 5 days}"
        tell(text, refund, {"2026-03-02 10:00": False, "<2026-03-06 10:00": False, "2026-03-06 10:00": True, "2026-03-07 10:00": False})

    def test_an_average_is_compared_as_a_sum(self) -> None:
        """A third has no last digit: 3 × the threshold decides."""
        thirds = "2026-03-01 10:00  A  {value: 1}\n2026-03-01 10:00  A  {value: 0}\n2026-03-01 10:00  A  {value: 0}"
        for threshold, answer in {"0.3333": True, "0.333333333333333333": True, "0.333333333333333334": False, "0.3334": False}.items():
            tell(f"{{did: A, avg: value, more_than: {threshold}}}", thirds, {"2026-03-02": answer})
        tell("{did: A, avg: value, between: [0.3333, 0.3334]}", thirds, {"2026-03-02": True})
        tell("{did: A, avg: value, exactly: 0.3333}", thirds, {"2026-03-02": False})

    def test_a_negative_average_is_compared_the_same_way(self) -> None:
        below = "2026-03-01 10:00  A  {value: -1}\n2026-03-01 10:00  A  {value: 0}\n2026-03-01 10:00  A  {value: 0}"
        tell("{did: A, avg: value, less_than: -0.3333}", below, {"2026-03-02": True})
        tell("{did: A, avg: value, at_least: -0.3334}", below, {"2026-03-02": True})
        tell("{did: A, avg: value, at_least: -0.3333}", below, {"2026-03-02": False})

    def test_min_and_max(self) -> None:
        tell("{did: Order Completed, min: value, exactly: 0.0001}", self.ORDERS, {"<2026-03-02 10:00": False, "2026-03-02 10:00": True})
        tell(
            "{did: Order Completed, max: value, at_least: 4999.9999, within: 3 days}",
            self.ORDERS,
            {"<2026-03-04 10:00": True, "2026-03-04 10:00": False},
        )
        tell(
            "{did: [Order Completed, Order Refunded], min: value, less_than: -3999.9999}",
            self.ORDERS,
            {"<2026-03-04 10:00": False, "2026-03-04 10:00": True},
        )

    def test_over_no_event_sum_and_distinct_are_zero_and_the_others_unknown(self) -> None:
        for text, answer in {
            "{did: A, sum: value, exactly: 0}": True,
            "{did: A, distinct: value, exactly: 0}": True,
            "{did: A, distinct: nowhere, exactly: 0}": True,
            "{did: A, avg: value, less_than: 9}": None,
            "{did: A, min: value, less_than: 9}": None,
            "{did: A, max: value, at_least: 0}": None,
        }.items():
            tell(text, self.ORDERS, {"2026-03-02 12:00": answer})

    def test_nulls_are_skipped(self) -> None:
        """An order without a value is an order, but no number: it counts for the count and nothing else."""
        last = "{did: Order Completed, within: 1 day, "
        tell(last + "exactly: 1}", self.ORDERS, {"2026-03-05 10:00": True})
        tell(last + "sum: value, exactly: 0}", self.ORDERS, {"2026-03-05 10:00": True})
        tell(last + "distinct: value, exactly: 0}", self.ORDERS, {"2026-03-05 10:00": True})
        for aggregate in ("avg", "min", "max"):
            tell(last + f"{aggregate}: value, exactly: 0}}", self.ORDERS, {"2026-03-05 10:00": None})
        mixed = "2026-03-01 10:00  A  {value: 3}\n2026-03-01 11:00  A\n2026-03-01 12:00  A  {value: 5}"
        assert measured("{did: A, avg: value}", mixed, "2026-03-02") == 4
        assert measured("{did: A, min: value}", mixed, "2026-03-02") == 3

    def test_distinct_counts_values_of_the_window(self) -> None:
        """A value that comes again later in the window is still one; lists count their elements; 0 and false are values."""
        views = """
            2026-03-01 10:00  A  {sku: x}
            2026-03-02 10:00  A  {sku: y}
            2026-03-03 10:00  A  {sku: x}
            2026-03-04 10:00  A
        """
        assert [
            measured("{did: A, distinct: sku, within: 2 days}", views, at)
            for at in ("2026-03-01 10:00", "2026-03-02 10:00", "2026-03-03 10:00", "2026-03-04 10:00", "2026-03-05 10:00")
        ] == [1, 2, 2, 1, 0]
        lists = "2026-03-01 10:00  A  {tags: [x, y]}\n2026-03-01 11:00  A  {tags: [y, z, z]}\n2026-03-01 12:00  A  {tags: []}"
        assert measured("{did: A, distinct: tags}", lists, "2026-03-02") == 3
        assert (
            measured("{did: A, distinct: n}", "2026-03-01 10:00  A  {n: 0}\n2026-03-01 11:00  A  {n: 0.0}\n2026-03-01 12:00  A  {n: 1}", "2026-03-02")
            == 2
        )
        assert measured("{did: A, distinct: f}", "2026-03-01 10:00  A  {f: false}\n2026-03-01 11:00  A  {f: true}", "2026-03-02") == 2


class TestDaysAndGaps:
    """In measures only; over too few events they are missing."""

    ORDERS = "2026-03-01 00:00  A\n2026-03-03 00:00  A\n2026-03-03 12:00  A"

    def test_days_since(self) -> None:
        assert measured("{did: A, days_since: first}", self.ORDERS, "2026-03-04") == 3
        assert measured("{did: A, days_since: last}", self.ORDERS, "2026-03-04") == 0.5
        assert measured("{did: A, days_since: first, within: 2 days}", self.ORDERS, "2026-03-04") == 1
        assert measured("{did: A, days_since: last, until: 18 hours ago}", self.ORDERS, "2026-03-04") == 1
        assert measured("{did: A, days_since: last}", self.ORDERS, "2026-03-03 12:00") == 0
        assert measured("{did: A, days_since: last}", self.ORDERS, "2026-02-28") is None
        assert measured("{did: A, days_since: first, within: 1 day}", self.ORDERS, "2026-03-04 12:00") is None

    def test_gaps(self) -> None:
        assert measured("{did: A, gap: mean}", self.ORDERS, "2026-03-04") == 1.25
        assert measured("{did: A, gap: last}", self.ORDERS, "2026-03-04") == 0.5
        assert measured("{did: A, gap: std}", self.ORDERS, "2026-03-04") == 0.75

    def test_one_event_has_no_gap_and_one_gap_no_spread(self) -> None:
        for gap in ("mean", "last", "std"):
            assert measured(f"{{did: A, gap: {gap}}}", self.ORDERS, "2026-03-01") is None
        assert measured("{did: A, gap: mean}", self.ORDERS, "2026-03-03") == 2
        assert measured("{did: A, gap: std}", self.ORDERS, "2026-03-03") is None

    def test_a_gap_lies_within_the_window(self) -> None:
        """The gap to an event before the window is none of its gaps."""
        assert measured("{did: A, gap: mean, within: 12 hours}", self.ORDERS, "2026-03-03 12:00") is None
        assert measured("{did: A, gap: mean, within: 721 minutes}", self.ORDERS, "2026-03-03 12:00") == 0.5

    def test_equal_gaps_have_no_spread(self) -> None:
        """Not a rounding error's square root."""
        every = "\n".join(f"2026-03-{day:02d} 07:07:07  A" for day in range(1, 20))
        assert measured("{did: A, gap: std}", every, "2026-04-01") == 0
        assert measured("{did: A, gap: mean}", every, "2026-04-01") == 1

    def test_one_customer_and_many_have_the_same_last_bit(self) -> None:
        """A root is a root: Python's power and NumPy's differ in the last bit now and then."""
        r = random.Random(0)
        numbers, counts = [float(r.randrange(10**9)) for _ in range(2000)], [float(r.randrange(2, 50)) for _ in range(2000)]
        squares = [n * n / c + r.randrange(10**15) for n, c in zip(numbers, counts, strict=True)]
        together = m.as_float("gap_std", np.array(numbers), np.array(counts), np.array(squares))
        assert together.tolist() == [float(m.as_float("gap_std", *parts)) for parts in zip(numbers, counts, squares, strict=True)]


class TestVisibility:
    """An event counts from max(event_time, received_at); windows ask when it happened."""

    LATE = "2026-03-01 10:00  A  received 2026-03-02 10:00"

    def test_a_late_event_counts_from_when_we_learn_of_it(self) -> None:
        tell("{did: A}", self.LATE, {"2026-03-01 10:00": False, "<2026-03-02 10:00": False, "2026-03-02 10:00": True})

    def test_its_window_still_ends_at_its_own_time(self) -> None:
        tell("{did: A, within: 2 days}", self.LATE, {"2026-03-02 10:00": True, "<2026-03-03 10:00": True, "2026-03-03 10:00": False})
        tell("{did: A, within: 1 day}", self.LATE, {"2026-03-02 10:00": False})

    def test_received_before_it_happened_it_waits_for_its_time(self) -> None:
        tell("{did: A}", "2026-03-02 10:00  A  received 2026-03-01 10:00", {"<2026-03-02 10:00": False, "2026-03-02 10:00": True})

    def test_order_in_time_is_the_order_of_event_times(self) -> None:
        events = "2026-03-01 10:00  A  received 2026-03-05 10:00\n2026-03-01 11:00  B"
        tell("{did: A, then: {did: B}}", events, {"<2026-03-05 10:00": False, "2026-03-05 10:00": True})
        assert measured("{did: [A, B], gap: last}", events, "2026-03-05 10:00") == pytest.approx(1 / 24)
        assert measured("{did: [A, B], gap: last}", events, "2026-03-05 09:59") is None

    def test_labels_use_all_that_is_known_when_training_runs(self) -> None:
        [node] = read_documents("{did: A, within: 2 days}")
        history, t = parse_events(self.LATE), parse_instant("2026-03-02 09:00")
        assert measure(parse_measure(node), history, t).number == 0
        assert measure(parse_measure(node), history, t, known=parse_instant("2026-03-02 10:00")).number == 1
        assert measure(parse_measure(node), history, t, known=parse_instant("2026-03-02 10:00") - 1).number == 0


class TestEvidence:
    """The reference answers with the events behind the number, oldest first."""

    def test_the_events_of_the_window_are_the_evidence(self) -> None:
        [node] = read_documents("{did: A, within: 2 days, sum: value}")
        history = parse_events("2026-03-03 10:00  A  {value: 2}\n2026-03-01 10:00  A  {value: 1}\n2026-03-02 10:00  A\n2026-03-02 10:00  B")
        answer = measure(parse_measure(node), history, parse_instant("2026-03-03 10:00"))
        assert [e.time for e in answer.events] == [parse_instant("2026-03-02 10:00"), parse_instant("2026-03-03 10:00")]
        assert all(e.name == "A" for e in answer.events) and (answer.number, answer.count) == (20_000, 1)

    def test_with_then_the_first_steps_are(self) -> None:
        [node] = read_documents("{did: A, then: {did: B}}")
        history = parse_events("2026-03-01 10:00  A\n2026-03-02 10:00  B\n2026-03-03 10:00  A")
        assert [e.time for e in measure(parse_measure(node), history, parse_instant("2026-03-04")).events] == [parse_instant("2026-03-01 10:00")]
