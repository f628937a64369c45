"""Corpora of kind `hub` end to end: the real client, in real processes, and a hub that fails as it is told."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from standin_hub import Fault, Hub

from pipeline.corpora import read_meta
from pipeline.corpora.hub import PAUSES

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow
FACTS = {"licence": "MIT", "origin": "a test"}
BOOKS = {"kind": "hub", "name": "someone/books", "revision": "refs/convert/parquet", "split": "train", "field": "text"}
NOTES = {"kind": "hub", "name": "someone/notes", "revision": "v1.0", "split": "train", "field": "note"}
GONE = (
    f"can't be read on after 200 documents: .*; tried {len(PAUSES) + 1} times in a row: start it again when http://.* "
)
GONE += "is well, and it goes on after its last whole file"
PROCESS = """
import sys, time
from functools import partial
from fsspec.spec import AbstractBufferedFile
from pipeline.corpora import __main__ as corpora, hub
AbstractBufferedFile.DEFAULT_BLOCK_SIZE = 20_000  # a shard comes in several pieces
sleep = time.sleep
time.sleep = lambda seconds: sleep(seconds / {haste})  # waiting is short; what is done between is as it is
hub.TIMEOUT = 3
corpora.build_corpus = partial(corpora.build_corpus, part_bytes=60_000)
sys.exit(corpora.main())
"""


def documents_of(shard: int, rows: int = 300) -> list[str]:
    return [
        f"Document {row} of shard {shard}. " + " ".join(f"w{row * word * 7919 % 9973}" for word in range(60))
        for row in range(rows)
    ]


def parquet(shard: int) -> bytes:
    texts, file = documents_of(shard), io.BytesIO()
    pq.write_table(pa.table({"text": texts, "n": range(len(texts))}), file, row_group_size=50)
    return file.getvalue()


def jsonl_gz(shard: int) -> bytes:
    lines = (json.dumps({"note": text}) + "\n" for text in documents_of(shard))
    return gzip.compress("".join(lines).encode(), mtime=0)


SHARDS = ["0000.parquet", "0001.parquet", "0002.parquet", "0003.parquet", "0004.parquet"]
WRITTEN = [text for shard in range(5) for text in documents_of(shard)]
PARQUET = {f"plain_text/train/{name}": parquet(shard) for shard, name in enumerate(SHARDS)}
JSONL = {f"train-{shard:02d}.jsonl.gz": jsonl_gz(shard) for shard in range(2)} | {"README.md": b"Notes.\n"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    """A hub with two data sets: parquet as the hub itself converts to, and compressed lines with a tag."""
    hub = Hub()
    hub.publish("someone/books", {"books.py": b"raise SystemExit('a loading script')"}, "main")
    hub.publish("someone/books", PARQUET, "refs/convert/parquet")
    hub.publish("someone/notes", JSONL, "main", "v1.0")
    yield hub
    hub.go()


def start(hub: Hub, folder: Path, haste: float = 500, **source: object) -> subprocess.Popen:
    """Start `python -m pipeline.corpora` on one source; what it says goes to said.txt."""
    folder.mkdir(exist_ok=True)
    spec = json.dumps({"sources": [BOOKS | FACTS | source]})
    arguments = ["--name", "web", "--spec", spec, "--downloads", str(folder), "--output", str(folder / "web/meta.json")]
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    environment |= {"HF_HUB_DOWNLOAD_TIMEOUT": "3", "HF_HUB_DISABLE_TELEMETRY": "1"}
    command = [sys.executable, "-c", PROCESS.format(haste=haste), *arguments]
    with open(folder / "said.txt", "w") as said:
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=said)


def fetch(hub: Hub, folder: Path, code: int = 0, **source: object) -> str:
    """Run it to its end and return the last line that it says; there is never a traceback."""
    assert start(hub, folder, **source).wait(120) == code, said(folder)
    assert "Traceback" not in said(folder)
    return said(folder).splitlines()[-1]


def said(folder: Path) -> str:
    return (folder / "said.txt").read_text()


def texts_of(folder: Path) -> list[str]:
    files = [part["file"] for part in read_meta(folder / "web")["parts"]]
    return [text for file in files for text in pq.read_table(folder / "web" / file)["text"].to_pylist()]


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "web").iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    """The files of the corpus from a hub that is well, with its documents held against those written."""
    folder = tmp_path_factory.mktemp("undisturbed")
    hub = Hub()
    commit = hub.publish("someone/books", PARQUET, "refs/convert/parquet")
    fetch(hub, folder)
    hub.go()
    assert texts_of(folder) == WRITTEN
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert [source["commit"] for source in read_meta(folder / "web")["sources"]] == [commit]
    assert len(read_meta(folder / "web")["parts"]) == 8
    assert hub.read() == SHARDS
    assert hub.requests[0].path == "/api/datasets/someone/books/revision/refs/convert/parquet"
    return bytes_of(folder)


# A hub that is well after some time


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(
            [
                Fault("/large/*0000.parquet", keep=5_000, times=1),
                Fault("/large/*0001.parquet", keep=9_000, times=3, skip=1),  # the client asks 6 times,
                Fault("/large/*0002.parquet", keep=0, times=8, skip=1),  # and then it is our turn
                Fault("/api/*/tree/*", keep=10, times=1),
            ],
            id="breaks",
        ),
        pytest.param(
            [
                Fault("/api/*/revision/*", status=503, times=2),
                Fault("/datasets/*README.md", status=502, times=1),
                Fault("/large/*0000.parquet", status=500, times=3),
                Fault("/large/*0001.parquet", status=429, headers={"Retry-After": "30"}, times=2),
                Fault("/datasets/*0002.parquet", status=503, times=8),
                Fault("/large/*0003.parquet", status=429, times=13),
            ],
            id="refuses",
        ),
        pytest.param(
            [
                Fault("/api/*/tree/*", wait=5, times=1),  # for which the client has no limit of its own
                Fault("/large/*0001.parquet", wait=4, times=2),
                Fault("*", wait=0.1),
            ],
            id="slow",
        ),
    ],
)
def test_no_row_is_lost_or_read_twice(hub: Hub, tmp_path: Path, undisturbed: dict, faults: list[Fault]) -> None:
    hub.faults += faults
    fetch(hub, tmp_path)
    assert bytes_of(tmp_path) == undisturbed
    assert [fault.times for fault in faults if fault.times < 100] == [0] * sum(fault.times < 100 for fault in faults)


def test_compressed_lines_of_a_tag(hub: Hub, tmp_path: Path) -> None:
    """A compressed stream that breaks off has lost its place: it is read from the start of the shard, and skipped."""
    hub.faults += [
        Fault("/large/*train-00*", keep=9_000, times=2),
        Fault("/large/*train-01*", keep=9_000, times=8, skip=1),
    ]
    fetch(hub, tmp_path, **NOTES)
    assert texts_of(tmp_path) == [*documents_of(0), *documents_of(1)]
    assert read_meta(tmp_path / "web")["sources"][0]["commit"] == hub.refs["someone/notes", "v1.0"]
    assert "next try in 10 s" in said(tmp_path)


def test_a_hub_that_goes_and_comes_back(hub: Hub, tmp_path: Path, undisturbed: dict) -> None:
    """Away for longer than the client's own patience of half a minute."""
    hub.faults.append(Fault("/large/*0002.parquet", then=hub.go, times=1))
    process = start(hub, tmp_path, haste=50)
    hub.wait_for(lambda: "Connection refused; next try in 40 s" in said(tmp_path))
    hub.come()
    assert process.wait(120) == 0, said(tmp_path)
    assert bytes_of(tmp_path) == undisturbed


