"""The exact meaning of `then`: what follows, what does not, and what ties the steps, with both sides of every boundary.

Each story is told to the reference and to the batch executor, between two neighbours who did much the same.
``<INSTANT`` means one microsecond before.
"""

from __future__ import annotations

from predseg.evaluate.reference import Event, decide
from tests.evaluate.stories import measured, parse_events, rule, tell


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
