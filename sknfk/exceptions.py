"""Errors and warnings that a caller may want to catch."""

from __future__ import annotations

__all__ = [
    "CheckpointMismatchError",
    "CheckpointWarning",
    "DamagedFileError",
    "DataChangedError",
    "ExampleTooLargeError",
    "OtherProcessError",
    "UnsupportedByEngineError",
]


class UnsupportedByEngineError(RuntimeError):
    """A gradient engine cannot serve a model; another engine can.

    Raised before any work on the data, when an engine asked for by name fails on
    two examples. ``engine="auto"`` catches it and takes the next engine.
    """


class DamagedFileError(ValueError):
    """A file is not, byte for byte, what was written to it."""


class DataChangedError(ValueError):
    """Rows of X are not those that an earlier pass has seen."""


class ExampleTooLargeError(MemoryError):
    """One example is more than the memory can hold."""


class OtherProcessError(RuntimeError):
    """Another process that takes part in the same fit has failed, ended, or does not answer."""


class CheckpointMismatchError(ValueError):
    """A checkpoint is of another fit than the one that would go on from it."""


class CheckpointWarning(UserWarning):
    """A checkpoint could not be written, or an older one stands in for it; the fit goes on."""
