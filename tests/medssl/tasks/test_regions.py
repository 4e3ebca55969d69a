"""Regions that overlap: the loss, what is written, and voxels that are not known, against hand-made numbers."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.encoders.table import build_encoder
from medssl.errors import ConfigError
from medssl.regions import Region
from medssl.tasks.outputs import ClassOutput, RegionOutput, membership
from medssl.tasks.segmentation import SegmentationSettings, SegmentationTask
from medssl.tasks.segmentation_loss import DiceCrossEntropy, RegionDiceCrossEntropy

REGIONS = (Region("whole", (1, 2, 4), 1), Region("core", (2, 4), 2), Region("active", (4,), 4))
VALUES = (0, 1, 2, 4)
CLASSES = {0: "background", 1: "edema", 2: "necrosis", 4: "active"}


def drawn(seed, channels, classes=4, shape=(2, 4, 4, 4)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], channels, *shape[1:], generator=generator)
    return logits, torch.randint(-1, classes, shape, generator=generator)


def test_the_loss_is_that_of_each_region_by_itself():
    logits, labels = drawn(0, 3)
    found = RegionDiceCrossEntropy(membership(REGIONS, VALUES))([logits], labels)
    values = np.array([-1, *VALUES])[labels.numpy() + 1]
    known = values >= 0
    entropy, dice = [], []
    for channel, region in enumerate(REGIONS):
        p = 1 / (1 + np.exp(-logits[:, channel].numpy().astype(np.float64)))[known]
        t = np.isin(values, region.values)[known].astype(np.float64)
        entropy.append(-(t * np.log(p) + (1 - t) * np.log(1 - p)))
        dice.append(1 - (2 * (p * t).sum() + 1e-5) / ((p + t).sum() + 1e-5))
    assert float(found.cross_entropy) == pytest.approx(float(np.mean(entropy)), rel=1e-5)
    assert float(found.dice) == pytest.approx(float(np.mean(dice)), rel=1e-5)
    assert float(found.total) == pytest.approx(float(np.mean(entropy) + np.mean(dice)), rel=1e-5)


@pytest.mark.parametrize("loss", [DiceCrossEntropy(), RegionDiceCrossEntropy(membership(REGIONS, VALUES))])
@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_what_is_predicted_where_nothing_is_known_changes_no_loss(loss, seed):
    channels = 3 if isinstance(loss, RegionDiceCrossEntropy) else 4
    logits, labels = drawn(seed, channels)
    other = torch.where((labels < 0)[:, None], torch.randn_like(logits) * 9, logits).requires_grad_()
    ours, theirs = loss([logits], labels).total, loss([other], labels).total
    torch.testing.assert_close(ours, theirs)
    theirs.backward()
    assert (other.grad.movedim(1, -1)[labels < 0] == 0).all()


def test_later_regions_are_written_over_earlier_ones():
    output = RegionOutput(REGIONS)
    logits = torch.randn(1, 3, 5, 6, 7, generator=torch.Generator().manual_seed(1))
    places = output.decide(output.probabilities(logits)[0])
    by_hand = np.zeros((5, 6, 7), int)
    for channel, region in enumerate(REGIONS):
        by_hand[logits[0, channel].numpy() > 0] = region.written  # sigmoid > 0.5
    assert np.array_equal(np.array(output.numbers)[places.numpy()], by_hand)


def test_a_task_has_a_channel_for_each_region_and_none_for_the_background():
    encoder = build_encoder({"name": "unet", "channels": [4, 8]})
    small = {"window": (8, 8, 8)}
    task = SegmentationTask(SegmentationSettings(**small), encoder, CLASSES, REGIONS)
    assert task.class_names == ("whole", "core", "active")
    assert task.network.eval()(torch.zeros(1, 1, 8, 8, 8)).shape[1] == 3
    labels = task.table(torch.tensor([-1, 0, 1, 2, 4]))
    assert [task.shows(labels, n).tolist() for n in (1, 2, 3)] == [
        [False, False, True, True, True], [False, False, False, True, True], [False, False, False, False, True],
    ]  # fmt: skip
    plain = SegmentationTask(SegmentationSettings(**small, regions=False), encoder, CLASSES, REGIONS)
    assert plain.output == ClassOutput((0, 1, 2, 4))
    with pytest.raises(ConfigError, match="the store has none"):
        SegmentationTask(SegmentationSettings(**small, regions=True), encoder, CLASSES)
