"""Whatever is written, the answer is a declaration or a refusal with a place: never another error, never a long wait."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from predseg import config
from predseg.errors import ConfigError
from predseg.language.documents import parse_condition, parse_measure, parse_prediction
from predseg.language.english import say_condition
from predseg.language.yaml import MAX_BYTES, read_documents
from tests.language.documents import CONDITIONS, random_document, to_yaml

SEED = int(os.environ.get("PREDSEG_SEED", "0"))
EXAMPLES = 3_000 if os.environ.get("PREDSEG_LONG") else 150
LONGEST = 1.0
"""Seconds that any text of ordinary length may take."""

WORDS = (
    *"did did_not then within from until since where same at_least more_than between exactly sum avg distinct score top bottom decile rises".split(),
    *"in not_in trait rfv of recency cluster all any none some exists contains not days_since gap within_next value A B churn true null on NO".split(),
    *(
        "10%",
        "nan%",
        "48 hours",
        "90 days ago",
        "2026-01-01",
        "5",
        "-1.50",
        "1e400",
        "> 5000",
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        ": ",
        "- ",
        "\n",
        "\n  ",
        "&a ",
        "*a ",
    ),
    *("!!str ", "'", '"', "|\n", "#", "---\n", "%", "?", "\t", "\x00", "\ud800", "\u2028", "\ufeff", "٣", "🛒", "<<"),
)


def answer(text: str) -> bool:
    """Whether the text is accepted as any kind of declaration; a refusal must be complete."""
    accepted = False
    for read in (parse_condition, parse_measure, parse_prediction):
        try:
            for node in read_documents(text, "fuzz.yaml"):
                found = read(node)
                hash(found)
                accepted = True
                if read is parse_condition:
                    assert say_condition(found)  # type: ignore[arg-type]
        except ConfigError as error:
            assert error.place.startswith("fuzz.yaml") and error.message and error.help, repr(error)
    return accepted


def timely(text: str) -> bool:
    start = time.process_time()
    accepted = answer(text)
    assert time.process_time() - start < LONGEST, f"{len(text)} characters took {time.process_time() - start:.1f} s"
    return accepted


@given(st.text(max_size=200))
@settings(max_examples=EXAMPLES)
def test_random_text(text: str) -> None:
    timely(text)


@given(st.lists(st.sampled_from(WORDS), max_size=60))
@settings(max_examples=EXAMPLES)
def test_random_words_of_the_language(words: list[str]) -> None:
    timely("".join(words))
    timely(" ".join(words))


def test_random_rules_are_accepted_and_damaged_ones_refused_or_accepted() -> None:
    """Characters and words of valid rules are exchanged, dropped and doubled."""
    r = random.Random(SEED)
    accepted = 0
    for _ in range(EXAMPLES):
        text = to_yaml(random_document(r)) if r.random() < 0.8 else r.choice(CONDITIONS)
        assert timely(text), f"PREDSEG_SEED={SEED}: {text}"
        for _ in range(r.randrange(1, 4)):
            at, size = r.randrange(len(text)), r.choice([0, 1, 1, 5])
            text = text[:at] + r.choice([*WORDS, "", text[at : at + size] * 2]) + text[at + size :]
        accepted += timely(text)
    assert 0 < accepted < EXAMPLES


KEYS = (
    "project",
    "timezone",
    "store",
    "sources",
    "customers",
    "contract",
    "features",
    "models",
    "segments",
    "channels",
    "consent",
    "engine",
    "windows",
    "events",
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 50), st.sampled_from(WORDS), st.text(max_size=5)).map(
        lambda v: "null" if v is None else repr(v).lower()
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]"),
        st.dictionaries(st.sampled_from([*KEYS, *WORDS[:40], "predict", "among", "path", "columns", "tolerance"]), inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(KEYS[:12]), VALUES, max_size=4))
@settings(max_examples=EXAMPLES)
def test_random_project_files(keys: dict[str, str]) -> None:
    text = "project: shop\n" + "".join(f"{key}: {value}\n" for key, value in keys.items() if key != "project")
    try:
        config.parse(text, Path("/project/predseg.yaml"))
    except ConfigError as error:
        assert error.place.startswith("predseg.yaml") and error.message and error.help


@pytest.mark.parametrize(
    "piece", ["[", "{", "- ", "? ", "a: [", "'", "a\n", "{a: 1}, ", "x", "1", "|\n", "&a ", "!", "%", "\n", '"\\u', "&a [*a, ", "- |\n x\n"]
)
def test_a_full_size_file_of_one_piece_is_answered_soon(piece: str) -> None:
    """A quarter of a megabyte of anything: no quadratic time."""
    start = time.process_time()
    try:
        read_documents((piece * MAX_BYTES)[:MAX_BYTES])
    except ConfigError as error:
        assert error.code in ("E305", "E306", "E307")
    assert time.process_time() - start < 5
