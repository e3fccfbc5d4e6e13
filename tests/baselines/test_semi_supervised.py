"""Pseudo-Label, FixMatch and MixMatch against their equations, written out image by image."""

from collections import Counter
from unittest import mock

import pytest
import torch
from ssl_training import Encoder, make_views, vectors
from torch import nn

from baselines.ssl_methods.fixmatch import FixMatch
from baselines.ssl_methods.mixmatch import MixMatch, mix_up, sharpen
from baselines.ssl_methods.pseudo_label import PseudoLabel
from harness.api import UnlabeledBatch
from harness.testing.ssl_methods import check_ssl_method

LABELS = torch.tensor([0, 1, 2, 0])


class Fixed(nn.Module):
    """Answers with given logits, batch by batch, and remembers what it was asked."""

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.asked = list(answers), []

    def forward(self, images):
        self.asked.append(images)
        return self.answers.pop(0)


def cross_entropy(logits, target):
    """Of one image: logits f32 [K], target a distribution [K]."""
    log_share = logits - logits.exp().sum().log()
    return -(target * log_share).sum()


def one_hot(label):
    return torch.eye(3)[label]


def new(method, **hyperparameters):
    torch.manual_seed(0)
    return method(Encoder(), **hyperparameters)


def images(count, seed=0):
    return make_views(1, batch=count, seed=seed)[0]


def unlabeled(*views):
    """All the unlabelled images that there are."""
    return UnlabeledBatch(list(views), torch.arange(len(views[0])), len(views[0]))


# --- Pseudo-Label ---


def test_pseudo_label_is_eq_15():
    logits = 3 * vectors(9, 3).float()
    method = new(PseudoLabel, weight=2.0, start=0.0, full=0.5)
    method.after_step(0.25)  # half of the way to the full weight
    losses = method.joint_loss(Fixed(logits), images(4), LABELS, unlabeled(images(5, seed=1)))
    supervised = sum(cross_entropy(logits[i], one_hot(LABELS[i])) for i in range(4)) / 4
    guessed = sum(cross_entropy(logits[i], one_hot(logits[i].argmax())) for i in range(4, 9)) / 5
    assert losses["loss"].item() == pytest.approx((supervised + 1.0 * guessed).item(), rel=1e-5)


@pytest.mark.parametrize(("progress", "weight"), [(0.0, 0.0), (0.1, 0.0), (0.35, 1.5), (0.6, 3.0), (1.0, 3.0)])
def test_pseudo_labels_weigh_as_in_eq_16(progress, weight):
    method = new(PseudoLabel)
    method.after_step(progress)
    assert method.unlabeled_weight().item() == pytest.approx(weight, abs=1e-5)


def test_pseudo_labels_below_the_threshold_do_not_count():
    logits = torch.tensor([[0.0, 0, 0], [9.0, 0, 0], [0.1, 0, 0]])
    method = new(PseudoLabel, start=0.0, full=0.0, threshold=0.9)
    losses = method.joint_loss(Fixed(logits), images(1), LABELS[:1], unlabeled(images(2, seed=1)))
    assert losses["unlabeled"].item() == pytest.approx(cross_entropy(logits[1], one_hot(0)).item() / 2, rel=0.01)
    assert losses["used"].item() == 0.5


# --- FixMatch ---


def test_fixmatch_is_eqs_3_and_4():
    logits = 4 * vectors(14, 3).float()
    method = new(FixMatch, threshold=0.8, weight=0.5)
    losses = method.joint_loss(Fixed(logits), images(4), LABELS, unlabeled(images(5, seed=1), images(5, seed=2)))
    known, weak, strong = logits[:4], logits[4:9], logits[9:]
    supervised = sum(cross_entropy(known[i], one_hot(LABELS[i])) for i in range(4)) / 4
    guessed, used = 0.0, 0
    for i in range(5):
        share = weak[i].softmax(0)
        if share.max() >= 0.8:
            guessed, used = guessed + cross_entropy(strong[i], one_hot(share.argmax())) / 5, used + 1
    assert 0 < used < 5
    assert losses["loss"].item() == pytest.approx((supervised + 0.5 * guessed).item(), rel=1e-5)
    assert losses["used"].item() == pytest.approx(used / 5)


def test_no_gradient_flows_through_fixmatchs_pseudo_labels():
    logits = (4 * vectors(6, 3)).float().requires_grad_()
    method = new(FixMatch, threshold=0.0)
    losses = method.joint_loss(Fixed(logits), images(2), LABELS[:2], unlabeled(images(2, seed=1), images(2, seed=2)))
    (gradient,) = torch.autograd.grad(losses["unlabeled"], logits)
    assert not gradient[:4].any()
    assert gradient[4:].any()


# --- FlexMatch and FreeMatch ---


def batches(count=5):
    return [4 * vectors(2 + 2 * 6, 3, seed=seed).float() for seed in range(count)]


def counted(method, logits, rows=None, total=6):
    """What share of the unlabelled images counted."""
    views = [images(6, seed=1), images(6, seed=2)]
    batch = UnlabeledBatch(views, torch.arange(6) if rows is None else rows, total)
    return method.joint_loss(Fixed(logits), images(2), LABELS[:2], batch)["used"].item()


