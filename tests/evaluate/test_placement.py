import pytest

from verl_socio.evaluate.launch import launch
from verl_socio.evaluate.placement import Placement, check_room, placement_of
from verl_socio.evaluate.settings import resolve


def node(gpus, cpus=64.0):
    return {"GPU": float(gpus), "CPU": float(cpus), "memory": 1e9}


@pytest.mark.parametrize(
    ("workers", "gpus", "cpus", "nodes"),
    [
        (8, 1, 1, [node(8)]),
        (4, 2, 1, [node(8)]),
        (3, 2, 1, [node(4), node(3)]),
        (20, 0.1, 1, [node(2)]),
        (2, 0, 1, [node(0, 2)]),
        (100, 0, 0, []),
    ],
)
def test_as_many_workers_as_there_is_room_for(workers, gpus, cpus, nodes):
    check_room(workers, Placement(num_gpus=gpus, num_cpus=cpus), nodes)
    if gpus or cpus:
        with pytest.raises(ValueError, match=rf"workers = {workers + 1}: must fit: .*Fix: set workers={workers}"):
            check_room(workers + 1, Placement(num_gpus=gpus, num_cpus=cpus), nodes)


def test_a_worker_does_not_stretch_over_two_machines():
    with pytest.raises(
        ValueError, match=r"each takes 2 GPU and 1 CPU, and there are 1 GPU, 64 CPU; 1 GPU, 64 CPU.*Fix:"
    ):
        check_room(1, Placement(num_gpus=2), [node(1), node(1)])


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one of so many GPUs, as far as torch is asked."""

    def make(gpus):
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)

    return make


@pytest.mark.parametrize(
    ("gpus", "ranks", "each"), [(0, 1, 0), (0, 2, 0), (4, 1, 1), (4, 2, 2)]
)  # fmt: skip
def test_a_worker_takes_a_gpu_for_each_rank_of_its_engine(machine, gpus, ranks, each):
    machine(gpus)
    config = resolve(["model=embedded", "workers=2", f"vllm.tensor_parallel_size={ranks}"])
    assert placement_of(config).num_gpus == each


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["workers=5"], r"workers = 5: must fit: each takes 1 GPU and 1 CPU, and there are 4 GPU.*Fix: set workers=4"),
        (["workers=3", "vllm.tensor_parallel_size=2", "ray.num_cpus=0"], r"workers = 3.*Fix: set workers=2"),
        (["workers=0"], r"workers = 0: must be a whole number of 1 or more"),
        (["workers=many"], r"workers = 'many'"),
        (["workers=2", "ray.num_gpus=1", "vllm.tensor_parallel_size=2"], r"ray.num_gpus = 1: must be 2 or more"),
        (["workers=2", "ray.num_gpus=1.5"], r"ray.num_gpus = 1.5"),
        (["workers=2", "ray.num_gpus=most"], r"ray.num_gpus = 'most'"),
        (["workers=2", "ray.num_cpus=auto"], r"ray.num_cpus = 'auto'"),
        (["workers=2", "ray.timeout_s=0"], r"ray.timeout_s = 0"),
        (["workers=2", "ray.address=3"], r"ray.address = 3"),
        (["ray.address=auto"], r"ray.address = 'auto': is for two workers or more, but workers is 1"),
        (["workers=2", "+ray.actors=3"], r"ray.actors = 3: is not a known key"),
        (["workers=2", "segmenter.device=cuda:1"], r"segmenter.device = 'cuda:1'"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_starts(machine, tmp_path, monkeypatch, overrides, message):
    machine(4)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    words = ["model=some/model", "data=/nowhere", f"output_root={tmp_path}", "segmenter.weights=boxes", *overrides]
    with pytest.raises(ValueError, match=rf"{message}.*"):
        launch(words, dry_run=False)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_to_join_may_be_larger_than_this_machine(machine, tmp_path, monkeypatch):
    machine(1)
    words = ["model=some/model", "data=/nowhere", f"output_root={tmp_path}", "segmenter.weights=boxes", "workers=16"]
    with pytest.raises(ValueError, match="workers = 16"):
        launch(words, dry_run=False)
    for overrides in (["ray.address=head:6379"], []):
        monkeypatch.setenv("RAY_ADDRESS", "" if overrides else "head:6379")
        with pytest.raises(ValueError, match="/nowhere"):
            launch([*words, *overrides], dry_run=False)
