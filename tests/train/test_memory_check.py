"""What a person is told of a run's memory, on GPUs that are made up."""

import re
from types import SimpleNamespace

import pytest

from verl_socio.train import memory_check
from verl_socio.train.launch import launch
from verl_socio.train.memory_check import check_memory, report
from verl_socio.train.settings import resolve

RL, SFT = "qwen2_5_vl_3b_socioseg", "sft_qwen2_5_vl_3b_socioseg"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch):
    def have(*sizes_gb: float) -> None:
        """A machine with such GPUs, and all that `check_ranks` looks for beside them."""
        sizes = [SimpleNamespace(total_memory=int(size * 1e9)) for size in sizes_gb]
        monkeypatch.setattr("torch.cuda.is_available", lambda: bool(sizes))
        monkeypatch.setattr("torch.cuda.device_count", lambda: len(sizes))
        monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: sizes[index])
        monkeypatch.setattr(memory_check, "check_ranks", lambda config: None)

    return have


def check(name: str, *overrides: str) -> None:
    check_memory(resolve(name, overrides), name, overrides)


@pytest.mark.parametrize(
    ("sizes_gb", "overrides", "told"),
    [
        # The first command as it stands, by GPUs.
        ([85], [], ["85.0 GB", "hardware=full_1x80gb or hardware=lora_1x24gb or hardware=lora_1x48gb"]),
        ([48, 48], [], ["hardware=lora_1x24gb or hardware=lora_1x48gb;"]),
        # The smallest one counts.
        ([85, 24], [], ["24.0 GB", "hardware=lora_1x24gb; "]),
        ([85] * 4, ["actor_rollout_ref.rollout.gpu_memory_utilization=0.1"], ["no room for its cache", "Fix: raise "]),
        # Other hardware than was named.
        ([48] * 4, ["hardware=full_4x80gb"], ["48.0 GB", "hardware=lora_1x24gb or hardware=lora_1x48gb;"]),
        (
            [24],
            ["hardware=lora_1x24gb", "actor_rollout_ref.model.path=Qwen/Qwen2.5-VL-7B-Instruct"],
            ["it takes 40.0 GB", "Fix: take more GPUs or larger ones;"],
        ),
        ([12], [], ["Fix: lower actor.ppo_max_token_len_per_gpu", "offload_policy=true"]),
    ],
)
def test_a_run_that_no_gpu_holds_is_refused_with_the_hardware_that_fits(
    gpus, sizes_gb: list[float], overrides: list[str], told: list[str]
) -> None:
    gpus(*sizes_gb)
    with pytest.raises(ValueError, match=r"GPU memory = .*does not hold the run by the estimate") as refused:
        check(RL, *overrides)
    assert all(words in str(refused.value) for words in [*told, "trainer.check_memory=false"]), refused.value


@pytest.mark.parametrize(
    ("sizes_gb", "overrides"),
    [
        ([85, 85], []),
        ([48] * 8, []),
        ([24], ["hardware=lora_1x24gb"]),
        ([24], ["trainer.check_memory=false"]),
        ([24], ["actor_rollout_ref.model.path=some/other"]),
    ],
)
def test_a_run_that_fits_or_cannot_be_estimated_goes_on(gpus, sizes_gb: list[float], overrides: list[str]) -> None:
    gpus(*sizes_gb)
    check(RL, *overrides)


def test_the_hardware_that_is_named_fits(gpus) -> None:
    gpus(85)
    with pytest.raises(ValueError) as refused:
        check(RL)
    for word in re.findall(r"hardware=\w+", str(refused.value)):
        check(RL, word)


def test_fine_tuning_is_refused_with_keys_of_its_own(gpus) -> None:
    gpus(85)
    with pytest.raises(ValueError, match=r"Fix: lower data.max_token_len_per_gpu, or set engine.offload_policy=true"):
        check(SFT)
    check(SFT, "engine.offload_policy=true")
    gpus(85, 85)
    check(SFT)


def test_without_a_gpu_nothing_is_asked_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_check, "_memory_here_gb", lambda: pytest.fail("a run on the CPU asks for no GPU"))
    check("embedded")
    check("sft_embedded")


def test_counts_are_looked_at_first(gpus) -> None:
    with pytest.raises(ValueError, match=r"^trainer.n_gpus_per_node = "):
        check(RL, "trainer.n_gpus_per_node=0")


@pytest.mark.parametrize("name", [RL, SFT])
def test_a_real_start_is_refused_before_model_and_data_are_looked_at(
    gpus, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    gpus(24)
    monkeypatch.setattr("verl_socio.train.checks.check", lambda config: pytest.fail("this would fetch both"))
    monkeypatch.setattr("verl_socio.train.launch.prepare", lambda config: pytest.fail("nothing is to be made"))
    with pytest.raises(ValueError, match=r"GPU memory = '24.0 GB'"):
        launch(name, [], dry_run=False)


@pytest.mark.parametrize(
    ("name", "overrides", "told"),
    [
        (RL, ["hardware=full_4x80gb"], ["3.75 billion parameters", "GPU: peak 53.4 of 80 GB: fits\n", "vLLM: weights"]),
        (RL, [], ["name the hardware for an estimate", "host: peak", "pictures 58.0"]),
        (RL, ["hardware=lora_1x24gb", "hardware.memory_gb=16"], ["DOES NOT FIT", "take more GPUs or larger ones"]),
        (
            RL,
            ["hardware=full_4x80gb", "actor_rollout_ref.rollout.gpu_memory_utilization=0.1"],
            ["DOES NOT FIT", "raise rollout.gpu_memory_utilization"],
        ),
        (
            RL,
            ["hardware=full_4x80gb", "actor_rollout_ref.rollout.gpu_memory_utilization=0.99"],
            ["DOES NOT FIT", "lower rollout.gpu_memory_utilization"],
        ),
        (
            RL,
            ["hardware=full_4x80gb", "actor_rollout_ref.actor.ppo_max_token_len_per_gpu=99999"],
            ["DOES NOT FIT", "ppo_max_token_len_per_gpu"],
        ),
        (RL, ["hardware=full_4x80gb", "hardware.memory_gb=53"], ["fits with less than a tenth to spare"]),
        (RL, ["actor_rollout_ref.model.path=some/other"], ["sizes of some/other are not known"]),
        (SFT, [], ["GPU: peak 90.6 GB\n", "host: peak"]),
    ],
)
def test_what_a_dry_run_says(gpus, name: str, overrides: list[str], told: list[str]) -> None:
    gpus()
    given = [] if any("hardware=" in each for each in overrides) else ["trainer.n_gpus_per_node=1"]
    text = report(resolve(name, [*overrides, *given]))
    assert all(line.startswith("# ") for line in text.splitlines()), "the rest stays YAML"
    assert all(words in text for words in told), text


@pytest.mark.parametrize("name", [RL, SFT])
def test_a_dry_run_on_a_gpu_compares_with_it(gpus, name: str) -> None:
    gpus(24)
    assert " of 24 GB: DOES NOT FIT" in report(resolve(name, []))


def test_a_run_without_a_gpu_needs_no_estimate() -> None:
    assert report(resolve("embedded", [])) == report(resolve("sft_embedded", [])) == ""
