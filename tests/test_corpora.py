"""Sources, cleaning and the writing of a corpus, without a network."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import math
import socket
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpora import open_source, read_documents, read_meta
from pipeline.corpora.__main__ import build_corpus, main
from pipeline.corpora.clean import Cleaner, SeenFilter, clean_text
from pipeline.corpora.formats import read_documents as read_file
from pipeline.corpora.synthetic import Language
from pipeline.corpora.wheel import fetch_wheel
from pipeline.errors import UserError
from pipeline.hashing import text_hash

FACTS = {"licence": "MIT", "origin": "a test"}


def texts_of(folder: Path) -> list[str]:
    return [text for batch in read_documents(folder) for text in batch.column("text").to_pylist()]


def build(tmp_path: Path, spec: dict, **options: int) -> list[str]:
    output = tmp_path / "corpus" / "meta.json"
    build_corpus("test", spec, tmp_path / "downloads", output, **options)
    return texts_of(output.parent)


def make_wheel(folder: Path, members: dict[str, bytes]) -> tuple[Path, str]:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "some_text-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        archive.writestr("some_text-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: some-text\nVersion: 1.0\n")
        archive.writestr("some_text-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


# Formats


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"\xef\xbb\xbfwhole file\n", ["whole file\n"]),
        ("a.csv", b'id,text\n1,"two\nlines, one field"\n2,b\n', ["two\nlines, one field", "b"]),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b"}\n', ["a", "b"]),
        ("a.json", b'[{"text": "a"}, {"x": {"text": "b"}}, {"x": 1}]', ["a", "b"]),
        ("a.csv.bz2", bz2.compress(b"text\na\n"), ["a"]),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n', mtime=0), ["a"]),
    ],
)
def test_formats(name: str, content: bytes, expected: list[str]) -> None:
    assert list(read_file(name, io.BytesIO(content), field="text")) == expected


def test_zip_in_the_order_of_names_and_parquet() -> None:
    table = io.BytesIO()
    pq.write_table(pa.table({"body": ["p", None]}), table)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("b.csv", "body\nsecond\n")
        archive.writestr("a.parquet", table.getvalue())
    assert list(read_file("all.zip", packed, field="body")) == ["p", "", "second"]


@pytest.mark.parametrize(
    ("name", "content", "field", "message"),
    [
        ("a.csv", b"id,body\n1,a\n", "text", "a.csv: no column 'text'; it has id, body"),
        ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "text", "a.jsonl: line 2 is no object with the key 'text'"),
        ("a.csv", b"text\na\n", None, "set the source's `field`"),
        ("a.txt", b"caf\xe9", None, "a.txt: not UTF-8 at byte 3"),
        ("a.docx", b"", "text", "a.docx: documents are read from .txt, .md, .py"),
    ],
)
def test_format_errors_name_the_file(name: str, content: bytes, field: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message.replace(".", r"\.")):
        list(read_file(name, io.BytesIO(content), field=field))


# Cleaning


def test_clean_text_by_layout() -> None:
    assert clean_text("a\t b\u2003c \r\n\r\n\r\n\r\nd\u200b\x07") == "a b c\n\nd"
    assert clean_text("def f():\n\treturn  1   \n\n\n\n\n\nx = 2\n", "code") == "def f():\n\treturn  1\n\n\nx = 2"
    assert clean_text("<p>a <code>b</code>&lt;c&gt;</p><p>2 < 3 > 1</p>", "html") == "a b<c>\n\n2 < 3 > 1"
    assert clean_text("It\u00e2\u20ac\u2122s caf\u00c3\u00a9, \u00abÉlan\u00bb") == "It’s café, «Élan»"


def test_paragraphs_are_kept_once_and_short_documents_dropped() -> None:
    cleaner = Cleaner("paragraphs", min_characters=3, filter_bytes=2**16)
    kept, dropped = cleaner(["One one.\n\nTwo two.", "Two  two.", "ab", "Three.\n\nOne one.\n\nThree."], "prose")
    assert kept == ["One one.\n\nTwo two.", "Three."]
    assert dropped == {
        "repeated paragraphs": 3,
        "documents of repeated paragraphs only": 1,
        "short documents": 1,
    }
    assert cleaner(["Three.\n\nab"], "prose")[0] == []  # "ab" alone is too short; "Three." was seen in another batch


def test_paragraph_of_a_dropped_document_is_not_seen() -> None:
    cleaner = Cleaner("paragraphs", min_characters=10, filter_bytes=2**16)
    assert cleaner(["short"], "prose")[0] == []
    assert cleaner(["short\n\nand long"], "prose")[0] == ["short\n\nand long"]


def test_whole_documents_are_compared_for_code() -> None:
    cleaner = Cleaner("documents", min_characters=1, filter_bytes=2**16)
    kept, dropped = cleaner(["import a\n\nx = 1", "import a\n\ny = 1", "import a\n\nx = 1"], "code")
    assert kept == ["import a\n\nx = 1", "import a\n\ny = 1"]
    assert dropped["repeated documents"] == 1


def test_seen_filter_never_forgets_and_is_seldom_wrong() -> None:
    keys = np.array([text_hash(str(number)) for number in range(40_000)], dtype=np.uint64)
    seen = SeenFilter(50_000)  # 20 bits a key
    seen.add(keys[:20_000])
    assert seen.contains(keys[:20_000]).all()
    expected = (1 - math.exp(-SeenFilter.PROBES * 20_000 / 400_000)) ** SeenFilter.PROBES
    assert seen.contains(keys[20_000:]).mean() < 3 * expected + 1e-4


# Kinds


def test_unknown_kind() -> None:
    with pytest.raises(UserError, match="'ftp' is not one of hub, wheel, files, synthetic"):
        open_source({"kind": "ftp"}, Path())


def test_files_by_glob(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "b.txt").write_text("second")
    (tmp_path / "in" / "a.txt").write_text("first")
    (tmp_path / "in" / "deep" / "c.txt").write_text("third")
    source = {"kind": "files", "path": f"{tmp_path}/in/**/*.txt", **FACTS}
    assert build(tmp_path, {"sources": [source]}) == ["first", "second", "third"]
    with pytest.raises(UserError, match=r"corpora\.test: sources/0: path: no file matches 'nowhere/\*'"):
        build(tmp_path, {"sources": [{**source, "path": "nowhere/*"}]})


def test_wheel_already_downloaded_is_read_as_a_zip(tmp_path: Path) -> None:
    members = {"pkg/b.py": b"import nothing_that_exists", "pkg/a.py": b"x = 1", "pkg/tests/c.py": b"y", "pkg/d.js": b""}
    _, sha256 = make_wheel(tmp_path / "downloads", members)
    source = {"kind": "wheel", "package": "some-text", "version": "1.0", "sha256": sha256, **FACTS}
    spec = {"sources": [{**source, "member": "pkg/*.py", "exclude": "*/tests/*", "layout": "code"}]}
    assert build(tmp_path, spec) == ["x = 1", "import nothing_that_exists"]
    meta = read_meta(tmp_path / "corpus")
    assert meta["licences"] == ["MIT"]
    assert meta["sources"][0]["origin"] == "a test"
    assert (meta["documents"], meta["bytes"]) == (2, 31)
    with pytest.raises(UserError, match=r"nothing in some_text-1\.0-py3-none-any\.whl matches 'x/\*'"):
        build(tmp_path, {"sources": [{**source, "member": "x/*"}]})


def test_wheel_is_downloaded_by_pip_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sha256 = make_wheel(tmp_path / "index", {"a.txt": b"a"})
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(UserError, match=f"sha256 of some-text 1.0: the config says 0000, .* has {sha256}"):
        fetch_wheel("some-text", "1.0", "0000", tmp_path / "downloads")
    path = fetch_wheel("some-text", "1.0", sha256, tmp_path / "downloads")
    assert path == tmp_path / "downloads" / "some_text-1.0-py3-none-any.whl"
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "gone"))  # what is there already needs no index
    assert fetch_wheel("some-text", "1.0", sha256, tmp_path / "downloads") == path
    with pytest.raises(UserError, match=r"pip can't download some-text==2\.0 .*pip config list"):
        fetch_wheel("some-text", "2.0", sha256, tmp_path / "downloads")
    assert [path.name for path in (tmp_path / "downloads").iterdir()] == ["some_text-1.0-py3-none-any.whl"]


def hub_folder(folder: Path, shards: int = 3, documents: int = 500) -> Path:
    """Make a data set as the hub lays one out: data/<split>-<shard>-of-<shards>.parquet."""
    (folder / "data").mkdir(parents=True)
    for shard in range(shards):
        rows = [f"Document {number} of shard {shard}." for number in range(documents)]
        path = folder / "data" / f"train-{shard:05d}-of-{shards:05d}.parquet"
        pq.write_table(pa.table({"body": rows, "n": list(range(documents))}), path, row_group_size=100)
    return folder


@pytest.fixture
def hub_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    name = str(hub_folder(tmp_path / "hub"))
    return {"kind": "hub", "name": name, "split": "train", "field": "body", **FACTS}


def test_hub_folder_is_streamed_in_order(tmp_path: Path, hub_source: dict) -> None:
    documents, facts = open_source(hub_source, tmp_path)
    assert facts == {"commit": None}
    assert documents.dataset.num_shards == 3
    texts = build(tmp_path, {"sources": [hub_source]})
    assert texts == [f"Document {number} of shard {shard}." for shard in range(3) for number in range(500)]


def test_hub_max_bytes_ends_early(tmp_path: Path, hub_source: dict) -> None:
    texts = build(tmp_path, {"sources": [{**hub_source, "max_bytes": 8000}]})
    assert 8000 <= sum(map(len, texts)) < 8000 + 200 * 30


def test_hub_wrong_names(tmp_path: Path, hub_source: dict) -> None:
    with pytest.raises(UserError, match="no column 'text'; it has body, n"):
        build(tmp_path, {"sources": [{**hub_source, "field": "text"}]})
    with pytest.raises(UserError, match=r"(?s)hub source .*validation"):
        build(tmp_path, {"sources": [{**hub_source, "split": "validation"}]})


def test_hub_out_of_reach_is_one_line_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    with socket.socket() as closed:  # a port that nobody listens on
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
        source = {"kind": "hub", "name": "someone/something", "split": "train", "field": "text", **FACTS}
        arguments = ["--name", "web", "--spec", json.dumps({"sources": [source]})]
        arguments += ["--downloads", str(tmp_path), "--output", str(tmp_path / "corpus" / "meta.json")]
        assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: corpora.web: hub source someone/something: {endpoint} can't be reached")
    assert "data: train" in lines[0]
    assert "HF_ENDPOINT" in lines[0]


# The whole corpus


def test_resume_equals_uninterrupted(tmp_path: Path, hub_source: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus cut off between two files, and while one is written, ends with the same files."""
    (tmp_path / "more.txt").write_text("Document 3 of shard 1.\n\nNot seen before.")
    more = {"kind": "files", "path": str(tmp_path / "more.txt"), **FACTS}
    spec = {"sources": [hub_source, more], "min_characters": 5}
    whole = tmp_path / "whole" / "meta.json"
    build_corpus("test", spec, tmp_path, whole, part_bytes=9000)
    assert len(read_meta(whole.parent)["parts"]) > 3
    assert texts_of(whole.parent)[-1] == "Not seen before."

    written = []

    def write_twice_then_die(table: pa.Table, path: Path, **options: object) -> None:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(path)
        real(table, path, **options)

    real = pq.write_table
    cut = tmp_path / "cut" / "meta.json"
    monkeypatch.setattr(pq, "write_table", write_twice_then_die)
    with pytest.raises(KeyboardInterrupt):
        build_corpus("test", spec, tmp_path, cut, part_bytes=9000)
    assert not cut.exists()
    monkeypatch.setattr(pq, "write_table", real)
    build_corpus("test", spec, tmp_path, cut, part_bytes=9000)
    assert read_meta(cut.parent) == read_meta(whole.parent)
    assert sorted(path.name for path in cut.parent.iterdir()) == sorted(path.name for path in whole.parent.iterdir())
    for part in read_meta(whole.parent)["parts"]:
        assert (cut.parent / part["file"]).read_bytes() == (whole.parent / part["file"]).read_bytes()


