"""Joint training: its steps against a plain loop, its unlabelled images, its end, its rows in a whole trial."""

from __future__ import annotations

import copy
import time
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from trials import configure, results, rounds_of

from baselines.augmentations.identity import Identity
from baselines.augmentations.noise import Noise
from baselines.backbones.dcnn3 import DCNN3
from baselines.selectors.coreset import CoreSet
from baselines.ssl_methods.dino import DINO
from baselines.ssl_methods.fixmatch import FixMatch
from baselines.ssl_methods.mixmatch import MixMatch
from baselines.ssl_methods.moby import MoBY
from baselines.ssl_methods.pseudo_label import PseudoLabel
from baselines.ssl_methods.simclr import SimCLR
from harness.api import Images, SSLMethod, UnlabeledBatch
from harness.config.schema import ConfigError
from harness.config.trial import ClassifierConfig, ComputeConfig, JointConfig
from harness.seeding import generator, seeded
from harness.trial import joint, stages
from harness.trial import run as trial
from harness.trial.epochs import Watch
from harness.trial.heads import FinetunedModel, Labeled
from harness.trial.joint import JointModel, Material, unlabeled_positions
from harness.trial.optimizers import DivergedError
from harness.trial.runtime import Runtime
from harness.trial.stages import Checkpoint

SETTINGS = ClassifierConfig(name="finetune", epochs=2, batch_size=4, optimizer="sgd", lr=0.1)
POOL = torch.randint(256, (30, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 3


class Spread(SSLMethod):
    """Remembers what the harness does with it."""

    def __init__(self, backbone: DCNN3):
        super().__init__(backbone)
        self.sizes: list[int] = []
        self.progress: list[float] = []

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        self.sizes.append(len(views[0]))
        a, b = (self.backbone(view) for view in views)
        return {"loss": (a * b).mean() + (a - b).square().mean()}

    def after_step(self, progress: float) -> None:
        self.progress.append(progress)


class AlwaysDue(Checkpoint):
    """Saves after every epoch."""

    due = True


class Killed(BaseException):
    """The process ends here."""


def runtime() -> Runtime:
    compute = ComputeConfig(device="cpu", precision="float32", channels_last=False)
    return Runtime.of(compute, torch.tensor([0.5]), torch.tensor([0.25]))


def model_of(cls: Any = Spread, **hyperparameters: Any) -> JointModel:
    with seeded(0, "init"):
        return JointModel(cls(DCNN3((1, 8, 8), width=2), **hyperparameters), 3)


def material(num_unlabeled: int = 12, view: Any = Identity) -> Material:
    images = Images(POOL)
    unlabeled = images.subset(torch.arange(8, 8 + num_unlabeled))
    return Material(Labeled(images.subset(torch.arange(8)), LABELS, view()), unlabeled, view())


def train(
    model: JointModel, tmp_path: Any, what: Material | None = None, settings: Any = SETTINGS, **options: Any
) -> dict[str, Any]:
    about, file = JointConfig(**options), AlwaysDue(tmp_path / "checkpoint.pt")
    return joint.train(model, what or material(), settings, about, runtime(), 0, Watch(file))


def losses(result: dict[str, Any]) -> list[dict[str, float]]:
    """Of each epoch: all that is measured but the rate."""
    return [{k: v for k, v in row.items() if not k.startswith("throughput/")} for row in result["history"]]


# ---------------------------------------------------------------- the steps


def test_labelled_and_unlabelled_batches_alternate(tmp_path):
    model = model_of()
    plain = copy.deepcopy(model)
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9)
    pixels = (POOL.float() / 255 - 0.5) / 0.25
    for epoch in range(2):
        rng = generator(0, f"joint/order/{epoch}")
        labeled, unlabeled = torch.randperm(8, generator=rng), 8 + torch.randperm(12, generator=rng)
        labeled = torch.cat([labeled, torch.randperm(8, generator=rng)])[:12]
        for known, others in zip(labeled.split(4), unlabeled.split(4), strict=True):
            task = F.cross_entropy(plain(pixels[known]), LABELS[known])
            for loss in (task + 0.5 * ssl_loss(plain, pixels[known]), None):
                final = 0.5 * ssl_loss(plain, pixels[others]) if loss is None else loss
                optimizer.zero_grad()
                final.backward()
                optimizer.step()
    train(model, tmp_path, weight=0.5)
    for ours, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, expected, atol=1e-5)
    assert model.method.sizes == [4] * 12
    assert model.method.progress == pytest.approx([(step + 1) / 12 for step in range(12)])


