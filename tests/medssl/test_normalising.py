"""How stored values become input: against numpy and nnU-Net's formula, and one input for all that see a scan."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from medssl.errors import DataError
from medssl.input_schemes import SCHEMES
from medssl.loading import WindowLoader, channel_facts
from medssl.normalising import Statistics, check_takes, fitted_numbers, nonzero_moments, statistics_of, takes
from medssl.randomness import Stream
from medssl.store.in_memory import Item, store_from_arrays
from medssl.store.normalised import channels_of, fitted, normalised, normalised_as
from medssl.store.read import Store
from medssl.store.write import write_entry
from medssl.views.intensity import IntensitySettings, apply_intensity, sample_intensity
from medssl.windows import WindowPlan, as_input
from medssl.workflows.cache import cache
from medssl.workflows.index import index as index_scans

BOX = ((2, 2, 2), (14, 18, 12))


def ct(number: int) -> np.ndarray:
    values = np.full((16, 20, 14), -1000, dtype=np.int16)
    draw = np.random.default_rng(number)
    (z0, y0, x0), (z1, y1, x1) = BOX
    values[z0:z1, y0:y1, x0:x1] = draw.normal(40 + 20 * number, 90, (z1 - z0, y1 - y0, x1 - x0)).round()
    return values


@pytest.fixture
def store(tmp_path: Path) -> Store:
    items = [Item(id=f"s{n}", values=ct(n), patient=f"p{n}", split="train" if n < 3 else "test") for n in range(4)]
    return store_from_arrays(tmp_path / "store", items)


def inputs(store: Store, index: int) -> torch.Tensor:
    scale, present = channel_facts([store.entries[index]])
    return as_input(torch.from_numpy(store.values(index))[None, None], scale, present)


def boxed(store: Store, index: int) -> np.ndarray:
    (z0, y0, x0), (z1, y1, x1) = store.entries[index].body_box
    return store.values(index)[z0:z1, y0:y1, x0:x1]


def test_unit_is_what_it_was(store: Store) -> None:
    scale, _ = channel_facts([store.entries[0]])
    assert scale.shape == (1, 1, 2)
    wanted = np.clip((ct(0).astype(np.float32) + 1000) / 2000, 0, 1)
    assert torch.equal(inputs(normalised(store, [("unit", None)]), 0)[0, 0], torch.from_numpy(wanted))
    # and the general form gives the same bits, where only some channels are otherwise
    row = torch.tensor([[[-1000.0, 1000.0, -1000.0, 2000.0, 1.0]]])
    assert torch.equal(as_input(torch.from_numpy(ct(0))[None, None], row), inputs(store, 0))


def test_zscore_is_that_of_the_body(store: Store) -> None:
    made = normalised(store, fitted("zscore", store.split("train")))
    for index in range(len(store)):
        body = boxed(store, index).astype(np.float64)
        wanted = (ct(index).astype(np.float64) - body.mean()) / body.std()
        np.testing.assert_allclose(inputs(made, index)[0, 0].numpy(), wanted, atol=1e-5)
    assert made.entries[0].scheme == "zscore"
    assert store.entries[0].scheme == "unit"  # the store itself is as it was


def test_dataset_is_of_the_training_scans_alone(store: Store) -> None:
    chosen = fitted("dataset", store.split("train"))
    bodies = [boxed(store, index).astype(np.float64) for index in range(3)]
    mean = np.mean([body.mean() for body in bodies])
    deviation = np.sqrt(np.mean([((body - mean) ** 2).mean() for body in bodies]))
    made = normalised(store, chosen)
    wanted = (np.clip(ct(3), -1024, 3071) - mean) / deviation
    np.testing.assert_allclose(inputs(made, 3)[0, 0].numpy(), wanted, atol=1e-5)


def test_nnunets_scheme_is_its_formula(store: Store) -> None:
    ((_, numbers),) = fitted("nnunet", store.split("train"))
    assert numbers is not None
    tissue = np.concatenate([body[body > -500] for body in (boxed(store, n).ravel() for n in range(3))])
    low, high = np.percentile(tissue, (0.5, 99.5))
    assert numbers[0] == pytest.approx(low, abs=6)  # of sketches of 400 quantiles a scan
    assert numbers[1] == pytest.approx(high, abs=6)
    image = np.clip(ct(3).astype(np.float32), *numbers[:2])  # as its CTNormalization computes, in float32
    image -= np.float32(numbers[2])
    image /= max(np.float32(numbers[3]), 1e-8)
    assert np.array_equal(inputs(normalised(store, [("nnunet", numbers)]), 3)[0, 0].numpy(), image)


def test_other_modalities_have_no_scheme_of_ct(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 16384, (8, 8, 8)).astype(np.int16)
    made = store_from_arrays(tmp_path / "mr", [Item(id="a", values=values, modality="MR")])
    assert fitted("nnunet", made) == [("nnunet", None)]
    seen = inputs(normalised(made, fitted("nnunet", made)), 0)
    assert abs(float(seen.mean())) < 1e-4
    assert channels_of(normalised(made, fitted("nnunet", made)).entries) == [("nnunet", None)]  # no number of all scans


def test_one_mean_of_hu_and_of_other_units_is_refused(tmp_path: Path) -> None:
    items = [Item(id="a", values=ct(0)), Item(id="b", values=np.abs(ct(1)) * 9, modality="MR")]
    made = store_from_arrays(tmp_path / "both", items)
    with pytest.raises(DataError, match=r"of 2 scans to train on 1 are CT in HU.*normalise=zscore"):
        fitted("dataset", made)
    assert fitted("dataset", made.subset(["a"]))[0][1] is not None


@pytest.mark.parametrize("odd", [0, 1])
@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_rounding_of_a_scan_of_one_value_does_not_fill_the_input(tmp_path: Path, modality: str, odd: int) -> None:
    values = np.full((16, 16, 16), 40, dtype=np.int16)
    values[8, 8, 8] += odd
    made = store_from_arrays(tmp_path / "flat", [Item(id="a", values=values, modality=modality)])
    made = normalised(made, fitted("zscore", made))
    assert float(inputs(made, 0).abs().max()) < 0.1
    scale, _ = channel_facts(made.entries)
    assert float(scale[..., 4].max()) <= 100  # how large `unit`'s changes of intensity are here


@pytest.fixture
def mixed(tmp_path: Path) -> Store:
    magnitudes = np.random.default_rng(0).integers(0, 16384, ct(0).shape).astype(np.int16)
    items = [Item(id="ct", values=ct(0)), Item(id="mr", values=magnitudes, modality="MR")]
    return store_from_arrays(tmp_path / "mixed", items)


@pytest.mark.parametrize(("scheme", "trained", "other"), [("dataset", "ct", "mr"), ("dataset", "mr", "ct"),
                                                          ("nnunet", "ct", "mr")])  # fmt: skip
def test_numbers_of_one_unit_are_not_given_to_another(mixed: Store, scheme: str, trained: str, other: str) -> None:
    numbers = fitted(scheme, mixed.subset([trained]))
    normalised(mixed.subset([trained]), numbers)
    with pytest.raises(DataError, match=rf"{other}: its values are .*HU.*zscore"):
        normalised(mixed, numbers)


def test_a_ct_whose_values_are_no_hu_is_not_taken_for_one(tmp_path: Path) -> None:
    """A store scales it by its percentiles, as other modalities, though its modality is CT."""
    values = np.random.default_rng(0).integers(0, 16384, (8, 8, 8)).astype(np.int16)
    record = write_entry(tmp_path, "a", values, np.eye(4), scale=(0.0, 16384.0), slope=0.0156, patient="a")
    (known,) = record.statistics
    assert known is not None
    assert known.tissue is None
    assert fitted_numbers("nnunet", [known]) is None


def test_a_channel_of_both_units_has_no_numbers_of_all(mixed: Store) -> None:
    with pytest.raises(DataError, match="are CT in HU"):
        fitted("dataset", mixed)
    assert fitted("nnunet", mixed) == [("nnunet", None)]
    assert abs(float(inputs(normalised(mixed, fitted("nnunet", mixed)), 1).mean())) < 1e-4


def test_a_store_of_an_earlier_release_is_read_for_it(store: Store) -> None:
    kept = [store.statistics(index) for index in range(len(store))]
    path = store.folder / "store.json"
    content = json.loads(path.read_text())
    assert "scheme" not in content["entries"][0]
    assert "numbers" not in content["entries"][0]
    del content["statistics"]
    path.write_text(json.dumps(content))
    old = Store.open(store.folder)
    read = [old.statistics(index) for index in range(len(old))]
    assert read == [tuple(one and replace(one, nonzero=None) for one in each) for each in kept]
    assert [old.statistics(index, nonzero=True) for index in range(len(old))] == kept
    assert old.entries == store.entries


def test_a_lacking_channel_stays_zero(tmp_path: Path) -> None:
    values = np.stack([ct(0), ct(1)])
    items = [
        Item(id="a", values=values, channels=("one", "two")),
        Item(id="b", values=values, channels=("one", "two"), lacks=("two",)),
    ]
    made = store_from_arrays(tmp_path / "two", items)
    made = normalised(made, fitted("zscore", made))
    batch = WindowLoader(made, WindowPlan(size=(8, 8, 8)), batch_size=2, seed=0, threads=0).batch(0)
    seen = batch.network_input()
    lacking = (~batch.present).nonzero()
    assert len(lacking)
    assert all(not seen[item, channel].any() for item, channel in lacking.tolist())


def test_training_and_whole_scans_see_the_same(store: Store) -> None:
    for scheme in SCHEMES:
        made = normalised(store, fitted(scheme, store.split("train")))
        batch = WindowLoader(made, WindowPlan(size=(8, 8, 8)), batch_size=4, seed=0, threads=0).batch(0)
        for row, item in enumerate(batch.item.tolist()):
            z, y, x = batch.origin[row].tolist()
            whole = inputs(made, item)[0, 0, z : z + 8, y : y + 8, x : x + 8]
            assert torch.equal(batch.network_input()[row, 0], whole), scheme


def test_a_card_gives_the_input_of_training(store: Store) -> None:
    from medssl.engine.card import CardInput

    train = normalised(store, fitted("dataset", store.split("train")))
    ((scheme, numbers),) = channels_of(train.entries)
    said = CardInput.model_validate_json(CardInput(name="ct", normalise=scheme, numbers=numbers).model_dump_json())
    assert torch.equal(inputs(normalised_as(store, [said]), 3), inputs(train, 3))
    assert torch.equal(inputs(normalised_as(train, [CardInput(name="ct")]), 3), inputs(store, 3))  # an older card


def test_augmentation_is_the_same_whatever_the_input() -> None:
    """Changes of z-scores are those of [0, 1], stretched and shifted."""
    settings = IntensitySettings(
        contrast=(0.7, 1.4), brightness=0.2, gamma=(0.7, 1.5), noise=0.1, blur_voxels=1.0, low_resolution=1.5
    )
    images = torch.rand(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    drawn = sample_intensity(settings, Stream(0, 0, [0, 1]))
    plain = apply_intensity(images, drawn)
    stretched = apply_intensity(images * 7.0 - 3.0, drawn, unit=torch.full((2, 1), 7.0))
    torch.testing.assert_close(stretched, plain * 7.0 - 3.0, atol=2e-4, rtol=1e-4)


def test_an_encoder_takes_the_input_it_was_trained_on(store: Store) -> None:
    encoder = torch.nn.Identity()
    check_takes(encoder, store.entries[0].schemes)  # a fresh one takes any
    takes(encoder, ("zscore",))
    with pytest.raises(DataError, match="input normalised as zscore, and the scans come as unit"):
        check_takes(encoder, store.entries[0].schemes)


def test_nonzero_is_the_z_score_that_nnunet_takes(tmp_path: Path) -> None:
    """Over the box of all that is not 0 in any channel, in the file's own values and voxels, whatever is stored."""
    draw = np.random.default_rng(3)
    one, two = np.zeros((12, 14, 10)), np.zeros((12, 14, 10))
    one[2:9, 3:12, 1:8] = draw.uniform(50, 900, (7, 9, 7))
    two[4:11, 3:6, 5:9] = draw.uniform(-5, 5, (7, 3, 4))
    box = (slice(2, 11), slice(3, 12), slice(1, 9))
    for found, values in zip(nonzero_moments([one, None, two]), (one, None, two), strict=True):
        assert found is None if values is None else found == pytest.approx((values[box].mean(), values[box].std()))
    assert nonzero_moments([np.zeros((2, 3, 4))]) == ((0.0, 0.0),)
    nibabel.save(nibabel.Nifti1Image(one.transpose(2, 1, 0).astype(np.float32), np.eye(4)), tmp_path / "a_T1w.nii.gz")
    index_scans(tmp_path, out=tmp_path / "m.parquet")
    for name, settings in (("plain", []), ("coarse", ["spacing_mm=[2,2,2]", "crop=true"])):
        cache(tmp_path / "m.parquet", out=tmp_path / name, overrides=settings)
        store = Store.open(tmp_path / name)
        (known,), (channel,) = store.statistics(0), store.entries[0].channels
        mean, deviation = known.nonzero
        assert mean * channel.slope + channel.intercept == pytest.approx(one[2:9, 3:12, 1:8].mean(), rel=1e-4)
        assert deviation * channel.slope == pytest.approx(one[2:9, 3:12, 1:8].std(), rel=1e-4)
        made = normalised(store, [("nonzero", None)])
        stored = store.values(0, 0).astype(np.float64)
        np.testing.assert_allclose(inputs(made, 0)[0, 0].numpy(), (stored - mean) / deviation, atol=1e-4)
        assert abs((made.entries[0].padding - mean) / deviation) < 1e-3  # what is outside is the mean, as nnU-Net pads
        assert store.entries[0].padding == store.entries[0].fill


def test_scans_weigh_alike_whatever_their_size() -> None:
    small = statistics_of(np.full((2, 2, 2), 100, np.int16), ((0, 0, 0), (2, 2, 2)), hounsfield=True)
    large = statistics_of(np.full((8, 8, 8), 300, np.int16), ((0, 0, 0), (8, 8, 8)), hounsfield=True)
    assert small == Statistics(mean=100.0, deviation=1.0, tissue=(100.0, 1.0), sketch=(100,) * 400)
    numbers = fitted_numbers("dataset", [replace(small, deviation=0.0), replace(large, deviation=0.0)])
    assert numbers is not None
    assert numbers[2:] == (200.0, 100.0)


def test_hounsfield_that_were_clipped_before_resampling_are_clipped_there_and_nowhere_else() -> None:
    known = Statistics(mean=10.0, deviation=50.0, tissue=(20.0, 60.0), sketch=tuple(range(-150, 250)))
    within = fitted_numbers("nonzero", [known], hu_range=(-200.0, 300.0))
    before = fitted_numbers("nonzero", [known], hu_range=(-200.0, 300.0), clipped=True)
    assert within is not None
    assert within[0] > -150
    assert before == (-200.0, 300.0, *within[2:])
