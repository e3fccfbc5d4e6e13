"""Features of a fixed encoder that are kept on disk: computed once per image, and believed if undamaged."""

import numpy as np
import pytest
import torch
from trials import Bench, configure, results

from baselines.backbones.dcnn3 import DCNN3
from harness.api import Backbone, Images
from harness.config.trial import ComputeConfig
from harness.plugins import registry
from harness.trial import features
from harness.trial import runtime as runtime_module
from harness.trial.memory import own_memory
from harness.trial.rounds import Rounds
from harness.trial.runtime import Runtime


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("weights") / "w.pt"
    torch.manual_seed(0)
    torch.save(DCNN3((1, 8, 8), width=4).state_dict(), file)
    return str(file)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture
def bench(cache, tmp_path):
    return Bench(cache, tmp_path / "stages")


@pytest.fixture
def encoded(monkeypatch):
    """How many images each call of `encode` was given."""
    counts = []
    encode = features.encode

    def spy(*arguments):
        counts.append(len(arguments[3]))
        return encode(*arguments)

    monkeypatch.setattr(features, "encode", spy)
    return counts


@pytest.fixture
def ran(monkeypatch):
    """The rounds that were run."""
    every = []
    run = Rounds.run
    monkeypatch.setattr(Rounds, "run", lambda self: (run(self), every.append(self)))
    return every


def frozen(weights, **settings):
    backbone = {"name": "dcnn3", "width": 4, "weights": weights} | settings.pop("backbone", {})
    base = {"backbone": backbone, "ssl_method": "none", "classifier": "ridge", "labels": {"start": 20}}
    return configure(**base | settings)


def test_each_image_is_encoded_once_whatever_seed_split_or_selector_asks(bench, weights, encoded, ran):
    more = {"labels": {"start": 20, "budget": 10, "rounds": 1}}
    first, totals = bench.run(frozen(weights), seed=0)
    parts = {part: len(images) for part, images in ran[0].encoder.parts.items()}
    assert sorted(encoded) == sorted(parts.values())
    assert totals["time/saved_seconds"] == 0
    again, totals = bench.run(frozen(weights, backbone={"freeze": True}), seed=1)
    _, later = bench.run(frozen(weights, selector="coreset", **more), seed=2)
    assert len(encoded) == 2
    assert 0 < totals["time/saved_seconds"] == pytest.approx(totals["time/encode_seconds"], rel=0.5)
    assert later["time/saved_seconds"] > 0
    assert again != first
    other = {"fraction": 0.3, "split_seed": 5, "normalize": False}
    bench.run(frozen(weights, data=other), seed=3)  # shown otherwise: nothing is shared
    bench.run(frozen(weights, data=other | {"split_seed": 6}), seed=3)
    _, _, pool, val, *rest = encoded
    share = len(ran[-2].context.data.pool) + len(ran[-2].context.data.val)
    assert (pool + val, len(rest)) == (share, 2)
    assert sum(rest) < 0.8 * share  # of another split some images are the same


def test_the_features_are_those_of_the_encoder_and_do_not_depend_on_who_asked_before(cache, tmp_path, weights, ran):
    small, whole = (frozen(weights, data={"fraction": share, "normalize": False}) for share in (0.2, 1.0))
    Bench(cache, tmp_path / "grown").run(small)
    Bench(cache, tmp_path / "grown").run(whole)
    Bench(cache, tmp_path / "at once").run(whole)
    _, grown, at_once = (rounds.encoder for rounds in ran)
    for part in ("pool", "val"):
        assert torch.equal(grown.features(part), at_once.features(part))
        expected = grown.runtime.forward(grown.backbone, grown.parts[part])
        assert torch.allclose(grown.features(part), expected, atol=1e-5)


def test_results_are_the_same_with_features_from_the_disk(bench, weights):
    config = frozen(weights, selector="typiclust", labels={"start": 20, "budget": 10, "rounds": 1})
    assert results(bench.run(config)[0]) == results(bench.run(config)[0])


def test_images_under_an_augmentation_that_draws_nothing_are_encoded_once_too(bench, weights, encoded, ran):
    head = {"name": "finetune", "epochs": 2, "backbone_lr": 0.0, "augmentation": {"name": "center_crop", "keep": 0.6}}
    grows = {"labels": {"start": 20, "budget": 10, "rounds": 1}}
    _, first = bench.run(frozen(weights, classifier=head, **grows), seed=0)
    under = ran[0].encoder.features_of_views(torch.arange(30))
    pool = ran[0].context.data.pool.subset(torch.arange(30))
    view = registry.build(ran[0].context.config.classifier.augmentation)
    shown = lambda images: view(images, view=0, rng=torch.Generator())  # noqa: E731
    expected = ran[0].encoder.runtime.forward(ran[0].encoder.backbone, pool, shown)
    assert torch.allclose(under, expected, atol=1e-5)
    assert not torch.allclose(under, ran[0].encoder.features("pool")[:30], atol=1e-2)
    encoded.clear()
    _, again = bench.run(frozen(weights, classifier=head | {"lr": 0.1}, **grows), seed=0)
    assert sum(encoded) == 0
    # what others computed is counted as if it had been computed here: by the mean of an image, so not to the digit
    assert again["time/encode_seconds"] == pytest.approx(first["time/encode_seconds"], rel=0.5)
    bench.run(frozen(weights, classifier=head | {"augmentation": {"name": "center_crop", "keep": 0.9}}), seed=0)
    assert sum(encoded) == 20  # seen otherwise


def test_nothing_runs_the_encoder_again_for_another_selector(bench, weights, monkeypatch):
    more = {"labels": {"start": 20, "budget": 10, "rounds": 1}}
    first = bench.run(frozen(weights, selector="random", **more))[1]
    monkeypatch.setattr(DCNN3, "forward", lambda self, images: pytest.fail("an image is encoded again"))
    second = bench.run(frozen(weights, selector="typiclust", **more))[1]
    assert second["pretrain/rankme"] == first["pretrain/rankme"]