def ssl_loss(model: JointModel, pixels: Tensor) -> Tensor:
    features = model.backbone(pixels)
    return features.square().mean()  # what Spread's loss is when both views are equal


def test_a_semi_supervised_method_gets_both_batches_in_one_step(tmp_path):
    seen, rows = [], []

    class Spy(FixMatch):
        def joint_loss(self, classifier: nn.Module, labeled: Tensor, labels: Tensor, unlabeled: UnlabeledBatch) -> Any:
            seen.append((len(labeled), len(labels), [len(view) for view in unlabeled.views]))
            rows.append(unlabeled.rows)
            assert classifier is model
            assert unlabeled.total == 16
            pixels = (POOL[8 + unlabeled.rows].float() / 255 - 0.5) / 0.25
            assert all(torch.allclose(view, pixels, atol=1e-6) for view in unlabeled.views)
            return super().joint_loss(classifier, labeled, labels, unlabeled)

    model = model_of(Spy, threshold=0.0)
    result = train(model, tmp_path, material(num_unlabeled=16), unlabeled_ratio=2)
    assert seen == [(4, 4, [8, 8])] * 4  # two steps in an epoch
    for epoch in (rows[:2], rows[2:]):
        assert torch.cat(epoch).sort().values.tolist() == list(range(16))
    assert losses(result)[0].keys() == {"joint/loss", "joint/supervised", "joint/unlabeled", "joint/used"}


def test_without_unlabelled_images_only_labelled_ones_are_learnt_from(tmp_path):
    model = model_of()
    result = train(model, tmp_path, material(num_unlabeled=0))
    assert model.method.sizes == [4, 4] * 2
    assert model.method.progress[-1] == pytest.approx(1)
    assert losses(result)[0].keys() == {"joint/loss", "joint/task_loss", "joint/ssl_loss"}


def test_the_average_of_the_weights_is_what_is_evaluated(tmp_path):
    steps: list[dict[str, Tensor]] = []

    class Watched(Spread):
        def after_step(self, progress: float) -> None:
            steps.append({name: value.clone() for name, value in model.state_dict().items()})

    model = model_of(Watched)
    train(model, tmp_path, ema=0.9)
    average = steps[1]["head.weight"]  # two optimizer steps, labelled and unlabelled, make one step of the average
    for step in steps[3::2]:
        average = 0.9 * average + 0.1 * step["head.weight"]
    assert torch.allclose(model.head.weight, average, atol=1e-6)
    assert not torch.allclose(model.head.weight, steps[-1]["head.weight"], atol=1e-6)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_what_is_validated_is_the_model_that_would_be_kept(tmp_path, ema):
    def trained(**options: Any) -> tuple[JointModel, list[dict[str, Tensor]]]:
        model, measured = model_of(), []
        watch = Watch(validate=lambda: measured.append(copy.deepcopy(model.state_dict())) or {})
        joint.train(model, material(), SETTINGS, JointConfig(ema=ema, **options), runtime(), 0, watch)
        return model, measured

    model, measured = trained(validate_every=1)
    unseen, nothing = trained()
    assert len(measured) == SETTINGS.epochs
    assert not nothing
    for name, kept in model.state_dict().items():
        assert torch.equal(measured[-1][name], kept), name
        assert torch.equal(unseen.state_dict()[name], kept), name  # looking changes nothing


NARROW = {"hidden_dim": 6, "projection_dim": 4}
FLEXMATCH = {"threshold": 0.4, "thresholds": "flexmatch"}


