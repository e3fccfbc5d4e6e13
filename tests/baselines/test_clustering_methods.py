"""SwAV, DINO and Self-Classifier: losses against loops over their equations, centres, prototypes and queues by hand."""

import copy
import math

import pytest
import torch
from lightly import loss as lightly_loss
from lightly.loss.swav_loss import sinkhorn as lightly_sinkhorn
from ssl_training import assert_same_function, make_views, new, train, vectors

from baselines.ssl_methods.dino import DINO
from baselines.ssl_methods.heads import CosineLayer
from baselines.ssl_methods.multi_crop import cross_view_entropy, forward_by_size
from baselines.ssl_methods.self_classifier import SelfClassifier, balanced_log_predictions, class_targets
from baselines.ssl_methods.sinkhorn import sinkhorn
from baselines.ssl_methods.swav import SwAV

SMALL_SWAV = {"num_prototypes": 9, "hidden_dim": 12, "projection_dim": 5}
SMALL_DINO = {"num_prototypes": 9, "hidden_dim": 12, "bottleneck_dim": 5}
SMALL_CLASSIFIER = {"num_classes": 4, "hidden_dim": 12, "projection_dim": 5}


def unit(z):
    return z / z.norm(dim=1, keepdim=True)


def softmax(x):
    return x.exp() / x.exp().sum()


def cross_entropy(target, prediction):
    return -sum(t * torch.log(p) for t, p in zip(target, prediction, strict=True))


def add_local_views(views, size=8):
    return [*views, *(view[..., :size, :size] for view in make_views(seed=5))]


# --- views of several sizes ---


def test_forward_by_size_is_one_pass_for_neighbours_of_one_size():
    passes = []

    def network(images):
        passes.append(tuple(images.shape))
        return images.mean(dim=(1, 2, 3))

    views = add_local_views(make_views())
    outputs = forward_by_size(network, views)
    assert passes == [(12, 3, 16, 16), (12, 3, 8, 8)]
    for output, view in zip(outputs, views, strict=True):
        assert torch.allclose(output, view.mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("num_views", [2, 3, 4])
def test_cross_view_entropy_pairs_targets_with_all_other_views(num_views):
    targets, predictions = vectors(2, 3, 5).softmax(2), vectors(num_views, 3, 5, seed=1).softmax(2)
    expected = []
    for image in range(3):
        terms = [
            cross_entropy(targets[g, image], predictions[v, image])
            for g in range(2)
            for v in range(num_views)
            if v != g
        ]
        assert len(terms) == 2 * (num_views - 1)
        expected.append(sum(terms) / len(terms))
    assert torch.allclose(cross_view_entropy(targets, predictions.log()), torch.stack(expected))


def test_cosine_layer_is_a_weight_normalised_linear_layer():
    torch.manual_seed(0)
    layer = CosineLayer(5, 7)
    reference = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(5, 7, bias=False).double())
    with torch.no_grad():
        reference.parametrizations.weight.original1.copy_(layer.prototypes)
        reference.parametrizations.weight.original0.fill_(1)
    assert_same_function(layer, lambda x: reference(unit(x)), vectors(4, 5))


def test_cosine_layer_under_autocast_keeps_single_precision():
    layer, x = CosineLayer(64, 7), vectors(4, 64).float()
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x)
    assert torch.equal(mixed, layer(x))


# --- Sinkhorn ---


def sinkhorn_by_loops(scores, epsilon, num_iterations):
    """Algorithm 1 of SwAV's appendix A, one number at a time."""
    batch, num_prototypes = scores.shape
    q = torch.exp(scores.double() / epsilon)
    q = q / q.sum()
    for _ in range(num_iterations):
        for k in range(num_prototypes):
            q[:, k] = q[:, k] / q[:, k].sum() / num_prototypes
        for b in range(batch):
            q[b] = q[b] / q[b].sum() / batch
    return q * batch


@pytest.mark.parametrize("num_iterations", [1, 3, 10])
@pytest.mark.parametrize("epsilon", [0.05, 0.5])
def test_sinkhorn_is_the_papers_algorithm(epsilon, num_iterations):
    scores = (unit(vectors(7, 3)) @ unit(vectors(4, 3, seed=1)).T).float()
    expected = sinkhorn_by_loops(scores, epsilon, num_iterations)
    assert torch.allclose(sinkhorn(scores, epsilon, num_iterations).double(), expected, atol=1e-5)


