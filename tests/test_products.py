"""Products over many parameters keep their digits."""

import pytest
import torch

from sknfk._products import SLICE, long_product
from sknfk.gradients import DenseBlock

MANY = 2**21 + 3  # terms, of which one accumulator in float32 keeps too few digits


@pytest.mark.parametrize("shapes", [((2, MANY), (MANY, 2)), ((MANY,), (MANY, 3)), ((1, MANY), (MANY, 11))])
def test_products_of_millions_of_positive_terms_keep_float32s_digits(shapes):
    A, B = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes)
    expected = A.double() @ B.double()
    assert float((long_product(A, B) - expected).norm() / expected.norm()) < 5e-6


def test_formed_gradients_of_two_examples_keep_the_digits_of_their_products():
    J = torch.rand(2, MANY, generator=torch.Generator().manual_seed(0))
    expected = J.double() @ J.T.double()
    assert float((DenseBlock(J).matmat(J.T.contiguous()) - expected).norm() / expected.norm()) < 5e-6


@pytest.mark.parametrize("n_terms", [0, 1, SLICE, SLICE + 1, 2 * SLICE])
def test_slices_cover_every_term_once(n_terms):
    A, B = torch.rand(2, n_terms, dtype=torch.float64), torch.rand(n_terms, 3, dtype=torch.float64)
    torch.testing.assert_close(long_product(A, B), A @ B)
