"""How estimators show themselves: a module in a few words, not in a page of layers."""

from __future__ import annotations

from typing import Any, TypeVar

from sklearn.base import BaseEstimator
from torch import nn

from .._sklearn import print_as

__all__ = ["ModelShowingEstimator", "in_words", "with_model"]

Estimator = TypeVar("Estimator", bound=BaseEstimator)


def in_words(module: nn.Module) -> str:
    """Return a module's class and size, "LeNet5, 61,706 parameters" for instance."""
    return f"{type(module).__name__}, {_size(module)}"


def _size(module: nn.Module) -> str:
    has_shape = (p for p in module.parameters() if not isinstance(p, nn.parameter.UninitializedParameter))
    return f"{sum(p.numel() for p in has_shape):,} parameters"


class _InBrackets:
    """Prints as words that are not code, as Python's own objects do."""

    def __init__(self, words: str) -> None:
        self.words = words

    def __repr__(self) -> str:
        return f"<{self.words}>"


def with_model(estimator: Estimator, model: Any) -> Estimator:
    """Return a shallow copy of an estimator with another ``model``."""
    copied = object.__new__(type(estimator))
    copied.__dict__.update(estimator.__dict__, model=model)
    return copied


class ModelShowingEstimator(BaseEstimator):
    """Prints and renders ``model`` in a few words; ``get_params`` returns the module itself."""

    model: Any

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """Return the estimator with what differs from its defaults."""
        return super(ModelShowingEstimator, _for_print(self)).__repr__(N_CHAR_MAX)

    def _get_params_html(self, deep=True, doc_link=""):
        shown = with_model(self, in_words(self.model)) if isinstance(self.model, nn.Module) else self
        return super(ModelShowingEstimator, shown)._get_params_html(deep=deep, doc_link=doc_link)

    def _get_fitted_attr_html(self, doc_link=""):
        table = super()._get_fitted_attr_html(doc_link=doc_link)
        for row in table.values():  # the class has a column of its own
            if isinstance(row["value"], nn.Module):
                row["value"] = _InBrackets(_size(row["value"]))
        return table


def _for_print(estimator: ModelShowingEstimator) -> ModelShowingEstimator:
    if not isinstance(estimator.model, nn.Module):
        return estimator
    return with_model(estimator, _InBrackets(in_words(estimator.model)))


print_as(ModelShowingEstimator, _for_print)
