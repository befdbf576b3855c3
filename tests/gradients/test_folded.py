"""Products of a model with its inputs in order: the same numbers, no repeated weights."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from sknfk.gradients._folded import FoldedProducts

from ..cases import seeded


class Layouts(TorchFunctionMode):
    """Notes whether the inputs of linear maps are in order."""

    def __init__(self):
        super().__init__()
        self.in_order = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.linear, torch.matmul, torch.Tensor.matmul):
            self.in_order.append(args[0].is_contiguous())
        return func(*args, **(kwargs or {}))


def encoder():
    layer = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.0))
    return layer.float().requires_grad_(False)


class Transposed(nn.Module):
    def __init__(self, product):
        super().__init__()
        self.product = product
        self.weight = nn.Parameter(torch.ones(8, 3), requires_grad=False)

    def forward(self, x):
        return self.product(x.transpose(0, 1), self.weight)


@pytest.mark.parametrize(
    "model",
    [encoder(), Transposed(torch.matmul), Transposed(lambda x, w: x @ w), Transposed(lambda x, w: F.linear(x, w.T))],
    ids=["attention", "matmul", "@", "linear"],
)
def test_products_of_transposed_batches_are_laid_out_and_give_the_same(model):
    x = torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        expected = model(x)
        with Layouts() as layouts, FoldedProducts():
            found = model(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(found, expected)
    assert layouts.in_order and all(layouts.in_order)
