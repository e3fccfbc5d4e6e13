"""Selection by a policy that is rewarded for diverse and representative picks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli

from baselines.selectors.cdal_cs import SymmetricKL
from baselines.selectors.finite import require_finite
from harness.api import Pool, Selector
from harness.seeding import seeded


class CDALRL(Selector):
    """CDAL-RL, Agarwal et al. 2020, https://arxiv.org/abs/2008.05723.

    A bidirectional LSTM reads the softmax vectors of the unlabelled images and gives each a probability of being
    picked; REINFORCE rewards samples from it with 0.5 representativeness + 1.5 contextual diversity. Returned are the
    `budget` most probable images of the epoch whose most probable images had the highest reward, as in the released
    code. Deviates: there the reward is that of the most probable images whatever was sampled, so that it says nothing
    about the sample; here it is the sample's. Images have no order as video frames have: each epoch shuffles
    them into sequences of `sequence_length`, which also keeps the LSTM from running over 50,000 steps.

    Args:
        epochs: steps of the policy, >= 1.
        hidden_dim: of the LSTM, >= 1.
        lr: of Adam, > 0.
        sequence_length: >= 1.
        length_penalty: weight of (mean probability - 1/2)^2, >= 0.
    """

    def __init__(
        self,
        *,
        epochs: int = 10,
        hidden_dim: int = 256,
        lr: float = 1e-2,
        sequence_length: int = 500,
        length_penalty: float = 0.01,
    ):
        for name, value in (("epochs", epochs), ("hidden_dim", hidden_dim), ("sequence_length", sequence_length)):
            if value < 1:
                raise ValueError(f"{name} = {value} is not >= 1")
        if lr <= 0:
            raise ValueError(f"lr = {lr} is not > 0")
        if length_penalty < 0:
            raise ValueError(f"length_penalty = {length_penalty} is not >= 0")
        self.epochs = epochs
        self.hidden_dim = hidden_dim
        self.lr = lr
        self.sequence_length = sequence_length
        self.length_penalty = length_penalty

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        """See `Selector.select`."""
        logits = require_finite(pool.logits, "logits")[pool.unlabeled]
        p = logits.double().softmax(dim=1).float()
        distance = SymmetricKL(logits)
        best_reward, best, baseline = -torch.inf, torch.arange(budget), 0.0
        with seeded(int(torch.randint(2**31 - 1, (), generator=rng)), "cdal_rl"):
            policy = Policy(p.shape[1], self.hidden_dim)
            optimizer = torch.optim.Adam(policy.parameters(), lr=self.lr, weight_decay=1e-5)
            for _ in range(self.epochs):
                order = torch.randperm(len(p), generator=rng)
                chance = Bernoulli(logits=policy(p[order], self.sequence_length)[order.argsort()])
                candidates = chance.logits.detach()[order].argsort(descending=True, stable=True)[:budget]
                if (value := reward(p, distance, order[candidates])) > best_reward:
                    best_reward, best = value, order[candidates]
                actions = chance.sample()
                gained = reward(p, distance, actions.nonzero().squeeze(1))
                loss = reinforce_loss(chance, actions, gained - baseline)
                loss = loss + self.length_penalty * (chance.probs.mean() - 0.5) ** 2
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                baseline = 0.9 * baseline + 0.1 * gained
        return pool.unlabeled[best]


class Policy(nn.Module):
    """A bidirectional LSTM over softmax vectors.

    Args:
        num_classes: K.
        hidden_dim: h.
    """

    def __init__(self, num_classes: int, hidden_dim: int):
        super().__init__()
        self.lstm = nn.LSTM(num_classes, hidden_dim, bidirectional=True, batch_first=True)
        self.head = nn.Linear(2 * hidden_dim, 1)

    def forward(self, p: Tensor, sequence_length: int) -> Tensor:
        """f32 [U], logits of being picked, of f32 [U, K]; the last sequence is padded with its own beginning."""
        length = min(sequence_length, len(p))
        padded = torch.cat([p, p[: -len(p) % length]]).reshape(-1, length, p.shape[1])
        return self.head(self.lstm(padded)[0]).flatten()[: len(p)]


def reinforce_loss(chance: Bernoulli, actions: Tensor, advantage: float) -> Tensor:
    """f32 []: descending it makes f32 [U] actions (0 or 1) more probable if their advantage is positive."""
    return -advantage * chance.log_prob(actions).mean()


def reward(p: Tensor, distance: SymmetricKL, picks: Tensor) -> float:
    """0.5 representativeness + 1.5 diversity of i64 [n] picks; 0 for none.

    Representativeness is exp(-mean squared distance to the nearest pick / 50), diversity the mean distance of all
    ordered pairs of picks. That mean needs no pairs: d(i, j) = o_i + o_j - s l_i . r_j has the mean 2 mean(o) -
    s mean(l) . mean(r).

    Args:
        p: f32 [U, K], softmax vectors.
        distance: among the same.
        picks: positions in 0 .. U-1.
    """
    if len(picks) == 0:
        return 0.0
    left, right = distance.left[picks].mean(dim=0), distance.right[picks].mean(dim=0)
    diversity = 2 * distance.offset[picks].mean() - distance.scale * left @ right
    nearest = [torch.cdist(part, p[picks]).amin(dim=1) for part in p.split(1024)]
    return float(0.5 * torch.exp(-torch.cat(nearest).square().mean() / 50) + 1.5 * diversity)
