"""A sweep's folder in an object store: moto's S3 server, spoken to as AWS would be."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
import yaml
from trials import SMALL

from harness.config.schema import ConfigError
from harness.records import mirror as mirror_module
from harness.records.mirror import Mirror, is_remote, local_folder
from harness.records.rows import read_rows
from harness.sweep.command import main


@pytest.fixture(scope="module")
def server():
    from moto.server import ThreadedMotoServer

    started = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    started.start()
    host, port = started.get_host_and_port()
    yield f"http://{host}:{port}"
    started.stop()


@pytest.fixture
def bucket(server, monkeypatch):
    """An empty bucket, found as a user's is: by the environment."""
    import boto3

    for name, value in {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    yield client
    for item in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=item["Key"])


def keys(client) -> set[str]:
    return {item["Key"] for item in client.list_objects_v2(Bucket="bucket").get("Contents", [])}


def fill(folder: Path, **files: str) -> None:
    for name, text in files.items():
        file = folder / name.replace("__", "/").replace("_dot_", ".")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def test_a_store_has_a_folder_on_this_machine():
    assert local_folder("some/where") == Path("some/where")
    assert not is_remote("some/where")
    assert local_folder("s3://bucket/a/b/?region=eu") == Path("results/runs/s3/bucket/a/b")
    assert is_remote("gs://bucket")


@pytest.mark.parametrize("results", ["s3:///KEY:hunter2@bucket", "s3:////KEY:hunter2@bucket", "s3://KEY:hunter2@"])
def test_a_store_without_a_bucket_is_refused_without_a_login(results):
    with pytest.raises(ConfigError, match=r"expected a folder, s3://BUCKET/PREFIX") as raised:
        local_folder(results)
    assert "hunter2" not in str(raised.value)


def test_the_copy_holds_what_matters_and_only_changes_are_sent(tmp_path, bucket):
    folder = tmp_path / "a sweep"
    fill(folder, rows_dot_jsonl="1\n", trials__ü__config_dot_yaml="x", ray__state="r", lock="", _dot_new="half")
    mirror = Mirror("s3://bucket/some/prefix", folder)
    mirror.copy()
    prefix = "some/prefix/a sweep/"
    assert keys(bucket) == {prefix + name for name in (".selbench", "rows.jsonl", "trials/ü/config.yaml")}
    sent: list[str] = []
    put = mirror._put
    mirror._put = lambda name, content: (sent.append(name), put(name, content))  # type: ignore[method-assign]
    mirror.copy()
    assert sent == []
    with (folder / "rows.jsonl").open("a") as file:
        file.write("2\n")
    fill(folder, trials__new="y")
    mirror.copy()
    assert sent == ["trials/new", "rows.jsonl"]  # a record after what belongs to it
    assert bucket.get_object(Bucket="bucket", Key=prefix + "rows.jsonl")["Body"].read() == b"1\n2\n"


def test_a_copy_that_is_stopped_stays_as_it_is(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(mirror_module, "PERIOD_SECONDS", 0.05)
    folder = tmp_path / "sweep"
    fill(folder, rows_dot_jsonl="1\n")
    mirror = Mirror("s3://bucket/prefix", folder)
    mirror.start()
    deadline = time.monotonic() + 60
    while "prefix/sweep/rows.jsonl" not in keys(bucket):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    mirror.stop()
    time.sleep(0.5)  # for a copy that has begun
    fill(folder, rows_dot_jsonl="another's\n", report_dot_html="another's")
    time.sleep(0.5)
    assert "prefix/sweep/report.html" not in keys(bucket)
    assert bucket.get_object(Bucket="bucket", Key="prefix/sweep/rows.jsonl")["Body"].read() == b"1\n"


def test_records_that_come_while_files_are_copied_wait_for_the_next_copy(tmp_path, bucket):
    folder = tmp_path / "sweep"
    fill(folder, rows_dot_jsonl="1\n", trials__1="x", optuna_dot_log="1\n")
    mirror = Mirror("s3://bucket/prefix", folder)
    put = mirror._put

    def meanwhile(name: str, content: bytes) -> None:
        if name == "trials/1":
            fill(folder, trials__2="y", rows_dot_jsonl="1\n2\n", optuna_dot_log="1\n2\n")
        put(name, content)

    mirror._put = meanwhile  # type: ignore[method-assign]
    mirror.copy()
    stored = {name: bucket.get_object(Bucket="bucket", Key=f"prefix/sweep/{name}")["Body"].read() for name in
              ("rows.jsonl", "optuna.log")}  # fmt: skip
    assert stored == {"rows.jsonl": b"1\n", "optuna.log": b"1\n"}
    mirror.copy()
    assert "prefix/sweep/trials/2" in keys(bucket)
    assert bucket.get_object(Bucket="bucket", Key="prefix/sweep/rows.jsonl")["Body"].read() == b"1\n2\n"


def test_fetching_brings_what_is_newer_and_refuses_what_has_parted(tmp_path, bucket):
    ours, theirs = tmp_path / "ours" / "sweep", tmp_path / "theirs" / "sweep"
    fill(theirs, rows_dot_jsonl="1\n2\n", space_dot_yaml="theirs", trials__1="x")
    Mirror("s3://bucket/prefix", theirs).copy()

    Mirror("s3://bucket/prefix", ours).fetch()  # nothing is here
    assert (ours / "rows.jsonl").read_text() == "1\n2\n"
    assert (ours / "trials/1").read_text() == "x"

    fill(ours, rows_dot_jsonl="1\n", space_dot_yaml="ours")  # the store is ahead
    Mirror("s3://bucket/prefix", ours).fetch()
    assert ((ours / "rows.jsonl").read_text(), (ours / "space.yaml").read_text()) == ("1\n2\n", "theirs")

    fill(ours, rows_dot_jsonl="1\n2\n3\n", space_dot_yaml="ours")  # this machine is ahead: it was killed before a copy
    Mirror("s3://bucket/prefix", ours).fetch()
    assert ((ours / "rows.jsonl").read_text(), (ours / "space.yaml").read_text()) == ("1\n2\n3\n", "ours")

    fill(ours, rows_dot_jsonl="1\nother\n")
    with pytest.raises(ConfigError, match="hold different records; move one of them out of the way"):
        Mirror("s3://bucket/prefix", ours).fetch()
    assert (ours / "rows.jsonl").read_text() == "1\nother\n"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("ftp://bucket/prefix", "expected a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX"),
        ("s3://no-such-bucket/prefix", "bucket does not exist"),
        ("s3:///prefix", "expected a folder, s3://BUCKET/PREFIX"),
        ("s3://bucket/a b", "Cannot parse URI"),
    ],
)
def test_a_store_that_cannot_be_written_is_one_line_and_exit_2(tmp_path, bucket, capsys, monkeypatch, uri, message):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "question.yaml"
    file.write_text(yaml.safe_dump({"trial": SMALL}))
    assert main([str(file), "--cache", str(tmp_path / "data"), "--results", uri]) == 2
    *_, line = capsys.readouterr().err.splitlines()  # after what is said of the data
    assert line.startswith("--results ")
    assert message in line
    assert not (tmp_path / "results").exists()


