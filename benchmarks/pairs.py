"""Trained models of every family beside data that they were, or were not, trained on: ``PAIRS[key]``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sknfk.densities import Discriminator, LogProb, Variational

from .cases import enough, zoo

N_BASE = 5_000  # training rows; a pool is four fifths of them
N_TEST = 5_000
FAMILIES = ("gan", "vae", "flow", "autoregressive", "energy", "classifier")


@dataclass(frozen=True)
class Trained:
    """A published model, how it reads images, what it means and what it knows without a kernel.

    ``read`` takes grey images (N, 28, 28) in [0, 1], or those of CIFAR-10, to its input; ``activations`` is
    ``(model, x) -> (B, d)``.
    """

    name: str
    family: str
    weights: str  # under data/models
    build: Callable[[], nn.Module]
    density: Callable[[], Any]
    read: Callable[[Tensor], Tensor]
    activations: Callable[[nn.Module, Tensor], Tensor]
    activations_name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """A model and a data set; fewer rows where the model is slow or the data are few."""

    model: Trained
    dataset: str
    n_base: int = N_BASE
    n_test: int = N_TEST
    on_task: bool = False  # the model was trained on the training rows: base and test are both the test rows

    @property
    def key(self) -> str:
        return f"{self.model.name}/{self.dataset}"

    def rows(self, split: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return X as the model reads it, its pixels (N, d), and the labels."""
        read = images_of(self.dataset, "test" if self.on_task else split)
        n_rows = min(len(read[0]), self.n_base if split == "train" else self.n_test)
        images, labels = enough(read[0], n_rows), read[1][:n_rows]
        return self.model.read(torch.from_numpy(images)).numpy(), images.reshape(n_rows, -1), labels


def images_of(dataset: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0, 1], float32, grey (N, 28, 28) or with channels (N, 3, 32, 32), and their labels."""
    if dataset == "cifar10":
        images, labels = zoo("datasets").cifar10(split)
        return images.transpose(0, 3, 1, 2).astype(np.float32) / 255, labels
    return grey_images(dataset, split)


def grey_images(dataset: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Grey images (N, 28, 28) in [0, 1], float32, and their labels."""
    images, labels = getattr(zoo("datasets"), {"fashion": "fashion_mnist"}.get(dataset, dataset))(split)
    if dataset != "usps":
        return images.astype(np.float32) / 255, labels
    # As in MNIST, the digit is in the middle 20 x 20 pixels.
    small = torch.from_numpy((images + 1) / 2)[:, None]
    large = F.interpolate(small, size=(20, 20), mode="bilinear", align_corners=False).clamp(0, 1)
    return F.pad(large, (4, 4, 4, 4))[:, 0].numpy(), labels


def before_the_last(model: nn.Sequential, x: Tensor) -> Tensor:
    """Output of the last layer but one of a sequential model, flat."""
    return model[:-1](x).flatten(1)


def flat(x: Tensor) -> Tensor:
    return x.flatten(1)


def signed(x: Tensor) -> Tensor:
    return (2 * x - 1)[:, None]


def grey_values(x: Tensor) -> Tensor:
    return (255 * x).round()[:, None]


def lenet5_read(x: Tensor) -> Tensor:
    return F.interpolate(x[:, None], size=(32, 32), mode="bilinear", align_corners=False)


def lenet5_activations(model: nn.Module, x: Tensor) -> Tensor:
    x = F.max_pool2d(F.relu(model.convnet["c1"](x)), 2)
    x = F.max_pool2d(F.relu(model.convnet["c3"](x)), 2)
    return F.relu(model.fc["f6"](F.relu(model.convnet["c5"](x)).flatten(1)))


def resnet_read(x: Tensor) -> Tensor:
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (zoo("models").ResNet.MEAN, zoo("models").ResNet.STD)
    )
    return ((x if x.ndim == 4 else lenet5_read(x).expand(-1, 3, -1, -1)) - mean) / std


def resnet_activations(model: nn.Module, x: Tensor) -> Tensor:
    h = F.relu(model.bn1(model.conv1(x)))
    return model.layer3(model.layer2(model.layer1(h))).mean((2, 3))


def vae_activations(model: nn.Module, x: Tensor) -> Tensor:
    return model.encode(x)[0]


def pixelcnn_activations(model: nn.Module, x: Tensor) -> Tensor:
    scaled = x.float() / 127.5 - 1
    v, h = model.conv_vstack(scaled), model.conv_hstack(scaled)
    for layer in model.conv_layers:
        v, h = layer(v, h)
    return F.elu(h).mean((2, 3))  # the features that every pixel's logits are made from, pooled


