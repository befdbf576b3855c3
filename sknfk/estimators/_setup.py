"""From options and X to gradients: everything that is decided before heavy work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from joblib import Memory
from skorch import NeuralNet
from torch import Tensor, nn

from .._torch import (
    compute_dtype,
    evaluation_copy,
    exact_arithmetic,
    plain_module,
    resolve_device,
    validate_module,
    with_autograd,
)
from .._typing import Inputs
from ..batches import Batches, Feed
from ..densities import CallableDensity, Density, LogProb, select_density
from ..distributed import ALONE, Peers
from ..gradients import (
    Engine,
    LogDensityModel,
    ParameterSelection,
    ParameterSpace,
    check_log_density,
    select_engine,
)
from ._model_cost import NOT_MEASURED, ModelCost, measure_model, plan_batch_size, resolve_max_memory
from ._models import is_made_here, resolve_module
from ._rows import RowFormat, Rows, example_shape, row_format, unpacker

__all__ = ["N_PROBE_ROWS", "Setup", "set_up", "try_module"]

# Rows that a model is tried on: two, and one more that a pairwise mix would miss.
N_PROBE_ROWS = 3

_FORWARD_ERRORS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError, KeyError)


@dataclass(frozen=True)
class Setup:
    """A model ready to give gradients, and how rows are fed to it.

    Parameters
    ----------
    module : Module
        The fit's own copy, in eval mode, on the device.
    density : Density
        What its output means.
    parameters : ParameterSpace
        What is differentiated.
    engine : Engine
        Gives the gradients of a batch.
    rows_as : RowFormat
        How rows become examples.
    batch_size : int
        Rows of a batch.
    dtype : dtype
        Of gradients and products.
    cost : ModelCost
        What one example costs the model; not measured for a fitted model.
    max_memory : int, default=0
        What a fit may work with, in bytes.
    engine_reason : str
        One sentence on the choice of the engine.
    seed : int, default=0
        Of what the density draws.
    n_reference : int, default=0
        Samples of the model that the statistics are over; 0 if they are over rows.
    unpack : callable or None, default=None
        From packed rows to what the model takes, where that is more than one tensor.
    peers : Peers, default=ALONE
        The processes that a fit is made with, and how many rows of X each has.
    """

    module: nn.Module
    density: Density
    parameters: ParameterSpace
    engine: Engine
    rows_as: RowFormat
    batch_size: int
    dtype: torch.dtype
    cost: ModelCost = NOT_MEASURED
    max_memory: int = 0
    engine_reason: str = ""
    seed: int = 0
    n_reference: int = 0
    unpack: Callable[[Tensor], Inputs] | None = None
    peers: Peers = ALONE

    @property
    def log_density_model(self) -> LogDensityModel:
        """The module seen through its density."""
        return LogDensityModel(self.module, self.density, self.parameters, self.unpack)

    @property
    def device(self) -> torch.device:
        """Where the module is."""
        return next(self.module.parameters()).device

    def n_rows_in_all(self, X: Any) -> int:
        """Return how many rows X has, with those of the other processes of a fit."""
        return X.shape[0] if self.peers.is_alone else sum(self.peers.n_rows)

    def batches(self, rows: Rows) -> Batches:
        """Return rows of X in batches."""
        return self.rows_as.batches(rows, self.batch_size, self.device)

    def samples(self, n_samples: int) -> Batches:
        """Draw examples from the model and return them in batches.

        Raises
        ------
        ValueError
            If they do not have the shape of an example of X, or X has parts.
        """
        if self.unpack is not None:
            raise ValueError(
                "`statistics` must be 'data' where X has parts by name. Got 'model', whose samples are single tensors; "
                "leave it out."
            )
        generator = torch.Generator().manual_seed(self.seed + 1)  # not the noise that the density has drawn
        with exact_arithmetic(self.device):
            drawn = self.density.sample(self.module, n_samples, generator).detach()
        wanted = self.rows_as.wanted or tuple(drawn.shape[1:])
        if drawn[0].numel() != torch.Size(wanted).numel():
            raise ValueError(
                f"Samples of {self.density!r} must have the shape of an example, {tuple(wanted)}. "
                f"Got {tuple(drawn.shape[1:])}; let the generator return what the model reads."
            )
        drawn = drawn.reshape(n_samples, *wanted)
        return Batches(drawn, self.batch_size, self.device, self.rows_as.dtype, wanted)


@with_autograd
def set_up(
    model: Any,
    rows: Rows,
    y: np.ndarray | None,
    *,
    density: Any,
    parameters: ParameterSelection,
    input_shape: tuple[int, ...] | None,
    engine: str,
    batch_size: int | str,
    max_memory: int | None,
    device: str,
    dtype: str,
    seed: int,
    memory: Memory,
    peers: Peers = ALONE,
) -> tuple[Setup, str]:
    """Resolve every option that concerns the model; check what must hold of it.

    Cost: a few passes over three rows, and the training that ``model`` asks for.

    Returns
    -------
    setup : Setup
        The model, ready.
    reason : str
        One sentence on the density that was chosen.
    """
    if not peers.is_alone:
        _require_alike(peers, model, rows)
    made_dtype = _dtype_of_rows(rows) if dtype == "auto" else compute_dtype(dtype, nn.Identity())
    wanted = example_shape(rows, input_shape)
    module = plain_module(resolve_module(model, _training_rows(rows, wanted), y, seed, memory, made_dtype))
    validate_module(module)
    target = resolve_device(device, module)
    work_dtype = made_dtype if is_made_here(model) else compute_dtype(dtype, module)
    own = evaluation_copy(module, target, work_dtype)
    with exact_arithmetic(target):
        rows_as = row_format(rows, wanted, own, work_dtype)
    probe = peers.first_rows(rows_as.batches(rows, N_PROBE_ROWS, target).head(N_PROBE_ROWS), N_PROBE_ROWS)
    unpack = unpacker(rows, work_dtype)

    def inputs() -> Inputs:  # anew, for a first layer that works in place
        return probe.clone() if unpack is None else unpack(probe)

    with exact_arithmetic(target):
        chosen, reason = _choose_density(LogProb() if model is None and density == "auto" else density, own, inputs())
        chosen = _prepare(chosen, own, inputs(), seed)
        selected = _select_parameters(module, parameters, chosen, own, inputs())
        log_density_model = LogDensityModel(own, chosen, selected, unpack)
        _try_forward(log_density_model, probe)
        check_log_density(log_density_model, probe)
        engine_used, engine_reason = select_engine(engine, log_density_model, probe[:2])
        cost = measure_model(log_density_model, probe)
    bound = resolve_max_memory(max_memory, target, peers)
    itemsize = torch.finfo(work_dtype).bits // 8
    size = plan_batch_size(cost, selected.n_parameters, itemsize, bound) if batch_size == "auto" else int(batch_size)
    setup = Setup(
        own,
        chosen,
        selected,
        engine_used,
        rows_as,
        size,
        work_dtype,
        cost,
        bound,
        engine_reason,
        seed,
        unpack=unpack,
        peers=peers,
    )
    return setup, reason


def _require_alike(peers: Peers, model: Any, rows: Rows) -> None:
    """Refuse what cannot be one fit of several processes.

    Raises
    ------
    ValueError
        If there are too few rows, a model would be trained on those of one process, or
        they differ in kind.
    """
    n_rows = sum(peers.n_rows)
    if n_rows < 2:
        raise ValueError(f"X must have at least 2 rows to fit, of all processes. Got {n_rows} sample(s); pass more.")
    if model is None or isinstance(model, NeuralNet):
        got = "None" if model is None else type(model).__name__
        raise ValueError(
            "`model` must be a module, a factory or a FrozenEstimator where several processes fit together: a model "
            f"that is trained here would see the rows of one. Got {got}; train it first, and pass its module."
        )
    varies = isinstance(rows, Feed) and (rows.source.varies or rows.fields is not None)
    kind = {"The shape of a row of X": None if varies else tuple(rows.shape[1:]), "The dtype of X": str(rows.dtype)}
    peers.require_same(kind, "pass rows of the same kind, an array of shape (0, ...) where there are none")


def _training_rows(rows: Rows, wanted: tuple[int, ...] | None) -> Any:
    """Return what a model is made for or trained on: rows in the model's shape, or X as it was given."""
    if isinstance(rows, Feed):
        return (
            rows.source.for_training
            if rows.fields is not None or wanted is None
            else rows[:].reshape(len(rows), *wanted)
        )
    return rows.reshape(len(rows), *wanted)  # type: ignore[misc]  # an array has one shape


