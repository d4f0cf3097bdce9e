"""report.html: its numbers are those of metrics.json, and it needs nothing but itself."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from optuna.importance import FanovaImportanceEvaluator, get_param_importances

from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.report.__main__ import main
from sign_ensemble.report.run_results import importances, read_results
from sign_ensemble.report.score_plots import score_plots
from sign_ensemble.report.write_report import write_report

SMALL = {"known": ("known", 52), "gestures": ("near", 20), "noise": ("far", 20)}
NOT_TEXT = {"style", "svg", "script", "title"}
NO_METRICS = {"figure", "dl", "ul", "summary"}  # plots, pictures, settings, files


class Reader(HTMLParser):
    """Every ``<data>`` with its text, all other texts, and every address."""

    def __init__(self) -> None:
        super().__init__()
        self.data: list[tuple[dict[str, str | None], str]] = []
        self.texts: list[str] = []
        self.addresses: list[str] = []
        self._open: list[str] = []
        self._attributes: dict[str, str | None] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br", "img"):
            self._open.append(tag)
        self._attributes = dict(attrs)
        for name in ("src", "href", "xlink:href"):
            if value := self._attributes.get(name):
                self.addresses.append(value)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, text: str) -> None:
        if self._open and self._open[-1] == "data":
            self.data.append((self._attributes, text))
        elif not (NOT_TEXT | NO_METRICS) & set(self._open):
            self.texts.append(text)


def read_page(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def shown(value: Any, text: str) -> bool:
    """Whether a text is that value: an integer, a percentage, or three digits of it."""
    if text in (f"{value:,}", str(value)):
        return True
    return text in (f"{100 * value:.1f}", f"{value:.3f}", f"{value:.3g}")


@pytest.fixture(scope="module")
def wide_page(wide_run: Path) -> Path:
    run = RunFolder(wide_run)
    steps: list[tuple[int, int]] = []
    write_report([run], run.report, lambda done, total: steps.append((done, total)))
    assert steps == [(i + 1, len(steps)) for i in range(len(steps))]
    return wide_run / "report.html"


def check_numbers(page: Path, runs: dict[str, Path]) -> int:
    """Every number's source holds it; how many there are."""
    reader = read_page(page)
    trees = {name: json.loads((run / "metrics.json").read_text()) for name, run in runs.items()}
    trials = {
        name: {row["number"]: row for row in pq.read_table(run / "trials.parquet").to_pylist()}
        for name, run in runs.items()
    }
    for attributes, text in reader.data:
        run, source = attributes["data-run"], attributes["data-of"]
        place: Any = (trees if source == "metrics" else trials)[str(run)]
        for step in json.loads(str(attributes["data-at"])):
            place = place[step]
        value = len(place) if isinstance(place, dict) else place
        assert json.loads(str(attributes["value"])) == value, attributes
        assert shown(value, text), (attributes, text)
    return len(reader.data)


def test_every_number_is_that_of_its_file(wide_run: Path, wide_page: Path) -> None:
    assert check_numbers(wide_page, {"wide": wide_run}) > 300


def test_no_number_stands_without_its_source(wide_page: Path) -> None:
    known = {
        "90 % confident": "the threshold of overconfident",
        "95 % bootstrap interval": "of every figure",
    }
    for text in read_page(wide_page).texts:
        rest = text.replace("\xa0", " ")
        for phrase in known:
            rest = rest.replace(phrase, "")
        rest = re.sub(r"\bfar-\d\b|\bh[12]\b", "", rest)  # names of sets and hyperparameters
        assert not re.search(r"\d", rest), text


def test_it_needs_nothing_else(wide_page: Path) -> None:
    reader = read_page(wide_page)
    for address in reader.addresses:
        assert address.startswith(("#", "data:")), address
    text = wide_page.read_text(encoding="utf-8")
    assert "url(" not in re.sub(r"url\(#[\w-]+\)", "", text)
    assert "<script" not in text and "@import" not in text


def test_it_is_small(wide_page: Path) -> None:
    assert wide_page.stat().st_size < 10e6