def test_only_the_shards_that_are_needed(hub: Hub, tmp_path: Path) -> None:
    fetch(hub, tmp_path, max_bytes=130_000)
    assert texts_of(tmp_path) == WRITTEN[:400]
    assert hub.read() == SHARDS[:2]


# A hub that stays ill


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (partial(Fault, status=503), "Server error '503 Service Unavailable' for url"),
        (partial(Fault, status=429, headers={"Retry-After": "1"}), "429 Too Many Requests"),
        (
            partial(Fault, keep=100),
            r"peer closed connection without sending complete message body \(received 100 bytes",
        ),
    ],
    ids=["503", "429", "breaks"],
)
def test_a_hub_that_stays_ill_is_one_line(hub: Hub, tmp_path: Path, fault: partial, line: str) -> None:
    hub.faults.append(fault("/large/*0001.parquet"))
    last = fetch(hub, tmp_path, code=2)
    assert re.fullmatch(f"error: corpora.web: hub source someone/books: {GONE}", last)
    assert re.search(line, last)
    assert not (tmp_path / "web/meta.json").exists()


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            Fault("/api/datasets/*", wait=5),
            r"http://127\.0\.0\.1:\d+ can't be reached \(timed out\); set HF_ENDPOINT to",
        ),
        (Fault("/api/datasets/*", status=503), r"can't be opened: Server error '503 .* is well, and it goes on after"),
    ],
    ids=["silent", "503"],
)
def test_a_hub_that_is_ill_at_the_start(hub: Hub, tmp_path: Path, fault: Fault, line: str) -> None:
    hub.faults.append(fault)
    assert re.search(f"^error: corpora.web: hub source someone/books: {line}", fetch(hub, tmp_path, code=2))


