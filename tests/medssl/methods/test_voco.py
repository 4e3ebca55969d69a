"""What VoCo promises beyond the contract: geometry of its crops, its teacher, and the faults it does not repeat."""

from __future__ import annotations

import pytest
import torch

from medssl.encoders.table import build_encoder
from medssl.methods.voco import VoCo, VoCoSettings
from medssl.randomness import Stream
from medssl.windows import WindowBatch

PLAIN = {"flip": (0.0, 0.0, 0.0)}


def make(**settings) -> VoCo:
    torch.manual_seed(0)
    encoder = build_encoder({"name": "unet", "channels": [4, 6, 8], "blocks": 1})
    base = {"crop": (8, 8, 8), "grid": (2, 2, 2), "random_crops": 3, "hidden": 16, "projected": 8, "intensity": {}}
    return VoCo(VoCoSettings(**{**base, **settings}), encoder)


def window(size=(16, 16, 16), batch=2, box=None) -> WindowBatch:
    """A window whose voxels hold their own number, so that a crop tells where it came from."""
    values = torch.arange(size[0] * size[1] * size[2]).view(1, 1, *size).expand(batch, 1, *size).to(torch.int16)
    box = torch.tensor([[[0, 0, 0], size]]).expand(batch, 2, 3) if box is None else box
    return WindowBatch(
        values=values,
        origin=torch.zeros(batch, 3, dtype=torch.int64),
        extent=torch.tensor([size]).expand(batch, 3),
        body_box=box.float(),
        spacing_mm=torch.ones(batch, 3),
        scale=torch.tensor([[[0.0, float(values.max())]]]).expand(batch, 1, 2),
        item=torch.arange(batch),
        patient=torch.arange(batch),
        part=torch.zeros(batch, dtype=torch.int64),
        slot=torch.arange(batch),
    )


def test_crops_lie_where_the_views_say():
    voco, batch = make(), window()
    views = voco.views(batch, Stream(0, 0, [0, 1]))
    image = batch.network_input()
    for starts, crops in ((views.starts, views.crops), (views.base_starts, views.bases)):
        for item in range(2):
            for number in range(starts.shape[1]):
                z, y, x = (int(v) for v in starts[item, number])
                assert torch.allclose(
                    crops[item, number, 0], image[item, 0, z : z + 8, y : y + 8, x : x + 8], atol=1e-6
                )


def test_z_is_drawn_and_labelled():
    views = make(random_crops=64).views(window(), Stream(0, 0, [0, 1]))
    assert views.starts[..., 0].unique().numel() > 5
    assert views.labels.sum(dim=2).allclose(torch.ones(2, 64))


def test_the_last_legal_place_is_drawn():
    views = make(random_crops=200).views(window(), Stream(0, 0, [0, 1]))
    assert views.starts.max() == 8
    assert views.starts.min() == 0


def test_base_crops_are_anchored_to_the_body():
    box = torch.tensor([[[4, 2, 0], [28, 26, 24]]]).expand(2, 2, 3)
    views = make(window=(32, 32, 32)).views(window((32, 32, 32), box=box), Stream(0, 0, [0, 1]))
    assert views.base_starts[0, 0].tolist() == [4, 2, 0]
    assert views.base_starts[0, -1].tolist() == [20, 18, 16]
    anywhere = make(window=(32, 32, 32), anchor="window").views(window((32, 32, 32), box=box), Stream(0, 0, [0, 1]))
    assert anywhere.base_starts[0, -1].tolist() == [24, 24, 24]


def test_the_teacher_starts_as_the_student():
    voco = make()
    for mine, theirs in zip(voco.student.parameters(), voco.teacher.module.parameters(), strict=True):
        assert torch.equal(mine, theirs)
        assert not theirs.requires_grad


def test_the_teacher_follows_after_the_step_only():
    voco = make(momentum=0.5, final_momentum=0.5)
    before = [p.clone() for p in voco.teacher.module.parameters()]
    views = voco.views(window(), Stream(0, 0, [0, 1]))
    voco(views, 0.0).total.backward()
    assert all(torch.equal(a, b) for a, b in zip(before, voco.teacher.module.parameters(), strict=True))
    with torch.no_grad():
        for parameter in voco.student.parameters():
            parameter.add_(1.0)
    voco.after_step(0.0)
    assert all(
        torch.allclose(b, a + 0.5, atol=1e-6) for a, b in zip(before, voco.teacher.module.parameters(), strict=True)
    )


def test_feature_dropout_drops_features_not_crops():
    voco = make(feature_dropout=0.5, teacher="heads", student_bases=True).train()
    seen = []
    voco.student.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    torch.manual_seed(0)
    voco(voco.views(window(), Stream(0, 0, [0, 1])), 0.0)
    dropped = (seen[0] == 0).float().mean(dim=1)
    assert (dropped < 0.95).all()
    assert 0.3 < dropped.mean() < 0.7


def test_one_scan_is_never_contrasted_with_itself():
    voco = make()
    losses = voco(voco.views(window(batch=1), Stream(0, 0, [0])), 0.0)
    assert "inter" not in losses.parts


def test_statistics_run_over_all_crops():
    # the head normalises by the batch: changing one scan's crops must change another's features
    voco = make()
    views = voco.views(window(), Stream(0, 0, [0, 1]))
    first = voco._features(views)[0]["crops"][0]
    changed = voco.views(window(), Stream(9, 9, [0, 5]))
    second = voco._features(changed)[0]["crops"][0]
    assert not torch.allclose(first, second)


@pytest.mark.parametrize(
    ("settings", "message"), [({"crop": (8, 8, 6)}, "multiple"), ({"window": (8, 8, 4)}, "smaller")]
)
def test_unfit_sizes_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)
