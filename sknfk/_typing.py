"""Letters mean one thing everywhere in sknfk.

==========  ================================================================
letter      meaning
==========  ================================================================
``N``       examples
``B``       examples of one batch
``P``       selected parameters of the model, flattened in their own order
``K``       components
``L``       probes in a block (columns of a product)
``C``       classes
``S``       weight-sharing positions of a layer (pixels, tokens)
==========  ================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

ParameterDict = dict[str, Tensor]
# What a model takes: one tensor, or several by the names of its arguments; rows along the first axis of each.
Inputs = Tensor | Mapping[str, Tensor]
LogDensityFunction = Callable[[nn.Module, Inputs], Tensor]

__all__ = ["Inputs", "LogDensityFunction", "ParameterDict", "Tensor"]
