"""VL-RouterBench: workbooks and image tables, or the tables built of them."""

from __future__ import annotations

import base64
import json
import tarfile
import zipfile
from xml.sax.saxutils import escape

import numpy as np
import pytest

from router.candidate import Price
from router.errors import InvalidInputError
from training.benchmark.vl_router_bench import read_vl_router_bench
from training.benchmark.vl_workbooks import dataset_of
from training.benchmark.workbook import read_rows

SHEET = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>'
STRINGS = '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'


def write_workbook(path, rows):
    """Write rows as spreadsheet programs do: text by number, empty cells left out."""
    texts, lines = [], []
    for number, row in enumerate(rows, start=1):
        cells = [
            cell_xml(f"{chr(65 + column)}{number}", value, texts)
            for column, value in enumerate(row)
        ]
        lines.append(f'<row r="{number}">{"".join(cells)}</row>')
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as book:
        book.writestr(
            "xl/worksheets/sheet1.xml", SHEET + "".join(lines) + "</sheetData></worksheet>"
        )
        shared = "".join(f"<si><r><t>{escape(text)}</t></r></si>" for text in texts)
        book.writestr("xl/sharedStrings.xml", STRINGS + shared + "</sst>")


def cell_xml(place, value, texts):
    """Return one cell."""
    if value is None:
        return f'<c r="{place}"/>'
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, str):
        texts.append(value)
        return f'<c r="{place}" t="s"><v>{len(texts) - 1}</v></c>'
    return f'<c r="{place}"><v>{value}</v></c>'


def write_images(path, rows):
    """Write a table of images; text is a reference, bytes a picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [
        (index, cell if isinstance(cell, str) else base64.b64encode(cell).decode())
        for index, cell in rows
    ]
    lines = ["index\tquestion\timage", *(f'{index}\t"a\nb"\t{cell}' for index, cell in cells)]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def archive(tmp_path, made_up):
    """Return the unpacked published layout: two models, two data sets."""
    root = tmp_path / "vlm_router_data"
    header = ["index", "question", "hint", "A", "B", "prediction", "is_correct"]
    for model, scores in (("GPT4o", (True, 0)), ("NewModel", (1, 1))):
        write_workbook(
            root / "VLMEvalKit_evaluation" / model / f"{model}_MMStar_openai_result.xlsx",
            [
                header,
                [0, "Which?", "look", "red", 2, "A" * 40, scores[0]],
                [1, "Same?", None, None, None, "B", scores[1]],
            ],
        )
    folder = root / "VLMEvalKit_evaluation" / "GPT4o"
    write_workbook(
        folder / "GPT4o_OCRBench.xlsx", [["id", "question", "score"], ["x", "Read.", "True"]]
    )
    write_workbook(folder / "GPT4o_AI2D_TEST.xlsx", [["index", "prediction"], [0, "only"]])
    write_images(root / "TSV_images" / "MMStar.tsv", [(0, made_up.png(size=(40, 30))), (1, "0")])
    return root


@pytest.fixture
def read(tmp_path):
    """Return a reader that keeps its lines."""

    def read_path(path):
        lines = []
        source = read_vl_router_bench(path, cache_folder=tmp_path / "cache", report=lines.append)
        return source, lines

    return read_path


def test_workbooks_become_queries_and_outcomes(archive, read, made_up):
    """Options and hints belong to the question; a reference shows the same picture again."""
    source, lines = read(archive)
    assert source.name == "vl-router-bench"
    assert source.query_ids == ("MMStar/0", "MMStar/1", "OCRBench/x")
    assert source.questions[0] == "Which?\nHint: look\nOptions: (A) red; (B) 2"
    assert source.datasets == ("MMStar", "MMStar", "OCRBench")
    assert source.images[0] == source.images[1]
    assert source.images[0][0].read_bytes() == made_up.png(size=(40, 30))
    assert source.images[2] == ()
    assert source.models == ("GPT4o", "NewModel")
    assert source.outcomes.score_O.tolist() == [1, 0, 1, 1, 1]
    assert "vl-router-bench: answers of GPT4o" in lines


def test_costs_of_workbooks_are_estimates(archive, read):
    """(43 / 4 + 256) x 2.5 + 40 / 4 x 10, in millionths; no count passes as recorded."""
    source, _ = read(archive)
    estimate = ((len(source.questions[0]) / 4 + 256) * 2.5 + 10 * 10) / 1e6
    assert source.outcomes.cost_usd_O[0] == pytest.approx(estimate)
    assert np.isnan(source.outcomes.cost_usd_O[2:]).all()
    assert np.isnan(source.outcomes.input_tokens_O).all()
    assert source.prices["GPT4o"] == Price(input_usd_per_mtok=2.5, output_usd_per_mtok=10)
    assert "NewModel" not in source.prices
    assert source.notes == (
        "costs are estimated: four characters a token, 256 tokens an image",
        "1 questions without their image",
    )


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_archives_are_unpacked_once(archive, read, tmp_path, kind):
    """A second reading finds the converted form, and the unpacked files are gone."""
    path = tmp_path / f"data.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for file in sorted(archive.rglob("*.*")):
                packed.write(file, file.relative_to(tmp_path))
    else:
        with tarfile.open(path, "w:gz") as packed:
            packed.add(archive, archive.name)
    first, lines = read(path)
    again, silence = read(path)
    assert lines
    assert silence == []
    assert first.query_ids == again.query_ids
    assert first.notes == again.notes
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_an_archive_may_not_write_elsewhere(read, tmp_path):
    """A member with a path upwards is refused."""
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "data.tar.gz", "w:gz") as packed:
        packed.add(tmp_path / "evil", "../../evil")
    with pytest.raises(InvalidInputError, match="no sound archive"):
        read(tmp_path / "data.tar.gz")


@pytest.fixture
def built(tmp_path, made_up):
    """Return the layout that the benchmark's own tools build."""
    root = tmp_path / "built"
    made_up.write_table(
        root / "ORACLE" / "score" / "mmstar.parquet",
        sample_id=["MMStar/0", "MMStar/0", "MMStar/1"],
        model_id=["GPT4o", "SmolVLM2", "SmolVLM2"],
        quality_raw=[1, 0, 1],
        quality=[1.0, 0.0, 1.0],
    )
    elsewhere = {"type": "image_tsv", "tsv_file": "/another/machine/MMStar.tsv", "index": 1}
    samples = [
        {"sample_id": "MMStar/0", "dataset": "MMStar", "prompt": "Which?", "assets": [elsewhere]},
        {"sample_id": "MMStar/1", "prompt": None, "assets": [{"type": "image", "uri": "b.png"}]},
        {"sample_id": "MMStar/2", "prompt": "not scored"},
    ]
    (root / "BENCHMARKS" / "vqa_mc").mkdir(parents=True)
    (root / "BENCHMARKS" / "vqa_mc" / "mmstar_samples.jsonl").write_text(
        "".join(json.dumps(sample) + "\n" for sample in samples)
    )
    (root / "b.png").write_bytes(made_up.png("blue"))
    write_images(
        root / "vlm_router_data" / "TSV_images" / "MMStar.tsv",
        [(7, made_up.png("red", (40, 30))), (8, made_up.png("green", (40, 30)))],
    )
    (root / "data" / "matrices").mkdir(parents=True)
    (root / "data" / "matrices" / "cost_details.csv").write_text(
        "sample_id,model,output_tokens,is_actual,input_tokens,total_cost_usd\n"
        "MMStar/0,GPT4o,5,True,261,0.0007\nMMStar/0,SmolVLM2,,True,261,0.0001\n"
    )
    return root


