"""Crops as the meter of pretraining: where they lie, what they show, and what features tell of both."""

import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.store.in_memory import Item, store_from_arrays
from medssl.tasks.crops import CropProbe, crop_features, crop_size, crops_of

ENCODER = {"name": "unet", "channels": [4, 6, 8], "strides": [1, 2, 2]}
SHAPE = (16, 24, 24)


@pytest.fixture
def store(tmp_path):
    """Scans whose grey value rises along z: a crop's brightness says where it lies; the lower half is a structure."""
    draw = np.random.default_rng(0)
    items = []
    for number in range(12):
        rising = np.linspace(-500, 500, SHAPE[0])[:, None, None] + 20 * draw.normal(size=SHAPE)
        labels = np.zeros(SHAPE, np.int16)
        labels[: SHAPE[0] // 2] = 1
        items.append(Item(id=f"s{number}", values=rising.astype(np.int16), labels=labels, patient=f"p{number}"))
    return store_from_arrays(tmp_path / "store", items, classes={1: "lower"})


def test_crops_say_where_they_lie_and_what_they_show(store):
    crops = crops_of(store, (8, 8, 8), seed=0)
    assert len(crops) == len(crops.place) == len(crops.content) == len(crops.images) == 12 * 16
    assert np.abs(crops.place).max() <= 1 - 8 / 24 + 1e-6
    # by hand: the crop's middle along z, counted from the top, says how much of it lies in the lower half
    first = (crops.place[:, 0] + 1) / 2 * 16 - 4
    np.testing.assert_allclose(crops.content[:, 0], np.clip((8 - first) / 8, 0, 1), atol=1e-5)
    again = crops_of(store, (8, 8, 8), seed=0)
    assert torch.equal(crops.images, again.images)
    assert not torch.equal(crops.images, crops_of(store, (8, 8, 8), seed=1).images)


def test_features_are_the_cells_of_the_three_coarsest_levels(store):
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER).eval()
    crops = crops_of(store, (8, 8, 8), seed=0)
    found = crop_features(encoder, crops, batch_size=7)
    assert found.shape == (len(crops), 8 * (4 + 6 + 8))
    with torch.no_grad():
        pyramid = encoder(crops.images[:2])
    own = [torch.nn.functional.adaptive_avg_pool3d(level, 2).flatten(1) for level in pyramid]
    np.testing.assert_allclose(found[:2], torch.cat(own, dim=1).numpy(), atol=1e-5)


def test_the_meter_finds_what_is_planted_and_nothing_in_features_that_say_nothing(store):
    probe = CropProbe(
        store.subset([f"s{n}" for n in range(8)]), store.subset([f"s{n}" for n in range(8, 12)]), (8, 8, 8), seed=0
    )
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER).eval()
    found = probe(encoder)
    assert set(found) == {
        f"{kind}{name}" for kind in ("", "chance/", "handmade/") for name in ("crop_place_r2", "crop_content_r2")
    }
    assert found["handmade/crop_content_r2"] > 0.8
    assert 0.25 < found["handmade/crop_place_r2"] < 0.5  # of z, y and x brightness says z alone
    assert found["chance/crop_place_r2"] == 0.0
    assert probe(encoder) == found
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.zero_()
    blind = probe(encoder)
    assert abs(blind["crop_content_r2"]) < 0.1
    for parameter in encoder.parameters():
        parameter.data.fill_(float("nan"))
    assert probe(encoder) == {}


def test_scans_without_labels_are_asked_for_place_alone(store):
    bare = store.with_entries([type(e)(**{**vars(e), "label_file": None}) for e in store.entries])
    probe = CropProbe(bare, bare, (8, 8, 8), seed=0)
    assert set(probe(build_encoder(ENCODER).eval())) == {
        "crop_place_r2",
        "chance/crop_place_r2",
        "handmade/crop_place_r2",
    }


def test_a_crop_is_half_a_window_and_what_the_encoder_takes():
    assert crop_size((1, 96, 96), (1, 16, 16)) == (1, 48, 48)
    assert crop_size((8, 48, 32), (4, 8, 8)) == (4, 24, 16)
    assert crop_size((8, 8, 8), (8, 8, 8)) == (16, 16, 16)  # not a single voxel at the coarsest level
