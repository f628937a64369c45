"""Text as users have it: damaged, malformed, of the wrong type. One line that names file and line; nothing is lost."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import json
import lzma
import re
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpora import check_documents, read_meta
from pipeline.corpora import read_documents as read_corpus
from pipeline.corpora.__main__ import LONG, PIECE, build_corpus, main
from pipeline.corpora.clean import Cleaner, split_text
from pipeline.corpora.formats import read_documents
from pipeline.errors import UserError
from pipeline.files import read_json, write_json
from pipeline.tokens import tokenizer as tokenizer_module
from pipeline.tokens.files import tokenize
from pipeline.tokens.tokenizer import check_split, train_tokenizer, training_texts
from pipeline.tokens.windows import check_token_files

FACTS = {"licence": "mine", "origin": "mine"}


def read(name: str, content: bytes | str, field: str | None = "text", depth: int = 1) -> list[str]:
    content = content.encode() if isinstance(content, str) else content
    return list(read_documents(name, io.BytesIO(content), field, depth))


def refusal(name: str, content: bytes | str, field: str | None = "text", depth: int = 1) -> str:
    """Return the line that a file is refused with; it starts with the file's name."""
    with pytest.raises(UserError) as caught:
        read(name, content, field, depth)
    said = str(caught.value)
    assert said.startswith(f"{name}") and "\n" not in said
    return said.removeprefix(name).lstrip(": ")


def texts_of(folder: Path) -> list[str]:
    return [text for batch in read_corpus(folder) for text in batch.column("text").to_pylist()]


def parquet(**columns: object) -> bytes:
    table = io.BytesIO()
    pq.write_table(pa.table(columns), table)
    return table.getvalue()


# csv


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("id,text\n1,a\n2,b, with a comma\n", "line 3 has 3 cells, the header has 2; a cell that holds commas"),
        ("id,text\n1,a\n2,b,\n", "line 3 has 3 cells, the header has 2"),
        ("id,text\n1,a\n2\n3,c\n", "line 3 has 1 cells, the header has 2"),
        ("id,text\r\n1,a\r\n2\r\n", "line 3 has 1 cells"),
        ("id,text\r1,a\r2\r", "line 3 has 1 cells"),
        ('id,text\n1,"two\nlines"\n2\n', "line 4 has 1 cells"),
        ("id,text\n1,a\x85b\x0cc\u2028d\n2\n", "line 3 has 1 cells"),  # no ends of lines
        ("\n\nid,text\n\n1,a\n2\n", "line 6 has 1 cells"),
        ('id,text\n1,"a\n2,b\n3,c\n', "line 2: a quote of this row is never closed"),
        ('id,text\n1,a\n2,"b', "line 3: a quote of this row is never closed"),
        ('id,text\n1,"a\n2,"b"\n', "lines 2 to 3: a quoted cell goes on after its closing quote"),
        ('id,text\n1,"say "a" twice"\n', "line 2: a quoted cell goes on after its closing quote"),
        ('id,text\n1,"a\n2,"",x\n3,"b"\n', "lines 2 to 4: a quoted cell goes on after its closing quote"),
        ("", "empty; a header with the column 'text' is needed"),
        ("\n \n", "empty; a header with the column 'text' is needed"),
        ("id, text\n1, a\n", "no column 'text'; it has id, ' text': write `field: \" text\"`, or mend the header"),
        ("id,Text\n1,a\n", "no column 'text'; it has id, Text: write `field: \"Text\"`"),
        ("id;text\n1;a\n", "no column 'text'; it has id;text: its cells are parted by ';', a comma is needed"),
        ("id\ttext\n1\ta\n", "no column 'text'; it has id text: its cells are parted by '\\t', a comma is needed"),
        ("text,text\na,b\n", "2 columns are named 'text'"),
    ],
)
def test_csv_is_read_strictly(content: str, said: str) -> None:
    assert refusal("a.csv", content).startswith(said)


def test_csv_that_is_well_formed() -> None:
    assert read("a.csv", '\ufeffid,text\r\n1,"a, b ""c"" \r\nd"\r\n\r\n , \r\n2,\r\n3,e "f" g\r\n4,h') == [
        'a, b "c" \r\nd',
        " ",
        "",
        'e "f" g',
        "h",
    ]
    assert read("a.csv", "text\n\n \nb\n") == [" ", "b"]
    assert read("a.csv", "id,text\n") == []