@pytest.mark.parametrize(("cls", "small"), [(MoBY, NARROW), (SimCLR, NARROW), (FixMatch, FLEXMATCH)])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_resumed_training_is_the_uninterrupted_one_to_the_bit(tmp_path, cls, small, ema, monkeypatch):
    settings = ClassifierConfig(**{**vars(SETTINGS), "epochs": 3})
    options = {"settings": settings, "what": material(view=Noise), "ema": ema}
    (tmp_path / "whole").mkdir()
    whole = train(model_of(cls, **small), tmp_path / "whole", **options)

    save = AlwaysDue.save

    def die_after_saving(self: Checkpoint, state: dict[str, Any]) -> None:
        save(self, state)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(AlwaysDue, "save", die_after_saving)
        with pytest.raises(Killed):
            train(model_of(cls, **small), tmp_path, **options)
    torch.rand(1000)  # another process has another global state
    resumed = train(model_of(cls, **small), tmp_path, **options)
    assert losses(resumed) == losses(whole)
    for name, value in whole["model"].items():
        assert torch.equal(resumed["model"][name], value), name


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path):
    settings = ClassifierConfig(**{**vars(SETTINGS), "lr": 1e12})
    with pytest.raises(
        DivergedError, match=r"(joint training's loss is (nan|inf) in|not finite after) epoch 1.*classifier.lr"
    ):
        train(model_of(), tmp_path, settings=settings)


@pytest.mark.parametrize("cls", [MixMatch, PseudoLabel, DINO])
def test_a_training_from_the_weights_of_another_begins_its_schedule_anew(tmp_path, cls):
    small = {"num_prototypes": 8, "hidden_dim": 6, "bottleneck_dim": 4} if cls is DINO else {}
    model, seen = model_of(cls, **small), []
    model.register_forward_pre_hook(lambda *_: seen.append(float(model.method.progress)))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        train(model, tmp_path / name)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert first[0] == 0 < first[-1]
    assert second == first


def test_a_training_from_the_weights_of_another_knows_nothing_of_its_images(tmp_path):
    model = model_of(FixMatch, **FLEXMATCH)
    for name, count in (("first", 16), ("second", 12)):
        (tmp_path / name).mkdir()
        train(model, tmp_path / name, material(num_unlabeled=count))
        assert len(model.method.assigned) == count


# ---------------------------------------------------------------- the unlabelled images

CANDIDATES = torch.tensor([1, 3, 4, 6, 7])
LOSSES = torch.tensor([0.0, 5, 0, 2, 3, 0, 1, 4])


@pytest.mark.parametrize(
    ("which", "losses", "expected"),
    [
        ("all", None, [1, 3, 4, 6, 7]),
        ("lowest_loss", lambda: LOSSES, [3, 6]),
        ("as_labeled", lambda: LOSSES, 2),
        ("lowest_loss", None, 2),
    ],
)
def test_unlabelled_images_are_chosen_as_asked(which, losses, expected):
    rng = torch.Generator().manual_seed(0)
    found = unlabeled_positions(JointConfig(unlabeled=which), CANDIDATES, 2, losses, rng)
    if isinstance(expected, int):
        assert len(found) == expected
        assert set(found.tolist()) < set(CANDIDATES.tolist())
    else:
        assert found.tolist() == expected


def test_equal_losses_prefer_no_position():
    config, losses = JointConfig(unlabeled="lowest_loss"), torch.ones(8)
    draws = [unlabeled_positions(config, CANDIDATES, 2, lambda: losses, generator(seed, "test")) for seed in range(200)]
    counts = torch.bincount(torch.cat(draws), minlength=8)[CANDIDATES]
    assert (counts - 80).abs().max() < 4 * (200 * 0.4 * 0.6) ** 0.5  # four standard deviations


def test_more_labelled_than_unlabelled_images_leave_no_choice():
    found = unlabeled_positions(JointConfig(unlabeled="as_labeled"), CANDIDATES, 9, None, torch.Generator())
    assert torch.equal(found, CANDIDATES)


# ---------------------------------------------------------------- whole trials


FINETUNE = {"name": "finetune", "epochs": 2, "batch_size": 20, "augmentation": "flip"}
JOINT: dict[str, Any] = {"mode": "joint", "classifier": FINETUNE, "joint": {"unlabeled": "as_labeled"}}
MOBY = {"name": "moby", "hidden_dim": 16, "projection_dim": 8, "queue_size": 64}


