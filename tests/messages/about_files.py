"""Messages about files and pickles: (trigger, class, message)."""

import pickle
import sys
import threading
from functools import partial

import torch
from torch import nn

from sknfk import NFKTransformer
from sknfk import persistence as files
from sknfk.densities import Density, Discriminator
from sknfk.exceptions import DamagedFileError
from sknfk.persistence import read_arrays, write_arrays

from ..cases import mlp, rows
from .making import fit, nfk


def checkpoint(folder, **options):
    return nfk(checkpoint=folder / "fit", **options)


def first_output(model, x, lock=None):
    return model(x)[:, 0]


def full(file):
    raise OSError(28, "No space left on device")


def a_file_on_a_full_disk(folder, patch):
    patch.setattr(files, "_to_disk", full)
    write_arrays(folder / "file", {}, None)


def without_safetensors(folder, patch):
    patch.setitem(sys.modules, "safetensors", None)
    checkpoint(folder).fit(rows(12))


def read(folder, content):
    (folder / "file").write_bytes(content)
    read_arrays(folder / "file")


def flipped(folder):
    write_arrays(folder / "file", {"a": torch.zeros(4)}, None)
    content = (folder / "file").read_bytes()
    read(folder, content[:-1] + bytes([content[-1] ^ 1]))


def of_other_shapes(folder):
    path = folder / "file"
    write_arrays(path, {"a": torch.zeros(4, 4)}, None)
    path.write_bytes(path.read_bytes().replace(b'"shape":[4,4]', b'"shape":[9,9]'))
    with open(path, "r+b") as file:
        position, digest = files._digest_of(path, file)
        file.seek(position)
        file.write(digest)
    read_arrays(path)


def loaded(folder, model=None, change=None, cls=NFKTransformer, **options):
    path = folder / "nfk"
    fit(**options).save(path)
    if change is not None:
        tensors, content = read_arrays(path)
        change(content)
        write_arrays(path, tensors, content)
    cls.load(path, model)


def other_weights():
    model = mlp()
    with torch.no_grad():
        model[0].weight[0, 0] += 1
    return model


def negative_square(model, x):
    return -model(x).square().sum(1)


class Listed(Density):
    """What is drawn is of a kind that no file holds."""

    def prepared(self, model, x, rng):
        drawn = Listed()
        drawn.noise = [torch.rand(1, generator=rng)]
        return drawn

    def log_density(self, model, x):
        return torch.logsumexp(model(x), 1)


class Replaced(Listed):
    """Another class is what a fit uses."""

    def prepared(self, model, x, rng):
        return Listed()


def of_another_generator(folder):
    density = Discriminator(nn.Linear(2, 5))
    fit(mlp(5, 1), density=density, statistics="data").save(folder / "nfk")
    NFKTransformer.load(folder / "nfk", mlp(5, 1), density=Discriminator(nn.Linear(2, 5)))


LOST = (
    "`save` must be able to give back what the density has found in `fit`: tensors, numbers, strings, tuples of them "
    "and densities. Got {}; keep it as one of these, or write the transformer with `joblib.dump`."
)


def with_a_local_function():
    model = mlp()
    model.hook = lambda x: x
    return NFKTransformer(model)


DAMAGED = "'…file' must be a whole file written by this library, but {}. Restore it from a copy, or write it again."


