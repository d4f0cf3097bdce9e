"""AlexNet's convolutions: torchvision's to the bit, and a feature is its image's own.

Letters: N images, H and W rows and columns, D features.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sign_ensemble.core.errors import UserError
from sign_ensemble.data import backbone
from sign_ensemble.data.backbone import (
    BATCH,
    FIFTH_FEATURES,
    FOURTH_FEATURES,
    MEAN,
    STD,
    THIRD_FEATURES,
    Backbone,
    concatenate,
    weights_bytes,
)
from sign_ensemble.data.convolutions import Convolutions

SHA256 = "800459ed36154bfa3d8af783beef62272f16b5bf1125a1a0b2d020550689cb43"
SIDE = 64  # the smallest images that all layers take, nearly
CPU = torch.device("cpu")


pytestmark = pytest.mark.usefixtures("one_thread")


def images(n: int, side: int = SIDE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def features(*batches: np.ndarray, of: Backbone | None = None) -> np.ndarray:
    net = of or backbone.load("random")
    return concatenate([net.of_batch(batch) for batch in batches]).head_ND


@pytest.mark.usefixtures("torchvision_loads")
def test_the_layers_are_torchvisions() -> None:
    models: Any = importlib.import_module("torchvision.models")
    torch.manual_seed(1)
    theirs = models.alexnet(weights=None).eval()
    ours = Convolutions().eval()
    part = {k: v for k, v in theirs.state_dict().items() if k.startswith("features.")}
    assert list(part) == list(ours.state_dict())
    ours.load_state_dict(part)
    for side in (63, 224, 256):
        x_N3HW = torch.randn(2, 3, side, side)
        with torch.inference_mode():
            expected = torch.flatten(theirs.avgpool(theirs.features(x_N3HW)), 1)
            found = ours(x_N3HW)[:, :FIFTH_FEATURES]
        assert found.shape == (2, FIFTH_FEATURES)
        assert torch.equal(found, expected)


def test_the_shipped_weights_are_the_ones_that_are_named() -> None:
    assert hashlib.sha256(weights_bytes("shipped")).hexdigest() == SHA256
    assert backbone.load("shipped").sha256 == SHA256


def test_random_weights_are_one_fixed_draw() -> None:
    state = torch.get_rng_state()
    backbone.load.cache_clear()
    first = backbone.load("random")
    assert torch.equal(torch.get_rng_state(), state)
    backbone.load.cache_clear()
    torch.rand(3)
    again = backbone.load("random")
    assert first.sha256 == again.sha256 == "random"
    for name, values in first.layers.state_dict().items():
        assert torch.equal(values, again.layers.state_dict()[name])


def test_features_are_the_layers_answer_to_normalised_pixels() -> None:
    plain = Backbone(backbone.load("shipped").layers, "", backbone.load("shipped").device, False)
    x_NHW3 = images(3)
    normal = (x_NHW3 / 255 - np.array(MEAN)) / np.array(STD)
    x_N3HW = torch.from_numpy(normal).float().permute(0, 3, 1, 2).to(plain.device)
    with torch.inference_mode():
        third = plain.layers.features[:7](x_N3HW).relu()
        rows = [third[:, :, i, j].reshape(3, -1) for i in range(3) for j in range(3)]
        middle = torch.stack(rows, 2).flatten(1)  # images this small have 3 x 3 places there
        deep = plain.layers.avgpool(plain.layers.features[7:](third)).flatten(1)
        expected = torch.cat([deep, middle], 1).cpu().numpy()
    found = features(x_NHW3, of=plain)
    assert found.dtype == np.float16
    assert found.shape == (3, FIFTH_FEATURES + THIRD_FEATURES)
    assert found == pytest.approx(expected, rel=2e-3, abs=1e-3)  # float16 holds three digits
    assert expected.max() > 1
    quick = features(x_NHW3, of=backbone.load("shipped"))  # in bf16 where that is fast
    cosine = (quick.astype(float) * expected).sum(1) / (
        np.linalg.norm(quick.astype(float), axis=1) * np.linalg.norm(expected, axis=1)
    )
    assert cosine.min() > 0.999


def test_red_and_blue_differ() -> None:
    x_NHW3 = images(1)
    shipped = backbone.load("shipped")
    turned = np.ascontiguousarray(x_NHW3[..., ::-1])
    assert not np.array_equal(features(x_NHW3, of=shipped), features(turned, of=shipped))


def test_a_feature_does_not_depend_on_its_neighbours() -> None:
    x_NHW3 = images(BATCH)
    together = features(x_NHW3)
    for i in (0, 37, 63):
        assert np.array_equal(features(x_NHW3[i : i + 1])[0], together[i])
    others = images(BATCH, seed=1)
    others[5] = x_NHW3[20]
    assert np.array_equal(features(others)[5], together[20])
    assert np.array_equal(features(x_NHW3[:7], x_NHW3[7:8], x_NHW3[8:]), together)


def test_every_pass_has_as_many_images() -> None:
    random = backbone.load("random")
    shapes: list[tuple[int, ...]] = []
    first = random.layers.features[0]
    hook = first.register_forward_pre_hook(lambda _, x: shapes.append(tuple(x[0].shape)))
    try:
        parts = [random.of_batch(images(n)) for n in (1, BATCH, 7)]
        found = [len(part.head_ND) for part in parts]
    finally:
        hook.remove()
    assert shapes == [(BATCH, 3, SIDE, SIDE)] * 3
    assert found == [1, BATCH, 7]


def test_the_middle_keeps_the_highest_value_of_each_place() -> None:
    layers = Convolutions().eval().requires_grad_(False)
    images_N3HW = torch.randn(2, 3, 224, 224)
    third = layers.features[:8](images_N3HW.clone())
    assert third.shape == (2, 384, 13, 13)
    edges = [(0, 5), (4, 9), (8, 13)]  # a thirteenth does not divide by three: places overlap
    by_hand = torch.stack(
        [third[:, :, a:b, c:d].amax((2, 3)) for a, b in edges for c, d in edges], 2
    )
    assert torch.equal(layers(images_N3HW)[:, FIFTH_FEATURES:], by_hand.flatten(1))


def test_no_images_have_no_features() -> None:
    none = backbone.load("random").of_images(images(0))
    assert (none.fifth_ND.shape, none.third_ND.shape) == ((0, FIFTH_FEATURES), (0, THIRD_FEATURES))
    assert (none.head_ND.shape, none.fourth_ND.shape) == (
        (0, FIFTH_FEATURES + THIRD_FEATURES),
        (0, FOURTH_FEATURES),
    )


def test_huge_activations_stay_finite() -> None:
    layers = Convolutions().eval().requires_grad_(False)
    for weight in layers.parameters():
        weight.fill_(10.0)
    huge = Backbone(layers, "", CPU, False)
    assert features(np.full((1, SIDE, SIDE, 3), 255, np.uint8), of=huge).max() == 65504
    dark = features(np.zeros((1, SIDE, SIDE, 3), np.uint8), of=huge)
    assert np.isfinite(dark).all()


# --- refusals -------------------------------------------------------------------------------------


def test_the_same_weights_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights_bytes("shipped"))
    loaded = backbone.load(str(path))
    assert loaded.sha256 == SHA256
    x_NHW3 = images(1)
    expected = features(x_NHW3, of=backbone.load("shipped"))
    assert np.array_equal(features(x_NHW3, of=loaded), expected)


def test_torchvisions_whole_file_will_do(tmp_path: Path) -> None:
    tensors = dict(Convolutions().state_dict()) | {"classifier.1.weight": torch.zeros(2, 3)}
    save_file(tensors, tmp_path / "w.safetensors", {"format": "pt"})
    loaded = backbone.load(str(tmp_path / "w.safetensors"))
    assert torch.equal(
        loaded.layers.state_dict()["features.0.bias"].cpu(), tensors["features.0.bias"]
    )


def test_weights_that_are_not_there_are_named(tmp_path: Path) -> None:
    for weights in (str(tmp_path / "none.safetensors"), str(tmp_path), "imagenet"):
        with pytest.raises(UserError, match=f"data.weights is {weights}: it must be shipped"):
            backbone.load(weights)


@pytest.mark.parametrize("content", [b"", b"no weights", b"\xff" * 100])
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"w\.safetensors: not AlexNet's convolutions \(.+\)"):
        backbone.load(str(path))


@pytest.mark.parametrize(
    "change",
    [
        {"features.0.bias": None},
        {"features.0.bias": torch.zeros(65)},
        {"features.11.bias": torch.zeros(1)},
    ],
)
def test_other_layers_are_refused(change: dict[str, torch.Tensor | None], tmp_path: Path) -> None:
    tensors = {**Convolutions().state_dict(), **change}
    kept = {name: value for name, value in tensors.items() if value is not None}
    save_file(kept, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="not AlexNet's convolutions"):
        backbone.load(str(tmp_path / "w.safetensors"))


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_pixels_are_looked_up_as_they_are_normalised(half: bool, threads: int) -> None:
    x_NHW3 = np.concatenate(
        [images(5), np.arange(256, dtype=np.uint8).repeat(48).reshape(1, 64, 64, 3)]
    )
    expected = backbone.normalised(torch.from_numpy(x_NHW3).permute(0, 3, 1, 2))
    torch.set_num_threads(threads)
    found = backbone.as_input(torch.from_numpy(x_NHW3), half)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert found.dtype == (torch.bfloat16 if half else torch.float32)
    assert torch.equal(found, expected.to(found.dtype))
