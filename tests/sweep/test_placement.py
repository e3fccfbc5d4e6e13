"""Where trials fit, and what is said where they do not."""

from __future__ import annotations

import pytest

from harness.config.resources import Resources
from harness.config.schema import ConfigError
from harness.sweep.placement import Node, place

GIB = 2**30


def node(name: str = "n", gpu_bytes: int = 0, **resources: float) -> Node:
    return Node(name, {"CPU": 4.0, "node:10.0.0.1": 1.0, "memory": 1e9, **resources}, gpu_bytes)


@pytest.mark.parametrize(
    ("asked", "nodes", "concurrent"),
    [
        (Resources(), [node()], 4),
        (Resources(cpus=3), [node(), node(), node()], 3),  # 12 cores in all, but a trial lies on one node
        (Resources(max_concurrent=2), [node()], 2),
        (Resources(gpus=0.25), [node(GPU=1.0), node()], 4),
        (Resources(gpus=0.4), [node(CPU=64, GPU=2.0)], 4),  # two on each GPU, not five on both
        (Resources(gpus=1 / 3), [node(GPU=1.0)], 3),
        (Resources(custom={"a100": 1}), [node(a100=2.0), node(), node(a100=1.0)], 3),
        (Resources(custom={"a100": 0.5}), [node(a100=1.0)], 2),
        (Resources(trials_per_gpu=3), [node(GPU=1.0), node()], 3),
        (Resources(), [node(CPU=64, GPU=1.0, gpu_bytes=24 * GIB), node(CPU=64, GPU=1.0, gpu_bytes=80 * GIB)], 6),
    ],
)
def test_as_many_trials_run_as_fit_on_the_nodes_one_by_one(asked, nodes, concurrent):
    assert place(asked, nodes, "sweep").concurrent == concurrent


def test_a_trial_gets_what_was_asked_for():
    placement = place(Resources(cpus=2, gpus=0.25, custom={"a100": 1}), [node(GPU=1.0, a100=1.0)], "sweep")
    assert placement.resources == {"cpu": 2, "gpu": 0.25, "a100": 1}


@pytest.mark.parametrize(
    ("asked", "nodes", "message"),
    [
        (Resources(cpus=8), [node()], "resources.cpus: 8 asked for, but this machine has 4"),
        (Resources(cpus=8), [node(), node()], "resources.cpus: 8 asked for, but the largest of 2 nodes has 4"),
        (Resources(gpus=0.5), [node()], "resources.gpus: 0.5 asked for, but this machine has 0"),
        (Resources(custom={"a10": 1}), [node(a100=1.0)], "resources.custom.a10: no node has it; did you mean 'a100'?"),
        (Resources(custom={"a100": 1}), [node()], "resources.custom.a100: no node has it; none is known"),
        (Resources(custom={"a100": 2}), [node(a100=1.0)], "resources.custom.a100: 2 asked for, but this machine has 1"),
        (
            Resources(cpus=8, custom={"a100": 1}),
            [node("big", CPU=8.0), node("fast", a100=1.0)],
            "resources: no node has 8 CPU, 1 a100 together; there are big: 8 CPU; fast: 4 CPU, 1 a100",
        ),
    ],
)
def test_what_fits_nowhere_is_refused_with_what_there_is(asked, nodes, message):
    with pytest.raises(ConfigError) as refused:
        place(asked, nodes, "sweep")
    assert refused.value.problems == [f"sweep: {message}"]
