"""The page: every part from its files, what is missing named, nothing from elsewhere."""

import re
from collections import Counter
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from made_results import RECIPES, write_results

from bench import figures, report
from bench.page.parts import PAGE_PARTS
from bench.page.summary import summary
from bench.page.tables import number, p_value, points, size, table
from bench.runs.regions import average_regions, load_regions, save_regions
from bench.runs.sweep import Task

HTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
FILES = sorted({part.file for part in PAGE_PARTS if part.file})


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    write_results(folder)
    report.write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(results):
    """The page as a tree: it is well-formed XML, or this fails."""
    return ElementTree.fromstring(read(results))


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A folder of one recipe that a test may change; pictures, which take long, stay empty."""
    write_results(tmp_path, RECIPES[:1])

    def empty(figure):
        plt.close(figure)
        return '<svg xmlns="http://www.w3.org/2000/svg" />'

    monkeypatch.setattr(figures, "as_svg", empty)
    return tmp_path


def read(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def sections(folder):
    tree = ElementTree.fromstring(read(folder))
    return {section.get("id"): section for section in tree.iter(f"{HTML}section")}


def text_of(element):
    return " ".join("".join(element.itertext()).split())


def test_every_part_is_shown_in_its_order(page):
    shown = [section.get("id") for section in page.iter(f"{HTML}section")]
    assert shown == ["summary", *(part.name for part in PAGE_PARTS), "provenance"]
    assert "Not in this folder" not in text_of(page)
    assert "Unknown" not in text_of(page)


def test_the_pictures_of_every_recipe_are_there(page):
    pictures = {
        section.get("id"): [
            svg for svg in section.iter(f"{SVG}svg") if svg.get("aria-hidden") != "true"
        ]
        for section in page.iter(f"{HTML}section")
    }
    numbers = {"accuracy": 2, "curves": len(RECIPES), "regions": len(RECIPES), "speed": 5,
               "scaling": 1, "peers": 2, "initialization": 1}  # fmt: skip
    assert numbers == {part: len(found) for part, found in pictures.items() if found}


def test_every_picture_says_what_is_to_be_seen(page):
    for svg in page.iter(f"{SVG}svg"):
        if svg.get("aria-hidden") != "true":
            assert svg.get("role") == "img"
            assert len(svg.get("aria-label")) > 20
    assert not list(page.iter(f"{HTML}img"))


def test_every_table_has_a_caption_and_headings_that_say_what_they_head(page):
    tables = list(page.iter(f"{HTML}table"))
    assert len(tables) == 14
    for each in tables:
        assert text_of(each.find(f"{HTML}caption"))
        assert {heading.get("scope") for heading in each.iter(f"{HTML}th")} == {"col", "row"}
        rows = list(each.find(f"{HTML}tbody"))
        width = len(list(each.find(f"{HTML}thead").iter(f"{HTML}th")))
        assert {len(row) for row in rows} == {width}


def test_no_two_elements_have_one_id_and_every_reference_is_to_one(page, results):
    ids = Counter(element.get("id") for element in page.iter() if element.get("id"))
    assert [name for name, times in ids.items() if times > 1] == []
    text = read(results)
    used = set(re.findall(r"(?:url\(|href=\"|labelledby=\")#?([\w-]+)[\")]", text))
    assert used <= set(ids)
    assert used


def test_the_page_needs_nothing_from_elsewhere(page, results):
    for element in page.iter():
        for name, value in element.attrib.items():
            if name.rpartition("}")[2] in {"src", "href", "action", "data", "poster", "srcset"}:
                assert value.startswith(("#", "data:")), (element.tag, value)
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttp", read(results))
    assert (results / "report.html").stat().st_size < 3_000_000


@pytest.mark.parametrize("name", FILES)
def test_a_part_without_its_file_is_one_line_that_names_the_command(copied, name):
    (copied / name).unlink()
    report.write_report(copied)
    found = sections(copied)
    for part in PAGE_PARTS:
        line = f"Not in this folder: {part.file}. It is made by {part.command}."
        assert (line in text_of(found[part.name])) == (part.file == name)


def test_a_folder_of_one_file_is_enough(copied):
    for path in copied.iterdir():
        if path.name != "learning_curves.csv":
            path.unlink()
    report.write_report(copied)
    found = sections(copied)
    assert text_of(found["summary"]).count("Unknown") == 3
    assert "The provenance is unknown" in text_of(found["summary"])
    assert "comparison.json" in text_of(found["provenance"])
    assert list(found["curves"].iter(f"{SVG}svg"))


def test_the_page_is_the_same_from_the_same_files(results):
    before = read(results)
    report.write_report(results)
    assert read(results) == before


ODD = 'a <script>alert("1")</script> & $x_1$ "b" \'c\''


def test_odd_names_are_shown_as_they_are(tmp_path):
    write_results(tmp_path, (ODD, "relu-mse"))
    report.write_report(tmp_path)
    found = sections(tmp_path)
    for name in ("accuracy", "curves", "regions", "speed"):
        assert ODD in text_of(found[name])
    tree = ElementTree.fromstring(read(tmp_path))
    assert [text_of(script)[:2] for script in tree.iter(f"{HTML}script")] == ["//"]
    assert "A <Processor> & more" in text_of(found["provenance"])
    assert "<b>" in text_of(found["accuracy"]), "HTML in Markdown is text"


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("accuracy.csv", "recipe,part\nrelu-mse,test\n", "no column margin"),
        ("speed.csv", "", "No columns"),
        ("comparison.json", "[1]", "got list"),
        ("comparison.json", "{", "Expecting property name"),
        ("decision_regions.npz", "no archive", "pickled"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_one_line_and_exit_code_2(copied, capsys, name, content, reason):
    (copied / name).write_text(content)
    with pytest.raises(SystemExit) as stop:
        report.main(["--output-dir", str(copied)])
    message = capsys.readouterr().err
    assert stop.value.code == 2
    assert len(message.splitlines()) == 1
    assert name in message
    assert reason in message
    assert not (copied / "report.html").exists()


def test_a_table_without_rows_is_as_if_it_were_not_there(copied):
    rows = pd.read_csv(copied / "speed.csv")
    rows.head(0).to_csv(copied / "speed.csv", index=False)
    report.write_report(copied)
    assert "It is made by python bench/compare.py" in text_of(sections(copied)["speed"])


def test_a_folder_that_is_not_there_is_refused_and_not_made(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        report.main(["--output-dir", str(tmp_path / "none")])
    assert stop.value.code == 2
    assert "there is no such folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_where_the_page_is(copied, capsys):
    assert report.main(["--output-dir", str(copied)]) == 0
    assert str(copied / "report.html") in capsys.readouterr().out


def edited(path, column, value, where=0):
    frame = pd.read_csv(path)
    frame.loc[where, column] = value
    frame.to_csv(path, index=False)


@pytest.mark.parametrize(
    ("name", "column", "value", "answers"),
    [
        ("speed.csv", "rounds", 20, ["good Yes", "good Equivalent", "good 1."]),
        ("verification.csv", "status", "FAILED", ["bad No", "good Equivalent", "good 1."]),
        ("kill_matrix.csv", ["values", "ties", "fuzzing"], 0, ["bad No", "good Eq", "good 1."]),
        ("accuracy.csv", "difference_verdict", "inconclusive", ["good Y", "open Incon", "good 1."]),
        ("accuracy.csv", "difference_verdict", "different", ["good Yes", "bad Diff", "good 1."]),
        ("speed.csv", "claim", "PyTorch faster", ["good Yes", "good Equi", "bad 1."]),
        ("speed.csv", "claim", "no difference shown", ["good Yes", "good Eq", "open No diff"]),
    ],
)
def test_the_summary_says_what_the_files_say(copied, name, column, value, answers):
    edited(copied / name, column, value)
    shown = {part.name: part.show(copied) for part in PAGE_PARTS if part.file}
    given = [f"{answer.verdict} {answer.answer}" for answer in summary(shown)]
    for said, expected in zip(given, answers, strict=True):
        assert said.startswith(expected)


def test_a_case_that_fails_and_a_fault_that_is_not_found_are_named(copied):
    edited(copied / "verification.csv", "status", "FAILED", where=2)
    edited(copied / "kill_matrix.csv", ["values", "ties", "fuzzing"], 0, where=4)
    report.write_report(copied)
    found = sections(copied)
    (failed,) = (
        each for each in found["verification"].iter(f"{HTML}table")
        if each.get("id") == "table-others"
    )  # fmt: skip
    assert "Linear(4, 3, bias=False)-5x4:real" in text_of(failed)
    assert "✕ FAILED" in text_of(failed)
    assert "5 of 6" in text_of(found["faults"])
    assert "Not found: fault 4, of <b> & co" in text_of(found["faults"])


def test_a_value_with_an_interval_is_one_cell_that_sorts_by_the_value():
    frame = pd.DataFrame(
        {"name": ["a", "b"], "x": [1.5, np.nan], "x_low": [1.0, 0.0], "x_high": [2.0, 0.0],
         "n": [3.0, np.nan], "ok": [True, False]}
    )  # fmt: skip
    made = table(frame, "t", "caption")
    assert made.headings == ["name", "x", "n", "ok"]
    assert [[cell.text for cell in row] for row in made.rows] == [
        ["a", "1.50 (1.00 to 2.00)", "3", "yes"],
        ["b", "–", "–", "no"],  # noqa: RUF001
    ]
    assert [cell.key for cell in made.rows[0]] == [None, 1.5, 3.0, 1.0]
    assert made.rows[1][1].key is None


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number(0), "0"),
        (number(0.01234), "0.012"),
        (number(12.345), "12.3"),
        (number(1234.5), "1,234"),
        (number(1.2e-5), "1.2e-05"),
        (p_value(0.0004), "< 0.001"),
        (p_value(0.0123), "0.012"),
        (points(-0.001), "0.00"),
        (points(-0.125), "\u22120.12"),
        (points(0.4), "+0.40"),
        (size(300_000), "293 KiB"),
        (size(3 * 2**30), "3 GiB"),
    ],
)
def test_numbers_read_well(written, expected):
    assert expected == written


def finished(seed, epochs, *corners):
    """A run of whose regions one corner says which seed and epoch it is."""
    masks = np.zeros((len(epochs), 2, 2), dtype=bool)
    masks[:, 0, 0] = corners
    return SimpleNamespace(
        task=Task("early-stopping", "minifw", seed), region_epochs=epochs, regions=masks
    )


def test_the_trained_models_are_averaged_whenever_each_stopped(tmp_path):
    runs = [finished(0, (1, 10, 30), 1, 1, 1), finished(1, (1, 10, 50, 80), 0, 0, 1, 0)]
    regions = average_regions(runs)
    assert regions["epoch"].tolist() == [1, 10, 50, 80]
    assert [share[0, 0] for share in regions["share"]] == [0.5, 0.5, 1, 0.5]
    save_regions(regions, tmp_path / "regions.npz")
    loaded = load_regions(tmp_path / "regions.npz")
    assert loaded.drop(columns="share").equals(regions.drop(columns="share"))
    for ours, theirs in zip(loaded["share"], regions["share"], strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_picture_is_the_same_from_run_to_run_and_in_the_colors_of_the_theme():
    lines = pd.DataFrame(
        {"label": ["a"], "value": [0.1], "low": [0.0], "high": [0.2], "equivalent": True}
    )
    one, other = (figures.as_svg(figures.draw_differences(lines, 1.0, "test")) for _ in range(2))
    assert one == other
    ElementTree.fromstring(one)
    drawn = one.partition("</style>")[2]
    assert "var(--ink)" in drawn
    assert "var(--pytorch)" in drawn
    assert not re.search("#[0-9a-f]{6}", drawn), "a color that does not follow the page"
    assert "prefers-color-scheme: dark" in one.partition("</style>")[0]
    inlined = figures.inline(one, "x", "what is to be seen")
    assert "<style" not in inlined
    assert 'aria-label="what is to be seen"' in inlined
