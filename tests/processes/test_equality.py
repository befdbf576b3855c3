"""Fits of one and of several processes find the same, however the rows are spread over them."""

import numpy as np
import pytest

from .conftest import study
from .equality import OF_EVERY_SIZE, SIZES, cases_of

# Rounding in sums of another order, through a few Krylov sweeps.
KERNEL_RTOL = {"float64": 1e-9, "float32": 1e-4}
# Krylov leaves out what is below sqrt(eps) of the leading value, a Gram matrix does not.
OTHER_SOLVER_RTOL = 1e-8
VALUES_RTOL = {"float64": 1e-9, "float32": 1e-5}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return study("equality", tmp_path_factory.mktemp("equality"))


def relative(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("size, case", [(size, case) for size in SIZES for case in cases_of(size)])
def test_a_fit_of_several_processes_equals_that_of_one(size, case, found):
    expected = found["one process"][case]
    precision = str(expected["components_"].dtype)
    for answers in found["groups"][size]:
        answer = answers[case]
        kernels = [one["embedding"].astype(float) @ one["embedding"].astype(float).T for one in (answer, expected)]
        is_same_solver = answer["solver_"] == expected["solver_"]
        assert relative(*kernels) < (KERNEL_RTOL[precision] if is_same_solver else OTHER_SOLVER_RTOL)
        assert relative(answer["singular_values_"], expected["singular_values_"]) < VALUES_RTOL[precision]
        for name in ("mean_score_", "information_", "explained_variance_ratio_", "total_variance_"):
            np.testing.assert_allclose(
                answer[name], expected[name], rtol=VALUES_RTOL[precision], atol=1e-12, err_msg=name
            )


@pytest.mark.parametrize("size", SIZES)
def test_every_process_has_the_same_components_to_the_bit(size, found):
    for case in cases_of(size):
        first, *others = (answers[case] for answers in found["groups"][size])
        assert all(one["components_"].tobytes() == first["components_"].tobytes() for one in others), case


def test_rows_were_spread_as_the_cases_say(found):
    counts = {case: [answers[case]["n_rows"] for answers in found["groups"][4]] for case in OF_EVERY_SIZE}
    assert counts["krylov"] == [22, 23, 23, 22]
    assert counts["no rows in one"][-1] == 0
    assert counts["unequal rows"][0] > 60
    assert all(sum(of_case) == (700 if "many" in case else 90) for case, of_case in counts.items())


@pytest.mark.parametrize("size", [2, 3, 4])
def test_blocks_are_spread_where_the_plan_says_so(size, found):
    for answers in found["groups"][size]:
        assert all(answers[case]["is_spread"] == case.startswith("spread") for case in cases_of(size))


def test_auto_takes_no_gram_matrix_where_rows_are_spread(found):
    assert found["one process"]["auto"]["solver_"] == "exact"
    assert {answers["auto"]["solver_"] for answers in found["groups"][2]} == {"krylov"}


def test_one_process_of_a_group_fits_alone(found):
    np.testing.assert_array_equal(
        found["one alone"]["components_"], found["one process"]["krylov"]["components_"], strict=True
    )
