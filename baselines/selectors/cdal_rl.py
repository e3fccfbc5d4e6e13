"""Selection by a policy that is rewarded for diverse and representative picks."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli

from baselines.selectors.cdal_cs import SymmetricKL
from baselines.selectors.finite import require_finite
from harness.api import Pool, Selector
from harness.seeding import seeded

SEEN = 5000
"""Images that an epoch sees at most, drawn anew for each, and that are scored at once."""
FEWEST = 20
"""Picks that are rewarded at least, where an epoch sees a part of the images, if so many are wanted of all."""
COMPARED_AT_ONCE = 1024
"""Images whose distances to others are computed at once."""


class CDALRL(Selector):
    """CDAL-RL, Agarwal et al. 2020, https://arxiv.org/abs/2008.05723.

    A bidirectional LSTM reads the softmax vectors of the unlabelled images and gives each a probability of being
    picked; reinforcement rewards samples from it with 0.5 representativeness + 1.5 contextual diversity. Returned are
    the `budget` most probable images by the policy of the epoch whose most probable images had the highest reward.
    Follows the released code (github.com/sharat29ag/CDAL) in the network, Adam and the reward's weights; of the paper
    only the beginning was at hand. Deviates, since the code as it is picks at random:

    - There the reward is that of the most probable images whatever was sampled, so that it says nothing about the
      sample; here it is the sample's. And each image learns from its own part of it: what the reward would be with it
      less what it would be without it, the others as they were drawn. That has REINFORCE's mean without the noise
      (Titsias & Lazaro-Gredilla 2015, Local expectation gradients), which buries what so few steps can learn.
    - There half of the images are sampled, to learn which few to pick, and a penalty holds the mean probability near
      one half; here the probabilities add up to the number of picks.
    - Representativeness is exp(-d / 50) there, of softmax vectors whose squared distance d is at most 2, which never
      differs by more than 4 %; before someone wrote the 50 it was exp(-d), of features. Here d is divided by the mean
      squared distance of two images.
    - Images have no order as video frames have: each epoch shuffles those that it sees, 5,000 at most, into sequences
      of `sequence_length`, which also keeps the LSTM from running over 50,000 steps.

    Args:
        epochs: steps of the policy, >= 1; the code takes 10, and 60 in its help text.
        hidden_dim: of the LSTM, >= 1.
        lr: of Adam, > 0.
        sequence_length: >= 1.
    """

    needs = frozenset({"probabilities"})

    def __init__(
        self,
        *,
        epochs: int = 60,
        hidden_dim: int = 256,
        lr: float = 1e-2,
        sequence_length: int = 500,
    ):
        for name, value in (("epochs", epochs), ("hidden_dim", hidden_dim), ("sequence_length", sequence_length)):
            if value < 1:
                raise ValueError(f"{name} = {value} is not >= 1")
        if lr <= 0:
            raise ValueError(f"lr = {lr} is not > 0")
        self.epochs = epochs
        self.hidden_dim = hidden_dim
        self.lr = lr
        self.sequence_length = sequence_length

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logits = require_finite(pool.logits, "logits")[pool.unlabeled]
        p = logits.double().softmax(dim=1).float()
        with seeded(int(torch.randint(2**31 - 1, (), generator=rng)), "cdal_rl"):
            policy = Policy(p.shape[1], self.hidden_dim)
            self._train(policy, logits, budget, rng)
        order = torch.randperm(len(p), generator=rng)
        with torch.no_grad():
            score = torch.cat([policy(p[part], self.sequence_length) for part in order.split(SEEN)])
        return pool.unlabeled[order[score.argsort(descending=True, stable=True)[:budget]]]

    def _train(self, policy: Policy, logits: Tensor, budget: int, rng: torch.Generator) -> None:
        """Makes it the best of its epochs, for picking `budget` of the images f32 [U, K]."""
        optimizer = torch.optim.Adam(policy.parameters(), lr=self.lr, weight_decay=1e-5)
        highest, best = -math.inf, policy.state_dict()
        for _ in range(self.epochs):
            reward = Reward(logits[torch.randperm(len(logits), generator=rng)[:SEEN]])
            score = policy(reward.p, self.sequence_length)
            count = max(round(budget * len(score) / len(logits)), min(budget, FEWEST, len(score)))
            value = reward(score.detach().argsort(descending=True, stable=True)[:count])
            if value > highest:
                highest, best = value, copy.deepcopy(policy.state_dict())
            chance = chances(score, count)
            loss = expected_loss(chance, reward, chance.sample())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        policy.load_state_dict(best)


class Policy(nn.Module):
    """A bidirectional LSTM over softmax vectors and two linear layers.

    Args:
        num_classes: K.
        hidden_dim: h.
    """

    def __init__(self, num_classes: int, hidden_dim: int):
        super().__init__()
        self.lstm = nn.LSTM(num_classes, hidden_dim, bidirectional=True, batch_first=True)
        self.head = nn.Sequential(nn.Linear(2 * hidden_dim, 2 * hidden_dim), nn.Linear(2 * hidden_dim, 1))

    def forward(self, p: Tensor, sequence_length: int) -> Tensor:
        """f32 [U], logits of being picked up to a constant, of f32 [U, K]; the last sequence is padded with others."""
        length = min(sequence_length, len(p))
        padded = torch.cat([p, p[: -len(p) % length]]).reshape(-1, length, p.shape[1])
        return self.head(self.lstm(padded)[0]).flatten()[: len(p)]


def chances(score: Tensor, count: int) -> Bernoulli:
    """Of each image to be picked: logits f32 [U] shifted so that the probabilities add up to `count`, 1 .. U.

    The shift counts as a constant in gradients; `expected_loss` allows for it.
    """
    logits = score.detach().double()
    low, high = -logits.max() - 50, -logits.min() + 50
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if float((logits + middle).sigmoid().sum()) < count else (low, middle)
    return Bernoulli(logits=score + low.float())


def expected_loss(chance: Bernoulli, reward: Reward, actions: Tensor) -> Tensor:
    """f32 []: its gradient is that of the expected negative reward, of each image's score given the others' actions.

    Args:
        chance: `chances`; one more in one place is one less in others.
        reward: of picks among the images.
        actions: f32 [U], 0 or 1, drawn from `chance`.
    """
    gains = reward.gains(actions.nonzero().squeeze(1))
    slope = (chance.probs * (1 - chance.probs)).detach()
    return -(chance.probs * (gains - (slope * gains).sum() / slope.sum().clamp(min=1e-12))).sum()


class Reward:
    """0.5 representativeness + 1.5 diversity of picks among images; 0 for none.

    Representativeness is exp(-mean squared distance of softmax vectors to the nearest pick / that of two images),
    diversity the mean divergence of all ordered pairs of picks. That mean needs no pairs: d(i, j) = o_i + o_j -
    s l_i . r_j has the mean 2 mean(o) - s mean(l) . mean(r).

    Args:
        logits: f32 [U, K].
    """

    def __init__(self, logits: Tensor):
        self.p = logits.double().softmax(dim=1).float()
        self.divergence = SymmetricKL(logits)
        self.spread = 2 * float(self.p.double().var(dim=0, correction=0).sum()) or 1.0

    def __call__(self, picks: Tensor) -> float:
        """The reward of i64 [n] picks."""
        if len(picks) == 0:
            return 0.0
        kl = self.divergence
        sums = kl.left[picks].sum(dim=0), kl.right[picks].sum(dim=0), kl.offset[picks].sum()
        nearest = self._two_nearest(picks)[0][:, 0].mean()
        return float(0.5 * self._representativeness(nearest) + 1.5 * self._diversity(*sums, len(picks)))

    def gains(self, picks: Tensor) -> Tensor:
        """f32 [U]: the reward with each image among the picks i64 [n] less that without it, all others as they are."""
        is_pick = torch.zeros(len(self.p), dtype=torch.bool).index_fill(0, picks, True)
        sign = torch.where(is_pick, -1.0, 1.0).double()  # what changing its action does to the number of picks
        kl = self.divergence
        left, right, offset = kl.left[picks].sum(dim=0), kl.right[picks].sum(dim=0), kl.offset[picks].sum()
        column = sign.unsqueeze(1)
        changed = left + column * kl.left, right + column * kl.right, offset + sign * kl.offset
        diversity = self._diversity(*changed, len(picks) + sign) - self._diversity(left, right, offset, len(picks))

        near, which = self._two_nearest(picks)
        without = near[:, 0].mean() + torch.zeros(len(self.p))  # of a pick: its images go to their second nearest
        if len(picks):
            lost = torch.zeros(len(self.p)).index_add_(0, picks[which], near[:, 1] - near[:, 0])
            without += lost / len(self.p)
        parts = self.p.split(COMPARED_AT_ONCE)
        with_it = [torch.cdist(part, self.p).square().minimum(near[:, 0]).mean(dim=1) for part in parts]
        mean = torch.where(is_pick, without, torch.cat(with_it))
        representativeness = self._representativeness(mean) - self._representativeness(near[:, 0].mean())
        return (sign * (0.5 * representativeness.double() + 1.5 * diversity)).float()

    def _representativeness(self, nearest: Tensor) -> Tensor:
        return (-nearest / self.spread).exp()

    def _diversity(self, left: Tensor, right: Tensor, offset: Tensor, count: Tensor | int) -> Tensor:
        """f64 [...] of sums over picks f64 [..., E], [..., E], [...] and their number; 0 for none."""
        count = torch.as_tensor(count).clamp(min=1)
        return 2 * offset / count - self.divergence.scale * (left * right).sum(dim=-1) / count**2

    def _two_nearest(self, picks: Tensor) -> tuple[Tensor, Tensor]:
        """f32 [U, 2] squared distances to the two nearest picks, infinite without, and i64 [U] which is the nearest."""
        if len(picks) == 0:
            return torch.full((len(self.p), 2), torch.inf), torch.zeros(len(self.p), dtype=torch.int64)
        count, parts = min(2, len(picks)), self.p.split(COMPARED_AT_ONCE)
        nearest = [torch.cdist(part, self.p[picks]).topk(count, largest=False) for part in parts]
        near = torch.cat([part.values for part in nearest]).square()
        which = torch.cat([part.indices[:, 0] for part in nearest])
        return nn.functional.pad(near, (0, 2 - near.shape[1]), value=torch.inf), which
