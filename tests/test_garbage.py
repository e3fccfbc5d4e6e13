"""No garbage is looked for while libraries are imported, nor among them afterwards."""

from __future__ import annotations

import contextlib
import gc
import subprocess
import sys
from pathlib import Path

import pytest

from harness.garbage import nothing_collected

ROOT = Path(__file__).resolve().parent.parent

COUNTED = """
import gc, sys

whole = []
gc.callbacks.append(lambda phase, about: whole.append(about["generation"] == 2 and phase == "start"))
{imported}
print(sum(whole), gc.isenabled(), gc.get_freeze_count())
"""


def test_the_collector_rests_inside_and_is_as_it_was_afterwards():
    frozen = gc.get_freeze_count()
    try:
        inside = []
        with contextlib.suppress(KeyError), nothing_collected():
            inside.append(gc.isenabled())
            raise KeyError
        assert inside == [False]
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        gc.disable()
        with nothing_collected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
        gc.unfreeze()


@pytest.mark.parametrize(
    "imported",
    [
        "import harness.sweep.warm",
        "from harness.sweep.command import main; main(['search_spaces/augment.yaml', '--dry-run', '--quiet'])",
    ],
)
def test_what_is_imported_at_the_start_is_not_searched_for_garbage(imported):
    code = COUNTED.format(imported=imported)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    searched, enabled, kept = done.stdout.splitlines()[-1].split()
    assert int(searched) == 0
    assert enabled == "True"
    assert int(kept) > 100_000