def probabilities_of(logits):
    return torch.stack([(one - one.max()).exp() / (one - one.max()).exp().sum() for one in logits[2:8]])


class Released:
    """FlexMatch's thresholds as its authors' code finds them: by the last sure class of each of `total` images."""

    def __init__(self, total, num_classes, tau):
        self.tau, self.selected, self.accuracy = tau, [None] * total, [0.0] * num_classes

    def used(self, probabilities, rows):
        tops = [(float(one.max()), int(one.argmax())) for one in probabilities]
        asked = [self.tau * beta / (2 - beta) for beta in self.accuracy]
        share = sum(sure >= asked[label] for sure, label in tops) / len(tops)
        for row, (sure, label) in zip(rows.tolist(), tops, strict=True):
            if sure >= self.tau:
                self.selected[row] = label
        counter = Counter(self.selected)
        if max(counter.values()) < len(self.selected):
            self.accuracy = [counter[c] / max(counter.values()) for c in range(len(self.accuracy))]
        return share


def epochs_of(total, count):
    """i64 [6] rows of each step of some epochs over `total` images, a multiple of six."""
    for epoch in range(count):
        yield from torch.randperm(total, generator=torch.Generator().manual_seed(epoch)).split(6)


def test_flexmatch_asks_what_the_released_rule_asks():
    method, released = new(FixMatch, threshold=0.8, thresholds="flexmatch"), Released(24, 3, 0.8)
    used = []
    for step, rows in enumerate(epochs_of(24, 12)):
        logits = 3 * vectors(2 + 2 * 6, 3, seed=step).float()
        logits[2:8, 2] -= 1.5  # a class that few are assigned to
        used.append(counted(method, logits, rows, total=24))
        assert used[-1] == pytest.approx(released.used(probabilities_of(logits), rows))
    assert 0 < sum(used[24:]) < 24
    assert len(set(released.accuracy)) == 3


def test_flexmatchs_warm_up_ends_once_an_epoch_has_assigned_the_images():
    """Also where an image is sure in one of the epochs alone: it stays assigned."""
    method, total = new(FixMatch, thresholds="flexmatch"), 60
    for step, rows in enumerate(epochs_of(total, 4)):
        sure = rows % 4 == step // 10
        logits = torch.where(sure.unsqueeze(1), 9.0, 1.0) * torch.eye(3)[rows % 3]
        share = counted(method, torch.cat([torch.zeros(2, 3), logits, logits]), rows, total)
    for rows in epochs_of(total, 1):
        logits = torch.eye(3)[rows % 3]
        share = counted(method, torch.cat([torch.zeros(2, 3), logits, logits]), rows, total)
        assert share == 0  # all classes are learnt alike, so that each asks the whole threshold


@pytest.mark.parametrize("thresholds", ["flexmatch", "freematch"])
def test_each_rule_keeps_the_promises_of_a_method(thresholds):
    check_ssl_method(lambda backbone: FixMatch(backbone, threshold=0.3, thresholds=thresholds))


def test_freematch_asks_the_confidence_that_there_is():
    method, tau, shares = new(FixMatch, thresholds="freematch", momentum=0.6), 1 / 3, [1 / 3] * 3
    used = []
    for logits in batches():
        p = probabilities_of(logits)
        tau = 0.6 * tau + 0.4 * float(sum(one.max() for one in p)) / 6  # of all classes
        shares = [0.6 * old + 0.4 * float(sum(one[c] for one in p)) / 6 for c, old in enumerate(shares)]
        asked = [tau * share / max(shares) for share in shares]
        expected = sum(float(one.max()) >= asked[int(one.argmax())] for one in p) / 6
        assert counted(method, logits) == pytest.approx(expected)
        used.append(expected)
    assert 0 < sum(used) < len(used)


@pytest.mark.parametrize(("thresholds", "kept"), [("flexmatch", "assigned"), ("freematch", "shares")])
def test_thresholds_survive_a_checkpoint(thresholds, kept):
    method, resumed = (new(FixMatch, threshold=0.8, thresholds=thresholds, momentum=0.5) for _ in range(2))
    for logits in batches(3):
        counted(method, logits)
    assert len(getattr(method, kept))
    resumed.load_state_dict(method.state_dict())
    for logits in batches():
        assert counted(method, logits) == counted(resumed, logits)
    assert torch.equal(getattr(method, kept), getattr(resumed, kept))


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="thresholds = 'softmatch' is none of fixed, flexmatch, freematch"):
        new(FixMatch, thresholds="softmatch")


# --- MixMatch ---


def test_sharpening_is_eq_7():
    share = torch.tensor([[0.6, 0.3, 0.1]])
    powers = [0.6**2, 0.3**2, 0.1**2]
    assert sharpen(share, 0.5)[0].tolist() == pytest.approx([p / sum(powers) for p in powers])


