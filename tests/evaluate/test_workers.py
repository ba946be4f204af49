"""Real Ray actors, really killed; what they ask is a server over a real network, and once the real vLLM."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import ray
from aiohttp import web
from omegaconf import OmegaConf
from ray.exceptions import RayError

from verl_socio.evaluate.fingerprint import Fingerprint, set_up
from verl_socio.evaluate.launch import launch
from verl_socio.evaluate.station import Evaluation
from verl_socio.segment.sam2_segmenter import DeviceError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TIMES = ("generate_at", "generate_s", "segment_at", "segment_s")


@pytest.fixture(scope="module")
def cluster():
    ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, object_store_memory=150_000_000)
    yield
    ray.shutdown()


def rows_of(folder):
    """The rows of an evaluation by id, without what a clock says."""
    rows = {}
    for line in (folder / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        del row["seconds"], row["started"]
        for stage in row["stages"]:
            for name in TIMES:
                del stage[name]
        rows[row["id"]] = row
    return rows


def pictures_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in (folder / "pictures").rglob("*.jpg")}


@pytest.fixture
def data(tmp_path, write_sample):
    for split, count in (("val", 2), ("test", 5)):
        for number in range(count):
            write_sample(tmp_path / "data", f"{split}_{number}", split, question=f"Place {number}")
    return tmp_path / "data"


@pytest.fixture
def words(tiny_model, data, tmp_path):
    """The command but for the server."""
    return [
        f"model={tiny_model}", f"data={data}", f"output_root={tmp_path}", "segmenter.weights=boxes", "pictures=1",
        "ray.num_cpus=0.5",
    ]  # fmt: skip


def place_of(request):
    """The number in the question."""
    return int(re.search(r"Place (\d)", request["messages"][0]["content"][-1]["text"])[1])


@pytest.fixture
def answered(answer, completion):
    """The response that names a box of the place's own."""
    return lambda place: web.json_response(completion(answer([[place, 1, place + 20, 30]])))


def test_a_slow_worker_holds_up_nobody_and_rows_and_pictures_are_those_of_one(
    cluster, words, server, answered, tiny_model, tmp_path
):
    others = asyncio.Event()
    finished = []

    async def slow(running, request):
        place = place_of(running.requests[-1])
        waits = running.started_with_two and place == 0
        if waits and len(running.requests) > 2 * 2:
            # The first sample of `test` is answered only after all others, which is both stages of four.
            await others.wait()
        finished.append(place)
        if len(finished) >= 2 * 2 + 2 * 4:
            others.set()
        return answered(place)

    running = server(slow)
    running.started_with_two = True
    launch([*words, "name=two", "split=[val,test]", f"host={running.url}", "workers=2", "concurrency=1"], dry_run=False)
    assert finished[-2:] == [0, 0]
    running.started_with_two = False
    launch([*words, "name=one", "split=[val,test]", f"host={running.url}"], dry_run=False)
    assert len(running.requests) == 2 * 2 * 7
    folder = tmp_path / tiny_model.name / "eval"
    for split, count in (("val", 2), ("test", 5)):
        two, one = folder / f"two-{split}", folder / f"one-{split}"
        assert rows_of(two) == rows_of(one) and len(rows_of(two)) == count
        assert pictures_of(two) == pictures_of(one) and len(pictures_of(two)) == count + 1
        marks = [json.loads((each / "fingerprint.json").read_text()) for each in (two, one)]
        assert marks[0]["sha256"] == marks[1]["sha256"]
    assert ray.is_initialized(), "a cluster that was there goes on"


