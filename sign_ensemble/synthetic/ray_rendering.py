"""Rendering on a Ray cluster; only the caller's process writes files."""

from __future__ import annotations

from collections.abc import Iterator

import ray

from sign_ensemble.synthetic.picture_set import Picture, Recipe, rendered

PICTURES_PER_TASK = 8  # a second or two of work


def _render_some(pictures: list[Picture], recipe: Recipe) -> list[bytes]:
    return list(rendered(pictures, recipe))


def render_on_cluster(
    pictures: list[Picture], recipe: Recipe, workers: int | None
) -> Iterator[tuple[Picture, bytes]]:
    """Each picture with its JPEG file, in the order of completion.

    ``workers`` pictures are rendered at once; None is one per CPU of the cluster.
    """
    task = ray.remote(num_cpus=1)(_render_some)
    limit = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting = [
        pictures[i : i + PICTURES_PER_TASK] for i in range(0, len(pictures), PICTURES_PER_TASK)
    ][::-1]
    running: dict[ray.ObjectRef, list[Picture]] = {}
    while waiting or running:
        while waiting and len(running) < limit:
            part = waiting.pop()
            running[task.remote(part, recipe)] = part
        done, _ = ray.wait(list(running))
        for reference in done:
            part = running.pop(reference)
            yield from zip(part, ray.get(reference), strict=True)