def test_left_over_of_another_spec_is_not_taken_up(tmp_path: Path, hub_source: dict) -> None:
    build(tmp_path, {"sources": [hub_source]}, part_bytes=9000)
    texts = build(tmp_path, {"sources": [{**hub_source, "max_bytes": 1000}]})
    assert len(texts) == 200
    assert len(list((tmp_path / "corpus").glob("documents-*"))) == 1


def test_corpus_without_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("tiny")
    source = {"kind": "files", "path": str(tmp_path / "*.txt"), **FACTS}
    with pytest.raises(UserError, match=r"corpora\.test: no document is left .*short documents: 1\)"):
        build(tmp_path, {"sources": [source], "min_characters": 100})


# The synthetic language

SYNTHETIC = {
    "words": 300,
    "classes": 4,
    "letters": 12,
    "word_lengths": [2, 3, 4],
    "exponent": 1.2,
    "document_words": 30,
    "seed": 7,
}


def test_synthetic_entropy_is_the_cost_of_its_text_under_the_true_model() -> None:
    """The mean of -ln p over generated text, with p written down from the definition, meets the closed form."""
    language = Language(**SYNTHETIC)
    number = {word: index for index, word in enumerate(language.lexicon)}
    rank = np.argsort(language.order, axis=1)  # (classes, words): word -> rank
    cost, tokens = [], 0
    for text in (text for shard in range(4) for text in language.documents(1000, 7, shard)):
        words = [number[word] for word in text.split(" ")]
        classes = [0, *language.word_class[words[:-1]]]
        nats = -np.log(language.probability[rank[classes, words]]).sum()
        nats -= (len(words) - 1) * math.log(1 - language.end) + math.log(language.end)
        cost.append(nats)
        tokens += len(text) + 1
    assert sum(cost) / tokens == pytest.approx(language.entropy_rate, rel=0.005)


