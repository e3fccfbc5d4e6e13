"""Modules trained beside the classifier: what they see, that they disturb nothing, that they resume, whole trials."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
from test_heads import STRIPE_LABELS, STRIPES, Dying, Killed, Normalised, backbone, runtime, settings
from torch import Tensor, nn
from trials import Bench, configure, results, rounds_of

from baselines.augmentations.noise import Noise
from baselines.backbones.dcnn3 import DCNN3
from baselines.selectors.learning_loss import LearningLoss
from harness.api import Backbone, Companion, Images, Pool, Selector
from harness.seeding import seeded
from harness.trial import companions, heads
from harness.trial import run as trial
from harness.trial.epochs import Watch
from harness.trial.runtime import Runtime
from harness.trial.stages import Checkpoint

# ---------------------------------------------------------------- stages


def test_the_outputs_of_the_latest_pass_are_seen_in_order_of_depth():
    network = DCNN3((1, 8, 8), width=2)
    images = torch.randn(3, 1, 8, 8)
    with companions.stage_outputs(network) as outputs:
        network(torch.zeros(5, 1, 8, 8))
        features = network(images)
        assert [tuple(output.shape) for output in outputs] == [(3, 2, 4, 4), (3, 4, 2, 2), (3, 8, 1, 1)]
        assert torch.equal(outputs[2].relu().flatten(1), features)
    network(torch.zeros(5, 1, 8, 8))
    assert len(outputs[0]) == 3  # no longer watched


# ---------------------------------------------------------------- beside the classifier


def tune(
    checkpoint: Checkpoint,
    selector: Selector | None,
    encoder: Backbone | None = None,
    images: Tensor = STRIPES,
    **changes: Any,
) -> tuple[heads.FinetunedModel, Companion | None]:
    config = settings("finetune", **{"epochs": 6, "batch_size": 16} | changes)
    model = heads.finetuned_model(encoder or backbone(), 2, runtime(), 0)
    pool = Images(images)
    companion = companions.build_companion(selector, model.backbone, pool, runtime(), 0) if selector else None
    labeled = heads.Labeled(pool, STRIPE_LABELS, Noise())
    heads.finetune(model, labeled, config, runtime(), 0, Watch(checkpoint), companion)
    return model, companion


def equal(a: nn.Module, b: nn.Module) -> bool:
    states = a.state_dict(), b.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def losses(checkpoint: Checkpoint) -> list[float]:
    """Of each epoch, as saved."""
    state = checkpoint.load()
    assert state is not None
    return [metrics["classifier/loss"] for metrics in state["history"]]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_a_companion_without_weight_leaves_the_classifier_as_it_is_to_the_bit(tmp_path, optimizer):
    """With dropout and augmentations, which draw from the same streams; the companion itself learns nothing."""
    assert isinstance(backbone(), Normalised)
    watched = Dying(tmp_path / "a.pt", 99)  # saves every epoch
    alone, _ = tune(watched, None, optimizer=optimizer)
    beside, _ = tune(Checkpoint(tmp_path / "b.pt"), LearningLoss(weight=0.0), optimizer=optimizer)
    assert equal(alone, beside)
    shaped, _ = tune(Checkpoint(tmp_path / "c.pt"), LearningLoss(), optimizer=optimizer)
    assert not equal(alone.backbone, shaped.backbone)
    saved = Dying(tmp_path / "d.pt", 99)
    detached, learnt = tune(saved, LearningLoss(gradient_share=0.0), optimizer=optimizer)
    assert equal(alone, detached)
    assert losses(saved) == losses(watched)  # what `plateau` reads is the task's alone
    assert len(losses(saved)) == 6
    assert learnt is not None
    fresh = companions.build_companion(LearningLoss(), backbone(), Images(STRIPES), runtime(), 0)
    assert not equal(learnt, fresh)


def test_a_companion_is_built_from_a_stream_of_its_own_and_changes_nothing():
    network = backbone().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    built = []
    for other in (1, 2):
        torch.manual_seed(other)
        state = torch.get_rng_state()
        built.append(companions.build_companion(LearningLoss(), network, Images(STRIPES), runtime(), 0))
        assert torch.equal(state, torch.get_rng_state())
    assert equal(*built)
    assert not equal(built[0], companions.build_companion(LearningLoss(), network, Images(STRIPES), runtime(), 1))
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("last", [1, 4])  # before and after the gradient to the backbone has ended
def test_a_training_with_a_companion_resumes_to_the_bit(tmp_path, last):
    chosen: dict[str, Any] = {"optimizer": "sgd", "schedule": "plateau", "patience": 0, "clip_norm": 0.5}
    whole = tune(Checkpoint(tmp_path / "whole.pt"), LearningLoss(), **chosen)
    with pytest.raises(Killed):
        tune(Dying(tmp_path / "c.pt", last), LearningLoss(), **chosen)
    torch.rand(100)
    resumed = tune(Checkpoint(tmp_path / "c.pt"), LearningLoss(), **chosen)
    assert all(equal(a, b) for a, b in zip(whole, resumed, strict=True) if a and b)
    assert whole[1] is not None


def test_what_the_classifier_cannot_learn_is_predicted_to_have_a_high_loss(tmp_path):
    """Half of the images are noise whose labels mean nothing."""
    rng = torch.Generator().manual_seed(0)
    noise = torch.randint(256, STRIPES.shape, dtype=torch.uint8, generator=rng)
    mixed = torch.where((torch.arange(60) < 30).view(-1, 1, 1, 1), STRIPES, noise)
    with seeded(0, "backbone/init"):
        encoder = DCNN3((1, 8, 8), width=8)
    model, companion = tune(
        Checkpoint(tmp_path / "c.pt"), LearningLoss(), encoder, mixed, epochs=40, lr=3e-3, batch_size=20
    )
    assert companion is not None
    fresh = torch.randint(256, STRIPES.shape, dtype=torch.uint8, generator=rng)
    judge = companions.Accompanied(model.backbone, companion).eval()
    clear, unclear = (runtime().forward(judge, Images(images)) for images in (STRIPES, fresh))
    assert clear.shape == (60,)
    assert unclear.quantile(0.1) > clear.max()


# ---------------------------------------------------------------- whole trials

TUNED = {
    "backbone__dropout": 0.2,
    "classifier": {"name": "finetune", "epochs": 2, "batch_size": 8},
    "ssl_method": "none",
    "labels": {"start": 20, "budget": 10, "rounds": 2},
}
LOSS = {"name": "learning_loss", "hidden_dim": 8}


@pytest.fixture
def bench(cache, tmp_path):
    return Bench(cache, tmp_path / "stages")


def test_only_selectors_with_a_companion_have_a_training_of_their_own(bench):
    plain = rounds_of(bench.run(configure(**TUNED))[0])
    shared = rounds_of(bench.run(configure(selector="entropy", **TUNED))[0])
    own = rounds_of(bench.run(configure(selector={**LOSS, "weight": 0.0}, **TUNED))[0])
    again = rounds_of(bench.run(configure(selector={**LOSS, "weight": 0.0}, **TUNED))[0])
    other = rounds_of(bench.run(configure(selector=LOSS, **TUNED))[0])
    cached = [[row[2]["stage/train_cached"] for row in rows] for rows in (plain, shared, own, again, other)]
    assert cached == [[0, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0]]
    (*alone, details), (*beside, own_details) = results(plain)[0], results(own)[0]  # the start pool
    assert alone == beside  # a companion without weight
    assert replace(details, stages=None) == replace(own_details, stages=None)
    assert details.stages != own_details.stages
    assert results(own) == results(again)
    assert [row[2]["val/loss"] for row in own] != [row[2]["val/loss"] for row in other]
    assert [row[2]["stage/select_cached"] for row in again[1:]] == [1, 1]


def test_a_trial_that_selects_nothing_trains_no_companion(bench):
    bench.run(configure(**TUNED | {"labels": {"start": 20}}))
    rows, _ = bench.run(configure(**TUNED | {"labels": {"start": 20}, "selector": LOSS}))
    assert rounds_of(rows)[0][2]["stage/train_cached"] == 1


class Watcher(Selector):
    """Keeps what it saw, and picks the first."""

    reads: ClassVar[frozenset[str]] = frozenset({"companion_outputs"})
    seen: ClassVar[list[Tensor]] = []

    def companion(self, stage_shapes: list[tuple[int, ...]]) -> Companion:
        return LearningLoss(hidden_dim=4).companion(stage_shapes)

    def select(self, pool: Pool, budget: int, *, rng: torch.Generator) -> Tensor:
        self.seen.append(pool.companion_outputs)
        return pool.unlabeled[:budget]


class Undeclared(Watcher):
    """Does not say what it reads."""

    reads: ClassVar[frozenset[str]] = frozenset()


def test_a_selector_sees_what_its_companion_says_of_the_pool(bench, monkeypatch):
    kept: list[Any] = []
    finetune = heads.finetune
    monkeypatch.setattr(heads, "finetune", lambda *a, **more: kept.append((a[0], a[-1])) or finetune(*a, **more))
    Watcher.seen.clear()
    config = configure(selector="test_companions:Watcher", **TUNED, labels__rounds=1)
    bench.run(config)
    (outputs,) = Watcher.seen
    model, companion = kept[0]
    assert outputs.shape == (194,)
    assert outputs.device.type == "cpu"
    data, _ = trial.load_data(config, bench.folders.cache, with_test=False)
    where = Runtime.of(config.compute, torch.tensor(data.mean), torch.tensor(data.std))
    judge = companions.Accompanied(model.backbone, companion).eval()
    alone = torch.cat([where.forward(judge, data.pool.subset(torch.tensor([i]))) for i in (0, 100, 193)])
    torch.testing.assert_close(outputs[[0, 100, 193]], alone)
    rows, _ = bench.run(configure(selector="test_companions:Watcher", **TUNED, labels__rounds=1, labels__budget=9))
    assert rounds_of(rows)[0][2]["stage/train_cached"] == 1
    assert torch.equal(outputs, Watcher.seen[1])  # of a training that was found


def test_a_warm_start_goes_on_with_the_companion(bench, monkeypatch):
    starts: list[dict[str, Tensor]] = []
    ends: list[dict[str, Tensor]] = []

    def watched(*arguments: Any, **more: Any) -> Any:
        starts.append({name: value.clone() for name, value in arguments[-1].state_dict().items()})
        state = finetune(*arguments, **more)
        ends.append({name: value.clone() for name, value in state["companion"].items()})
        return state

    finetune = heads.finetune
    monkeypatch.setattr(heads, "finetune", watched)
    warm = TUNED | {"classifier": {**TUNED["classifier"], "warm_start": True}}  # type: ignore[dict-item]
    bench.run(configure(selector=LOSS, **warm))
    assert len(starts) == 3
    for before, after in zip(ends, starts[1:], strict=False):
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_reading_a_companion_that_was_not_declared_is_told(bench):
    with pytest.raises(ValueError, match="no companion was trained beside this classifier"):
        bench.run(configure(selector="test_companions:Undeclared", **TUNED))


@pytest.mark.parametrize("name", ["learning_loss", "ta_vaal"])
def test_trials_with_a_companion_are_reproducible(cache, tmp_path, name):
    small = {"epochs": 0.5, "batch_size": 8, "width": 2} if name == "ta_vaal" else {}
    config = configure(selector={"name": name, "hidden_dim": 8, **small}, **TUNED)
    first, again = (Bench(cache, tmp_path / run).run(config)[0] for run in ("a", "b"))
    assert results(first) == results(again)
    assert [row[1] for row in rounds_of(first)] == [20, 30, 40]
