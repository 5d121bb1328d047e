"""The exact meaning of every construct at a moment, line by line, with both sides of every boundary.

Each story is told to the reference and to the batch executor, between two neighbours who did much the same.
``<INSTANT`` means one microsecond before.
"""

from __future__ import annotations

import random

import numpy as np
import pytest

from predseg.evaluate.reference import Event, decide, measure
from predseg.language import conditions as c
from predseg.language import measures as m
from predseg.language.documents import parse_measure
from predseg.language.time import parse_instant
from predseg.language.yaml import read_documents
from tests.evaluate.stories import decided, measured, parse_events, rule, tell

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


class TestThen:
    """Some E is followed by F, strictly later and within V, seen by t."""

    CART = "2026-03-01 10:00  Cart\n2026-03-02 10:00  Order"

    def test_exactly_within_is_within(self) -> None:
        tell(
            "{did: Cart, then: {did: Order, within: 24 hours}}", self.CART, {"<2026-03-02 10:00": False, "2026-03-02 10:00": True, "2027-01-01": True}
        )
        tell("{did: Cart, then: {did: Order, within: 1439 minutes}}", self.CART, {"2026-03-02 10:00": False, "2027-01-01": False})

    def test_the_same_instant_does_not_follow(self) -> None:
        both = "2026-03-01 10:00  Cart\n2026-03-01 10:00  Order"
        tell("{did: Cart, then: {did: Order}}", both, {"2026-03-01 10:00": False, "2026-04-01": False})
        tell(
            "{did: Cart, then: {did: Order}}",
            both + "\n2026-03-01 10:00:00.000001  Order",
            {"2026-03-01 10:00": False, "2026-03-01 10:00:00.000001": True},
        )
        tell("{did: Cart, then: {did_not: Order, within: 1 hour}}", both, {"<2026-03-01 11:00": False, "2026-03-01 11:00": True})

    def test_an_event_does_not_follow_itself(self) -> None:
        tell("{did: Cart, then: {did: Cart}}", "2026-03-01 10:00  Cart", {"2026-04-01": False})
        tell(
            "{did: Cart, then: {did: Cart}}", "2026-03-01 10:00  Cart\n2026-03-01 11:00  Cart", {"<2026-03-01 11:00": False, "2026-03-01 11:00": True}
        )

    def test_the_window_is_about_the_first_step(self) -> None:
        """The E must still be in the window; the F only by t."""
        tell(
            "{did: Cart, within: 2 days, then: {did: Order}}",
            self.CART,
            {"2026-03-02 10:00": True, "<2026-03-03 10:00": True, "2026-03-03 10:00": False},
        )
        tell("{did: Cart, until: 1 day ago, then: {did: Order}}", self.CART, {"<2026-03-02 10:00": False, "2026-03-02 10:00": True})
        tell("{did: Cart, until: 12 hours ago, then: {did: Order}}", self.CART, {"<2026-03-02 10:00": False, "2026-03-02 10:00": True})

    def test_any_of_them_may_be_followed(self) -> None:
        carts = "2026-03-01 10:00  Cart\n2026-03-05 10:00  Cart\n2026-03-05 11:00  Order"
        tell("{did: Cart, then: {did: Order, within: 1 hour}}", carts, {"<2026-03-05 11:00": False, "2026-03-05 11:00": True})

    def test_at_least_n_asks_for_the_nth(self) -> None:
        emails = "2026-03-01 10:00  Sent\n2026-03-01 11:00  Opened\n2026-03-01 12:00  Opened\n2026-03-01 12:00  Opened\n2026-03-01 13:00  Opened"
        tell("{did: Sent, then: {did: Opened, at_least: 1, within: 2 hours}}", emails, {"<2026-03-01 11:00": False, "2026-03-01 11:00": True})
        tell("{did: Sent, then: {did: Opened, at_least: 3, within: 2 hours}}", emails, {"<2026-03-01 12:00": False, "2026-03-01 12:00": True})
        tell("{did: Sent, then: {did: Opened, at_least: 4, within: 2 hours}}", emails, {"2026-03-01 13:00": False, "2026-04-01": False})
        tell("{did: Sent, then: {did: Opened, at_least: 4, within: 3 hours}}", emails, {"<2026-03-01 13:00": False, "2026-03-01 13:00": True})

    def test_counts_are_over_the_first_steps_each_once(self) -> None:
        """One cart with two orders after it is one; two carts before one order are two."""
        text = "{did: Cart, then: {did: Order, within: 1 day}, "
        one = "2026-03-01 10:00  Cart\n2026-03-01 11:00  Order\n2026-03-01 12:00  Order"
        two = "2026-03-01 10:00  Cart\n2026-03-01 11:00  Cart\n2026-03-01 12:00  Order"
        tell(text + "exactly: 1}", one, {"2026-03-02": True})
        tell(text + "exactly: 2}", two, {"2026-03-02": True})
        tell("{did: Cart, then: {did: Order}, exactly: 0}", "2026-03-01 10:00  Cart", {"2026-03-02": True})

    def test_aggregates_are_over_the_first_steps_that_satisfy_it(self) -> None:
        carts = """
            2026-03-01 10:00  Cart  {value: 10}
            2026-03-02 10:00  Order  {value: 999}
            2026-03-03 10:00  Cart  {value: 20.5}
        """
        assert measured("{did: Cart, sum: value, then: {did: Order}}", carts, "2026-03-04") == 10
        assert measured("{did: Cart, sum: value, then: {did_not: Order}}", carts, "2026-03-04") == 20.5
        assert measured("{did: Cart, days_since: last, then: {did: Order}}", carts, "2026-03-04 10:00") == 3

    def test_both_steps_take_filters(self) -> None:
        text = "{did: Cart, where: {p: x}, then: {did: Order, where: {value: {more_than: 5}}}}"
        tell(text, "2026-03-01 10:00  Cart  {p: x}\n2026-03-02 10:00  Order  {value: 5.0001}", {"<2026-03-02 10:00": False, "2026-03-02 10:00": True})
        tell(text, "2026-03-01 10:00  Cart  {p: y}\n2026-03-02 10:00  Order  {value: 6}", {"2026-03-03": False})
        tell(text, "2026-03-01 10:00  Cart  {p: x}\n2026-03-02 10:00  Order  {value: 5}", {"2026-03-03": False})


