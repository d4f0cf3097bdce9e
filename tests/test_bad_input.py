"""Users' mistakes: each ends in one line that names it, and in exit code 2."""

from __future__ import annotations

import errno
import io
import os
import resource
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

import sign_ensemble
from sign_ensemble import evaluate, train, tune
from sign_ensemble.core.atomic_files import atomic_write
from sign_ensemble.core.console import exit_with

SOURCE = Path(sign_ensemble.__file__).parents[1]  # the package need not be installed
Main = Callable[[list[str]], None]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, signs_folder: Path) -> Path:
    """Folders and files with something wrong."""
    place = tmp_path_factory.mktemp("bad")
    files: dict[str, bytes] = {
        "file": b"text",
        "no-signer.csv": b"path,label\nada/bar/0.png,bar\n",
        "no-path.csv": b"path,label,signer\n,bar,ada\n",
        "binary.csv": b'\xff\xfe\x00path,label\n\x00\n"',
        "no.parquet": b"text",
        "typo.yaml": b"data:\n  rot: photos\n",
        "type.yaml": b"search:\n  trials: many\n",
        "syntax.yaml": b"data: [1\n x: 2",
        "list.yaml": b"- data\n",
        "binary.yaml": b"\xff\x00\x80",
    }
    for name, content in files.items():
        (place / name).write_bytes(content)
    (place / "empty").mkdir()
    shutil.copytree(signs_folder / "ada", place / "one" / "ada")
    shutil.copytree(signs_folder / "ada", place / "flat")
    return place