def test_sinkhorn_is_that_of_lightly():
    theirs = lightly_sinkhorn
    scores = (unit(vectors(20, 6)) @ unit(vectors(9, 6, seed=1)).T).float()
    assert torch.allclose(sinkhorn(scores, 0.05, 3), theirs(scores), atol=1e-5)


def test_sinkhorn_is_balanced_even_where_exponentials_overflow():
    scores = vectors(12, 4).float()
    for epsilon in (1.0, 0.01):
        codes = sinkhorn(scores, epsilon, 2000)
        assert torch.allclose(codes.sum(1), torch.ones(12), atol=1e-4)
        assert torch.allclose(codes.sum(0), torch.full((4,), 3.0), atol=1e-2)


def test_sinkhorn_sends_no_gradient():
    assert not sinkhorn(vectors(5, 3).requires_grad_(), 0.05, 3).requires_grad


# --- SwAV ---


def swav_by_loops(method, views, queues=None):
    z = [unit(method.projector(features)).double() for features in forward_by_size(method.backbone, views)]
    prototypes = method.prototypes.weight.double()
    codes = []
    for view in range(2):
        rows = z[view] if queues is None else torch.cat([z[view], queues[view].double()])
        codes.append(sinkhorn_by_loops((rows @ prototypes.T).detach(), 0.05, 3))
    losses = []
    for image in range(len(views[0])):
        terms = [
            cross_entropy(codes[g][image], softmax(prototypes @ z[v][image] / 0.1))
            for g in range(2)
            for v in range(len(views))
            if v != g
        ]
        losses.append(sum(terms) / len(terms))
    return torch.stack(losses)


@pytest.mark.parametrize("num_local_views", [0, 2])
def test_swav_is_eq_1(num_local_views):
    method = new(SwAV, num_local_views=num_local_views, **SMALL_SWAV).eval()  # the reference goes view by view
    views = add_local_views(make_views())[: 2 + num_local_views]
    assert method.num_views == len(views)
    expected = swav_by_loops(method, views)
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    weight = method.backbone.layers[0].weight
    (ours,), (theirs,) = (torch.autograd.grad(loss, weight) for loss in (method.loss(views)["loss"], expected.mean()))
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_swav_is_that_of_lightly():
    theirs = lightly_loss.SwaVLoss()
    method = new(SwAV, **SMALL_SWAV).eval()
    views = make_views()
    scores = [method.prototypes(unit(method.projector(method.backbone(view)))) for view in views]
    assert torch.allclose(method.loss(views)["loss"], theirs(scores, []) / 1, rtol=1e-4)


def test_swav_assigns_with_its_queue_once_that_is_full():
    method = new(SwAV, queue_size=10, **SMALL_SWAV)
    for step, full in enumerate([False, False, True]):  # six images a step
        views = make_views(seed=step)
        queues = method.queue.keys.view(10, 2, 5).transpose(0, 1).clone()
        trained = copy.deepcopy(method).eval()
        expected = swav_by_loops(trained, views, queues if full else None)
        assert torch.allclose(trained.sample_loss(views).double(), expected, rtol=1e-4), step
        method.loss(views)["loss"].backward()
        assert torch.equal(method.queue.keys.view(10, 2, 5).transpose(0, 1), queues)
        method.after_step((step + 1) / 3)


def test_swav_queue_holds_the_vectors_of_both_views():
    method = new(SwAV, queue_size=10, **SMALL_SWAV).eval()
    views = make_views()
    method.loss(views)
    method.after_step(0.5)
    expected = torch.cat([unit(method.projector(method.backbone(view))) for view in views], dim=1)
    assert torch.allclose(method.queue.keys[:6], expected, atol=1e-5)


def test_swav_prototypes_have_unit_length_from_the_start_and_after_each_step():
    method = new(SwAV, **SMALL_SWAV)
    assert torch.allclose(method.prototypes.weight.norm(dim=1), torch.ones(9))
    start = method.prototypes.weight.detach().clone()
    train(method, 2, lr=10.0)
    assert torch.allclose(method.prototypes.weight.norm(dim=1), torch.ones(9))
    assert not torch.allclose(method.prototypes.weight, start, atol=1e-2)


# --- DINO ---


def dino_by_loops(method, views, teacher_temperature):
    student = [method.head(f).double() for f in forward_by_size(method.backbone, views)]
    teacher = [method.teacher_head(f).double() for f in forward_by_size(method.teacher_backbone, views[:2])]
    center = method.center.double()
    losses = []
    for image in range(len(views[0])):
        terms = [
            cross_entropy(
                softmax((teacher[g][image] - center) / teacher_temperature).detach(), softmax(student[v][image] / 0.1)
            )
            for g in range(2)
            for v in range(len(views))
            if v != g
        ]
        losses.append(sum(terms) / len(terms))
    return torch.stack(losses)


