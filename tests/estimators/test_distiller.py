"""The distiller: its loss against a twin by hand, its extremes, and what it refuses."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from skorch import NeuralNetClassifier
from skorch.callbacks import LRScheduler
from torch import nn
from torch.nn import functional as F

from sknfk import NFKDistiller, NFKTransformer, semi_supervised_split

from ..cases import rows

N, C, D, K = 60, 3, 5, 4
# One step of SGD, taken in float32 in another order.
STEP_ATOL = 1e-6


class Student(nn.Module):
    def __init__(self, n_inputs=D, width=8, n_classes=C):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(n_inputs, width), nn.Tanh()), nn.Linear(width, n_classes)

    def forward(self, x):
        return self.head(self.body(x))


def student(module=Student, **options):
    options = {"lr": 0.1, "max_epochs": 3, "batch_size": 16, **options}
    return NeuralNetClassifier(
        module, criterion=nn.CrossEntropyLoss, iterator_train__shuffle=True, verbose=0, **options
    )


class Embedding(TransformerMixin, BaseEstimator):
    """K smooth functions of the rows; counts how often it is asked."""

    def __init__(self, width=K):
        self.width = width

    def fit(self, X, y=None):
        self.n_calls_ = 0
        return self

    def transform(self, X):
        self.n_calls_ += 1
        return np.sin(X @ np.random.default_rng(0).normal(size=(X.shape[1], self.width)))


def data(n_unlabelled=0):
    X = rows(N).astype(np.float32)
    y = np.arange(N) % C
    y[:n_unlabelled] = -1
    return X, y


def weights(net):
    return net.module_.state_dict()


def plain(X, y, seed=0):
    """The student alone, on the seed that the distiller draws from random_state=seed."""
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.RandomState(seed).randint(np.iinfo(np.int32).max)))
        return student(train_split=None).fit(X, y)


@pytest.mark.parametrize("n_unlabelled", [0, 20])
def test_alpha_one_is_the_plain_student_to_the_bit(n_unlabelled):
    X, y = data(n_unlabelled)
    found = NFKDistiller(student(), Embedding(), alpha=1, random_state=0).fit(X, y)
    expected = plain(X[n_unlabelled:], y[n_unlabelled:].astype(np.int64))
    for name, value in weights(expected).items():
        assert torch.equal(weights(found.student_)[name], value)
    assert not hasattr(found, "teacher_")


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_a_vanishing_second_term_leaves_the_plain_students_steps(distance):
    X, y = data()
    found = NFKDistiller(student(), Embedding(), alpha=1 - 1e-9, distance=distance, random_state=0).fit(X, y)
    expected = plain(X, y)
    for name, value in weights(expected).items():
        torch.testing.assert_close(weights(found.student_)[name], value, rtol=0, atol=STEP_ATOL)


def one_step(module, head, X, y, e, alpha, distance):
    """One step of gradient descent at rate 0.1 on the loss, written out row by row."""
    x, e = torch.from_numpy(X), torch.from_numpy(e)
    h = head(module.body(x))
    first = sum(F.cross_entropy(module.head(module.body(x[i : i + 1])), torch.tensor([y[i]])) for i in labelled(y))
    if distance == "l2":
        second = sum(0.5 * (h[i] - e[i]).square().mean() for i in range(len(X)))
    else:
        second = sum(1 - (h[i] @ e[i]) / (h[i].norm() * e[i].norm()) for i in range(len(X)))
    loss = alpha * first / len(labelled(y)) + (1 - alpha) * second / len(X)
    parameters = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return {n: p.detach() - 0.1 * g for (n, p), g in zip(parameters.items(), gradients, strict=True)}


def labelled(y):
    return np.flatnonzero(y != -1)


@pytest.mark.parametrize("distance", ["l2", "cosine"])
def test_a_step_is_that_of_the_loss_written_out(distance):
    X, y = data(n_unlabelled=25)
    module = Student(width=K)
    e = Embedding().fit(X).transform(X).astype(np.float32)
    scaled = e / np.sqrt(np.square(e).mean()) if distance == "l2" else e
    expected = one_step(copy.deepcopy(module), nn.Identity(), X, y, scaled, 0.3, distance)
    net = student(module=module, batch_size=N, max_epochs=1)
    distiller = NFKDistiller(net, Embedding(), alpha=0.3, distance=distance, projection=None, layer="body")
    found = weights(distiller.fit(X, y).student_)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=STEP_ATOL)


def test_the_embedding_is_computed_once():
    X, y = data()
    assert NFKDistiller(student(max_epochs=4), Embedding()).fit(X, y).teacher_.n_calls_ == 1


def test_labels_of_unlabelled_rows_are_not_seen_and_their_embedding_is():
    X, y = data(n_unlabelled=20)
    options = {"alpha": 0.5, "random_state": 0}
    first = NFKDistiller(student(), Embedding(), **options).fit(X, y)
    moved = X.copy()
    moved[:20] += 1
    second = NFKDistiller(student(), Embedding(), **options).fit(moved, y)
    assert not torch.equal(weights(first.student_)["head.weight"], weights(second.student_)["head.weight"])
    np.testing.assert_array_equal(first.classes_, [0, 1, 2])


def test_by_default_the_hidden_layer_below_the_last_is_compared():
    X, y = data()
    found, named = (
        NFKDistiller(student(), Embedding(), layer=layer, random_state=0).fit(X, y) for layer in (None, "body")
    )
    for name, value in weights(named.student_).items():
        assert torch.equal(weights(found.student_)[name], value)


def softened(h, e):
    """Hinton, Vinyals and Dean (2015), with temperature 2."""
    return 4 * F.kl_div(F.log_softmax(h / 2, 1), F.softmax(e / 2, 1), reduction="batchmean")


def test_distillation_of_logits_pulls_the_student_to_the_teachers_classes():
    X, y = data(n_unlabelled=N - 6)
    W = np.random.default_rng(1).normal(size=(D, C))
    teacher = FunctionTransformer(lambda X: 5 * X @ W)
    net = student(max_epochs=60, lr=0.3)
    distiller = NFKDistiller(net, teacher, alpha=0.0, layer="head", projection=None, distance=softened, random_state=0)
    assert (distiller.fit(X, y).predict(X) == (X @ W).argmax(1)).mean() > 0.9


def test_an_embedding_of_other_rows_does_not_help():
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    hidden = y[:1000].copy()
    hidden[50:] = -1
    # The student alone sees 50 rows an epoch, not 1000: it gets as many steps as the others by more epochs.
    net = student(module__n_inputs=64, module__n_classes=10, module__width=32, max_epochs=30, batch_size=100)
    alone = clone(net).set_params(max_epochs=300, optimizer=torch.optim.Adam, lr=0.005)
    net.set_params(optimizer=torch.optim.Adam, lr=0.005)
    teacher = FrozenEstimator(NFKTransformer(digits_net(X[:1000], y[:1000]), 16, random_state=0).fit(X[:1000]))
    found = {
        name: np.mean([score(own, embedding, alpha, seed, X, y, hidden) for seed in range(3)])
        for name, own, embedding, alpha in (
            ("plain", alone, teacher, 1.0),
            ("true", net, teacher, 0.5),
            ("shuffled", net, make_pipeline(teacher, FunctionTransformer(shuffled_rows)), 0.5),
        )
    }
    assert found["true"] > found["plain"] + 0.02
    assert found["shuffled"] < found["plain"] + 0.01


def shuffled_rows(e):
    return np.random.default_rng(0).permutation(e)


def score(net, teacher, alpha, seed, X, y, hidden):
    distiller = NFKDistiller(net, teacher, alpha=alpha, random_state=seed).fit(X[:1000], hidden)
    return distiller.score(X[1000:], y[1000:])


def digits_net(X, y):
    """A net that has seen all labels."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = student(module__n_inputs=64, module__n_classes=10, module__width=32, max_epochs=20, train_split=None)
        return net.set_params(optimizer=torch.optim.Adam, lr=0.01).fit(X, y).module_


