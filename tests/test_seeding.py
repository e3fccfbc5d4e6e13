"""One seed, many streams: known values, independence, and global generators that come back."""

import hashlib
import subprocess
import sys

import pytest
import torch

from harness.seeding import derive, generator, seeded


def test_derive_is_sha256_of_seed_and_name():
    """The first 63 bits, as in every process and on every machine: a change would change all results."""
    first_bytes = hashlib.sha256(b"7/split").hexdigest()[:16]
    assert derive(7, "split") == int(first_bytes, 16) // 2
    code = "from harness.seeding import derive; print(derive(7, 'split'))"
    assert int(subprocess.check_output([sys.executable, "-c", code])) == derive(7, "split")


def test_derived_seeds_fit_every_generator():
    seeds = {derive(seed, name) for seed in range(50) for name in ("a", "b", "c", "a/1", "a/2")}
    assert len(seeds) == 250
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # the high bits are used


def test_streams_of_different_names_or_seeds_differ():
    draws = {
        tuple(torch.rand(4, generator=generator(seed, name)).tolist()) for seed in (0, 1) for name in ("split", "order")
    }
    assert len(draws) == 4


def test_a_stream_does_not_depend_on_other_streams():
    alone = torch.rand(3, generator=generator(0, "split"))
    first, second = generator(0, "order"), generator(0, "split")
    torch.rand(100, generator=first)
    assert torch.equal(torch.rand(3, generator=second), alone)


def test_generator_leaves_the_global_one_alone():
    before = torch.get_rng_state()
    torch.rand(3, generator=generator(0, "split"))
    assert torch.equal(torch.get_rng_state(), before)


def test_seeded_gives_the_same_inside_and_restores_outside():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with seeded(0, "weights"):
        inside = torch.rand(2)
    assert torch.equal(torch.rand(4), expected)
    with seeded(0, "weights"):
        assert torch.equal(torch.rand(2), inside)
    with seeded(0, "dropout"):
        assert not torch.equal(torch.rand(2), inside)


def test_seeded_restores_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="inside"), seeded(0, "weights"):
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)
