"""`teacher`: a network learns from what another encoder and its head say of the whole pool."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from trials import configure, results, rounds_of

from baselines.augmentations.identity import Identity
from baselines.backbones.dcnn3 import DCNN3
from baselines.ssl_methods.distill import Distill
from harness.api import UNKNOWN, Images, TaughtMethod
from harness.config.schema import ConfigError
from harness.config.trial import ClassifierConfig, ComputeConfig, JointConfig
from harness.seeding import generator, seeded
from harness.trial import joint
from harness.trial.epochs import Watch
from harness.trial.runtime import Runtime

PATCHES = {"name": "patches", "size": 3, "num_patches": 30, "num_samples": 2000}
TAUGHT = {
    "mode": "joint",
    "backbone": {"name": "dcnn3", "width": 8},
    "ssl_method": {"name": "distill", "mixup": 0.4},
    "augmentation": "identity",
    "teacher": {"backbone": PATCHES, "classifier": "kernel_ridge"},
    "labels": {"start": 40, "budget": 20, "rounds": 1},
    "classifier": {"name": "finetune", "epochs": 20, "batch_size": 32, "lr": 3e-3, "schedule": "cosine"},
    "joint": {"ema": 0.9},
}


class Listening(TaughtMethod):
    """Notes what it is told of which images."""

    num_views = 1
    heard: list = []  # noqa: RUF012

    def taught_loss(self, classifier, views, scores, labels):
        self.heard.append((views[0].flatten(1), scores, labels))
        return {"loss": F.cross_entropy(classifier(views[0]), scores.softmax(1))}


def taught(**settings):
    return configure(**{**TAUGHT, **settings})


def test_every_image_of_the_pool_comes_with_the_teachers_scores(fresh, monkeypatch):
    monkeypatch.setattr(Listening, "heard", [])
    settings = {"labels": {"start": 40}, "ssl_method": f"{__name__}:Listening", "classifier__epochs": 2}
    rows, _ = fresh().run(taught(**settings))
    images, scores, labels = (torch.cat(part) for part in zip(*Listening.heard, strict=True))
    half = len(images) // 2
    assert (labels[:half] != UNKNOWN).sum() == 40
    first, second = (torch.argsort(part @ torch.randn(64, generator=generator(0, "x"))) for part in images.split(half))
    assert torch.equal(images[:half][first], images[half:][second])  # each image once an epoch, in another order,
    assert torch.equal(scores[:half][first], scores[half:][second])  # and with the same scores
    assert not torch.equal(first, second)
    known = labels != UNKNOWN
    assert (scores[known].argmax(1) == labels[known]).float().mean() > 0.95  # the teacher was fitted to these
    assert rounds_of(rows)[0][1] == 40


def test_the_student_learns_from_it_and_the_teacher_is_made_once(fresh):
    bench = fresh()
    rows, first = bench.run(taught())
    assert rounds_of(rows)[-1][2]["val/accuracy"] > 0.6  # digits; chance is 0.1
    assert first["time/teacher_seconds"] > 0
    assert first["time/total_seconds"] > first["time/teacher_seconds"]
    alone = {"mode": "pretrain", "backbone": PATCHES, "ssl_method": "none", "classifier": {"name": "kernel_ridge"}}
    _, teacher = bench.run(configure(**alone, labels=TAUGHT["labels"]))
    assert teacher["stage/pretrain_cached"] == 1  # the same encoder and, on the same labels, the same head
    assert rounds_of(bench.run(configure(**alone, labels=TAUGHT["labels"]))[0])[0][2]["stage/train_cached"] == 1
    again, second = bench.run(taught(ssl_method={"name": "distill", "mixup": 0.4}))
    assert results(again) == results(rows)
    assert second["time/saved_seconds"] > 0
    other, _ = bench.run(taught(teacher={"backbone": PATCHES, "classifier": "ridge"}))
    assert results(other) != results(rows)


def test_one_label_is_enough_as_all_images_are_learnt_from(fresh):
    rows, _ = fresh().run(taught(labels={"start": 1}, classifier__epochs=1))
    assert rounds_of(rows)[0][1] == 1


@pytest.mark.parametrize("head", [{"name": "finetune", "epochs": 1}, "knn"])
def test_any_head_may_teach(fresh, head):
    teacher = {"backbone": {"name": "dcnn3", "width": 4}, "classifier": head}
    rows, _ = fresh().run(taught(teacher=teacher, labels={"start": 40}, classifier__epochs=1))
    assert "val/accuracy" in rounds_of(rows)[0][2]


def test_the_steps_are_those_of_a_plain_loop():
    store = torch.randint(256, (12, 1, 8, 8), dtype=torch.uint8, generator=generator(0, "pool"))
    scores, labels = torch.randn(12, 3, generator=generator(0, "scores")), torch.full((12,), UNKNOWN)
    with seeded(0, "init"):
        model = joint.JointModel(Distill(DCNN3((1, 8, 8), width=2), mixup=0.0), 3)
    plain, pixels = copy.deepcopy(model), (store.float() / 255 - 0.5) / 0.25
    optimizer = torch.optim.SGD(plain.parameters(), 0.1, momentum=0.9)
    for epoch in range(2):
        for index in torch.randperm(12, generator=generator(0, f"joint/order/{epoch}")).split(4):
            optimizer.zero_grad()
            F.cross_entropy(plain(pixels[index]), scores[index].softmax(1)).backward()
            optimizer.step()
    settings = ClassifierConfig(name="finetune", epochs=2, batch_size=4, optimizer="sgd", lr=0.1)
    compute = ComputeConfig(device="cpu", precision="float32", channels_last=False)
    runtime = Runtime.of(compute, torch.tensor([0.5]), torch.tensor([0.25]))
    lesson = joint.Lesson(Images(store), scores, labels, Identity())
    result = joint.train(model, lesson, settings, JointConfig(weight=0.0), runtime, 0, Watch())
    for ours, expected in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours, expected, atol=1e-5)
    assert result["history"][0].keys() == {"joint/loss", "throughput/train_images_per_second"}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"teacher": None}, "distill learns from one; say which"),
        ({"mode": "pretrain"}, "distill trains classifier and encoder at once; use joint"),
        ({"ssl_method": "simclr", "joint": {}}, "simclr in mode joint does not learn from it; use distill"),
        ({"teacher__classifier": {"name": "svm"}}, "the scores of svm order the classes alone"),
        ({"teacher__ssl_method": "simclr"}, "patches is fitted to the pool and needs no training"),
        ({"teacher__ssl_method": "fixmatch"}, "fixmatch trains a classifier; use finetune as the head"),
        ({"classifier__augmentation": "weak"}, "distill sees labelled and unlabelled images alike"),
        ({"joint__unlabeled_ratio": 2}, "distill sees labelled and unlabelled images alike"),
        (
            {"teacher": {"backbone": "resnet18", "ssl_method": "supcon"}, "labels": {"start": 0, "budget": [9]}},
            "trial.labels.start: supcon learns from labels; use 1 or more",
        ),
        (
            {"teacher": {"backbone": "resnet18", "classifier": "finetune"}, "labels": {"start": 1}},
            "trial.labels.start: 1 image makes no batch for finetune, with batch normalisation; use 2 or more",
        ),
        ({"teacher__classifier": {"epochs": 3}}, "logistic, the default, reads no epochs"),
    ],
)
def test_what_cannot_be_is_named(settings, words):
    with pytest.raises(ConfigError, match=words):
        taught(**settings)