@pytest.mark.parametrize("num_local_views", [0, 2])
def test_dino_is_eq_3(num_local_views):
    method = new(DINO, num_local_views=num_local_views, **SMALL_DINO)
    train(method, 2) if num_local_views == 0 else None
    method.eval()  # the reference goes view by view
    views = add_local_views(make_views())[: 2 + num_local_views]
    assert method.num_views == len(views)
    expected = dino_by_loops(method, views, 0.04)
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    weight = method.backbone.layers[0].weight
    (ours,), (theirs,) = (torch.autograd.grad(loss, weight) for loss in (method.loss(views)["loss"], expected.mean()))
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_dino_is_that_of_lightly_step_by_step():
    theirs = lightly_loss.DINOLoss(output_dim=9)
    method = new(DINO, **SMALL_DINO).eval()
    for step in range(3):
        views = make_views(seed=step)
        with torch.no_grad():
            teacher = [method.teacher_head(method.teacher_backbone(view)) for view in views]
            student = [method.head(method.backbone(view)) for view in views]
            assert torch.allclose(method.loss(views)["loss"], theirs(teacher, student), rtol=1e-4)
        method.after_step((step + 1) / 3)
        assert torch.allclose(method.center, theirs.center.flatten(), atol=1e-6)


def test_dino_center_is_the_moving_average_of_the_teachers_outputs():
    """Eq. (4); it moves after the step, so no batch is centred by itself."""
    method = new(DINO, center_momentum=0.7, **SMALL_DINO)
    expected = torch.zeros(9)
    for step in range(3):
        views = make_views(seed=step)
        with torch.no_grad():
            shadow = copy.deepcopy(method)
            outputs = shadow.teacher_head(torch.cat(forward_by_size(shadow.teacher_backbone, views)))
        method.loss(views)
        assert torch.allclose(method.center, expected, atol=1e-6)
        expected = 0.7 * expected + 0.3 * sum(outputs) / len(outputs)
        method.after_step((step + 1) / 3)
        assert torch.allclose(method.center, expected, atol=1e-6)
    method.after_step(1.0)  # without a batch, as when only `sample_loss` was called
    assert torch.allclose(method.center, expected, atol=1e-6)


def test_dino_teacher_temperature_warms_up_linearly():
    settings = {"teacher_temperature": 0.07, "warmup_teacher_temperature": 0.04, **SMALL_DINO}
    method = new(DINO, warmup=0.5, **settings).eval()
    views = make_views()
    for progress, temperature in ((0.0, 0.04), (0.25, 0.055), (0.5, 0.07), (1.0, 0.07)):
        method.after_step(progress)
        expected = dino_by_loops(method, views, temperature)
        assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4), progress
    without = new(DINO, warmup=0.0, **settings).eval()
    assert torch.allclose(without.sample_loss(views).double(), dino_by_loops(without, views, 0.07), rtol=1e-4)


def test_dino_teacher_follows_with_a_momentum_that_rises_to_one():
    method = new(DINO, momentum=0.9, **SMALL_DINO)
    train(method, 2, total_steps=4, lr=1.0)
    for step, momentum in ((2, 0.9 + 0.1 * (1 - math.cos(0.75 * math.pi)) / 2), (3, 1.0)):  # progress 3/4, then 1
        before = copy.deepcopy(method)
        train(method, 1, first_step=step, total_steps=4, lr=1.0)
        for part in ("backbone", "head"):
            teacher, student = getattr(method, f"teacher_{part}"), getattr(method, part)
            old = getattr(before, f"teacher_{part}").parameters()
            for was, now, leader in zip(old, teacher.parameters(), student.parameters(), strict=True):
                assert torch.allclose(now, momentum * was + (1 - momentum) * leader, atol=1e-5)
                assert not now.requires_grad


def test_dino_teacher_sees_global_views_alone():
    method = new(DINO, num_local_views=2, **SMALL_DINO)
    seen = []
    method.teacher_backbone.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    method.loss(add_local_views(make_views()))
    assert seen == [(12, 3, 16, 16)]


# --- Self-Classifier ---


def targets_by_loops(scores, temperature):
    """p(y | x) = p(x | y) p(y) / sum over classes, p(x | y) a softmax over the batch, p(y) uniform."""
    p_x_y = torch.stack([softmax(column / temperature) for column in scores.T], dim=1)
    return torch.stack([row / sum(row) for row in p_x_y])


