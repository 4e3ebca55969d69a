"""Cases of several channels are kept or left out as a whole."""

from __future__ import annotations

from medssl.reduction.marks import Mark
from medssl.reduction.whole_cases import case_members, followed, followers_of, whole_cases


def row(case: str, channel: str) -> dict[str, object]:
    name = f"{case}_{channel}"
    return {"id": name, "kind": "volume", "case": case, "channel": channel, "path": name, "error": None}


ROWS = [row(case, channel) for case in "abc" for channel in ("t2", "t1")]
CASES = case_members(ROWS, ("t1", "t2"))


def marks(**copy_of: str) -> dict[str, Mark]:
    """Return marks in which a scan is the copy of another: ``b_t1="a_t1"``."""
    names = [str(row["id"]) for row in ROWS] + [name for name in copy_of if "_" not in name]
    return {
        name: Mark(keep=False, reason="copy", level="same image", representative=copy_of[name], score=1.0)
        if name in copy_of
        else Mark(keep=True, reason="no copy of any other", representative=name)
        for name in names
    }


def kept(found: dict[str, Mark]) -> set[str]:
    return {name for name, mark in found.items() if mark.keep}


def test_the_first_channel_leads() -> None:
    assert {f"{case}_t1": (f"{case}_t1", f"{case}_t2") for case in "abc"} == CASES
    assert followers_of(CASES) == {"a_t2", "b_t2", "c_t2"}


def test_one_channel_that_is_a_copy_keeps_its_case_whole() -> None:
    found = whole_cases(marks(b_t1="a_t1"), CASES)
    assert kept(found) == set(marks())
    assert found["b_t1"].representative == "b_t1"
    assert "its case is no copy as a whole" in found["b_t1"].reason


def test_channels_of_one_case_are_no_copies_of_each_other() -> None:
    assert kept(whole_cases(marks(a_t2="a_t1"), CASES)) == set(marks())


def test_a_case_whose_channels_are_all_copies_goes_whichever_stands_for_which() -> None:
    for said in (marks(b_t1="a_t1", b_t2="a_t2"), marks(b_t1="a_t1", a_t2="b_t2")):
        found = whole_cases(said, CASES)
        assert kept(found) == {"a_t1", "a_t2", "c_t1", "c_t2"}
        assert (found["b_t1"].representative, found["b_t2"].representative) == ("a_t1", "a_t2")
        assert {found[name].level for name in ("b_t1", "b_t2")} == {"same image"}


def test_three_equal_cases_leave_one() -> None:
    found = whole_cases(marks(b_t1="a_t1", b_t2="a_t2", c_t1="a_t1", c_t2="a_t2"), CASES)
    assert kept(found) == {"a_t1", "a_t2"}


def test_a_part_of_a_larger_case_is_its_copy_and_not_the_other_way_round() -> None:
    cases = {**CASES, "a_t1": ("a_t1", "a_t2", "a_t3")}
    said = {**marks(a_t1="b_t1", a_t2="b_t2"), "a_t3": Mark(keep=True, reason="", representative="a_t3")}
    assert kept(whole_cases(said, cases)) == {"a_t1", "a_t2", "a_t3", "c_t1", "c_t2"}


def test_a_scan_by_itself_yields_to_a_case() -> None:
    said = marks(a_t1="loose", loose="loose")
    said["loose"] = Mark(keep=True, reason="stands for 1 more", representative="loose")
    found = whole_cases(said, CASES)
    assert kept(found) == set(marks())
    assert found["loose"].representative == "a_t1"


def test_what_a_strategy_leaves_out_goes_with_all_channels() -> None:
    said = marks()
    said["b_t1"] = Mark(keep=False, reason="not chosen by random", level="not chosen", representative="b_t1")
    assert kept(followed(said, CASES)) == set(marks()) - {"b_t1", "b_t2"}


def test_manifests_without_cases_are_left_as_they_are() -> None:
    said = marks(b_t1="a_t1")
    assert whole_cases(said, {}) == said == followed(said, {})
