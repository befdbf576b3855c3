"""A model's features, and how they change along a direction of its upper layers."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, fx, nn
from torch.func import functional_call, jvp
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from .._threads import FORWARD_MODE
from ..densities import main_output
from ._parameters import ParameterSpace

__all__ = ["TangentModel", "fold_batch_norms", "topmost_layer"]

CHAINS = (nn.Sequential, nn.ModuleList)
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class TangentModel:
    """f(x), (B, d), and J(x) w for a direction w of its upper parameters.

    Both come from one forward-mode pass. The layers below the first selected parameter
    do not depend on them: in an ``nn.Sequential`` they are split off, so that what they
    give can be kept.

    Parameters
    ----------
    module : Module
        Gives features, (B, ...); in eval mode, without gradients.
    parameters : ParameterSpace
        The parameters theta_2 that the direction is in.
    """

    def __init__(self, module: nn.Module, parameters: ParameterSpace) -> None:
        self.parameters = parameters
        self.lower, upper = _split(module, parameters.names)
        self.upper = _Features(upper)
        self.values = {f"model.{name}": value for name, value in parameters.values(upper).items()}

    @torch.no_grad()
    def lowered(self, x: Tensor) -> Tensor:
        """Return what the layers below give. Cost: their forward pass.

        Parameters
        ----------
        x : Tensor of shape (B, *input)
            Rows.

        Returns
        -------
        Tensor of shape (B, ...)
            The input of the upper layers.
        """
        return self.lower(x.clone())  # a layer may work in place

    @torch.no_grad()
    def features(self, z: Tensor) -> Tensor:
        """Return the features. Cost: a forward pass of the upper layers.

        Parameters
        ----------
        z : Tensor of shape (B, ...)
            What the layers below gave.

        Returns
        -------
        Tensor of shape (B, d)
            f.
        """
        return self.upper(z.clone())

    def features_and_change(self, z: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features and their change along a direction.

        Cost: one forward-mode pass.

        Parameters
        ----------
        z : Tensor of shape (B, ...)
            What the layers below gave.
        w : Tensor of shape (P,)
            The direction.

        Returns
        -------
        features : Tensor of shape (B, d)
            f.
        change : Tensor of shape (B, d)
            J w, with a gradient to w.
        """
        direction = {f"model.{name}": part for name, part in self.parameters.split(w).items()}
        with FORWARD_MODE.held():
            found = jvp(lambda values: functional_call(self.upper, values, (z.clone(),)), (self.values,), (direction,))
        return found[0], found[1]


class _Features(nn.Module):
    """A model's main output, flat, as a module whose parameters can be substituted."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return main_output(self.model, x).flatten(1)


def _split(module: nn.Module, names: tuple[str, ...]) -> tuple[nn.Sequential, nn.Module]:
    """Cut a chain of layers, and chains in it, before the first that has one of these parameters.

    Names stay as they were.
    """
    if type(module).forward is not nn.Sequential.forward:
        return nn.Sequential(), module
    # Not named_children(), which leaves out a layer's second place.
    children = [(name, child) for name, child in module._modules.items() if child is not None]
    own = {name.partition(".")[0] for name in names}
    first = next(i for i, (name, _) in enumerate(children) if name in own)
    name, child = children[first]
    inside = tuple(other.partition(".")[2] for other in names if other.startswith(f"{name}."))
    below, above = _split(child, inside)
    lower = [*children[:first], *([(name, below)] if len(below) else [])]
    return nn.Sequential(OrderedDict(lower)), nn.Sequential(OrderedDict([(name, above), *children[first + 1 :]]))


def topmost_layer(module: nn.Module) -> str:
    """Return the name of the topmost layer or block of a model.

    That is its last child with a matrix of weights; a chain of layers is looked into.

    Parameters
    ----------
    module : Module
        The model.

    Returns
    -------
    str
        The name as in ``named_modules()``; empty for a model without such children.
    """
    name, inside = "", module
    while True:
        weighted = [n for n, child in inside.named_children() if any(p.ndim > 1 for p in child.parameters())]
        if not weighted:
            return name
        name = f"{name}.{weighted[-1]}" if name else weighted[-1]
        inside = inside.get_submodule(weighted[-1])
        if not isinstance(inside, CHAINS):
            return name


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch normalisation into the layer that it follows.

    The model's function stays as it was.

    Parameters
    ----------
    module : Module
        In eval mode; changed in place: folded layers become ``nn.Identity``.

    Raises
    ------
    ValueError
        If ``torch.fx`` cannot trace what follows what.
    """
    try:
        nodes = list(fx.symbolic_trace(module).graph.nodes)
    except Exception as error:  # whatever the model's own code raises on a proxy
        raise ValueError(
            f"`fold_batch_norm` must be False for a model that torch.fx cannot trace. {type(module).__name__} raised "
            f"{type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('.')}. Pass False, or a model without "
            "branches."
        ) from error
    calls = [node.target for node in nodes if node.op == "call_module"]
    for node in nodes:
        before = node.args[0] if node.args else None
        if node.op != "call_module" or not isinstance(before, fx.Node) or before.op != "call_module":
            continue
        if len(before.users) == calls.count(node.target) == calls.count(before.target) == 1:
            _fold(module, str(before.target), str(node.target))


def _fold(module: nn.Module, name: str, norm_name: str) -> None:
    """Fold a normalisation into a layer, where the one is of batches and the other linear."""
    layer, norm = module.get_submodule(name), module.get_submodule(norm_name)
    if not isinstance(norm, BATCH_NORMS) or not norm.track_running_stats:
        return
    if isinstance(layer, CONVOLUTIONS):
        module.set_submodule(name, fuse_conv_bn_eval(layer, norm))
    elif isinstance(layer, nn.Linear):
        module.set_submodule(name, fuse_linear_bn_eval(layer, norm))
    else:
        return
    module.set_submodule(norm_name, nn.Identity())
