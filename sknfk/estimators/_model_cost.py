"""What one example costs a model, and the batches that follow from it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .._torch import total_memory
from ..distributed import ALONE, Peers
from ..gradients import LogDensityModel, forward_flops

__all__ = ["NOT_MEASURED", "ModelCost", "measure_model", "plan_batch_size", "resolve_max_memory"]

MAX_BATCH_SIZE = 128
MAX_BATCH_BYTES = 2**31
# V^T Y is (P, L) numbers, added to for each batch: where they are beyond a processor's caches and gradients are most
# of what a batch holds, more examples share that traffic. On 2 cores a sweep of 1,024 rows with 138 probes took, for
# batches of 64, 128, 256, 512: DCGAN 3.7, 3.1, 3.0, 2.6 s; an MLP of 0.27 M parameters (2,048 rows) 2.6, 1.9, 1.4,
# 1.3 s; LeNet-5 (2,048 rows) 0.8, 0.5, 0.7, 0.6 s; ResNet-20, mostly activations, 3.7, 3.8, 5.6, 10.1 s.
MAX_WIDE_BATCH_SIZE = 512
WIDE_FROM_BYTES = 2**19  # of one gradient
WIDE_FROM_SHARE = 4  # of its bytes over those of the activations


@dataclass(frozen=True)
class ModelCost:
    """What one example costs a model.

    Parameters
    ----------
    forward_flops : int
        Operations of a forward pass in products and convolutions.
    activation_bytes : int
        Memory that its backward pass waits for.
    """

    forward_flops: int
    activation_bytes: int


NOT_MEASURED = ModelCost(0, 0)


def measure_model(model: LogDensityModel, x: Tensor) -> ModelCost:
    """Count what a few rows cost. Cost: two forward passes over them."""
    saved: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: Tensor) -> None:
        # The memory is kept, so that no other tensor takes its place, and the tensor is not handed back: a node
        # that holds its own output is never freed.
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage

    values = {name: value.detach().requires_grad_() for name, value in model.values().items()}
    own = {value.untyped_storage().data_ptr() for value in values.values()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda nothing: nothing):
        model.at(values, x)
    activations = sum(storage.nbytes() for pointer, storage in saved.items() if pointer not in own)
    return ModelCost(forward_flops(model, x), activations // len(x))


def resolve_max_memory(max_memory: int | None, device: torch.device, peers: Peers = ALONE) -> int:
    """Return the bound in bytes, the same in all processes that fit together.

    As given, or half of what the device has in total, shared among those that use it.
    """
    bound = total_memory(device) // (2 * peers.n_sharing(device)) if max_memory is None else int(max_memory)
    return min(peers.gathered(bound, "max_memory"))


def plan_batch_size(cost: ModelCost, n_parameters: int, itemsize: int, max_memory: int) -> int:
    """Return the largest power of two whose gradients and activations fit their share.

    It is at most 128, and 512 where gradients are large and most of what a batch holds.
    Signals need as much as the activations they pass through.
    """
    gradients = n_parameters * itemsize
    row_bytes = gradients + 2 * cost.activation_bytes
    is_wide = gradients >= max(WIDE_FROM_BYTES, WIDE_FROM_SHARE * cost.activation_bytes)
    most = MAX_WIDE_BATCH_SIZE if is_wide else MAX_BATCH_SIZE
    fitting = min(MAX_BATCH_BYTES // max(1, gradients), max_memory // (4 * max(1, row_bytes)), most)
    return 2 ** (max(1, fitting).bit_length() - 1)
