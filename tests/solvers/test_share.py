import pytest
import torch

from sknfk.solvers import FixedRank, Share, energy_error_estimate, project_rank

from .spectra import power_law

VALUES = torch.tensor([4.0, 3.0, 2.0, 1.0], dtype=torch.float64)


@pytest.mark.parametrize(("share", "rank"), [(0.1, 1), (0.4, 1), (0.41, 2), (0.7, 2), (0.9, 3), (0.99, 4)])
def test_rank_is_the_smallest_that_reaches_the_share(share, rank):
    assert Share(share, trace=10.0, max_components=4).rank(VALUES) == rank


def test_rank_stops_at_max_components_and_at_the_values_there_are():
    assert Share(0.99, trace=10.0, max_components=2).rank(VALUES) == 2
    assert Share(0.99, trace=100.0, max_components=9).rank(VALUES) == 4
    assert not Share(0.99, trace=10.0, max_components=2).reached(VALUES)
    assert Share(0.7, trace=10.0, max_components=2).reached(VALUES)


def test_a_share_is_settled_once_it_is_reached_or_out_of_reach():
    assert Share(0.7, trace=10.0, max_components=9).settled(VALUES)
    assert Share(0.7, trace=100.0, max_components=4).settled(VALUES)
    assert not Share(0.7, trace=100.0, max_components=9).settled(VALUES)


def test_a_fixed_rank_does_not_look_at_the_values():
    rule = FixedRank(3)
    assert (rule.rank(VALUES[:1]), rule.max_components, rule.block_width) == (3, 3, 3)
    assert rule.reached(VALUES[:1]) and rule.settled(VALUES[:1])


@pytest.mark.parametrize("exponent", [0.8, 1.0, 1.3, 2.0])
def test_projected_rank_is_exact_on_a_power_law(exponent):
    eigenvalues = power_law(2000, exponent).square()
    trace = float(eigenvalues.sum())
    needed = int((eigenvalues.cumsum(0) < 0.9 * trace).sum()) + 1
    # The fit is exact; the last sum may fall on either side of the share.
    assert abs(project_rank(eigenvalues[: min(50, needed // 2)], 0.9, trace, 2000) - needed) <= 1


def test_projected_rank_never_exceeds_the_limit_and_needs_no_projection_within_the_values():
    assert project_rank(torch.ones(10), 0.9, trace=1000.0, limit=500) == 500
    assert project_rank(torch.ones(10), 0.9, trace=1000.0, limit=2000) == 900
    assert project_rank(VALUES, 0.7, trace=10.0, limit=4) == 2
    assert project_rank(torch.tensor([1.0, 0.0]), 0.9, trace=10.0, limit=7) == 7


def test_error_estimate_is_the_formula():
    residuals = torch.tensor([0.2, 0.3, 0.5, 0.0], dtype=torch.float64)
    expected = (min(1, 0.04 / (2 * 4)) * 4 + min(1, 0.09 / (1 * 3)) * 3) / 7
    assert energy_error_estimate(VALUES, residuals, 2) == pytest.approx(expected, rel=1e-14)


def test_error_estimate_takes_the_gap_to_zero_where_no_value_follows():
    residuals = torch.full((4,), 0.1, dtype=torch.float64)
    expected = sum(0.01 / theta for theta in VALUES.tolist()) / 10
    assert energy_error_estimate(VALUES, residuals, 4) == pytest.approx(expected, rel=1e-14)


def test_error_estimate_is_one_without_a_gap_or_without_enough_values_and_zero_for_the_zero_matrix():
    flat, residuals = torch.ones(4, dtype=torch.float64), torch.full((4,), 1e-9, dtype=torch.float64)
    assert energy_error_estimate(flat, residuals, 2) == 1.0
    assert energy_error_estimate(flat, residuals, 5) == 1.0
    assert energy_error_estimate(torch.zeros(4), torch.zeros(4), 2) == 0.0