def test_built_tables_bring_their_own_counts(built, read, made_up):
    """Token counts and costs are the benchmark's; images are found by row and by path."""
    source, _ = read(built)
    assert source.query_ids == ("MMStar/0", "MMStar/1")
    assert source.questions == ("Which?", "")
    assert [images[0].read_bytes() for images in source.images] == [
        made_up.png("green", (40, 30)),
        made_up.png("blue"),
    ]
    outcomes = source.outcomes
    np.testing.assert_array_equal(outcomes.input_tokens_O, [261, 261, np.nan])
    np.testing.assert_array_equal(outcomes.output_tokens_O, [5, np.nan, np.nan])
    np.testing.assert_array_equal(outcomes.cost_usd_O, [0.0007, 0.0001, np.nan])
    assert source.notes == ()


def test_prices_may_be_the_folder_s_own(built, read):
    """The benchmark's price file comes before the published table."""
    (built / "config").mkdir()
    (built / "config" / "pricing.yaml").write_text(
        "pricing:\n  GPT4o: {type: token_based, input_price_per_1m: 1, output_price_per_1m: 2}\n"
    )
    prices = read(built)[0].prices
    assert prices["GPT4o"] == Price(input_usd_per_mtok=1, output_usd_per_mtok=2)
    assert prices["SmolVLM2"] == Price(input_usd_per_mtok=0.06, output_usd_per_mtok=0.06)
    (built / "config" / "pricing.yaml").write_text("pricing: 3\n")
    with pytest.raises(InvalidInputError, match="no table of prices"):
        read(built)


