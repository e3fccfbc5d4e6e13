"""Selectors that train something of their own: VAAL, TA-VAAL, Learning Loss and CDAL-RL."""

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from pools import make_pool, rng, valid

from baselines.selectors.cdal_rl import CDALRL, Policy, Reward, chances, expected_loss
from baselines.selectors.learning_loss import LearningLoss
from baselines.selectors.loss_prediction import pooled
from baselines.selectors.ta_vaal import TAVAAL
from baselines.selectors.vaal import VAAL, VAE, make_discriminator


def pool_of_two_kinds(n=48, size=8, labeled=range(0, 16)):
    """Dark and bright images; the labelled ones are dark."""
    images = torch.randint(40, (n, 3, size, size), generator=rng())
    images[n // 2 :] += 200
    return make_pool(images=images.to(torch.uint8), labeled=labeled)


# --- vaal ---


@pytest.mark.parametrize(("shape", "size"), [((1, 28, 28), 32), ((3, 8, 8), 16), ((3, 32, 32), 32), ((3, 96, 40), 32)])
def test_vae_reads_any_image_size(shape, size):
    images = torch.randint(256, (6, *shape), generator=rng()).to(torch.uint8)
    pool = make_pool(images=images, labeled=[0])
    picks = VAAL(epochs=0.1, batch_size=2, width=2).select(pool, 5, rng=rng())
    assert valid(picks, pool, 5)
    vae = VAE(shape[0], size, latent_dim=3, width=2)
    mean, log_variance = vae.encode(torch.rand(4, shape[0], size, size))
    assert mean.shape == log_variance.shape == (4, 3)
    assert vae.decode(mean).shape == (4, shape[0], size, size)


def test_networks_have_the_published_widths():
    vae = VAE(3, 32, latent_dim=32, width=128)
    down = [tuple(m.weight.shape) for m in vae.down if isinstance(m, torch.nn.Conv2d)]
    assert down == [(128, 3, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1024, 512, 4, 4)]
    assert (vae.moments.in_features, vae.spread.out_features) == (1024 * 2 * 2, 1024 * 4 * 4)
    up = [(*m.weight.shape, m.stride[0]) for m in vae.up if isinstance(m, torch.nn.ConvTranspose2d)]
    assert up == [(1024, 512, 4, 4, 2), (512, 256, 4, 4, 2), (256, 128, 4, 4, 2), (128, 3, 1, 1, 1)]
    assert [layer.out_features for layer in make_discriminator(32) if isinstance(layer, torch.nn.Linear)] == [
        512,
        512,
        1,
    ]


def test_networks_start_as_published():
    torch.manual_seed(0)
    vae, discriminator = VAE(3, 32, latent_dim=32, width=32), make_discriminator(32)
    for layer, fan_in in ((vae.down[3], 32 * 16), (vae.spread, 32), (discriminator[2], 512)):
        assert float(layer.weight.detach().std()) == pytest.approx((2 / fan_in) ** 0.5, rel=0.05)
    assert not vae.spread.bias.any()
    assert not discriminator[2].bias.any()
    assert float(vae.moments.weight.detach().abs().max()) <= vae.moments.in_features**-0.5  # as torch starts it


def test_vaal_picks_what_looks_unlike_the_labelled_images():
    pool = pool_of_two_kinds()
    picks = VAAL(epochs=40, batch_size=16, width=4, latent_dim=4, adversary_weight=0.0).select(pool, 16, rng=rng())
    assert (picks >= 24).all()


def test_vae_loss_is_that_of_an_image_plus_the_adversary():
    images, selector = torch.rand(5, 3, 16, 16, generator=rng()), VAAL(width=2, beta=0.5, adversary_weight=2.0)
    vae, discriminator = VAE(3, 16, 32, 2).eval(), make_discriminator(32).eval()
    with torch.no_grad():
        torch.manual_seed(0)
        loss = selector._vae_loss(vae, discriminator, images, torch.empty(5, 0))
        torch.manual_seed(0)
        mean, log_variance = vae.encode(images)
        prior, code = torch.distributions.Normal(0, 1), torch.distributions.Normal(mean, (log_variance / 2).exp())
        rebuilt = vae.decode(mean + torch.randn_like(mean) * code.scale)
        divergence = torch.distributions.kl_divergence(code, prior).sum(1)
        adversary = -discriminator(mean).sigmoid().log().squeeze(1)
        each = ((rebuilt - images) ** 2).flatten(1).sum(1) + 0.5 * divergence + 2.0 * adversary
        expected = each.mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_pixels_are_scaled_as_published():
    seen = []

    class Watched(VAAL):
        def _vae_loss(self, vae, discriminator, images, conditions):
            seen.append(images)
            return super()._vae_loss(vae, discriminator, images, conditions)

    images = torch.tensor([0, 51, 255]).to(torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16)
    Watched(epochs=1, batch_size=2, width=2).select(make_pool(images=images, labeled=[0]), 1, rng=rng())
    values = torch.cat(seen).unique()
    torch.testing.assert_close(values, torch.tensor([-1.0, -0.6, 1.0]), atol=1e-6, rtol=0)


def test_vaal_is_deterministic_and_leaves_the_global_generator_alone():
    pool, selector = pool_of_two_kinds(), VAAL(epochs=2, batch_size=8, width=2)
    torch.manual_seed(1)
    first = selector.select(pool, 10, rng=rng(2))
    state = torch.get_rng_state()
    torch.manual_seed(7)
    assert torch.equal(first, selector.select(pool, 10, rng=rng(2)))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


# --- learning_loss, ta_vaal ---

SHAPES = [(4, 8, 8), (6, 12), (16,)]


def stages_of(batch, seed=0, shapes=SHAPES):
    g = rng(seed)
    return [torch.randn(batch, *shape, generator=g).requires_grad_() for shape in shapes]


def companion_of(selector, shapes=SHAPES):
    torch.manual_seed(0)
    return selector.companion(shapes)


def slow_hinge(p, q, higher):
    return max(0.0, -(1 if higher else -1) * (p - q) + 0.7)


def slow_cross_entropy(p, q, higher):
    probability = 1 / (1 + math.exp(-(p - q)))
    return -math.log(probability if higher else 1 - probability)


@pytest.mark.parametrize("batch", [6, 7, 2, 1])
@pytest.mark.parametrize(
    ("selector", "pair"),
    [(LearningLoss(margin=0.7, weight=2.0), slow_hinge), (TAVAAL(weight=2.0), slow_cross_entropy)],
    ids=["learning_loss", "ta_vaal"],
)
def test_loss_of_pairs_equals_its_equation(selector, pair, batch):
    companion, stages = companion_of(selector), stages_of(batch)
    task_losses = torch.randint(3, (batch,), generator=rng(1)).float()  # some of them equal
    with torch.no_grad():
        predicted = (3 * companion(stages)).tolist()
        companion.score.weight *= 3
        companion.score.bias *= 3
    pairs = [(i, batch - 1 - i) for i in range(batch // 2)]
    each = [pair(predicted[i], predicted[j], bool(task_losses[i] > task_losses[j])) for i, j in pairs]
    expected = 2.0 * sum(each) / max(len(pairs), 1)
    assert float(companion.loss(stages, task_losses, 0.0).detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("selector", [LearningLoss(), TAVAAL()], ids=["learning_loss", "ta_vaal"])
def test_the_gradient_of_the_module_stops_at_the_backbone_after_its_share(selector):
    for progress, flows in ((0.0, True), (119.99 / 200, True), (120 / 200, False), (0.9, False)):
        companion, stages = companion_of(selector), stages_of(8)
        companion.loss(stages, torch.arange(8.0), progress).backward()
        assert all((stage.grad is not None) == flows for stage in stages)
        assert companion.score.weight.grad.any()


def test_the_module_is_the_papers():
    companion = companion_of(LearningLoss(), [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)])
    assert [(layer.in_features, layer.out_features) for layer in companion.branches] == [
        (64, 128),
        (128, 128),
        (256, 128),
        (512, 128),
    ]
    assert (companion.score.in_features, companion.score.out_features) == (512, 1)
    stage = torch.randn(2, 3, 4, 5, generator=rng())
    torch.testing.assert_close(pooled(stage), stage.flatten(2).mean(2))
    torch.testing.assert_close(pooled(stage[:, 0]), torch.stack([stage[:, 0, i] for i in range(4)]).mean(0))
    assert torch.equal(pooled(stage[:, 0, 0]), stage[:, 0, 0])


@pytest.mark.parametrize("selector", [LearningLoss(hidden_dim=16), TAVAAL(hidden_dim=16)], ids=["hinge", "entropy"])
def test_the_module_learns_to_rank_losses(selector):
    shapes = [(4, 3, 3), (8,)]
    companion = companion_of(selector, shapes)
    optimizer = torch.optim.Adam(companion.parameters(), 0.01)

    def losses_of(stages):  # of any scale: only the order of a pair is learnt
        return (3 * stages[0].mean((1, 2, 3)) + stages[1][:, 0]).exp()

    def ranked_right():
        stages = [stage.detach() for stage in stages_of(100, 999, shapes)]
        truth, found = losses_of(stages), companion(stages).detach()
        upper = torch.triu_indices(100, 100, 1)
        return float(((truth[upper[0]] > truth[upper[1]]) == (found[upper[0]] > found[upper[1]])).float().mean())

    assert ranked_right() < 0.7
    for step in range(200):
        stages = [stage.detach() for stage in stages_of(32, step, shapes)]
        loss = companion.loss(stages, losses_of(stages), 0.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert ranked_right() > 0.9


def test_learning_loss_picks_the_highest_predictions():
    pool = make_pool(companion_outputs=torch.tensor([0.5, 3.0, 0.1, 2.0, 9.0]), labeled=[4])
    assert LearningLoss().select(pool, 2, rng=rng()).tolist() == [1, 3]


def test_ta_vaal_gives_the_rank_to_decoder_and_discriminator():
    predicted = torch.tensor([-2.0, 0.0, 3.0, 1.0])
    images = torch.randint(256, (4, 3, 16, 16), generator=rng()).to(torch.uint8)
    pool, selector = make_pool(images=images, companion_outputs=predicted, labeled=[0]), TAVAAL(width=2, beta=0.5)
    conditions = selector._conditions(pool)
    torch.testing.assert_close(conditions, (1 / (1 + (-predicted).exp()))[:, None])
    vae, discriminator = VAE(3, 16, 32, 2, num_conditions=1).eval(), make_discriminator(33).eval()
    with torch.no_grad():
        torch.manual_seed(0)
        loss = selector._vae_loss(vae, discriminator, images / 255, conditions)
        torch.manual_seed(0)
        mean, log_variance = vae.encode(images / 255)
        latent = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        rebuilt = vae.decode(torch.cat([latent, conditions], 1))
        prior, code = torch.distributions.Normal(0, 1), torch.distributions.Normal(mean, (log_variance / 2).exp())
        divergence = torch.distributions.kl_divergence(code, prior).mean()
        adversary = -discriminator(torch.cat([mean, conditions], 1)).sigmoid().log().mean()
        expected = ((rebuilt - images / 255) ** 2).mean() + 0.5 * divergence + adversary
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_ta_vaal_tells_apart_by_the_rank_what_images_do_not():
    """Labelled and unlabelled images look alike; the labelled ones have low predicted losses."""
    images = torch.randint(256, (48, 3, 8, 8), generator=rng()).to(torch.uint8)
    predicted = torch.where(torch.arange(48) < 24, -3.0, 3.0)
    pool = make_pool(images=images, companion_outputs=predicted, labeled=range(16))
    small = {"epochs": 20, "batch_size": 16, "width": 2, "latent_dim": 4, "adversary_weight": 0.0}
    assert (TAVAAL(**small).select(pool, 16, rng=rng()) >= 24).all()


def test_ta_vaal_is_deterministic_and_leaves_the_global_generator_alone():
    predicted = torch.randn(48, generator=rng(3))
    images = torch.randint(256, (48, 3, 8, 8), generator=rng()).to(torch.uint8)
    pool, selector = (
        make_pool(images=images, companion_outputs=predicted, labeled=range(9)),
        TAVAAL(epochs=2, batch_size=8, width=2),
    )
    torch.manual_seed(1)
    first = selector.select(pool, 10, rng=rng(2))
    state = torch.get_rng_state()
    torch.manual_seed(7)
    assert torch.equal(first, selector.select(pool, 10, rng=rng(2)))
    torch.manual_seed(1)
    assert torch.equal(state, torch.get_rng_state())


# --- cdal_rl ---


def slow_reward(logits, picks):
    if len(picks) == 0:
        return 0.0
    p = logits.double().softmax(1).numpy()
    a = p[list(picks)]
    kl = (a[:, None] * np.log(a[:, None] / a[None])).sum(2)
    squared = ((p[:, None] - p[None]) ** 2).sum(2)
    representativeness = np.exp(-squared[:, list(picks)].min(1).mean() / squared.mean())
    return 0.5 * representativeness + 1.5 * ((kl + kl.T) / 2).mean()


@pytest.mark.parametrize("picks", [(), (5,), (3, 7), (3, 7, 21, 30, 31)])
def test_reward_and_gains_equal_their_definition(picks, monkeypatch):
    monkeypatch.setattr("baselines.selectors.cdal_rl.COMPARED_AT_ONCE", 7)
    logits = 2 * torch.randn(40, 4, generator=rng())
    reward, chosen = Reward(logits), torch.tensor(picks, dtype=torch.int64)
    assert reward(chosen) == pytest.approx(slow_reward(logits, picks), rel=1e-5)
    gains = [slow_reward(logits, {*picks, i}) - slow_reward(logits, {*picks} - {i}) for i in range(40)]
    np.testing.assert_allclose(reward.gains(chosen), gains, rtol=1e-3, atol=1e-5)


def test_representativeness_tells_picks_of_one_place_from_others():
    logits = 3 * torch.eye(4)[torch.arange(40) % 4] + 0.01 * torch.randn(40, 4, generator=rng())
    reward = Reward(logits)
    one_place, everywhere = torch.arange(0, 16, 4), torch.arange(4)
    kl = [
        np.mean([[float(reward.divergence.direct(i[None], j[None])) for i in part] for j in part])
        for part in (one_place, everywhere)
    ]
    alone = [reward(part) - 1.5 * diversity for part, diversity in zip((one_place, everywhere), kl, strict=True)]
    assert alone[0] < 0.25
    assert alone[1] > 0.45


def test_chances_add_up_to_the_number_of_picks():
    score = 4 * torch.randn(50, generator=rng())
    for count in (1, 7, 49):
        chance = chances(score, count)
        assert float(chance.probs.sum()) == pytest.approx(count, rel=1e-4)
        torch.testing.assert_close(chance.logits.diff(), score.diff(), atol=1e-4, rtol=0)


def test_the_gradient_is_that_of_the_expected_reward():
    logits = 2 * torch.randn(5, 3, generator=rng())
    subsets = [torch.tensor(c, dtype=torch.int64) for n in range(6) for c in combinations(range(5), n)]
    every = torch.stack([torch.zeros(5).index_fill(0, picks, 1.0) for picks in subsets])
    rewards = torch.tensor([slow_reward(logits, picks.tolist()) for picks in subsets]).float()

    def expected(score):
        return float(chances(score, 2).log_prob(every).sum(1).exp() @ rewards)

    score, reward = torch.tensor([-1.0, 0.5, 0.2, -0.3, 1.0], requires_grad=True), Reward(logits)
    mean = torch.zeros(5)
    for actions in every:
        chance = chances(score, 2)
        (gradient,) = torch.autograd.grad(expected_loss(chance, reward, actions), score)
        mean -= chance.log_prob(actions).sum().exp().detach() * gradient
    step = 0.05 * torch.eye(5)
    slopes = [(expected(score.detach() + part) - expected(score.detach() - part)) / 0.1 for part in step]
    np.testing.assert_allclose(mean, slopes, atol=2e-3)
    assert max(map(abs, slopes)) > 0.05


def test_policy_gives_every_image_its_own_logit_whatever_the_sequence_length():
    p = torch.rand(23, 4, generator=rng())
    policy = Policy(4, 8)
    for length in (1, 5, 23, 100):
        assert policy(p, length).shape == (23,)
    one_by_one = torch.cat([policy(row[None], 1) for row in p])
    torch.testing.assert_close(policy(p, 1), one_by_one)


def test_cdal_rl_picks_beat_random_ones_and_agree_between_seeds():
    g = rng()
    middle = 2 * torch.randn(12, 6, generator=g)
    logits = middle[torch.arange(400) % 12] + torch.randn(400, 6, generator=g)
    pool, reward = make_pool(logits=logits), Reward(logits)
    picks = [CDALRL(hidden_dim=32, lr=0.03).select(pool, 40, rng=rng(seed)) for seed in range(2)]
    drawn = [reward(torch.randperm(400, generator=g)[:40]) for _ in range(200)]
    assert min(map(reward, picks)) > max(drawn)
    overlaps = [len(set(a.tolist()) & set(b.tolist())) / 40 for a, b in combinations(picks, 2)]
    assert min(overlaps) > 0.25  # by chance 0.1, and 0.25 in one of 1,000 draws


def test_of_a_large_pool_an_epoch_sees_a_part_and_all_may_be_picked(monkeypatch):
    monkeypatch.setattr("baselines.selectors.cdal_rl.SEEN", 50)
    logits = torch.randn(300, 4, generator=rng())
    logits[290:] *= 6
    picks = CDALRL(hidden_dim=16, lr=0.03).select(make_pool(logits=logits), 10, rng=rng())
    assert Reward(logits)(picks) > 2 * Reward(logits)(torch.arange(10))
    assert (picks >= 290).sum() >= 5  # by chance 0.3


@pytest.mark.parametrize(
    ("selector", "wrong"),
    [
        (VAAL, {"epochs": 0}),
        (VAAL, {"batch_size": 1}),
        (VAAL, {"lr": 0.0}),
        (VAAL, {"image_size": 28}),
        (VAAL, {"width": 0}),
        (TAVAAL, {"epochs": 0}),
        (TAVAAL, {"hidden_dim": 0}),
        (LearningLoss, {"hidden_dim": 0}),
        (LearningLoss, {"margin": 0.0}),
        (LearningLoss, {"weight": -1.0}),
        (LearningLoss, {"gradient_share": 1.5}),
        (CDALRL, {"epochs": 0}),
        (CDALRL, {"lr": -1.0}),
        (CDALRL, {"sequence_length": 0}),
    ],
    ids=str,
)
def test_impossible_hyperparameters_are_refused(selector, wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        selector(**wrong)