def flow_activations(model: nn.Module, x: Tensor) -> Tensor:
    """The latent variable z of the middle grey value: a flow has no narrower layer."""
    z = (x + 0.5) / 256
    z = z * (1 - 1e-5) + 0.5e-5
    z = torch.log(z) - torch.log1p(-z)
    for coupling in model.flows[1:]:
        z, _ = coupling(z)
    return z.flatten(1)


def gan() -> tuple[nn.Module, nn.Module]:
    return zoo("models").mnist_mlp_gan()


def zoo_model(name: str, *arguments: Any) -> Callable[[], nn.Module]:
    return lambda: getattr(zoo("models"), name)(*arguments)


TRAINED = {
    trained.name: trained
    for trained in (
        Trained(
            "mlp_gan",
            "gan",
            "csinva_gan_vae/mnist_mlp_gan_discriminator.ckpt",
            lambda: gan()[0],
            lambda: Discriminator(gan()[1]),
            lambda x: flat(signed(x)),
            before_the_last,
            "last hidden layer",
        ),
        Trained(
            "dcgan",
            "gan",
            "csinva_gan_vae/mnist_dcgan_discriminator.pth",
            zoo_model("mnist_dcgan_discriminator"),
            Discriminator,
            signed,
            before_the_last,
            "last hidden layer",
        ),
        Trained(
            "vae",
            "vae",
            "csinva_gan_vae/mnist_vae.pth",
            zoo_model("mnist_vae"),
            Variational,
            flat,
            vae_activations,
            "latent mean",
            {"parameters": "decoder"},
        ),
        Trained(
            "flow",
            "flow",
            "phlippe_saved_models/mnist_flow.ckpt",
            zoo_model("mnist_flow"),
            lambda: LogProb(dequantize="pass"),
            grey_values,
            flow_activations,
            "latent variable",
        ),
        Trained(
            "pixelcnn",
            "autoregressive",
            "phlippe_saved_models/mnist_pixelcnn.ckpt",
            zoo_model("mnist_pixelcnn"),
            lambda: "log_prob",
            grey_values,
            pixelcnn_activations,
            "last features, pooled",
        ),
        Trained(
            "energy",
            "energy",
            "phlippe_saved_models/mnist_energy.ckpt",
            zoo_model("mnist_energy"),
            lambda: "output",
            signed,
            before_the_last,
            "last hidden layer",
        ),
        Trained(
            "lenet5",
            "classifier",
            "csinva_gan_vae/mnist_lenet5.pth",
            zoo_model("mnist_lenet5"),
            lambda: "classifier",
            lenet5_read,
            lenet5_activations,
            "last hidden layer",
        ),
        Trained(
            "fashion_mlp",
            "classifier",
            "phlippe_saved_models/fashion_mlp.tar",
            zoo_model("fashion_mlp"),
            lambda: "classifier",
            lambda x: flat(signed(x)),
            before_the_last,
            "last hidden layer",
        ),
        Trained(
            "resnet20",
            "classifier",
            "akamaster_resnet_cifar10/resnet20-12fca82f.th",
            zoo_model("cifar10_resnet", 20),
            lambda: "classifier",
            resnet_read,
            resnet_activations,
            "pooled last features",
        ),
        Trained(
            "resnet56",
            "classifier",
            "akamaster_resnet_cifar10/resnet56-4bfd9763.th",
            zoo_model("cifar10_resnet", 56),
            lambda: "classifier",
            resnet_read,
            resnet_activations,
            "pooled last features",
        ),
    )
}

GENERATIVE = ("mlp_gan", "dcgan", "vae", "flow", "pixelcnn", "energy")
SLOW = {"pixelcnn": (1_250, 1_000)}  # rows of base and test
ENOUGH_OF_EACH = {("pixelcnn", "usps"): (1_950, 1_000)}  # the first 100 of a 5 are among so many
OFF_TASK = (
    ("lenet5", "usps"),
    ("lenet5", "fashion"),
    ("fashion_mlp", "mnist"),
    ("resnet20", "fashion"),
    ("resnet20", "usps"),
    ("resnet56", "usps"),
)
ON_TASK = (("lenet5", "mnist"), ("fashion_mlp", "fashion"), ("resnet20", "cifar10"), ("resnet56", "cifar10"))


def pair(name: str, dataset: str) -> Pair:
    if (name, dataset) in ON_TASK:
        return Pair(TRAINED[name], dataset, on_task=True)
    return Pair(TRAINED[name], dataset, *ENOUGH_OF_EACH.get((name, dataset), SLOW.get(name, ())))


PAIRS = {
    made.key: made
    for made in (
        *(pair(name, dataset) for name in GENERATIVE for dataset in ("mnist", "fashion", "usps")),
        *(pair(name, dataset) for name, dataset in (*OFF_TASK, *ON_TASK)),
    )
}
