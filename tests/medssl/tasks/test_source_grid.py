import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl import geometry
from medssl.tasks.source_grid import to_source_grid


def one_hot(labels):
    return torch.nn.functional.one_hot(torch.from_numpy(labels.astype(np.int64)), 4).permute(3, 0, 1, 2).float()


@settings(max_examples=30, deadline=None)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.integers(0, 1000))
def test_turned_grids_round_trip_voxel_for_voxel(order, signs, seed) -> None:
    rng = np.random.default_rng(seed)
    source = rng.integers(0, 4, (4, 5, 6))
    affine = np.eye(4)
    affine[:3, :3] = np.diag([0.7, 1.1, 2.5])[order] * np.array(signs)
    affine[:3, 3] = rng.normal(0, 50, 3)
    stored, stored_affine = geometry.to_canonical(source, affine)
    back = to_source_grid(one_hot(np.ascontiguousarray(stored)), stored_affine, source.shape, affine)
    assert np.array_equal(back, source)


def test_outside_of_the_store_is_background() -> None:
    labels = np.full((3, 3, 3), 2)
    moved = np.eye(4)
    moved[:3, 3] = (-1, 0, 0)
    back = to_source_grid(one_hot(labels), np.eye(4), (3, 3, 5), moved)
    assert back[..., 0].max() == 0
    assert back[..., 1:4].min() == 2
    assert back[..., 4].max() == 0


@pytest.mark.parametrize("turn", [False, True])
def test_resampling_back_agrees_with_scipy_inside_and_fills_the_outer_shell(turn) -> None:
    shape, affine = (14, 16, 18), np.diag([0.8, 0.9, 1.7, 1.0])
    affine[:3, 3] = (3, -2, 5)
    if turn:
        affine[:3, 1] *= -1
    canonical_shape = shape
    new_shape, new_affine = geometry.resized_grid(
        canonical_shape, geometry.to_canonical(np.zeros(shape), affine)[1], (1.2, 1.3, 1.4)
    )
    smooth = torch.nn.functional.avg_pool3d(
        torch.randn(1, 4, *new_shape, generator=torch.Generator().manual_seed(0)), 5, 1, 2
    )[0]
    probabilities = torch.softmax(20 * smooth, dim=0)
    ours = to_source_grid(probabilities, new_affine, shape, affine)
    oracle = np.stack(
        [
            geometry.resample_to_grid(p.double().numpy(), new_affine, shape, affine, order=1, fill=np.nan)
            for p in probabilities
        ]
    )
    known = np.isfinite(oracle).all(axis=0)
    margin = np.diff(np.sort(np.where(known, oracle, 0), axis=0)[-2:], axis=0)[0]
    clear = known & (margin > 1e-4)
    assert clear.sum() > 1000
    assert np.array_equal(ours[clear], oracle.argmax(axis=0)[clear])
    everywhere = to_source_grid(one_hot(np.full(new_shape, 3)), new_affine, shape, affine)
    assert (everywhere == 3).mean() > 0.97  # the grids' extents agree to within half a voxel


@pytest.mark.parametrize("step", [0.5, 1.25, 2.0])
def test_a_resampled_scan_is_background_outside_of_the_store(step) -> None:
    """The store holds a part of the scan alone, all of it class 3; beyond its outer faces nothing is known."""
    store = one_hot(np.full((5, 6, 7), 3))
    source_affine = np.diag([step, step, step, 1.0])
    source_affine[:3, 3] = -3.1  # the source begins before the store and ends behind it
    shape = tuple(int(14 / step) for _ in range(3))
    found = to_source_grid(store, np.eye(4), shape, source_affine)
    centres = [np.arange(n) * step - 3.1 for n in shape]  # of the source's voxels, in voxels of the store
    within = [(c >= -0.5) & (c <= n - 0.5) for c, n in zip(centres, (5, 6, 7), strict=True)]
    expected = np.where(within[0][:, None, None] & within[1][None, :, None] & within[2][None, None, :], 3, 0)
    assert 0 < (expected == 3).mean() < 0.5
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("regions", [False, True])
def test_logits_are_interpolated_where_nnunet_does(regions: bool) -> None:
    """Against nnU-Net's own way: skimage's linear ``resize`` of the logits, then the decision."""
    from skimage.transform import resize

    from medssl.regions import Region
    from medssl.store.resample import to_shape
    from medssl.tasks.outputs import ClassOutput, RegionOutput

    logits = 4 * torch.randn(1, 3, 5, 6, 7, generator=torch.Generator().manual_seed(1))
    output = ClassOutput((0, 1, 2))
    if regions:
        output = RegionOutput((Region("a", (1, 2), 1), Region("b", (2,), 2), Region("c", (3,), 3)))
    probabilities, affine, shape = output.probabilities(logits)[0], np.diag([2.0, 3, 4, 1]), (9, 8, 13)
    _, source = to_shape(np.zeros((5, 6, 7)), affine, shape, order=1)
    wanted = torch.from_numpy(np.stack([resize(one, shape, 1, mode="edge") for one in logits[0].double().numpy()]))
    between = (output.logits, lambda found: output.probabilities(found[None])[0])
    found = to_source_grid(probabilities, affine, shape, source, decide=output.decide, between=between)
    np.testing.assert_array_equal(found, output.decide(output.probabilities(wanted[None])[0]).numpy())
    plain = to_source_grid(probabilities, affine, shape, source, decide=output.decide)
    assert 0.001 < (plain != found).mean() < 0.2