# Bytes


def test_a_header_in_the_middle_is_no_document() -> None:
    """Two exports put together; where there is one column, a text may be its name."""
    assert refusal("a.csv", "id,text\n1,one\n\nid,text\n2,two\n") == "line 4 is the header again; remove it"
    assert read("a.csv", "id,text\nid,one\n1,text\n") == ["one", "text"]
    assert read("a.csv", "text\ntext\n") == ["text"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv", "a.jsonl", "a.json", "a.csv.gz", "a.jsonl.bz2", "a.txt.xz"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_a_bad_byte_is_where_the_file_has_it(name: str, start: bytes) -> None:
    row = {"txt": b"text\n", "csv": b"text\n", "jsonl": b'{"text": "a"}\n', "json": b" " * 9}[name.split(".")[1]]
    before = start + row * 20_000
    content = before + b"caf\xe9 and more" + row
    packed = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}.get(name.split(".")[-1], bytes)(content)
    assert refusal(name, packed).startswith(f"not UTF-8 at byte {len(before) + 3};")


def test_a_character_that_is_cut_off() -> None:
    assert refusal("a.txt", "naïve é".encode()[:-1]).startswith("not UTF-8 at byte 7")
    assert refusal("a.jsonl", '{"text": "é'.encode()[:-1]).startswith("not UTF-8 at byte 10")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.txt.gz", b"plain text", "damaged, or no such format (Not a gzipped file"),
        ("a.txt.gz", gzip.compress(b"x" * 99, mtime=0)[:-9], "damaged, or no such format (Compressed file ended"),
        ("a.txt.gz", gzip.compress(bytes(range(256)), mtime=0)[:15] + b"\xff" * 50, "damaged, or no such format"),
        ("a.txt.bz2", b"plain text", "damaged, or no such format"),
        ("a.txt.bz2", bz2.compress(b"x" * 99)[:-5], "damaged, or no such format"),
        ("a.txt.xz", b"plain text", "damaged, or no such format"),
        ("a.txt.xz", lzma.compress(b"x" * 99)[:-5], "damaged, or no such format"),
        ("a.zip", b"plain text", "damaged, or no such format (File is not a zip file)"),
        ("a.parquet", b"plain text", "no parquet file, or a damaged one"),
        ("a.parquet", b"", "no parquet file, or a damaged one"),
        ("a.parquet", parquet(text=["abc"] * 99)[:-9], "no parquet file, or a damaged one"),
        ("README", b"", "documents are read from .txt"),
        ("a.gz", gzip.compress(b"", mtime=0), "documents are read from .txt"),
    ],
)
def test_damaged_files_are_named(name: str, content: bytes, said: str) -> None:
    assert refusal(name, content).startswith(said)


def zipped(**members: bytes | str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


def test_zip_as_systems_write_it() -> None:
    members = {
        "docs/": "",
        "docs/b.txt": "B",
        "docs/a.txt": "A",
        "__MACOSX/docs/._a.txt": b"\xff",
        "docs/.DS_Store": "",
    }
    assert read("a.zip", zipped(**members), None) == ["A", "B"]
    assert read("a.zip", zipped(**{"inner.zip": zipped(**{"x/": "", "x/a.txt": "A"})}), None) == ["A"]
    assert refusal("a.zip", zipped(**{"docs/a.csv": "id\n1\n"})).startswith("/docs/a.csv: no column 'text'")
    broken = bytearray(zipped(**{"a.txt": "A" * 999}))
    broken[40] ^= 0xFF
    assert refusal("a.zip", bytes(broken), None).startswith("damaged, or no such format")
    locked = bytearray(zipped(**{"a.txt": "A"}))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + place] |= 1
    assert refusal("a.zip", bytes(locked), None).startswith("can't be unpacked (File 'a.txt' is encrypted")


# json, jsonl, parquet

