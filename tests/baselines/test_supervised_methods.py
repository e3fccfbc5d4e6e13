"""SupCon and supervised training against loops over their equations and another library."""

import copy

import pytest
import torch
import torch.nn.functional as F
from ssl_training import Encoder, assert_same_function, make_views, vectors

from baselines.ssl_methods.simclr import nt_xent
from baselines.ssl_methods.supcon import SupCon, supervised_contrast
from baselines.ssl_methods.supervised import Supervised
from harness.api import UNKNOWN

LABELS = torch.tensor([0, 1, 0, UNKNOWN, 1, UNKNOWN])
TAU = 0.5


def new(method, num_classes=3, seed=0, **hyperparameters):
    torch.manual_seed(seed)
    return method(Encoder(), num_classes, **hyperparameters)


def supcon_by_loops(z_a, z_b, labels=LABELS):
    """Eq. (2), the outer sum over the two views of each image taken as a mean."""
    z = torch.cat([z_a, z_b])
    z = z / z.norm(dim=1, keepdim=True)
    both = torch.cat([labels, labels])
    batch = len(labels)
    losses = []
    for i in range(2 * batch):
        others = [a for a in range(2 * batch) if a != i]
        positives = [p for p in others if p % batch == i % batch or (both[p] == both[i] and both[i] != UNKNOWN)]
        denominator = sum((z[i] @ z[a] / TAU).exp() for a in others)
        losses.append(-sum(((z[i] @ z[p] / TAU).exp() / denominator).log() for p in positives) / len(positives))
    return torch.stack([(losses[i] + losses[i + batch]) / 2 for i in range(batch)])


def test_supcon_is_eq_2():
    ours = lambda a, b: supervised_contrast(a, b, LABELS, TAU)  # noqa: E731
    assert_same_function(ours, supcon_by_loops, vectors(6, 4), vectors(6, 4, seed=1))


def test_supcon_is_that_of_another_library():
    from pytorch_metric_learning.losses import SupConLoss

    labels = torch.tensor([0, 1, 0, 2, 1, 2])
    z_a, z_b = vectors(6, 4).float(), vectors(6, 4, seed=1).float()
    theirs = SupConLoss(temperature=TAU)(torch.cat([z_a, z_b]), torch.cat([labels, labels]))
    assert supervised_contrast(z_a, z_b, labels, TAU).mean().item() == pytest.approx(theirs.item(), rel=1e-5)


def test_supcon_without_labels_is_nt_xent():
    nothing = torch.full((6,), UNKNOWN)
    ours = lambda a, b: supervised_contrast(a, b, nothing, TAU)  # noqa: E731
    assert_same_function(ours, lambda a, b: nt_xent(a, b, TAU), vectors(6, 4), vectors(6, 4, seed=1))


def test_unknown_labels_are_no_class_of_their_own():
    z_a, z_b = vectors(6, 4), vectors(6, 4, seed=1)
    as_a_class = torch.where(LABELS == UNKNOWN, 2, LABELS)
    assert not torch.allclose(
        supervised_contrast(z_a, z_b, LABELS, TAU), supervised_contrast(z_a, z_b, as_a_class, TAU)
    )


def test_supcon_reads_the_labels_and_its_sample_loss_does_not():
    method, views = new(SupCon), make_views()
    with_labels = method.labeled_loss(views, LABELS)["loss"]
    assert with_labels != method.loss(views)["loss"]
    assert torch.allclose(method.sample_loss(views).mean(), method.loss(views)["loss"])


def test_supervised_is_cross_entropy_on_a_linear_layer():
    method, view = new(Supervised), make_views()[0]
    labels = torch.tensor([0, 1, 2, 2, 1, 0])
    logits = method.head(method.backbone(view))
    log_share = logits - logits.exp().sum(dim=1, keepdim=True).log()
    expected = -sum(log_share[i, label] for i, label in enumerate(labels.tolist())) / 6
    logged = method.labeled_loss([view], labels)
    assert logged["loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert logged["accuracy"].item() == pytest.approx((logits.argmax(1) == labels).float().mean().item())


def test_label_smoothing_spreads_the_target():
    plain, smooth = new(Supervised), new(Supervised, label_smoothing=0.3)
    smooth.load_state_dict(plain.state_dict())
    view, labels = make_views()[0], torch.tensor([0, 1, 2, 2, 1, 0])
    target = 0.7 * F.one_hot(labels, 3) + 0.1
    expected = -(target * plain.head(plain.backbone(view)).log_softmax(1)).sum(1).mean()
    assert smooth.labeled_loss([view], labels)["loss"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("method", "hyperparameters", "message"),
    [
        (SupCon, {"temperature": 0}, "temperature = 0 is not > 0"),
        (SupCon, {"depth": -1}, "depth = -1 is not >= 0"),
        (Supervised, {"label_smoothing": 2}, r"label_smoothing = 2 is not in \[0, 1\]"),
    ],
)
def test_impossible_hyperparameters_are_refused(method, hyperparameters, message):
    with pytest.raises(ValueError, match=message):
        new(method, **hyperparameters)


def test_features_alone_are_contrasted_without_a_head():
    method, views = new(SupCon, depth=0), make_views()
    z_a, z_b = copy.deepcopy(method).backbone(torch.cat(views)).chunk(2)  # one batch for batch normalisation
    expected = supervised_contrast(z_a, z_b, LABELS, method.temperature).mean()
    assert torch.allclose(method.labeled_loss(views, LABELS)["loss"], expected, rtol=1e-4)