@pytest.mark.parametrize(
    "method", [MOBY, {"name": "simclr"}, {"name": "supcon"}, {"name": "fixmatch"}, {"name": "mixmatch"}]
)
def test_a_joint_trial_gives_the_same_rows_for_a_seed(fresh, method):
    config = configure(ssl_method=method, **JOINT)
    first, totals = fresh().run(config, seed=1, with_test=True)
    again, _ = fresh().run(config, seed=1, with_test=True)
    assert results(first) == results(again)
    assert [(kind, step) for kind, step, _, _ in first] == [
        ("epoch", 1), ("epoch", 2), ("labels", 20),
        ("epoch", 3), ("epoch", 4), ("labels", 30),
        ("epoch", 5), ("epoch", 6), ("labels", 40),
    ]  # fmt: skip
    assert totals["time/pretrain_seconds"] == 0
    assert totals["joint/embedding_std"] > 0
    assert totals["labels/used"] == 40


def test_the_epochs_of_a_joint_training_are_reported_also_where_it_was_found(fresh):
    joint_settings = {"unlabeled": "as_labeled", "validate_every": 2}
    config = configure(**{**JOINT, "joint": joint_settings}, ssl_method={"name": "simclr"}, labels__rounds=1)
    bench = fresh()
    first, totals = bench.run(config)
    found, _ = bench.run(config)
    epochs = [row for row in first if row[0] == "epoch"]
    assert epochs == [row for row in found if row[0] == "epoch"]  # the seconds of the first computation, too
    assert [step for _, step, _, _ in epochs] == [1, 2, 3, 4]  # a number would be a repetition in the second round
    assert [(about.training.epoch, about.training.epochs) for *_, about in epochs] == [(1, 2), (2, 2)] * 2
    assert all(metrics["throughput/train_images_per_second"] > 0 for _, _, metrics, _ in epochs)
    last = rounds_of(first)[-1][2]
    assert epochs[-1][2]["joint/loss"] == last["joint/loss"]
    assert epochs[-1][2]["joint/val_accuracy"] == last["val/accuracy"]
    assert "joint/val_accuracy" not in epochs[0][2]
    assert "joint/val_accuracy" not in totals
    unseen, _ = fresh().run(configure(**JOINT, ssl_method={"name": "simclr"}, labels__rounds=1))
    assert rounds_of(unseen)[-1][2]["val/loss"] == last["val/loss"]  # looking changes nothing


def test_of_a_long_finetuning_a_few_epochs_are_reported(fresh):
    config = configure(classifier={"name": "finetune", "epochs": 50}, labels={"start": 20}, pretrain__epochs=1)
    rows, _ = fresh().run(config)
    epochs = [(step, about.training.name, about.training.epoch) for kind, step, _, about in rows if kind == "epoch"]
    assert epochs[:3] == [(1, "pretrain", 1), (4, "finetune", 3), (7, "finetune", 6)]
    assert epochs[-1] == (51, "finetune", 50)
    assert len(epochs) == 1 + 17
    assert rows[-2][2]["classifier/loss"] < rows[1][2]["classifier/loss"]


def test_selectors_see_the_ssl_loss_of_the_joint_model(fresh):
    config = configure(ssl_method=MOBY, selector="high_ssl_loss", **JOINT)
    rows, _ = fresh().run(config)
    untrained, _ = fresh().run(configure(ssl_method=MOBY, selector="high_ssl_loss", pretrain__epochs=0))
    assert rounds_of(rows)[1][3].selected != rounds_of(untrained)[1][3].selected


@pytest.mark.parametrize("given", [False, True])
def test_selectors_see_the_features_of_the_network_that_the_last_round_trained(fresh, tmp_path, given, monkeypatch):
    """Also where it began from weights of somebody else's; `penultimate` is what the last layer reads of it."""
    torch.save(DCNN3((1, 8, 8), width=4).state_dict(), tmp_path / "weights.pt")
    seen, select = [], CoreSet.select

    def watched(self, pool, budget, *, rng):
        seen.append((pool.features.clone(), pool.penultimate.clone()))
        return select(self, pool, budget, rng=rng)

    monkeypatch.setattr(CoreSet, "select", watched)
    backbone = {"name": "dcnn3", "width": 4} | ({"weights": str(tmp_path / "weights.pt")} if given else {})
    fresh().run(configure(backbone=backbone, ssl_method={"name": "simclr"}, selector="coreset", **JOINT))
    (first, read), (second, _) = seen
    assert torch.equal(first, read)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("mode", ["joint", "pretrain"])