GOOD = '{"text": "a"}\n'


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "b"', "line 4: no JSON (Expecting ',' delimiter at character 13)"),
        ('{"text": "b"}{"text": "c"}', "line 4: no JSON (Extra data at character 14)"),
        ("text", "line 4: no JSON (Expecting value at character 1)"),
        ('"b"', "line 4 is no object with the key 'text': a str"),
        ('[{"text": "b"}]', "line 4 is no object with the key 'text': a list"),
        ('{"body": "b", "id": 1}', "line 4 is no object with the key 'text'; it has body, id"),
        ('{"text": 12345}', "line 4: text: 12345 is no text but a value of type int"),
        ('{"text": 0}', "line 4: text: 0 is no text but a value of type int"),
        ('{"text": false}', "line 4: text: False is no text but a value of type bool"),
        ('{"text": []}', "line 4: text: [] is no text but a value of type list"),
        ('{"text": {"a": "b"}}', "line 4: text: {'a': 'b'} is no text but a value of type dict"),
        ('{"text": "b", "n": ' + "9" * 5000 + "}", "line 4: Exceeds the limit (4300 digits)"),
        ("[" * 100_000, "line 4: nested too deeply"),
    ],
)
def test_jsonl_names_the_line(line: str, said: str) -> None:
    assert refusal("a.jsonl", f"{GOOD}\n{GOOD}{line}\n{GOOD}").startswith(said)
    for end in ("\r\n", "\r"):
        assert refusal("a.jsonl", f"{GOOD}\n{GOOD}{line}\n{GOOD}".replace("\n", end)).startswith(said)


def test_a_record_with_two_texts_is_refused() -> None:
    twice = '{"text": "one", "id": 1, "id": 2, "text": "two"}'
    said = "the key 'text' is given twice in one object"
    assert refusal("a.jsonl", '{"text": "zero"}\n' + twice) == f"line 2: {said}"
    assert refusal("a.json", f'[{{"text": "zero"}}, {twice}]') == said
    assert read("a.jsonl", '{"id": 1, "id": 2, "text": "one"}') == ["one"]


def test_jsonl_that_is_well_formed() -> None:
    assert read("a.jsonl", f'\ufeff{GOOD}\r\n{{"text": null}}\n{{"text": "b\u2028\x85c"}}') == ["a", "", "b\u2028\x85c"]


@pytest.mark.parametrize(
    ("content", "depth", "said"),
    [
        ('[{"text": "a"}, {"text": "b', 1, "line 1: no JSON (Unterminated string starting at at character 26)"),
        ('[{"text": "a"},\n {"text": }]', 1, "line 2: no JSON (Expecting value at character"),
        ('["a", "b"]', 1, "no text under the key 'text': the first value at depth 1 (`depth` of the source) is a str"),
        (
            '[{"body": "a"}]',
            1,
            "no text under the key 'text': the first value at depth 1 (`depth` of the source) is an o",
        ),
        ('[{"text": 5}]', 1, "no text under the key 'text'"),
        ('[{"text": "a"}]', 9, "no text under the key 'text': there is nothing at depth 9"),
        ("[" * 100_000, 1, "nested too deeply"),
        ("[1" + "0" * 5000 + "]", 1, "Exceeds the limit (4300 digits)"),
        ("", 1, "line 1: no JSON (Expecting value at character 1)"),
        ('[{"text": "a"}]\n[{"text": "b"}]', 1, "line 2: no JSON (Extra data"),
        (GOOD + '{"text": "b"\n', 1, "line 2: no JSON"),
    ],
)
def test_json_says_what_is_missing(content: str, depth: int, said: str) -> None:
    assert refusal("a.json", content, depth=depth).startswith(said)


def test_json_that_is_well_formed() -> None:
    assert read("a.json", '\ufeff[{"text": "a"}]') == ["a"]
    assert read("a.json", "[]") == []
    assert read("a.json", GOOD + '\n{"text": null}\n{"text": "b"}') == ["a", "", "b"]  # one record a line
    assert read("a.json", '[{"text": "a"}]'.encode("utf-16")) == ["a"]


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([1, 2]), "the column 'text' holds no text but values of type int64"),
        (pa.array([b"a"]), "the column 'text' holds no text but values of type binary"),
        (pa.array([["a"]]), "the column 'text' holds no text but values of type list<"),
        (pa.array([{"a": "b"}]), "the column 'text' holds no text but values of type struct<"),
        (pa.array(["a", None, "b"]), None),
        (pa.array(["a", None, "b"], pa.large_string()), None),
        (pa.array(["a", None, "b"]).dictionary_encode(), None),
    ],
)
def test_parquet_names_the_type(column: pa.Array, said: str | None) -> None:
    if said is None:
        assert read("a.parquet", parquet(text=column)) == ["a", "", "b"]
    else:
        assert refusal("a.parquet", parquet(text=column)).startswith(said)
    assert refusal("a.parquet", parquet(body=column)) == "no column 'text'; it has body"