class TestThenDidNot:
    """Not followed: with a time it is true only once the time has passed, without one from e on."""

    CART = "2026-03-01 10:00  Product Added\n2026-03-01 12:00  Product Added"
    ABANDONED = "{did: Product Added, within: 3 days, then: {did_not: [Order Completed, Product Added], within: 24 hours}}"

    def test_the_worked_example_fires_24_hours_after_the_last_add(self) -> None:
        tell(self.ABANDONED, self.CART, {"2026-03-02 10:00": False, "<2026-03-02 12:00": False, "2026-03-02 12:00": True})

    def test_and_ends_when_the_last_add_leaves_the_window(self) -> None:
        tell(self.ABANDONED, self.CART, {"<2026-03-04 12:00": True, "2026-03-04 12:00": False})

    def test_an_order_at_exactly_24_hours_is_in_time(self) -> None:
        tell(self.ABANDONED, self.CART + "\n2026-03-02 12:00  Order Completed", {"2026-03-02 12:00": False, "2026-03-04": False})
        tell(self.ABANDONED, self.CART + "\n2026-03-02 12:00:00.000001  Order Completed", {"2026-03-02 12:00": True, "2026-03-03": True})

    def test_an_absence_that_was_established_stays(self) -> None:
        """A later order does not undo the 24 hours without one."""
        tell(self.ABANDONED, self.CART + "\n2026-03-03 12:00  Order Completed", {"2026-03-03 12:00": True})

    def test_without_a_time_it_holds_until_the_first_one(self) -> None:
        text, events = "{did: Product Added, then: {did_not: Order Completed}}", self.CART + "\n2026-03-05 10:00  Order Completed"
        tell(text, events, {"<2026-03-01 10:00": False, "2026-03-01 10:00": True, "<2026-03-05 10:00": True, "2026-03-05 10:00": False})

    def test_a_late_order_withdraws_it_from_when_we_learn_of_it(self) -> None:
        events = self.CART + "\n2026-03-01 20:00  Order Completed  received 2026-03-03 08:00"
        tell(self.ABANDONED, events, {"2026-03-02 12:00": True, "<2026-03-03 08:00": True, "2026-03-03 08:00": False})

    def test_at_the_far_end_of_a_bounded_window(self) -> None:
        """From 10 days until 5 days ago, and no order for 7 days after: possible, as those 7 days have passed for the oldest."""
        text = "{did: Cart, from: 10 days ago, until: 5 days ago, then: {did_not: Order, within: 7 days}}"
        tell(
            text,
            "2026-03-01 10:00  Cart",
            {"<2026-03-08 10:00": False, "2026-03-08 10:00": True, "<2026-03-11 10:00": True, "2026-03-11 10:00": False},
        )


