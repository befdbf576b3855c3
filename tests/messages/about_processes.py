"""Messages of fits on several processes, the other one made up: (trigger, class, message)."""

from types import SimpleNamespace

import joblib

from sknfk import distributed
from sknfk.distributed import Peers, _Failure
from sknfk.exceptions import OtherProcessError

from ..cases import mlp, rows
from .making import nfk


def beside(patch, answer=lambda message: message):
    """Let fits be of two processes, the other one saying ``answer`` of what this one says."""
    patch.setattr(distributed, "_current", lambda: Peers(0, 2))
    whole_group = {"all_gather_object": lambda told, message: told.__setitem__(slice(None), [message, answer(message)])}
    patch.setattr(distributed, "dist", SimpleNamespace(all_reduce=lambda tensor: None, **whole_group))


def fit_beside(patch, answer=lambda message: message, X=None, **options):
    beside(patch, answer)
    model = options.pop("model", mlp())
    return nfk(model, **options).set_params(model=model).fit(rows(12) if X is None else X)


def with_other_options(message):
    is_settings = isinstance(message, tuple) and isinstance(message[1], dict) and "`damping`" in message[1]
    return ("settings", message[1] | {"`damping`": 0.5}) if is_settings else message


def with_other_rows(message):
    is_digest = isinstance(message, tuple) and message[0] == "digests"
    return ("digests", (12, ["of other rows"])) if is_digest else message


def ended(message):
    raise RuntimeError("Connection closed by peer")


def not_joined(patch):
    patch.setenv("TORCHELASTIC_RUN_ID", "a run")
    patch.setenv("WORLD_SIZE", "2")
    nfk().fit(rows(12))


MESSAGES = {
    "the same rows in each process": (
        lambda patch: fit_beside(patch),
        ValueError,
        "X must hold other rows in each process. Got the same 12 rows in all 2; pass each rank its own rows, such as "
        "X[rank::n_processes].",
    ),
    "no rows in any process": (
        lambda patch: fit_beside(patch, X=rows(0, 5)),
        ValueError,
        "X must have at least 2 rows to fit, of all processes. Got 0 sample(s); pass more.",
    ),
    "other options in a process": (
        lambda patch: fit_beside(patch, with_other_options),
        ValueError,
        "`damping` must be the same in every process. Got 0.001 and 0.5; let all of them make the same estimator from "
        "the same weights.",
    ),
    "a model that one process would train": (
        lambda patch: fit_beside(patch, model=None),
        ValueError,
        "`model` must be a module, a factory or a FrozenEstimator where several processes fit together: a model that "
        "is trained here would see the rows of one. Got None; train it first, and pass its module.",
    ),
    "memory of several processes": (
        lambda patch: fit_beside(patch, memory=joblib.Memory(None)),
        ValueError,
        "`memory` must be None where several processes fit together. Got Memory(location=None); fit once with the "
        "largest `n_components`, and take smaller ranks by `truncate`.",
    ),
    "exact on several processes": (
        lambda patch: fit_beside(patch, with_other_rows, solver="exact"),
        ValueError,
        "`solver` must be one of ('auto', 'krylov', 'subspace', 'sketch-refined', 'sketch') where several processes "
        "fit together: the others need products with one row for each example of all. Got 'exact'; choose one of "
        "these.",
    ),
    "another course in a process": (
        lambda patch: fit_beside(patch, lambda message: ("the end", None)),
        OtherProcessError,
        "All processes must take the same course. Got …, 'the end' from them in turn; let machines, libraries and "
        "numbers of threads be the same, and call the same methods in each process.",
    ),
    "a process that failed": (
        lambda patch: fit_beside(patch, lambda message: _Failure("Input X contains NaN.")),
        OtherProcessError,
        "Process 1 of 2 that fit together has failed: Input X contains NaN.",
    ),
    "a process that ended": (
        lambda patch: fit_beside(patch, ended),
        OtherProcessError,
        "All processes that fit together must run to the end. One has ended or does not answer (Connection closed by "
        "peer). Start them again; a fit with `checkpoint` goes on from there.",
    ),
    "processes that have not joined": (
        not_joined,
        RuntimeError,
        "The 2 processes of `torchrun` must join before they fit together. Got no process group; call "
        "`torch.distributed.init_process_group()` first, or fit within `sknfk.distributed.alone()`.",
    ),
}
