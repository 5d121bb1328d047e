"""The YAML traps are closed: every value means what it looks like, and every node knows its place."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from predseg.errors import ConfigError
from predseg.language.yaml import MAX_BYTES, MAX_DEPTH, Node, read_documents


def plain(text: str) -> Any:
    [document] = read_documents(text)
    return document.plain()


def refusal(text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_documents(text, "rule.yaml")
    return caught.value


@pytest.mark.parametrize("word", ["on", "off", "yes", "no", "NO", "Yes", "y", "n"])
def test_switches_are_text(word: str) -> None:
    """Norway's country code is no falsehood."""
    assert plain(f"country: {word}") == {"country": word}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("'true'", "true"),
        ("null", None),
        ("~", None),
        ("", None),
        ("5000", 5000),
        ("-3", -3),
        ("'5000'", "5000"),
        ("12.50", Decimal("12.50")),
        ("0.1", Decimal("0.1")),
        (".5", Decimal("0.5")),
    ],
)
def test_scalars_are_exact(written: str, value: object) -> None:
    found = plain(f"key: {written}")["key"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    "word",
    [
        *("12:30:45", "1:30"),  # YAML 1.1: sexagesimal numbers
        *("2026-01-01", "2026-01-01 10:00:00"),  # YAML 1.1: dates
        *("0o17", "017", "0x1F", "1_000", "1e3", ".inf", ".nan", "+.5.", "1.2.3", "٣", "=", "<<"),
        "12345678901234567890",  # more digits than an integer column holds
    ],
)
def test_what_other_loaders_convert_stays_text(word: str) -> None:
    assert plain(f"key: {word}") == {"key": word}


@pytest.mark.parametrize(
    ("text", "place", "code", "found"),
    [
        ("a: &anchor 1", "rule.yaml:1:4", "E307", "anchors and aliases"),
        ("a: [&x b]", "rule.yaml:1:5", "E307", "anchors and aliases"),
        ("a: 1\nb: *a", "rule.yaml:2:4", "E307", "anchors and aliases"),
        ("a: !!int 1", "rule.yaml:1:4", "E307", "tags"),
        ("a: !!python/object/apply:os.system [ls]", "rule.yaml:1:4", "E307", "tags"),
        ("a: ! 1", "rule.yaml:1:4", "E307", "tags"),
        ("a: 1\na: 2", "rule.yaml:2:1", "E308", "the key 'a' stands twice"),
        ("on: x", "rule.yaml:1:1", "E308", "no key is named 'on'"),
        ("a: {No: 1}", "rule.yaml:1:5", "E308", "no key is named 'No'"),
        ("'yes': 1", "rule.yaml:1:1", "E308", "no key is named 'yes'"),
        ("[a]: 1", "rule.yaml:1:1", "E308", "a key must be text"),
        ("? {a: b}\n: 1", "rule.yaml:1:3", "E308", "a key must be text"),
        ("a: [1, 2", "rule.yaml:1:9", "E306", "not YAML"),
        ("a: b: c", "rule.yaml:1:5", "E306", "not YAML"),
        ("a: 'x", "rule.yaml:1:6", "E306", "not YAML"),
        ("a:\n\t- b", "rule.yaml:2:1", "E306", "not YAML"),
        ("a: \x07", "rule.yaml:1:4", "E306", "not YAML"),
    ],
)
def test_traps_are_refused_where_they_stand(text: str, place: str, code: str, found: str) -> None:
    error = refusal(text)
    assert (error.place, error.code) == (place, code)
    assert found in error.message and error.help


@pytest.mark.parametrize("text", ["did: A\nmore_than: > 5000", "{did: A, more_than: > 5000}", "did: A\nmore_than: >5000"])
def test_a_comparison_written_as_a_sign_is_told_the_word(text: str) -> None:
    """``>`` begins a folded text in YAML, so the parser's own words would help nobody."""
    assert "write `more_than: 5000`" in refusal(text).help


def test_a_merge_key_expands_nothing() -> None:
    assert plain("<<: {a: 1}\nb: 2") == {"<<": {"a": 1}, "b": 2}