class TestChains:
    """Each time counts from the step before."""

    STEPS = "2026-03-01 10:00  A\n2026-03-01 12:00  B\n2026-03-01 14:00  C"

    def test_each_within_counts_from_the_previous_step(self) -> None:
        """Four hours from A to C, and never more than two from step to step."""
        tell(
            "{did: A, then: {did: B, within: 2 hours, then: {did: C, within: 2 hours}}}",
            self.STEPS,
            {"<2026-03-01 14:00": False, "2026-03-01 14:00": True},
        )
        tell("{did: A, then: {did: B, within: 2 hours, then: {did: C, within: 119 minutes}}}", self.STEPS, {"2026-03-02": False})

    def test_another_second_step_may_succeed(self) -> None:
        """The first B fails, the second does not."""
        steps = "2026-03-01 10:00  A\n2026-03-01 11:00  B\n2026-03-01 12:00  B\n2026-03-01 13:00  C"
        tell("{did: A, then: {did: B, then: {did: C, within: 1 hour}}}", steps, {"2026-03-01 13:00": True})
        tell("{did: A, then: {did: B, within: 1 hour, then: {did: C, within: 1 hour}}}", steps, {"2026-03-02": False})

    def test_at_least_counts_the_steps_that_go_on(self) -> None:
        steps = "2026-03-01 10:00  A\n2026-03-01 11:00  B\n2026-03-01 12:00  B\n2026-03-01 13:00  C\n2026-03-01 14:00  B"
        tell("{did: A, then: {did: B, at_least: 2, then: {did: C}}}", steps, {"2026-03-02": True})
        tell("{did: A, then: {did: B, at_least: 3, then: {did: C}}}", steps, {"2026-03-02": False})
        tell("{did: A, then: {did: B, at_least: 3}}", steps, {"<2026-03-01 14:00": False, "2026-03-01 14:00": True})

    def test_an_absence_at_the_end_of_a_chain(self) -> None:
        text = "{did: A, then: {did: B, then: {did_not: C, within: 2 hours}}}"
        tell(text, self.STEPS, {"2026-03-02": False})
        tell(text.replace("2 hours", "119 minutes"), self.STEPS, {"<2026-03-01 13:59": False, "2026-03-01 13:59": True})
        tell(
            "{did: A, then: {did: B, then: {did_not: C}}}",
            self.STEPS,
            {"<2026-03-01 12:00": False, "2026-03-01 12:00": True, "2026-03-01 14:00": False},
        )

    def test_three_steps_at_one_instant_follow_nothing(self) -> None:
        tell("{did: A, then: {did: B, then: {did: C}}}", "2026-03-01 10:00  A\n2026-03-01 10:00  B\n2026-03-01 10:00  C", {"2026-03-02": False})


