"""The run folder: atomic files, and one set of settings per folder."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from sign_ensemble.core import run_folder
from sign_ensemble.core.atomic_files import (
    atomic_write,
    file_sha256,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)
from sign_ensemble.core.config import (
    Config,
    DataConfig,
    EnsembleConfig,
    EvaluateConfig,
    MemberConfig,
    RunConfig,
    SearchConfig,
    WandbConfig,
)
from sign_ensemble.core.config_checks import with_absolute_paths
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.names import Name
from sign_ensemble.core.run_folder import (
    RunFolder,
    default_name,
    load_config,
    open_run,
    settings_of,
)
from sign_ensemble.core.storage import StorageError, storage_path


def config(root: Path, **groups: Any) -> Config:
    return Config(**{"run": RunConfig(str(root), "one"), **groups})


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- atomic files ---------------------------------------------------------------------------------


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # else the rename might cross file systems
    assert path.read_text() == "new"
    assert files(path.parent) == ["a.txt"]


@pytest.mark.parametrize("before", [None, "old"])
def test_a_failed_write_leaves_what_was(before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    if before:
        path.write_text(before)

    def write_half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("ha")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert files(tmp_path) == (["a.txt"] if before else [])
    if before:
        assert path.read_text() == before


def test_a_block_that_writes_nothing_fails(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match=r"/a\.txt: .*No such file"),
        atomic_write(tmp_path / "a.txt"),
    ):
        pass
    assert files(tmp_path) == []


# --- JSON -----------------------------------------------------------------------------------------


def test_json_comes_back_to_the_bit(tmp_path: Path) -> None:
    value = {"a": [0.1 + 0.2, 1e-320, -0.0, 2**60, None, True], "ß": {"b": ""}}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json") == value
    assert str(read_json(tmp_path / "a.json")["a"][2]) == "-0.0"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), {1, 2}])
def test_what_json_cannot_hold_leaves_the_old_file(bad: Any, tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"a": bad})
    assert read_json(tmp_path / "a.json") == 1
    assert files(tmp_path) == ["a.json"]


def test_missing_and_damaged_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.json: not there"):
        read_json(tmp_path / "a.json")
    for content in (b'{"a": 1', b"", b"\xff\xfe"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(UserError, match=r"a\.json: not valid JSON"):
            read_json(tmp_path / "a.json")


# --- arrays ---------------------------------------------------------------------------------------


def test_arrays_come_back_to_the_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {
        "half": rng.normal(size=(3, 4)).astype(np.float16),
        "turned": rng.normal(size=(3, 4)).T,
        "thinned": np.arange(10)[::3],
        "none": np.zeros((0, 5), np.float32),
        "single": np.array(7.5),
        "odd": np.array([np.nan, -0.0, np.inf, 5e-324]),
    }
    metadata = {"kinds": ["a", "b"], "figures": {"nll": 0.1 + 0.2, "n": None}}
    sha256 = write_arrays(tmp_path / "a.safetensors", arrays, metadata)
    found, header = read_arrays(tmp_path / "a.safetensors")
    assert header == metadata
    assert found.keys() == arrays.keys()
    for name, values in arrays.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape), name
        assert found[name].tobytes() == values.tobytes(), name
    content = (tmp_path / "a.safetensors").read_bytes()
    assert sha256 == hashlib.sha256(content).hexdigest() == file_sha256(tmp_path / "a.safetensors")
    assert files(tmp_path) == ["a.safetensors"]


def test_missing_and_damaged_arrays_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with pytest.raises(UserError, match=r"a\.safetensors: not there"):
        read_arrays(path)
    write_arrays(path, {"a": np.zeros(5)})
    content = path.read_bytes()
    for broken in (content[:-1], content[:4], b"", b"\xff" * len(content)):
        path.write_bytes(broken)
        with pytest.raises(UserError, match=r"a\.safetensors: damaged"):
            read_arrays(path)


def test_another_programs_header_is_no_crash(tmp_path: Path) -> None:
    save_file({"a": np.zeros(2)}, tmp_path / "a.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"a\.safetensors: damaged"):
        read_arrays(tmp_path / "a.safetensors")


# --- names and settings ---------------------------------------------------------------------------


def test_the_paths_in_a_run_folder() -> None:
    folder = RunFolder(Path("runs/x"))
    assert folder.trial(7) == Path("runs/x/trials/0007")
    assert folder.trial(12345) == Path("runs/x/trials/12345")
    assert folder.rule == Path("runs/x/rule.json")


def test_a_name_is_the_datas_and_the_settings() -> None:
    here = Config(data=DataConfig(root="/data/massey"))
    settings = json.dumps(settings_of(here), sort_keys=True)
    digest = hashlib.sha256(settings.encode()).hexdigest()[:8]
    assert default_name(here) == f"massey-{digest}"
    assert default_name(Config(data=DataConfig(table="/x/signs.csv"))).startswith("signs-")


def test_a_name_changes_with_what_changes_the_result_and_with_nothing_else() -> None:
    here = Config(data=DataConfig(root="/data/massey"))
    same = replace(
        here,
        data=replace(here.data, cache="/elsewhere", engine="ray"),
        search=replace(here.search, concurrent=1, time_budget=5.0, max_failures=9),
        evaluate=EvaluateConfig(images=20),
        wandb=WandbConfig(mode="disabled"),
        run=RunConfig("/other", "name"),
    )
    assert default_name(same) == default_name(here)
    others = [
        replace(here, data=replace(here.data, augmentations=5)),
        replace(here, member=MemberConfig(epochs=11)),
        replace(here, search=SearchConfig(seed=1)),
        replace(here, search=SearchConfig(h1=(256, 512))),
    ]
    assert len({default_name(each) for each in [here, *others]}) == 5


def test_free_settings_exist() -> None:
    groups = {field.name: getattr(Config(), field.name) for field in fields(Config)}
    known = {f"{name}.{key.name}" for name, group in groups.items() for key in fields(group)}
    assert run_folder.FREE - known == set()
    assert run_folder.FREE_GROUPS - set(groups) == set()


# --- opening --------------------------------------------------------------------------------------


def test_a_new_run_holds_its_config_and_nothing_else(tmp_path: Path) -> None:
    before = config(
        tmp_path,
        data=DataConfig(root="/data", near_labels=[Name("5"), Name("no")], test_share=0.1 + 0.2),
        member=MemberConfig(learning_rate=1e-5, widths=(3, 2)),
        evaluate=EvaluateConfig(far={"photos": "/p/*.jpg"}),
    )
    folder = open_run(before)
    assert folder.path == (tmp_path / "one").resolve()
    assert files(folder.path) == ["config.yaml"]
    assert load_config(folder) == before
    assert isinstance(load_config(folder).member.widths, tuple)


def test_the_same_settings_open_the_run_again(tmp_path: Path) -> None:
    first = open_run(config(tmp_path, data=DataConfig(root="/data", near_labels=[Name("5")])))
    content = first.config.read_bytes()
    free = DataConfig(root="/data", near_labels=[Name("5")], cache="/elsewhere", engine="local")
    again = open_run(config(tmp_path, data=free, search=SearchConfig(concurrent=1)))
    assert again == first
    assert first.config.read_bytes() == content  # what made the run stays


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"data": DataConfig(augmentations=5)}, r"data\.augmentations 4, now it is 5"),
        ({"member": MemberConfig(dropout=0.25)}, r"member\.dropout 0\.5, now it is 0\.25"),
        ({"search": SearchConfig(h1=(8,))}, r"search\.h1 \[256, 512, 1024\], now it is \[8\]"),
        ({"data": DataConfig(test_signers=[Name("eve")])}, r"test_signers \[\], now it is \['eve'"),
    ],
)
def test_other_settings_are_refused_with_both_values(
    groups: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = open_run(config(tmp_path))
    content = folder.config.read_bytes()
    with pytest.raises(UserError, match=f"was made with .*{message}.*another run.name"):
        open_run(config(tmp_path, **groups))
    assert folder.config.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")  # this is refused to root too; a read-only folder is not
    with pytest.raises(UserError, match=r"file/one: the run folder cannot be written"):
        open_run(config(tmp_path / "file"))


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder whose folder "one" cannot be written; root, whom nothing refuses, is nobody then."""
    place, root = Path(tempfile.mkdtemp()), os.geteuid() == 0
    place.chmod(0o755)
    (place / "one").mkdir(mode=0o555)
    if root:
        os.seteuid(65534)
    yield place
    if root:
        os.seteuid(0)
    (place / "one").chmod(0o700)
    shutil.rmtree(place)