@pytest.mark.parametrize(("classes", "temperature"), [(1000, 0.01), (10, 0.005), (2, 1e-4)])
def test_sharpening_survives_many_classes_and_low_temperatures(classes, temperature):
    even = torch.full((1, classes), 1 / classes)
    torch.testing.assert_close(sharpen(even, temperature), even)
    certain = torch.eye(classes)[:1]
    torch.testing.assert_close(sharpen(certain, temperature), certain)  # nothing is said of impossible classes
    favourite = even.clone()
    favourite[0, 1] *= 1.5
    assert sharpen(favourite / favourite.sum(), temperature)[0, 1] > 0.99


@pytest.mark.parametrize("temperature", [0.25, 0.5, 1.0, 2.0])
def test_sharpening_is_its_power_form_where_that_is_finite(temperature):
    shares = vectors(20, 10).float().softmax(1)
    powers = shares.double() ** (1 / temperature)
    expected = (powers / powers.sum(1, keepdim=True)).float()
    torch.testing.assert_close(sharpen(shares, temperature), expected)


def test_mixtures_stay_closer_to_the_first():
    first, second = torch.zeros(2, 3), torch.ones(2, 3)
    assert mix_up(first, second, torch.tensor([0.2, 0.9]))[:, 0].tolist() == pytest.approx([0.2, 0.1])


def test_guesses_are_the_sharpened_mean_over_views():
    logits = vectors(6, 3).float()
    guessed = new(MixMatch).guess(Fixed(logits), [images(3, seed=1), images(3, seed=2)])
    for i in range(3):
        mean = (logits[i].softmax(0) + logits[3 + i].softmax(0)) / 2
        assert guessed[i].tolist() == pytest.approx((mean**2 / (mean**2).sum()).tolist(), rel=1e-4)


def test_mixmatch_is_eqs_3_to_5():
    views = [images(3, seed=1), images(3, seed=2)]
    labeled, labels = images(2), LABELS[:2]
    guesses, logits = vectors(6, 3).float(), vectors(8, 3, seed=1).float()
    order, share = torch.tensor([3, 0, 7, 1, 2, 6, 5, 4]), torch.linspace(0.05, 0.95, 8)
    classifier = Fixed(guesses, logits)
    method = new(MixMatch, weight=10.0, ramp=0.5)
    method.after_step(0.25)
    with (
        mock.patch("torch.randperm", return_value=order),
        mock.patch("torch.distributions.Beta", return_value=mock.Mock(sample=lambda: share)),
    ):
        losses = method.joint_loss(classifier, labeled, labels, unlabeled(*views))

    guessed = [sharpen(((guesses[i].softmax(0) + guesses[3 + i].softmax(0)) / 2)[None], 0.5)[0] for i in range(3)]
    targets = [one_hot(0), one_hot(1), *guessed, *guessed]
    pictures = [*labeled, *views[0], *views[1]]
    supervised = consistency = torch.zeros(())
    for i in range(8):
        own = max(share[i], 1 - share[i])
        target = own * targets[i] + (1 - own) * targets[order[i]]
        assert torch.allclose(classifier.asked[1][i], own * pictures[i] + (1 - own) * pictures[order[i]], atol=1e-6)
        if i < 2:
            supervised = supervised + cross_entropy(logits[i], target) / 2
        else:
            consistency = consistency + ((logits[i].softmax(0) - target) ** 2).sum() / (3 * 6)
    assert losses["supervised"].item() == pytest.approx(supervised.item(), rel=1e-4)
    assert losses["unlabeled"].item() == pytest.approx(consistency.item(), rel=1e-4)
    assert losses["loss"].item() == pytest.approx((supervised + 5.0 * consistency).item(), rel=1e-4)


@pytest.mark.parametrize(
    ("ramp", "progress", "weight"), [(1.0, 0.0, 0.0), (1.0, 0.5, 37.5), (0.5, 0.9, 75), (0, 0, 75)]
)
def test_mixmatchs_unlabelled_weight_rises_linearly(ramp, progress, weight):
    method = new(MixMatch, ramp=ramp)
    method.after_step(progress)
    assert method.unlabeled_weight().item() == pytest.approx(weight)


# --- all ---


@pytest.mark.parametrize(
    ("method", "hyperparameters", "message"),
    [
        (FixMatch, {"threshold": 1.5}, r"threshold = 1.5 is not in \[0, 1\]"),
        (MixMatch, {"alpha": 0}, "alpha = 0 is not > 0"),
        (MixMatch, {"num_guesses": 0}, "num_guesses = 0 is not >= 1"),
        (PseudoLabel, {"start": 0.5, "full": 0.4}, "full = 0.4 is below start = 0.5"),
    ],
)
def test_impossible_hyperparameters_are_refused(method, hyperparameters, message):
    with pytest.raises(ValueError, match=message):
        new(method, **hyperparameters)


@pytest.mark.parametrize("method", [FixMatch, MixMatch, PseudoLabel])
def test_there_is_no_loss_without_a_classifier(method):
    with pytest.raises(NotImplementedError, match="mode joint"):
        new(method).loss(make_views(2))