def test_parquet_whose_text_is_not_utf8() -> None:
    column = pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(np.array([0, 1, 3], "<i4")), pa.py_buffer(b"ab\xe9")]
    )
    assert refusal("a.parquet", parquet(text=column)) == "row 2: not UTF-8 at byte 1 of its text"


def test_half_an_emoji_stands_for_no_character(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "half \\ud83d an emoji \\ud83e\\udd8a"}')
    build_corpus("mine", own(tmp_path, "a.jsonl"), tmp_path, tmp_path / "corpus/meta.json")
    assert texts_of(tmp_path / "corpus") == ["half an emoji 🦊"]


# Corpora


def own(folder: Path, name: str, **options: object) -> dict:
    return {"sources": [{"kind": "files", "path": str(folder / name), "field": "text", **FACTS, **options}]}


def test_an_unreadable_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    from pipeline.corpora import files

    (tmp_path / "a.txt").write_text("a")

    def refuse(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files, "open", refuse, raising=False)
    assert builtins.open is not refuse
    with pytest.raises(UserError, match=r"corpora\.mine: .*a\.txt: can't be read \(Permission denied\)"):
        build_corpus("mine", own(tmp_path, "a.txt"), tmp_path, tmp_path / "corpus/meta.json")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Return a function that lays out a local data set and builds a corpus of it: its texts, or the line it ends in."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def build(capsys: pytest.CaptureFixture, **files: bytes) -> list[str] | str:
        folder = tmp_path / "hub"
        folder.mkdir()
        for name, content in files.items():
            (folder / name.replace("__", ".")).write_bytes(content)
        source = {"kind": "hub", "name": str(folder), "split": "train", "field": "text", **FACTS}
        arguments = ["--name", "web", "--spec", json.dumps({"sources": [source]}), "--downloads", str(tmp_path)]
        code = main([*arguments, "--output", str(tmp_path / "corpus/meta.json")])
        said = capsys.readouterr().err.splitlines()
        return said[-1] if code == 2 else texts_of(tmp_path / "corpus")

    return build


def test_hub_takes_null_for_an_empty_text(hub: object, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert hub(capsys, train__parquet=parquet(text=["a", None, "b"])) == ["a", "b"]
    assert read_meta(tmp_path / "corpus")["dropped"] == {"short documents": 1}


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({"train__parquet": parquet(text=[1, 2])}, "document 1: 1 is no text but a value of type int"),
        ({"train__jsonl": b'{"text": "a"}\n{"text": "b\n{"text": "c"}\n'}, "can't be read on after 0 documents"),
        ({"train__txt": b"a\ncaf\xe9\n"}, "can't be read on after 0 documents"),
        (
            {
                "train-00000-of-00002__parquet": parquet(text=["a"] * 400),
                "train-00001-of-00002__parquet": parquet(body=[1], text=[2]),
            },
            "can't be read on after 400 documents|no text but",
        ),
        ({"README__md": b"---\nconfigs: [\n---\n", "train__txt": b"a"}, "hub source"),
    ],
)
def test_hub_that_cannot_be_read_is_one_line(
    hub: object, capsys: pytest.CaptureFixture, files: dict[str, bytes], word: str
) -> None:
    import re

    said = hub(capsys, **files)
    assert isinstance(said, str) and said.startswith("error: corpora.web: hub source ")
    assert re.search(word, said)


# Long documents