def _dtype_of_rows(rows: Rows) -> torch.dtype:
    is_single = str(rows.dtype).endswith(("float32", "f4"))  # ">f4" is of another byte order
    return torch.float32 if is_single else torch.float64


def _choose_density(density: Any, module: nn.Module, x: Inputs) -> tuple[Density, str]:
    try:
        with torch.no_grad():
            return select_density(density, module, x)
    except _FORWARD_ERRORS as error:
        raise _forward_error(error, x) from error


def _prepare(density: Density, module: nn.Module, x: Inputs, seed: int) -> Density:
    try:
        with torch.no_grad():
            return density.prepared(module, x, torch.Generator().manual_seed(seed))
    except _FORWARD_ERRORS as error:
        raise _forward_error(error, x, density) from error


def _select_parameters(
    module: nn.Module, parameters: ParameterSelection, density: Density, own: nn.Module, x: Inputs
) -> ParameterSpace:
    """Select by the density's name of a group, such as "decoder", the last layer, or as ParameterSpace does."""
    if isinstance(parameters, str):
        group = density.parameter_groups(own, x).get(parameters)
        if group:
            return ParameterSpace.named(module, group)
    if parameters == "last_layer":
        return ParameterSpace.last_layer(module)
    return ParameterSpace.of(module, parameters)


