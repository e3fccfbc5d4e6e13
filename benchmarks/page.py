"""How long the page of a large sweep takes: to be written, to be served, and to open in a browser.

    python -m benchmarks.page [--trials 10000]
    python -m benchmarks.page --compared 80

The folder is made up: a search of so many configurations, four fifths of them finished; or so many confirmed ones under
four seeds, in three rounds, each compared with the reference and with each other. Beside it lie stages, three a trial.
It is served as `selbench report --serve` does; Chromium opens the list of sweeps and then the page, both timed until
they are loaded. Without Chromium the last figure is left out.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np

from harness.files import STAGES
from harness.plain_yaml import to_yaml
from harness.records import rows as record_rows
from harness.report.serve import open_server
from harness.report.write import write_report


def make(folder: Path, trials: int) -> None:
    """Leaves the folder of a sweep that has ended."""
    domains = {
        "ssl_method.temperature": {"distribution": "log_uniform_values", "min": 0.05, "max": 1.0},
        "pretrain.epochs": {"values": [5, 10, 20]},
        "augmentation.first": {"values": ["crop", "flip", "blur"]},
    }
    space = {"name": "large", "description": "How large may it be?", "method": "random", "seeds": [0]}
    space |= {"metric": [{"name": "val/accuracy", "goal": "maximize"}], "parameters": domains}
    (folder / "space.yaml").write_text(to_yaml(space), encoding="utf-8")
    data = {"name": "digits", "fingerprint": "0a" * 32, "train": 1200, "val": 150, "test": 300, "classes": 10}
    (folder / "environment.json").write_text(json.dumps({"datasets": [data]}), encoding="utf-8")
    rng = np.random.default_rng(0)
    with (folder / "rows.jsonl").open("wb") as file:
        for number in range(trials):
            temperature, epochs = float(np.exp(rng.uniform(np.log(0.05), 0))), int(rng.choice([5, 10, 20]))
            parameters = {"ssl_method.temperature": temperature, "pretrain.epochs": epochs}
            parameters |= {"augmentation.first": str(rng.choice(["crop", "flip", "blur"]))}
            name = f"search-{number:08x}-s0"
            base = {"trial": name, "configuration": f"{number:08x}", "phase": "search", "seed": 0, "time": number}
            base |= {"parameters": parameters}
            history: record_rows.History = {}
            accuracy = 0.7 + 0.05 * float(rng.normal()) + 0.002 * epochs
            told = [("epoch", epoch, {"pretrain/loss": 5 / epoch}, "running") for epoch in (1, 2, 3)]
            ending = "finished" if number % 5 else "stopped"
            told.append(("labels", 200, {"val/accuracy": accuracy, "time/total_seconds": 10.0 + epochs}, ending))
            for kind, step, metrics, status in told:
                record = base | {"step_kind": kind, "step": step, "metrics": metrics, "status": status}
                record = record_rows.sealed(history, record) if status != "running" else record
                file.write(record_rows.line(record))
                record_rows.add(history, record)
            (folder / "trials" / name).mkdir(parents=True)


def make_compared(folder: Path, configurations: int) -> None:
    """Leaves the folder of a grid of so many configurations x 4 seeds x 3 rounds."""
    temperatures = {"ssl_method.temperature": {"values": [0.1 + 0.001 * number for number in range(configurations)]}}
    space = {"name": "large", "description": "How large may it be?", "method": "grid", "seeds": [0, 1, 2, 3]}
    space |= {"metric": [{"name": "val/accuracy", "goal": "maximize"}], "parameters": temperatures}
    (folder / "space.yaml").write_text(to_yaml(space), encoding="utf-8")
    data = {"name": "digits", "fingerprint": "0a" * 32, "train": 1200, "val": 150, "test": 300, "classes": 10}
    (folder / "environment.json").write_text(json.dumps({"datasets": [data]}), encoding="utf-8")
    rng, seconds = np.random.default_rng(0), {"pretrain": 12.0, "select": 2.0, "train": 6.0, "total": 20.0}
    totals = {f"time/{stage}_seconds": value for stage, value in seconds.items()}
    with (folder / "rows.jsonl").open("wb") as file:
        for number, seed in itertools.product(range(configurations), range(4)):
            name = f"confirm-{number:08x}-s{seed}"
            base = {"trial": name, "configuration": f"{number:08x}", "phase": "confirm", "seed": seed}
            base |= {"parameters": {"ssl_method.temperature": temperatures["ssl_method.temperature"]["values"][number]}}
            history: record_rows.History = {}
            told = [("epoch", epoch, {"pretrain/loss": 5 / epoch}) for epoch in (1, 2, 3)]
            told += [("labels", 100 * k, {"val/accuracy": 0.5 + 0.05 * k + 0.02 * rng.normal()}) for k in (1, 2, 3)]
            for place, (kind, step, metrics) in enumerate(told):
                about = {"step_kind": kind, "step": step, "metrics": metrics, "time": 4 * number + seed}
                record = base | about | {"status": "running"}
                if place == len(told) - 1:
                    record |= {"status": "finished", "metrics": metrics | totals}
                    record = record_rows.sealed(history, record)
                file.write(record_rows.line(record))
                record_rows.add(history, record)
            (folder / "trials" / name).mkdir(parents=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--compared", type=int, help="so many confirmed configurations in the place of a search")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "large"
        folder.mkdir()
        if options.compared:
            make_compared(folder, options.compared)
        else:
            make(folder, options.trials)
        for kind, number in itertools.product(("pretrain", "select", "train"), range(options.trials)):
            (folder.parent / STAGES.name / kind / f"{number:024x}").mkdir(parents=True)
        started, cpu = time.perf_counter(), time.process_time()
        write_report(folder)
        print(f"figure page_write_s {time.perf_counter() - started:.1f}")
        print(f"figure page_write_cpu_s {time.process_time() - cpu:.1f}")
        print(f"figure page_mb {(folder / 'report.html').stat().st_size / 1e6:.2f}")
        server = open_server(folder.parent, 0)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = f"http://127.0.0.1:{server.server_address[1]}/"
        for name, address in (("list", base), ("page", f"{base}large/")):
            started, cpu = time.perf_counter(), time.process_time()
            urllib.request.urlopen(address).read()
            print(f"figure page_served_{name}_s {time.perf_counter() - started:.3f}")
            print(f"figure page_served_{name}_cpu_s {time.process_time() - cpu:.3f}")
        _browse(f"{base}large/")
        server.shutdown()


def _browse(address: str) -> None:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        return
    if chromium:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page()
            started = time.perf_counter()
            page.goto(address)
            print(f"figure page_opened_s {time.perf_counter() - started:.2f}")
            browser.close()


if __name__ == "__main__":
    main()
