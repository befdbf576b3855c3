"""Feeding rows to models, always in the same order."""

from ._batches import BatchDigests, Batches, RowLimit
from ._feeds import Feed, as_feed
from ._fields import Field, Fields

__all__ = ["BatchDigests", "Batches", "Feed", "Field", "Fields", "RowLimit", "as_feed"]