def test_a_read_only_folder_is_named(read_only: Path) -> None:
    assert list((read_only / "one").iterdir()) == []  # it can be looked into
    with pytest.raises(UserError, match=r"one: the run folder cannot be written"):
        open_run(config(read_only))


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not a run folder \(it has no config\.yaml\)"):
        load_config(RunFolder(tmp_path))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "- 1",
        "data: 3",
        "data: {root: [",
    ],
)
def test_a_config_that_cannot_be_read_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UserError, match=r"config\.yaml: not a config of this version"):
        load_config(RunFolder(tmp_path))


def test_a_run_of_an_earlier_version_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: {views: 4}\nrejection: {keep: 0.9}\nold: {a: 1}")
    with pytest.raises(UserError) as refused:
        load_config(RunFolder(tmp_path))
    assert str(refused.value) == (
        f"{tmp_path}/config.yaml has data.views, rejection.keep, old.a, which this version does "
        "not know: the run was made by another version, so tune again with another run.name"
    )


def test_a_config_may_lack_what_has_a_default(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"data": {"root": "/data"}}))
    assert load_config(RunFolder(tmp_path)) == Config(data=DataConfig(root="/data"))


# --- one folder has one path ----------------------------------------------------------------------


@pytest.fixture
def signs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``signs`` in the working folder, which is also the home folder."""
    home = tmp_path.resolve() / "home"
    (home / "signs").mkdir(parents=True)
    (home / "signs.csv").touch()
    (tmp_path / "link").symlink_to(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    return home / "signs"


WAYS = (
    "signs", "signs/", "./signs", "../home/signs", "~/signs", "{home}//signs/", "../link/signs",
    "file://{home}/signs",
)  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("setting", ["root", "extra_signers", "weights", "table"])
def test_one_folder_has_one_name(setting: str, way: str, signs: Path) -> None:
    given = way.format(home=signs.parent)
    if setting in ("weights", "table"):  # files
        given, signs = f"{given.rstrip('/')}.csv", signs.with_suffix(".csv")
    plain, typed, other = (
        # the settings named are all text, which the type of ** cannot say
        Config(data=replace(DataConfig(root="/x"), **{setting: path}))  # type: ignore[arg-type]
        for path in (str(signs), given, f"{signs}-other")
    )
    assert default_name(typed) == default_name(plain)
    assert open_run(replace(typed, run=RunConfig("runs"))) == open_run(
        replace(plain, run=RunConfig("~/runs/"))
    )
    assert default_name(other) != default_name(plain)


def test_every_path_becomes_absolute(signs: Path) -> None:
    home = signs.parent
    given = Config(
        data=DataConfig(root="signs", table="../link/signs.csv", cache="~/cache/"),
        evaluate=EvaluateConfig(near={"a": "signs/"}, far={"b": "~/far/*.jpg"}),
        run=RunConfig("./runs", storage="s3://bucket/runs/"),
    )
    found = with_absolute_paths(given)
    assert (found.data.root, found.data.table) == (str(signs), f"{home}/signs.csv")
    assert found.data.cache == f"{home}/cache" == str(run_folder.cache_of(given))
    assert found.evaluate.near == {"a": str(signs)}
    assert found.evaluate.far == {"b": f"{home}/far/*.jpg"}
    assert (found.run.root, found.run.storage) == (f"{home}/runs", "s3://bucket/runs")
    assert with_absolute_paths(found) == found
    assert found.data.weights == "shipped" and found.data.extra_signers is None


def test_a_linked_table_keeps_the_folder_that_its_paths_start_from(signs: Path) -> None:
    (signs / "table.csv").symlink_to(signs.parent / "signs.csv")
    given = Config(data=DataConfig(table="signs/table.csv"))
    assert with_absolute_paths(given).data.table == f"{signs}/table.csv"


def test_what_is_no_path_is_named() -> None:
    with pytest.raises(UserError, match=r"data\.root is ~nobody-at-all/x: it is not a path"):
        with_absolute_paths(Config(data=DataConfig(root="~nobody-at-all/x")))


def test_a_name_on_an_object_store_has_one_path() -> None:
    for name in ("one", "one/", "./one"):
        assert str(storage_path("s3://bucket/runs") / name) == "s3://bucket/runs/one"


# --- more trials ----------------------------------------------------------------------------------


@pytest.fixture
def evaluated(tmp_path: Path) -> RunFolder:
    """A run of 16 trials that was evaluated."""
    folder = open_run(config(tmp_path, evaluate=EvaluateConfig(images=20)))
    for file in (folder.metrics, folder.report, folder.rule, folder.index, folder.trials_table):
        with atomic_write(file) as written:
            written.write_text(f'"{file.name}"')
    return folder


def test_more_trials_forget_the_ensemble_and_count_the_evaluation(
    evaluated: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert open_run(config(tmp_path, search=SearchConfig(trials=40))) == evaluated
    assert files(Path(str(evaluated.path))) == [
        "config.yaml", "earlier_metrics.json", "members", "trials.parquet",
    ]  # fmt: skip
    assert files(Path(str(evaluated.members))) == []
    assert read_json(evaluated.earlier_metrics) == "metrics.json"
    stored = load_config(evaluated)
    assert (stored.search.trials, stored.evaluate.images) == (40, 20)  # no other setting changes
    assert capsys.readouterr().out.startswith("search.trials was 16 and is 40: ")
    before = evaluated.config.read_bytes()
    open_run(config(tmp_path, search=SearchConfig(trials=40)))
    assert evaluated.config.read_bytes() == before and capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"search": SearchConfig(trials=8)}, r"search\.trials 16, now it is 8, and may only grow"),
        ({"search": SearchConfig(trials=40, seed=1)}, r"search\.seed 0, now it is 1"),
        ({"search": SearchConfig(trials=40, folds=3)}, r"search\.folds 6, now it is 3"),
        (
            {"search": SearchConfig(trials=40), "ensemble": EnsembleConfig(size=4)},
            r"ensemble\.size 3, now it is 4",
        ),
    ],
)
def test_what_would_change_ended_trials_is_refused(
    groups: dict[str, Any], message: str, evaluated: RunFolder, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in evaluated.path.glob("*.*")}
    with pytest.raises(UserError, match=f"was made with {message}: give .* another run.name"):
        open_run(config(tmp_path, **groups))
    assert {path: path.read_bytes() for path in evaluated.path.glob("*.*")} == before
    assert evaluated.index.exists()


def test_the_number_of_trials_does_not_change_the_name() -> None:
    here = Config(data=DataConfig(root="/data/massey"))
    assert default_name(replace(here, search=SearchConfig(trials=40))) == default_name(here)