def test_a_cached_copy_does_not_stand_in(hub: Hub, tmp_path: Path) -> None:
    """`datasets` would take a copy of an older commit from the user's cache when the hub fails at opening."""
    hub.publish("someone/notes", {"train.jsonl": b'{"note": "old"}\n'}, "main")
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    load = "import datasets; print(datasets.load_dataset('someone/notes')['train'][0])"
    subprocess.run([sys.executable, "-c", load], env=environment, check=True)
    assert list((tmp_path / "home/datasets").rglob("notes-train.arrow"))
    hub.publish("someone/notes", {"train.jsonl": b'{"note": "new"}\n'}, "main")
    hub.faults.append(Fault("/datasets/*README.md", status=503))
    last = fetch(hub, tmp_path, code=2, **{**NOTES, "revision": "main"})
    assert re.search("hub source someone/notes: can't be opened: Server error '503 Service Unavailable'", last)


# What the config has wrong


NO_TOKEN = r"If it is private or gated, set HF_TOKEN to a token that may read it\."


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ({"name": "someone/bok"}, f"revision refs/convert/parquet: 401 .*Repository Not Found .* folder .* {NO_TOKEN}"),
        ({"revision": "v9"}, "no revision 'v9'; it has main, refs/convert/parquet"),
        ({**NOTES, "revision": "refs/convert/parquet"}, "no revision 'refs/convert/parquet'; it has main, v1.0"),
        ({"config": "french"}, r"can't be opened: BuilderConfig 'french' not found. Available: \['default'\]"),
        ({"split": "test"}, r"can't be opened: Bad split: test. Available splits: \['train'\]"),
        ({"field": "body"}, "no column 'body'; it has text, n"),
        ({"revision": "main"}, "can't be opened: .*Dataset scripts are no longer supported, but found books.py"),
    ],
    ids=["name", "revision", "not_converted", "config", "split", "column", "script"],
)
def test_a_mistake_is_one_line_that_says_what_there_is(hub: Hub, tmp_path: Path, source: dict, line: str) -> None:
    last = fetch(hub, tmp_path, code=2, **source)
    assert re.search(f"^error: corpora.web: (field of )?hub source someone/[a-z]+(:|,) {line}", last)


