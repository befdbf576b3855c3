"""Feeding rows to models, always in the same order."""

from ._batches import Batches, fixed_batch_size

__all__ = ["Batches", "fixed_batch_size"]
