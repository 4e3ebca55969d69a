import numpy as np
import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.errors import ConfigError, DataError
from medssl.loading import WindowLoader
from medssl.randomness import Stream, numpy_generator
from medssl.store.in_memory import Item, store_from_arrays
from medssl.tasks.segmentation import LabelTable, SegmentationSettings, SegmentationTask
from medssl.views.intensity import IntensitySettings
from medssl.views.spatial import SpatialSettings

WINDOW = (16, 16, 16)
STILL = {"spatial": SpatialSettings(), "intensity": IntensitySettings()}


def scan(number: int) -> Item:
    """A bright ball (structure 2) beside a brighter cube (structure 5) in noise."""
    generator = numpy_generator(7, number)
    values = generator.normal(0, 60, (20, 18, 22))
    labels = np.zeros(values.shape, dtype=np.int16)
    z, y, x = np.indices(values.shape)
    centre = generator.integers(7, 11, 3)
    labels[(z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < 16] = 2
    labels[2:6, 11:16, 15:20] = 5
    values += np.select([labels == 2, labels == 5], [400, 800], 0)
    return Item(id=f"s{number}", values=values.astype(np.int16), labels=labels, patient=f"p{number}", split="train")


@pytest.fixture
def store(tmp_path):
    return store_from_arrays(tmp_path / "store", [scan(n) for n in range(4)], classes={2: "ball", 5: "cube"})


def task(store, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_encoder({"name": "unet", "channels": [8, 16]})
        return SegmentationTask(SegmentationSettings(window=WINDOW, **settings), encoder, store.classes)


def test_learns_to_name_two_structures(store) -> None:
    method = task(store, **STILL)
    loader = WindowLoader(store, method.plan, batch_size=2, seed=1, threads=0)
    optimiser = torch.optim.AdamW(method.parameters(), lr=1e-2)
    for step in range(40):
        views = method.views(loader.batch(step), Stream(1, step, loader.slots))
        optimiser.zero_grad()
        method(views, step / 40).total.backward()
        optimiser.step()
    method.eval()
    scores = method.probe(method.views(loader.batch(99), Stream(1, 99, loader.slots)))
    assert set(scores) == {"dice", "dice_ball", "dice_cube"}
    assert scores["dice"] > 0.8


def test_views_are_a_function_of_seed_and_step_and_keep_labels_on_the_image(store) -> None:
    method = task(store)
    batch = WindowLoader(store, method.plan, batch_size=4, seed=1, threads=0).batch(0)
    first, again = (method.views(batch, Stream(3, 5, range(4))) for _ in range(2))
    torch.testing.assert_close(first.images, again.images, rtol=0, atol=0)
    assert torch.equal(first.labels, again.labels)
    assert set(first.labels.unique().tolist()) <= {-1, 0, 1, 2}
    # contrast and noise change values, but structures stay brighter than their surroundings where their labels say
    for image, labels in zip(first.images[:, 0], first.labels, strict=True):
        for number in (1, 2):
            if (labels == number).sum() > 20:
                assert image[labels == number].mean() > image[labels == 0].mean() + 0.05
    method.eval()
    plain = method.views(batch, Stream(3, 5, range(4)))
    torch.testing.assert_close(plain.images, batch.network_input())


def test_state_has_one_name_a_tensor(store) -> None:
    method = task(store)
    assert all(key.startswith(("encoder.", "decoder.")) for key in method.state_dict())
    assert method.state_dict().keys() == method.network.state_dict().keys()
    assert method.exported_modules().keys() == {"network"}


def test_some_structures_only(store) -> None:
    method = task(store, structures=(5,))
    assert method.class_names == ("cube",)
    assert method.table(torch.tensor([-1, 0, 2, 5, 99])).tolist() == [-1, 0, 0, 1, 0]
    assert method.table.to_structure.tolist() == [0, 5]


def test_errors_say_what_would_fit(store) -> None:
    encoder = build_encoder({"name": "unet", "channels": [4, 8]})
    with pytest.raises(ConfigError, match=r"Try \(16, 16, 16\)"):
        SegmentationTask(SegmentationSettings(window=(16, 17, 16)), encoder, store.classes)
    with pytest.raises(ConfigError, match=r"\[3\].*2 \(ball\), 5 \(cube\)"):
        task(store, structures=(3,))
    with pytest.raises(DataError, match="at least one structure"):
        LabelTable([])