def log_predictions_by_loops(scores, temperature):
    batch, num_classes = scores.shape
    p_y_x = torch.stack([softmax(row / temperature) for row in scores])
    return torch.stack([torch.log(batch / num_classes * column / sum(column)) for column in p_y_x.T], dim=1)


def test_self_classifier_targets_and_predictions_are_those_of_the_equations():
    scores = unit(vectors(6, 3)) @ unit(vectors(4, 3, seed=1)).T
    assert_same_function(lambda s: class_targets(s, 0.05), lambda s: targets_by_loops(s, 0.05), scores)
    assert_same_function(lambda s: balanced_log_predictions(s, 0.1), lambda s: log_predictions_by_loops(s, 0.1), scores)


def test_self_classifier_takes_the_views_one_by_one():
    scores = vectors(2, 6, 4)
    together = class_targets(scores, 0.5), balanced_log_predictions(scores, 0.5)
    for view in range(2):
        assert torch.allclose(together[0][view], class_targets(scores[view], 0.5))
        assert torch.allclose(together[1][view], balanced_log_predictions(scores[view], 0.5))


def test_self_classifier_loss_is_symmetric_and_trains_both_sides():
    method = new(SelfClassifier, **SMALL_CLASSIFIER)
    views = make_views()
    scores = method.head(method.backbone(torch.cat(views))).double().chunk(2)
    targets = [targets_by_loops(s, 0.05) for s in scores]
    log_predictions = [log_predictions_by_loops(s, 0.1) for s in scores]
    forth, back = (-(targets[g] * log_predictions[v]).sum(1) for g, v in ((0, 1), (1, 0)))
    expected = (forth + back) / 2
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    weight = method.backbone.layers[0].weight
    (ours,), (theirs,) = (torch.autograd.grad(loss, weight) for loss in (method.loss(views)["loss"], expected.mean()))
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-5)


def test_self_classifier_prefers_balanced_classes_to_one_for_all():
    balanced = torch.eye(4).repeat(2, 1)
    collapsed = torch.eye(4)[:1].expand(8, 4)

    def loss(scores):
        return cross_view_entropy(
            class_targets(torch.stack([scores] * 2), 0.05), balanced_log_predictions(torch.stack([scores] * 2), 0.1)
        ).mean()

    assert loss(balanced) < 0.01
    assert loss(collapsed).item() == pytest.approx(math.log(4), abs=1e-4)


# --- all ---


@pytest.mark.parametrize(("method", "settings"), [(SwAV, SMALL_SWAV), (DINO, SMALL_DINO)])
def test_local_views_of_another_size_train(method, settings):
    trained = new(method, num_local_views=2, **settings)
    trained.loss(add_local_views(make_views()))["loss"].backward()
    assert all(parameter.grad.any() for parameter in trained.backbone.parameters())


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        (SwAV, {"temperature": 0.0}, "temperature = 0.0 is not > 0"),
        (SwAV, {"epsilon": -0.05}, "epsilon = -0.05 is not > 0"),
        (SwAV, {"num_iterations": 0}, "num_iterations = 0 is not >= 1"),
        (SwAV, {"queue_size": -1}, "queue_size = -1 is not >= 0"),
        (SwAV, {"num_local_views": -1}, "num_local_views = -1 is not >= 0"),
        (DINO, {"student_temperature": 0.0}, "student_temperature = 0.0 is not > 0"),
        (DINO, {"teacher_temperature": float("nan")}, "teacher_temperature = nan is not > 0"),
        (DINO, {"warmup_teacher_temperature": 0}, "warmup_teacher_temperature = 0 is not > 0"),
        (DINO, {"warmup": 1.1}, r"warmup = 1.1 is not in \[0, 1\]"),
        (DINO, {"center_momentum": -1}, r"center_momentum = -1 is not in \[0, 1\]"),
        (DINO, {"num_prototypes": 0}, "num_prototypes = 0 is not >= 1"),
        (SelfClassifier, {"num_classes": 1}, "num_classes = 1 is not >= 2"),
        (SelfClassifier, {"row_temperature": 0.0}, "row_temperature = 0.0 is not > 0"),
        (SelfClassifier, {"column_temperature": 0.0}, "column_temperature = 0.0 is not > 0"),
        (SelfClassifier, {"depth": 0}, "depth = 0 is not >= 1"),
    ],
)
def test_impossible_values_are_refused(method, setting, message):
    with pytest.raises(ValueError, match=message):
        new(method, **setting)
