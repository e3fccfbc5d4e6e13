"""How long a pre-training is where nobody says it, and how many steps it is recorded to have made."""

import torch
from trials import Bench, configure

from harness.config.trial import AUTO_EPOCHS, AUTO_STEPS, PretrainConfig
from harness.trial.batches import even_batches
from harness.trial.lengths import for_images, steps


def test_batches_are_a_power_of_two_up_to_an_eighth_of_the_images():
    for images in (1, 2, 15, 16, 17, 31, 32, 100, 432, 511, 512, 1000, 2047, 2048, 50_000):
        size = for_images(PretrainConfig(), images).batch_size
        sizes = [power for power in (2, 4, 8, 16, 32, 64, 128, 256) if power <= images / 8]
        assert size == max(sizes, default=2), images


def test_few_images_are_passed_over_until_the_steps_are_enough_and_no_longer():
    for images in (3, 50, 432, 1000, 5000, 12_000, 50_000):
        chosen = for_images(PretrainConfig(), images)
        by_epoch = len(even_batches(images, chosen.batch_size, torch.Generator()))
        assert steps(chosen, images) == chosen.epochs * by_epoch >= AUTO_STEPS
        assert chosen.epochs == AUTO_EPOCHS or (chosen.epochs - 1) * by_epoch < AUTO_STEPS


def test_what_is_named_stays_and_the_other_follows_it():
    named = PretrainConfig(epochs=3, batch_size=100)
    assert for_images(named, 60) == named
    assert for_images(PretrainConfig(batch_size=500), 1000).epochs == AUTO_STEPS // 2
    assert for_images(PretrainConfig(epochs=0), 1000).epochs == 0


def test_auto_is_the_training_of_its_numbers_and_the_steps_are_recorded(tmp_path):
    bench = Bench(tmp_path / "cache", tmp_path / "stages")
    auto = configure(pretrain={"epochs": 2, "batch_size": "auto"}, labels={"start": 20})
    rows, _ = bench.run(auto)
    images = round(1797 * 0.6 * 0.15)  # some: an eighth lies between 16 and 32
    assert for_images(auto.pretrain, images).batch_size == 16
    taken, totals = bench.run(configure(pretrain={"epochs": 2, "batch_size": 16}, labels={"start": 20}))
    assert totals["stage/pretrain_cached"] == 1
    recorded = [[row[2]["pretrain/steps"] for row in made if row[0] == "epoch"] for made in (rows, taken)]
    first, last = recorded[0]
    assert recorded == [[first, 2 * first]] * 2
    assert last == 2 * first
    assert 8 <= first <= 16


def test_a_scaled_rate_is_that_of_the_batch_asked_for_where_fewer_labels_make_it_smaller(tmp_path):
    """Or one stage would have two results."""
    losses = []
    for number, rate in enumerate([0.06, {"value": 0.06, "per": 128}]):
        bench = Bench(tmp_path / "cache", tmp_path / f"stages{number}")
        settings = {"epochs": 2, "batch_size": 128, "lr": rate}
        rows, _ = bench.run(configure(ssl_method="supervised", pretrain=settings, labels={"start": 20}))
        losses.append([row[2]["pretrain/loss"] for row in rows if row[0] == "epoch"])
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2
