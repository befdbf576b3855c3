"""Ctrl-C while a skorch net trains ends the fit; a callback's own request ends the training alone."""

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, EarlyStopping
from torch import nn

from sknfk import NFKDistiller, NFKTransformer

from ..cases import rows

X, Y = rows(24, 6).astype(np.float32), np.arange(24) % 2
N_EPOCHS = 20


class Net(nn.Module):
    interrupted = False

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(6, 8), nn.Tanh()), nn.Linear(8, 2)

    def forward(self, x):
        if self.training and Net.interrupted:
            raise KeyboardInterrupt
        return self.head(self.body(x))


class StopsAtOnce(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


def net(**options):
    options = {"train_split": None, "max_epochs": N_EPOCHS, "lr": 0.1, "verbose": 0, **options}
    return NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, **options)


FITS = {
    "features": lambda **options: NFKTransformer(net(**options), 3, random_state=0),
    "student alone": lambda **options: NFKDistiller(net(**options), alpha=1, random_state=0),
    "student with a teacher": lambda **options: NFKDistiller(net(**options), NFKTransformer(n_components=2)),
}


@pytest.fixture
def ctrl_c(monkeypatch):
    monkeypatch.setattr(Net, "interrupted", True)
    return monkeypatch


@pytest.mark.parametrize("name", FITS)
def test_ctrl_c_while_a_net_trains_ends_the_fit(name, ctrl_c):
    estimator = FITS[name]()
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    assert not [attribute for attribute in vars(estimator) if attribute.endswith("_")]


def test_a_half_trained_net_is_not_kept_in_memory(ctrl_c, tmp_path):
    estimator = FITS["features"]().set_params(memory=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, Y)
    ctrl_c.undo()
    np.testing.assert_array_equal(estimator.fit(X, Y).singular_values_, FITS["features"]().fit(X, Y).singular_values_)


@pytest.mark.parametrize("callback", [StopsAtOnce(), EarlyStopping("train_loss", patience=1, threshold=1e9)])
@pytest.mark.parametrize("name", FITS)
def test_a_callback_that_stops_the_training_ends_it_and_no_more(name, callback):
    fitted = FITS[name](callbacks=[("stop", callback)]).fit(X, Y)
    if name != "features":
        assert len(fitted.student_.history) < N_EPOCHS
        assert "fit_loop" not in vars(fitted.student_)
