"""The console: plain lines off a terminal, one JSON object for programs, silence when asked."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path

import numpy as np
import pytest

from medssl.command import Command
from medssl.workflows import events
from medssl.workflows import progress as progress_module
from medssl.workflows.progress import Progress, duration
from medssl.workflows.result import Result
from pipelines import console
from pipelines.console import Manner, speaking


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    monkeypatch.setattr(progress_module.time, "monotonic", made.monotonic)
    return made


def test_plain_lines_on_standard_output(capsys):
    events.message("10 scans")
    events.warning("one is dark")
    events.written(Result(written=(Path("a.parquet"), Path("b.json")), next=Command("check", "a.parquet")))
    captured = capsys.readouterr()
    assert captured.out == "10 scans\nwrote a.parquet\nwrote b.json\nnext: medssl check a.parquet\n"
    assert captured.err == "warning: one is dark\n"


def test_json_is_one_object_and_messages_go_aside(capsys):
    with speaking(Manner(as_json=True)):
        events.message("10 scans")
        events.warning("one is dark")
        events.table("Found", ("What", "How many"), [("scans", 10)])
        events.facts(score=np.float32(0.5), worst=float("nan"), per_case=np.arange(3), path=Path("x/y"))
        events.written(
            Result(written=(Path("a.parquet"),), next=Command("check", "a.parquet"), figures={"split": {"train": 3}})
        )
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "warnings": ["one is dark"],
        "found": [{"what": "scans", "how_many": 10}],
        "score": 0.5,
        "worst": None,
        "per_case": [0, 1, 2],
        "path": "x/y",
        "written": ["a.parquet"],
        "next": "medssl check a.parquet",
        "split": {"train": 3},
    }
    assert captured.out.count("\n") == 1
    assert captured.err == "10 scans\nwarning: one is dark\n"


def test_an_error_is_in_the_object_once(capsys):
    def fails():
        with speaking(Manner(as_json=True)):
            events.facts(scans=3)
            console.fail("DataError", "no labels")
            raise SystemExit(2)

    with pytest.raises(SystemExit):
        fails()
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"scans": 3, "error": {"kind": "DataError", "message": "no labels"}}
    assert captured.err == "error: no labels\n"


def test_quiet_leaves_warnings_and_what_was_written(capsys):
    with speaking(Manner(quiet=True)):
        events.message("10 scans")
        events.detail("and how")
        events.warning("one is dark")
        with events.progress(5, "scans read") as shown:
            shown.advance(5)
        events.written(Result(written=(Path("a.parquet"),), next=Command("check", "a.parquet")))
    captured = capsys.readouterr()
    assert captured.out == "wrote a.parquet\n"
    assert captured.err == "warning: one is dark\n"


def test_details_are_said_only_when_asked(capsys):
    events.detail("and how")
    with speaking(Manner(verbose=True)):
        events.detail("and why")
    assert capsys.readouterr().out == "and why\n"


def test_facts_of_one_call_do_not_reach_the_next(capsys):
    events.warning("outside")
    for name in ("first", "second"):
        with speaking(Manner(as_json=True)):
            events.facts(name=name)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"name": "first"},
        {"name": "second"},
    ]


def test_plain_progress_speaks_every_thirty_seconds(clock, capsys):
    with events.progress(1000, "steps") as shown:
        for _ in range(100):
            clock.now += 1.0
            shown.advance(10, note="loss 4.31")
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "steps 300/1,000 | loss 4.31 | 30 s so far | ETA 1 m 10 s",
        "steps 600/1,000 | loss 4.31 | 1 m 0 s so far | ETA 40 s",
        "steps 900/1,000 | loss 4.31 | 1 m 30 s so far | ETA 10 s",
        "steps 1,000/1,000 | loss 4.31 | done in 1 m 40 s",
    ]


def test_short_work_is_not_worth_a_line(clock, capsys):
    with events.progress(3, "scans") as shown:
        clock.now += 1.0
        shown.advance(3)
    assert capsys.readouterr().err == ""


def test_stopped_work_says_where(clock, capsys):
    def breaks():
        with events.progress(None, "scans") as shown:
            shown.reach(7)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        breaks()
    assert capsys.readouterr().err == "scans 7 | stopped after 0 s\n"


def test_the_time_left_goes_by_the_pace_after_set_up_and_after_what_was_done_before(clock, capsys):
    with events.progress(100, "scans") as shown:
        shown.advance(kept=True, steps=40)  # an earlier call
        clock.now += 60
        shown.advance()  # with the imports of the first one
        clock.now += 30
        shown.advance(3)
        clock.now += 30
        shown.advance(3)
    said = [line.rpartition(" | ")[2] for line in capsys.readouterr().err.splitlines()]
    assert said[1:3] == ["ETA 9 m 20 s", "ETA 8 m 50 s"]  # 10 s each, and 56 and 53 are left
    assert "ETA" not in said[0]


def test_progress_counts_right_from_many_threads():
    shown = Progress(8000, "windows", say=lambda line: None, interval_s=1e9)
    threads = [threading.Thread(target=lambda: [shown.advance() for _ in range(1000)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shown.count == 8000


def test_a_terminal_gets_a_bar_and_a_table(monkeypatch):
    out, err = Terminal(), Terminal()
    monkeypatch.setattr(console.sys, "stdout", out)
    monkeypatch.setattr(console.sys, "stderr", err)
    monkeypatch.setenv("TERM", "xterm")
    with events.progress(2, "scans read") as shown:
        shown.advance(2, note="[bracketed] name")
    events.table("Methods", ("Name", "Paper"), [("voco", "[2024] a paper"), ("none", None)])
    assert "scans read" in err.getvalue()
    assert "2/2" in err.getvalue()
    assert "[bracketed] name" in err.getvalue()
    assert "[2024] a paper" in out.getvalue()
    assert "None" not in out.getvalue()


def test_plain_tables_line_up(capsys):
    events.table("Methods", ("Name", "Paper"), [("voco", "2024"), ("reconstruction", "2022")])
    assert capsys.readouterr().out.splitlines() == [
        "Methods",
        "Name            Paper",
        "voco            2024",
        "reconstruction  2022",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 m 0 s"),
        (3600, "1 h 0 m"),
        (7805, "2 h 10 m"),
        (30 * 86_400, "30 days"),
        (3 * 31_536_000, "3 years"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
