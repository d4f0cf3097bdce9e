"""Matrix products whose factors may be cast to bf16.

Letters: N images, B reference images, D features.
"""

from __future__ import annotations

import pytest
import torch

from sign_ensemble.core.bf16_products import bf16_if_fast


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal float32 numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.usefixtures("exact_products")
def test_without_bf16_in_hardware_a_factor_is_unchanged() -> None:
    x_ND = drawn(3, 4)
    assert bf16_if_fast(x_ND) is x_ND


@pytest.mark.usefixtures("rounded_products")
def test_a_product_of_rounded_factors_is_as_accurate_as_documented() -> None:
    x_ND, reference_BD = drawn(64, 512), drawn(96, 512, seed=1)
    assert ((bf16_if_fast(x_ND) - x_ND).abs() <= 2.0**-8 * x_ND.abs()).all()
    found_NB = (bf16_if_fast(x_ND) @ bf16_if_fast(reference_BD).T).double()
    exact_NB = x_ND.double() @ reference_BD.double().T
    of_factors_NB = 2.01 * 2.0**-8 * (x_ND.abs() @ reference_BD.abs().T)
    of_the_product_NB = 2.01 * 2.0**-8 * exact_NB.abs()
    assert ((found_NB - exact_NB).abs() < of_factors_NB + of_the_product_NB).all()
    assert (found_NB - exact_NB).std() < 0.01 * exact_NB.std()  # accumulation is not rounded
