"""Momentum encoders, queues and splits step by step; the losses of MoCo v2, BYOL, SimSiam and MoBY."""

import copy
import math

import pytest
import torch
from lightly import loss as lightly_loss
from ssl_training import Encoder, assert_same_function, make_views, new, train, vectors
from torch import nn

from baselines.ssl_methods.byol import BYOL, normalized_distance
from baselines.ssl_methods.key_queue import KeyQueue, info_nce
from baselines.ssl_methods.moby import MoBY
from baselines.ssl_methods.moco_v2 import MoCoV2
from baselines.ssl_methods.momentum import follow, momentum_copy, rising_momentum
from baselines.ssl_methods.simsiam import SimSiam
from baselines.ssl_methods.split_batch import forward_in_splits, forward_shuffled

# --- momentum encoders ---


def test_follow_is_the_moving_average_step_by_step():
    torch.manual_seed(0)
    leader = Encoder()
    network = momentum_copy(leader)
    expected = [parameter.clone().double() for parameter in leader.parameters()]
    for momentum in (0.9, 0.5, 0.0, 1.0, 0.99):
        with torch.no_grad():
            for parameter in leader.parameters():
                parameter.add_(torch.randn(parameter.shape))
        follow(network, leader, momentum)
        for place, parameter in enumerate(leader.parameters()):
            expected[place] = momentum * expected[place] + (1 - momentum) * parameter.detach().double()
        for ours, theirs in zip(network.parameters(), expected, strict=True):
            assert torch.allclose(ours.double(), theirs, rtol=1e-5, atol=1e-6)


def test_a_momentum_copy_starts_equal_and_receives_no_gradient():
    leader = Encoder()
    network = momentum_copy(leader)
    assert all(map(torch.equal, network.parameters(), leader.parameters()))
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.requires_grad for parameter in leader.parameters())


def test_follow_leaves_the_statistics_of_batch_normalisation_alone():
    leader = Encoder()
    network = momentum_copy(leader)
    leader(make_views()[0])
    before = [buffer.clone() for buffer in network.buffers()]
    follow(network, leader, 0.0)
    assert all(map(torch.equal, network.buffers(), before))


def test_rising_momentum_goes_from_start_to_one_along_half_a_cosine():
    assert rising_momentum(0.99, 0.0) == pytest.approx(0.99)
    assert rising_momentum(0.99, 0.5) == pytest.approx(0.995)
    assert rising_momentum(0.99, 1 / 3) == pytest.approx(0.9925)  # cos(pi / 3) = 1 / 2
    assert rising_momentum(0.99, 1.0) == 1.0


# --- the queue ---


@pytest.mark.parametrize(("size", "batches"), [(8, [3, 3, 3, 3]), (5, [5, 5]), (4, [1, 9, 2]), (7, [7, 3, 14, 1])])
def test_the_queue_holds_the_last_keys(size, batches):
    queue = KeyQueue(size, 2)
    start = queue.keys.clone()
    pushed = 0
    expected = [None] * size  # by hand, one key at a time
    for batch in batches:
        keys = torch.arange(pushed, pushed + batch).float()[:, None].expand(-1, 2)
        queue.hold(keys)
        queue.advance()
        for number in range(pushed, pushed + batch):
            expected[number % size] = float(number)
        pushed += batch
        for place, number in enumerate(expected):
            assert torch.equal(queue.keys[place], start[place] if number is None else torch.full((2,), number))
        assert queue.is_full == (pushed >= size)


def test_held_keys_wait_for_advance_and_enter_once():
    queue = KeyQueue(4, 2)
    start = queue.keys.clone()
    queue.hold(torch.ones(2, 2))
    assert torch.equal(queue.keys, start)
    queue.hold(torch.zeros(2, 2))  # instead of the ones
    queue.advance()
    queue.advance()
    assert torch.equal(queue.keys, torch.cat([torch.zeros(2, 2), start[2:]]))
    assert queue.num_pushed == 2


def test_the_queue_starts_with_random_directions():
    assert torch.allclose(KeyQueue(50, 7).keys.norm(dim=1), torch.ones(50))


# --- InfoNCE ---


def info_nce_by_loops(queries, positives, negatives, temperature):
    losses = []
    for query, positive in zip(queries, positives, strict=True):
        over = torch.exp(torch.dot(query, positive) / temperature)
        under = over + sum(torch.exp(torch.dot(query, key) / temperature) for key in negatives)
        losses.append(-torch.log(over / under))
    return torch.stack(losses)


