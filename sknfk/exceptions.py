"""Errors that a caller may want to catch."""

from __future__ import annotations

__all__ = ["UnsupportedByEngineError"]


class UnsupportedByEngineError(RuntimeError):
    """A gradient engine cannot serve a model; another engine can.

    Raised before any work on the data, when an engine asked for by name fails on
    two examples. ``engine="auto"`` catches it and takes the next engine.
    """
