from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medssl.encoders.table import build_encoder
from medssl.exporting.features import embed_scan, embed_store
from medssl.placement import covering_origins
from medssl.store.in_memory import Item, store_from_arrays
from tests.perturbing import perturbed

axis = st.tuples(st.integers(0, 40), st.integers(1, 60), st.integers(1, 30))


@given(st.tuples(axis, axis, axis), st.sampled_from([0.0, 0.25, 0.5]))
def test_windows_cover_the_box_and_stay_inside_it(axes, overlap: float) -> None:
    first = tuple(a[0] for a in axes)
    last = tuple(a[0] + a[1] for a in axes)
    window = tuple(a[2] for a in axes)
    origins = covering_origins((first, last), window, overlap=overlap)
    assert len(set(origins)) == len(origins)
    for i in range(3):
        starts = sorted({origin[i] for origin in origins})
        covered = {v for start in starts for v in range(start, start + window[i])}
        assert covered >= set(range(first[i], last[i]))
        if last[i] - first[i] > window[i]:
            assert starts[0] == first[i]
            assert starts[-1] + window[i] == last[i]
            assert all(b - a <= max(1, window[i] * (1 - overlap)) for a, b in pairwise(starts))
        else:
            assert len(starts) == 1


@pytest.fixture
def store(tmp_path):
    generator = np.random.default_rng(0)
    items = [
        Item(id=f"s{i}", values=generator.integers(-900, 900, shape).astype(np.int16), patient=f"p{i}", split="train")
        for i, shape in enumerate([(12, 16, 20), (9, 10, 11)])
    ]
    return store_from_arrays(tmp_path / "store", items)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return perturbed(build_encoder({"name": "unet", "channels": [4, 8]})).eval()


def _seen(store, index: int) -> torch.Tensor:
    entry = store.entries[index]
    low, high = entry.scale
    return ((torch.from_numpy(store.values(index)).float() - low) / (high - low)).clamp(0, 1)[None, None]


def test_one_pass_is_the_encoder_on_the_body(store, encoder) -> None:
    vector, windows = embed_scan(encoder, store, 0, window=None)
    assert store.entries[0].body_box == ((0, 0, 0), (12, 16, 20))
    assert windows == 1
    with torch.no_grad():
        np.testing.assert_allclose(vector, encoder.embed(_seen(store, 0))[0], atol=1e-5)


def test_windows_are_averaged_whatever_the_batch(store, encoder) -> None:
    one, count = embed_scan(encoder, store, 0, window=(8, 8, 8), batch_size=1)
    many, _ = embed_scan(encoder, store, 0, window=(8, 8, 8), batch_size=5)
    np.testing.assert_allclose(one, many, atol=1e-5)
    image = _seen(store, 0)
    origins = covering_origins(store.entries[0].body_box, (8, 8, 8), overlap=0.25)
    assert count == len(origins) > 8
    with torch.no_grad():
        parts = [encoder.embed(image[:, :, z : z + 8, y : y + 8, x : x + 8])[0] for z, y, x in origins]
    np.testing.assert_allclose(one, torch.stack(parts).mean(0), atol=1e-5)


def test_all_levels_end_with_the_embedding(store, encoder) -> None:
    coarsest, _ = embed_scan(encoder, store, 1, window=None)
    joined, _ = embed_scan(encoder, store, 1, window=None, levels="all")
    assert joined.shape == (12,)
    np.testing.assert_allclose(joined[4:], coarsest, atol=1e-6)


def test_a_damaged_scan_is_listed_and_the_rest_goes_on(store, encoder) -> None:
    (store.folder / store.entries[0].file).write_bytes(b"not an array")
    seen: list[str] = []
    table = embed_store(encoder, store, progress=seen.append, window=None)
    assert seen == ["s0", "s1"]
    assert table.ids == ("s1",)
    assert table.patients == ("p1",)
    assert table.vectors.shape == (1, 8)
    assert list(table.failed) == ["s0"]
