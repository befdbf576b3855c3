"""Feeding rows to models, always in the same order."""

from ._batches import Batches

__all__ = ["Batches"]
