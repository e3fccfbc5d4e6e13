"""What cannot be written into a sweep's folder is a line, whatever it is."""

from __future__ import annotations

import pytest
from sweep_folder import augmentation_sweep

from harness.report.__main__ import main


@pytest.mark.parametrize("name", ["report.html", "summary.md", "leaderboard.csv", "figures"])
def test_what_cannot_be_written_is_a_line_and_exit_2(tmp_path, capsys, name):
    """A folder lies where a file belongs, or the other way around: permissions do not hold the superuser."""
    sweep = augmentation_sweep(tmp_path / "sweep")
    if name == "figures":
        (sweep.path / name).write_text("")
    else:
        (sweep.path / name).unlink(missing_ok=True)
        (sweep.path / name / "in_the_way").mkdir(parents=True)
    assert main([str(sweep.path), "--figures", "svg"]) == 2
    said = capsys.readouterr()
    (line,) = [line for line in said.err.splitlines() if name in line]
    assert "Errno" in line
    assert said.out == ""
