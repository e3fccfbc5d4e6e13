"""Distillation against its equations, image by image."""

import pytest
import torch
from ssl_training import Encoder, make_views, vectors
from torch import nn

from baselines.ssl_methods.distill import Distill
from harness.api import UNKNOWN

SCORES = 2 * vectors(6, 3).float()
LABELS = torch.tensor([0, UNKNOWN, 2, UNKNOWN, 1, UNKNOWN])
LOGITS = 3 * vectors(6, 3, seed=1).float()
(IMAGES,) = make_views(1)


class Asked(nn.Module):
    """Answers with the given logits, which want gradients, and remembers the images."""

    def __init__(self):
        super().__init__()
        self.logits = LOGITS.clone().requires_grad_()

    def forward(self, images):
        self.images = images
        return self.logits


def new(**settings):
    torch.manual_seed(0)
    return Distill(Encoder(), **settings)


def expected(targets, temperature=1.0):
    total = 0.0
    for logits, target in zip(LOGITS / temperature, targets, strict=True):
        total -= sum(float(t * (z - logits.exp().sum().log())) for t, z in zip(target, logits, strict=True))
    return temperature**2 * total / len(LOGITS)


def softened(temperature):
    return torch.stack([(one / temperature).exp() / (one / temperature).exp().sum() for one in SCORES])


@pytest.mark.parametrize(("teacher", "student"), [(1.0, 1.0), (0.12, 1.0), (4.0, 4.0)])
def test_the_loss_is_cross_entropy_with_the_softened_scores(teacher, student):
    classifier = Asked()
    method = new(mixup=0.0, temperature=teacher, student_temperature=student)
    loss = method.taught_loss(classifier, [IMAGES], SCORES, LABELS)["loss"]
    assert loss.item() == pytest.approx(expected(softened(teacher), student), rel=1e-4)
    assert torch.equal(classifier.images, IMAGES)


def test_at_a_high_temperature_logits_are_matched():
    """Eq. (4) of Hinton et al.: times T^2, the gradient goes to (z - v) / N, both of mean 0, over the batch."""
    classifier = Asked()
    method = new(mixup=0.0, temperature=1000.0, student_temperature=1000.0)
    method.taught_loss(classifier, [IMAGES], SCORES, LABELS)["loss"].backward()
    centred = [values - values.mean(1, keepdim=True) for values in (LOGITS, SCORES)]
    torch.testing.assert_close(classifier.logits.grad, (centred[0] - centred[1]) / 3 / 6, rtol=0.01, atol=1e-4)


def test_true_labels_weigh_where_they_are_known():
    targets = softened(1.0)
    for row, label in enumerate(LABELS.tolist()):
        if label != UNKNOWN:
            targets[row] = 0.7 * targets[row] + 0.3 * torch.eye(3)[label]
    loss = new(mixup=0.0, hard=0.3).taught_loss(Asked(), [IMAGES], SCORES, LABELS)["loss"]
    assert loss.item() == pytest.approx(expected(targets), rel=1e-4)


def test_images_and_targets_are_mixed_alike():
    method, classifier = new(mixup=0.4), Asked()
    torch.manual_seed(7)
    loss = method.taught_loss(classifier, [IMAGES], SCORES, LABELS)["loss"]
    pairs, shares = zip(*(unmixed(*both) for both in zip(classifier.images, IMAGES, strict=True)), strict=True)
    assert sorted(pairs) == list(range(6))  # a permutation of the batch
    share = min(shares)
    assert 0 < share < 1
    targets = softened(1.0)
    for row, other in enumerate(pairs):
        assert shares[row] == pytest.approx(1 if row == other else share, abs=1e-4)
    mixed = [share * targets[row] + (1 - share) * targets[other] for row, other in enumerate(pairs)]
    assert loss.item() == pytest.approx(expected(mixed), rel=1e-4)


def unmixed(mixed, image):
    """Which other image was mixed into an image, and the share of the image itself."""
    fits = []
    for number, other in enumerate(IMAGES):
        apart = (other - image).flatten()
        if not apart.any():
            own = number
            continue
        share = 1 - float(apart @ (mixed - image).flatten() / (apart @ apart))
        fits.append((float((share * image + (1 - share) * other - mixed).abs().max()), number, share))
    return (own, 1.0) if torch.allclose(mixed, image, atol=1e-5) else min(fits)[1:]


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"student_temperature": -1.0}, {"hard": 2.0}, {"mixup": -0.1}])
def test_impossible_values_are_named(wrong):
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        new(**wrong)