@pytest.mark.parametrize("temperature", [0.07, 0.2, 1.0])
def test_info_nce_is_eq_1(temperature):
    negatives = vectors(11, 4, seed=2, unit=True)
    inputs = vectors(5, 4, unit=True), vectors(5, 4, seed=1, unit=True)
    assert_same_function(
        lambda q, k: info_nce(q, k, negatives, temperature),
        lambda q, k: info_nce_by_loops(q, k, negatives, temperature),
        *inputs,
    )


def test_info_nce_is_that_of_lightly():
    queries, positives = vectors(5, 4, unit=True).float(), vectors(5, 4, seed=1, unit=True).float()
    theirs = lightly_loss.NTXentLoss(temperature=0.2, memory_bank_size=(11, 4))
    theirs(queries, positives)  # fills the first places of its bank
    bank = theirs.memory_bank.bank.clone()  # [Q, D]
    expected = theirs(queries.requires_grad_(), positives)
    assert torch.allclose(info_nce(queries, positives, bank, 0.2).mean(), expected, rtol=1e-5)


def test_info_nce_of_a_case_known_by_hand():
    """A query equal to its key and orthogonal to three negatives."""
    axes = torch.eye(4)
    expected = math.log(math.exp(1 / 0.5) + 3) - 1 / 0.5
    assert info_nce(axes[:1], axes[:1], axes[1:], 0.5).item() == pytest.approx(expected)


