"""The real models and data of the zoo, where this machine has them."""

from __future__ import annotations

import importlib.util
import os

import pytest

HAS_ZOO = importlib.util.find_spec("zoo") is not None

requires_zoo = pytest.mark.skipif(
    not HAS_ZOO,
    reason="needs the folder that holds zoo/ and data/ (default: ../shared, beside the project); "
    f"SKNFK_DATA is {os.environ.get('SKNFK_DATA', 'unset')!r}",
)