def test_synthetic_language_needs_its_context() -> None:
    """Words seen without the word before cost more than the entropy rate says: there is context to learn."""
    language = Language(**SYNTHETIC)
    counts = Counter(word for text in language.documents(4000, 7, 0) for word in text.split(" "))
    p = np.array(list(counts.values())) / counts.total()
    conditional = -(language.probability * np.log(language.probability)).sum()
    assert -(p * np.log(p)).sum() > 1.05 * conditional


def test_window_excess_is_the_excess_of_block_entropy() -> None:
    """The entropy of blocks of n tokens, by enumeration, is n times the entropy rate plus the window excess."""
    language = Language(words=6, classes=3, letters=3, word_lengths=[1, 2], exponent=0.8, document_words=3, seed=5)
    words, classes, q = len(language.lexicon), len(language.order), language.end
    p = np.array([[language.probability[list(order).index(word)] for word in range(words)] for order in language.order])
    states = [(c, w, j) for c in range(classes) for w in range(words) for j in range(language.lengths[w] + 1)]
    number = {state: place for place, state in enumerate(states)}
    step: dict[str, np.ndarray] = {token: np.zeros((len(states), len(states))) for token in "abc _"}
    for c, w, j in states:  # a state is about to write letter j of word w, or what follows the word
        here, spelling = number[c, w, j], language.lexicon[w]
        if j < len(spelling):
            step[spelling[j]][here, number[c, w, j + 1]] = 1
            continue
        for token, chance, after in ((" ", 1 - q, language.word_class[w]), ("_", q, 0)):
            for following in range(words):
                step[token][here, number[after, following, 0]] += chance * p[after, following]
    stationary = np.linalg.matrix_power(sum(step.values()), 10**6)[0]
    blocks, entropies = [stationary], []
    for _ in range(7):  # the first word and the next are over after at most 6 tokens
        blocks = [ahead for block in blocks for token in step if (ahead := block @ step[token]).sum() > 0]
        chances = np.array([block.sum() for block in blocks])
        entropies.append(-(chances * np.log(chances)).sum())
    assert entropies[6] - entropies[5] == pytest.approx(language.entropy_rate, abs=1e-9)
    assert language.window_excess() == pytest.approx(entropies[6] - 7 * language.entropy_rate, abs=0.03)


