"""Eight customers in a byte are the eight customers: layers say of bits what they say of flags."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from predseg.evaluate import bits
from predseg.evaluate.batch import Truth, layer
from predseg.language import conditions as c

KLEENE = st.sampled_from([True, None, False])
ANYTHING = c.In("of no meaning here", True)
LAYERS = st.one_of(
    st.sampled_from([c.All((ANYTHING,)), c.Any((ANYTHING,)), c.NoneOf((ANYTHING,)), c.Holds((ANYTHING,), True), c.Holds((ANYTHING,), False)]),
    st.integers(1, 5).map(lambda n: c.Some(n, (ANYTHING,))),
)


def truth(of: list[bool | None]) -> Truth:
    """What is known of all needs no array that says so, as in the kernel."""
    true = np.array([t is True for t in of], bool)
    return Truth.of(true) if None not in of else Truth(true, np.array([t is None for t in of], bool))


@given(st.integers(0, 20).flatmap(lambda n: st.lists(st.lists(KLEENE, min_size=n, max_size=n), min_size=1, max_size=4)), LAYERS, st.data())
def test_layers_say_of_bits_what_they_say_of_flags(parts: list[list[bool | None]], condition: c.Layer, data: st.DataObject) -> None:
    """In Kleene's logic, and at every number of customers: what the last byte holds beyond them changes nothing."""
    customers, of = len(parts[0]), [truth(p) for p in parts]
    expected, found = layer(condition, of), layer(condition, [bits.of(t) for t in of])
    for flags, some in ((expected.true, found.true), (expected.unknown, found.unknown)):
        some = some if some.dtype == np.uint8 else np.packbits(np.broadcast_to(some, len(found.true)) & False)
        np.testing.assert_array_equal(bits.flags(some, customers), flags)
    present = np.array(data.draw(st.lists(st.booleans(), min_size=customers, max_size=customers)), bool)
    assert bits.number(found.true & np.packbits(present)) == int((expected.true & present).sum())


@given(st.lists(st.lists(KLEENE, min_size=3, max_size=3), min_size=1, max_size=6), st.integers(1, 7))
def test_some_are_true_where_as_many_are(parts: list[list[bool | None]], wanted: int) -> None:
    found = layer(c.Some(wanted, (ANYTHING,)), [truth(p) for p in parts])
    for i, of in enumerate(zip(*parts, strict=True)):
        certain, possible = of.count(True) >= wanted, of.count(True) + of.count(None) >= wanted
        assert (bool(found.true[i]), bool(found.unknown[i])) == (certain, possible and not certain)