class TestSame:
    """``same: p`` ties a step to the one before: the values are equal, and present."""

    TEXT = "{did: Viewed, then: {did: Bought, same: sku, within: 1 day}}"

    def test_only_the_same_value_follows(self) -> None:
        tell(
            self.TEXT,
            "2026-03-01 10:00  Viewed  {sku: x}\n2026-03-01 11:00  Bought  {sku: x}",
            {"<2026-03-01 11:00": False, "2026-03-01 11:00": True},
        )
        tell(self.TEXT, "2026-03-01 10:00  Viewed  {sku: x}\n2026-03-01 11:00  Bought  {sku: y}", {"2026-03-02": False})

    def test_what_has_no_value_is_not_considered(self) -> None:
        tell(self.TEXT, "2026-03-01 10:00  Viewed\n2026-03-01 11:00  Bought", {"2026-03-02": False})
        tell(self.TEXT, "2026-03-01 10:00  Viewed  {sku: x}\n2026-03-01 11:00  Bought", {"2026-03-02": False})

    def test_an_absence_is_of_the_same_value(self) -> None:
        """Another product bought, or one without a name, is none; a view of nothing is no view."""
        text = "{did: Viewed, then: {did_not: Bought, same: sku, within: 1 day}}"
        tell(text, "2026-03-01 10:00  Viewed  {sku: x}\n2026-03-01 11:00  Bought  {sku: y}", {"<2026-03-02 10:00": False, "2026-03-02 10:00": True})
        tell(text, "2026-03-01 10:00  Viewed  {sku: x}\n2026-03-01 11:00  Bought", {"2026-03-02 10:00": True})
        tell(text, "2026-03-01 10:00  Viewed  {sku: x}\n2026-03-01 11:00  Bought  {sku: x}", {"2026-03-02 10:00": False})
        tell(text, "2026-03-01 10:00  Viewed\n2026-03-01 11:00  Bought  {sku: x}", {"2026-03-02 10:00": False})

    def test_each_step_is_tied_by_itself(self) -> None:
        """A chain tied throughout, and one whose last step is free."""
        steps = "2026-03-01 10:00  A  {s: 1}\n2026-03-01 11:00  B  {s: 1}\n2026-03-01 12:00  C  {s: 2}"
        tell("{did: A, then: {did: B, same: s, then: {did: C, same: s}}}", steps, {"2026-03-02": False})
        tell("{did: A, then: {did: B, same: s, then: {did: C}}}", steps, {"<2026-03-01 12:00": False, "2026-03-01 12:00": True})

    def test_equal_numbers_are_the_same(self) -> None:
        tell(self.TEXT, "2026-03-01 10:00  Viewed  {sku: 5}\n2026-03-01 11:00  Bought  {sku: 5.00}", {"2026-03-02": True})

    def test_a_flag_is_no_number(self) -> None:
        """Python holds True == 1; histories do not."""
        events = [Event(0, "Viewed", {"sku": True}), Event(1, "Bought", {"sku": parse_events("2026-03-01  A  {n: 1}")[0].properties["n"]})]
        assert decide(rule(self.TEXT), events, 2) is False

    def test_a_property_that_nothing_has_ties_nothing(self) -> None:
        tell("{did: Viewed, then: {did: Bought, same: nowhere}}", "2026-03-01 10:00  Viewed\n2026-03-01 11:00  Bought", {"2026-03-02": False})


