"""Every kind of module that the docs list, with every engine."""

import pytest
import torch
from torch import nn

from sknfk import NFKTransformer
from sknfk._torch import exact_arithmetic

from ..cases import convnet, mlp, rows
from ..module_table import ENGINES, MODULES, PAGE, RTOL, engine_of, page, plain_gradients
from .layerwise_checks import assert_same


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", MODULES)
def test_an_engine_that_serves_a_module_gives_plain_autograds_gradients(name, engine):
    served = engine_of(MODULES[name], engine)
    if served is None:
        pytest.skip(f"{engine} refuses it in words")
    found, x = served
    with exact_arithmetic(x.device):
        rows_found = found(x).rows()
    assert_same(rows_found, plain_gradients(MODULES[name]), RTOL)


def test_the_docs_say_what_was_found():
    assert PAGE.read_text(encoding="utf-8") == page(), "run python -m tests.module_table"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_served_by_a_float32_copy(dtype):
    model = mlp().to(dtype)
    found = NFKTransformer(model, 3, random_state=0).fit(rows(30))
    expected = NFKTransformer(mlp().to(dtype).float(), 3, random_state=0).fit(rows(30))
    assert {p.dtype for p in model.parameters()} == {dtype}
    torch.testing.assert_close(torch.from_numpy(found.components_), torch.from_numpy(expected.components_))


def test_a_compiled_module_gives_the_features_of_what_it_wraps_and_stays_compiled():
    inner = mlp()
    nested = nn.Sequential(inner[0], torch.compile(nn.Sequential(inner[1], inner[2])))
    expected = NFKTransformer(inner, 3, random_state=0).fit_transform(rows(30))
    for model in (torch.compile(inner), nested):
        found = NFKTransformer(model, 3, random_state=0).fit(rows(30))
        assert not any("_orig_mod" in name for name in found.parameter_names_)
        torch.testing.assert_close(torch.from_numpy(found.transform(rows(30))), torch.from_numpy(expected))
    assert hasattr(nested[1], "_orig_mod")


def test_a_sharded_module_is_refused_in_words():
    class DTensor(nn.Parameter):
        """Stands for torch's, which needs processes."""

    model = convnet()
    model[0].weight = DTensor(model[0].weight.detach())
    with pytest.raises(TypeError, match="must be whole in one process. '0.weight' is sharded"):
        NFKTransformer(model, 3).fit(rows(30, 1, 8, 8))