def test_a_warm_start_goes_on_from_the_last_round(fresh, mode):
    cold = configure(**{**JOINT, "mode": mode}, ssl_method={"name": "simclr"})
    warm = configure(**{**JOINT, "mode": mode}, ssl_method={"name": "simclr"}, classifier__warm_start=True)
    bench = fresh()
    cold_rows, _ = bench.run(cold)
    warm_rows, _ = bench.run(warm)
    cold_rows, warm_rows = rounds_of(cold_rows), rounds_of(warm_rows)
    # in the first round there is nothing to go on from
    assert cold_rows[0][2]["val/loss"] == warm_rows[0][2]["val/loss"]
    assert cold_rows[-1][2]["val/loss"] != warm_rows[-1][2]["val/loss"]


def test_classifiers_side_by_side_are_those_of_trials_of_their_own(fresh):
    bench = fresh()
    together, _ = bench.run(
        configure(classifier=[{"name": "linear", "epochs": 4}, "knn", {"name": "mlp", "epochs": 2}])
    )
    alone, _ = bench.run(configure(classifier="knn"))
    mlp, _ = bench.run(configure(classifier={"name": "mlp", "epochs": 2}))
    for row, knn_row, mlp_row in zip(together[-3:], alone[-3:], mlp[-3:], strict=True):
        assert row[2]["val/accuracy/knn"] == knn_row[2]["val/accuracy"]
        assert row[2]["val/loss/mlp"] == mlp_row[2]["val/loss"]
    assert sum(path.is_dir() for path in (bench.folders.stages / "pretrain").iterdir()) == 1


def test_classifiers_beside_a_joint_training_read_its_encoder(fresh):
    config = configure(**{**JOINT, "classifier": [FINETUNE, "knn"]}, ssl_method={"name": "simclr"}, labels__rounds=1)
    rows, _ = fresh().run(config)
    untrained, _ = fresh().run(configure(ssl_method="none", classifier="knn", labels__rounds=1))
    assert rounds_of(rows)[0][2]["val/macro_f1/knn"] != rounds_of(untrained)[0][2]["val/macro_f1"]


@pytest.mark.parametrize("name", ["supcon", "supervised"])
def test_a_supervised_method_reads_the_start_pool_and_no_other_label(fresh, name, monkeypatch):
    from harness.trial import pretrain

    seen: list[Tensor | None] = []
    loop = pretrain.pretrain
    monkeypatch.setattr(
        "harness.trial.pretrain.pretrain",
        lambda method, examples, *rest: seen.append(examples.labels) or loop(method, examples, *rest),
    )
    fresh().run(configure(ssl_method={"name": name}))
    fresh().run(configure(ssl_method={"name": "simclr"}))
    labels, nothing = seen
    assert nothing is None
    assert labels is not None
    assert int((labels >= 0).sum()) == 20
    assert len(labels) == 20 or name == "supcon"


@pytest.mark.parametrize("mode", ["joint", "pretrain"])
def test_a_killed_training_counts_the_seconds_before_its_death(fresh, mode, monkeypatch):
    config = configure(**{**JOINT, "mode": mode}, ssl_method={"name": "simclr"}, pretrain__epochs=0, labels__rounds=1)
    bench = fresh()
    monkeypatch.setattr(Checkpoint, "due", True)
    save = Checkpoint.save

    def die_after_saving(self: Checkpoint, state: dict[str, Any]) -> None:
        patch.setattr(stages, "time", SimpleNamespace(perf_counter=lambda: time.perf_counter() + 1000, monotonic=int))
        save(self, state)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", die_after_saving)
        with pytest.raises(Killed):
            bench.run(config)
    rows, totals = bench.run(config)
    assert 1000 < rounds_of(rows)[0][2]["time/round_train_seconds"] < 1500
    assert totals["time/train_seconds"] > 1000