def test_info_nce_under_autocast_keeps_single_precision():
    q, k, negatives = (vectors(9, 16, seed=seed, unit=True).float() for seed in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        mixed = info_nce(q, k, negatives, 0.07)
    assert torch.equal(mixed, info_nce(q, k, negatives, 0.07))


# --- batch normalisation in splits ---


def test_splits_are_normalised_apart():
    network = nn.BatchNorm1d(3, affine=False)
    x = vectors(8, 3).float()
    expected = torch.cat([(part - part.mean(0)) / (part.var(0, unbiased=False) + 1e-5).sqrt() for part in x.split(2)])
    assert torch.allclose(forward_in_splits(network, x, 4), expected, atol=1e-5)


def test_splits_update_the_statistics_as_much_as_one_batch_does():
    whole, split = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = vectors(2, 3).float().repeat(4, 1)  # all splits alike
    whole(x[:2])
    forward_in_splits(split, x, 4)
    assert torch.allclose(split.running_mean, whole.running_mean, atol=1e-6)
    assert torch.allclose(split.running_var, whole.running_var, atol=1e-6)
    assert split.momentum == 0.1


@pytest.mark.parametrize(("batch", "sizes"), [(16, [2] * 8), (15, [3] + [2] * 6), (3, [3]), (1, [1])])
def test_no_part_that_is_normalised_apart_is_a_single_image(batch, sizes):
    seen = []
    network = nn.BatchNorm1d(4).eval() if batch == 1 else nn.BatchNorm1d(4)
    network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    assert forward_in_splits(network, torch.randn(batch, 4), 8).shape == (batch, 4)
    assert seen == sizes


def test_splits_change_nothing_in_evaluation_mode_or_without_batch_normalisation():
    x = make_views()[0]
    for network in (Encoder(batch_norm=False), Encoder().eval()):
        assert torch.equal(forward_in_splits(network, x, 3), network(x))


def test_shuffling_comes_back_in_order():
    network, x = Encoder().eval(), make_views()[0]
    assert torch.allclose(forward_shuffled(network, x, 2), network(x), atol=1e-6)


def test_shuffling_normalises_other_parts_than_the_queries():
    torch.manual_seed(0)
    network, x = nn.BatchNorm1d(3, affine=False), vectors(64, 3).float()
    torch.manual_seed(1)
    order = torch.randperm(64)
    torch.manual_seed(1)
    shuffled = forward_shuffled(network, x, 4)
    assert torch.allclose(shuffled[order], forward_in_splits(network, x[order], 4))
    assert not torch.allclose(shuffled, forward_in_splits(network, x, 4), atol=1e-2)


# --- MoCo v2 ---

SMALL_MOCO = {"queue_size": 20, "hidden_dim": 12, "projection_dim": 5}


def unit(z):
    return z / z.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("symmetric", [False, True])
def test_moco_contrasts_queries_with_keys_of_the_momentum_encoder(symmetric):
    method = new(MoCoV2, symmetric=symmetric, bn_splits=1, temperature=0.3, **SMALL_MOCO)
    train(method, 2)
    a, b = make_views(seed=9)

    def reference(first, second):
        query = unit(method.projector(method.backbone(first)).double())
        key = unit(method.key_encoder(second).double())
        return info_nce_by_loops(query, key, method.queue.keys.double(), 0.3)

    expected = (reference(a, b) + reference(b, a)) / 2 if symmetric else reference(a, b)
    assert torch.allclose(method.sample_loss([a, b]).double(), expected, rtol=1e-4)
    assert method.loss([a, b])["loss"].item() == pytest.approx(expected.mean().item(), rel=1e-4)


@pytest.mark.parametrize("symmetric", [False, True])
def test_moco_queue_never_holds_the_keys_it_contrasts_with(symmetric):
    method = new(MoCoV2, symmetric=symmetric, bn_splits=1, **SMALL_MOCO)
    for step in range(4):
        views = make_views(seed=step)
        before = method.queue.keys.clone()
        with torch.no_grad():
            keys = [unit(method.key_encoder(view)) for view in reversed(views)][: 2 if symmetric else 1]
        method.loss(views)["loss"].backward()
        assert torch.equal(method.queue.keys, before)
        assert (before @ torch.cat(keys).T).max() < 0.99999
        method.after_step((step + 1) / 4)
        newest = (torch.arange(len(torch.cat(keys))) + step * len(torch.cat(keys))) % 20
        assert torch.allclose(method.queue.keys[newest], torch.cat(keys), atol=1e-5)


def test_moco_sample_loss_enqueues_nothing():
    method = new(MoCoV2, **SMALL_MOCO)
    before = method.queue.keys.clone()
    method.sample_loss(make_views())
    method.after_step(0.5)
    assert torch.equal(method.queue.keys, before)


def test_moco_key_encoder_moves_by_its_momentum_and_gets_no_gradient():
    method = new(MoCoV2, momentum=0.9, **SMALL_MOCO)
    before = copy.deepcopy(method.key_encoder)
    train(method, 1, lr=1.0)
    online = [*method.backbone.parameters(), *method.projector.parameters()]
    for old, now, leader in zip(before.parameters(), method.key_encoder.parameters(), online, strict=True):
        assert torch.allclose(now, 0.9 * old + 0.1 * leader, atol=1e-6)
        assert now.grad is None


def test_moco_keys_do_not_train_the_encoder():
    """With the queries' branch cut as well, nothing is left to differentiate."""
    method = new(MoCoV2, **SMALL_MOCO)
    for parameter in [*method.backbone.parameters(), *method.projector.parameters()]:
        parameter.requires_grad_(False)
    assert not method.loss(make_views())["loss"].requires_grad


def test_moco_learns_once_its_queue_is_full():
    """Before that its loss grows, as keys replace the random directions in the queue."""
    method = new(MoCoV2, momentum=0.9, queue_size=64, hidden_dim=64, projection_dim=16, bn_splits=1)
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-3)
    losses = []
    for step in range(40):
        loss = method.loss(make_views(batch=32, seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        method.after_step((step + 1) / 40)
        losses.append(loss.item())
    assert sum(losses[-5:]) < sum(losses[5:10]) / 2


def test_moco_splits_apply_to_the_encoder():
    one, two = (new(MoCoV2, bn_splits=splits, **SMALL_MOCO) for splits in (1, 2))
    assert one.loss(make_views())["loss"] != two.loss(make_views())["loss"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"temperature": 0.0}, "temperature = 0.0 is not > 0"),
        ({"momentum": 1.5}, r"momentum = 1.5 is not in \[0, 1\]"),
        ({"queue_size": 0}, "queue_size = 0 is not >= 1"),
        ({"bn_splits": 0}, "bn_splits = 0 is not >= 1"),
        ({"projection_dim": -1}, "projection_dim = -1 is not >= 1"),
        ({"hidden_dim": 0}, "hidden_dim = 0 is not >= 1"),
    ],
)
def test_moco_refuses_impossible_values(setting, message):
    with pytest.raises(ValueError, match=message):
        new(MoCoV2, **setting)


