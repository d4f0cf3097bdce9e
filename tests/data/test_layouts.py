"""Folders as people have them: the first command ends in a run, or in the sentence to one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sign_ensemble.core.command_line import config_of, parser_for
from sign_ensemble.core.config import DataConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.data.layouts import no_sign_names, split_names
from sign_ensemble.data.manifest import Manifest, build


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train", "test"], ["test", "train"]),
        (["Train", "Valid", "Test"], ["Test", "Train", "Valid"]),
        (["training_set", "test_set"], ["test_set", "training_set"]),
        (["trainset", "testset"], ["testset", "trainset"]),
        (["asl_alphabet_train", "asl_alphabet_test"], ["asl_alphabet_test", "asl_alphabet_train"]),
        (["dev", "eval"], ["dev", "eval"]),
        (["asl_alphabet_test"], ["asl_alphabet_test"]),
        (["train", "test", "samples"], ["test", "train"]),
        (["anna", "ben", "Val"], []),
        (["test1", "test2", "test3"], []),
        (["train_anna", "train_ben", "test_cleo"], []),
        (["trainer", "Valerie", "Devon"], []),
        ([], []),
    ],
)
def test_splits_of_a_data_set_are_no_people(names: list[str], splits: list[str]) -> None:
    assert split_names(names) == splits


def test_labels_that_usually_name_no_sign() -> None:
    empty = ["nothing", "None", "no_hand", "No-Hand", "background", "other", "Blank", "unknown"]
    assert no_sign_names([*empty, "A", "del", "space", "o", "another", "no"]) == sorted(empty)


def fill(root: Path, *folders: str, files: str = "{n}.png", count: int = 8) -> Path:
    """A distinct image per file, which all are of one size."""
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for n in range(count):
            Image.effect_noise((20, 20), 100).save(root / folder / files.format(n=n))
    return root


def listed(root: Path, **others: Any) -> Manifest:
    return build(DataConfig(root=str(root), **others))


def refusal(root: Path, **others: Any) -> str:
    with pytest.raises(UserError) as caught:
        listed(root, **others)
    return str(caught.value)


def advised(message: str) -> Manifest:
    """What the settings named in a message give."""
    found = re.search(r"(?:is|say) ((?:--data\.\S+ (?:'[^']*'|[^-\s]\S*) ?)+)", message)
    assert found, message
    parser = parser_for("tune", "")
    arguments = re.findall(r"--data\.\S+|'[^']*'|\S+", found[1])
    given = [each.strip("'") for each in arguments]
    return build(config_of(parser, parser.parse_args(given)).data)


LETTERS = "ABC"


def test_kaggles_alphabet_from_any_of_its_folders(tmp_path: Path) -> None:
    """Each folder of letters holds frames; the test folder a file per letter."""
    inner = fill(
        tmp_path / "asl_alphabet_train" / "asl_alphabet_train", *LETTERS, "del", "nothing", "space"
    )
    test = tmp_path / "asl_alphabet_test"
    fill(test, "asl_alphabet_test", files="{n}_test.jpg", count=3)
    wanted = f"--data.root {inner} --data.preset label --data.signers none"
    message = refusal(tmp_path)
    assert message.endswith(f"what fits is {wanted}")
    assert "matches 3 of 51 files" in message
    message = refusal(inner.parent)
    assert "signers are called asl_alphabet_train, as splits of a data set are" in message
    assert "--data.signers none" in message
    assert refusal(inner).endswith(f"what fits is {wanted}")
    plain = {"preset": "label", "signers": "none"}
    message = refusal(inner, **plain)
    assert "a label called nothing usually holds images without a sign" in message
    assert "--data.far_labels '[nothing]'" in message
    assert "--data.labels '[A, B, C, del, nothing, space]'" in message
    manifest = listed(inner, far_labels=["nothing"], **plain)
    assert manifest.labels == ["A", "B", "C", "del", "space"]
    assert manifest.counts()["far"] == 8
    every = ["A", "B", "C", "del", "nothing", "space"]
    assert listed(inner, labels=every, **plain).labels == every


def test_folders_named_train_valid_and_test(tmp_path: Path) -> None:
    fill(tmp_path, *(f"{split}/{label}" for split in ("train", "valid", "test") for label in "AB"))
    message = refusal(tmp_path)
    assert "signers are called test, train, valid, as splits of a data set are" in message
    manifest = listed(tmp_path, signers="none")
    assert (manifest.labels, manifest.counts()["train"]) == (["A", "B"], 36)
    assert "as splits of a data set are" in refusal(tmp_path, test_signers=["test"])
    message = refusal(tmp_path, preset="label", signers="none")
    wanted = f"--data.root {tmp_path} --data.preset signer-label --data.signers none"
    assert message.endswith(f"what fits is {wanted}")
    table = tmp_path / "table.csv"
    lines = [f"{split}/A/0.png,A,{split}" for split in ("train", "valid", "test")]
    table.write_text("\n".join(["path,label,signer", *lines]))
    message = refusal(tmp_path, table=str(table))
    assert f"data.table is {table}: signers are called test, train, valid, as" in message


def test_splits_taken_for_labels(tmp_path: Path) -> None:
    fill(tmp_path, "train", "test")
    message = refusal(tmp_path, preset="label", signers="none")
    assert "labels are called test, train, as splits of a data set are" in message
    assert "name them in a --data.table" in refusal(tmp_path)


def test_surreys_depth_images_are_no_pictures_of_signs(tmp_path: Path) -> None:
    root = tmp_path / "dataset5"
    folders = [f"{signer}/{label}" for signer in "ABC" for label in "ab"]
    fill(root, *folders, files="color_0_{n:04}.png")
    fill(tmp_path / "depth", *folders, files="depth_0_{n:04}.png")
    for file in (tmp_path / "depth").rglob("*.png"):
        file.rename(root / file.relative_to(tmp_path / "depth"))
    assert refusal(root).endswith("say --data.preset surrey")
    assert refusal(tmp_path).endswith("say --data.preset surrey")
    assert listed(tmp_path, preset="surrey").signers("train", "test") == [*"ABC"]


def test_known_sets_and_other_depths(tmp_path: Path) -> None:
    hands = tmp_path / "hands"
    frames = [
        f"Person{signer}-{label}-1-{n}.jpg" for signer in "123" for label in "AB" for n in "12"
    ]
    hands.mkdir()
    for name in frames:
        Image.effect_noise((20, 20), 100).save(hands / name)
    assert refusal(hands).endswith("what fits is --data.preset isl-hs")
    people = fill(
        tmp_path / "photos" / "all", *(f"{s}/{x}" for s in ("ann", "ben", "cy") for x in "AB")
    )
    assert advised(refusal(people.parent)).signers("train", "test") == ["ann", "ben", "cy"]
    pattern = refusal(people, pattern="(?P<signer>.)_(?P<label>.)")
    assert "what fits without data.pattern is" in pattern
    assert advised(pattern).counts()["train"] == 32
    one = fill(tmp_path / "one photo", *(f"Dataset/{digit}" for digit in "012"))
    assert advised(refusal(one, preset="massey")).labels == ["0", "1", "2"]
    assert refusal(one).endswith("where nobody knows who signs, say --data.signers none")
    assert listed(one, signers="none").labels == ["0", "1", "2"]
    phone = tmp_path / "phone"
    phone.mkdir()
    Image.effect_noise((20, 20), 100).save(phone / "IMG_0001.jpg")
    assert "sort the images into folders <signer>/<label>/" in refusal(phone)
