"""Networks and methods of tasks on clouds: features carried to points, padding that no one sees, gradients."""

import numpy as np
import pytest
import torch

from medssl.errors import ConfigError
from medssl.randomness import Stream
from pointcloud.batch import CloudPlan
from pointcloud.cloud import make_cloud
from pointcloud.encoders.contract import Level
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.loading import CloudLoader
from pointcloud.shapes import CLASSES, PART_NAMES, parts_of, shape
from pointcloud.store_writing import CloudItem, store_from_clouds
from pointcloud.tasks.classification import CloudClassificationTask
from pointcloud.tasks.inference import predict_cloud_classes, predict_parts
from pointcloud.tasks.networks import CloudClassifier, propagate
from pointcloud.tasks.segmentation import PartSegmentationTask
from pointcloud.tasks.settings import CloudTaskSettings
from pointcloud.views.spatial import SpatialSettings

ENCODERS = {
    "point_vit": {"name": "point_vit", "width": 16, "depth": 1, "heads": 2, "points_per_token": 8, "patch": 8},
    "pointnet": {"name": "pointnet", "widths": [8, 8, 16], "transforms": False},
    "hierarchy": {
        "name": "hierarchy",
        "points_per_place": [2, 8],
        "radii": [0.3, 0.6],
        "neighbours": [8, 8],
        "widths": [[8], [16]],
        "last": [16],
    },
}
WITH_PARTS = [name for name in CLASSES if parts_of(name)][:3]
SMALL = CloudTaskSettings(points=48, hidden=(16,), dropout=0.0)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    items = [
        CloudItem(id=f"{name}-{n}", cloud=shape(name, n, seed=0, points=40 + 30 * n, parts=True), patient=f"{name}-{n}")
        for name in WITH_PARTS
        for n in range(3)
    ]
    return store_from_clouds(
        tmp_path_factory.mktemp("parts"), items, classes=dict(enumerate(CLASSES)), parts=dict(enumerate(PART_NAMES))
    )


def parts_task(encoder="point_vit", settings=SMALL, store=None):
    torch.manual_seed(0)
    numbers = [CLASSES.index(name) for name in WITH_PARTS]
    every = {p: PART_NAMES[p] for name in WITH_PARTS for p in parts_of(name)}
    return PartSegmentationTask(
        settings,
        CLOUD_ENCODERS.build(ENCODERS[encoder]),
        every,
        {n: CLASSES[n] for n in numbers},
        {n: parts_of(CLASSES[n]) for n in numbers},
    )


def class_task(encoder="point_vit", settings=SMALL):
    torch.manual_seed(0)
    numbers = [CLASSES.index(name) for name in WITH_PARTS]
    return CloudClassificationTask(settings, CLOUD_ENCODERS.build(ENCODERS[encoder]), {n: CLASSES[n] for n in numbers})


def test_features_are_carried_by_inverse_squared_distance():
    places = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [9, 9, 9]]])
    level = Level(torch.tensor([[[1.0], [10.0], [100.0], [1e6]]]), places, torch.tensor([4]))
    points = torch.tensor([[[2.0, 0, 0], [1.0, 0, 0]]])
    found = propagate(points, level)
    # Squared distances 4, 1, 1: weights 1/4, 1, 1 over 9/4; the fourth place is not among the three nearest.
    assert found[0, 0, 0].item() == pytest.approx((0.25 * 1 + 10 + 100) / 2.25, rel=1e-6)
    assert found[0, 1, 0].item() == pytest.approx(10.0, rel=1e-6)
    few = Level(level.features[:, :2], places[:, :2], torch.tensor([2]))
    assert propagate(points, few)[0, 0, 0].item() == pytest.approx((0.25 * 1 + 10) / 1.25, rel=1e-6)


def test_the_gradient_of_carried_features_is_that_of_their_weights():
    draw = torch.Generator().manual_seed(0)
    places, points = torch.rand(2, 5, 3, generator=draw), torch.rand(2, 7, 3, generator=draw)
    features = torch.rand(2, 5, 2, generator=draw, dtype=torch.float64, requires_grad=True)
    count = torch.tensor([5, 4])
    assert torch.autograd.gradcheck(lambda f: propagate(points, Level(f, places, count)), (features,))
    (grad,) = torch.autograd.grad(propagate(points, Level(features, places, count)).sum(), features)
    assert grad[1, 4].abs().sum() == 0  # a place of padding is nobody's neighbour
    assert grad[..., 0].sum().item() == pytest.approx(14, rel=1e-5)  # the weights of a point sum to 1


@pytest.mark.parametrize("encoder", sorted(ENCODERS))
@pytest.mark.parametrize("make", [class_task, parts_task])
def test_neither_padding_nor_neighbours_in_the_batch_nor_order_change_a_prediction(make, encoder, store):
    task = make(encoder).eval()
    batch = CloudLoader(store, task.plan, batch_size=3, seed=0, threads=0).batch(0)
    points, count = batch.network_input(), batch.count
    kind = (torch.zeros(3, dtype=torch.int64),) if make is parts_task else ()
    with torch.no_grad():
        together = task.network(points, count, *kind)
        n = int(count[1])
        order = torch.randperm(n, generator=torch.Generator().manual_seed(1))
        alone = task.network(points[1:2, :n][:, order], count[1:2], *(k[1:2] for k in kind))
    wanted = together[1:2, :n][:, order] if make is parts_task else together[1:2]
    assert torch.allclose(alone, wanted, atol=1e-4)