# --- BYOL and SimSiam ---

SMALL_BYOL = {"hidden_dim": 12, "projection_dim": 5}
SMALL_SIMSIAM = {"hidden_dim": 6, "projection_dim": 12}


def cosines_by_loops(a, b):
    return torch.stack([torch.dot(u, v) / (u.norm() * v.norm()) for u, v in zip(a, b, strict=True)])


def distance_by_loops(predictions, targets):
    """Eq. (2) of BYOL before it is simplified: || p / |p| - t / |t| ||^2."""
    pairs = zip(predictions, targets, strict=True)
    return torch.stack([((p / p.norm() - t / t.norm()) ** 2).sum() for p, t in pairs])


def test_normalized_distance_is_eq_2():
    assert_same_function(normalized_distance, distance_by_loops, vectors(5, 4), vectors(5, 4, seed=1))


def test_normalized_distance_of_cases_known_by_hand():
    targets = torch.tensor([[3.0, 0.0]]).expand(3, 2)
    predictions = torch.tensor([[1.0, 0.0], [0.0, 5.0], [-2.0, 0.0]])
    assert torch.allclose(normalized_distance(predictions, targets), torch.tensor([0.0, 2.0, 4.0]))


def test_byol_predicts_the_target_of_the_other_view():
    method = new(BYOL, **SMALL_BYOL)
    train(method, 2)
    views = make_views(seed=9)
    online = [method.predictor(method.projector(method.backbone(view))).double() for view in views]
    target = [method.target(view).double() for view in views]
    expected = distance_by_loops(online[0], target[1]) + distance_by_loops(online[1], target[0])
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    assert method.loss(views)["loss"].item() == pytest.approx(expected.mean().item(), rel=1e-4)


