"""Runs side by side: in what they differ, and which curves may share a frame."""

from pathlib import Path

from medssl.reporting.blocks import Charts, Details, Table, Text
from medssl.reporting.material import RunRecord
from medssl.reporting.privacy import Cleaner
from medssl.reporting.runs_beside import side_by_side

ROWS = [{"step": 0, "held_out/dice": 0.1, "held_out/dice_liver": 0.2}, {"step": 5, "loss": 1.0}]
ROWS += [{"step": 9, "loss": 0.5, "held_out/dice": 0.4, "held_out/dice_liver": 0.5}]


def run(name, rows=ROWS, **settings):
    held = {"method.name": "simclr", "data.store": "/home/jane/ct", "train.lr": 0.1, "train.seed": 0} | {
        key.replace("__", "."): value for key, value in settings.items()
    }
    return RunRecord(
        name=name,
        folder=Path(name),
        verb="pretrain",
        settings=held,
        origins={},
        environment={},
        card={},
        rows=rows,
        transfer={},
        validation={},
    )


def shown(*runs):
    blocks = side_by_side(runs, clean=Cleaner())
    texts = [block.text for block in blocks if isinstance(block, Text)]
    tables = [block for block in blocks if isinstance(block, Table)]
    charts = [title for block in blocks if isinstance(block, Charts) for title, *_ in block.charts]
    return texts, tables, charts, [block for block in blocks if isinstance(block, Details)]


def test_one_run_has_nothing_beside_it():
    assert side_by_side([run("a")], clean=Cleaner()) == []


def test_what_differs_stands_in_a_table_and_places_are_shortened():
    _, (table,), charts, more = shown(run("a"), run("b", train__lr=0.2, data__store="/home/jane/mr", train__seed=3))
    assert table.heads == ("setting", "a", "b")
    assert table.rows == [("data.store", "ct", "mr"), ("train.seed", "0", "3"), ("train.lr", "0.1", "0.2")]
    assert charts == ["Training loss", "Held-out Dice"]
    assert [details.summary for details in more] == ["Held-out Dice of each structure"]


def test_a_setting_that_one_lacks_is_said():
    _, (table,), _, _ = shown(run("a"), run("b", method__teacher=2))
    assert table.rows == [("method.teacher", "-", "2")]


def test_losses_of_other_objectives_are_not_compared():
    texts, _, charts, _ = shown(run("a"), run("b", method__name="moco"))
    assert charts == ["Held-out Dice"]
    assert any("different objectives" in text for text in texts)


def test_other_stores_are_doubted():
    texts, *_ = shown(run("a"), run("b", data__store="mr"))
    assert any("different stores" in text for text in texts)


def test_many_differences_open_on_a_click():
    _, (table,), _, more = shown(run("a"), run("b", **{f"method__x{n}": n for n in range(20)}))
    assert len(table.rows) == 12
    assert next(details.summary for details in more) == "8 more settings in which they differ"


def test_a_run_without_curves_is_left_out_of_the_frames():
    _, _, charts, _ = shown(run("a"), run("b", rows=[]))
    assert charts == []