def test_it_is_searched_in_a_pipeline_over_partly_labelled_rows():
    X, y = data(n_unlabelled=15)
    pipe = make_pipeline(StandardScaler(), NFKDistiller(student(max_epochs=1), Embedding(), random_state=0))
    grid = {
        "nfkdistiller__alpha": [0.5, 1.0],
        "nfkdistiller__teacher__width": [2, 3],
        "nfkdistiller__student__lr": [0.1],
    }
    found = GridSearchCV(pipe, grid, cv=semi_supervised_split(y, 3, random_state=0), error_score="raise").fit(X, y)
    assert len(found.cv_results_["params"]) == 4
    assert set(found.predict(X)) <= {0, 1, 2}


def test_a_fisher_kernel_of_the_teacher_is_distilled():
    X, y = data(n_unlabelled=15)
    teacher = NFKTransformer(Student(width=7).eval(), 3, random_state=0)
    found = NFKDistiller(student(), teacher, random_state=0).fit(X, y)
    assert found.teacher_.n_components_ == 3
    assert not hasattr(teacher, "components_")


def test_the_trained_student_holds_nothing_of_the_teacher():
    X, y = data()
    net = student(callbacks=[("schedule", LRScheduler("StepLR", step_size=1, gamma=0.5))])
    found = NFKDistiller(net, Embedding(), random_state=0).fit(X, y).student_
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in found.module_.modules())
    assert len(found.optimizer_.param_groups) == 1
    assert found.optimizer_.param_groups[0]["lr"] < 0.1
    assert {"get_loss", "check_data"}.isdisjoint(vars(found))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).predict(X), found.predict(X))
    assert len(found.history) == 3
    assert found.partial_fit(X, y.astype(np.int64)).predict(X).shape == (N,)


