"""One trial alone: what cannot be is one line, and what is measured is not lost for a file that cannot be written."""

from __future__ import annotations

import pytest

from harness.trial import alone
from harness.trial.__main__ import main

TRIAL = {"dataset": "digits", "ssl_method": "none", "classifier": "knn", "labels": {"start": 20}}


@pytest.fixture
def folders(cache, tmp_path):
    return {"stages": tmp_path / "stages", "cache": cache}


WRONG = {
    "no folder for the portrait": (["--portrait", "{0}/gone/p.npz"], "portrait {0}/gone/p.npz: no folder {0}/gone"),
    "a folder as portrait": (["--portrait", "{0}"], "portrait {0}: is a folder"),
    "a file as cache": (["--cache", "{0}/trial.yaml"], "{0}/trial.yaml"),
    "a file as stages": (["--stages", "{0}/trial.yaml"], "{0}/trial.yaml"),
    "a name too long": (["--set", f"trial.dataset={{{{name: npz, path: {'a' * 300}}}}}"], "File name too long"),
    "nobody's home": (
        ["--set", "trial.dataset={{name: image_folder, path: ~nobody-here/x}}"],
        "/~nobody-here/x; put one folder of images per class there",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_read_or_written_is_one_line(folders, tmp_path, capsys, case):
    arguments, message = WRONG[case]
    file = tmp_path / "trial.yaml"
    file.write_text("dataset: digits\nssl_method: none\nclassifier: knn\nlabels: {start: 20}\n")
    said = [text for name, folder in folders.items() for text in (f"--{name}", str(folder))]
    assert main([str(file), *said, *(text.format(tmp_path) for text in arguments)]) == 2
    out, err = capsys.readouterr()
    assert message.format(tmp_path) in err.splitlines()[-1]
    assert out == ""


def test_a_portrait_that_cannot_be_written_costs_no_measurement(folders, tmp_path):
    def block(record: alone.Measured) -> None:
        (tmp_path / "p.npz").mkdir(exist_ok=True)

    ended = alone.run_trial(TRIAL, portrait=tmp_path / "p.npz", show=block, **folders)
    assert "val/accuracy" in ended.totals
    assert ended.warning
    assert ended.warning.startswith("no portrait: [Errno 21] Is a directory")
