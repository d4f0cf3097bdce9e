"""Sharing a cluster among trainings, and a training among workers."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from sign_ensemble.core.atomic_files import read_arrays, write_arrays
from sign_ensemble.core.config import Config, FinetuneConfig, MemberConfig, ScaleConfig
from sign_ensemble.core.config_checks import check
from sign_ensemble.core.errors import UserError
from sign_ensemble.data import backbone
from sign_ensemble.data.row_cache import CachedArray
from sign_ensemble.learning import training_loop as loop
from sign_ensemble.learning.cluster_resources import resources_for
from sign_ensemble.learning.member import Card, Member, load, save
from sign_ensemble.learning.network import Head
from sign_ensemble.learning.task import PixelTask, Resources
from sign_ensemble.learning.train_runs import (
    NOWHERE,
    finetune_members,
    memory_mark,
    ray_environment,
    release_resources,
)
from sign_ensemble.learning.train_worker import Job

CPU = torch.device("cpu")
SIDE, N, WIDTHS = 64, 10, (6, 5)
SETTINGS = FinetuneConfig(
    layers="last", epochs=2, batch_size=4, learning_rate=1e-3, backbone_rate=1e-4
)
EIGHT_GPUS = {"CPU": 96.0, "GPU": 8.0}


# --- resources --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scale", "have", "members", "expected"),
    [
        (ScaleConfig(), {"CPU": 2.0}, 4, Resources(1, 1, 1, 2, 0)),
        (ScaleConfig(workers="2"), {"CPU": 2.0}, 4, Resources(1, 2, 2, 1, 0)),
        (ScaleConfig(workers="1:4"), {"CPU": 2.0}, 4, Resources(1, 1, 4, 1, 0)),
        (ScaleConfig(cpus_per_worker=1), {"CPU": 8.0}, 4, Resources(1, 1, 1, 1, 0)),
        (ScaleConfig(concurrent=2), {"CPU": 8.0}, 4, Resources(2, 1, 1, 4, 0)),
        (ScaleConfig(concurrent=9), {"CPU": 8.0}, 4, Resources(4, 1, 1, 2, 0)),
        (ScaleConfig(gpus_per_worker=1), EIGHT_GPUS, 5, Resources(5, 1, 1, 19, 1)),
        (ScaleConfig(), EIGHT_GPUS, 5, Resources(5, 1, 1, 19, 1)),
        (ScaleConfig(gpus_per_worker=0), EIGHT_GPUS, 5, Resources(1, 1, 1, 96, 0)),
        (ScaleConfig(workers="2"), {"CPU": 8.0, "GPU": 1.0}, 5, Resources(1, 2, 2, 4, 0.5)),
        (ScaleConfig(workers="1:4"), {"CPU": 8.0, "GPU": 1.0}, 5, Resources(1, 1, 4, 2, 1)),
        (ScaleConfig(gpus_per_worker=1, workers="4"), EIGHT_GPUS, 5, Resources(2, 4, 4, 12, 1)),
        (ScaleConfig(gpus_per_worker=0.5), {"CPU": 8.0, "GPU": 1.0}, 5, Resources(2, 1, 1, 4, 0.5)),
        (ScaleConfig(gpus_per_worker=1, workers="2:16"), EIGHT_GPUS, 5, Resources(1, 2, 16, 6, 1)),
    ],
)
def test_a_cluster_is_shared(
    scale: ScaleConfig, have: dict[str, float], members: int, expected: Resources
) -> None:
    assert resources_for(scale, have, members) == expected


def test_a_worker_asks_for_no_more_than_a_node_has() -> None:
    two_nodes = {"CPU": 2.0}
    assert resources_for(ScaleConfig(), two_nodes, 4, largest=1) == Resources(1, 1, 1, 1, 0)
    with pytest.raises(UserError, match="cpus_per_worker is 2: no node has more than 1 CPUs"):
        resources_for(ScaleConfig(cpus_per_worker=2), two_nodes, 4, largest=1)


@pytest.mark.parametrize(
    ("scale", "have", "message"),
    [
        (
            ScaleConfig(workers="4"),
            {"CPU": 2.0},
            "the cluster has 2 CPUs, these need 4; give fewer",
        ),
        (ScaleConfig(workers="3:9", cpus_per_worker=2), {"CPU": 4.0}, "has 4 CPUs, these need 6"),
        (ScaleConfig(gpus_per_worker=1), {"CPU": 2.0}, "has 0 GPUs; 0 trains on CPUs"),
        (ScaleConfig(gpus_per_worker=0.5, workers="3"), {"CPU": 8.0, "GPU": 1.0}, "has 1 GPUs"),
    ],
)
def test_more_than_the_cluster_holds_is_refused(
    scale: ScaleConfig, have: dict[str, float], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        resources_for(scale, have, 5)


@pytest.mark.parametrize(
    ("text", "expected"), [("1", (1, 1)), ("8", (8, 8)), ("1:4", (1, 4)), ("3:3", (3, 3))]
)
def test_workers_are_one_number_or_two(text: str, expected: tuple[int, int]) -> None:
    assert ScaleConfig(workers=text).least_and_most == expected


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "4:1", "1:2:3", "0:4", "1.5", ":4", "1:"])
def test_other_workers_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"scale\.workers is .* a number from 1, or two, like 1:4"):
        check(Config(scale=ScaleConfig(workers=text)))


# --- one worker and several -----------------------------------------------------------------------


def pixel_task(folder: Path) -> PixelTask:
    """Ten random images of two labels in two folds."""
    images = np.random.default_rng(0).integers(0, 256, (N, SIDE, SIDE, 3), np.uint8)
    images.tofile(folder / "pixels.u8")
    pixels = CachedArray(str(folder / "pixels.u8"), np.arange(N), (SIDE, SIDE, 3), "uint8")
    keys = tuple(f"sha-{i}" for i in range(N))
    labels_N = np.arange(N) % 2
    return PixelTask(pixels, keys, labels_N, (np.arange(N) > 7).astype(np.int64), False, "shipped")


def head() -> Member:
    torch.manual_seed(0)
    card = Card(
        ("a", "b"), MemberConfig(widths=WIDTHS), 7, 0, 1, 1, 0.0,
        {"size": SIDE, "fit": "pad", "weights": "shipped"}, "m",
    )  # fmt: skip
    net = Head(backbone.HEAD_FEATURES, WIDTHS, 2, 0.5)
    return Member(card, {name: value.numpy() for name, value in net.state_dict().items()})


def jobs(folder: Path, settings: FinetuneConfig = SETTINGS) -> list[Job]:
    """Two members, one per fold."""
    folder.mkdir()
    found = []
    for fold in (0, 1):
        card = replace(head().card, fold=fold)
        save(Member(card, head().tensors), folder / f"head-{fold}.safetensors")
        tuned = replace(card, finetune=settings)
        paths = str(folder / f"member-{fold}.safetensors"), str(folder / f"head-{fold}.safetensors")
        found.append(Job(tuned, *paths))
    return found


def alone_or_shared(rank: int, workers: int, folder: Path) -> None:
    """Train in float32 as one of several workers that meet over a file; rank 0 saves."""
    from sign_ensemble.learning.finetuning import (
        PixelBatches,
        finetuning_schedule,
        network_of,
        optimizer_of,
    )

    torch.set_num_threads(1)
    vars(loop)["bf16_is_fast"] = lambda device: False
    distributed.init_process_group(
        "gloo", f"file://{folder}/meet-{workers}", rank=rank, world_size=workers
    )
    net = network_of(head(), SETTINGS, "shipped")
    task = pixel_task(folder) if rank == 0 else None
    distributed.barrier()
    task = task or PixelTask(
        CachedArray(str(folder / "pixels.u8"), np.arange(N), (SIDE, SIDE, 3), "uint8"),
        tuple(f"sha-{i}" for i in range(N)),
        np.arange(N) % 2, np.zeros(N, np.int64), False, "shipped",
    )  # fmt: skip
    given = PixelBatches(task, np.arange(N), SETTINGS, 3, WIDTHS, 0.5, 7, rank, workers, CPU)
    shared = DistributedDataParallel(net) if workers > 1 else net
    fitted = loop.fit(
        shared, given, finetuning_schedule(SETTINGS, 0.1), optimizer_of(net, SETTINGS), CPU
    )
    if rank == 0:
        values = {name: value.numpy() for name, value in net.learned().items()}
        write_arrays(
            folder / f"{workers}.safetensors", {**values, "losses": np.array(fitted.losses)}
        )
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.timeout(240)
def test_one_worker_and_three_give_the_same_weights(tmp_path: Path) -> None:
    """In float32, with a last batch of two images for three workers."""
    for workers in (1, 3):
        torch.multiprocessing.spawn(alone_or_shared, (workers, tmp_path), workers)  # type: ignore[attr-defined]  # no stubs
    one, three = (read_arrays(tmp_path / f"{workers}.safetensors")[0] for workers in (1, 3))
    begin = {**head().tensors, **{k: v.numpy() for k, v in shipped().items()}}
    for name in one:
        assert np.allclose(one[name], three[name], rtol=1e-3, atol=1e-6), name
        if name != "losses":
            assert not np.allclose(one[name], begin[name], rtol=1e-3, atol=1e-6), name


def shipped() -> dict[str, torch.Tensor]:
    return dict(backbone.load("shipped").layers.state_dict())


# --- Ray Train ------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("ray_two_cpus")
def test_a_dead_training_s_resources_are_released_and_no_others() -> None:
    def group(training: str) -> PlacementGroup:
        return placement_group([{"CPU": 0.1, "memory": memory_mark(training)}])

    dead, other = group("one/train/training-0"), group("one/train/training-1")
    ray.get([dead.ready(), other.ready()])
    release_resources("one/train/training-0")
    states = {number: row["state"] for number, row in placement_group_table().items()}
    assert states[dead.id.hex()] == "REMOVED"
    assert states[other.id.hex()] == "CREATED"
    release_resources("one/train/training-1")
    release_resources("one/train/training-1")  # again without an error


OF_A_NODE: dict[str, Any] = {
    "node_ip": "192.0.2.1", "is_head_node": True, "state": "ALIVE", "state_message": None,
    "node_name": "one", "resources_total": {}, "labels": {},
}  # fmt: skip


@contextmanager
def dashboard_of(nodes: Sequence[str]) -> Iterator[None]:
    """A dashboard of a Ray with these nodes, where this Ray says that it has its own."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            rows = [{"node_id": node, **OF_A_NODE} for node in nodes if node in self.path]
            counts = {"total": len(rows), "num_after_truncation": len(rows), "num_filtered": 0}
            data = {"result": counts | {"result": rows}}
            body = json.dumps({"result": True, "msg": "", "data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    key, space = b"dashboard", b"dashboard"
    before = _internal_kv_get(key, namespace=space)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        here = f"127.0.0.1:{server.server_port}".encode()
        try:
            _internal_kv_put(key, here, namespace=space)
            yield
        finally:
            _internal_kv_put(key, before, namespace=space)
            server.shutdown()


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("ray_two_cpus")
def test_trainings_find_the_dashboard_of_their_own_ray() -> None:
    """A Ray without a dashboard names the usual port all the same; another may answer there, and
    Ray Train would end a training that it does not find.
    """
    context = ray.get_runtime_context()
    address = context.gcs_address
    own = {"RAY_ADDRESS": address}
    ray_environment.cache_clear()
    with dashboard_of(["another"]):
        assert ray_environment(address) == own | {"RAY_API_SERVER_ADDRESS": NOWHERE}
    assert ray_environment(address)["RAY_API_SERVER_ADDRESS"] == NOWHERE  # cached
    ray_environment.cache_clear()
    with dashboard_of(["another", context.get_node_id()]):
        assert ray_environment(address) == own
    ray_environment.cache_clear()


@pytest.mark.usefixtures("ray_two_cpus")
def test_members_are_fine_tuned_and_finished_ones_are_kept(tmp_path: Path) -> None:
    task = pixel_task(tmp_path)
    given = jobs(tmp_path / "members")
    seen: list[tuple[int, int]] = []
    hashes = finetune_members(
        given, task, tmp_path / "train", ScaleConfig(), lambda done, of: seen.append((done, of))
    )
    assert seen[0] == (0, 4)
    assert seen[-1] == (4, 4)
    assert sorted(done for done, _ in seen) == [done for done, _ in seen]
    for job, sha256 in zip(given, hashes, strict=True):
        member = load(Path(job.path), sha256)
        assert member.card == job.card
        assert set(member.card.learned) <= set(member.tensors)
        weights = member.tensors["features.10.weight"]
        assert not np.array_equal(weights, shipped()["features.10.weight"].numpy())

    Path(given[1].path).unlink()  # one of them is lost, and made again the same
    before = Path(given[0].path).stat().st_mtime_ns
    again = finetune_members(
        given, task, tmp_path / "train-2", ScaleConfig(), lambda done, of: seen.append((done, of))
    )
    assert again == hashes
    assert (2, 4) in seen
    assert Path(given[0].path).stat().st_mtime_ns == before


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("ray_two_cpus")
def test_a_failed_training_is_reported_in_one_line(tmp_path: Path) -> None:
    diverging = replace(SETTINGS, learning_rate=1e30, clip=1e30)
    given = jobs(tmp_path / "members", diverging)
    scale = ScaleConfig(max_failures=0)

    def ignore(done: int, of: int) -> None:
        pass

    with pytest.raises(
        UserError, match=r"fine-tuning failed: .*diverged: the loss is nan"
    ) as error:
        finetune_members(given, pixel_task(tmp_path), tmp_path / "train", scale, ignore)
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "members").glob("member-*"))
