"""Verbs called from Python print nothing unless asked; what they say is in the log."""

from __future__ import annotations

import logging
import threading

import pytest

import medssl
from medssl.phantoms import write_cohort
from medssl.workflows import events
from pipelines import console

pytestmark = pytest.mark.from_python


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    write_cohort(folder, subjects=2, shape=(12, 16, 16))
    return folder


@pytest.fixture
def quiet_again():
    logger = logging.getLogger("medssl")
    before = (logger.level, list(logger.handlers), logger.propagate)
    yield
    logger.setLevel(before[0])
    logger.handlers, logger.propagate = before[1], before[2]


def test_nothing_is_printed_and_all_is_logged(scans, tmp_path, capfd, caplog):
    caplog.set_level(logging.INFO, logger="medssl")
    found = medssl.index(scans, out=tmp_path / "m.parquet", overrides=["workers=1"]).manifest
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
    assert found.rows()
    assert any(str(tmp_path / "m.parquet") in record.message for record in caplog.records)
    assert any(record.message.startswith("next: ") for record in caplog.records)


def test_who_asks_sees_it_once(scans, tmp_path, capfd, quiet_again):
    medssl.set_verbosity("info")
    medssl.set_verbosity("info")
    medssl.index(scans, out=tmp_path / "m.parquet", overrides=["workers=1"])
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("next: ") == 1


def test_an_unknown_verbosity_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        medssl.set_verbosity("loud")


def test_warnings_are_warnings_of_the_log(caplog):
    events.warning("two scans are alike")
    assert [(one.levelname, one.message) for one in caplog.records] == [("WARNING", "two scans are alike")]


def test_a_thread_of_a_verb_talks_as_the_verb_does(capsys):
    with console.speaking(console.Manner()):
        thread = threading.Thread(target=events.message, args=("from a thread",))
        thread.start()
        thread.join()
    assert capsys.readouterr().out == "from a thread\n"


def test_progress_off_a_notebook_draws_nothing(capfd):
    with events.progress(3, "steps") as shown:
        shown.advance(3)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")
