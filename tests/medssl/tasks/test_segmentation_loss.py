import pytest
import torch
import torch.nn.functional as F

from medssl.tasks.segmentation_loss import DiceCrossEntropy


def scene(seed=0, classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 4, 6, 5, generator=generator)
    labels = torch.randint(-1, classes, (2, 4, 6, 5), generator=generator)
    return logits, labels


def test_cross_entropy_is_torchs() -> None:
    logits, labels = scene()
    loss = DiceCrossEntropy(dice_weight=0.0)([logits], labels)
    torch.testing.assert_close(loss.total, F.cross_entropy(logits, labels, ignore_index=-1))


def test_dice_by_hand() -> None:
    logits, labels = scene(1)
    seen = (labels >= 0).float()
    probability = torch.softmax(logits, dim=1)
    expected = []
    for number in (1, 2):
        truth = (labels == number).float()
        ours = probability[:, number] * seen
        expected.append(1 - (2 * (ours * truth).sum() + 1e-5) / (ours.sum() + truth.sum() + 1e-5))
    loss = DiceCrossEntropy(cross_entropy_weight=0.0, batch_dice=True)([logits], labels)
    torch.testing.assert_close(loss.total, torch.stack(expected).mean())


def test_ignored_voxels_carry_no_gradient_and_no_label_is_no_nan() -> None:
    logits, labels = scene(2)
    logits.requires_grad_()
    DiceCrossEntropy()([logits], labels).total.backward()
    ignored = (labels < 0)[:, None].expand_as(logits)
    assert logits.grad[ignored].abs().max() == 0
    assert logits.grad[~ignored].abs().min() > 0
    total = DiceCrossEntropy()([logits], torch.full_like(labels, -1)).total
    assert torch.isfinite(total)


def test_gradients_agree_with_finite_differences() -> None:
    logits, labels = scene(3)
    loss = DiceCrossEntropy()
    logits = logits.requires_grad_()
    loss([logits], labels).total.backward()
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        up, down = (loss([logits + s * 1e-2 * direction], labels).total for s in (1, -1))
    torch.testing.assert_close((up - down) / 2e-2, (logits.grad * direction).sum(), rtol=2e-2, atol=1e-4)


def test_a_coarse_stage_weighs_half_and_sees_every_second_label() -> None:
    logits, labels = scene(5)
    labels = labels[:, :, :, :4]
    fine, coarse = logits[..., :4], logits[:, :, ::2, ::2, :4:2]
    loss = DiceCrossEntropy()
    both = loss([fine, coarse], labels).total
    alone = loss([fine], labels).total, loss([coarse], labels[:, ::2, ::2, ::2]).total
    torch.testing.assert_close(both, (2 * alone[0] + alone[1]) / 3)


@pytest.mark.parametrize("batch_dice", [False, True])
def test_dice_is_monais(batch_dice) -> None:
    losses = pytest.importorskip("monai.losses")
    logits, labels = scene(6)
    labels = labels.clamp(min=0)
    oracle = losses.DiceLoss(
        include_background=False, to_onehot_y=True, softmax=True, batch=batch_dice, smooth_nr=1e-5, smooth_dr=1e-5
    )
    ours = DiceCrossEntropy(cross_entropy_weight=0.0, batch_dice=batch_dice)([logits], labels).total
    torch.testing.assert_close(ours, oracle(logits, labels[:, None]))
