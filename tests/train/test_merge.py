"""Checkpoints that verl's FSDP2 wrote become Hugging Face folders with the same weights."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

import verl_socio.embedded  # noqa: F401  transformers' classes load after this only, where torch is the CPU build
from verl_socio.train import merge as merging
from verl_socio.train.merge import REPORT, TOLERANCE, merge
from verl_socio.train.shards import open_checkpoint

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "training_scripts" / "model_merger.py"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
KINDS = ("full1", "full2", "lora1", "lora2")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    script = Path(__file__).with_name("write_checkpoints.py")
    result = subprocess.run(
        [sys.executable, str(script), str(folder)], env=ENVIRONMENT, capture_output=True, text=True, timeout=110
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return folder


@pytest.fixture
def runs(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "outputs", ignore=shutil.ignore_patterns("rendezvous*"))


def actor_of(runs: Path, kind: str) -> Path:
    return runs / kind / "checkpoints" / "global_step_3" / "actor"


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_weights_are_those_that_were_sharded(runs: Path, kind: str, tmp_path: Path) -> None:
    target = merge(actor_of(runs, kind), tmp_path / "merged")
    loaded = transformers.AutoModelForImageTextToText.from_pretrained(target)
    if kind.startswith("full"):
        base = transformers.AutoModelForImageTextToText.from_pretrained(runs / "model")
        expected = {name: value.bfloat16() for name, value in base.state_dict().items()}
        tolerance = {"rtol": 0.0, "atol": 0.0}
    else:
        expected = torch.load(runs / "merged.pt")
        # verl's merger rounds base and adapter to bfloat16 before they are added, and the sum is rounded again.
        tolerance = {"rtol": 2**-7, "atol": 2e-3}
    assert loaded.dtype == torch.bfloat16
    assert loaded.state_dict().keys() == expected.keys()
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(
            value.float(), expected[name].float(), **tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )
    report = json.loads((target / REPORT).read_text())
    assert report["max_abs_difference"] <= 1e-6
    assert report["tokens"] > 50 + 20  # two images of 25 tokens and the text
    assert report["world_size"] == int(kind[-1])
    assert (report["lora"] is not None) == kind.startswith("lora")


def test_the_folder_is_complete_and_has_its_default_name(runs: Path) -> None:
    target = merge(runs / "full2")
    assert target == (runs / "full2" / "merged" / "global_step_3").resolve()
    assert [path.name for path in target.parent.iterdir()] == ["global_step_3"], "nothing temporary stays behind"
    own = actor_of(runs, "full2") / "huggingface"
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json", "chat_template.jinja"):
        assert (target / name).read_bytes() == (own / name).read_bytes()
    assert transformers.AutoProcessor.from_pretrained(target).tokenizer.eos_token == "<|im_end|>"
    assert transformers.GenerationConfig.from_pretrained(target).eos_token_id is not None
    before = (target / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match=r"target_dir = .*must not exist.*Fix: delete it"):
        merge(runs / "full2")
    assert (target / "model.safetensors").read_bytes() == before


def test_the_newest_checkpoint_below_outputs_is_the_default(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs.parent)
    os.utime(runs / "full1" / "checkpoints" / "global_step_3", (4e9, 4e9))
    assert merge() == (runs / "full1" / "merged" / "global_step_3").resolve()
    with pytest.raises(ValueError, match=r"merged/global_step_3'.*must not exist"):
        merge()  # a merged folder is not taken for a checkpoint


def test_a_lost_adapter_and_a_wrong_weight_exceed_the_tolerance(runs: Path, tmp_path: Path) -> None:
    from verl_socio.train.merge_check import compare

    base = merge(actor_of(runs, "full1"), tmp_path / "base")  # what the LoRA checkpoints were trained from
    assert compare(open_checkpoint(actor_of(runs, "full1")), base)[1] <= TOLERANCE
    assert compare(open_checkpoint(actor_of(runs, "lora2")), base)[1] > 10 * TOLERANCE
    meta = actor_of(runs, "lora1") / "lora_train_meta.json"
    merged = merge(actor_of(runs, "lora1"), tmp_path / "lora")
    meta.write_text(json.dumps({"r": 4, "lora_alpha": 7}))
    assert compare(open_checkpoint(actor_of(runs, "lora1")), merged)[1] > 10 * TOLERANCE


def test_a_model_that_does_not_agree_is_not_kept(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "TOLERANCE", -1.0)
    target = tmp_path / "place" / "merged"
    with pytest.raises(RuntimeError, match=r"log-probs differ by 0.00e\+00"):
        merge(actor_of(runs, "full1"), target)
    assert list(target.parent.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(runs: Path, tmp_path: Path) -> None:
    # A limit on the size of a file stands for the disk: the write of the weights fails half way.
    code = (
        "import resource, signal, sys; from pathlib import Path; from verl_socio.train.merge import merge\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))\n"
        "merge(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    target = tmp_path / "place" / "merged"
    arguments = [str(actor_of(runs, "full1")), str(target)]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=110
    )
    assert result.returncode != 0
    assert "File too large" in result.stderr
    assert list(target.parent.iterdir()) == []


def test_an_adapter_of_unknown_scale_is_refused(runs: Path) -> None:
    (actor_of(runs, "lora1") / "lora_train_meta.json").unlink()
    with pytest.raises(ValueError, match=r"lora_train_meta.json'.*its scale is unknown.*Fix: write"):
        merge(actor_of(runs, "lora1"))


def test_an_adapter_without_its_base_is_refused(runs: Path) -> None:
    shard = actor_of(runs, "lora1") / "model_world_size_1_rank_0.pt"
    weights = torch.load(shard, weights_only=False)
    torch.save({name: value for name, value in weights.items() if "lora_" in name}, shard)
    with pytest.raises(ValueError, match=r"the LoRA adapter alone.*Fix: train with save_lora_only=False"):
        merge(actor_of(runs, "lora1"))


def test_the_script_merges_or_says_in_one_line_why_not(runs: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), *arguments]
        return subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=110)

    # A relative path is meant from where the script was started.
    done = run("--local_dir", "outputs/lora2/checkpoints/global_step_3", "--target_dir", "merged")
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Wrote {tmp_path / 'merged'}" in done.stderr
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    (actor_of(runs, "full2") / "model_world_size_2_rank_1.pt").unlink()
    refused = run("--local_dir", str(actor_of(runs, "full2")))
    assert refused.returncode == 1
    assert "rank 1 is missing. Fix:" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_script_sets_up_and_enters_the_projects_environment(tmp_path: Path) -> None:
    scripts = tmp_path / "clone" / "training_scripts"
    scripts.mkdir(parents=True)
    shutil.copy(SCRIPT, scripts)
    shutil.copy(SCRIPT.with_name("environment.py"), scripts)
    # Set-up makes an environment whose python tells what it was asked to run.
    (scripts / "setup.sh").write_text(
        'cd "$(dirname "$0")/.." && mkdir -p .venv/bin\n'
        "printf '#!/bin/sh\\necho \"entered: $@\"\\n' > .venv/bin/python && chmod +x .venv/bin/python\n"
    )
    script = scripts / "model_merger.py"
    command = [sys.executable, str(script), "--local_dir", "a b", "--target_dir", "c"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert result.stdout == f"entered: {script} --local_dir a b --target_dir c\n"
    usage = subprocess.run([sys.executable, str(script), "--help"], capture_output=True, text=True, timeout=60)
    assert "--target_dir" in usage.stdout
