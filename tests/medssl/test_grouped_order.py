"""Batches that follow groups: what they hold, that nothing else changes, and what is refused."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.errors import ConfigError, DataError
from medssl.grouped_order import batches_without_repeats, in_batches_of_one_group, one_of_each_group
from medssl.step_loader import StepLoader, read_groups


class Items(StepLoader):
    """A loader whose batch is its items."""

    def batch(self, step):
        return self.items(step)


def loader(groups, grouping, batch_size, **order):
    ids = [f"i{number}" for number in range(len(groups))]
    named = {name: f"g{group}" for name, group in zip(ids, groups, strict=True)}
    return Items(
        len(ids), ids=ids, batch_size=batch_size, **{"seed": 3, "grouping": grouping, "groups": named, **order}
    )


def test_one_of_each_group_by_hand():
    """G-SimCLR's order (arXiv:2009.12007): ranks within clusters, then sorted by rank."""
    order = one_of_each_group(np.arange(5), np.array([0, 0, 1, 1, 2]), np.arange(3))
    assert order.tolist() == [0, 2, 4, 1, 3]


def test_batches_of_one_group_by_hand():
    """MCL's sampler (arXiv:2402.11816): sizes 5 and 3 in batches of 2 are two batches and one."""
    order = in_batches_of_one_group(np.arange(8), np.array([0] * 5 + [1] * 3), np.arange(2), 2)
    assert order.tolist() == [0, 1, 5, 6, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=4, max_size=40), st.integers(1, 6), st.integers(0, 9))
def test_orders_hold_what_they_promise(groups, batch, seed):
    generator = np.random.default_rng(seed)
    own = np.unique(groups, return_inverse=True)[1]
    turns, permutation = generator.permutation(own.max() + 1), generator.permutation(len(own))
    rounds = one_of_each_group(permutation, own, turns)
    assert sorted(rounds.tolist()) == list(range(len(own)))
    sizes = np.bincount(own)
    # while as many groups as a batch holds have items left, none comes twice in any stretch of that length
    lasting = np.sort(sizes)[::-1][batch - 1] if len(sizes) >= batch else 0
    whole = int(np.minimum(sizes, lasting).sum())
    for start in range(max(0, whole - batch + 1)):
        assert len(set(own[rounds[start : start + batch]].tolist())) == batch
    batches = in_batches_of_one_group(permutation, own, turns, batch)
    assert len(batches) == sum(size // batch * batch for size in sizes)
    assert len(set(batches.tolist())) == len(batches)
    for row in own[batches].reshape(-1, batch):
        assert len(set(row.tolist())) == 1
    for group in range(len(sizes)):  # items of a group follow each other as permuted
        kept = [item for item in rounds.tolist() if own[item] == group]
        assert kept == [item for item in permutation.tolist() if own[item] == group]


def test_one_group_is_the_order_of_none():
    shuffled = Items(12, batch_size=4, seed=3)
    for grouping, batch in (("one_group", 4), ("one_per_group", 1)):
        alone = loader([0] * 12, grouping, batch)
        plain = Items(12, batch_size=batch, seed=3) if batch != 4 else shuffled
        assert [alone.items(step) for step in range(20)] == [plain.items(step) for step in range(20)]


@pytest.mark.parametrize(("grouping", "distinct"), [("one_per_group", 4), ("one_group", 1)])
def test_every_batch_keeps_the_rule_in_every_epoch(grouping, distinct):
    groups = [0, 1, 2, 3] * 5
    made = loader(groups, grouping, 4)
    epochs = []
    for step in range(20):
        items = made.items(step)
        assert len({groups[item] for item in items}) == distinct
        epochs.append(items)
    per = int(made.steps_per_epoch)
    seen = [Counter(item for items in epochs[e * per : (e + 1) * per] for item in items) for e in range(20 // per)]
    assert all(set(counts.values()) == {1} for counts in seen)
    assert epochs[:per] != epochs[per : 2 * per]
    assert (made.doubts == []) == (grouping == "one_per_group")


@pytest.mark.parametrize("grouping", ["one_per_group", "one_group"])
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_together_are_the_global_batch_and_a_resume_changes_nothing(grouping, world):
    groups = [n % 7 for n in range(43)]
    whole = loader(groups, grouping, 6)
    parts = [loader(groups, grouping, 6, rank=rank, world_size=world, threads=2) for rank in range(world)]
    for step in (0, 1, 9, 30):
        together = [parts[place % world].items(step)[place // world] for place in range(6)]
        assert tuple(together) == whole.items(step)
    assert list(whole.batches(5, 12)) == [whole.items(step) for step in range(5, 12)]


def test_what_is_left_out_is_said():
    short = loader([0] * 5 + [1] * 3 + [2], "one_group", 2)
    assert short.steps_per_epoch == 3
    assert "3 of 9 items are in no batch" in short.doubts[0]
    uneven = loader([0] * 8 + [1] * 2 + [2] * 2, "one_per_group", 3)
    assert "% of the batches hold a group twice" in uneven.doubts[0]
    assert 0 < batches_without_repeats(uneven._order(0), uneven._groups, 3) < 1


def test_wrong_groups_are_refused():
    with pytest.raises(ConfigError, match="a batch of 4 needs as many groups"):
        loader([0, 1, 2] * 4, "one_per_group", 4)
    with pytest.raises(ConfigError, match="no group fills a batch of 5; the largest of 3 has 4"):
        loader([0, 1, 2] * 4, "one_group", 5)
    with pytest.raises(DataError, match="1 of 2 items that are trained on have no group"):
        Items(2, ids=["a", "b"], batch_size=1, seed=0, grouping="one_group", groups={"a": "x"})
    with pytest.raises(ConfigError, match="must be one of"):
        Items(1, ids=["a"], batch_size=1, seed=0, grouping="sorted", groups={"a": "x"})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("scan,cluster\na,1\n", "has the columns scan and group"),
        ("scan,group\na,\n", "Row 1"),
        ("scan,group\na,1\na,2\n", "'a' is in the groups '1' and '2'"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, text, match):
    file = tmp_path / "groups.csv"
    file.write_text(text)
    with pytest.raises(DataError, match=match) as told:
        read_groups(file)
    assert str(file) in str(told.value)


def test_a_table_is_read(tmp_path):
    file = tmp_path / "groups.csv"
    file.write_text("scan,group\na,1\nb,2\na,1\n")
    assert read_groups(file) == {"a": "1", "b": "2"}
    with pytest.raises(DataError, match="cannot be read"):
        read_groups(tmp_path / "absent.csv")
