"""Runs the trials of `test_stage_keys`, each in a process that has imported no line of this project before.

A new process needs seconds to import torch, so this one imports the libraries, once, and is forked for each trial. A
line of its input is a job in JSON, which is answered with a line, the exit code, when it is done:

    result       file for the rows and for which stages were cached, of each run
    errors       file that stderr is added to
    path         where Python looks first
    environment  variables, set before torch looks at any
    threads      of torch
    seed         of the trial
    settings     of `trials.configure`
    folders      pairs, of stages and of decoded data: the trial runs once with each
    edit         file -> text that is written at the first record of the first run
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any


def run(job: dict[str, Any]) -> None:
    """Runs the job's trial once with each pair of folders."""
    sys.path[:0] = job["path"]
    os.environ.update(job["environment"])
    import torch

    torch.set_num_threads(job["threads"])
    from trials import configure, results

    from harness.trial.run import Folders
    from harness.trial.run import run as run_trial

    edits = dict(job["edit"])
    runs = []
    for stages, cache in job["folders"]:
        rows: list[Any] = []

        def report(step_kind: str, step: int, metrics: Any, details: Any) -> None:
            told = asdict(replace(details, stages=None))  # without the names
            rows.append((step_kind, step, dict(metrics), told))  # noqa: B023
            while edits:
                file, text = edits.popitem()
                Path(file).write_text(text)

        folders = Folders(Path(cache), Path(stages))
        totals = run_trial(configure(**job["settings"]), job["seed"], folders, report, with_test=False)
        rows.append(("totals", 0, totals, {}))
        cached = {
            name.removeprefix("stage/").removesuffix("_cached"): bool(value)
            for *_, metrics, _ in rows
            for name, value in metrics.items()
            if name.startswith("stage/")
        }
        runs.append({"rows": results(rows), "cached": cached})
    Path(job["result"]).write_text(json.dumps(runs))


def serve() -> None:
    """Answers jobs until the input ends."""
    import numba  # noqa: F401
    import PIL.Image  # noqa: F401
    import rich.progress  # noqa: F401
    import sklearn.svm  # noqa: F401
    import threadpoolctl  # noqa: F401
    import torch  # noqa: F401
    import torchvision  # noqa: F401

    sys.dont_write_bytecode = True
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            os.dup2(os.open(job["errors"], os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)
            code = 1
            try:
                run(job)
                code = 0
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


if __name__ == "__main__":
    serve()
