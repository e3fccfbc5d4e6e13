"""Nothing depends on the number of images modulo the batch size: the batches, and what is learnt from them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from baselines.augmentations.identity import Identity
from baselines.backbones.dcnn3 import DCNN3
from harness.api import Images, SSLMethod
from harness.config.trial import ClassifierConfig, ComputeConfig, JointConfig, PretrainConfig
from harness.trial import heads, joint
from harness.trial.batches import apart_batches, even_batches
from harness.trial.epochs import Watch
from harness.trial.joint import JointModel, Material
from harness.trial.pretrain import Examples, pretrain
from harness.trial.runtime import Runtime


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 7, 16])
def test_batches_hold_every_image_once_and_their_sizes_differ_by_at_most_one(batch_size):
    for count in range(1, 70):
        batches = even_batches(count, batch_size, torch.Generator().manual_seed(0))
        sizes = [len(batch) for batch in batches]
        assert torch.cat(batches).sort().values.tolist() == list(range(count))
        assert max(sizes) - min(sizes) <= 1
        if batch_size == 2 and count % 2 and count > 1:
            assert sizes == [3] + [2] * ((count - 3) // 2)  # batch normalisation cannot train on a single image
        else:
            assert len(sizes) == -(-count // batch_size)
            assert max(sizes) <= batch_size
        assert min(sizes) > 1 or count == 1 or batch_size == 1
    assert [batch.tolist() for batch in even_batches(0, batch_size, torch.Generator())] == [[]]


def test_the_order_is_the_generators():
    first, again, other = (torch.cat(even_batches(50, 8, torch.Generator().manual_seed(s))) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(("sizes", "batch_size"), [([3] * 20, 20), ([1, 2, 3, 10, 5, 9], 3), ([30, 1, 1], 8), ([7], 4)])
def test_images_of_a_group_are_spread_over_the_batches(sizes, batch_size):
    groups = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    groups = groups[torch.randperm(len(groups), generator=torch.Generator().manual_seed(1))]
    batches = apart_batches(groups, batch_size, torch.Generator().manual_seed(0))
    like = even_batches(len(groups), batch_size, torch.Generator().manual_seed(0))
    assert sorted(map(len, batches)) == sorted(map(len, like))
    assert torch.cat(batches).sort().values.tolist() == list(range(len(groups)))
    for group, size in enumerate(sizes):
        held = [int((groups[batch] == group).sum()) for batch in batches]
        assert max(held) - min(held) <= 1, (group, held)
        assert max(held) == -(-size // len(batches))
    again, other = (apart_batches(groups, batch_size, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert [batch.tolist() for batch in again] == [batch.tolist() for batch in batches]
    assert [batch.tolist() for batch in other] != [batch.tolist() for batch in batches]


def overlapping(count: int) -> tuple[Tensor, Tensor]:
    """Ten classes that no linear function tells apart beyond doubt; the first images are those of a smaller `count`."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (600,), generator=rng)
    points = 0.5 * torch.randn(10, 16, generator=rng)[labels] + torch.randn(600, 16, generator=rng)
    return points[:count], labels[:count]


def fitted(count: int) -> float:
    """Training accuracy of a linear head on `count` images in batches of up to 128, over two seeds."""
    config = ClassifierConfig(name="linear", epochs=10, batch_size=128, lr=0.1)
    x, y = overlapping(count)
    hits = [heads.predictor(config, heads.fit(config, x, y, 10, seed), x, y, 10)(x).argmax(1) == y for seed in range(2)]
    return float(torch.stack(hits).float().mean())


@pytest.mark.parametrize("multiple", [256, 512])
def test_a_few_more_labels_are_fitted_about_as_well(multiple):
    """With a last batch of 2 images as a step of its own, the fit falls by 10 points."""
    whole = fitted(multiple)
    assert [fitted(multiple + more) for more in (2, 8, 64)] == pytest.approx([whole] * 3, abs=0.03)


class Counting(SSLMethod):
    """Notes how many images it gets."""

    def __init__(self, backbone: DCNN3):
        super().__init__(backbone)
        self.sizes: list[int] = []

    def loss(self, views: list[Tensor]) -> dict[str, Tensor]:
        self.sizes.append(len(views[0]))
        return {"loss": self.backbone(views[0]).square().mean()}


class CountingBackbone(DCNN3):
    """Notes how many images it gets while it is trained."""

    def __init__(self) -> None:
        super().__init__((1, 8, 8), width=1)
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            self.sizes.append(len(images))
        return super().forward(images)


def images(count: int) -> Images:
    return Images(torch.randint(256, (count, 1, 8, 8), dtype=torch.uint8))


def runtime() -> Runtime:
    compute = ComputeConfig(device="cpu", precision="float32", channels_last=False)
    return Runtime.of(compute, torch.tensor([0.5]), torch.tensor([0.25]))


def in_pretraining(count: int) -> list[int]:
    method = Counting(DCNN3((1, 8, 8), width=1))
    pretrain(
        method, Examples(images(count), Identity()), PretrainConfig(epochs=1, batch_size=16), runtime(), 0, Watch()
    )
    return method.sizes


def in_heads(count: int) -> list[int]:
    sizes: list[int] = []

    class Spy(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(len(x))
            return super().forward(x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads.nn, "Linear", Spy)
        config = ClassifierConfig(name="linear", epochs=1, batch_size=16)
        heads.fit(config, torch.randn(count, 3), torch.arange(count) % 2, 2, 0)
    return sizes


def in_finetuning(count: int) -> list[int]:
    config = ClassifierConfig(name="finetune", epochs=1, batch_size=16)
    model = heads.finetuned_model(CountingBackbone(), 2, runtime(), 0)
    labeled = heads.Labeled(images(count), torch.arange(count) % 2, Identity())
    heads.finetune(model, labeled, config, runtime(), 0, Watch())
    assert isinstance(model.backbone, CountingBackbone)
    return model.backbone.sizes


def jointly(num_labeled: int, num_unlabeled: int) -> list[int]:
    """The sizes of labelled and unlabelled batches in turn."""
    model = JointModel(Counting(DCNN3((1, 8, 8), width=1)), 2)
    labeled = heads.Labeled(images(num_labeled), torch.arange(num_labeled) % 2, Identity())
    material = Material(labeled, images(num_unlabeled), Identity())
    config = ClassifierConfig(name="finetune", epochs=1, batch_size=16)
    joint.train(model, material, config, JointConfig(), runtime(), 0, Watch())
    assert isinstance(model.method, Counting)
    return model.method.sizes


@pytest.mark.parametrize("count", [47, 48, 49, 56])
@pytest.mark.parametrize("loop", [in_pretraining, in_heads, in_finetuning])
def test_every_loop_divides_an_epoch_evenly(loop: Any, count):
    sizes = loop(count)
    assert sum(sizes) == count
    assert len(sizes) == -(-count // 16)
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("fewer", [5, 17])
@pytest.mark.parametrize("more", [47, 48, 49, 56])
def test_a_joint_epoch_is_one_pass_over_the_more_and_repeats_the_fewer(fewer, more):
    for sizes in (jointly(fewer, more)[1::2], jointly(more, fewer)[::2]):
        assert sum(sizes) == more
        assert max(sizes) - min(sizes) <= 1
    repeated = jointly(fewer, more)[::2]
    assert len(repeated) == -(-more // min(16, fewer))
    assert max(repeated) - min(repeated) <= 1
