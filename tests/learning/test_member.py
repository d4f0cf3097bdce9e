"""A member's file is read as it was written, bit for bit, or refused."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sign_ensemble.core.atomic_files import write_arrays
from sign_ensemble.core.config import FinetuneConfig, MemberConfig
from sign_ensemble.core.errors import UserError
from sign_ensemble.learning.member import Card, Member, load, save
from sign_ensemble.learning.network import Head

D = 7
CARD = Card(
    labels=("A", "ß", "5"),
    recipe=MemberConfig(widths=(4, 2), dropout=0.1 + 0.2, learning_rate=1e-5),
    seed=2**32 - 1,
    trial=3,
    fold=-1,
    weight=2,
    nll=1 / 3,
    preprocessing={"size": 224, "fit": "pad", "weights": "random"},
    manifest="abc",
)


def member(**changed: Any) -> Member:
    torch.manual_seed(0)
    tensors = Head(D, (4, 2), 3, dropout=0.5).arrays()
    tensors["layers.0.bias"][:] = np.array([np.nextafter(np.float32(1), 2), -0.0, 1e-42, 3e38])
    return Member(CARD, {**tensors, **changed})


def test_a_member_comes_back_to_the_bit(tmp_path: Path) -> None:
    before = member()
    sha256 = save(before, tmp_path / "m.safetensors")
    after = load(tmp_path / "m.safetensors", sha256)
    assert after.card == before.card
    assert isinstance(after.card.labels, tuple)
    assert isinstance(after.card.recipe.widths, tuple)
    assert after.tensors.keys() == before.tensors.keys()
    for name, values in before.tensors.items():
        assert after.tensors[name].dtype == np.float32
        assert after.tensors[name].shape == values.shape
        assert after.tensors[name].tobytes() == values.tobytes(), name


def test_a_fine_tuned_member_has_its_own_convolutions(tmp_path: Path) -> None:
    card = replace(CARD, finetune=FinetuneConfig(layers="last", learning_rate=0.1 + 0.2))
    assert card.learned == ("features.10.weight", "features.10.bias")
    own = {
        "features.10.weight": np.random.default_rng(0).random((256, 256, 3, 3), np.float32),
        "features.10.bias": np.arange(256, dtype=np.float32),
    }
    before = Member(card, {**member().tensors, **own})
    save(before, tmp_path / "m.safetensors")
    after = load(tmp_path / "m.safetensors")
    assert after.card == card
    assert all(np.array_equal(after.tensors[name], own[name]) for name in own)
    save(Member(card, member().tensors), tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="do not fit its card"):
        load(tmp_path / "m.safetensors")
    save(replace(before, card=CARD), tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="do not fit its card"):
        load(tmp_path / "m.safetensors")


def test_saving_gives_the_files_own_hash(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    assert save(member(), path) == hashlib.sha256(path.read_bytes()).hexdigest()
    assert save(member(), tmp_path / "again.safetensors") == save(member(), path)


def test_a_loaded_member_fits_the_network(tmp_path: Path) -> None:
    save(member(), tmp_path / "m.safetensors")
    loaded = load(tmp_path / "m.safetensors")
    head = Head(D, loaded.card.recipe.widths, len(loaded.card.labels), 0.5)
    head.load_state_dict({k: torch.from_numpy(v) for k, v in loaded.tensors.items()})


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 20, -1])  # the header's length, the header, the weights
def test_a_flipped_bit_is_noticed(place: int, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    sha256 = save(member(), path)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"m\.safetensors.*sha256.*changed"):
        load(path, sha256)


def test_a_broken_header_is_noticed_without_a_hash(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save(member(), path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="damaged"):
        load(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for sha256 in (None, "0" * 64):
        with pytest.raises(UserError, match=r"m\.safetensors: not there"):
            load(tmp_path / "m.safetensors", sha256)


@pytest.mark.parametrize(
    "changed",
    [
        {"layers.0.weight": np.zeros((5, D), np.float32)},  # 5 units where the card says 4
        {"layers.0.bias": np.zeros(5, np.float32)},
        {"layers.3.weight": np.zeros((4, 2), np.float32)},  # transposed
        {"layers.6.weight": np.zeros((4, 2), np.float32)},  # 4 labels
        {"layers.6.bias": np.zeros((1, 3), np.float32)},
        {"layers.9.bias": np.zeros(3, np.float32)},  # a layer too many
    ],
)
def test_tensors_that_do_not_fit_the_card_are_refused(
    changed: dict[str, np.ndarray], tmp_path: Path
) -> None:
    save(member(**changed), tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="do not fit its card"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("name", Head(D, (4, 2), 3, 0.5).state_dict())
def test_a_missing_tensor_is_noticed(name: str, tmp_path: Path) -> None:
    tensors = {key: value for key, value in member().tensors.items() if key != name}
    save(Member(CARD, tensors), tmp_path / "m.safetensors")
    with pytest.raises(UserError, match="do not fit its card"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"card": {}},
        {"card": "member"},
        {"card": {**asdict(CARD), "recipe": {"widths": [4, 2], "depth": 3}}},  # of a later version
        {"card": {**asdict(CARD), "recipe": {"widths": [4, 3, 2]}}},
        {"card": {**asdict(CARD), "finetune": {"layers": "conv9"}}},
        {"card": {k: v for k, v in asdict(CARD).items() if k != "manifest"} | {"recipe": {}}},
    ],
)
def test_a_file_without_a_readable_card_is_no_member(
    metadata: dict[str, Any], tmp_path: Path
) -> None:
    write_arrays(tmp_path / "m.safetensors", dict(member().tensors), metadata)
    with pytest.raises(UserError, match="not a member of this version"):
        load(tmp_path / "m.safetensors")
