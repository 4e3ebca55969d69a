"""What every workflow gives back: copies of it are equal, and who takes it for what it holds is told."""

from __future__ import annotations

import copy
import operator
import pickle
from dataclasses import dataclass

import pytest

from medssl.command import Command
from medssl.workflows.result import Result


@dataclass(frozen=True)
class Found(Result):
    words: tuple[str, ...]


@pytest.mark.parametrize("following", [Command(), Command("check", "my scans.parquet")])
def test_copies_and_pickles_are_equal(following):
    found = Found(("a",), next=following, figures={"n": 1})
    assert copy.deepcopy(found) == found
    assert pickle.loads(pickle.dumps(found)) == found
    assert str(pickle.loads(pickle.dumps(following))) == str(following)


def test_an_attribute_of_what_was_found_is_pointed_to():
    with pytest.raises(AttributeError, match=r"'Found' has no attribute 'count'; what it found has: \.words\.count"):
        operator.attrgetter("count")(Found(("a",)))
    with pytest.raises(AttributeError, match=r"^'Found' has no attribute 'nothing'$"):
        operator.attrgetter("nothing")(Found(("a",)))
