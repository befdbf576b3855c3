"""Training a skorch net on labels and, beside them, on an embedding of the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.utils import to_tensor
from torch import Tensor, nn

from .._layers import layers_named
from .._torch import seeded_torch
from ..gradients import topmost_layer
from ._skorch import interruptible

__all__ = ["DISTANCES", "UNLABELLED", "distil"]

UNLABELLED = -1

Distance = Callable[[Tensor, Tensor], Tensor]


def _cosine(h: Tensor, e: Tensor) -> Tensor:
    return (1 - nn.functional.cosine_similarity(h, e, dim=1)).mean()


def _l2(h: Tensor, e: Tensor) -> Tensor:
    return 0.5 * (h - e).square().mean()


DISTANCES: dict[str, Distance] = {"l2": _l2, "cosine": _cosine}


def distil(
    net: NeuralNetClassifier,
    X: np.ndarray,
    labels: np.ndarray,
    embedding: np.ndarray,
    *,
    alpha: float,
    distance: Distance,
    layer: str | None,
    projection: str | None,
    seed: int,
) -> NeuralNetClassifier:
    """Train a clone of a net on alpha * its own loss + (1 - alpha) * distance(h(x), e(x)).

    Weights and batches are drawn as without an embedding: the map of h to e's width has
    a random stream of its own.

    Parameters
    ----------
    net : NeuralNetClassifier
        Its clone is trained, without a validation split.
    X : ndarray of shape (N, ...)
        Rows, as the module takes them.
    labels : ndarray of shape (N,)
        Classes as 0 to C - 1, or -1: such a row is left out of the first term.
    embedding : ndarray of shape (N, K)
        e(x).
    alpha : float
        Weight of the labels, below 1.
    distance : callable
        Of h and e, both (B, K), to a scalar.
    layer : str or None
        The layer whose output is h; None takes the input of the topmost layer.
    projection : str or None
        "linear" maps h to e's width by a matrix that is trained along and then dropped.
    seed : int
        Seeds the weights and the batches.

    Returns
    -------
    NeuralNetClassifier
        The trained net, without traces of the embedding.

    Raises
    ------
    ValueError
        If the layer is unknown or no weight bears on it, or widths do not fit.
    """
    trained = clone(net).set_params(train_split=None)
    with seeded_torch(seed):
        trained.initialize()
        hidden = _Hidden(trained.module_, layer)
        h = hidden.of_first_rows(trained, X, int(labels.max()) + 1)
        with seeded_torch(seed):
            head = _head(h, embedding.shape[1], projection)
        extra = [{"params": list(head.parameters())}] if projection else []
        for group in extra:
            trained.optimizer_.add_param_group(group)
        own_loss = trained.get_loss

        def loss(y_pred: Tensor, y_true: dict[str, Tensor], X: Any = None, **kwargs: Any) -> Tensor:
            label, e = (y_true[name].to(y_pred.device) for name in ("label", "embedding"))
            total = (1 - alpha) * distance(head(hidden.output.flatten(1)), e)
            labelled = label != UNLABELLED
            if alpha > 0 and bool(labelled.any()):
                total = total + alpha * own_loss(y_pred[labelled], label[labelled], X=X[labelled], **kwargs)
            return total

        trained.get_loss, trained.check_data = loss, lambda X, y: None
        with interruptible(trained):
            trained.partial_fit(X, {"label": labels, "embedding": embedding})
    hidden.handle.remove()
    del trained.get_loss, trained.check_data
    if extra:
        for parameter in trained.optimizer_.param_groups.pop()["params"]:
            trained.optimizer_.state.pop(parameter, None)
    trained.classes_inferred_ = np.unique(labels[labels != UNLABELLED])
    return trained


class _Hidden:
    """What a layer of the student gave, or its topmost layer took, in the last forward pass."""

    def __init__(self, module: nn.Module, layer: str | None) -> None:
        self.name = topmost_layer(module) if layer is None else layer
        part = module.get_submodule(self.name) if layer is None else layers_named(module, layer, "layer")[layer]
        self.output = torch.empty(0)

        def keep(given: Any) -> None:
            self.output = given[0] if isinstance(given, tuple) else given

        if layer is None:
            self.handle = part.register_forward_pre_hook(lambda part, given: keep(given))
        else:
            self.handle = part.register_forward_hook(lambda part, given, output: keep(output))

    def of_first_rows(self, net: NeuralNetClassifier, X: np.ndarray, n_classes: int) -> Tensor:
        """Run the untrained net on a few rows; return h, (B, width)."""
        net.module_.eval()
        outputs = net.infer(to_tensor(X[:2], device=net.device))
        if outputs.shape[1] < n_classes:
            raise ValueError(
                f"`student` must have an output for each class. Got {outputs.shape[1]} outputs and {n_classes} "
                "classes in y; widen its last layer."
            )
        if not self.output.requires_grad:
            raise ValueError(
                f"`layer` must give what the student's weights bear on. What '{self.name}' takes is X itself; name "
                "a layer, whose output is taken, or pass a student with a hidden layer."
            )
        return self.output.flatten(1).detach()


def _head(h: Tensor, width: int, projection: str | None) -> nn.Module:
    """Return the map from h to e's width."""
    if projection is not None:
        return nn.Linear(h.shape[1], width).to(h)
    if h.shape[1] != width:
        raise ValueError(
            f"`layer` must give as many numbers as the teacher's embedding has, {width}. Got {h.shape[1]}; pass "
            f"projection='linear', or a teacher that gives {h.shape[1]}."
        )
    return nn.Identity()
