import torch

from medssl.heads import AttentionPooling


def test_gated_attention_by_hand():
    """Equations 7 to 9 of Ilse et al. with V = 1, U = 0 (a gate of one half) and w = 2: scores are tanh(h)."""
    pooling = AttentionPooling(1, hidden=1)
    with torch.no_grad():
        for parameter, value in zip(pooling.parameters(), (1.0, 0.0, 0.0, 0.0, 2.0), strict=True):
            parameter.fill_(value)
    instances = torch.tensor([[[0.0], [1.0]]])
    pooled, weights = pooling(instances)
    expected = torch.softmax(torch.tanh(torch.tensor([0.0, 1.0])), dim=0)
    torch.testing.assert_close(weights[0], expected)
    torch.testing.assert_close(pooled[0, 0], expected[1])


def test_the_order_of_instances_does_not_matter_and_gradients_are_right():
    torch.manual_seed(0)
    pooling = AttentionPooling(4, hidden=3).double()
    instances = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    order = torch.randperm(5)
    pooled, weights = pooling(instances)
    again, moved = pooling(instances[:, order])
    torch.testing.assert_close(pooled, again)
    torch.testing.assert_close(weights[:, order], moved)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(2, dtype=torch.float64))
    assert torch.autograd.gradcheck(lambda x: pooling(x)[0], (instances,))
