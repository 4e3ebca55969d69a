import pytest

from medssl.engine.guards import CollapseWatch, StarvationWatch
from medssl.engine.meters import Report
from medssl.engine.train_settings import TrainSettings

SETTINGS = TrainSettings(steps=1000, warmup=0.1, collapse_spread=0.05, collapse_rank=2.0, starved=0.3)


def looked(watch, series, **rest):
    return [watch.look(Report(step=s, steps=1000, values=values, **rest)) for s, values in series]


@pytest.mark.parametrize(("name", "low", "high"), [("spread", 0.01, 0.5), ("effective_rank", 1.1, 30.0)])
def test_a_collapse_is_told_once_it_lasts(name, low, high):
    series = [(200 + 10 * i, {f"signal/{name}": v}) for i, v in enumerate([high, low, low, low, low, low])]
    told = looked(CollapseWatch(SETTINGS), series)
    assert [len(texts) for texts in told] == [0, 0, 0, 1, 0, 0]
    assert name in told[3][0]
    assert "train.lr" in told[3][0]


def test_a_recovery_arms_it_again():
    values = [0.01, 0.01, 0.2, 0.01, 0.01, 0.01]
    told = looked(CollapseWatch(SETTINGS), [(200 + i, {"signal/spread": v}) for i, v in enumerate(values)])
    assert [len(texts) for texts in told] == [0, 0, 0, 0, 0, 1]


def test_the_warm_up_and_absent_signals_are_not_judged():
    assert not any(looked(CollapseWatch(SETTINGS), [(s, {"signal/spread": 0.0}) for s in range(10, 100, 10)]))
    assert not any(looked(CollapseWatch(SETTINGS), [(s, {"loss": 0.0}) for s in range(200, 300, 10)]))


def test_a_starved_loader_is_told_once_and_not_at_the_start():
    told = looked(StarvationWatch(SETTINGS), [(10, {}), (20, {}), (30, {})], data_wait=0.6)
    assert [len(texts) for texts in told] == [0, 1, 0]
    assert "60%" in told[1][0]
    assert "train.threads" in told[1][0]
    assert not any(looked(StarvationWatch(SETTINGS), [(10, {}), (20, {})], data_wait=0.2))
