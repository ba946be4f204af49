"""The product as a user starts it, from a shell: train, be killed, go on, merge, evaluate."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ROOT = Path(__file__).parents[2]
FIGURE = ROOT / "tests" / "fixtures" / "socioseg_figure"
STEPS = 4
# Seconds that a command has to end what it has started.
CLOSING_S = 60


def plain_environment() -> dict[str, str]:
    """A shell in which nothing is activated."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR") if name in os.environ}
    path = [folder for folder in os.environ["PATH"].split(":") if not folder.startswith(str(ROOT))]
    return {**kept, "PATH": ":".join(path), "COLUMNS": "200"}


def begin(*words: str, log: Path) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, its output in a file."""
    with log.open("w") as file:
        return subprocess.Popen(
            words, cwd=log.parent, env=plain_environment(), stdout=file, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip


def end(process: subprocess.Popen[str]) -> None:
    """End a command that still runs, as where the test's time is over, with all that it has started."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(CLOSING_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def finish(*words: str, log: Path) -> str:
    """Run a command to its end; it must succeed."""
    process = begin(*words, log=log)
    try:
        code = process.wait()
    finally:
        end(process)
    assert code == 0, log.read_text()
    return log.read_text()


def questions_of_steps(run: Path) -> dict[int, set[str]]:
    """The ids of the samples of each step."""
    steps = {}
    for path in (run / "rollouts").glob("step_*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        steps[int(path.stem.removeprefix("step_"))] = {row["id"] for row in rows}
    return steps


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("outputs")


@pytest.fixture(scope="module")
def training(outputs: Path) -> list[str]:
    """The command of the README, made short. It is started from a folder that is not the clone."""
    return [
        "bash",
        str(ROOT / "training_scripts" / "run_qwen2_5_3b_socioseg.sh"),
        "run=product",
        f"output_root={outputs}",
        "data.train_batch_size=4",
        "actor_rollout_ref.rollout.n=4",
        "data.val_max_samples=4",
        "data.max_response_length=64",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=1",
        "trainer.test_freq=4",
        "trainer.picture_freq=1",
        "trainer.min_agreement=0.9999",
    ]


@pytest.fixture(scope="module")
def killed_at(training: list[str], outputs: Path) -> int:
    """The step after which the first start was killed, without a chance to tidy up."""
    checkpoints = outputs / "product" / "checkpoints"
    process = begin(*training, log=outputs / "first.log")
    try:
        while not (checkpoints / "global_step_2" / "complete.json").exists():
            assert process.poll() is None, (outputs / "first.log").read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    finally:
        end(process)
    return max(int(path.name.removeprefix("global_step_")) for path in checkpoints.glob("global_step_*"))


@pytest.fixture(scope="module")
def trained(training: list[str], killed_at: int, outputs: Path) -> Path:
    """The run after the same command was given again."""
    # A checkpoint that was being written when the process was killed: it must not be taken for a whole one.
    half = outputs / "product" / "checkpoints" / f"global_step_{STEPS}" / "actor"
    if killed_at < STEPS:
        half.mkdir(parents=True)
        (half / "model_world_size_1_rank_0.pt").write_bytes(b"half of it")
    said = finish(*training, log=outputs / "second.log")
    assert "from step " in said
    return outputs / "product"


def test_a_killed_run_goes_on_with_the_same_data_order(trained: Path, killed_at: int) -> None:
    from verl.trainer.ppo.utils import create_rl_sampler

    from verl_socio.data import load_samples
    from verl_socio.train.prepare import embedded_city
    from verl_socio.train.settings import resolve

    seen = questions_of_steps(trained)
    # The step that the kill followed may have been saved and not yet written down.
    assert {1, STEPS - 1, STEPS} <= seen.keys() <= set(range(1, STEPS + 1))
    samples = load_samples(str(embedded_city(trained.parent)), "train")
    order = [samples[index].id for index in create_rl_sampler(resolve("embedded", ["run=product"]).data, samples)]
    assert seen == {step: set(order[4 * step - 4 : 4 * step]) for step in seen}


def test_every_step_agrees_and_encodes_each_image_once(trained: Path) -> None:
    entries = [
        json.loads(line) for path in (trained / "metrics").glob("*.jsonl") for line in path.read_text().splitlines()
    ]
    steps = [entry["data"] for entry in entries if "localise/agreement/pearson" in entry["data"]]
    assert len(steps) >= STEPS - 1
    for data in steps:
        for stage in ("localise", "refine"):
            assert data[f"{stage}/agreement/pearson"] >= 0.9999
            assert data[f"{stage}/agreement/mean_diff"] <= 1e-3
        # 4 rollouts of two stages ask for masks of each of the 4 images; each image is encoded for the first of them.
        assert data["segmenter/requests"] > 4
        assert data["segmenter/encodes_per_image"] <= 1


def test_a_run_leaves_its_pictures_settings_and_logs(trained: Path) -> None:
    assert (trained / "config.yaml").is_file()
    assert (trained / "pictures" / "step_1.png").stat().st_size > 10_000
    assert list((trained / "tensorboard").rglob("events*"))
    assert list((trained / "logs").glob("*/driver.log"))


def test_a_finished_run_has_nothing_to_do(trained: Path, training: list[str], outputs: Path) -> None:
    assert "nothing to do" in finish(*training, log=outputs / "third.log")


def test_the_newest_checkpoint_merges_and_evaluates(trained: Path, outputs: Path) -> None:
    merger = str(ROOT / "training_scripts" / "model_merger.py")
    said = finish("python3", merger, "--local_dir", str(trained), log=outputs / "merge.log")
    merged = trained / "merged" / f"global_step_{STEPS}"
    assert (merged / "config.json").is_file(), said
    evaluation = str(ROOT / "evaluation" / "eval_socioseg.sh")
    words = [f"model={merged}", f"data={FIGURE}", "split=test", f"output_root={outputs}"]
    said = finish("bash", evaluation, *words, log=outputs / "evaluate.log")
    assert "cIoU" in said and "F1" in said
