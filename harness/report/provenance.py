"""How a sweep was made: what a reader must know of data, hardware, code and cost."""

from __future__ import annotations

from harness import messages
from harness.report import words
from harness.report.model import Report


def facts(report: Report) -> list[tuple[str, list[str]]]:
    """What was searched and confirmed, where, with what, and beside what: names and what is to be said of each."""
    space, environment = report.space, report.environment
    domains = [f"`{path}`: {words.domain(spec)}" for path, spec in (space.get("parameters") or {}).items()]
    cases = [f"cases {', '.join(space['cases'])}"] if space.get("cases") else []
    data_sets = environment["datasets"]
    gpus = ", ".join(map(str, environment.get("gpus") or [])) or "no GPU"
    at_once = environment.get("concurrent_trials")
    sharing = "one trial at a time" if at_once == 1 else f"up to {at_once} trials at once, sharing the machine"
    seeds = ", ".join(map(str, sorted({seed for entry in report.confirmed for seed in entry.seeds}))) or "none"
    versions = {"python": environment.get("python"), **environment.get("packages", {})}
    changes = " with uncommitted changes" if environment.get("dirty") else ""
    saved = f"{messages.duration(report.saved)} came from the cache, not spent again"
    return [
        (
            f"{'Searched' if report.searched else 'Compared'} by {space.get('method')}",
            [*cases, *domains] or ["one configuration"],
        ),
        ("Confirmed", [f"{messages.count(len(report.confirmed), 'configuration')}, seeds {seeds}"]),
        ("Data", [words.data_set(data) for data in data_sets]),
        ("Hardware", [f"{environment.get('cpu')}, {environment.get('cores')} cores, {gpus}", f"times with {sharing}"]),
        ("Compute", [f"{messages.duration(report.seconds)}, of which {saved}"]),
        ("Commit", [f"`{str(environment.get('commit') or 'unknown')[:12]}`{changes}"]),
        ("Versions", [", ".join(f"{name} {version}" for name, version in versions.items())]),
        ("Command", [f"`{environment.get('command')}`, started {environment.get('started')}"]),
    ]
