import json
import os

import pytest

from verl_socio.evaluate.fingerprint import fingerprint
from verl_socio.evaluate.settings import resolve
from verl_socio.nested import differences
from verl_socio.recipes import Recipe, Stage, Template


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 1000)
    return folder


def take(model, recipe, *overrides, data="d1", command=("a",)):
    config = resolve(["model=embedded", *overrides])
    return fingerprint(config, recipe, data_sha256=data, samples=7, model=model, command=command)


def test_what_decides_no_figure_does_not_change_it(model, recipe):
    first = take(model, recipe)
    noted = ("concurrency=3", "pictures=0", "segmenter.cache_images=2", "max_failures=1", "retry_failed=true")
    second = take(model, recipe, *noted, command=("b", "c"))
    assert first.sha256 == second.sha256
    assert (second.notes["command"], second.notes["samples"]) == (["b", "c"], 7)
    assert json.loads(second.to_json())["sha256"] == first.sha256
    os.utime(model / "model.safetensors", (1, 1))
    (model / "README.md").write_text("a note")
    (model / "merge.json").write_text("{}")
    assert take(model, recipe).sha256 == first.sha256


@pytest.mark.parametrize(
    "override",
    [
        "sampling.temperature=0.5", "sampling.seed=1", "max_response_length=5", "frame=image",
        "segmenter.weights=boxes", "segmenter.multimask=false", "recipe.feedback.mask_alpha=0.5", "vllm.dtype=bfloat16",
        "host=http://h/v1", "best_of=2",
    ],
)  # fmt: skip
def test_every_setting_that_decides_one_changes_it(model, recipe, override):
    before, now = take(model, recipe), take(model, recipe, override)
    assert before.sha256 != now.sha256
    assert differences(before.identity, now.identity)


def test_weights_data_and_prompts_change_it_though_sizes_stay(model, recipe):
    first = take(model, recipe)
    assert take(model, recipe, data="d2").sha256 != first.sha256
    stage = recipe.stages[0]
    reworded = Stage(**{**vars(stage), "prompt": Template(stage.prompt.source + "!")})
    assert take(model, Recipe("socioreasoner", (reworded,), recipe.feedback)).sha256 != first.sha256
    content = bytearray((model / "model.safetensors").read_bytes())
    content[500] = 1
    (model / "model.safetensors").write_bytes(content)
    changed = take(model, recipe)
    [(key, _, _)] = differences(first.identity, changed.identity)
    assert key == "model"