def test_every_section_is_there(wide_page: Path, wide_run: Path) -> None:
    text = wide_page.read_text(encoding="utf-8")
    for heading in (
        "Accepting and rejecting", "Scores", "Signers, labels, members",
        "The search", "Gallery", "Files set aside", "How it was made", "Most confident mistakes",
        "Rejected real signs", "Accepted OOD images", "Rejected, though one model was confident",
    ):  # fmt: skip
        assert f">{heading}<" in text, heading
    assert "ada/a/broken.png: it is &lt;empty&gt; &amp; cut" in text
    assert "photos/x.jpg: cut" in text
    assert "signer ada has no image of: q" in text
    assert "search.trials" in text and "12.5 s" in text
    plots = {path.stem for path in (wide_run / "figures").glob("*.svg")}
    assert plots == {path.stem for path in (wide_run / "figures").glob("*.png")}
    assert plots >= {
        "risk-coverage", "accepted", "reliability", "signers", "labels", "confusion",
        "member-disagreement", "search-history", "search-parameters", "search-importances",
        "score-knn_distance", "score-disagreement",
    }  # fmt: skip
    assert text.count("<svg") == len(plots)


def test_ids_are_one_of_a_kind(wide_page: Path) -> None:
    text = wide_page.read_text(encoding="utf-8")
    clips = re.findall(r'<clipPath id="([^"]+)"', text)
    assert len(clips) == len(set(clips)) > 10


def test_the_same_run_gives_the_same_page(wide_run: Path, wide_page: Path, tmp_path: Path) -> None:
    before = wide_page.read_bytes()
    write_report([RunFolder(wide_run)], tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == before


def test_runs_side_by_side(drawn_run: Callable[..., Path], tmp_path: Path) -> None:
    runs = {name: drawn_run(name, 6, SMALL, seed) for seed, name in enumerate(("one", "two"))}
    page = tmp_path / "both.html"
    write_report([RunFolder(run) for run in runs.values()], page)
    assert check_numbers(page, runs) > 300
    text = page.read_text(encoding="utf-8")
    assert 'id="side-by-side"' in text
    assert text.count("<article") == 2


def test_the_command_says_where_the_page_is(
    wide_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--run", str(wide_run), "--out", str(tmp_path / "page.html")])
    assert f"report: {tmp_path / 'page.html'}\n" in capsys.readouterr().out
    assert (tmp_path / "page.html").is_file()
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "--dry-run" in capsys.readouterr().out


def test_each_score_has_its_role(drawn_run: Callable[..., Path]) -> None:
    found = read_results(RunFolder(drawn_run("deciding", 1, SMALL)))
    for share, role in ((0.0, "Comparison"), (0.5, "Uncertainty test")):
        plots = score_plots(replace(found, rule={**found.rule, "uncertainty_share": share}))
        assert [plot.title for plot in plots] == [
            "OOD test: regional Mahalanobis distance", "Veto: kNN distance", "Veto: no hand",
            "Veto: two hands", f"{role}: total uncertainty", "Comparison: disagreement",
        ]  # fmt: skip


def test_a_single_setting_has_no_search(drawn_run: Callable[..., Path], tmp_path: Path) -> None:
    run = drawn_run("single", 1, {"known": ("known", 30), "noise": ("far", 10)})
    write_report([RunFolder(run)], tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "there was no search" in text
    assert "There are no near images" in text


def test_plots_of_an_earlier_report_go(drawn_run: Callable[..., Path]) -> None:
    run = drawn_run("earlier", 1, SMALL)
    (run / "figures").mkdir()
    (run / "figures" / "search-history.svg").write_text("old")
    write_report([RunFolder(run)], run / "report.html")
    assert not (run / "figures" / "search-history.svg").exists()


def test_importances_are_optunas(wide_run: Path) -> None:
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(wide_run / "study.journal")))
    study = optuna.load_study(study_name="run", storage=storage)
    theirs = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    assert importances(wide_run / "study.journal") == pytest.approx(theirs)
    assert {*list(theirs)[:2]} == {"learning_rate", "dropout"}  # what the loss was drawn from
    assert importances(wide_run / "no-study") == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.yaml", None, "not a run folder"),
        ("metrics.json", None, "has no metrics.json yet"),
        ("metrics.json", "{}", "not an evaluation of this version"),
        ("metrics.json", "{", "not valid JSON"),
        ("answers.parquet", None, "is missing: evaluate"),
        ("trials.parquet", "x", "cannot be read"),
    ],
)
def test_what_is_no_finished_run_is_refused(
    drawn_run: Callable[..., Path], name: str, content: str | None, message: str
) -> None:
    run = drawn_run("broken", 3, SMALL)
    (run / name).unlink()
    if content is not None:
        (run / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_results(RunFolder(run))