@pytest.mark.parametrize("make", [class_task, parts_task])
def test_it_learns_and_every_parameter_gets_a_gradient(make, store):
    task = make(settings=SMALL.model_copy(update={"spatial": SpatialSettings(scale=(0.9, 1.1))}))
    loader = CloudLoader(store, task.plan, batch_size=9, seed=0, threads=0)
    optimiser = torch.optim.AdamW(task.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        batch = loader.batch(step)
        found = task(task.views(batch, Stream(0, step, batch.slot.tolist())), 0.0)
        optimiser.zero_grad()
        found.total.backward()
        optimiser.step()
        losses.append(found.total.item())
    lacking = [n for n, p in task.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not [n for n in lacking if "of_class" not in n]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_frozen_encoder_stays_as_it_is(store):
    task = class_task(settings=SMALL.model_copy(update={"frozen": True}))
    before = {n: t.clone() for n, t in task.encoder.state_dict().items()}
    task.train()
    assert not task.encoder.training
    batch = CloudLoader(store, task.plan, batch_size=4, seed=0, threads=0).batch(0)
    task(task.views(batch, Stream(0, 0, batch.slot.tolist())), 0.0).total.backward()
    assert all(p.grad is None for p in task.encoder.parameters())
    assert all(torch.equal(before[n], t) for n, t in task.encoder.state_dict().items())


def test_every_point_gets_a_part_that_its_class_may_have(store):
    task = parts_task()
    for row, entry in enumerate(store.entries):
        found = predict_parts(task, store, row, batch_size=2, device="cpu")
        assert found.shape == (entry.points,)
        assert set(found.tolist()) <= set(parts_of(CLASSES[entry.label]))
    untold = parts_task(settings=SMALL.model_copy(update={"told_class": False}))
    assert untold.allowed(torch.tensor([0])).all()
    assert untold.network.of_class is None


def test_votes_average_and_one_vote_is_not_augmented(store):
    shaken = SMALL.model_copy(update={"spatial": SpatialSettings(rotate="any"), "points": 200})
    once, calm = class_task(settings=shaken), class_task(settings=SMALL.model_copy(update={"points": 200}))
    calm.load_state_dict(once.state_dict())
    single = predict_cloud_classes(once, store, device="cpu")
    np.testing.assert_allclose(single.logits, predict_cloud_classes(calm, store, device="cpu").logits, atol=1e-5)
    assert single.truth.tolist() == [n for n in range(3) for _ in range(3)]
    voting = class_task(settings=shaken.model_copy(update={"votes": 3}))
    voting.load_state_dict(once.state_dict())
    assert np.abs(predict_cloud_classes(voting, store, device="cpu").logits - single.logits).max() > 1e-3


def test_leaving_points_out_is_refused_where_points_have_labels():
    with pytest.raises(ConfigError, match="dropout"):
        parts_task(settings=SMALL.model_copy(update={"spatial": SpatialSettings(dropout=0.5)}))


def test_points_without_a_label_are_not_learned_from(tmp_path):
    labels = np.r_[np.zeros(20, np.int64), np.ones(20, np.int64), np.full(20, -1)]
    cloud = make_cloud(np.random.default_rng(0).normal(size=(60, 3)), labels=labels)
    store = store_from_clouds(tmp_path, [CloudItem(id="a", cloud=cloud, patient="a")], parts={0: "x", 1: "y"})
    torch.manual_seed(0)
    task = PartSegmentationTask(SMALL, CLOUD_ENCODERS.build(ENCODERS["pointnet"]), {0: "x", 1: "y"}, {}, {}).eval()
    batch = CloudLoader(store, CloudPlan(points=60, labels=True), batch_size=1, seed=0, threads=0).batch(0)
    views = task.views(batch, Stream(0, 0, [0]))
    logits = task.logits(views.points, views.count, views.kind)[0]
    known = views.target[0] >= 0
    wanted = torch.nn.functional.cross_entropy(logits[known], views.target[0][known])
    assert int(known.sum()) == 40
    assert task(views, 0.0).total.item() == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("clouds", [1, 4])
def test_what_all_clouds_have_in_common_does_not_reach_the_head(clouds):
    task = parts_task()
    classifier = CloudClassifier(task.encoder, 3, SMALL).train()
    points, count = torch.randn(clouds, 48, 3), torch.full((clouds,), 48)
    plain = classifier(points, count)
    assert torch.isfinite(plain).all()
    embed = classifier.encoder.embed
    classifier.encoder.embed = lambda *given: embed(*given) + 100.0
    offset = classifier(points, count)
    if clouds > 1:  # a single cloud has no spread of its own
        assert torch.allclose(plain, offset, atol=1e-3)
    (plain.sum() + offset.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in classifier.parameters() if p.grad is not None)