def test_what_a_built_folder_lacks_is_told(built, read):
    """Without costs and images there are notes; a score without a sample is refused."""
    (built / "data" / "matrices" / "cost_details.csv").unlink()
    (built / "b.png").unlink()
    (built / "vlm_router_data" / "TSV_images" / "MMStar.tsv").unlink()
    notes = read(built)[0].notes
    assert notes[0].startswith("costs are unknown: neither data/matrices/cost_details.csv nor")
    assert notes[1] == "2 questions without their image"
    samples = built / "BENCHMARKS" / "vqa_mc" / "mmstar_samples.jsonl"
    samples.write_text("{}\n")
    with pytest.raises(InvalidInputError, match="line 1 has no sample_id"):
        read(built)
    samples.write_text("no json, but longer\n")
    with pytest.raises(InvalidInputError, match="line 1 is no JSON"):
        read(built)
    samples.write_text("")
    with pytest.raises(InvalidInputError, match="'MMStar/0', which BENCHMARKS has not"):
        read(built)


def test_other_folders_are_refused(tmp_path, read):
    """Neither layout, no archive, no file."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="neither ORACLE/score nor VLMEvalKit_evaluation"):
        read(tmp_path / "empty")
    (tmp_path / "file.tar.gz").write_bytes(b"no archive")
    with pytest.raises(InvalidInputError, match="no sound archive"):
        read(tmp_path / "file.tar.gz")
    with pytest.raises(InvalidInputError, match="does not exist"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty" / "VLMEvalKit_evaluation").mkdir()
    with pytest.raises(InvalidInputError, match="no workbook with a column is_correct"):
        read(tmp_path / "empty")


def test_broken_cells_are_named(archive, read):
    """An image that is no base64, a score that is none, a table without images."""
    table = archive / "TSV_images" / "MMStar.tsv"
    table.write_text("index\timage\n0\t" + "!" * 100 + "\n")
    with pytest.raises(InvalidInputError, match="image of index 0 is no base64"):
        read(archive)
    table.write_text("index\tpicture\n0\tx\n")
    with pytest.raises(InvalidInputError, match=r"MMStar.tsv lacks the column image"):
        read(archive)
    table.unlink()
    book = archive / "VLMEvalKit_evaluation" / "GPT4o" / "GPT4o_OCRBench.xlsx"
    write_workbook(book, [["id", "question", "score"], ["x", "Read.", "perhaps"]])
    with pytest.raises(InvalidInputError, match=r"OCRBench.xlsx: 'perhaps' is no score"):
        read(archive)
    book.write_bytes(b"no workbook, but something")
    with pytest.raises(InvalidInputError, match=r"OCRBench.xlsx is not a workbook"):
        read(archive)


def test_a_cell_may_hold_several_images(archive, read, made_up):
    """They are kept in their order."""
    cells = [base64.b64encode(made_up.png(color, (40, 30))).decode() for color in ("red", "blue")]
    (archive / "TSV_images" / "MMStar.tsv").write_text(f"index\timage\n0\t{cells}\n")
    source, _ = read(archive)
    assert [image.read_bytes() for image in source.images[0]] == [
        made_up.png(color, (40, 30)) for color in ("red", "blue")
    ]


def test_a_row_may_be_asked_for_by_its_id(archive, read, made_up):
    """Some data sets name their samples by a column beside the index."""
    picture = base64.b64encode(made_up.png(size=(40, 30))).decode()
    (archive / "TSV_images" / "OCRBench.tsv").write_text(
        f"index\tid\timage\n5\tx\t{picture}\n6\t\t5\n"
    )
    source, _ = read(archive)
    assert source.images[2][0].read_bytes() == made_up.png(size=(40, 30))


@pytest.mark.parametrize(
    ("stem", "dataset"),
    [
        ("m_MathVista_MINI_gpt-4o-mini_score", "MathVista_MINI"),
        ("m_MathVista", "MathVista"),
        ("m_ChartQA_TEST", "ChartQA_TEST"),
        ("m_HallusionBench_auxmatch", "HallusionBench"),
    ],
)
def test_a_workbook_s_name_tells_its_data_set(stem, dataset):
    """The longest known name that fits; else what is left without the judge's suffix."""
    known = {"MathVista": None, "MathVista_MINI": None}
    assert dataset_of("m", stem, known) == dataset


def test_cells_of_every_kind_are_read(tmp_path):
    """Text in line, results of formulas, errors, and a sheet without shared text."""
    cells = (
        '<row><c r="A1" t="inlineStr"><is><t>text</t></is></c><c r="B1" t="str"><v>sum</v></c>'
        '<c r="C1" t="inlineStr"><is><t>odd</t></is></c></row>'
        '<row><c r="A2" t="inlineStr"><is><t>a</t></is></c><c r="B2" t="str"><v>b</v></c>'
        '<c r="C2" t="e"><v>#N/A</v></c></row>'
    )
    with zipfile.ZipFile(tmp_path / "book.xlsx", "w") as book:
        book.writestr("xl/worksheets/sheet1.xml", SHEET + cells + "</sheetData></worksheet>")
    rows = list(read_rows(tmp_path / "book.xlsx"))
    assert rows == [{"text": "a", "sum": "b", "odd": None}]