class TestWhere:
    """Two values, and a missing or wrong-typed property fails every test, ``not`` included."""

    @pytest.mark.parametrize(
        ("test", "passing", "failing"),
        [
            ("gold", ["gold"], ["Gold", "5", "[silver]", "true"]),
            ("[gold, 5]", ["gold", "5", "5.0"], ["silver", "6", "true"]),
            ("{not: gold}", ["silver", "Gold"], ["gold", "5", "true"]),
            ("{not: [gold, 5]}", ["silver", "6"], ["gold", "5", "true"]),
            ("5", ["5", "5.000"], ["'5'", "5.0001", "true"]),
            ("'5'", ["'5'"], ["5"]),
            ("true", ["true"], ["false", "1", "'true'"]),
            ("1", ["1"], ["true"]),
            ("{not: true}", ["false"], ["true", "0", "'false'"]),
            ("{contains: gold}", ["gold", "old gold ring"], ["Gold", "5", "true"]),
            ("{contains: 'a.b'}", ["xa.by"], ["axb"]),  # no pattern
            ("{more_than: 100}", ["100.0001"], ["100", "99.9999", "'101'", "true"]),
            ("{at_least: 100}", ["100"], ["99.9999"]),
            ("{less_than: 100}", ["99.9999", "-5"], ["100", "'1'", "false"]),
            ("{at_most: 100}", ["100"], ["100.0001"]),
            ("{exactly: 100}", ["100.0"], ["100.0001"]),
            ("{between: [1, 2]}", ["1", "2", "1.5"], ["0.9999", "2.0001", "'1'"]),
            ("{between: [a, c]}", ["a", "bz", "c"], ["ca", "A", "2"]),
            ("{more_than: b}", ["c", "ba", "é"], ["b", "B", "9"]),  # text compares by code points: B before a before é
            ("{at_least: 2026-03-01}", ["2026-03-01", "2026-03-01T10:00"], ["2026-02-28"]),
            ("{more_than: 1, at_most: 2}", ["2"], ["1", "3"]),
            ("{exists: true}", ["gold", "0", "false", "''"], []),
            ("{exists: false}", [], ["gold", "0", "false", "''"]),
        ],
    )
    def test_tests_of_one_value(self, test: str, passing: list[str], failing: list[str]) -> None:
        for value, answer in [*((v, True) for v in passing), *((v, False) for v in failing)]:
            if not value.startswith("["):
                tell(f"{{did: A, where: {{p: {test}}}}}", f"2026-03-01 10:00  A  {{p: {value}}}", {"2026-03-02": answer})

    @pytest.mark.parametrize("test", ["x", "{not: x}", "{contains: x}", "{more_than: 1}", "{less_than: 1}", "{exists: true}", "true"])
    def test_a_missing_property_fails_every_test_but_absence(self, test: str) -> None:
        other = "2026-03-01 10:00  A\n2026-03-01 10:00  B  {p: y}"
        tell(f"{{did: A, where: {{p: {test}}}}}", "2026-03-01 10:00  A", {"2026-03-02": False})
        tell(f"{{did: A, where: {{p: {test}}}}}", other, {"2026-03-02": False})
        tell("{did: A, where: {p: {exists: false}}}", "2026-03-01 10:00  A", {"2026-03-02": True})
        tell("{did: A, where: {p: {exists: false}}}", other, {"2026-03-02": True})

    def test_a_list_matches_if_one_element_does(self) -> None:
        """Also for ``not``: one element is not gold. An empty list is there, but matches nothing."""
        for test, value, answer in [
            ("gold", "[silver, gold]", True),
            ("gold", "[silver]", False),
            ("{not: gold}", "[silver, gold]", True),
            ("{not: gold}", "[gold]", False),
            ("{contains: ol}", "[silver, gold]", True),
            ("gold", "[]", False),
            ("{not: gold}", "[]", False),
            ("{exists: true}", "[]", True),
            ("{exists: false}", "[]", False),
        ]:
            tell(f"{{did: A, where: {{p: {test}}}}}", f"2026-03-01 10:00  A  {{p: {value}}}", {"2026-03-02": answer})

    def test_all_tests_must_pass_on_the_same_event(self) -> None:
        text = "{did: A, where: {p: x, q: {more_than: 1}}}"
        tell(text, "2026-03-01 10:00  A  {p: x, q: 1}\n2026-03-01 11:00  A  {p: y, q: 2}", {"2026-03-02": False})
        tell(text, "2026-03-01 10:00  A  {p: x, q: 2}", {"2026-03-02": True})

    def test_a_filter_keeps_did_not_total(self) -> None:
        tell("{did_not: A, where: {p: x}}", "2026-03-01 10:00  A  {p: y}\n2026-03-01 11:00  A", {"2026-03-02": True})


