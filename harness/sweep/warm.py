"""What a worker of Ray's imports as soon as it starts, before it knows which trial it will run."""

from harness.garbage import nothing_collected

with nothing_collected():
    import harness.sweep.worker  # noqa: F401
