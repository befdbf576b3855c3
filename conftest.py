"""Settings that must stand before scipy is imported, and the folder of real models and data."""

import os

# scipy reads this once, at its first import; doctests in sknfk/ are collected from here too.
os.environ.setdefault("SCIPY_ARRAY_API", "1")

import sys
from pathlib import Path

import pytest

# SKNFK_DATA holds zoo/ (loaders) and data/ (what they load).
DATA_ROOT = Path(os.environ.get("SKNFK_DATA", Path(__file__).resolve().parent.parent / "shared")).resolve()
if (DATA_ROOT / "zoo").is_dir():
    sys.path.insert(0, str(DATA_ROOT))


def pytest_collection_modifyitems(items):
    """Skip what is marked gpu where torch sees no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))
