"""A file of a store is opened as plain whole numbers, or not at all."""

from __future__ import annotations

import blosc2
import numpy as np
import pytest

from medssl.errors import CacheError
from medssl.store.blocks import open_array, write_array


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


def test_bytes_do_not_depend_on_the_number_of_threads(tmp_path):
    values = (np.arange(70 * 80 * 90) % 977).astype(np.int16).reshape(70, 80, 90)
    before = blosc2.nthreads
    try:
        written = []
        for threads in (1, 4):
            blosc2.set_nthreads(threads)
            write_array(tmp_path / f"{threads}.b2nd", values)
            written.append((tmp_path / f"{threads}.b2nd").read_bytes())
    finally:
        blosc2.set_nthreads(before)
    assert written[0] == written[1]
