"""The two networks: whatever is wrong with their files is named, and each image stands alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from rendered_hands import FOUND, rendered_hand

from sign_ensemble.core.errors import UserError
from sign_ensemble.hands import hand_networks
from sign_ensemble.hands.hand_networks import HAND_FILE, PALM_FILE, checked, load_networks, version
from sign_ensemble.hands.hand_region import Region
from sign_ensemble.hands.network_inputs import border_colour, palm_input, region_input


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the package's weights to change; networks are loaded from it anew."""
    folder = tmp_path / "weights"
    folder.mkdir()
    for file in (PALM_FILE, HAND_FILE):
        content = files("sign_ensemble").joinpath("weights", file).read_bytes()
        (folder / file).write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setattr(hand_networks, "files", lambda package: tmp_path)
        load_networks.cache_clear()
        yield folder
    load_networks.cache_clear()


FILES = pytest.mark.parametrize("file", [PALM_FILE, HAND_FILE])


@FILES
def test_the_shipped_files_are_those_that_were_shipped(file: str) -> None:
    assert hashlib.sha256(checked(file)).hexdigest() == hand_networks.SHA256[file]


@FILES
def test_a_missing_file_is_named(file: str, weights: Path) -> None:
    (weights / file).unlink()
    with pytest.raises(UserError, match=rf"weights/{file}: cannot be read \(No such file"):
        load_networks()


@FILES
@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_file_is_named(file: str, damage: str, weights: Path) -> None:
    content = bytearray((weights / file).read_bytes())
    content[len(content) // 2] ^= 1
    damaged = {"cut": bytes(content[:-1]), "flipped": bytes(content), "empty": b""}[damage]
    (weights / file).write_bytes(damaged)
    found, shipped = hashlib.sha256(damaged).hexdigest(), hand_networks.SHA256[file]
    reason = rf"weights/{file}: damaged \(its sha256 is {found[:12]}…, not {shipped[:12]}…\)"
    with pytest.raises(UserError, match=reason):
        load_networks()


@FILES
def test_what_onnxruntime_cannot_run_is_named(
    file: str, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (weights / file).write_bytes(b"no network")
    sha256 = hashlib.sha256(b"no network").hexdigest()
    monkeypatch.setitem(hand_networks.SHA256, file, sha256)
    with pytest.raises(UserError, match=rf"{file}: onnxruntime cannot run it \(.+\)"):
        load_networks()


@pytest.mark.usefixtures("weights")
@pytest.mark.parametrize("there, named", [([], "none"), (["OtherExecutionProvider"], "Other")])
def test_no_provider_is_named(
    there: list[str], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    with pytest.raises(UserError, match=rf"none of the providers CUDA.*CPU.*\(it has {named}"):
        load_networks()


def test_a_failure_is_not_remembered(weights: Path) -> None:
    content = (weights / PALM_FILE).read_bytes()
    (weights / PALM_FILE).unlink()
    with pytest.raises(UserError):
        load_networks()
    (weights / PALM_FILE).write_bytes(content)
    assert load_networks() is load_networks()


def test_the_cpu_alone_serves(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    del weights
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider", "Azure"]
    )
    networks = load_networks()
    assert networks.palm.get_providers() == ["CPUExecutionProvider"]


def test_eight_pictures_are_as_one_by_one() -> None:
    pictures = [rendered_hand(label) for label in FOUND]
    pictures += [np.zeros((90, 90, 3), np.uint8), np.full((40, 70, 3), 200, np.uint8)]
    colours = [border_colour(picture) for picture in pictures]
    pairs = list(zip(pictures, colours, strict=True))
    views = np.stack([palm_input(picture, 0.25, colour) for picture, colour in pairs])
    regions = np.stack(
        [region_input(picture, Region(160, 160, 300, 0.2), colour) for picture, colour in pairs]
    )
    networks = load_networks()
    for run, inputs in ((networks.palms, views), (networks.landmarks, regions)):
        together = run(inputs)
        for i in range(8):
            for every, alone in zip(together, run(inputs[i : i + 1]), strict=True):
                assert np.array_equal(every[i], alone[0])


def test_what_the_networks_answer() -> None:
    networks = load_networks()
    values, logits = networks.palms(np.zeros((2, 192, 192, 3), np.float32))
    assert values.shape == (2, 2016, 18) and logits.shape == (2, 2016)
    hand = rendered_hand("v")
    region = region_input(hand, Region(160, 160, 320, 0.0), border_colour(hand))
    points, world, presence, right = networks.landmarks(np.stack([region, 0 * region]))
    assert points.shape == (2, 42) and world.shape == (2, 63)
    assert presence[0] > 0.5 > presence[1]
    assert right[0] > 0.5 and (right >= 0).all() and (right <= 1).all()
    assert points[0].min() > 0 and points[0].max() < 1  # shares of the region
    extent = np.ptp(world[0].reshape(21, 3), axis=0).max()
    assert 0.08 < extent < 0.25  # metres


def test_the_version_can_be_written_as_json() -> None:
    about = json.loads(json.dumps(version()))
    assert about["palm"] == hand_networks.SHA256[PALM_FILE]
    assert about["hand"] == hand_networks.SHA256[HAND_FILE]