def test_another_encoder_has_features_of_its_own(bench, weights, encoded, tmp_path):
    torch.save(DCNN3((1, 8, 8), width=4).state_dict(), tmp_path / "other.pt")
    bench.run(frozen(weights))
    bench.run(frozen(str(tmp_path / "other.pt")))
    bench.run(frozen(weights, backbone={"input_size": 16}))
    bench.run(frozen(weights, backbone={"normalize": [[0.5], [0.5]]}))
    assert len(encoded) == 8
    assert len(set(bench.folders.stages.glob("features/*"))) == 4


def test_test_images_are_not_encoded_before_they_may_be_read(bench, weights, ran):
    bench.run(frozen(weights))
    (file,) = bench.folders.stages.glob("features/*/*.crc")
    name, count, rows = ran[0].context.data.places["test"]
    there = np.fromfile(file, np.uint32) != 0
    assert (name, count) == (file.stem, len(there))
    assert not there[rows.numpy()].any()
    asked = sum(len(images) for images in ran[0].encoder.parts.values())
    assert there.sum() == asked
    bench.run(frozen(weights), with_test=True)
    there = np.fromfile(file, np.uint32) != 0
    assert there[rows.numpy()].all()
    assert there.sum() == asked + len(rows)


@pytest.mark.parametrize("damage", ["a value", "the values' end", "the checksums", "the header"])
def test_damaged_features_are_computed_again(bench, weights, encoded, capsys, damage):
    before = results(bench.run(frozen(weights))[0])
    (values,) = bench.folders.stages.glob("features/*/*.npy")
    sums = values.with_suffix(".crc")
    if damage == "a value":
        row = int((np.fromfile(sums, np.uint32) != 0).nonzero()[0][3])
        kept = np.load(values, mmap_mode="r+")
        kept[row, 5] += 1
        kept.flush()
    elif damage == "the values' end":
        values.write_bytes(values.read_bytes()[:-100])
    elif damage == "the checksums":
        sums.write_bytes(b"1234")
    else:
        values.write_bytes(b"no array" + values.read_bytes()[8:])
    count = sum(encoded)
    assert results(bench.run(frozen(weights))[0]) == before
    assert sum(encoded) - count == (1 if damage == "a value" else count)
    assert "damaged" in capsys.readouterr().err


def test_encoders_that_a_trial_trains_or_draws_keep_nothing(bench, weights, encoded):
    bench.run(configure(ssl_method="none", classifier="ridge", labels={"start": 20}))
    bench.run(configure(backbone={"name": "dcnn3", "width": 4, "weights": weights}, labels={"start": 20}))
    assert not encoded
    assert not list(bench.folders.stages.glob("features/*"))


def test_batches_hold_many_small_images_and_few_large_ones():
    def size(side, scale=1.0):
        runtime = Runtime(torch.device("cpu"), "float32", False, torch.zeros(1), torch.ones(1), scale=(scale, scale))
        return runtime.batch_size(Images(torch.zeros(1, 3, side, side, dtype=torch.uint8)))

    assert [size(8), size(112), size(56, 2.0), size(224), size(2000)] == [512, 64, 64, 16, 1]


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_features_depend_on_the_size_of_a_batch_by_rounding_alone(monkeypatch, batch):
    torch.manual_seed(0)
    images = Images(torch.randint(256, (50, 3, 16, 16), dtype=torch.uint8))
    backbone, runtime = DCNN3((3, 16, 16)), Runtime.of(ComputeConfig(device="cpu"), torch.zeros(3), torch.ones(3))
    backbone(torch.rand(40, 3, 16, 16))  # statistics of batch norm that are not those of a fresh network
    every = torch.arange(50)
    expected = runtime.forward(backbone.eval(), images), features.encode(backbone, runtime, images, every)
    monkeypatch.setattr(runtime_module, "EVALUATION_BATCH", batch)
    assert runtime.batch_size(images) == batch
    actual = runtime.forward(backbone, images), features.encode(backbone, runtime, images, every)
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


class Means(Backbone):
    """The mean of each channel."""

    feature_dim = 3

    def forward(self, images):
        return images.mean((2, 3))


@pytest.mark.skipif(own_memory() is None, reason="this system does not tell what a process holds")
def test_images_on_the_disk_stream_through_the_encoder(tmp_path):
    """Of 123 MB of images it holds a batch, and hands out each one's features."""
    store = np.lib.format.open_memmap(tmp_path / "i.npy", "w+", dtype=np.uint8, shape=(40_000, 3, 32, 32))
    store[::5000] = np.arange(8)[:, None, None, None]
    images, held = Images(torch.from_numpy(store)), []
    backbone = Means()
    runtime = Runtime.of(ComputeConfig(device="cpu"), torch.zeros(3), torch.ones(3))
    features.encode(backbone, runtime, images, torch.arange(512))
    before = own_memory()
    result = features.encode(
        backbone, runtime, images, torch.arange(40_000), advance=lambda _: held.append(own_memory())
    )
    assert max(held) - before < 40e6
    np.testing.assert_allclose(result[::5000], np.arange(8)[:, None].repeat(3, 1) / 255, rtol=1e-5)


def test_a_selector_is_handed_no_rows(bench, weights, ran):
    """The rows of a folder that is sorted by class would tell the labels."""
    bench.run(frozen(weights))
    pool = ran[0].encoder.of_pool()
    reachable = [value for value in vars(pool).values() if isinstance(value, features.KeptFeatures)]
    assert not reachable
    assert isinstance(pool.parts["pool"], Images)
