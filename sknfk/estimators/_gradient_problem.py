"""The convex problem of GradientFeatureClassifier, and its two solvers."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from ..gradients import TangentModel

__all__ = ["GradientProblem", "LinearModel", "fit_linear"]

HISTORY = 20  # pairs that the quasi-Newton solver keeps
N_HALVINGS = 4  # of the stochastic solver's step


@dataclass
class LinearModel:
    """Logits W_1 f + b + Omega (J w_2); without its second term where w_2 is None."""

    w1: Tensor  # (C, d)
    b: Tensor  # (C,)
    w2: Tensor | None  # (P,)
    omega: Tensor  # (C, d)

    def logits(self, tangent: TangentModel, z: Tensor) -> Tensor:
        """Return logits of a batch of lowered rows, (B, C). Cost: one forward-mode pass."""
        if self.w2 is None:
            return tangent.features(z) @ self.w1.T + self.b
        f, change = tangent.features_and_change(z, self.w2)
        return f @ self.w1.T + self.b + change @ self.omega.T


def fit_linear(f: Tensor, labels: np.ndarray, loss: str, alpha: float, tol: float) -> tuple[Tensor, Tensor]:
    """Fit the linear classifier on activations; return its weights (C, d) and intercepts (C,)."""
    X, n_classes = f.double().cpu().numpy(), labels.max() + 1
    if loss == "squared_error":
        ridge = Ridge(alpha=alpha * len(X)).fit(X, np.eye(n_classes)[labels])
        coef, intercept = ridge.coef_, ridge.intercept_
    else:
        logistic = LogisticRegression(C=1 / (alpha * len(X)), tol=tol, max_iter=1000).fit(X, labels)
        coef, intercept = logistic.coef_, logistic.intercept_
        if n_classes == 2:
            coef, intercept = np.vstack([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2
    return torch.as_tensor(np.ascontiguousarray(coef)).to(f), torch.as_tensor(intercept).to(f)


class GradientProblem:
    """Minimise mean loss + alpha / 2 (||W_1||^2 + ||v||^2) over W_1, b and v, where w_2 = scale v.

    Parameters
    ----------
    tangent : TangentModel
        The model.
    lowered : Tensor of shape (N, ...)
        What the layers below give, of all rows.
    labels : Tensor of shape (N,)
        Classes as 0 to C - 1.
    start : LinearModel
        The classifier on activations alone; its W_1 and b begin the search.
    gradient_alone : bool
        Whether W_1 stays zero.
    loss : str
        "log_loss" or "squared_error".
    alpha : float
        Penalty.
    ntk_scaling : bool
        Whether v's entries count by the neural tangent parametrisation.
    """

    def __init__(
        self,
        tangent: TangentModel,
        lowered: Tensor,
        labels: Tensor,
        start: LinearModel,
        *,
        gradient_alone: bool,
        loss: str,
        alpha: float,
        ntk_scaling: bool,
    ) -> None:
        self.tangent, self.lowered, self.labels = tangent, lowered, labels
        self.omega, self.loss, self.alpha = start.omega, loss, alpha
        self.scale = _scale(tangent, ntk_scaling)  # (P,)
        self.w1 = torch.zeros_like(start.w1) if gradient_alone else start.w1.clone().requires_grad_()
        self.b, self.v = start.b.clone().requires_grad_(), torch.zeros_like(self.scale, requires_grad=True)
        self.moving = [weight for weight in (self.w1, self.b, self.v) if weight.requires_grad]

    def solution(self) -> LinearModel:
        """Return the classifier that has been found."""
        return LinearModel(self.w1.detach(), self.b.detach(), (self.scale * self.v).detach(), self.omega)

    def minimise(self, batch_size: int, max_iter: int, tol: float) -> int:
        """Take quasi-Newton steps with all rows until no entry of the gradient is above tol; return how many."""
        optimiser = torch.optim.LBFGS(
            self.moving,
            max_iter=max_iter,
            max_eval=20 * max_iter,
            tolerance_grad=tol,
            # It stops where the loss no longer changes in its last digit.
            tolerance_change=0.01 * torch.finfo(self.v.dtype).eps,
            history_size=HISTORY,
            line_search_fn="strong_wolfe",
        )
        batches = list(zip(self.lowered.split(batch_size), self.labels.split(batch_size), strict=True))

        def objective() -> float:
            optimiser.zero_grad()
            penalty = self._penalty()
            penalty.backward()
            total = float(penalty.detach())
            for z, y in batches:  # each batch's graph is freed before the next
                part = self._losses(z, y).sum() / len(self.labels)
                part.backward()
                total += float(part.detach())
            return total

        optimiser.step(objective)
        n_steps = int(optimiser.state[self.moving[0]]["n_iter"])
        objective()
        largest = max(float(weight.grad.abs().max()) for weight in self.moving if weight.grad is not None)
        if largest > tol and n_steps >= max_iter:
            warnings.warn(
                f"solver='lbfgs' stopped after max_iter={max_iter} steps with a gradient entry of {largest:.1e}, "
                f"above tol={tol:g}; raise `max_iter`, `alpha` or `tol`.",
                ConvergenceWarning,
                stacklevel=5,
            )
        return n_steps

    def descend(self, batch_size: int, n_passes: int, learning_rate: float, seed: int) -> int:
        """Take Adam's steps on batches drawn anew in each pass; return how many passes."""
        optimiser = torch.optim.Adam(self.moving, lr=learning_rate)
        milestones = [n_passes * part // (N_HALVINGS + 1) for part in range(1, N_HALVINGS + 1)]
        schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, milestones, gamma=0.5)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(n_passes):
            order = torch.randperm(len(self.labels), generator=generator).to(self.labels.device)
            for rows in order.split(batch_size):
                optimiser.zero_grad()
                # Divided by the size of a full batch: in a short one a row must not count more.
                loss = self._losses(self.lowered[rows], self.labels[rows]).sum() / min(batch_size, len(order))
                (loss + self._penalty() * len(rows) / min(batch_size, len(order))).backward()
                optimiser.step()
            schedule.step()
        return n_passes

    def _losses(self, z: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each row, (B,)."""
        logits = LinearModel(self.w1, self.b, self.scale * self.v, self.omega).logits(self.tangent, z)
        if self.loss == "log_loss":
            return F.cross_entropy(logits, y, reduction="none")
        return 0.5 * (logits - F.one_hot(y, logits.shape[1])).square().sum(1)

    def _penalty(self) -> Tensor:
        return 0.5 * self.alpha * (self.w1.square().sum() + self.v.square().sum())


def _scale(tangent: TangentModel, ntk_scaling: bool) -> Tensor:
    """1 / sqrt(outputs) for weights and sqrt(0.1) for biases, or ones, (P,)."""

    def of(value: Tensor) -> Tensor:
        entry = (len(value) ** -0.5 if value.ndim > 1 else 0.1**0.5) if ntk_scaling else 1.0
        return torch.full_like(value, entry).flatten()

    return torch.cat([of(value) for value in tangent.values.values()])
