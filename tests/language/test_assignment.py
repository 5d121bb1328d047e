"""Who is held out and who gets what: the same everywhere, as many as declared, and nobody moves who need not."""

from __future__ import annotations

import hashlib
from decimal import Decimal
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from predseg.language.assignment import Experiment, places, position

CUSTOMERS = [f"c{number:06d}" for number in range(20_000)]


def experiment(holdout: str = "0", **split: str) -> Experiment:
    return Experiment("carts", Decimal(holdout), tuple((name, Decimal(share)) for name, share in split.items()))


def test_golden_vectors() -> None:
    """Written down once: a changed assignment would mix up every experiment under way, here and in the live engine."""
    assert position("carts", "holdout", "c000001") == 5523786812382869268
    assert position("carts", "split", "c000001") == 17942820277458960038
    assert position("carts", "holdout", "Zoë 🦊") == 16519250738081647848
    by_hand = int(hashlib.sha256(b"carts/holdout/c000001").hexdigest()[:16], 16)
    assert position("carts", "holdout", "c000001") == by_hand
    found = experiment("30", control="50", a="25", b="25").groups(CUSTOMERS[:12])
    assert found == "holdout holdout holdout holdout control control b holdout control control control b".split()


def test_the_order_in_which_variants_are_written_does_not_matter() -> None:
    assert experiment(a="60", control="30").groups(CUSTOMERS[:500]) == experiment(control="30", a="60").groups(CUSTOMERS[:500])


def test_shares_are_as_declared() -> None:
    tries = experiment("10", control="50", a="30", b="10")
    counts = {name: 0 for name in tries.shares()}
    for group in tries.groups(CUSTOMERS):
        counts[group] += 1
    assert sum(tries.shares().values()) == 1 and list(counts) == ["holdout", "control", "a", "b", ""]
    assert chisquare(list(counts.values()), [float(share) * len(CUSTOMERS) for share in tries.shares().values()]).pvalue > 0.01


def test_segments_draw_independently_and_the_split_knows_nothing_of_the_holdout() -> None:
    def table(first: list[bool], second: list[bool]) -> float:
        cells = [[sum(a == x and b == y for a, b in zip(first, second, strict=True)) for y in (True, False)] for x in (True, False)]
        return float(chi2_contingency(cells).pvalue)

    half = Decimal(50)
    one, other = ([g == "holdout" for g in Experiment(name, half).groups(CUSTOMERS)] for name in ("carts", "win_back"))
    assert table(one, other) > 0.01
    low = [position("carts", "split", c) < 2**63 for c in CUSTOMERS]
    assert table(one, low) > 0.01


def test_who_is_held_out_stays_held_out_as_the_share_grows() -> None:
    held = [{c for c, g in zip(CUSTOMERS, experiment(share).groups(CUSTOMERS), strict=True) if g} for share in ("1", "2.5", "10", "40", "100")]
    assert all(small < large for small, large in zip(held, held[1:], strict=False)) and len(held[-1]) == len(CUSTOMERS)


SHARE = st.integers(0, 100)


def shares_within(found: list[tuple[Fraction, Fraction, int]], who: int) -> list[tuple[Fraction, Fraction]]:
    return [(low, high) for low, high, owner in found if owner == who]


def common(first: list[tuple[Fraction, Fraction]], second: list[tuple[Fraction, Fraction]]) -> Fraction:
    parts = [max(Fraction(0), min(b, d) - max(a, c)) for a, b in first for c, d in second]
    return sum(parts, Fraction(0))


@given(st.lists(SHARE, min_size=2, max_size=6))
def test_every_variant_gets_its_share_and_none_overlap(numbers: list[int]) -> None:
    shares = [Fraction(n, max(sum(numbers), 100)) for n in numbers]
    found = sorted(places(shares))
    assert all(low < high for low, high, _ in found)
    assert all(first[1] <= second[0] for first, second in zip(found, found[1:], strict=False))
    for who, share in enumerate(shares):
        assert sum((high - low for low, high in shares_within(found, who)), Fraction(0)) == share


@given(st.lists(st.tuples(SHARE, SHARE), min_size=2, max_size=6))
def test_nobody_moves_as_shares_of_at_most_one_kth_grow(numbers: list[tuple[int, int]]) -> None:
    before, after = ([Fraction(pick(pair), 100 * len(numbers)) for pair in numbers] for pick in (min, max))
    for who, share in enumerate(before):
        assert common(shares_within(places(before), who), shares_within(places(after), who)) == share


@given(st.tuples(SHARE, SHARE), st.tuples(SHARE, SHARE))
def test_of_two_variants_nobody_moves_whose_share_does_not_shrink(one: tuple[int, int], other: tuple[int, int]) -> None:
    whole = max(100, max(one) + max(other))
    before, after = ([Fraction(pick(pair), whole) for pair in (one, other)] for pick in (min, max))
    for who, share in enumerate(before):
        assert common(shares_within(places(before), who), shares_within(places(after), who)) == share


@given(st.lists(st.tuples(st.integers(0, 33), st.integers(0, 33)), min_size=2, max_size=2))
def test_variants_grow_out_of_the_control_alone(numbers: list[tuple[int, int]]) -> None:
    """The usual way: two new variants start small, the control has the rest, and they grow step by step."""
    small, large = ([Fraction(pick(pair), 100) for pair in numbers] for pick in (min, max))
    before, after = [1 - sum(small), *small], [1 - sum(large), *large]
    for who in (1, 2):
        assert common(shares_within(places(before), who), shares_within(places(after), who)) == before[who]


def test_the_control_is_the_one_called_so_else_the_holdout_else_the_first() -> None:
    assert experiment("10", a="50", control="50").control() == "control"
    assert experiment("10", a="50", b="50").control() == "holdout"
    assert experiment(a="50", b="50").control() == "a"