MESSAGES = {
    "a file on a full disk": (
        a_file_on_a_full_disk,
        OSError,
        "'…file' could not be written ([Errno 28] No space left on device). Free some space or name another folder.",
    ),
    "no safetensors": (
        without_safetensors,
        ImportError,
        "Files of fitted estimators and checkpoints need safetensors. Install it with `pip install sknfk[io]`.",
    ),
    "a file cut short": (
        lambda folder: read(folder, b"short"),
        DamagedFileError,
        DAMAGED.format("it has 5 bytes, fewer than its header asks for"),
    ),
    "a file without a digest": (
        lambda folder: read(folder, (2).to_bytes(8, "little") + b"{}"),
        DamagedFileError,
        DAMAGED.format("its header has no digest"),
    ),
    "a flipped bit": (flipped, DamagedFileError, DAMAGED.format("its digest does not fit its content")),
    "a file of other shapes": (of_other_shapes, DamagedFileError, DAMAGED.format("it is no file of this library: …")),
    "load of another file": (
        lambda folder: (write_arrays(folder / "a", {}, {}), NFKTransformer.load(folder / "a")),
        ValueError,
        "'…a' must hold a fitted NFKTransformer of format 1. Got another kind of file, such as a checkpoint; "
        "name one that `save` wrote.",
    ),
    "load of another format": (
        lambda folder: loaded(folder, mlp(), lambda content: content.update(format=9)),
        ValueError,
        "'…nfk' must hold a fitted NFKTransformer of format 1. Got 'NFKTransformer' of format 9; load it with "
        "{…'torch'…}.",
    ),
    "load without the model": (
        lambda folder: loaded(folder),
        ValueError,
        "`model` must be given to load '…nfk': the module Sequential with its weights (0.weight (7, 5), 0.bias (7,), "
        "2.weight (3, 7), 2.bias (3,), 4 parameters in all). Got NoneType; pass it.",
    ),
    "load with another architecture": (
        lambda folder: loaded(folder, mlp(4)),
        ValueError,
        "`model` must be the Sequential that '…nfk' was saved with, whose parameter '0.weight' has shape (7, 5). "
        "Got shape (7, 4); build the same architecture.",
    ),
    "load with other weights": (
        lambda folder: loaded(folder, other_weights()),
        ValueError,
        "`model` must have the weights that '…nfk' was saved with. Got the same shapes with other values or layers; "
        "load the weights that the transformer was fitted with.",
    ),
    "load without the density": (
        lambda folder: loaded(folder, mlp(), density=negative_square),
        ValueError,
        "`density` must be given to load '…nfk', which was fitted with …: networks and functions are not in the file. "
        "Got None; pass the same as to the fit.",
    ),
    "load of another density": (
        lambda folder: loaded(folder, mlp(), lambda c: c["density_"].update({"class": "select_density"})),
        ValueError,
        "The density of a file must be one of `sknfk.densities`. Got 'select_density'; `save` wrote no such.",
    ),
    "load with a density of another class": (
        lambda folder: (
            fit(density=negative_square).save(folder / "nfk"),
            NFKTransformer.load(folder / "nfk", mlp(), density="classifier"),
        ),
        ValueError,
        "`density` must be that of '…nfk', which was fitted with CallableDensity(…). Got Classifier(); pass the same "
        "as to the fit.",
    ),
    "load with another generator": (
        of_another_generator,
        ValueError,
        "`density` must have the networks that '…nfk' was saved with. Got another `generator` or none; pass the same "
        "as to the fit.",
    ),
    "a density that finds a list": (
        lambda folder: fit(density=Listed()).save(folder / "nfk"),
        ValueError,
        LOST.format("a list as `noise` of Listed"),
    ),
    "a density that becomes another": (
        lambda folder: fit(density=Replaced()).save(folder / "nfk"),
        ValueError,
        LOST.format("a Listed in place of a Replaced"),
    ),
    "a pickled lambda": (
        lambda: pickle.dumps(nfk(density=lambda m, x: m(x)[:, 0])),
        pickle.PicklingError,
        "`density` must be a function defined at module level to be pickled or cached. Got a lambda; define it with "
        "def.",
    ),
    "a pickled module with a lambda": (
        lambda: pickle.dumps(with_a_local_function()),
        pickle.PicklingError,
        "`model` must be made of classes and functions defined at module level to be pickled or cached. Sequential "
        "raised: …. Move them out of functions, and give lambdas a name with def.",
    ),
    "a density that cannot be pickled": (
        lambda folder: fit(density=partial(first_output, lock=threading.Lock()), memory=str(folder)),
        pickle.PicklingError,
        "`density` must hold what can be pickled where `memory` or `checkpoint` is given or several processes fit "
        "together, since its content tells one fit from another. Got CallableDensity(…): cannot pickle '_thread.lock' "
        "object; leave out what belongs to one process, such as open files and locks.",
    ),
}
