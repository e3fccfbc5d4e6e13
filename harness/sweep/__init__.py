"""`python -m harness.sweep FILE`: trials scheduled by Ray Tune. Only here Ray is imported."""

import os

os.environ.update(
    {
        "RAY_AIR_NEW_OUTPUT": "0",  # with verbose=0: no output of Ray's own
        "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths keep their meaning in workers
        "RAY_memory_monitor_refresh_ms": "0",  # it would end the whole sweep, not the trial that needs too much
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_worker_niceness": "0",  # the default of 15 would let any other process distort the times
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_DISABLE_SIGINT_HANDLER": "1",  # `Interrupts` is ours
        "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "600",  # resuming reads our own records, not Ray's snapshots
    }
)
