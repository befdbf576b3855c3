"""Messages about components, memory and checkpoints: (trigger, class, message)."""

import os

import torch

from sknfk import TakeComponents
from sknfk import persistence as files
from sknfk.estimators import _plan
from sknfk.exceptions import (
    CheckpointMismatchError,
    CheckpointWarning,
    DamagedFileError,
    ExampleTooLargeError,
)
from sknfk.gradients import LayerwiseEngine
from sknfk.persistence import previous_of, write_arrays

from ..cases import rows
from .making import fit, nfk


def an_example_too_large(patch):
    def full(self, x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    made = fit(engine="layerwise")
    patch.setattr(LayerwiseEngine, "__call__", full)
    made.transform(rows(3))


def little_is_free(patch):
    patch.setattr(_plan, "available_memory", lambda device: 2**10)
    fit(solver="krylov")


def no_room_but_for_a_sketch():
    wide = torch.nn.Sequential(torch.nn.Linear(1000, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
    X, options = rows(80, 1000), {"sketch_width": 20, "batch_size": 1, "gradient_cache": None}
    needed = nfk(wide, solver="sketch", **options).explain(X).plan.total_bytes
    nfk(wide, max_memory=needed, **options).fit(X)


def checkpoint(folder, **options):
    return nfk(checkpoint=folder / "fit", **options)


def another_fit(folder):
    checkpoint(folder).fit(rows(12))
    checkpoint(folder, damping=0.1).fit(rows(12))


def another_file_for_a_checkpoint(folder):
    write_arrays(folder / "fit", {"a": torch.zeros(1)}, {"format": 99})
    checkpoint(folder).fit(rows(12))


def a_torn_checkpoint(folder):
    checkpoint(folder, solver="krylov").fit(rows(12))
    assert previous_of(folder / "fit").exists()
    (folder / "fit").write_bytes(b"torn")
    checkpoint(folder, solver="krylov").fit(rows(12))


def two_torn_generations(folder):
    checkpoint(folder, solver="krylov").fit(rows(12))
    for path in (folder / "fit", previous_of(folder / "fit")):
        path.write_bytes(b"torn")
    checkpoint(folder).fit(rows(12))


def full(file):
    raise OSError(28, "No space left on device")


def a_checkpoint_on_a_full_disk(folder, patch):
    patch.setattr(files, "_to_disk", full)
    checkpoint(folder).fit(rows(12))


MESSAGES = {
    "more components than columns": (
        lambda: TakeComponents(5).fit(rows(3, 4)),
        ValueError,
        "`n_components` must be at most the number of columns of X, 4. Got 5; lower it, or raise `n_components` of the "
        "step before.",
    ),
    "more components than max_components": (
        lambda: fit(n_components=9, max_components=8),
        ValueError,
        "`n_components` must be at most `max_components`. Got 9 above 8; raise `max_components`.",
    ),
    "more components than rows": (
        lambda: fit(n_components=20),
        UserWarning,
        "`n_components` must be at most min(n_samples, n_parameters) = 12. Got 20; using 12.",
    ),
    "truncated to more": (
        lambda: fit().truncate(10),
        ValueError,
        "`n_components` must be between 1 and the fitted 3. Got 10; fit with more components first.",
    ),
    "max_memory": (
        lambda: fit(solver="krylov", max_memory=2**10),
        ValueError,
        "`max_memory` must hold what the fit works with, … MiB (gradients of a batch …). Got 0.0 MiB. Lower "
        "`n_components` or `n_oversamples`, choose fewer `parameters`, a smaller `batch_size`, solver='subspace', "
        "solver='sketch' or gradient_cache=None, or raise `max_memory`.",
    ),
    "free memory": (
        little_is_free,
        MemoryError,
        "The fit works with … MiB (gradients of a batch …), and cpu has 0.0 MiB free. Lower `n_components` or "
        "`n_oversamples`, choose fewer `parameters`, a smaller `batch_size`, solver='subspace', solver='sketch' or "
        "gradient_cache=None, or free some memory.",
    ),
    "no room but for a sketch": (
        no_room_but_for_a_sketch,
        UserWarning,
        "`max_memory` must hold the solver's blocks for `tol` to be met. … Singular values carry errors of up to some "
        "per cent; raise `max_memory`, or ask for this solver by name.",
    ),
    "width of a sketch": (
        lambda: fit(solver="sketch", sketch_width=2),
        ValueError,
        "`sketch_width` must be at least the number of components, 3. Got 2; pass 'auto', which is max(8192, 16 "
        "n_components).",
    ),
    "an example too large": (
        an_example_too_large,
        ExampleTooLargeError,
        "A single example must fit the device's memory with its gradients and products, and it does not. Choose fewer "
        "`parameters` or lower `n_components`, or free some memory.",
    ),
    "gradient_cache without gradients": (
        lambda: fit(engine="jvp", gradient_cache="ram"),
        ValueError,
        "`gradient_cache` must be 'auto' or None with engine='jvp', which forms no gradients that could be kept. "
        "Got 'ram'; leave it out, or choose another `engine`.",
    ),
    "gradient_cache in no folder": (
        lambda: fit(gradient_cache="no/such/folder"),
        ValueError,
        "`gradient_cache` must be 'auto', 'device', 'ram', None or a folder that exists and can be written to. "
        "Got 'no/such/folder'; create the folder or name another.",
    ),
    "checkpoint in no folder": (
        lambda: fit(checkpoint="no/such/folder/fit"),
        ValueError,
        "`checkpoint` must name a file in a folder that exists and can be written to. Got 'no/such/folder/fit'; "
        "create the folder or name another.",
    ),
    "checkpoint is a folder": (
        lambda: fit(checkpoint=os.curdir),
        ValueError,
        "`checkpoint` must name a file. Got the folder '.'; name a file in it.",
    ),
    "checkpoint without a seed": (
        lambda folder: checkpoint(folder, random_state=None).fit(rows(12)),
        ValueError,
        "`random_state` must be an int where `checkpoint` is given: a fit that goes on must be the same fit. "
        "Got None; pass a number, such as 0.",
    ),
    "checkpoint of another fit": (
        another_fit,
        CheckpointMismatchError,
        "'…fit' must be a checkpoint of the same fit. Got another: `damping` was 0.001 and is 0.1. "
        "Give each fit a file of its own, or remove this one to start anew.",
    ),
    "checkpoint that is another file": (
        another_file_for_a_checkpoint,
        CheckpointMismatchError,
        "'…fit' must be a checkpoint of this version of the library, and it is not. Name another file, or remove it to "
        "start anew.",
    ),
    "checkpoint that is torn": (
        a_torn_checkpoint,
        CheckpointWarning,
        "'…fit' must be a whole file written by this library, but …. Restore it from a copy, or write it again. "
        "The fit goes on from '…fit.previous', the generation before '…fit'.",
    ),
    "both generations torn": (
        two_torn_generations,
        DamagedFileError,
        "'…fit' must be a whole file written by this library, but …. Restore it from a copy, or write it again.",
    ),
    "checkpoint on a full disk": (
        a_checkpoint_on_a_full_disk,
        CheckpointWarning,
        "`checkpoint`: '…fit' could not be written ([Errno 28] No space left on device). Free some space or name "
        "another folder. The fit goes on, and what was written before is still there.",
    ),
}
