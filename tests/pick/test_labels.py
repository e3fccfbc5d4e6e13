"""Labels that come back: CSV and Label Studio's export, and everything that can be wrong with them."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest

from harness.pick import candidates, command

NAMES = [f"day {number % 2}/{number:02}.jpg" for number in range(40)]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A file of embeddings in the working folder, and a function that picks from it."""
    monkeypatch.chdir(tmp_path)
    features = np.random.default_rng(0).normal(size=(len(NAMES), 6)).astype(np.float32)
    np.savez("photos.npz", files=np.array(NAMES), embeddings=features)

    def pick(*arguments: object) -> int:
        said = ["photos.npz", "--selector", "typiclust", "--classes", "cat,dog", "--budget", "4"]
        return command.main([*said, *map(str, arguments)])

    return pick


def picked(number: int = 1) -> list[str]:
    with open(f"picks/round-{number}.json") as stream:
        return [task["data"]["path"] for task in json.load(stream)]


def export(paths: list[str], label: str = "cat") -> str:
    """What Label Studio exports of tasks that a person has done."""
    result = [{"type": "choices", "from_name": "label", "to_name": "image", "value": {"choices": [label]}}]
    tasks = [
        {
            "id": number,
            "data": {"image": f"/data/local-files/?d={path}", "path": path},
            "annotations": [{"result": result}],
        }
        for number, path in enumerate(paths, start=1)
    ]
    return json.dumps(tasks)


def write(name: str, text: str) -> str:
    with open(name, "w", encoding="utf-8") as stream:
        stream.write(text)
    return name


