"""Estimators and plans show themselves in a few lines, whatever the size of the model."""

import html
import re

import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torch import nn

from sknfk import NFKernel, NFKTransformer

from ..cases import convnet, mlp, rows
from ..zoo_data import requires_zoo

MLP = "Sequential, 66 parameters"


@pytest.fixture(params=[NFKTransformer, NFKernel])
def estimator(request):
    return request.param


def text_of(page):
    """Return what a notebook shows of a page."""
    visible = re.sub(r"<(style|script)\b.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", visible)).split())


def test_printed_a_module_is_its_class_and_size(estimator):
    assert repr(estimator(mlp())) == f"{estimator.__name__}(model=<{MLP}>)"
    assert str(estimator(mlp())) == repr(estimator(mlp()))


def test_printed_what_is_no_module_is_as_before(estimator):
    assert repr(estimator()) == f"{estimator.__name__}()"
    assert repr(estimator(nn.Identity)) == f"{estimator.__name__}(model=<class 'torch.nn.modules.linear.Identity'>)"


def test_many_options_are_wrapped_at_80_columns():
    nfk = NFKTransformer(mlp(), 128, center=False, normalize="l2", damping=0.1, solver="krylov", random_state=0)
    lines = repr(nfk).splitlines()
    assert len(lines) == 3 and all(len(line) <= 80 for line in lines)
    assert f"model=<{MLP}>" in repr(nfk) and "solver='krylov'" in repr(nfk)


def test_inside_pipelines_and_searches_a_module_is_as_short(estimator):
    probe = make_pipeline(estimator(mlp()), LogisticRegression())
    search = GridSearchCV(probe, {"logisticregression__C": [1, 10]})
    for outer in (probe, search):
        assert f"{estimator.__name__}(model=<{MLP}>)" in repr(outer)
        assert "Linear" not in repr(outer)


def test_a_module_without_shapes_yet_is_printed(estimator):
    assert "model=<LazyLinear, 0 parameters>" in repr(estimator(nn.LazyLinear(3)))


def test_showing_leaves_the_model_where_it_is(estimator):
    model = mlp()
    nfk = estimator(model)
    repr(nfk), nfk._repr_html_(), repr(make_pipeline(nfk))
    assert nfk.get_params()["model"] is model
    assert clone(nfk).model is model


def test_in_a_notebook_parameters_and_fitted_attributes_are_in_words(estimator):
    nfk = estimator(mlp(), random_state=0)
    before = text_of(nfk._repr_html_())
    assert f"model '{MLP}'" in before and "Not fitted" in before
    after = text_of(nfk.set_params(**few(estimator)).fit(rows(12))._repr_html_())
    assert f"model '{MLP}'" in after
    assert "module_ Sequential <66 parameters>" in after
    assert "dead_fraction_ float 0" in after and "n_parameters_ int 66" in after
    assert "Linear(" not in before + after


def few(estimator):
    return {"n_components": 3} if estimator is NFKTransformer else {}


def test_in_a_notebook_pipelines_show_the_model_in_words(estimator):
    page = make_pipeline(estimator(mlp()), LogisticRegression())._repr_html_()
    assert f"model '{MLP}'" in text_of(page) and "Linear(" not in page


def test_a_class_name_cannot_write_into_the_page():
    model = type("<b>bold</b>", (nn.Linear,), {})(5, 3)
    assert "<b>bold" not in NFKTransformer(model)._repr_html_()


@requires_zoo
def test_a_residual_network_is_one_line():
    from zoo.models import cifar10_resnet

    model = cifar10_resnet()
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert repr(NFKTransformer(model)) == f"NFKTransformer(model=<ResNet, {n_parameters:,} parameters>)"
    page = text_of(NFKTransformer(model)._repr_html_())
    assert f"model 'ResNet, {n_parameters:,} parameters'" in page and "Conv2d" not in page


@pytest.fixture
def told():
    return NFKTransformer(convnet().float(), 4, solver="krylov").explain(rows(30, 1, 8, 8).astype("float32"))


def test_a_plan_is_the_same_table_asked_for_by_repr_or_by_str(told):
    assert repr(told) == str(told)


def test_in_a_notebook_a_plan_is_a_table_with_the_words_of_the_text(told):
    page = told._repr_html_()
    shown = text_of(page)
    assert page.count("<table>") == page.count("</table>") == 2
    for line in str(told).splitlines():
        assert " ".join(line.split()) in shown
    assert len(re.findall("<tr>", page)) == 8 + 1 + len(told.layers)


def test_in_a_notebook_names_of_parameters_are_text():
    told = NFKTransformer(Named(), 2).explain(rows(30).astype("float32"))
    assert "&lt;i&gt;.weight" in told._repr_html_() and "<i>" not in told._repr_html_()


class Named(nn.Module):
    """A layer by a name that is markup."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.add_module("<i>", nn.Linear(5, 3))

    def forward(self, x):
        return self.get_submodule("<i>")(x)
