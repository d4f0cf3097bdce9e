"""Pictures rendered over a Ray cluster; the caller's process alone writes files."""

from __future__ import annotations

from collections.abc import Iterator

import ray

from sign_ensemble.synthetic.picture_set import Picture, Recipe, rendered

AT_ONCE = 8  # pictures of one task: a second or two of work


def _some(pictures: list[Picture], recipe: Recipe) -> list[bytes]:
    return list(rendered(pictures, recipe))


def render_on_cluster(
    pictures: list[Picture], recipe: Recipe, workers: int | None
) -> Iterator[tuple[Picture, bytes]]:
    """Each picture with its JPEG file, in the order in which they are done.

    Args:
        pictures: What to render.
        recipe: How.
        workers: Pictures at once; None is one per CPU of the cluster.
    """
    task = ray.remote(num_cpus=1)(_some)
    limit = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting = [pictures[i : i + AT_ONCE] for i in range(0, len(pictures), AT_ONCE)][::-1]
    running: dict[ray.ObjectRef, list[Picture]] = {}
    while waiting or running:
        while waiting and len(running) < limit:
            some = waiting.pop()
            running[task.remote(some, recipe)] = some
        done, _ = ray.wait(list(running))
        for reference in done:
            some = running.pop(reference)
            yield from zip(some, ray.get(reference), strict=True)
