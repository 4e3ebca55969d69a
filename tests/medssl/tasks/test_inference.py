import numpy as np
import pytest
import torch
from torch import nn

from medssl.errors import DataError
from medssl.formats.nifti import read
from medssl.geometry import to_canonical
from medssl.randomness import numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.index import write_index
from medssl.store.read import Store
from medssl.store.write import write_entry
from medssl.tasks.inference import InferenceSettings, predict_store, prediction_file, probabilities_of
from medssl.tasks.outputs import ClassOutput

WINDOW = (8, 8, 8)


class Threshold(nn.Module):
    """Calls what is brighter than half the scale class 1, and brighter than three quarters class 2."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Parameter(torch.tensor([0.5, 0.75]))
        self.calls = 0

    def forward(self, images):
        self.calls += 1
        first, second = ((images - cut) * 100 for cut in self.cut)
        return torch.cat([torch.zeros_like(first), first, first + second], dim=1)


@pytest.fixture
def store(tmp_path):
    entries, sources = [], {}
    for number, scan_id in enumerate(("plain", "case/ä 1")):
        affine = np.diag([-0.8, 0.9, 3.0, 1.0])
        affine[:3, 3] = (10, -20, number)
        source = numpy_generator(0, number).integers(-1000, 1000, (9, 11, 12)).astype(np.int16)
        values, stored_affine = to_canonical(source, affine)
        record = write_entry(
            tmp_path / "store", scan_id, np.ascontiguousarray(values), stored_affine, source_affine=affine,
            source_shape=source.shape,
        )  # fmt: skip
        entries.append(record.entry)
        sources[scan_id] = (source, affine)
    write_index(tmp_path / "store", entries, settings={}, classes={})
    return Store.open(tmp_path / "store"), sources


def expected(source):
    return np.select([source >= 500, source > 0], [7, 4], 0)


def test_label_maps_lie_on_the_grid_of_the_source(store, tmp_path) -> None:
    opened, sources = store
    network, seen = Threshold(), []
    found = predict_store(
        network, ClassOutput((0, 4, 7)), opened, tmp_path / "p", window=WINDOW, settings=InferenceSettings(),
        progress=seen.append,
    )  # fmt: skip
    assert seen == found
    assert [p.ready for p in found] == [False, False]
    for prediction in found:
        scan = read(prediction.path)
        source, affine = sources[prediction.id]
        np.testing.assert_allclose(scan.header.affine, affine, atol=1e-5)
        assert scan.values.dtype == np.uint8
        away = (np.abs(source) > 2) & (np.abs(source - 500) > 2)
        assert np.array_equal(np.asarray(scan.values)[away], expected(source)[away])


def test_what_is_ready_is_kept_until_weights_or_settings_change(store, tmp_path) -> None:
    opened, _ = store
    network = Threshold()

    def again(**settings):
        return [
            p.ready
            for p in predict_store(
                network, ClassOutput((0, 4, 7)), opened, tmp_path / "p", window=WINDOW,
                settings=InferenceSettings(**settings),
            )
        ]  # fmt: skip

    assert again() == [False, False]
    network.calls = 0
    assert again() == [True, True]
    assert network.calls == 0
    (tmp_path / "p" / prediction_file("plain")).unlink()
    assert again() == [False, True]
    assert again(mirror=["z"]) == [False, False]
    with torch.no_grad():
        network.cut += 0.1
    assert again(mirror=["z"]) == [False, False]


def test_mirroring_averages_the_mirrored_views(store) -> None:
    opened, _ = store

    class Ramp(nn.Module):
        """Sees how far along z a voxel lies in its window, whatever the image."""

        def forward(self, images):
            ramp = torch.linspace(-2, 2, images.shape[2]).view(1, 1, -1, 1, 1).expand_as(images)
            return torch.cat([ramp, -ramp], dim=1)

    window = (9, 11, 12)
    plain = probabilities_of(Ramp(), opened, 0, window, InferenceSettings())
    both = probabilities_of(Ramp(), opened, 0, window, InferenceSettings(mirror=("z",)))
    torch.testing.assert_close(both, (plain + plain.flip(1)) / 2)
    torch.testing.assert_close(both.sum(dim=0), torch.ones(both.shape[1:]))


def test_two_scans_of_one_name_are_refused(store, tmp_path) -> None:
    opened, _ = store
    twice = opened.subset(["plain", "plain"])
    with pytest.raises(DataError, match="same id"):
        predict_store(
            Threshold(), ClassOutput((0, 4, 7)), twice, tmp_path / "p", window=WINDOW, settings=InferenceSettings()
        )


def test_a_scan_smaller_than_the_window_is_padded_as_in_training(store) -> None:
    opened, _ = store
    seen = []

    class Look(Threshold):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    probabilities = probabilities_of(Look(), opened, 0, (16, 16, 16), InferenceSettings())
    assert probabilities.shape == (3, 9, 11, 12)
    padded = seen[-1][0, 0]
    assert padded[0].max() == 0  # the fill of CT, air
    assert padded.max() > 0.9


def test_windows_of_one_slice_segment_every_slice(store) -> None:
    opened, _ = store
    entry = opened.entries[0]
    for window in ((1, 8, 8), (1, 16, 16)):  # smaller and larger than the scan
        found = probabilities_of(Threshold(), opened, 0, window, InferenceSettings(batch_size=5))
        low, high = entry.scale
        image = ((opened.values(0).astype(np.float32) - low) / (high - low)).clip(0, 1)
        assert found.shape == (3, *entry.shape)
        np.testing.assert_array_equal(found.argmax(dim=0), (image > 0.5).astype(int) + (image > 0.75))


def test_each_channel_is_padded_with_what_it_has_outside(tmp_path):
    """A case smaller than the window: one channel is 0 outside the scan, the other is not."""
    draw = np.random.default_rng(0)
    values = np.stack([draw.integers(-1000, 900, (8, 8, 6)), draw.integers(4000, 16000, (8, 8, 6))]).astype(np.int16)
    item = Item(id="a", values=values, channels=("ct", "t1"), modality=("CT", "MR"))
    store = store_from_arrays(tmp_path / "store", [item])
    torch.manual_seed(0)
    network = torch.nn.Conv3d(2, 3, 3, padding=1)
    found = probabilities_of(network, store, 0, (8, 12, 8), InferenceSettings())
    inputs = torch.zeros(1, 2, 8, 12, 8)
    inputs[0, 1] = values[1].min() / 16384
    inputs[0, 0, :, 2:10, 1:7] = torch.from_numpy((values[0] + 1000) / 2000).float().clamp(0, 1)
    inputs[0, 1, :, 2:10, 1:7] = torch.from_numpy(values[1] / 16384).float()
    with torch.no_grad():
        ours = torch.softmax(network(inputs), dim=1)[0, :, :, 2:10, 1:7]
    torch.testing.assert_close(found, ours, atol=1e-5, rtol=1e-4)
