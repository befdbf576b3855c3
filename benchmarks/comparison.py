"""One comparison: ours and a competitor on one case, tuned, in turns, with the errors of both."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sknfk import NFKTransformer

from . import ours
from .cases import CASES, Case
from .competitors import Competitor, Outcome
from .competitors_explicit import GramTruncatedSVD, GramTruncatedSVDInBfloat16, RandomProjection
from .competitors_oracles import CurvlinopsSvds, NNGeometryGram
from .competitors_paper import HandwrittenPaper, PaperSolver
from .measuring import interleaved, significant, summary, timed
from .problem import Problem, Skipped
from .reference import UNSEEN, Reference, captured_by_components, captured_by_examples, reference

# The first of a group is the competitor; the rest run in the same turns.
GROUPS: dict[str, tuple[type[Competitor], ...]] = {
    "paper": (PaperSolver, HandwrittenPaper),
    "gram": (GramTruncatedSVD,),
    "gram_bfloat16": (GramTruncatedSVDInBfloat16,),
    "curvlinops": (CurvlinopsSvds,),
    "nngeometry": (NNGeometryGram,),
    "projection": (RandomProjection,),
}

# Ours is timed at the first of these whose error is no larger than the competitor's.
TOLERANCES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
MAX_SWEEPS = 30


def compare(
    name: str, n_examples: int, n_components: int, competitor: str, device: str, repeats: int
) -> dict[str, Any]:
    """Return the row of one comparison; ``{"skipped": reason}`` in it where the competitor cannot run here."""
    target = torch.device(device)
    case = CASES[name](n_examples)
    row: dict[str, Any] = {
        "case": name,
        "n_examples": n_examples,
        "n_components": n_components,
        "n_parameters": case.n_parameters,
        "competitor": competitor,
        "n_repeats": repeats,
    }
    truth = reference(case, n_components)
    row["reference_error_estimate"] = truth.estimate
    nfk = ours.fit(case, n_components, target)  # warm-up, and the statistics that all are given
    mean_score, scale = (torch.as_tensor(np.array(a)) for a in (nfk.mean_score_, nfk.scale_))
    problem = Problem(case, n_components, target, mean_score, scale, nfk.engine_)
    try:
        theirs = [kind(problem) for kind in GROUPS[competitor]]
        for method in theirs:
            method.tune()
    except Skipped as reason:
        return {**row, "skipped": str(reason)}
    return {**row, **measured(case, n_components, target, nfk, theirs, truth, repeats)}


def measured(
    case: Case,
    K: int,
    device: torch.device,
    nfk: NFKTransformer,
    theirs: list[Competitor],
    truth: Reference,
    repeats: int,
) -> dict[str, Any]:
    """Time the methods in turns; ours at the tolerance that the competitor's error asks for.

    A competitor that must run to tell its error is run once before.
    """
    if theirs[0].outcome_needs_run:
        theirs[0].seconds()
    their_error = error_of(theirs[0], nfk.operator(case.X).torch, truth)
    options, chosen = options_to_match(case, K, device, nfk, their_error, truth, range(repeats))
    mine = Ours(case, K, device, options, truth)
    seconds = interleaved({"ours": mine.seconds, **{m.name: m.seconds for m in theirs}}, repeats)
    our_error = mine.worst()
    found = {
        "ours": {**chosen, **our_error, "seconds": summary(seconds["ours"])},
        "theirs": {**their_error, "seconds": summary(seconds[theirs[0].name]), **theirs[0].describe()},
        **{m.name: {"seconds": summary(seconds[m.name]), **m.describe()} for m in theirs[1:]},
    }
    # With two hands on the same algorithm, the faster one is the competitor.
    fastest = [min(turn) for turn in zip(*(seconds[m.name] for m in theirs), strict=True)]
    ratios = [other / own for other, own in zip(fastest, seconds["ours"], strict=True)]
    found["ratio"] = summary(ratios)
    found["error_no_larger"] = no_larger(our_error, their_error)
    if competitor_is_paper(theirs):
        both = zip(theirs[0].products[-repeats:], theirs[1].products[-repeats:], strict=True)
        found["paper_over_handwritten"] = significant(statistics.median(own / by_hand for own, by_hand in both))
    return found


def competitor_is_paper(theirs: list[Competitor]) -> bool:
    return isinstance(theirs[0], PaperSolver) and len(theirs) > 1


class Ours:
    """Our fit: every repeat has a seed of its own, and its error is taken beside the clock."""

    def __init__(self, case: Case, K: int, device: torch.device, options: dict[str, Any], truth: Reference) -> None:
        self.arguments = (case, K, device)
        self.options = options
        self.truth = truth
        self.errors: list[dict[str, Any]] = []

    def seconds(self) -> float:
        case, K, device = self.arguments
        seed = len(self.errors)
        elapsed, nfk = timed(lambda: ours.fit(case, K, device, random_state=seed, **self.options), device)
        self.errors.append(errors_of_fit(nfk, case, self.truth))
        return elapsed

    def worst(self) -> dict[str, Any]:
        """The largest error of all seeds, and the errors of each."""
        by_seed = {name: [error[name] for error in self.errors] for name in ("lost_energy", "kernel_error")}
        return {
            **{name: max(values) for name, values in by_seed.items()},
            "seeds": list(range(len(self.errors))),
            "by_seed": by_seed,
        }


def options_to_match(
    case: Case,
    K: int,
    device: torch.device,
    nfk: NFKTransformer,
    theirs: dict,
    truth: Reference,
    seeds: Sequence[int],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of the loosest fit that is no worse than the competitor from any seed, and what it chose."""
    for tol in TOLERANCES:
        options = {} if tol == nfk.tol else {"tol": tol, "max_sweeps": MAX_SWEEPS}
        for seed in seeds:
            found = ours.fit(case, K, device, random_state=seed, **options)
            if no_larger(errors_of_fit(found, case, truth), theirs) is False:
                break
        else:
            break
    return options, {**ours.plan(found), **ours.precision(found, case)}


def errors_of_fit(nfk: NFKTransformer, case: Case, truth: Reference) -> dict[str, Any]:
    found = Outcome(embedding=nfk.transform(case.X), components=nfk.components_)
    return errors(found, nfk.operator(case.X).torch, truth)


def no_larger(our_error: dict, their_error: dict) -> bool | None:
    """None where the competitor has no comparable error. Below UNSEEN, energies are float32's rounding."""
    if their_error.get("lost_energy") is None:
        return None
    return our_error["lost_energy"] <= max(their_error["lost_energy"], UNSEEN)


def error_of(method: Competitor, vectors, truth: Reference) -> dict[str, Any]:
    try:
        return errors(method.outcome(), vectors, truth)
    except Skipped as reason:
        return {"lost_energy": None, "kernel_error": None, "error_note": str(reason)}


def errors(outcome: Outcome, vectors, truth: Reference) -> dict[str, Any]:
    """Against the float64 reference, with products of float32 Fisher vectors (``vectors``)."""
    E = as_tensor(outcome.embedding)
    if outcome.components is not None:
        captured = captured_by_components(E, as_tensor(outcome.components))
    else:
        left = as_tensor(outcome.left).to(vectors.device, vectors.dtype)
        captured = captured_by_examples(left, vectors.rmatmat(left))
    lost, error = truth.lost_energy(captured), truth.kernel_error(E)
    return {"lost_energy": significant(lost), "kernel_error": significant(error), **outcome.details}


def as_tensor(array) -> Tensor:
    return array if isinstance(array, Tensor) else torch.from_numpy(np.array(array))
