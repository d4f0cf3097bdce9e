"""ONNX files, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sign_ensemble.core.errors import UserError

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that is there
ERRORS_ONLY = 3


def onnx_session(model: bytes | Path, name: str, threads: int) -> Any:
    """A session of a file or its content, on a GPU if onnxruntime has its CUDA provider, else on so
    many CPU threads; with one, on the caller's own. It may be run from several threads.

    Raises:
        UserError: onnxruntime cannot run it; ``name`` says what.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = ERRORS_ONLY
    there = set(onnxruntime.get_available_providers())
    providers = [name for name in PROVIDERS if name in there]
    if not providers:
        raise UserError(
            f"onnxruntime has none of the providers {', '.join(PROVIDERS)} (it has "
            f"{', '.join(sorted(there)) or 'none'}); install onnxruntime again"
        )
    given = model if isinstance(model, bytes) else str(model)
    try:
        return onnxruntime.InferenceSession(given, options, providers=providers)
    except Exception as fault:  # onnxruntime raises kinds of its own
        reason = " ".join(str(fault).split())
        raise UserError(f"{name}: onnxruntime cannot run it ({reason})") from None