def test_a_budget_that_leaves_a_semi_supervised_method_nothing_unlabelled_is_refused(fresh):
    bench = fresh()
    size = len(trial.load_data(configure(), bench.folders.cache, with_test=False)[0].pool)
    config = configure(**JOINT, ssl_method={"name": "fixmatch"}, labels={"start": size - 10, "budget": 10, "rounds": 1})
    with pytest.raises(ValueError, match=f"{size} of {size} images leave fixmatch no unlabelled one; use at most"):
        bench.run(config)


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "joint"}, "trial.classifier.name: linear leaves the encoder alone; joint needs finetune"),
        ({"ssl_method": {"name": "fixmatch"}}, "trial.mode: fixmatch trains classifier and encoder at once; use joint"),
        ({**JOINT, "ssl_method": {"name": "none"}}, "trial.ssl_method: none has no loss to train jointly"),
        ({**JOINT, "ssl_method": {"name": "supervised"}}, "trial.ssl_method: supervised is the task loss itself"),
        (
            {"ssl_method": {"name": "supcon"}, "labels": {"start": 0, "budget": 10, "rounds": 1}},
            "trial.labels.start: supcon learns from labels; use 1 or more",
        ),
        (
            {"classifier": ["linear", {"name": "linear", "epochs": 3}]},
            r"trial.beside\[0\].name: linear stands there already",
        ),
        (
            {**JOINT, "labels": {"start": "all"}, "ssl_method": {"name": "fixmatch"}},
            "trial.labels.start: .* unlabelled",
        ),
        (
            {**JOINT, "joint": {"unlabeled": "lowest_loss"}, "ssl_method": {"name": "vicreg"}},
            "trial.joint.unlabeled: vicreg has no loss per image to rank by; use as_labeled",
        ),
        (
            {**JOINT, "joint": {"ema": 0.9}, "ssl_method": {"name": "simclr"}},
            "trial.joint.ema: the heads of simclr would be those of another encoder; use 0",
        ),
        ({"classifier": {"name": "linear", "warm_start": True}}, "trial.classifier.warm_start: only the first"),
        ({"classifier": ["linear", {"name": "finetune", "warm_start": True}]}, r"trial.beside\[0\].warm_start: only"),
        (
            {**JOINT, "labels": {"start": 1}, "ssl_method": {"name": "simclr"}},
            "trial.labels.start: 1 image makes no batch",
        ),
        (
            {**JOINT, "labels": {"start": 0, "budget": [1, 9]}, "ssl_method": {"name": "simclr"}},
            "trial.labels.budget: 1 image makes no batch for joint training; use 2 or more",
        ),
        (
            {"backbone": "resnet18", "classifier": ["knn", FINETUNE], "labels": {"start": 1, "budget": 9, "rounds": 1}},
            "trial.labels.start: 1 image makes no batch for finetune, with batch normalisation; use 2 or more",
        ),
        (
            {"backbone": "resnet18", "ssl_method": "supervised", "labels": {"start": 1}},
            "trial.labels.start: 1 image makes no batch for supervised, with batch normalisation; use 2 or more",
        ),
        ({"classifier": ["linear", "forest"]}, r"trial.beside\[0\].name: expected logistic \| linear"),
    ],
)
def test_combinations_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        configure(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"classifier": FINETUNE},
        {"backbone": {"name": "resnet18", "freeze": True}, "classifier": FINETUNE},
        {"backbone": "resnet18", "classifier": FINETUNE | {"backbone_lr": 0.0}},
        {"backbone": "resnet18", "ssl_method": "supervised", "pretrain__epochs": 0},
    ],
)
def test_one_image_is_enough_where_no_batch_is_normalised(settings):
    assert configure(**settings, labels={"start": 1}).labels.start == 1


@pytest.mark.parametrize("network", [lambda b: JointModel(SimCLR(b), 10), lambda b: FinetunedModel(b, 10)])
def test_logits_are_in_single_precision_whatever_the_encoder_computes_in(network):
    """Else hundreds of images have the same margin, and their order is drawn."""
    with seeded(0, "network"):
        model = network(DCNN3((1, 8, 8), width=4))
        images = torch.rand(512, 1, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        features = model.backbone(images)
    assert logits.dtype == torch.float32
    assert torch.equal(logits, torch.nn.functional.linear(features.float(), model.head.weight, model.head.bias))
    top = logits.topk(2).values
    assert len((top[:, 0] - top[:, 1]).unique()) > 500