ONE = "path,label\nday 0/00.jpg,cat\n"
WRONG = {
    "unknown path": (
        f"{ONE}night/01.jpg,dog\n",
        "labels.csv: row 3: no image 'night/01.jpg'; did you mean 'day 1/01.jpg'?",
    ),
    "two labels": (
        "path,label,species\nday 0/00.jpg,cat,3\n",
        "labels.csv: label and species may each be the label. Set --label-column to one of label, species",
    ),
    "no path": (
        ONE.replace("path", "where").replace(".jpg", ""),
        "labels.csv: which column names the files? Call one of where, label 'path'",
    ),
    "column twice": ("path,label,label\n", "labels.csv: two columns are called 'label'; rename one"),
    "doubled path": (
        f"{ONE}./day 0/00.jpg,cat\n",
        "labels.csv: row 3: './day 0/00.jpg' stands twice, before in labels.csv: row 2",
    ),
    "contradiction": (
        f"{ONE}day 0/00.jpg,dog\n",
        "labels.csv: row 3: 'day 0/00.jpg' is 'dog' here and 'cat' in labels.csv: row 2",
    ),
    "unknown class": (ONE.replace("cat", "cta"), "no class 'cta'; did you mean 'cat'?"),
    "cells": (ONE.replace("cat", "cat,1"), "labels.csv: row 2 has 3 cells, and there are 2 columns"),
    "empty": ("", "labels.csv: the table has no rows"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_labels_is_one_line(desk, case, capsys):
    text, message = WRONG[case]
    assert desk("--labels", write("labels.csv", text)) == 2
    assert capsys.readouterr().err == message + "\n"


def test_everything_that_is_wrong_is_told_at_once_but_not_without_end(desk, capsys):
    text = "path,label\n" + "".join(f"gone-{number}.jpg,cat\n" for number in range(30))
    text += "day 0/00.jpg,cat\nday 0/00.jpg,dog\n"
    assert desk("--labels", write("labels.csv", text)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert lines[10] == "... and 20 more of this kind"
    assert "is 'dog' here" in lines[11]


def test_files_that_contradict_each_other(desk, capsys):
    one, two = write("one.csv", "path,label\nday 0/00.jpg,cat\n"), write("two.json", export(["day 0/00.jpg"], "dog"))
    assert desk("--labels", one, two) == 2
    assert capsys.readouterr().err == "two.json: task 1: 'day 0/00.jpg' is 'dog' here and 'cat' in one.csv: row 2\n"


def test_files_that_agree_may_overlap(desk, capsys):
    one, two = write("one.csv", "path,label\nday 0/00.jpg,cat\n"), write("two.json", export(["day 0/00.jpg", NAMES[1]]))
    assert desk("--labels", one, two) == 0
    assert "knowing 2 labels of 2 classes (--classes)" in capsys.readouterr().out


def judged(*people: list[str]) -> str:
    """An export of one task, with what each person chose."""
    annotations = [{"result": [{"value": {"choices": choices}}]} for choices in people]
    return json.dumps([{"id": 3, "data": {"path": NAMES[0]}, "annotations": annotations}])


WRONG_EXPORTS = {
    "no tasks": ('{"path": "a"}', "back.json: no list of records or of tasks of Label Studio"),
    "no JSON": ("[", "back.json: not JSON: Expecting value"),
    "no image": ('[{"id": 7, "data": {"text": "x"}}]', "back.json: task 7: its data name no image"),
    "two people": (judged(["cat"], ["dog"]), f"back.json: task 3: '{NAMES[0]}' is 'cat' and 'dog'"),
    "two classes": (judged(["cat", "dog"]), "back.json: task 3: 2 choices by one person; one class for each"),
    "all of them": (
        json.dumps([json.loads(judged(["cat"], ["dog"]))[0] | {"id": n} for n in range(12)]),
        f"back.json: task 0: '{NAMES[0]}' is 'cat' and 'dog'; task 1: ",
    ),
    "a record": (judged([{"a": 1}]), "back.json: task 3: its annotations are not as Label Studio writes them"),  # type: ignore[list-item]
    "unknown": (export(["gone.jpg"]), "back.json: task 1: no image 'gone.jpg'"),
}


@pytest.mark.parametrize("case", WRONG_EXPORTS)
def test_what_is_wrong_with_an_export_is_one_line(desk, case, capsys):
    text, message = WRONG_EXPORTS[case]
    assert desk("--labels", write("back.json", text)) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_of_many_contradicting_tasks_some_are_named_and_all_counted(desk, capsys):
    assert desk("--labels", write("back.json", WRONG_EXPORTS["all of them"][0])) == 2
    error = capsys.readouterr().err
    assert (error.count("'cat' and 'dog'"), error.endswith("; and 2 tasks more\n")) == (10, True)


def test_choices_are_classes_however_they_are_written(desk, capsys):
    """A blank behind one, a number, one text in place of a list, and a task that nobody has opened."""
    given = [["cat "], ["cat"], "cat", [7], None]
    tasks = [
        {"id": n, "data": {"path": NAMES[n]}, "annotations": [{"result": [{"value": {"choices": one}}]}]}
        for n, one in enumerate(given)
    ]
    tasks[-1]["annotations"] = None
    assert desk("--labels", write("back.json", json.dumps(tasks)), "--classes", "cat,7") == 0
    assert "knowing 4 labels of 2 classes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("results", "but"),
    [([{"value": {"rectanglelabels": ["cat"]}}], ", but rectanglelabels"), ([], "")],
)
def test_tasks_without_a_choice_are_said_to_have_none(desk, capsys, results, but):
    tasks = [{"id": n, "data": {"path": NAMES[n]}, "annotations": [{"result": results}]} for n in range(4)]
    assert desk("--labels", write("back.json", json.dumps(tasks))) == 0
    assert capsys.readouterr().err == f"back.json: none of its 4 tasks holds choices{but}; a class is a choice\n"


def exported(ending: str, labels: dict[str, str]) -> str:
    """Label Studio's JSON-MIN or CSV export of the tasks that `pick` wrote: a row per task, whatever its data hold."""
    with open("picks/round-1.json") as stream:
        tasks = [task["data"] for task in json.load(stream)]
    rows = [
        {"id": n, **task, "annotator": 1, "annotation_id": n, "lead_time": 1.2, "created_at": "2026-01-01T00:00:00Z"}
        | ({"label": labels[task["path"]]} if task["path"] in labels else {})
        for n, task in enumerate(tasks, start=1)
    ]
    if ending == "json":
        return json.dumps(rows)
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, sorted({key for row in rows for key in row}))
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


@pytest.mark.parametrize("ending", ["json", "csv"])
def test_picks_own_tasks_come_back_as_any_export_of_label_studio(desk, capsys, ending):
    assert desk() == 0
    first = picked()
    write(f"back.{ending}", exported(ending, dict(zip(first[:3], ["cat", "dog", "cat"], strict=True))))
    assert desk("--labels", f"back.{ending}") == 0
    assert "knowing 3 labels of 2 classes" in capsys.readouterr().out
    assert not set(picked(2)) & set(first[:3])


def test_paths_are_known_in_any_case_and_without_their_ending(desk, capsys):
    text = "id,label\nday 0/00,cat\nDAY 1/01.JPG,dog\nDay 0/02,dog\nfile://{}/day%201/03.jpg,cat\n"
    assert desk("--labels", write("labels.csv", text.format(Path.cwd()))) == 0
    assert "knowing 4 labels of 2 classes" in capsys.readouterr().out


def test_a_path_that_may_be_two_images_is_asked_about(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("e.npz", files=np.array(["a.jpg", "a.png", "B.png", "b.png"]), embeddings=np.eye(4, dtype=np.float32))
    said = ["e.npz", "--selector", "random", "--classes", "cat,dog", "--budget", "1", "--labels"]
    assert command.main([*said, write("l.csv", "id,label\na,cat\n")]) == 2
    error = "l.csv: row 2: no image 'a' alone: it may be 'a.jpg' or 'a.png'; write more of its path\n"
    assert capsys.readouterr().err == error
    assert command.main([*said, write("l.csv", "path,label\nb.png,cat\nA.PNG,dog\n")]) == 0


def test_what_stands_for_none_is_decided_by_all_files_together(desk, capsys):
    one = write("one.csv", f"path,label\n{NAMES[0]},3\n{NAMES[1]},4\n")
    two, three = write("two.csv", f"path,label\n{NAMES[2]},-1\n"), write("three.csv", f"path,label\n{NAMES[0]},3.0\n")
    assert desk("--labels", one, two, three, "--classes", "3,4") == 0
    out, err = capsys.readouterr()
    assert "knowing 2 labels of 2 classes" in out
    assert "--labels: 1 labels are -1, which stands for none" in err
    assert "--labels: labels are whole numbers: 3.0 is called 3" in err


def test_classes_seen_so_far_are_in_the_order_of_the_data_sets(desk):
    """Whole numbers as numbers: the order of the classes is part of how a head is trained, and so of what is picked."""
    numbers = [str(number) for number in range(3, 13)]
    text = "path,label\n" + "".join(f"{name},{numbers[n % 10]}\n" for n, name in enumerate(NAMES[:20]))
    said = [
        "photos.npz",
        "--selector",
        "badge",
        "--classifier",
        "mlp",
        "--budget",
        "4",
        "--labels",
        write("l.csv", text),
    ]
    batches = []
    for more in ([], ["--classes", ",".join(numbers)]):
        assert command.main([*said, *more]) == 0
        batches.append(picked())
    assert batches[0] == batches[1]


def test_paths_may_lead_out_of_the_folder_of_the_embeddings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    names = [f"../{name}" for name in NAMES[:9]]
    np.savez("sub/e.npz", files=np.array(names), embeddings=np.random.default_rng(0).normal(size=(9, 4)))
    write("labels.csv", f"path,label\n{names[0]},cat\n../sub/{names[1]},dog\n{tmp_path}/{NAMES[2]},dog\n")
    said = ["--selector", "random", "--budget", "6", "--labels", "labels.csv"]
    assert command.main(["sub/e.npz", *said]) == 0
    assert sorted(picked()) == sorted(f"{tmp_path}/{name}" for name in NAMES[3:9])


def test_labels_go_to_label_studio_and_back(desk):
    assert desk() == 0
    first = picked()
    with open("picks/round-1.json") as stream:
        (task, *_) = json.load(stream)
    assert task["data"]["image"] == "/data/local-files/?d=" + first[0].replace(" ", "%20")
    skipped = {"id": 9, "data": {"path": first[3]}, "annotations": [{"was_cancelled": True, "result": []}]}
    by_url = {
        "id": 8,
        "data": {"image": task["data"]["image"]},
        "annotations": json.loads(export(first[:1]))[0]["annotations"],
    }
    done = [by_url, *json.loads(export(first[1:3], "dog")), skipped]
    assert desk("--labels", write("back.json", json.dumps(done))) == 0
    second = picked(2)
    assert not set(second) & set(first[:3])


def test_a_batch_that_has_not_come_back_is_the_same_again(desk):
    assert desk() == 0
    first = picked()
    assert desk() == 0
    assert picked() == first


def fill(column: str, label: str) -> str:
    """Writes a label of the first image into `round-1.csv`, in a column that is there or in a new one; its path."""
    with open("picks/round-1.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0][column] = label
    with open("picks/round-1.csv", "w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return rows[0]["path"]


@pytest.mark.parametrize("column", ["label", "kind", "species"])
def test_what_is_filled_into_a_batch_is_not_written_over(desk, capsys, column):
    assert desk() == 0
    first = fill(column, "cat")
    capsys.readouterr()
    assert desk() == 2
    lost = f"picks/round-1.csv: 1 row filled in ({column}) would be lost; "
    error = capsys.readouterr().err
    assert error.startswith(f"{lost}name it among --labels (with --label-column, ")
    named = ["--labels", "picks/round-1.csv", "--label-column", column]
    assert desk(*named, "--round", "1") == 2
    assert capsys.readouterr().err.endswith(f"{lost}take another --round, or remove it\n")
    assert desk(*named) == 0
    assert first not in picked(2)


def numbered(title: str, cells: list[str]) -> None:
    """Writes a column in front of `round-1.csv`."""
    batch = Path("picks/round-1.csv")
    lines = zip([title, *cells], batch.read_text().splitlines(), strict=True)
    batch.write_text("".join(f"{cell},{line}\n" for cell, line in lines))


@pytest.mark.parametrize("title", ["", "Unnamed: 0", "index"])
def test_the_numbers_of_the_rows_are_not_filled_in_by_anybody(desk, title):
    assert desk() == 0
    first = picked()
    numbered(title, list("3012"))
    assert desk() == 0
    assert picked() == first
    with open("picks/round-1.csv") as stream:
        assert stream.readline() == "path,rank,score,why,label\n"


def test_what_is_filled_in_below_no_title_is_not_written_over(desk, capsys):
    assert desk() == 0
    numbered("", ["3", "0", "0", "1"])
    capsys.readouterr()
    assert desk() == 2
    lost = "4 rows filled in (a column without a name) would be lost; take another --round, or remove it\n"
    assert capsys.readouterr().err == f"picks/round-1.csv: {lost}"


def test_a_batch_whose_labels_all_stand_for_none_has_come_back_once_it_is_named(desk):
    assert desk() == 0
    batch = Path("picks/round-1.csv")
    batch.write_text(batch.read_text().replace(",\n", ",-1\n"))
    labels = write("labels.csv", f"path,label\n{NAMES[0]},3\n{NAMES[1]},4\n")
    said = ["--classes", "3,4", "--labels", labels]
    assert desk(*said) == 2
    before = batch.read_text()
    assert desk(*said, batch.absolute()) == 0
    assert len(picked(2)) == 4
    assert batch.read_text() == before


def test_an_empty_batch_that_is_named_is_the_same_again(desk):
    labels = write("labels.csv", ONE)
    assert desk("--labels", labels) == 0
    first = picked()
    assert desk("--labels", labels, "picks/round-1.csv") == 0
    assert picked() == first
    assert not Path("picks/round-2.csv").exists()


def test_the_paths_of_a_batch_are_its_own_column_whatever_stands_beside(desk, capsys):
    assert desk() == 0
    numbered("file", list("abcd"))
    capsys.readouterr()
    assert desk() == 2
    assert capsys.readouterr().err.startswith("picks/round-1.csv: 4 rows filled in (file) would be lost; ")
    labels = write("labels.csv", f"path,label\n{picked()[0]},cat\n")
    assert desk("--labels", labels) == 0
    assert len(picked(2)) == 4


def test_where_nothing_is_chosen_nothing_is_written(desk, capsys):
    labels = write("labels.csv", "path,label\n" + "".join(f"{name},cat\n" for name in NAMES[:20]))
    assert desk("--labels", labels) == 0
    first = picked()
    capsys.readouterr()
    assert desk("--labels", labels, "--exclude-duplicates", "0.01") == 2
    assert capsys.readouterr().err.startswith("--exclude-duplicates 0.01: each of the 20 images without a label is ")
    assert picked() == first


def test_a_batch_of_titles_alone_has_not_come_back(desk):
    assert desk() == 0
    first = picked()
    write("picks/round-1.csv", "path,rank,score,why,label\n")
    assert desk() == 0
    assert picked() == first


def test_paths_of_other_systems_are_understood(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    name = "caf\u00e9/a.jpg"
    features = np.random.default_rng(0).normal(size=(9, 4))
    np.savez("photos.npz", files=np.array([name, *NAMES[:8]]), embeddings=features)
    decomposed = unicodedata.normalize("NFD", name).replace("/", "\\")
    write("labels.csv", f"\ufeffpath,label\n{decomposed},cat\nday 0\\00.jpg,dog\n")
    said = ["--selector", "random", "--budget", "7", "--labels", "labels.csv"]
    assert command.main(["photos.npz", *said]) == 0
    assert sorted(picked()) == sorted(NAMES[1:8])


def test_arrays_without_names_are_numbered_or_named_by_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("photos.npy", np.random.default_rng(0).normal(size=(5, 4)).astype(np.float16))
    said = ["photos.npy", "--selector", "random", "--classes", "cat,dog", "--budget", "5"]
    assert command.main(said) == 0
    assert sorted(picked()) == list("01234")
    write("names.csv", "\n".join(["path", *NAMES[:5]]))
    assert command.main([*said, "--paths", "names.csv"]) == 0
    assert sorted(picked()) == sorted(NAMES[:5])
    capsys.readouterr()
    write("names.csv", "\n".join(["path", *NAMES[:4]]))
    assert command.main([*said, "--paths", "names.csv"]) == 2
    assert "names.csv has 4 rows, and photos.npy 5 vectors" in capsys.readouterr().err
    write("names.csv", "\n".join(["path", *NAMES[:4], NAMES[0]]))
    assert command.main([*said, "--paths", "names.csv"]) == 2
    assert f"names.csv: '{NAMES[0]}' stands there 2 times" in capsys.readouterr().err


def test_parts_of_a_file_are_one_pool_without_its_test_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    features = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    parts = {"x_train": features[:12], "x_unlabeled": features[12:20], "x_test": features[20:]}
    paths = {f"paths_{split}": np.array(NAMES[a:b]) for split, a, b in (("train", 0, 12), ("unlabeled", 12, 20))}
    np.savez("photos.npz", **parts, **paths)
    pool, notes = candidates.of_embeddings(Path("photos.npz"), None)
    assert sorted(pool.names) == sorted(NAMES[:20])
    assert notes == ("photos.npz: images for test are left out",)
    for name, row in zip(pool.names, pool.features.numpy(), strict=True):
        assert (row == features[NAMES.index(name)]).all()


def test_what_is_wrong_is_said_before_a_feature_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("photos.npy", np.full((9, 4), np.nan))
    said = ["photos.npy", "--classes", "cat,dog", "--budget", "2", "--selector"]
    assert command.main([*said, "margin"]) == 2
    assert "margin needs labels" in capsys.readouterr().err
    assert command.main([*said, "coreset"]) == 2
    assert "vector 0 holds NaN or infinity" in capsys.readouterr().err


REFUSED = {
    "needs pixels": (
        ["--selector", "learning_loss"],
        "selector: learning_loss reads companion_outputs, and here are an",
    ),
    "unknown": (["--selector", "corset"], "pick.selector: no selector 'corset'; did you mean 'coreset'?"),
    "cold": (["--selector", "margin"], "selector: margin needs labels; name some by --labels, or start with typiclust"),
    "setting": (["--selector", "{name: coreset, x: 1}"], "pick.selector.x: coreset has no hyper-parameter 'x'"),
    "head": (["--classifier", "finetune"], "classifier: finetune needs more than an encoder's features; take logistic"),
    "budget": (["--budget", "41"], "--budget 41: 40 images have no label yet; use 1 .. 40"),
    "no budget": (["--budget", "0"], "--budget 0: 40 images have no label yet; use 1 .. 40"),
    "several heads": (
        ["--classifier", "[knn, ridge]"],
        "classifier: knn, ridge are several heads, and one is asked; name it alone",
    ),
    "no round": (["--round", "0"], "--round 0: rounds are counted from 1"),
    "round below": (["--round", "-2"], "--round -2: rounds are counted from 1"),
    "no classes": (["--classes", ""], "--classes : class 1 has no name; leave out its comma"),
    "empty class": (["--classes", "cat,dog,"], "--classes cat,dog,: class 3 has no name; leave out its comma"),
    "class twice": (["--classes", "cat,dog, cat"], "--classes cat,dog, cat: 'cat' stands there 2 times"),
    "quotes": (
        ["--classes", '"cat, tabby,dog'],
        '--classes "cat, tabby,dog: unexpected end of data; a name with a comma ',
    ),
    "one class": (["--classes", "cat"], "1 class (--classes): name every class that there is, --classes A,B,C"),
    "weight": (["--diversity", "-1"], "--diversity -1.0: a weight is 0 or more"),
    "balance": (["--balance", "1"], "--balance needs labels: without any no class is predicted"),
    "cosine": (["--exclude-duplicates", "1.5"], "--exclude-duplicates 1.5: a cosine in (0, 1]"),
    "no file": (["--labels", "gone.csv"], "no file /"),
    "encoder": (["--encoder", "models/x"], "--encoder models/x: photos.npz is no folder of images to be embedded"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_one_line(desk, case, capsys):
    arguments, message = REFUSED[case]
    assert desk(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1


def test_where_all_images_have_a_label_there_is_nothing_to_choose(desk, capsys):
    assert desk("--labels", write("labels.csv", "path,label\n" + "".join(f"{name},cat\n" for name in NAMES))) == 2
    assert capsys.readouterr().err == "all 40 images have a label: there is nothing to choose from\n"


def test_a_class_with_a_comma_is_named_in_quotes(desk, capsys):
    table = write("labels.csv", f'path,label\n{NAMES[0]},"cat, tabby"\n')
    assert desk("--labels", table, "--classes", '"cat, tabby", dog') == 0
    assert "knowing 1 label of 2 classes" in capsys.readouterr().out


def test_many_classes_of_one_label_each_are_picked_for_without_a_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("e.npy", np.random.default_rng(0).normal(size=(34, 3)).astype(np.float32))
    write("l.csv", "path,label\n" + "".join(f"{number},c{number}\n" for number in range(30)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert command.main(["e.npy", "--selector", "margin", "--labels", "l.csv", "--budget", "2"]) == 0


def test_without_a_label_it_is_said_that_classes_are_to_be_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("e.npy", np.ones((4, 3), dtype=np.float32))
    assert command.main(["e.npy", "--selector", "typiclust", "--budget", "2"]) == 2
    error = "there are no labels so far to tell the classes by: name every class, --classes A,B,C\n"
    assert capsys.readouterr().err == error