def test_the_callers_net_and_the_global_generator_stay_as_they_were():
    X, y = data()
    net = student(module=Student())
    before, state = copy.deepcopy(net.module.state_dict()), torch.get_rng_state()
    NFKDistiller(net, Embedding(), random_state=0).fit(X, y)
    assert not net.initialized_
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in net.module.state_dict().items():
        assert torch.equal(value, before[name])


def test_two_fits_are_the_same_to_the_bit():
    X, y = data(n_unlabelled=15)
    distiller = NFKDistiller(student(), Embedding(), random_state=0)
    first, second = (clone(distiller).fit(X, y).predict_proba(X) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_minus_one_and_one_are_two_classes():
    X, y = data()
    found = NFKDistiller(student(), Embedding(), random_state=0).fit(X, np.where(y == 0, -1, 1))
    np.testing.assert_array_equal(found.classes_, [-1, 1])


REFUSED = {
    "an unknown layer": ({"layer": "bodi"}, {}, "Got 'bodi'; near names are 'body'"),
    "unequal widths": ({"projection": None}, {}, "has, 4. Got 8; pass projection='linear', or a teacher that gives 8"),
    "X itself": ({"student": student(module=nn.Linear(D, C))}, {}, "What '' takes is X itself"),
    "too few outputs": ({"student": student(module__n_classes=2)}, {}, "Got 2 outputs and 3 classes"),
    "one class": ({}, {"y": np.where(np.arange(N) < 9, 0, -1)}, "at least two classes. Got 1 class among 9 labelled"),
    "no label": ({}, {"y": np.full(N, -1)}, "at least two classes. Got 0 class"),
    "a continuous target": ({}, {"y": np.linspace(0, 1, N)}, "Unknown label type"),
    "alpha above one": ({"alpha": 1.5}, {}, "'alpha' parameter"),
    "a student that is no net": ({"student": StandardScaler()}, {}, "'student' parameter"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_gets_one_clear_sentence(name):
    options, changed, message = REFUSED[name]
    X, y = data()
    with pytest.raises(ValueError) as caught:
        NFKDistiller(**{"student": student(), "teacher": Embedding(), **options}).fit(X, changed.get("y", y))
    assert re.search(message, str(caught.value))
