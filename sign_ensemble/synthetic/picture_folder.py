"""Complete a folder of built-in signers: render missing pictures, keep valid ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from sign_ensemble.core.atomic_files import atomic_write, write_json
from sign_ensemble.core.console import progress, say
from sign_ensemble.core.errors import UserError
from sign_ensemble.synthetic.picture_set import Picture, Recipe, plan, rendered, sha256_if_valid

RECIPE, MANIFEST = "recipe.json", "pictures.parquet"
FEW = 40  # pictures that are rendered before Ray would have started
VERSION = 3  # raised when the same recipe gives other pictures


def synthesize(
    out: Path,
    recipe: Recipe,
    signers: int,
    images_per_label: int,
    ood_per_set: int,
    workers: int | None,
) -> None:
    """Complete the folder and write its manifest.

    Args:
        out: The folder; made if missing.
        recipe: What the pictures depend on.
        signers: Number of signers.
        images_per_label: Pictures of each label and signer.
        ood_per_set: Pictures of each OOD set.
        workers: Pictures rendered at once; None is one per CPU.

    Raises:
        UserError: the folder holds something else or pictures of another recipe.
    """
    _check_recipe(out, recipe)
    pictures = plan(signers, images_per_label, ood_per_set)
    digests: dict[str, str] = {}
    with progress("pictures checked") as step:
        present = [p for p in pictures if (out / p.path).exists()]
        for n, picture in enumerate(present):
            digests[picture.path] = sha256_if_valid(out / picture.path, recipe)
            step(n + 1, len(present))
    missing = [p for p in pictures if not digests.get(p.path)]
    kept = len(pictures) - len(missing)
    if kept:
        broken = len(present) - kept
        say(f"{out}: {kept} pictures kept from before" + f", {broken} broken" * bool(broken))
    if missing:
        with progress("pictures rendered") as step, _engine(missing, recipe, workers) as done:
            for n, (picture, content) in enumerate(done):
                with atomic_write(out / picture.path) as file:
                    file.write_bytes(content)
                digests[picture.path] = hashlib.sha256(content).hexdigest()
                step(n + 1, len(missing))
    _write_manifest(out, pictures, recipe, digests)
    say(f"built-in signers: {len(pictures)} pictures in {out}; signs/ and ood/")


@contextmanager
def _engine(
    missing: list[Picture], recipe: Recipe, workers: int | None
) -> Iterator[Iterator[tuple[Picture, bytes]]]:
    """Render in this process for a few pictures or one worker, else on Ray."""
    if workers == 1 or (workers is None and len(missing) <= FEW):
        yield zip(missing, rendered(missing, recipe), strict=True)
        return
    from sign_ensemble.core.ray_cluster import connected_ray
    from sign_ensemble.synthetic.ray_rendering import render_on_cluster

    with connected_ray():
        yield render_on_cluster(missing, recipe, workers)


def _check_recipe(out: Path, recipe: Recipe) -> None:
    """Write the recipe into a new folder; check it in an old one."""
    expected = {"version": VERSION, **asdict(recipe)}
    file = out / RECIPE
    if out.exists() and not out.is_dir():
        raise UserError(f"--out is {out}: it must be a folder, and it is a file")
    if file.exists():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            raise UserError(f"{file} is not a recipe of this command: use a new folder") from None
        if found != expected:
            known = found if isinstance(found, dict) else {}
            differ = [key for key, value in expected.items() if known.get(key) != value]
            raise UserError(
                f"--out is {out}: it holds pictures with another {', '.join(differ)}; "
                "use a new folder or the same settings"
            )
        return
    if out.exists() and any(out.iterdir()):
        raise UserError(f"--out is {out}: it holds files that this command did not write")
    write_json(file, expected)


def _write_manifest(
    out: Path, pictures: list[Picture], recipe: Recipe, digests: dict[str, str]
) -> None:
    """Write a row per picture: what it shows, its seeds, its sha256."""
    rows = [
        {
            "path": p.path,
            **asdict(p),
            "seeds": p.seeds(recipe),
            **asdict(recipe),
            "sha256": digests[p.path],
        }
        for p in pictures
    ]
    with atomic_write(out / MANIFEST) as file:
        pa.parquet.write_table(pa.Table.from_pylist(rows), file)
