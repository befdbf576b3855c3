import numpy as np
import pytest
import torch
from scipy.sparse.linalg import aslinearoperator, svds

from sknfk.solvers import BlockKrylov, MatrixOperator, ScipyFace, ScipySVDS

from .spectra import matrix_with_spectrum, power_law

SEEDS = (0, 1, 2)
K = 6
FLOAT64_RTOL = 1e-10  # singular values come from V itself, not from its Gram matrix


@pytest.fixture
def matrix():
    return matrix_with_spectrum(power_law(40), 40, 60, 0)


@pytest.fixture
def face(matrix):
    return ScipyFace(MatrixOperator(matrix))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_face_multiplies_as_the_matrix_does_in_its_own_dtype(dtype, matrix):
    own = torch.float32 if dtype == np.float32 else torch.float64
    face, dense = ScipyFace(MatrixOperator(matrix.to(own))), aslinearoperator(matrix.to(own).numpy())
    rng = np.random.default_rng(0)
    W, Y = rng.standard_normal((60, 3)).astype(dtype), rng.standard_normal((40, 3)).astype(dtype)
    assert (face.dtype, face.shape) == (np.dtype(dtype), (40, 60))
    for got, expected in (
        (face @ W, dense @ W),
        (face.T @ Y, dense.T @ Y),
        (face @ W[:, 0], dense @ W[:, 0]),
        (face.rmatvec(Y[:, :1]), dense.rmatvec(Y[:, :1])),
    ):
        assert got.dtype == dtype
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=1e-5 if dtype == np.float32 else 1e-13)


@pytest.mark.parametrize("product", ["matvec", "rmatvec", "matmat", "rmatmat"])
def test_each_product_of_the_face_is_one_visit(product, face):
    length = 60 if product in ("matvec", "matmat") else 40
    block = np.ones(length) if product.endswith("vec") else np.ones((length, 5))
    getattr(face, product)(block)
    assert face.torch.n_visits == face.n_visits == 1


def test_face_takes_read_only_and_reversed_arrays(face, matrix):
    W = np.ones((60, 3))[::-1]
    W.flags.writeable = False
    np.testing.assert_allclose(face @ W, matrix.numpy() @ W)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("solver", ["arpack", "propack"])
def test_svds_of_scipy_through_the_face_gives_the_values_of_the_matrix(solver, seed):
    spectrum = power_law(40)
    face = ScipyFace(MatrixOperator(matrix_with_spectrum(spectrum, 40, 60, seed)))
    values = svds(face, K, solver=solver, return_singular_vectors=False)
    np.testing.assert_allclose(np.sort(values)[::-1], spectrum[:K].numpy(), rtol=FLOAT64_RTOL)
    assert face.torch.n_visits == face.n_visits > 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("solver", ["arpack", "propack", "lobpcg"])
def test_default_tolerance_is_at_least_as_accurate_as_krylov_at_the_same(solver, seed):
    spectrum = power_law(80)
    matrix = matrix_with_spectrum(spectrum, 80, 120, seed)

    def error(solve):
        result = solve(MatrixOperator(matrix), K, torch.Generator().manual_seed(seed))
        assert result.converged
        return float(1 - (matrix @ result.components.T).square().sum() / spectrum[:K].square().sum())

    assert error(ScipySVDS(solver)) < 1e-3
    assert error(BlockKrylov()) < 1e-3


@pytest.mark.parametrize(("solver", "limit"), [("arpack", 39), ("lobpcg", 39), ("propack", 40)])
def test_too_many_components_are_refused_before_any_visit(solver, limit, matrix):
    operator = MatrixOperator(matrix)
    with pytest.raises(ValueError, match=rf"must be at most {limit} for solver='{solver}'.*Got 41; lower it"):
        ScipySVDS(solver)(operator, 41, torch.Generator().manual_seed(0))
    assert operator.n_visits == 0
    assert len(ScipySVDS(solver)(operator, limit, torch.Generator().manual_seed(0)).components) == limit


@pytest.mark.parametrize(("n_rows", "n_columns"), [(150, 200), (200, 150)])
def test_arpack_out_of_iterations_returns_what_it_found_and_says_so(n_rows, n_columns):
    matrix = matrix_with_spectrum(power_law(150, 0.5), n_rows, n_columns, 0)
    solver = ScipySVDS("arpack", tol=0, max_iterations=1)
    result = solver(MatrixOperator(matrix), K, torch.Generator().manual_seed(0))
    assert not result.converged
    assert result.components.shape == (K, n_columns)
    gram = result.components @ result.components.T
    torch.testing.assert_close(gram, torch.eye(K, dtype=torch.float64), rtol=0, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 60), (60, 40)])
@pytest.mark.parametrize("solver", ["arpack", "propack", "lobpcg"])
def test_a_matrix_of_zeros_has_the_value_zero_in_any_directions(solver, shape):
    result = ScipySVDS(solver)(MatrixOperator(torch.zeros(shape)), K, torch.Generator().manual_seed(0))
    assert result.converged and result.singular_values.tolist() == [0] * K
    torch.testing.assert_close(result.components @ result.components.T, torch.eye(K))


@pytest.mark.parametrize("seed", SEEDS)
def test_lobpcg_says_so_where_the_rank_is_too_low_for_it(seed):
    matrix = matrix_with_spectrum(power_law(K + 2), 100, 120, seed)
    assert not ScipySVDS("lobpcg")(MatrixOperator(matrix), K, torch.Generator().manual_seed(seed)).converged