def test_a_worker_that_dies_names_what_it_had_in_hand_and_the_evaluation_goes_on(
    cluster, words, server, answered, tiny_model, tmp_path
):
    killed, over = [], asyncio.Event()

    async def deadly(running, request):
        place = place_of(running.requests[-1])
        # Two samples at most are done, one is left to be taken, and so each worker has some in hand.
        if len(running.requests) > 2 * 2:
            if not killed:
                mine = {each.pid for each in psutil.Process().children(recursive=True)}
                stations = [
                    each for each in psutil.process_iter(["cmdline"]) if "_Station" in str(each.info["cmdline"])
                ]
                [station, *_] = [each for each in stations if each.pid in mine]
                killed.append(station.pid)
                station.kill()
            await over.wait()
        return answered(place)

    running = server(deadly)
    command = [*words, "name=killed", "concurrency=2"]
    with pytest.raises(
        RuntimeError, match=r"worker \d .* died with \d samples in hand .*Finished samples are kept"
    ) as error:
        launch([*command, f"host={running.url}", "workers=2"], dry_run=False)
    running.loop.call_soon_threadsafe(over.set)
    assert f"process {killed[0]} on" in str(error.value)
    folder = tmp_path / tiny_model.name / "eval" / "killed"
    kept = rows_of(folder)
    lost = str(error.value).partition("in hand (")[2].partition(")")[0].split(", ")
    assert len(kept) < 5 and set(lost) <= {f"test_{number}" for number in range(5)} - set(kept)
    healthy = server(lambda running, request: answered(place_of(running.requests[-1])))
    # Another address is another server: the identity's only difference is put right, as a restart on the same port.
    mark = folder / "fingerprint.json"
    mark.write_text(mark.read_text().replace(running.url, healthy.url))
    launch([*command, f"host={healthy.url}"], dry_run=False)
    assert len(rows_of(folder)) == 5 and len(healthy.requests) == 2 * (5 - len(kept))


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (ValueError("x = 1: must be 2. Fix: set it"), (ValueError, "^x = 1: must be 2. Fix: set it$")),
        (OSError("no room"), (OSError, "^no room$")),
        (RuntimeError("the engine is dead"), (RuntimeError, "worker 0: RuntimeError: the engine is dead. Finished")),
        (
            DeviceError("x.png", "the GPU is gone"),
            (RuntimeError, "worker 0: DeviceError: .*x.png failed: the GPU is go"),
        ),
        (None, (RuntimeError, r"worker 0 died with 25 samples in hand \(s0, .*, s19 and 5 more\): .*Finished samples")),
    ],
)
def test_what_a_worker_raises_is_told_without_the_way_it_came(cluster, raised, told):
    from verl_socio.evaluate.workers import _Worker

    def fail(self, error):
        import os

        if error is None:
            os._exit(1)
        raise error

    actor = ray.remote(num_cpus=0.25)(type("Raising", (), {"fail": fail})).remote()
    worker = _Worker("worker 0", actor)
    worker._in_hand = [f"s{number}" for number in range(25)]
    with pytest.raises(told[0], match=told[1]) as error:
        asyncio.run(worker.ask(actor.fail.remote(raised)))
    assert not isinstance(error.value, RayError)


@pytest.mark.parametrize("wrong", ["versions.numpy", "device", "code"])
def test_a_machine_that_is_set_up_in_another_way_is_told(cluster, tiny_model, recipe, tmp_path, wrong):
    from verl_socio.evaluate.workers import _Held, _Station

    identity = set_up()
    part, _, name = wrong.partition(".")
    identity[part] = {**identity[part], name: "0"} if name else "another"
    each = Evaluation(OmegaConf.create({}), "", recipe, [], None, tmp_path, Fingerprint(identity, {}))
    station = _Station("worker 1", [(each, _Held(tmp_path, 0, 0))], tiny_model)
    with pytest.raises(ValueError, match=rf"workers = 'worker 1': must all be set up alike, but {wrong} is .*Fix:"):
        asyncio.run(station.open(ray.get_runtime_context().get_node_id()))
    gone = _Station("worker 1", [(each, _Held(tmp_path, 0, 0))], tmp_path / "gone")
    with pytest.raises(ValueError, match=r"model = .*gone'.*must be a folder that all machines see.*Fix:"):
        asyncio.run(gone.open(""))


def test_one_s_own_cluster_ends_and_leaves_its_logs(tmp_path):
    code = """
import sys, ray
from pathlib import Path
from verl_socio.cluster import connected, logs_of_session
with connected(None, Path(sys.argv[1])):
    assert ray.get(ray.remote(num_cpus=0)(lambda: 2).remote()) == 2
    print(logs_of_session())
assert not ray.is_initialized()
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "logs")], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "logs").glob("raylet*")) and not Path(done.stdout.strip()).parent.exists()


def test_two_workers_with_the_embedded_models_come_to_the_rows_of_one(cluster, tmp_path):
    words = ["model=embedded", "data=embedded", "max_samples=8", f"output_root={tmp_path}", "pictures=0"]
    launch([*words, "name=two", "workers=2", "ray.num_cpus=0.5"], dry_run=False)
    launch([*words, "name=one"], dry_run=False)
    [folder] = tmp_path.glob("*/eval")
    two, one = rows_of(folder / "two"), rows_of(folder / "one")
    assert len(two) == 8 and any(row["stages"][-1]["score"]["predicted"] > 0 for row in two.values())
    for name, row in one.items():
        for ours, theirs in zip(two[name]["stages"], row["stages"], strict=True):
            # The last digits depend on how many threads a sum is spread over.
            assert ours.pop("predicted_iou") == pytest.approx(theirs.pop("predicted_iou"), abs=1e-5)
    assert two == one