def test_a_store_that_goes_away_ends_nothing_and_is_told(tmp_path, bucket, monkeypatch, capsys):
    fill(tmp_path / "sweep", rows_dot_jsonl="1\n")
    monkeypatch.setattr(mirror_module, "FINAL_SECONDS", 0.0)
    monkeypatch.setattr(mirror_module, "PERIOD_SECONDS", 0.01)
    mirror = Mirror("s3://bucket/prefix", tmp_path / "sweep")
    put, away = mirror._put, True

    def unreliable(name: str, content: bytes) -> None:
        if away:
            raise OSError("AWS Error NETWORK_CONNECTION")
        put(name, content)

    mirror._put = unreliable  # type: ignore[method-assign]
    mirror.start()
    told = mirror.close()
    assert told is not None
    assert "s3://bucket/prefix/sweep is not complete (AWS Error NETWORK_CONNECTION)" in told
    assert capsys.readouterr().err.count("is tried again") <= 1  # once, however often it was tried
    away = False
    assert mirror.close() is None
    assert "prefix/sweep/rows.jsonl" in keys(bucket)


@pytest.mark.slow
def test_a_sweep_in_a_store_is_resumed_from_another_folder(tmp_path, bucket, monkeypatch, capsys):
    """The second driver has nothing but the bucket, in which the last trial is missing."""
    file = tmp_path / "question.yaml"
    file.write_text(yaml.safe_dump({"trial": {**SMALL, "labels": {"start": 20}}, "seeds": [0, 1]}))
    own = [str(file), "--quiet", "--cache", str(tmp_path / "data"), "--stages", str(tmp_path / "stages")]

    def sweep(place: str, *more: str) -> int:
        (tmp_path / place).mkdir(exist_ok=True)
        monkeypatch.chdir(tmp_path / place)
        return main([*own, "--results", "s3://bucket/prefix", *more])

    assert sweep("first") == 0
    assert "copy:      s3://bucket/prefix/question" in capsys.readouterr().out
    here = tmp_path / "first/results/runs/s3/bucket/prefix/question"
    stored = {key.removeprefix("prefix/question/") for key in keys(bucket)} - {".selbench"}
    kept = {path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file()}
    assert stored == {name for name in kept if name != "lock" and not name.startswith("ray/")}
    rows = (here / "rows.jsonl").read_bytes().splitlines(keepends=True)
    finished = [number for number, row in enumerate(rows) if json.loads(row)["status"] == "finished"]
    bucket.put_object(Bucket="bucket", Key="prefix/question/rows.jsonl", Body=b"".join(rows[: finished[0] + 1]))

    assert sweep("second", "--resume") == 0
    there = tmp_path / "second/results/runs/s3/bucket/prefix/question"
    found = read_rows(there)[0]
    assert [r["status"] for r in found].count("finished") == 2
    assert found[: finished[0] + 1] == read_rows(here)[0][: finished[0] + 1]  # kept, not computed again
    body = bucket.get_object(Bucket="bucket", Key="prefix/question/rows.jsonl")["Body"].read()
    assert body == (there / "rows.jsonl").read_bytes()


def test_a_store_that_is_not_there_is_given_up_soon(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "someone")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(ConfigError, match=r"--results s3://bucket/prefix: .*connect"):
        Mirror("s3://bucket/prefix", tmp_path / "sweep")