def _try_forward(model: LogDensityModel, x: Tensor) -> None:
    try:
        with torch.no_grad():
            model(x)
    except _FORWARD_ERRORS as error:
        raise _forward_error(error, model.inputs(x), model.density) from error


def try_module(module: nn.Module, x: Tensor) -> None:
    """Run a module on a few rows, and refuse in words those that it does not take."""
    try:
        with torch.no_grad():
            module(x.clone())
    except _FORWARD_ERRORS as error:
        raise _forward_error(error, x) from error


def _forward_error(error: Exception, x: Inputs, density: Density | None = None) -> Exception:
    text = str(error).strip()
    if text.startswith("`"):  # one of our own sentences
        return type(error)(text)
    first_line = text.splitlines()[0] if text else type(error).__name__
    rows = _in_words(x)
    if _is_the_users_own(density):
        return ValueError(
            f"`density` must take the model and {rows}. It raised: {first_line}. Call it on them by itself, and see "
            "that it is a function (model, x) -> (B,)."
        )
    if isinstance(x, Mapping):
        return ValueError(
            f"`model` must accept the parts of X as arguments by these names: {rows}. It raised: {first_line}. Rename "
            "or leave out parts of X, or pass a callable (model, x) -> (B,) as `density`, which gets them as a dict."
        )
    return ValueError(
        f"`model` must accept {rows}. It raised: {first_line}. Check X against the model's first layer, or reshape "
        "rows with `input_shape`, such as (3, 32, 32)."
    )


def _in_words(x: Inputs) -> str:
    if isinstance(x, Mapping):
        return ", ".join(f"{name} {tuple(part.shape)}" for name, part in x.items())
    return f"rows of shape {tuple(x.shape[1:])} and dtype {str(x.dtype).removeprefix('torch.')}"


def _is_the_users_own(density: Density | None) -> bool:
    """Whether it is a function, or a subclass of Density that is none of the library's."""
    is_the_librarys = density is None or type(density).__module__.startswith("sknfk.")
    return not is_the_librarys or isinstance(density, CallableDensity)
