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
    EvaluateConfig,
    MemberConfig,
    Name,
    RunConfig,
    SearchConfig,
    WandbConfig,
)
from sign_ensemble.core.errors import UserError
from sign_ensemble.core.run_folder import (
    RunFolder,
    default_name,
    load_config,
    open_run,
    settings_of,
)
from sign_ensemble.core.storage import StorageError


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
