"""A file of a store is opened as plain whole numbers, or not at all."""

from __future__ import annotations

import blosc2
import numpy as np
import pytest

from medssl.errors import CacheError
from medssl.store.blocks import open_array


def test_a_file_that_holds_a_recipe_for_values_is_never_run(tmp_path):
    def recipe(inputs, output, offset):
        output[:] = 7

    source = blosc2.asarray(np.zeros((4, 4, 4), np.int16), urlpath=str(tmp_path / "plain.b2nd"), mode="w")
    planted = tmp_path / "planted.b2nd"
    blosc2.lazyudf(recipe, (source,), dtype=np.int16).save(urlpath=str(planted))
    assert type(blosc2.open(str(planted), mode="r", deserialize="full")).__name__ == "LazyUDF"  # it would run
    with pytest.raises(CacheError, match="cannot be opened"):
        open_array(planted)


@pytest.mark.parametrize("values", [np.zeros((4, 4), np.int16), np.zeros((4, 4, 4), np.float32)])
def test_a_file_of_another_kind_of_array_is_refused(tmp_path, values):
    blosc2.asarray(values, urlpath=str(tmp_path / "a.b2nd"), mode="w")
    with pytest.raises(CacheError, match="not whole numbers with axes"):
        open_array(tmp_path / "a.b2nd")
