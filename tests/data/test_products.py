"""Products that may round their factors, and what they leave as it was.

Letters: N images, B images in the bank, D features.
"""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch

from sign_ensemble.data import products
from sign_ensemble.data.products import rounded_factors


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal float32 numbers that are bf16 already."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().float()


@pytest.mark.parametrize("fast", [True, False])
def test_what_is_bf16_already_is_multiplied_as_before(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "bf16_is_fast", lambda device: fast)
    x_ND, bank_BD = drawn(64, 512), drawn(96, 512, seed=1)
    with rounded_factors():
        found_NB = x_ND @ bank_BD.T
    assert found_NB.dtype == torch.float32
    exact_NB = x_ND.double() @ bank_BD.double().T
    assert (found_NB - exact_NB).abs().max() < 1e-4  # of about 22; bf16 sums would be .06 off


def test_other_factors_are_rounded_to_it_at_most() -> None:
    x_ND, weights_DH = drawn(64, 512) / 3, drawn(512, 96, seed=1) / 3
    with rounded_factors():
        found_NH = x_ND @ weights_DH
    # each factor is off by 2^-9 of itself at most
    bound_NH = 2.01 * 2.0**-9 * (x_ND.abs() @ weights_DH.abs())
    assert ((found_NH - x_ND.double() @ weights_DH.double()).abs() < bound_NH + 1e-4).all()


def test_products_after_it_are_as_before_whatever_happened() -> None:
    matmul = cast(Any, torch.backends.mkldnn).matmul
    before = matmul.fp32_precision
    with pytest.raises(RuntimeError), rounded_factors():
        _ = drawn(2, 3) @ drawn(2, 3)
    assert matmul.fp32_precision == before
