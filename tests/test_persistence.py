"""Files that are whole or not there, and that are checked before they are used."""

import json
import os
import random

import numpy as np
import pytest
import torch

from sknfk import persistence
from sknfk.exceptions import DamagedFileError
from sknfk.persistence import as_json, previous_of, read_arrays, read_newest, write_arrays, write_generation

pytest.importorskip("safetensors")

N_MUTANTS = 10_000


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        "components": torch.randn(40, 700, generator=generator),
        "values": torch.randn(40, generator=generator, dtype=torch.float64),
        "rounded": torch.randn(3, 5, generator=generator).bfloat16(),
        "counts": torch.arange(7),
        "nothing": torch.empty(0, 3),
    }


CONTENT = {
    "name": 'a "fit" with sha256: and \\ in it',
    "sizes": [1, 2],
    "tol": 1e-3,
    "missing": None,
    "inf": float("inf"),
}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert torch.equal(found[name], value)


def test_what_is_read_is_what_was_written(tmp_path):
    path = tmp_path / "file"
    write_arrays(path, tensors(), CONTENT)
    found, content = read_arrays(path)
    assert_same(found, tensors())
    assert content == CONTENT
    assert os.listdir(tmp_path) == ["file"]


def test_it_is_a_safetensors_file(tmp_path):
    from safetensors import safe_open

    write_arrays(tmp_path / "file", tensors(), CONTENT)
    with safe_open(tmp_path / "file", "pt") as opened:
        assert set(opened.keys()) == set(tensors())
        assert json.loads(opened.metadata()["sknfk"]) == CONTENT


def test_views_and_shared_memory_are_written_as_they_read(tmp_path):
    base = torch.arange(12.0).reshape(3, 4)
    write_arrays(tmp_path / "file", {"turned": base.T, "part": base[1:], "whole": base}, None)
    assert_same(read_arrays(tmp_path / "file")[0], {"turned": base.T, "part": base[1:], "whole": base})


def mutated(content, rng):
    """One byte changed, bytes cut off, inserted, swapped or appended; the header is hit as often as the rest."""
    data = bytearray(content)
    header = 8 + int.from_bytes(content[:8], "little")
    place = rng.randrange(header) if rng.random() < 0.5 else rng.randrange(len(data))
    kind = rng.randrange(6)
    if kind == 0:
        data[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data[place] = rng.randrange(256)
    elif kind == 2:
        del data[place:]
    elif kind == 3:
        data[place:place] = rng.randbytes(rng.randrange(1, 9))
    elif kind == 4:
        other = rng.randrange(len(data))
        data[place], data[other] = data[other], data[place]
    else:
        data += rng.randbytes(rng.randrange(1, 9))
    return bytes(data)


def test_no_damage_to_a_file_goes_unseen(tmp_path):
    path, rng = tmp_path / "file", random.Random(0)
    write_arrays(path, tensors(), CONTENT)
    original = path.read_bytes()
    assert len(original) > 100_000
    n_tried = 0
    while n_tried < N_MUTANTS:
        mutant = mutated(original, rng)
        if mutant == original:
            continue
        n_tried += 1
        path.write_bytes(mutant)
        with pytest.raises(DamagedFileError):
            read_arrays(path)


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 64, (2).to_bytes(8, "little") + b"{}"])
def test_what_is_no_such_file_is_refused_in_words(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="must be a whole file written by this library"):
        read_arrays(path)


def test_a_digest_that_fits_does_not_let_shapes_lie(tmp_path):
    path = tmp_path / "file"
    write_arrays(path, {"a": torch.zeros(4, 4)}, None)
    data = path.read_bytes().replace(b'"shape":[4,4]', b'"shape":[9,9]')
    path.write_bytes(data)
    with open(path, "r+b") as file:
        position, digest = persistence._digest_of(path, file)
        file.seek(position)
        file.write(digest)
    with pytest.raises(DamagedFileError):
        read_arrays(path)


def test_a_failed_write_leaves_what_was_there_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_arrays(path, tensors(0), 0)

    def failing(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(persistence, "_to_disk", failing)
    with pytest.raises(OSError, match="No space left"):
        write_arrays(path, tensors(1), 1)
    assert_same(read_arrays(path)[0], tensors(0))
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_is_on_disk_before_it_is_named_and_the_name_after(tmp_path, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, f=original: (done.append(name), f(*args))[1])
    write_arrays(tmp_path / "file", tensors(), None)
    assert done == ["fsync", "replace", "fsync"]


def test_the_newest_generation_is_read_and_the_older_one_stands_in(tmp_path):
    path = tmp_path / "file"
    for number in (1, 2, 3):
        write_generation(path, tensors(number), number)
    assert read_newest(path)[1:] == (3, None)
    path.write_bytes(path.read_bytes()[:-1])
    found, content, damage = read_newest(path)
    assert content == 2 and isinstance(damage, DamagedFileError)
    assert_same(found, tensors(2))
    path.unlink()
    assert read_newest(path)[1:] == (2, None)
    previous_of(path).write_bytes(b"damaged")
    with pytest.raises(DamagedFileError):
        read_newest(path)
    previous_of(path).unlink()
    with pytest.raises(FileNotFoundError):
        read_newest(path)


def test_missing_safetensors_is_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "safetensors", None)
    with pytest.raises(ImportError, match=r"pip install sknfk\[io\]"):
        write_arrays(tmp_path / "file", {}, None)


def test_json_takes_numpy_scalars_tuples_and_paths(tmp_path):
    content = {"n": np.int64(3), "share": np.float32(0.5), "on": np.bool_(True), "shape": (2, 3), "where": tmp_path}
    write_arrays(tmp_path / "file", {"a": torch.zeros(2)}, content)
    read = read_arrays(tmp_path / "file")[1]
    assert read == as_json(content)
    assert read == {"n": 3, "share": 0.5, "on": True, "shape": [2, 3], "where": str(tmp_path)}
    with pytest.raises(TypeError):
        as_json({"what": object()})