def test_at_most_256_kilobytes_are_read() -> None:
    assert plain("key: " + "x" * (MAX_BYTES - 5))
    error = refusal("key: " + "x" * (MAX_BYTES - 4))
    assert error.code == "E305" and "262,145 bytes" in error.message
    assert refusal("é" * (MAX_BYTES // 2 + 1)).code == "E305", "bytes are counted, not letters"
    assert refusal("\ud800" * MAX_BYTES).code == "E305", "a lone surrogate is no crash"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}")])
def test_at_most_20_levels_are_read(opening: str, closing: str) -> None:
    def nested(levels: int) -> str:
        return opening * levels + "1" + closing * levels

    assert plain(nested(MAX_DEPTH - 1))  # the scalar is the last level
    assert refusal(nested(MAX_DEPTH)).code == "E305"
    assert refusal(opening * 50_000).code == "E305", "the depth is refused long before the end is looked for"


def test_an_alias_bomb_is_refused_at_its_first_anchor() -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]" for i in range(1, 30))]
    assert refusal("\n".join(lines)).place == "rule.yaml:1:5"


def test_several_documents_each_know_their_lines() -> None:
    first, second = read_documents("segment: a\n---\n# only a comment\n---\nsegment: b\nmatch: {did: X}\n", "two.yaml")
    assert first.plain() == {"segment": "a"}
    assert second.value["match"].value["did"].place == "two.yaml:6:14"
    assert second.key_place("match") == "two.yaml:6:1"
    assert read_documents("") == read_documents("---\n---\n") == []


def test_a_byte_order_mark_is_no_letter() -> None:
    assert plain("\ufeffsegment: a") == {"segment": "a"}


def test_a_block_of_text_keeps_its_lines() -> None:
    assert plain("query: |\n  select 1\n  from source\n") == {"query": "select 1\nfrom source\n"}


class TestNode:
    """What declarations ask of a node, and how it refuses."""

    @staticmethod
    def node(text: str) -> Node:
        [document] = read_documents(text, "f")
        return document.value["k"]

    @pytest.mark.parametrize(
        ("text", "help"),
        [
            ("k: 404", 'put it in quotes: "404"'),
            ("k: 1.5", 'put it in quotes: "1.5"'),
            ("k:", "write a name or a text"),
            ("k: '  '", "write a name or a text"),
        ],
    )
    def test_text(self, text: str, help: str) -> None:  # noqa: A002
        with pytest.raises(ConfigError) as caught:
            self.node(text).text("a name")
        assert (caught.value.code, caught.value.place, caught.value.help) == ("E303", "f:1:4" if len(text) > 2 else "f:1:3", help)

    @pytest.mark.parametrize(
        ("written", "remedy"),
        [
            ("'> 5000'", "write 5000"),
            ("'5,000'", "write 5000"),
            ("€5000", "write 5000"),
            ("many", "write digits, such as 5000 or 12.50"),
            ("true", "write digits"),
        ],
    )
    def test_numbers(self, written: str, remedy: str) -> None:
        assert self.node("k: 12.50").number("it") == Decimal("12.5")
        with pytest.raises(ConfigError) as caught:
            self.node(f"k: {written}").number("it")
        assert caught.value.code == "E304" and remedy in caught.value.help

    def test_texts(self) -> None:
        assert self.node("k: a").texts("it") == ("a",)
        assert self.node("k: [a, b]").texts("it") == ("a", "b")
        with pytest.raises(ConfigError, match="at least one, found an empty list"):
            self.node("k: []").texts("it")

    def test_mappings_name_the_nearest_key(self) -> None:
        assert set(self.node("k: {a: 1}").mapping("it", ("a", "b"))) == {"a"}
        with pytest.raises(ConfigError, match="must be a mapping of keys to values, found a list"):
            self.node("k: [a]").mapping("it")
        with pytest.raises(ConfigError) as caught:
            self.node("k: {windws: 1}").mapping("it", ("windows", "events"))
        assert (caught.value.code, caught.value.place, caught.value.help) == ("E301", "f:1:5", "did you mean 'windows'?")