def test_pieces_hold_all_of_a_text() -> None:
    paragraphs = [f"Paragraph {n}: " + " ".join(f"word{n * k % 97}" for k in range(40)) for n in range(300)]
    text = "\n\n".join(paragraphs)
    pieces = split_text(text, 5000)
    assert "\n\n".join(pieces) == text
    assert all(5000 / 4 <= len(piece) <= 5000 for piece in pieces)
    line = " ".join(paragraphs)
    assert " ".join(split_text(line, 700)) == line
    code = "\n".join(f"    indented = {n}" for n in range(1000))
    assert "\n".join(split_text(code, 300)) == code
    assert "".join(split_text("x" * 1000, 7)) == "x" * 1000
    assert max(map(len, split_text("x" * 1000, 7))) <= 7
    assert split_text("short", 5) == ["short"]


def test_only_what_is_long_is_cut() -> None:
    cleaner = Cleaner("nothing", 1, 2**16)
    texts = ["word " * 30, "word " * 10]
    assert cleaner(texts, "prose")[0] == [text.strip() for text in texts]
    kept, _ = cleaner(texts, "prose", 100, 60)
    assert kept[-1] == texts[1].strip() and len(kept) == 5 and " ".join(kept[:-1]) == texts[0].strip()


@pytest.mark.parametrize(
    ("options", "at_most"), [({}, PIECE), ({"max_characters": 20_000}, 20_000), ({"max_characters": 1e12}, 300_000)]
)
def test_a_book_in_one_file_is_cut(tmp_path: Path, options: dict, at_most: int) -> None:
    book = "\n\n".join(f"Chapter {n}. " + f"It was number {n} of many. " * 20 for n in range(400))
    assert len(book) > LONG
    (tmp_path / "book.txt").write_text(book)
    build_corpus("mine", own(tmp_path, "book.txt", **options), tmp_path, tmp_path / "corpus/meta.json")
    texts = texts_of(tmp_path / "corpus")
    assert at_most / 4 <= max(map(len, texts)) <= at_most
    assert len("\n\n".join(texts)) >= len(book) - 2 * 400


def test_a_book_trains(tmp_path: Path) -> None:
    """As tiny Shakespeare comes, one file: both sides of the split have text, and a resumed corpus is the same."""
    book = "\n\n".join(f"Chapter {n}. " + f"It was number {n} of many, {n * n}. " * 12 for n in range(600))
    (tmp_path / "book.txt").write_text(book)
    build_corpus("mine", own(tmp_path, "book.txt"), tmp_path, tmp_path / "corpus/meta.json")
    spec = {"seed": 0, "test_fraction": 0.1, "tokenizer_bytes": 1e6, "transfer_tokens": 1000}
    train_tokenizer(training_texts([tmp_path / "corpus"], spec), 300).save(str(tmp_path / "tokenizer.json"))
    output = tmp_path / "tokens/meta.json"
    meta = tokenize(tmp_path / "tokenizer.json", {"mine": tmp_path / "corpus"}, {}, spec, output, tmp_path / "scratch")
    assert meta["train"]["documents"] > 20 and meta["test"]["documents"] > 2


# Token files