def test_synthetic_corpus_is_reproducible_and_knows_its_entropy(tmp_path: Path) -> None:
    source = {"kind": "synthetic", "tokens": 240_000, **SYNTHETIC, **FACTS}
    first = build(tmp_path / "a", {"sources": [source], "deduplicate": "nothing"})
    assert first == build(tmp_path / "b", {"sources": [source], "deduplicate": "nothing"}, part_bytes=50_000)
    meta = read_meta(tmp_path / "a" / "corpus")
    assert meta["entropy_rate"] == Language(**SYNTHETIC).entropy_rate
    assert meta["documents"] == 2000
    assert sum(len(text) + 1 for text in first) == pytest.approx(240_000, rel=0.1)
    hashes = [batch.column("hash").to_numpy() for batch in read_documents(tmp_path / "a" / "corpus")]
    assert len(np.unique(np.concatenate(hashes))) == 2000  # equal documents are kept and told apart


def test_synthetic_ranges() -> None:
    with pytest.raises(UserError, match=r"433 of 2 letters are more than the 12\^2 there are"):
        Language(**{**SYNTHETIC, "words": 1299})
    with pytest.raises(UserError, match="letters of a synthetic source: 63 is not between 2 and 62"):
        Language(**{**SYNTHETIC, "letters": 63})
