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

from collections.abc import Callable

from torch import Tensor, nn

ParameterDict = dict[str, Tensor]
LogDensityFunction = Callable[[nn.Module, Tensor], Tensor]

__all__ = ["LogDensityFunction", "ParameterDict", "Tensor"]
