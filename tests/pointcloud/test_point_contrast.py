"""Contrast on clouds: the losses of scans, on the views of clouds."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medssl.errors import ConfigError
from medssl.objectives.infonce import info_nce, pairs_of_views
from pointcloud.encoders.table import CLOUD_ENCODERS
from pointcloud.methods.pair_views import PairViews
from pointcloud.methods.table import CLOUD_METHODS
from pointcloud.views.multi_crop import CloudViews

POINTNET = {"name": "pointnet", "widths": [8, 16]}


def built(name: str, **more: object):
    torch.manual_seed(0)
    settings = {"name": name, **CLOUD_METHODS.load(name).smallest(), **more}
    return CLOUD_METHODS.build(settings, CLOUD_ENCODERS.build(POINTNET))


def two_views(clouds: int = 5) -> PairViews:
    points = torch.randn(clouds, 2, 40, 3, generator=torch.Generator().manual_seed(1))
    count = torch.full((clouds, 2), 40)
    return PairViews(CloudViews(points, count), torch.arange(clouds), torch.arange(clouds))


def embedded(network, points: Tensor) -> Tensor:
    return network(points, torch.full((len(points),), points.shape[1]))[1]


@pytest.mark.parametrize("name", ["point_simclr", "point_moco"])
def test_the_loss_is_that_of_scans(name):
    """Written out: NT-Xent of all views; MoCo's queries against the batch's keys while the queue is empty."""
    views = two_views()
    method = built(name, **({"momentum": 1.0} if name == "point_moco" else {}))
    found = method(views, 0.0)
    first, second = views.large.points.transpose(0, 1)
    item = torch.arange(5)
    if name == "point_simclr":
        features = torch.stack([embedded(method.network, torch.cat([first, second]))]).view(2, 5, -1)
        wanted = info_nce(pairs_of_views(features, item, item), temperature=0.1).mean()
    else:
        query = torch.nn.functional.normalize(embedded(method.student, first), dim=1)
        key = torch.nn.functional.normalize(embedded(method.teacher.module, second), dim=1)
        wanted = torch.nn.functional.cross_entropy(query @ key.T / 0.2, item)
    assert found.total.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert "effective_rank" in found.signals


def test_equal_clouds_of_one_patient_repel_nothing():
    views = two_views()
    alone = PairViews(views.large, views.item, torch.zeros(5, dtype=torch.int64))
    assert built("point_simclr")(alone, 0.0).total.item() == 0.0


def test_parts_of_contrast_plug_in():
    views = two_views()
    views = PairViews(views.large, views.item, views.patient, torch.arange(5))
    plain = built("point_simclr")(views, 0.5).total.item()
    mixed = built("point_simclr", parts={"mochi": {"start": 0, "hardest": 4, "mixed": 4}})
    assert mixed.draws
    assert mixed(views, 0.5).total.item() > plain  # more negatives, and hard ones
    assert math.isfinite(plain)


def test_a_third_kind_of_view_is_refused():
    with pytest.raises(ConfigError, match="takes two views of a cloud"):
        built("point_simclr", large={"number": 3})
    with pytest.raises(ConfigError, match="takes two views of a cloud"):
        built("point_moco", thinned=[32])
