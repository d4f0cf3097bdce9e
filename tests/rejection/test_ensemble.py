"""An ensemble's members answer as each would alone, and only members of one ensemble go together.

Letters: M members, N images, K labels, D features.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sign_ensemble.core.config import MemberConfig
from sign_ensemble.core.device import bf16_is_fast
from sign_ensemble.core.errors import UserError
from sign_ensemble.data.backbone import Features, HandFeatures
from sign_ensemble.learning.member import Card, Member, save
from sign_ensemble.learning.network import Head
from sign_ensemble.rejection import stacked_heads
from sign_ensemble.rejection.ensemble import (
    Ensemble,
    EnsembleOutput,
    concatenate_outputs,
    read_ensemble,
    stack,
)

D = 12
LABELS = ("U", "V", "W")
CPU = torch.device("cpu")
WIDTHS = ((5, 3), (2, 7), (4, 4))


def member(widths: tuple[int, int], trial: int = 0, **card: Any) -> tuple[Member, Head]:
    """A member with random weights, and the network that has the same."""
    torch.manual_seed(trial)
    head = Head(D, widths, len(LABELS), dropout=0.5).eval()
    tensors = {name: tensor.numpy() for name, tensor in head.state_dict().items()}
    values: dict[str, Any] = {
        "labels": LABELS,
        "recipe": MemberConfig(widths=widths),
        "seed": 0,
        "trial": trial,
        "fold": -1,
        "weight": 1,
        "nll": 0.5,
        "preprocessing": {"size": 224, "fit": "pad", "weights": "random"},
        "manifest": "abc",
    }
    return Member(Card(**{**values, **card}), tensors), head


def features(n: int) -> np.ndarray:
    return (3 * np.random.default_rng(0).normal(size=(n, D))).astype(np.float16)


def written(folder: Path, count: int = 2) -> list[Member]:
    """A members folder as the members stage writes it."""
    members = [member(WIDTHS[i], trial=i)[0] for i in range(count)]
    entries = []
    for i, each in enumerate(members):
        sha256 = save(each, folder / f"member-{i:02d}.safetensors")
        entries.append({"file": f"member-{i:02d}.safetensors", "sha256": sha256})
    (folder / "index.json").write_text(json.dumps({"members": entries}))
    return members


# --- logits ---------------------------------------------------------------------------------------


def logits_of(ensemble: Ensemble, features_ND: np.ndarray) -> np.ndarray:
    no_images = np.zeros((len(features_ND), 0, 0, 3), np.uint8)
    groups = ensemble.logits(Features(features_ND), no_images)
    return np.concatenate([logits_MNK for _, logits_MNK, _ in groups])


@pytest.mark.parametrize("n", [1, 4, 11])
def test_members_of_different_widths_answer_as_each_alone(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stacked_heads, "CHUNK", 4)  # several products, the last one short
    pairs = [member(widths, trial=i) for i, widths in enumerate(WIDTHS)]
    found_MNK = logits_of(stack([one for one, _ in pairs]), features(n))
    x_ND = torch.from_numpy(features(n)).float()
    assert found_MNK.shape == (3, n, 3)
    for (_, head), found_NK in zip(pairs, found_MNK, strict=True):
        with torch.no_grad():
            alone_NK = head.logits(x_ND).numpy()
        assert np.abs(found_NK - alone_NK).max() < (3e-2 if bf16_is_fast(CPU) else 1e-4)
        assert np.ptp(alone_NK) > 0.1  # far more than the tolerance


@pytest.mark.usefixtures("exact_products")
def test_without_bf16_in_hardware_members_are_exact() -> None:
    one, head = member((5, 3))
    with torch.no_grad():
        alone_NK = head.logits(torch.from_numpy(features(4)).float()).numpy()
    assert np.abs(logits_of(stack([one]), features(4))[0] - alone_NK).max() < 1e-5


def test_a_member_of_one_unit_each_by_hand() -> None:
    one, _ = member((1, 1))
    tensors = {
        "layers.0.weight": np.zeros((1, D), np.float32),
        "layers.0.bias": np.array([1.0], np.float32),
        "layers.3.weight": np.array([[2.0]], np.float32),
        "layers.3.bias": np.array([-0.5], np.float32),
        "layers.6.weight": np.array([[1.0], [-1.0], [4.0]], np.float32),
        "layers.6.bias": np.array([0.0, 0.5, 0.0], np.float32),
    }
    tensors["layers.0.weight"][0, 0] = 1.0
    x_ND = np.zeros((2, D), np.float16)
    x_ND[:, 0] = 3.0, -9.0  # relu(3 + 1) = 4, relu(-9 + 1) = 0; then 2·4 − 0.5, relu(−0.5)
    wide, _ = member((6, 6))
    logits_MNK = logits_of(stack([replace(one, tensors=tensors), wide]), x_ND)
    assert logits_MNK[0].tolist() == [[7.5, -7.0, 30.0], [0.0, 0.5, 0.0]]


def test_landmark_members_follow_and_say_nothing_without_a_hand() -> None:
    pixels, landmarks, other = (member(WIDTHS[i], trial=i)[0] for i in range(3))
    of_landmarks = replace(landmarks, card=replace(landmarks.card, kind="landmarks"))
    ensemble = stack([of_landmarks, pixels, other])
    assert ensemble.kinds_M == ("pixels", "pixels", "landmarks")
    assert [each.card.trial for each in ensemble.members] == [0, 2, 1]

    class Hands(HandFeatures):
        landmarks_ND = 2 * features(3)
        hands_N = np.array([1, 0, 2])

    class Seen(Features):
        of_hand = Hands(np.zeros((3, 0), np.float16))

    found = list(ensemble.logits(Seen(features(3)), np.zeros((3, 0, 0, 3), np.uint8)))
    assert [group.kind for group, _, _ in found] == ["pixels", "landmarks"]
    assert np.array_equal(found[0][1], logits_of(stack([pixels, other]), features(3)))
    alone_NK = logits_of(stack([landmarks]), 2 * features(3))[0]
    assert np.array_equal(found[1][1][0, [0, 2]], alone_NK[[0, 2]])
    assert found[1][1][0, 1].tolist() == [0.0, 0.0, 0.0]


def test_no_images_give_no_logits() -> None:
    assert logits_of(stack([member((2, 2))[0]]), features(0)).shape == (1, 0, 3)


# --- outputs --------------------------------------------------------------------------------------


def output_of(probs_MNK: Any, votes_M: list[float]) -> EnsembleOutput:
    """kNN distances 0, 1, ... and their negatives as regional distances."""
    logits = np.log(np.array(probs_MNK)).astype(np.float32)
    knn_N = np.arange(logits.shape[1], dtype=np.float64)
    return EnsembleOutput(logits, np.array(votes_M), knn_N, -knn_N)


def test_votes_weigh_the_mean() -> None:
    probs = [[[0.9, 0.1]], [[0.5, 0.5]], [[0.2, 0.8]]]
    even = output_of(probs, [1, 1, 1]).probs_NK
    assert even == pytest.approx(np.array([[1.6 / 3, 1.4 / 3]]), abs=1e-7)
    weighed = output_of(probs, [3, 1, 1]).probs_NK  # (2.7 + 0.5 + 0.2) / 5
    assert weighed == pytest.approx(np.array([[0.68, 0.32]]), abs=1e-7)


def test_hand_counts_stay_with_their_images() -> None:
    without = output_of([[[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.2, 0.8]]], [1, 1])
    counted = replace(without, hand_count_N2=np.array([[7.0, 1.0], [8.0, 2.0]]))
    second = np.array([1])
    assert without.rows(second).hand_count_N2 is None
    assert concatenate_outputs([without, without]).hand_count_N2 is None
    one = counted.rows(second).hand_count_N2
    both = concatenate_outputs([counted, counted.rows(np.array([0]))]).hand_count_N2
    assert one is not None and one.tolist() == [[8.0, 2.0]]
    assert both is not None and both.tolist() == [[7.0, 1.0], [8.0, 2.0], [7.0, 1.0]]


def test_hands_and_kinds_stay_with_their_images() -> None:
    without = output_of([[[0.9, 0.1], [0.5, 0.5]], [[0.5, 0.5], [0.2, 0.8]]], [1, 1])
    hands_N, of_hands = np.array([1, 2]), ("joint_N", "tips_N", "landmarks_N")
    values: dict[str, Any] = {name: np.array([i, i + 0.5]) for i, name in enumerate(of_hands)}
    known = replace(without, kinds_M=("pixels", "landmarks"), hands_N=hands_N, **values)
    both = concatenate_outputs([known, known.rows(np.array([0]))])
    assert both.kinds_M == ("pixels", "landmarks")
    assert both.hands_N is not None and both.hands_N.tolist() == [1, 2, 1]
    for name, value in values.items():
        assert getattr(both, name).tolist() == [*value, value[0]], name
        assert getattr(concatenate_outputs([without, without]), name) is None


def test_outputs_are_concatenated_image_by_image() -> None:
    first = replace(output_of([[[0.9, 0.1], [0.8, 0.2]]], [4]), gda_count=1)
    found = concatenate_outputs([first, first.rows(np.array([1]))])
    assert np.array_equal(found.logits_MNK, first.logits_MNK[:, [0, 1, 1]])
    assert found.knn_N.tolist() == [0.0, 1.0, 1.0]
    assert found.regional_N.tolist() == [0.0, -1.0, -1.0]
    assert (found.votes_M.tolist(), found.gda_count) == ([4.0], 1)


def test_votes_come_from_the_cards() -> None:
    members = [member(WIDTHS[0], weight=3)[0], member(WIDTHS[1], trial=1, weight=2)[0]]
    assert stack(members).votes_M.tolist() == [3.0, 2.0]
    assert stack(members).labels == LABELS


def test_log_probabilities_do_not_depend_on_the_logits_height() -> None:
    logits = np.array([[[1.0, 3.0], [1e30, 1e30]]], np.float32)
    found = EnsembleOutput(logits, np.ones(1), *np.zeros((2, 2))).log_probs_MNK
    falls = np.log1p(np.exp(-2.0))
    by_hand = np.array([[[-2 - falls, -falls], [-np.log(2), -np.log(2)]]])
    assert found == pytest.approx(by_hand, abs=1e-12)


def test_rows_keep_images_and_votes_together() -> None:
    output = output_of([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]], [4])
    for chosen in (np.array([2, 0]), np.array([True, False, True])):
        part = output.rows(chosen)
        assert np.array_equal(part.logits_MNK, output.logits_MNK[:, chosen])
        assert part.knn_N.tolist() == np.arange(3)[chosen].tolist()
        assert part.regional_N.tolist() == (-np.arange(3)[chosen]).tolist()
        assert part.votes_M.tolist() == [4]


# --- refusals -------------------------------------------------------------------------------------


def test_an_ensemble_without_members_is_refused() -> None:
    with pytest.raises(UserError, match="at least one member"):
        stack([])


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("labels", ("U", "W", "V")),  # the same labels in another order are other labels
        ("preprocessing", {"size": 224, "fit": "crop", "weights": "random"}),
        ("manifest", "abd"),
    ],
)
def test_members_of_different_ensembles_are_refused(name: str, other: Any) -> None:
    members = [member(WIDTHS[0], trial=4)[0], member(WIDTHS[1], trial=7, **{name: other})[0]]
    with pytest.raises(UserError, match=f"trials 4 and 7 differ in {name}"):
        stack(members)


def test_a_saved_ensemble_answers_the_same_bits(tmp_path: Path) -> None:
    members = written(tmp_path)
    loaded = read_ensemble(tmp_path)
    assert [each.card for each in loaded.members] == [each.card for each in members]
    assert np.array_equal(logits_of(loaded, features(5)), logits_of(stack(members), features(5)))


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    written(tmp_path)
    path = tmp_path / "member-01.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"member-01.*sha256.*changed"):
        read_ensemble(tmp_path)


def test_a_missing_member_is_noticed(tmp_path: Path) -> None:
    written(tmp_path)
    (tmp_path / "member-00.safetensors").unlink()
    with pytest.raises(UserError, match=r"member-00.*not there"):
        read_ensemble(tmp_path)


@pytest.mark.parametrize("index", ["{}", "[]", '{"members": [{"file": "x"}]}', '{"members": 3}'])
def test_an_index_of_another_kind_is_refused(index: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(UserError, match=r"index\.json: not an index"):
        read_ensemble(tmp_path)


def test_a_folder_without_members_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"index\.json: not there"):
        read_ensemble(tmp_path)
