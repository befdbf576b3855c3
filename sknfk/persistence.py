"""Arrays and JSON in one file that is whole or not there, and is checked before it is used."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from torch import Tensor

from .exceptions import DamagedFileError

__all__ = [
    "as_json",
    "previous_of",
    "read_arrays",
    "read_newest",
    "safetensors_library",
    "write_arrays",
    "write_generation",
]

CHUNK_BYTES = 2**24
# The digest covers every byte of the file but its own, which count as zeros.
DIGEST_KEY, NO_DIGEST = "sha256", "0" * 64
_DIGEST_FIELD = f'"{DIGEST_KEY}":"'.encode()
_CONTENT_KEY = "sknfk"


def write_arrays(path: str | os.PathLike, tensors: Mapping[str, Tensor], content: Any) -> None:
    """Write tensors and JSON to one file, which is replaced whole or not at all.

    A safetensors file: tensors with their names, and JSON in its metadata with a
    digest of all the rest. It is written beside its place, brought to disk and renamed.

    Parameters
    ----------
    path : str or path-like
        Where.
    tensors : mapping of str to Tensor
        Any devices and dtypes.
    content : object
        What :func:`as_json` takes.

    Raises
    ------
    OSError
        If it cannot be written; what was there before still is.
    """
    with _written_beside(Path(path), tensors, content) as partial:
        _rename(partial, Path(path))


def write_generation(path: str | os.PathLike, tensors: Mapping[str, Tensor], content: Any) -> None:
    """Write as :func:`write_arrays`, and keep what was there as the previous generation."""
    path = Path(path)
    with _written_beside(path, tensors, content) as partial:
        if path.exists():
            os.replace(path, previous_of(path))
        _rename(partial, path)


def previous_of(path: str | os.PathLike) -> Path:
    """Return where the generation before the newest is."""
    return Path(path).with_name(Path(path).name + ".previous")


def read_arrays(path: str | os.PathLike) -> tuple[dict[str, Tensor], Any]:
    """Read what :func:`write_arrays` has written. No code in the file is run.

    Parameters
    ----------
    path : str or path-like
        Where.

    Returns
    -------
    tensors : dict of str to Tensor
        On the CPU.
    content : object
        The JSON.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DamagedFileError
        If one byte of it is not what was written.
    """
    safetensors = safetensors_library()
    path = Path(path)
    with open(path, "rb") as file:
        _check_digest(path, file)
    try:
        # The library checks shapes against the offsets and the file's size before it allocates.
        # Tensors are copied to aligned memory of their own, which the file cannot change any more.
        with safetensors.safe_open(path, framework="pt") as opened:
            content = json.loads(opened.metadata()[_CONTENT_KEY])
            return {name: opened.get_tensor(name).clone() for name in opened.keys()}, content
    except (safetensors.SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise _damaged(path, f"it is no file of this library: {error}") from error


def read_newest(path: str | os.PathLike) -> tuple[dict[str, Tensor], Any, DamagedFileError | None]:
    """Read the newest valid generation of :func:`write_generation`.

    Returns
    -------
    tensors, content
        As of :func:`read_arrays`.
    damage : DamagedFileError or None
        Why the newest could not be read, where the previous one stands in.

    Raises
    ------
    FileNotFoundError
        If there is none.
    DamagedFileError
        If none is valid.
    """
    try:
        return (*read_arrays(path), None)
    except FileNotFoundError:  # the process ended between two renames
        return (*read_arrays(previous_of(path)), None)
    except DamagedFileError as damage:
        try:
            return (*read_arrays(previous_of(path)), damage)
        except (FileNotFoundError, DamagedFileError):
            raise damage from None


@contextlib.contextmanager
def _written_beside(path: Path, tensors: Mapping[str, Tensor], content: Any) -> Iterator[Path]:
    """Write beside the path, bring it to disk, and remove it if anything fails."""
    safetensors = safetensors_library()
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    metadata = {_CONTENT_KEY: _to_json(content), DIGEST_KEY: NO_DIGEST}
    try:
        safetensors.torch.save_file(_apart(tensors), partial, metadata)
        with open(partial, "r+b") as file:
            position, digest = _digest_of(path, file)
            file.seek(position)
            file.write(digest)
            _to_disk(file)
        yield partial
    except (safetensors.SafetensorError, OSError) as error:
        raise OSError(f"'{path}' could not be written ({error}). Free some space or name another folder.") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors of the host, no two in the same memory: the format has no views."""
    apart, seen = {}, set()
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        memory = plain.untyped_storage().data_ptr()
        apart[name] = plain.clone() if memory in seen else plain
        seen.add(memory)
    return apart


def _to_disk(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _rename(partial: Path, path: Path) -> None:
    os.replace(partial, path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _check_digest(path: Path, file: BinaryIO) -> None:
    position, digest = _digest_of(path, file)
    file.seek(position)
    if file.read(len(NO_DIGEST)) != digest:
        raise _damaged(path, "its digest does not fit its content")


def _digest_of(path: Path, file: BinaryIO) -> tuple[int, bytes]:
    """Return where the digest stands in the file, and what it must be."""
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = int.from_bytes(prefix, "little")
    if len(prefix) < 8 or length > size - 8:
        raise _damaged(path, f"it has {size} bytes, fewer than its header asks for")
    header = file.read(length)
    start = header.find(_DIGEST_FIELD) + len(_DIGEST_FIELD)
    if header.count(_DIGEST_FIELD) != 1 or len(header) < start + len(NO_DIGEST):
        raise _damaged(path, "its header has no digest")
    digest = hashlib.sha256(prefix)
    digest.update(header[:start] + NO_DIGEST.encode() + header[start + len(NO_DIGEST) :])
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
    return 8 + start, digest.hexdigest().encode()


def _damaged(path: Path, why: str) -> DamagedFileError:
    return DamagedFileError(
        f"'{path}' must be a whole file written by this library, but {why}. Restore it from a copy, or write it again."
    )


def as_json(value: Any) -> Any:
    """Return a value as it is read back: numpy's scalars plain, tuples as lists, paths as strings."""
    return json.loads(_to_json(value))


def _to_json(value: Any) -> str:
    return json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else os.fspath(value)


def safetensors_library() -> Any:
    """Return the module that writes and reads files.

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            "Files of fitted estimators and checkpoints need safetensors. Install it with `pip install sknfk[io]`."
        ) from error
    return safetensors
