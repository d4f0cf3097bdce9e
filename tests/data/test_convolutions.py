"""Max pooling by integers: torch's to the bit.

Letters: N images, F feature maps, H and W rows and columns.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import max_pool2d

from sign_ensemble.data.convolutions import Convolutions, pooled

KINDS = pytest.mark.parametrize("kind", [torch.bfloat16, torch.float32])
pytestmark = pytest.mark.usefixtures("one_thread")


def drawn(kind: torch.dtype, rows: int, columns: int) -> torch.Tensor:
    """What a convolution may give, channels last."""
    torch.manual_seed(rows)
    normal_NFHW = torch.randn(3, 5, rows, columns).to(kind)
    return normal_NFHW.contiguous(memory_format=torch.channels_last)


def expected(drawn_NFHW: torch.Tensor) -> torch.Tensor:
    return max_pool2d(drawn_NFHW.relu(), 3, 2)


@KINDS
@pytest.mark.parametrize(("rows", "columns"), [(55, 55), (13, 13), (6, 9), (3, 4), (5, 3), (27, 8)])
def test_the_highest_of_nine_by_any_size(kind: torch.dtype, rows: int, columns: int) -> None:
    drawn_NFHW = drawn(kind, rows, columns)
    found_NFHW = pooled(drawn_NFHW)
    assert torch.equal(found_NFHW, expected(drawn_NFHW))
    assert found_NFHW.dtype == kind
    assert found_NFHW.is_contiguous(memory_format=torch.channels_last)


@KINDS
def test_the_largest_numbers_and_what_is_none(kind: torch.dtype) -> None:
    drawn_NFHW = drawn(kind, 9, 9)
    drawn_NFHW[0, 0, 2, 2] = torch.finfo(kind).max
    drawn_NFHW[0, 1, 4, 4] = torch.inf
    drawn_NFHW[1, 2, 6, 3] = torch.nan
    drawn_NFHW[2] = -drawn_NFHW[2].abs()
    drawn_NFHW[2, 0] = -0.0
    expected_NFHW = expected(drawn_NFHW)
    assert expected_NFHW.isnan().sum() == 2
    torch.testing.assert_close(pooled(drawn_NFHW), expected_NFHW, rtol=0, atol=0, equal_nan=True)


def test_where_channels_lie_first() -> None:
    drawn_NFHW = drawn(torch.float32, 9, 7).contiguous()
    assert torch.equal(pooled(drawn_NFHW), expected(drawn_NFHW))


@pytest.mark.parametrize("half", [True, False])
def test_features_are_those_of_torchs_pooling(half: bool) -> None:
    """As with gradients, where torch's is needed."""
    torch.manual_seed(0)
    layers = Convolutions().eval().requires_grad_(False)
    images_N3HW = torch.randn(2, 3, 127, 127).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        with torch.enable_grad():
            slow_ND = layers.every(images_N3HW)
        with torch.inference_mode():
            quick_ND = layers.every(images_N3HW)
    assert slow_ND.dtype == (torch.bfloat16 if half else torch.float32)
    assert torch.equal(quick_ND, slow_ND)


def test_gradients_go_through_torchs_pooling() -> None:
    layers = Convolutions().eval()
    layers.every(torch.randn(1, 3, 63, 63)).sum().backward()
    assert all(weight.grad is not None for weight in layers.parameters())