def facts(condition: c.Condition, t: int) -> bool | None:
    """The trait tier is gold, the trait tea is unknown, segments have two values."""
    if isinstance(condition, c.In):
        return (condition.segment == "inside") == condition.member
    assert isinstance(condition, c.Trait)
    return None if condition.filter.property == "tea" else condition.filter.accepts("gold")


YES, NO, MAYBE = "{trait: {tier: gold}}", "{trait: {tier: tin}}", "{trait: {tea: green}}"


class TestKleene:
    """Unknown goes through all layers, and only there where it could decide."""

    @pytest.mark.parametrize(
        ("layer", "answer"),
        [
            ("{all: [YES, YES]}", True),
            ("{all: [YES, MAYBE]}", None),
            ("{all: [NO, MAYBE]}", False),
            ("{any: [YES, MAYBE]}", True),
            ("{any: [NO, MAYBE]}", None),
            ("{any: [NO, NO]}", False),
            ("{none: [NO, NO]}", True),
            ("{none: [NO, MAYBE]}", None),
            ("{none: [YES, MAYBE]}", False),
            ("{some: {at_least: 2, of: [YES, YES, MAYBE]}}", True),
            ("{some: {at_least: 2, of: [YES, NO, MAYBE]}}", None),
            ("{some: {at_least: 2, of: [NO, NO, MAYBE]}}", False),
            ("{some: {at_least: 3, of: [YES, MAYBE, MAYBE]}}", None),
            ("{some: {at_least: 3, of: [NO, MAYBE, MAYBE]}}", False),
            ("{none: [{none: [MAYBE]}]}", None),
            ("{all: [{any: [NO, {all: [YES, MAYBE]}]}, YES]}", None),
            ("{in: inside}", True),
            ("{not_in: inside}", False),
            ("{none: [{in: inside}]}", False),
            ("{none: [{in: outside}]}", True),
            ("{not_in: outside}", True),
        ],
    )
    def test_layers(self, layer: str, answer: bool | None) -> None:
        text = layer.replace("YES", YES).replace("NO", NO).replace("MAYBE", MAYBE)
        tell(text, "2026-03-01 10:00  A", {"2026-03-02": answer}, facts)

    def test_an_average_over_nothing_is_unknown_in_its_layer(self) -> None:
        average = "{did: Order, avg: value, at_least: 5}"
        tell(average, VIEW, {"2026-03-02": None})
        tell(f"{{none: [{average}]}}", VIEW, {"2026-03-02": None})
        tell(f"{{any: [{average}, {{did: Product Viewed}}]}}", VIEW, {"2026-03-02": True})
        tell(f"{{all: [{average}, {{did: Order}}]}}", VIEW, {"2026-03-02": False})

    def test_membership_has_two_values(self) -> None:
        """A segment whose rule is unknown has no member: ``in`` is false and ``not_in`` true, where ``none`` of the rule stays unknown."""
        average = rule("{did: Order, avg: value, at_least: 5}")
        tell(c.Holds((average,)), VIEW, {"2026-03-02": False})
        tell(c.Holds((average,), member=False), VIEW, {"2026-03-02": True})
        tell(c.NoneOf((average,)), VIEW, {"2026-03-02": None})
        tell(c.NoneOf((c.Holds((average,)),)), VIEW, {"2026-03-02": True})

    def test_traits_may_ask_whether_they_exist(self) -> None:
        exists = c.Trait(m.Filter("tea", (m.Test("exists", (False,)),)))
        assert exists.filter.accepts(None) and not exists.filter.accepts("green")


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
