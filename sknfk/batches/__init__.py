"""Feeding rows to models, always in the same order."""

from ._batches import BatchDigests, Batches, RowLimit

__all__ = ["BatchDigests", "Batches", "RowLimit"]
