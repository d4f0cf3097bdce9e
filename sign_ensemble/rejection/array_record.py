"""Records of arrays that are saved and read back by field name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from numpy.typing import NDArray


@dataclass(frozen=True)
class ArrayRecord:
    """A frozen record whose fields are all arrays."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Undo :meth:`arrays`."""
        return cls(**{field.name: arrays[field.name] for field in fields(cls)})