def test_the_message_of_an_empty_split_points_the_right_way() -> None:
    keys = np.array([0.0213, 0.3, 0.4999])
    check_split(keys, 0.1, "mine")
    cases = [
        (
            keys,
            0.01,
            r"test\.bin: none of the 3 documents of mine in it at .* 0\.01; raise it to 0\.022 or more, or add",
        ),
        (
            keys,
            0.5,
            r"train\.bin: none of the 3 documents of mine in it at .* 0\.5; lower it to 0\.499 or less, or add",
        ),
        (keys + 0.5, 0.01, r"test\.bin: .* 0\.01; add text, or cut it into more documents \(`max_characters`"),
        (keys[:1], 0.1, r"train\.bin: none of the 1 document of mine in it at .* 0\.1; add text, or cut it"),
        (keys[1:2], 0.1, r"test\.bin: none of the 1 document of mine .*; add text, or cut it"),
    ]
    for found, fraction, message in cases:
        with pytest.raises(UserError, match=message):
            check_split(found, fraction, "mine")
    for fraction in (0.022, 0.499):  # what the messages say is enough
        check_split(keys, fraction, "mine")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rows = [json.dumps({"text": f"Letter {n}: dear reader, yours {n * n}."}) for n in range(300)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    build_corpus("mine", own(tmp_path, "a.jsonl"), tmp_path, tmp_path / "corpus/meta.json", part_bytes=4000)
    return tmp_path / "corpus"


SPEC = {"tokenizer": "bpe", "vocabulary": 270, "seed": 0, "test_fraction": 0.1, "tokenizer_bytes": 1e6}
SPEC |= {"transfer_tokens": 1000}


def token_files(corpus: Path, output: Path, **spec: object) -> dict:
    tokenizer = output.parent / "tokenizer.json"
    if not tokenizer.exists():
        spec_json = json.dumps({**SPEC, **spec})
        assert (
            tokenizer_module.main(["--documents", f"mine={corpus}", "--spec", spec_json, "--output", str(tokenizer)])
            == 0
        )
    return tokenize(tokenizer, {"mine": corpus}, {}, {**SPEC, **spec}, output, output.parent / "scratch")


def test_too_small_a_test_set_says_which_fraction_would_do(corpus: Path, tmp_path: Path) -> None:
    had = token_files(corpus, tmp_path / "a/meta.json")["test"]["tokens"]
    message = (
        rf"data\.min_test_tokens: mine give {had:,} test tokens, fewer than {2 * had:,}; raise data\.test_fraction"
    )
    with pytest.raises(UserError, match=message + r" to about 0\.22, add a corpus"):
        token_files(corpus, tmp_path / "b/meta.json", min_test_tokens=2 * had)
    with pytest.raises(UserError, match=rf"fewer than {9 * had:,}; add a corpus, or lower it"):
        token_files(corpus, tmp_path / "c/meta.json", min_test_tokens=9 * had)


def test_a_sample_without_a_document_is_told_from_a_small_vocabulary(corpus: Path) -> None:
    with pytest.raises(UserError, match=r"data\.tokenizer_bytes: no document falls into a sample of 1 bytes out of"):
        list(training_texts([corpus], {**SPEC, "tokenizer_bytes": 1}))
    with pytest.raises(
        UserError, match=r"the training text is too small for 5000 entries; it gives \d+: lower it, add te"
    ):
        train_tokenizer(training_texts([corpus], SPEC), 5000)


def test_documents_that_are_not_those_of_their_meta_are_refused(corpus: Path, tmp_path: Path) -> None:
    parts = [corpus / part["file"] for part in read_meta(corpus)["parts"]]
    assert len(parts) > 1
    check_documents(corpus)
    token_files(corpus, tmp_path / "tokens/meta.json")
    whole = parts[1].read_bytes()
    parts[1].write_bytes(parts[0].read_bytes())
    message = r"documents-00001\.parquet: not the documents that meta\.json beside it tells of; remove .*corpus"
    with pytest.raises(UserError, match=message):
        token_files(corpus, tmp_path / "tokens/meta.json")
    with pytest.raises(UserError, match=r"none/meta\.json: no such file: fetch the corpus first"):
        read_meta(tmp_path / "none")
    parts[1].unlink()
    with pytest.raises(
        UserError, match=r"documents-00001\.parquet: no such file, though meta\.json beside it lists it"
    ):
        check_documents(corpus)
    parts[1].write_bytes(whole)
    check_documents(corpus)
    meta = read_meta(corpus)  # as earlier versions wrote it
    write_json(
        corpus / "meta.json", {**meta, "parts": [{k: v for k, v in p.items() if k != "sha256"} for p in meta["parts"]]}
    )
    check_documents(corpus)


def test_token_files_of_other_text_do_not_pass_for_new(corpus: Path, tmp_path: Path) -> None:
    """A corpus fetched again under its id with other text (a branch of the hub moved): its runs would be mixed."""
    output = tmp_path / "tokens/meta.json"
    first = token_files(corpus, output)
    output.unlink()
    assert token_files(corpus, output) == first  # the same text again is no change
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": f"Other {n}, {n * n}."}) for n in range(300)))
    build_corpus("mine", own(tmp_path, "a.jsonl"), tmp_path, corpus / "meta.json")
    output.unlink()
    with pytest.raises(
        UserError, match=r"train\.bin: holds other tokens than its corpora give now, .* Remove .*tokens"
    ):
        token_files(corpus, output)
    assert not output.exists()
    assert first["train"]["sha256"] != token_files(corpus, tmp_path / "new/meta.json")["train"]["sha256"]


def test_parts_of_other_text_are_not_taken_up(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.tokens import files

    output = tmp_path / "tokens/meta.json"

    def die(*arguments: object) -> None:
        raise KeyboardInterrupt

    real = files._merge
    monkeypatch.setattr(files, "_merge", die)
    with pytest.raises(KeyboardInterrupt):
        token_files(corpus, output)
    monkeypatch.setattr(files, "_merge", real)
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": f"Other {n}, {n * n}."}) for n in range(300)))
    build_corpus("mine", own(tmp_path, "a.jsonl"), tmp_path, corpus / "meta.json", part_bytes=4000)
    meta = token_files(corpus, output)
    assert meta["train"]["bytes"] + meta["test"]["bytes"] == read_meta(corpus)["bytes"]


def test_token_files_are_checked_against_their_meta(corpus: Path, tmp_path: Path) -> None:
    meta = token_files(corpus, tmp_path / "tokens/meta.json")
    folder = tmp_path / "tokens"
    assert (
        check_token_files(folder) == check_token_files(folder, sha256=True) == meta == read_json(folder / "meta.json")
    )
    whole = (folder / "train.bin").read_bytes()
    (folder / "train.bin").write_bytes(whole[: len(whole) // 4 * 2])
    tokens = meta["train"]["tokens"]
    message = (
        rf"train\.bin: [\d,]+ bytes, but meta\.json beside it says {tokens:,} tokens, which are {2 * tokens:,} bytes"
    )
    with pytest.raises(UserError, match=message):
        check_token_files(folder)
    (folder / "train.bin").write_bytes(whole[::-1])
    check_token_files(folder)
    with pytest.raises(UserError, match=r"train\.bin: not the tokens that meta\.json beside it tells of"):
        check_token_files(folder, sha256=True)
    (folder / "train.bin").write_bytes(whole)
    (folder / "test.bin").unlink()
    with pytest.raises(UserError, match=r"test\.bin: 0 bytes, but"):
        check_token_files(folder)
    with pytest.raises(UserError, match=r"none/meta\.json: no such file: make the token files first"):
        check_token_files(tmp_path / "none")


# A full disk


@pytest.mark.parametrize("file", ["documents-00000.parquet", "progress.json", "meta.json"])
def test_a_full_disk_names_the_file_of_documents(tmp_path: Path, no_room_for, file: str) -> None:
    (tmp_path / "a.txt").write_text("a")
    no_room_for(file)
    named = rf"corpora\.mine: .*corpus/{re.escape(file)}: can't be written \(No space left on device\)"
    with pytest.raises(UserError, match=named):
        build_corpus("mine", own(tmp_path, "a.txt"), tmp_path, tmp_path / "corpus/meta.json")
    assert not list((tmp_path / "corpus").glob("*meta*"))


@pytest.mark.parametrize(
    "file", ["documents-00000.bin", "documents-00001.npz", "train.bin", "test.bin", "transfer-other.bin", "meta.json"]
)
def test_a_full_disk_names_the_file_of_tokens(corpus: Path, tmp_path: Path, no_room_for, file: str) -> None:
    output = tmp_path / "tokens/meta.json"
    train_tokenizer(training_texts([corpus], SPEC), 270).save(str(tmp_path / "tokenizer.json"))
    arguments = tmp_path / "tokenizer.json", {"mine": corpus}, {"other": corpus}, SPEC, output, tmp_path / "scratch"
    no_room_for(file)
    with pytest.raises(UserError, match=rf"{re.escape(file)}: can't be written \(No space left on device\)"):
        tokenize(*arguments)
    assert not output.exists() and not list(tmp_path.rglob(".*.tmp*"))
    no_room_for(None)
    tokenize(*arguments)


def test_a_tokenizer_is_written_as_its_library_writes_it(corpus: Path, tmp_path: Path) -> None:
    token_files(corpus, tmp_path / "tokens/meta.json")
    train_tokenizer(training_texts([corpus], SPEC), 270).save(str(tmp_path / "saved.json"))
    assert (tmp_path / "tokens/tokenizer.json").read_bytes() == (tmp_path / "saved.json").read_bytes()