def test_simsiam_is_eq_4():
    method = new(SimSiam, **SMALL_SIMSIAM)
    views = make_views()
    z = [method.projector(method.backbone(view)) for view in views]
    p = [method.predictor(projection).double() for projection in z]
    z = [projection.detach().double() for projection in z]
    expected = -(cosines_by_loops(p[0], z[1]) + cosines_by_loops(p[1], z[0])) / 2
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    weight = method.backbone.layers[0].weight
    (ours,), (theirs,) = (torch.autograd.grad(loss, weight) for loss in (method.loss(views)["loss"], expected.mean()))
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_simsiam_is_that_of_lightly():
    loss = lightly_loss.NegativeCosineSimilarity()
    method = new(SimSiam, **SMALL_SIMSIAM)
    views = make_views()
    z = [method.projector(method.backbone(view)) for view in views]
    p = [method.predictor(projection) for projection in z]
    expected = (loss(p[0], z[1].detach()) + loss(p[1], z[0].detach())) / 2
    assert torch.allclose(method.loss(views)["loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_simsiam_projector_is_normalised_and_as_deep_as_asked(depth):
    projector = new(SimSiam, depth=depth, **SMALL_SIMSIAM).projector
    assert sum(isinstance(layer, nn.Linear) for layer in projector) == depth
    assert isinstance(projector[-1], nn.BatchNorm1d)
    assert list(projector[-1].parameters()) == []


# --- MoBY ---

SMALL_MOBY = {"queue_size": 20, "hidden_dim": 12, "projection_dim": 5}


def test_moby_contrasts_predictions_with_the_other_views_keys_and_queue():
    method = new(MoBY, temperature=0.3, **SMALL_MOBY)
    train(method, 2)
    views = make_views(seed=9)
    query = [unit(method.predictor(method.projector(method.backbone(view))).double()) for view in views]
    key = [unit(method.key_encoder(view).double()) for view in views]
    queue = [queue.keys.double() for queue in method.queues]
    expected = info_nce_by_loops(query[0], key[1], queue[1], 0.3) + info_nce_by_loops(query[1], key[0], queue[0], 0.3)
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    assert method.loss(views)["loss"].item() == pytest.approx(expected.mean().item(), rel=1e-4)


@pytest.mark.parametrize("left_out", ["projector", "predictor"])
def test_moby_without_one_of_its_heads(left_out):
    method = new(MoBY, temperature=0.3, **SMALL_MOBY, **{f"with_{left_out}": False})
    train(method, 2)
    views = make_views(seed=9)
    features = [method.backbone(view) for view in views]
    head = method.predictor if left_out == "projector" else method.projector
    query = [unit(head(one).double()) for one in features]
    key = [unit(method.key_encoder(view).double()) for view in views]
    assert key[0].shape == query[0].shape
    queue = [queue.keys.double() for queue in method.queues]
    expected = info_nce_by_loops(query[0], key[1], queue[1], 0.3) + info_nce_by_loops(query[1], key[0], queue[0], 0.3)
    assert torch.allclose(method.sample_loss(views).double(), expected, rtol=1e-4)
    assert (query[0].shape[1] == method.backbone.feature_dim) == (left_out == "projector")


def test_moby_queues_hold_the_keys_of_their_view_after_the_step():
    method = new(MoBY, **SMALL_MOBY)
    for step in range(4):
        views = make_views(seed=step)
        before = [queue.keys.clone() for queue in method.queues]
        with torch.no_grad():
            keys = [unit(method.key_encoder(view)) for view in views]
        method.loss(views)["loss"].backward()
        assert all(torch.equal(queue.keys, old) for queue, old in zip(method.queues, before, strict=True))
        method.after_step((step + 1) / 4)
        newest = (torch.arange(6) + step * 6) % 20
        for queue, new_keys in zip(method.queues, keys, strict=True):
            assert torch.allclose(queue.keys[newest], new_keys, atol=1e-5)


def test_moby_of_depth_1_has_the_linear_heads_of_mobyv2al():
    method = new(MoBY, depth=1, projection_dim=7)
    assert [layer.weight.shape for layer in method.projector] == [(7, 32)]
    assert [layer.weight.shape for layer in method.predictor] == [(7, 7)]


# --- what these methods share ---

ASYMMETRIC = {
    BYOL: (SMALL_BYOL, "target"),
    MoBY: (SMALL_MOBY, "key_encoder"),
}


@pytest.mark.parametrize("method", ASYMMETRIC)
def test_the_momentum_rises_with_the_training(method):
    settings, target = ASYMMETRIC[method]
    trained = new(method, momentum=0.9, **settings)
    train(trained, 2, total_steps=4, lr=1.0)
    for step, momentum in ((2, 0.9 + 0.1 * (1 - math.cos(0.75 * math.pi)) / 2), (3, 1.0)):  # progress 3/4, then 1
        before = copy.deepcopy(getattr(trained, target))
        train(trained, 1, first_step=step, total_steps=4, lr=1.0)
        online = [*trained.backbone.parameters(), *trained.projector.parameters()]
        now = getattr(trained, target).parameters()
        for old, moved, leader in zip(before.parameters(), now, online, strict=True):
            assert torch.allclose(moved, momentum * old + (1 - momentum) * leader, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "settings", "online"),
    [(BYOL, SMALL_BYOL, "predictor"), (MoBY, SMALL_MOBY, "predictor"), (SimSiam, SMALL_SIMSIAM, "predictor")],
)
def test_no_gradient_flows_through_targets(method, settings, online):
    """With the online branch cut at the predictor's output, nothing is left to differentiate."""
    method = new(method, **settings)
    getattr(method, online).register_forward_hook(lambda module, inputs, output: output.detach())
    assert not method.loss(make_views())["loss"].requires_grad


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        (BYOL, {"momentum": -0.1}, r"momentum = -0.1 is not in \[0, 1\]"),
        (BYOL, {"hidden_dim": 0}, "hidden_dim = 0 is not >= 1"),
        (BYOL, {"projection_dim": 0}, "projection_dim = 0 is not >= 1"),
        (SimSiam, {"projection_dim": 0}, "projection_dim = 0 is not >= 1"),
        (SimSiam, {"hidden_dim": 0}, "hidden_dim = 0 is not >= 1"),
        (SimSiam, {"depth": 0}, "depth = 0 is not >= 1"),
        (MoBY, {"temperature": float("nan")}, "temperature = nan is not > 0"),
        (MoBY, {"momentum": 2}, r"momentum = 2 is not in \[0, 1\]"),
        (MoBY, {"queue_size": 0}, "queue_size = 0 is not >= 1"),
        (MoBY, {"depth": 0}, "depth = 0 is not >= 1"),
    ],
)
def test_impossible_values_are_refused(method, setting, message):
    with pytest.raises(ValueError, match=message):
        new(method, **setting)