def complaint(main: Main, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a command ends with; Ray need not run for it."""
    with pytest.raises(SystemExit) as ended:
        exit_with(lambda: main(arguments))
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert err.rstrip("\n").isprintable()
    assert "Traceback" not in err
    return err


HALF_CLOSED = """
import atexit
from sign_ensemble.core.console import exit_with

def work():
    atexit.register(lambda: [][0])
    raise {fault}

exit_with(work)
"""


@pytest.mark.parametrize(("fault", "code"), [("KeyboardInterrupt", 130), ("SystemExit(3)", 3)])
def test_what_an_interrupt_left_half_done_prints_nothing(fault: str, code: int) -> None:
    """As TensorBoard's writer, interrupted while it closes, which closes again at exit."""
    command = [sys.executable, "-c", HALF_CLOSED.format(fault=fault)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=SOURCE)
    assert ran.returncode == code
    if fault == "KeyboardInterrupt":
        assert ran.stderr == "interrupted: finished work is kept; the same command continues\n"
    else:
        assert "IndexError" in ran.stderr


def test_an_interrupt_hidden_by_a_failing_clean_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Optuna cannot release a lock twice."""
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)  # to have it back

    def work() -> None:
        try:
            raise KeyboardInterrupt
        finally:
            Path("/no/such/lock").unlink()

    with pytest.raises(SystemExit) as ended:
        exit_with(work)
    assert ended.value.code == 130
    assert capsys.readouterr().err.startswith("interrupted: ")


# What is given ({signs} and {place} are folders), and what the line must name.
REFUSED: dict[str, tuple[list[str], list[str]]] = {
    "root missing": (["--data.root={place}/no"], ["data.root is {place}/no", "no such folder"]),
    "root not set": ([], ["data.root is not set"]),
    "root is a file": (["--data.root={place}/file"], ["data.root is {place}/file", "is a file"]),
    "root empty": (["--data.root={place}/empty"], ["data.root is {place}/empty", "no image"]),
    "pattern matches nothing": (
        ["--data.root={signs}", "--data.pattern=(?P<signer>x)(?P<label>y)"],
        ["data.pattern", "(?P<signer>x)(?P<label>y)", "ada/bar/0.png"],
    ),
    "pattern no regular expression": (
        ["--data.root={signs}", "--data.pattern=(?P<label>["],
        ["data.pattern is (?P<label>[", "position 10"],
    ),
    "pattern without label": (
        ["--data.root={signs}", "--data.pattern=(?P<signer>.*)"],
        ["data.pattern is (?P<signer>.*)", "(?P<label>...)"],
    ),
    "set without signers": (
        ["--data.root={place}/flat", "--data.preset=label"],
        ["(?P<signer>...)", "--data.signers none"],
    ),
    "one signer": (["--data.root={place}/one"], ["one signer only (ada)"]),
    "test signer unknown": (
        ["--data.root={signs}", "--data.test_signers=[zoe]"],
        ["data.test_signers names zoe", "ada, ben, cleo, dan"],
    ),
    "test signers are all but one": (
        ["--data.root={signs}", "--data.test_signers=[ada, ben, cleo]"],
        ["data.test_signers", "training signer(s) (dan)"],
    ),
    "test signers without signers": (
        ["--data.root={place}/flat", "--data.preset=label", "--data.signers=none",
         "--data.test_signers=[ada]"],
        ["data.test_signers is ada", "data.signers none"],
    ),
    "near label unknown": (
        ["--data.root={signs}", "--data.near_labels=[q]"],
        ["data.near_labels names q", "bar, cross, disc, triangle, wave"],
    ),
    "label learned and near": (
        ["--data.root={signs}", "--data.labels=[bar, disc]", "--data.near_labels=[bar]"],
        ["data.labels", "data.near_labels", "bar"],
    ),
    "far label unknown": (
        ["--data.root={signs}", "--data.far_labels=[q]"],
        ["data.far_labels names q", "bar, cross, disc, triangle, wave"],
    ),
    "label near and far": (
        ["--data.root={signs}", "--data.near_labels=[bar]", "--data.far_labels=[bar, wave]"],
        ["data.near_labels and data.far_labels both name bar"],
    ),
    "far name taken by a far label": (
        ["--data.root={signs}", "--data.far_labels=[wave]", "--evaluate.far", "wave={signs}"],
        ["evaluate.far", "wave is taken"],
    ),
    "table without signer": (
        ["--data.table={place}/no-signer.csv"],
        ["data.table is {place}/no-signer.csv", "lacks the column signer"],
    ),
    "table without a path": (["--data.table={place}/no-path.csv"], ["no-path.csv", "row 1"]),
    "table missing": (["--data.table={place}/no.csv"], ["{place}/no.csv", "cannot be read"]),
    "table binary": (["--data.table={place}/binary.csv"], ["{place}/binary.csv"]),
    "table no parquet": (["--data.table={place}/no.parquet"], ["{place}/no.parquet"]),
    "table of another kind": (["--data.table={place}/file"], ["{place}/file", ".csv or .parquet"]),
    "setting unknown": (["--data.rot=x"], ["--data.rot=x"]),
    "setting of an earlier version": (["--rejection.keep=0.9"], ["--rejection.keep=0.9"]),
    "setting unknown in YAML": (["--config={place}/typo.yaml"], ["{place}/typo.yaml", "'rot'"]),
    "type wrong": (["--search.trials=many"], ["search.trials", "many", "int"]),
    "type wrong in YAML": (
        ["--config={place}/type.yaml"],
        ["{place}/type.yaml", "search.trials", "many"],
    ),
    "YAML with an error": (["--config={place}/syntax.yaml"], ["{place}/syntax.yaml", "line 2"]),
    "YAML of a list": (["--config={place}/list.yaml"], ["{place}/list.yaml"]),
    "YAML binary": (["--config={place}/binary.yaml"], ["{place}/binary.yaml"]),
    "YAML missing": (["--config={place}/no.yaml"], ["config", "{place}/no.yaml"]),
    "choice unknown": (["--data.preset=other"], ["data.preset", "other", "signer-label"]),
    "stage unknown": (["--until=lunch"], ["--until", "lunch", "search"]),
    "name is a list": (["--data.test_signers=[[a]]"], ["data.test_signers", "['a'] is not a name"]),
    "more members than trials": (
        ["--search.trials=2", "--ensemble.size=3"],
        ["ensemble.size is 3", "search.trials, which is 2"],
    ),
    "coverage out of range": (["--rejection.target_coverage=1.5"],
        ["rejection.target_coverage is 1.5", "above 0 and below 1"],
   ),
    "no error allowed": (
        ["--rejection.max_error=0"], ["rejection.max_error is 0.0", "above 0 and below 1, or null"]
    ),
    "everything out-of-distribution": (
        ["--rejection.ood_prior=1"], ["rejection.ood_prior is 1.0", "0 or more and below 1"]
    ),
    "coverage not a number": (
        ["--rejection.target_coverage=.nan"], ["rejection.target_coverage is nan"]
    ),
    "range from high to low": (
        ["--search.dropout=[0.8, 0.2]"], ["search.dropout is (0.8, 0.2)", "from low to high"]
    ),
    "range with logarithm of zero": (
        ["--search.learning_rate=[0, 0.1]"],
        ["search.learning_rate is (0.0, 0.1)", "each above 0"],
    ),
    "range beyond all": (
        ["--search.dropout=[0.2, 1.5]"],
        ["search.dropout is (0.2, 1.5)", "each 0 or more and below 1"],
    ),
    "choices empty": (["--search.h1=[]"], ["search.h1 is ()", "one or more numbers, each 1 or"]),
    "seed negative": (["--search.seed=-1"], ["search.seed is -1", "0 or more"]),
    "a time that is no number": (
        ["--search.time_budget=soon"],
        ["search.time_budget", "type float or null", "soon"],
    ),
    "end-to-end trials without fine-tuning": (
        ["--search.trial=end-to-end", "--finetune.layers=none"],
        ["finetune.layers is none", "search.trial is end-to-end"],
    ),
    "too few hand-count images": (
        ["--rejection.hand_count_images=3"],
        ["rejection.hand_count_images is 3", "10 or more, or 0"],
    ),
    "weights missing": (
        ["--data.root={signs}", "--data.weights={place}/no"],
        ["data.weights is {place}/no"],
    ),
    "weights of something else": (
        ["--data.root={signs}", "--data.weights={place}/file"],
        ["data.weights is {place}/file", "AlexNet"],
    ),
    "run folder below a file": (
        ["--data.root={signs}", "--run.root={place}/file/runs"],
        ["{place}/file/runs", "cannot be written"],
    ),
    "run root is a file": (
        ["--data.root={signs}", "--run.root={place}/file"],
        ["{place}/file", "cannot be written"],
    ),
    "far folder without images": (
        ["--data.root={signs}", "--evaluate.far", "stairs={place}/empty"],
        ["evaluate.far stairs", "{place}/empty", "no image"],
    ),
    "far folder missing": (
        ["--data.root={signs}", "--evaluate.far", "stairs={place}/no"],
        ["evaluate.far stairs", "{place}/no"],
    ),
    "far set without a name": (["--evaluate.far", "{signs}"], ["evaluate.far", "{signs}"]),
    "far name taken by a built-in set": (
        ["--data.root={signs}", "--evaluate.far", "noise={signs}"],
        ["evaluate.far", "noise is taken"],
    ),
    "far name taken twice": (
        ["--data.root={signs}", "--evaluate.far", "a={signs}", "--evaluate.near", "a={signs}"],
        ["evaluate.near and evaluate.far", "a is taken"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_any_work(
    case: str,
    place: Path,
    signs_folder: Path,
    tmp_path: Path,
    ray_two_cpus: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, named = REFUSED[case]
    words = {"place": str(place), "signs": str(signs_folder)}

    def filled(text: str) -> str:
        for name, value in words.items():
            text = text.replace("{" + name + "}", value)
        return text

    given = [f"--run.root={tmp_path / 'runs'}", "--run.name=one", "--wandb.mode=disabled"]
    err = complaint(tune.main, given + [filled(text) for text in arguments], capsys)
    for text in named:
        assert filled(text) in err
    run = tmp_path / "runs" / "one"
    assert not run.exists(), "it would refuse the mended command"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("--search.cpus_per_trial=64", "search.cpus_per_trial is 64: the cluster has 2 CPUs"),
        ("--scale.workers=64", "scale.workers is 64: the cluster has 2 CPUs, these need 64"),
        ("--scale.gpus_per_worker=1", "the cluster has 0 GPUs; 0 trains on CPUs"),
    ],
)
def test_more_than_the_cluster_has(
    setting: str,
    message: str,
    signs_folder: Path,
    tmp_path: Path,
    ray_two_cpus: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [f"--data.root={signs_folder}", f"--run.root={tmp_path}", "--wandb.mode=disabled"]
    given.append("--finetune.layers=all")  # only fine-tuning has workers
    assert message in complaint(tune.main, [*given, setting], capsys)
    assert not list(tmp_path.iterdir())


SMALL = [
    "--data.near_labels=[wave]", "--data.test_signers=[dan]", "--data.augmentations=0",
    "--data.size=96", "--data.crop=none", "--member.widths=[16, 8]", "--member.epochs=1",
    "--rejection.reference_images=100", "--evaluate.images=10", "--evaluate.bootstrap=10",
    "--finetune.layers=none", "--wandb.mode=disabled",
]  # fmt: skip


def png_bomb(side: int) -> bytes:
    """A PNG of side × side pixels, all black, of few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(3 * side + 1)) for _ in range(200)) + packer.flush()
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def images(signs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The signs, among them files that cannot be used; ben lacks a label."""
    root = tmp_path_factory.mktemp("images") / "signs"
    shutil.copytree(signs_folder, root)
    shutil.rmtree(root / "ben" / "disc")
    Image.open(root / "ada/bar/0.png").save(root / "ada/bar/cut.jpg")
    content = (root / "ada/bar/cut.jpg").read_bytes()
    (root / "ada/bar/cut.jpg").write_bytes(content[: len(content) // 2])
    (root / "ada/bar/empty.png").write_bytes(b"")
    (root / "ada/bar/bomb.png").write_bytes(png_bomb(30_000))
    (root / "ada/bar/text.png").write_text("no image")
    shutil.copy(root / "cleo/bar/0.png", root / "cleo/disc/same.png")
    Image.new("RGB", (8, 200), "white").save(root / "cleo/bar/thin.png")
    (root / "ada/bar/notes.txt").write_text("kept by somebody")
    return root


@pytest.fixture(scope="module")
def finished(
    images: Path,
    tmp_path_factory: pytest.TempPathFactory,
    ray_two_cpus: None,
) -> Path:
    """A run of one member from those images; out.txt next to it has what was printed."""
    folder = tmp_path_factory.mktemp("finished")
    with (folder / "out.txt").open("w") as out, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        train.main([f"--data.root={images}", f"--run.root={folder}", "--run.name=run", *SMALL])
        evaluate.main([f"--run={folder / 'run'}", "--evaluate.images=10",
                       "--evaluate.bootstrap=10", "--wandb.mode=disabled"])  # fmt: skip
    return folder / "run"


SET_ASIDE = {
    "ada/bar/cut.jpg": "cannot be decoded",
    "ada/bar/empty.png": "0 bytes",
    "ada/bar/bomb.png": "more than 64000000 pixels",
    "ada/bar/text.png": "not an image",
    "cleo/bar/0.png": "same image as cleo/disc/same.png",
    "cleo/disc/same.png": "same image as cleo/bar/0.png",
    "cleo/bar/thin.png": "shorter side is below 16 pixels",
}


@pytest.mark.parametrize("path", SET_ASIDE)
def test_unusable_file_is_set_aside_and_listed(path: str, finished: Path) -> None:
    rows = {row["path"]: row for row in pq.read_table(finished / "manifest.parquet").to_pylist()}
    printed = (finished.parent / "out.txt").read_text()
    assert rows[path]["split"] == "set-aside"
    assert SET_ASIDE[path] in rows[path]["reason"]
    assert f"set aside: {path}: {rows[path]['reason']}\n" in printed


def test_what_is_left_out_is_printed_and_reported(finished: Path, images: Path) -> None:
    line = f"1 left out, no picture: {images}/ada/bar/notes.txt"
    assert f"{line}\n" in (finished.parent / "out.txt").read_text()
    assert line in (finished / "metrics.json").read_text()


def test_a_label_that_a_signer_lacks_is_printed(finished: Path) -> None:
    printed = (finished.parent / "out.txt").read_text()
    assert "signer ben has no image of: disc\n" in printed
    assert "signer ben has no image of: disc" in (finished / "metrics.json").read_text()


def test_bomb_takes_no_memory(tmp_path: Path) -> None:
    """Decoded it would be 2.7 GB; reading the manifest stays below a tenth of that."""
    for signer in "abc":
        for label in "xy":
            folder = tmp_path / signer / label
            folder.mkdir(parents=True)
            noise = Image.effect_noise((32, 32), 50 + ord(signer) + ord(label))
            noise.save(folder / "0.png")
            (folder / "bomb.png").write_bytes(png_bomb(30_000))
    code = (
        "import sys, resource\n"
        "from sign_ensemble.core.config import DataConfig\n"
        "from sign_ensemble.data import manifest\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "listed = manifest.build(DataConfig(root=sys.argv[1]))\n"
        "after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(listed.counts()['set-aside'], after - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
    )  # fmt: skip
    aside, kilobytes = map(int, done.stdout.split())
    assert aside == 6
    assert kilobytes < 270_000


def test_no_trial_can_be_trained(
    finished: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = complaint(
        tune.main,
        [f"--data.root={images}", f"--data.cache={finished.parent / 'features'}", *SMALL,
         f"--run.root={tmp_path}", "--run.name=run", "--member.learning_rate=1e30",
         "--search.trials=1", "--search.max_failures=0", "--ensemble.size=1"],
        capsys,
    )  # fmt: skip
    assert f"{tmp_path / 'run' / 'trials'}: no trial was completed" in err
    assert "training diverged: the loss is nan in epoch 1 with learning_rate 1.0e+30" in err


class ClosedPipe(io.TextIOWrapper):
    """A stdout whose reader has ended."""

    def __init__(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        super().__init__(os.fdopen(writer, "wb"))


@pytest.mark.parametrize(
    ("stdout", "code", "message"),
    [
        (lambda: io.TextIOWrapper(io.BytesIO(), "ascii"), 0, ""),
        (lambda: io.TextIOWrapper(io.BytesIO(), "latin-1"), 0, ""),
        (
            lambda: io.TextIOWrapper(io.FileIO("/dev/full", "w")),
            1,
            "error: stdout: No space left on device; all files",
        ),
        (ClosedPipe, 1, ""),
    ],
    ids=["ascii", "latin-1", "full", "closed"],
)
def test_output_never_decides_whether_a_file_is_written(
    stdout: Callable[[], io.TextIOWrapper],
    code: int,
    message: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = copy_of(finished, tmp_path)
    (run / "report.html").unlink()
    (run / "metrics.json").unlink()
    given = [f"--run={run}", "--evaluate.images=10", "--evaluate.bootstrap=10",
             "--evaluate.condition_images=0", "--wandb.mode=disabled"]  # fmt: skip
    opened = stdout()
    monkeypatch.setattr(sys, "stdout", opened)
    with pytest.raises(SystemExit) if code else nullcontext() as ended:
        exit_with(lambda: evaluate.main(given))
    assert (run / "report.html").exists() and (run / "metrics.json").exists()
    err = capsys.readouterr().err
    assert err.startswith(message) and len(err.splitlines()) == bool(message)
    if ended:
        assert ended.value.code == code
    else:
        opened.flush()
        # its buffer is the BytesIO that it was made of
        printed = opened.buffer.getvalue().decode(opened.encoding)  # type: ignore[attr-defined]
        assert r"confidence \u2265 90 %" in printed and "report: " in printed


@pytest.mark.parametrize("command", [["--help"], ["no-such-file"]])
def test_a_process_with_another_encoding(command: list[str], tmp_path: Path) -> None:
    """Printed with escapes, on stdout as on stderr."""
    name = tmp_path / os.fsdecode(b"[\xe9]\x1b")
    done = subprocess.run(
        [sys.executable, "-m", "sign_ensemble.predict", f"--run={name}", *command],
        capture_output=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONIOENCODING": "ascii"},
    )  # fmt: skip
    assert b"Traceback" not in done.stderr
    if command != ["--help"]:
        assert done.stderr.decode() == (
            rf"error: {tmp_path}/[\xe9]\x1b: not a run folder (it has no config.yaml)" + "\n"
        )


def test_a_member_that_cannot_be_written_is_named(
    finished: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a full disk: the fault is that of a worker, which has a traceback."""
    run = copy_of(finished, tmp_path)
    shutil.rmtree(run / "members")
    (run / "members").write_text("in the way")
    (run / "rule.json").unlink()
    given = [f"--data.root={images}", f"--run.root={tmp_path}", "--run.name=copy", *SMALL]
    err = complaint(train.main, given, capsys)
    assert err.startswith(f"error: {run}/members/member-00.safetensors: cannot be written (")
    assert (run / "trials/0000/trial.json").exists()


def test_a_full_disk_names_the_file_and_the_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(arguments: list[str]) -> None:
        with atomic_write(tmp_path / "rule.json"), open("/dev/full", "w") as full:
            full.write("x")

    assert complaint(write, [], capsys) == (
        f"error: {tmp_path}/rule.json: cannot be written (No space left on device; free some "
        "space, then the same command continues)\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_fault_of_no_file_names_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(arguments: list[str]) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert complaint(fail, [], capsys) == f"error: in {__file__}: No space left on device\n"


def copy_of(run: Path, folder: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(run, folder / "copy", ignore=shutil.ignore_patterns("ray")))


CUT = object()
DAMAGED: dict[str, tuple[str, bytes | object | None, str]] = {
    "member cut": ("members/member-00.safetensors", CUT, "sha256"),
    "member missing": ("members/member-00.safetensors", None, "not there"),
    "index empty": ("members/index.json", b"", "not valid JSON"),
    "index of something else": ("members/index.json", b"{}", "not an index of members"),
    "index missing": ("members/index.json", None, "not there"),
    "rule binary": ("rule.json", b"\xff\xfe{]", "not valid JSON"),
    "rule of something else": ("rule.json", b"[]", "not a rule"),
    "rule's numbers cut": ("rule.safetensors", CUT, "damaged"),
    "rule's numbers missing": ("rule.safetensors", None, "not there"),
    "manifest cut": ("manifest.parquet", CUT, "cannot be read"),
    "manifest missing": ("manifest.parquet", None, "cannot be read"),
    "config binary": ("config.yaml", b"\xff\xfe", "not a config"),
    "config empty": ("config.yaml", b"", "not a config"),
    "config cut": ("config.yaml", b"data: {size: [", "not a config"),
    "config of an earlier version": (
        "config.yaml",
        b"data: {views: 4}\nrejection: {keep: 0.9}",
        "data.views, rejection.keep, which this version does not know",
    ),
    "config of other images": ("config.yaml", b"data: {size: 128, crop: none}", "data.size 96"),
    "metrics cut": ("metrics.json", CUT, "not valid JSON"),
    "metrics of something else": ("metrics.json", b"{}", "not an evaluation"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_run_is_not_evaluated(
    case: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content, reason = DAMAGED[case]
    run = copy_of(finished, tmp_path)
    damaged = run / name
    if content is None:
        damaged.unlink()
    else:
        cut = damaged.read_bytes()[:-7]
        damaged.write_bytes(content if isinstance(content, bytes) else cut)
    again = ["--evaluate.again=true", "--wandb.mode=disabled"]
    err = complaint(evaluate.main, [f"--run={run}", *again], capsys)
    assert reason in err
    assert str(damaged if reason != "data.size 96" else run) in err


@pytest.mark.parametrize("name", ["empty", "file", "no"])
def test_evaluate_refuses_what_is_no_run(
    name: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    err = complaint(evaluate.main, [f"--run={place / name}", "--wandb.mode=disabled"], capsys)
    assert f"{place / name}: not a run folder" in err
    assert not (place / "no").exists()


@pytest.mark.parametrize("content", [b"", b"[]", b'{"number": 0}', b"\xff"])
def test_damaged_record_stops_the_search(
    content: bytes,
    finished: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = copy_of(finished, tmp_path)
    shutil.rmtree(run / "members")
    (run / "trials/0000/trial.json").write_bytes(content)
    given = [f"--data.root={images}", f"--run.root={tmp_path}", "--run.name=copy", *SMALL]
    err = complaint(train.main, given, capsys)
    assert f"{run}/trials/0000/trial.json" in err


def test_run_folder_of_other_settings(
    finished: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [f"--data.root={images}", f"--run.root={finished.parent}", "--run.name=run", *SMALL]
    err = complaint(train.main, [*given, "--member.dropout=0.25"], capsys)
    assert f"{finished} was made with member.dropout 0.5, now it is 0.25" in err


@pytest.mark.parametrize("path", ["ada/bar/1.png", "dan/bar/1.png"])
@pytest.mark.parametrize("change", ["other", "gone"])
def test_images_that_changed_since_the_run_began(
    path: str,
    change: str,
    finished: Path,
    images: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Neither trained on nor tested on: dan is a test signer, ada is not."""
    run = copy_of(finished, tmp_path)
    image, kept = images / path, tmp_path / "kept.png"
    shutil.copy2(image, kept)
    try:
        if change == "gone":
            image.unlink()
        else:
            Image.new("RGB", (96, 96), "red").save(image)
        given = [f"--data.root={images}", f"--run.root={tmp_path}", "--run.name=copy", *SMALL]
        for name in ("members/index.json", "rule.json"):
            (run / name).rename(tmp_path / Path(name).name)
        err = complaint(train.main, given, capsys)
        assert f"1 images have changed since {run} began, first {path}" in err
        for name in ("members/index.json", "rule.json"):
            (tmp_path / Path(name).name).rename(run / name)
        again = [f"--run={run}", "--evaluate.again=true", "--evaluate.images=10",
                 "--evaluate.bootstrap=10", "--wandb.mode=disabled"]  # fmt: skip
        if path.startswith("dan"):
            assert path in complaint(evaluate.main, again, capsys)
        else:
            evaluate.main(again)
    finally:
        shutil.copy2(kept, image)


PROCESSES = {
    "tune": (["--data.root={place}/no"], "data.root is {place}/no"),
    "train": (["--search.trials=many"], "search.trials"),
    "evaluate": (["--run={place}/empty"], "{place}/empty: not a run folder"),
    "predict": (["--run={place}/empty", "{place}/one"], "{place}/empty"),
}


@pytest.mark.parametrize("command", PROCESSES)
def test_a_process_ends_with_code_2(command: str, place: Path, tmp_path: Path) -> None:
    arguments, named = PROCESSES[command]
    done = subprocess.run(
        [sys.executable, "-m", f"sign_ensemble.{command}"]
        + [text.replace("{place}", str(place)) for text in arguments],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE), "WANDB_MODE": "disabled"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert named.replace("{place}", str(place)) in done.stderr
