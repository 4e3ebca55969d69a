"""Boxes and cells of a scan on a small grid."""

from __future__ import annotations

import numpy as np
import pytest

from medssl.reduction.grids import image_box


@pytest.mark.parametrize("pads", [((0, 0), (0, 0), (0, 0)), ((2, 1), (0, 4), (3, 3)), ((0, 5), (7, 0), (0, 0))])
def test_the_image_is_what_padding_surrounds(pads):
    inside = np.random.default_rng(0).integers(1, 9, (6, 20, 19))
    values = np.pad(inside, pads)
    assert np.array_equal(values[image_box(values)], inside)


def test_one_voxel_in_an_outer_plane_is_image():
    values = np.zeros((5, 40, 40))
    values[0, 3, 38] = values[3, 20, 20] = 1  # no voxel that a quick look takes
    assert image_box(values) == (slice(0, 4), slice(3, 21), slice(20, 39))


def test_where_everything_is_one_value_everything_is_image():
    assert image_box(np.zeros((3, 4, 5))) == (slice(0, 3), slice(0, 4), slice(0, 5))