@pytest.mark.parametrize(
    ("path", "status", "line"),
    [
        ("/api/datasets/*", 401, "Client error '401 Unauthorized'"),
        ("/datasets/*", 401, r"Dataset 'someone/books' is a gated dataset on the Hub\."),
    ],
    ids=["private", "gated"],
)
def test_a_data_set_that_may_not_be_read(hub: Hub, tmp_path: Path, path: str, status: int, line: str) -> None:
    gated = {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to dataset someone/books is restricted."}
    hub.faults.append(Fault(path, status=status, headers=gated if path.startswith("/datasets") else {}))
    last = fetch(hub, tmp_path, code=2)
    assert re.search(f"^error: corpora.web: hub source someone/books.*: {line}.* {NO_TOKEN}$", last)


# Starting again


def moved(hub: Hub) -> None:
    """Let the revision stand for another commit, with other documents."""
    hub.publish("someone/books", {"plain_text/train/0000.parquet": parquet(7)}, "refs/convert/parquet")
    hub.requests.clear()
    hub.faults.clear()


def test_killed_in_mid_stream(hub: Hub, tmp_path: Path, undisturbed: dict) -> None:
    hub.faults.append(Fault("/large/*0004.parquet", wait=60))
    process = start(hub, tmp_path)
    hub.wait_for(lambda: "0004.parquet" in hub.read())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert sorted(bytes_of(tmp_path)) == [*(f"documents-0000{n}.parquet" for n in range(6)), "progress.json"]
    moved(hub)
    fetch(hub, tmp_path)
    assert hub.read() == ["0000.parquet", "0003.parquet", "0004.parquet"]  # the first for the names of its columns
    assert bytes_of(tmp_path) == undisturbed


def test_the_hub_gone_in_mid_stream(hub: Hub, tmp_path: Path, undisturbed: dict) -> None:
    hub.faults.append(Fault("/large/*0001.parquet", then=hub.go))
    assert re.fullmatch(f"error: corpora.web: hub source someone/books: {GONE}", fetch(hub, tmp_path, code=2))
    line = fetch(hub, tmp_path, code=2)
    assert re.search(
        r"someone/books: http://127\.0\.0\.1:\d+ can't be reached \(\[Errno 111\] Connection refused\)", line
    )
    hub.come()
    moved(hub)
    fetch(hub, tmp_path)
    assert hub.read() == SHARDS
    assert bytes_of(tmp_path) == undisturbed


# The workflow


def test_the_workflow_on_a_hub(hub: Hub, tmp_path: Path) -> None:
    """Corpora, tokenizer and token files through the Snakefile; asked again, there is nothing to do."""
    settings = {
        "corpora": {name: {"sources": [source | FACTS]} for name, source in {"web": BOOKS, "notes": NOTES}.items()},
        "data": {"name": "hub", "train": ["web"], "transfer": ["notes"], "test_fraction": 0.1}
        | {"min_train_tokens": 1e5, "min_test_tokens": 17_000},
    }
    (tmp_path / "hub.yaml").write_text(yaml.safe_dump(settings))
    hub.faults.append(Fault("/large/*", keep=1_000, times=2))
    environment = os.environ | {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1"}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2", "data"]
    command += ["--configfile", "hub.yaml", "--config", "preset=test"]
    run = partial(subprocess.run, command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    metas = {meta["name"]: meta for meta in map(read_meta, tmp_path.glob("results/corpora/*"))}
    assert {name: meta["documents"] for name, meta in metas.items()} == {"web": 1500, "notes": 600}
    assert metas["web"]["sources"][0]["commit"] == hub.refs["someone/books", "refs/convert/parquet"]
    assert metas["notes"]["sources"][0]["commit"] == hub.refs["someone/notes", "v1.0"]
    assert list(tmp_path.glob("results/tokens/hub-*/train.bin"))
    asked = len(hub.requests)
    again = run()
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr
    assert len(hub.requests) == asked
