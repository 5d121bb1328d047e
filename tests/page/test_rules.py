"""Rules on the page: funnels, edits that are counted, refused as the loader does, and saved only where that is allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from predseg import Project
from predseg.errors import ConfigError, UsageError
from predseg.language.floor import Floor
from predseg.page import beginning, rules
from tests.live.serving import Running
from tests.page.shop import EVIL, RULES, lay, shop
from tests.page.test_site import asked, inside

BUYER = RULES.split("---\n")[1].strip()


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with shop(tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return lay(tmp_path)


def edited(up: Running, text: str, base: str = "", do: str = "check", name: str = "buyer") -> tuple[int, str, dict[str, str]]:
    base = base or hidden(up, name)
    status, found, got = asked(up, f"/page/segments/{name}/edit", {"text": text, "base": base, "do": do}, **inside(up))
    return status, unescape(found), got


def hidden(up: Running, name: str = "buyer") -> str:
    found = re.search('name="base" value="([0-9a-f]+)"', asked(up, f"/page/segments/{name}/edit", **inside(up))[1])
    assert found
    return found[1]


def loader(project: Project, text: str) -> ConfigError:
    """What the loader says of a whole file."""
    (project.config.root / "rules.yaml").write_text(text)
    with pytest.raises(ConfigError) as found:
        project.segments()
    return found.value


# funnels


def test_a_funnel_hides_what_few_people_are_in(up: Running) -> None:
    text = unescape(asked(up, "/page/segments/buyer/funnel", **inside(up))[1])
    cells = re.findall(r'data-label="(?:True of|Removes|Remain)">([^<]*)<', text)
    assert cells == ["", "", "41", "40", "under 10", "40", "36", "under 10", "35"]
    assert 'width="97.56"' in text and "35 members" in text and "The run before had 35: 0 would enter, 0 leave." in text
    assert "It shares no members" in text


def test_few_that_remain_have_no_bar() -> None:
    assert rules._step("c", 3, 97, 3, 100, Floor()) == rules.Step("c", "under 10", "97", "under 10", 0.0)
    assert rules._percent(0.3, 4, Floor()) == "under 10" and rules._percent(0.3, 40, Floor()) == "30%"


# edits


def test_a_document_is_taken_out_of_its_file_and_put_back(project: Project) -> None:
    workspace = project.segments()
    found = rules.draft(workspace, "buyer")
    assert found.text == BUYER and found.first == 8
    shopper = rules.draft(workspace, "shopper")
    assert shopper.text == RULES.split("---\n")[0].strip() and shopper.first == 1
    assert rules.accept(workspace, found, BUYER).diff == ""
    with pytest.raises(UsageError, match="E220"):
        rules.draft(workspace, "bayer")


def test_an_edit_is_counted_and_shown_as_a_difference(up: Running) -> None:
    status, text, _ = edited(up, BUYER.replace("at_least: 2", "at_least: 1").replace("Refunded", "Completed"))
    assert status == 200 and "0 members" in text and "did not do Order Completed" in text
    assert "+    - {did: Order Completed, at_least: 1}" in text and "-    - {did: Order Completed, at_least: 2}" in text
    assert "Nothing is changed yet" in edited(up, BUYER.replace("\n", "\r\n") + "\r\n")[1]
    assert "40 members" in edited(up, "segment: anybody\nmatch: {did: Order Completed}")[1]


@pytest.mark.parametrize(
    "was, now",
    [
        ("did: Order Completed", "did: Order Complete"),
        ("match:", "mach:"),
        ("all:", "all: ["),
        ("segment: buyer", "segment: shopper"),
        ("did_not: Order Refunded", "in: buyer"),
    ],
)
def test_what_is_wrong_is_said_as_the_loader_says_it(up: Running, project: Project, was: str, now: str) -> None:
    error = loader(project, RULES.replace(BUYER, BUYER.replace(was, now)))
    text = edited(up, BUYER.replace(was, now))[1]
    assert str(error) in text and "It is not accepted." in text
    line = int(error.place.split(":")[1])
    assert (f"That is line {line - 7} here." in text) == (line >= 8)


@pytest.mark.parametrize("text", ["", "# nothing", f"{BUYER}\n---\nsegment: more\nmatch: {{did: Order Completed}}", "- 1", "segment: [x]\nmatch: 1"])
def test_one_segment_is_edited_at_a_time(up: Running, text: str) -> None:
    found = edited(up, text)[1]
    assert "error[E349] rules.yaml:8:1: one segment is edited here" in found


def test_what_is_written_into_the_editor_is_text(up: Running) -> None:
    evil = f"</textarea>{EVIL}"
    status, text, _ = asked(up, "/page/segments/buyer/edit", {"text": evil, "base": evil, "do": "check"}, **inside(up))
    assert status == 200 and EVIL not in text and "&lt;/textarea&gt;" in text


def test_nothing_is_saved_unless_the_server_may(up: Running) -> None:
    status, text, _ = edited(up, BUYER.replace("2", "1"), do="save")
    assert status == 200 and "predseg serve --allow-edits" in text and "Save to the file" not in text
    assert "at_least: 2" in hidden_text(up)


def hidden_text(up: Running) -> str:
    return asked(up, "/page/segments/buyer/edit", **inside(up))[1]


def test_an_edit_is_saved_whole_once_and_only_over_what_was_seen(tmp_path: Path) -> None:
    file = tmp_path / "rules.yaml"
    with shop(tmp_path, edits=True) as up:
        base = hidden(up)
        assert "error[E" in edited(up, "segment: buyer", base, "save")[1] and file.read_text() == RULES
        new = BUYER.replace("at_least: 2", "at_least: 1").replace("segment: buyer", "segment: bought")
        status, _, got = edited(up, new.replace("\n", "\r\n"), base, "save")
        assert (status, got["location"]) == (303, "/page/segments/bought/edit?saved=1")
        assert file.read_text() == RULES.replace(BUYER, new) and not list(tmp_path.glob(".rules*"))
        shown = asked(up, got["location"], **inside(up))[1]
        assert "restart it to serve this one" in shown and "at_least: 1" in shown
        assert asked(up, "/page/segments/buyer/edit", **inside(up))[0] == 404
        assert asked(up, "/page/segments/bought/edit", {"text": BUYER, "base": base, "do": "save"}, **inside(up))[0] == 200
        assert "changed by somebody else" in edited(up, BUYER, base, "save", "bought")[1] and file.read_text() == RULES.replace(BUYER, new)


def test_what_an_edit_asks_for_does_not_take_away_what_is_published(project: Project) -> None:
    """Counting an edited `rfv` scores it; those of the rules that run stay published beside it."""
    (project.config.root / "rules.yaml").write_text("segment: best\nmatch: {rfv: {of: Order Completed, within: 365 days, value: [5]}}\n---\n" + BUYER)
    workspace, as_of = project.segments(), project.moment()
    workspace.publish_rfv(as_of)
    before = set(workspace.store.read("rfv", as_of).column("rfv").to_pylist())
    trial = rules.tried(workspace, as_of, "best", "segment: best\nmatch: {rfv: {of: Order Completed, within: 30 days, recency: [1, 2, 3, 4, 5]}}")
    assert trial.funnel is not None and int(trial.funnel.members) > 10
    assert before < set(workspace.store.read("rfv", as_of).column("rfv").to_pylist())


# new segments

LATEST = "segment: latest\nmatch: {did: Order Completed, within: 30 days}"


def write(up: Running, **fields: str) -> tuple[int, str, dict[str, str]]:
    status, found, got = asked(up, "/page/new", fields, **inside(up))
    return status, unescape(found), got


def opened_new(up: Running, query: str = "") -> tuple[str, str]:
    """The page of a new segment and its mark."""
    status, found, _ = asked(up, f"/page/new{query}", **inside(up))
    base = re.search('name="base" value="([0-9a-f]+)"', found)
    assert status == 200 and base
    return unescape(found), base[1]


def test_a_new_segment_begins_with_a_rule_that_is_accepted(up: Running) -> None:
    found, _ = opened_new(up)
    assert "segment: new_segment_1" in found and "40 members" in found and "Nothing is saved from here" in found
    assert "+segment: new_segment_1" in found and '<option value="rules.yaml" selected>' in found and 'role="alert"' not in found
    copy, _ = opened_new(up, "?like=buyer")
    assert "segment: buyer_1\n" in copy and "at_least: 2" in copy and "35 members" in copy
    assert asked(up, "/page/new?like=bayer", **inside(up))[0] == 404
    assert asked(up, "/page/new", {"text": LATEST})[0] in (401, 403), "only with the read key"


def test_a_new_segment_is_counted_refused_and_not_saved_without_leave(up: Running) -> None:
    _, base = opened_new(up)
    status, found, _ = write(up, file="rules.yaml", text="segment: all_of_them\nmatch: {in: buyer}", base=base, do="save")
    assert status == 200 and "35 members" in found and "+segment: all_of_them" in found and "+---" in found
    assert asked(up, "/page/segments/all_of_them/edit", **inside(up))[0] == 404, "nothing was written"
    _, refused, _ = write(up, file="rules.yaml", text="segment: x\nmatch: {did: Order Completed}\nowned: me", base=base, do="check")
    assert f"error[E301] rules.yaml:{RULES.count(chr(10)) + 4}:1" in refused and "That is line 3 here." in refused
    _, twice, _ = write(up, file="rules.yaml", text="segment: buyer\nmatch: {did: Order Completed}", base=base, do="check")
    assert "E331" in twice
    for file in ("../rules.yaml", "/etc/passwd", "predseg.yaml"):
        assert write(up, file=file, text=LATEST, base=base, do="check")[0] == 404


def test_a_new_segment_is_saved_at_the_end_of_its_file(tmp_path: Path) -> None:
    with shop(tmp_path, edits=True) as up:
        file = tmp_path / "rules.yaml"
        before, (_, base) = file.read_text(), opened_new(up)
        status, _, got = write(up, file="rules.yaml", text=LATEST, base=base, do="save")
        assert (status, got["location"]) == (303, "/page/segments/latest/edit?saved=1") and file.read_text() == f"{before}---\n{LATEST}\n"
        saved = asked(up, got["location"], **inside(up))[1]
        assert "Saved to rules.yaml" in saved and 'class="tabs"' not in saved, "it is not served yet"
        assert list(Project.load(tmp_path).segments().segments) == ["shopper", "buyer", "latest"]
        status, stale, _ = write(up, file="rules.yaml", text=LATEST.replace("latest", "newest"), base=base, do="save")
        assert status == 200 and "changed by somebody else" in stale and "newest" not in file.read_text()


def test_a_new_segment_gets_a_file_of_its_own(tmp_path: Path) -> None:
    project = lay(tmp_path)
    (tmp_path / "predseg.yaml").write_text((tmp_path / "predseg.yaml").read_text().replace("rules.yaml", "[rules.yaml, own/*.yaml]"))
    workspace = Project.load(tmp_path).segments()
    assert beginning.places(workspace) == ["rules.yaml", "own/*.yaml"] and beginning.places(project.segments()) == ["rules.yaml"]
    found, _ = beginning.begun(workspace, project.moment(), "own/*.yaml", LATEST)
    assert found.draft.file == "own/latest.yaml" and found.funnel is not None and "+++ b/own/latest.yaml" in found.diff and not found.refused
    wrong, _ = beginning.begun(workspace, project.moment(), "own/*.yaml", "segment: ../evil\nmatch: {did: Order Completed}")
    assert wrong.draft.file == "own/new_segment.yaml" and "E332" in wrong.refused and wrong.line == 1
    assert beginning.added(workspace, project.moment(), "own/*.yaml", LATEST, found.draft.base)[0] == "latest"
    assert (tmp_path / "own" / "latest.yaml").read_text() == f"{LATEST}\n" and "latest" in Project.load(tmp_path).segments().segments
