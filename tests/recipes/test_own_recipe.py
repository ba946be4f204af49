"""A recipe that lies outside the package: the example of docs/recipes.md, and what goes wrong with others."""

import asyncio
import json
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from verl_socio.city import generate
from verl_socio.data import load_samples
from verl_socio.episode import Reply, Scene, Turn, run_episode
from verl_socio.evaluate.settings import resolve as resolve_evaluation
from verl_socio.geometry import Frame
from verl_socio.overrides import quoted
from verl_socio.recipes import Recipe
from verl_socio.rewards import TERMS
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.train.checks import check
from verl_socio.train.prepare import prepare
from verl_socio.train.settings import ROOT, resolve


@pytest.fixture(autouse=True)
def forget_terms() -> Iterator[None]:
    """Terms are known to a whole process; other tests count the package's own."""
    terms, modules = dict(TERMS), set(sys.modules)
    yield
    TERMS.clear()
    TERMS.update(terms)
    for name in set(sys.modules) - modules:
        if name.startswith("verl_socio_terms_"):
            del sys.modules[name]


EXAMPLE = ROOT / "docs" / "examples" / "checked" / "checked.yaml"


def built(config: object) -> Recipe:
    return Recipe.from_config(OmegaConf.to_container(config.recipe, resolve=True))


def test_the_third_stage_of_the_example_looks_answers_and_is_paid(
    tmp_path: Path, write_sample: Callable[..., Path]
) -> None:
    recipe = built(resolve("embedded", [f"recipe={EXAMPLE}"]))
    assert [stage.name for stage in recipe.stages] == ["localise", "refine", "check"]
    write_sample(tmp_path, "s", size_wh=(100, 80), boxes_xyxy=((10, 10, 50, 50),))
    scene = Scene.load(load_samples(str(tmp_path), "train")[0], with_target=True)
    boxes = [(10, 10, 50, 30), (10, 10, 50, 30), (10, 10, 50, 50)]
    turns = []

    async def generate(turn: Turn) -> Reply:
        turns.append(turn)
        item = {"bbox_2d": boxes[turn.stage]} | ({"points": [[20, 20], [30, 20]]} if turn.stage else {})
        return Reply(f"<think>look</think><answer>{json.dumps([item])}</answer>")

    episode = asyncio.run(
        run_episode(scene, recipe, generate=generate, segmenter=BoxSegmenter(), frame_of=Frame.of_image)
    )
    assert "from [{" in turns[2].text and "20, 20" in turns[2].text, "the third prompt repeats the second answer"
    assert turns[2].images[1].tobytes() != scene.images["satellite"].tobytes(), "and shows its mask"
    rewards = [result.reward for result in episode.stages]
    assert rewards[2].parts == {"think_format": 1.0, "mask_iou": 1.0, "area_match": 1.0}
    assert rewards[2].total == 2.0
    assert episode.stages[1].mask_hw.sum() == episode.stages[2].mask_hw.sum() / 2


def test_settings_of_the_command_go_before_the_file() -> None:
    recipe = built(resolve("embedded", [f"recipe={EXAMPLE}", "recipe.stages.check.reward.terms.area_match.weight=3"]))
    assert recipe.stages[2].reward.terms[2].weight == 3


def test_training_and_evaluation_read_the_same_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parent)
    assert built(resolve("embedded", ["recipe=checked.yaml"])) == built(resolve_evaluation(["recipe=checked.yaml"]))


@pytest.mark.parametrize("name", ["o'brien", "a,b (1)"])
def test_a_recipe_lies_in_a_folder_of_any_name(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    shutil.copytree(EXAMPLE.parent, folder)
    words = [f"recipe={quoted(folder / EXAMPLE.name)}"]
    assert built(resolve("embedded", words)) == built(resolve_evaluation(words))


def test_the_docs_command_passes_every_check_before_the_start(tmp_path: Path) -> None:
    generate(tmp_path / "city", samples=14, seed=1)
    config = resolve("embedded", [f"recipe={EXAMPLE}", f"output_root={tmp_path}", f"data.train_files={tmp_path}/city"])
    prepare(config)
    check(config)
    config.recipe.told_items = 8
    with pytest.raises(ValueError, match=r"data\.max_prompt_length = 512: is too small: stage check of sample"):
        check(config)


def test_the_example_is_the_one_in_the_docs() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    shown = re.findall(r"```(?:yaml|python|jinja)\n(.*?)```", text, re.DOTALL)
    for name in ("checked.yaml", "check.jinja", "terms.py"):
        assert (EXAMPLE.parent / name).read_text(encoding="utf-8").strip() in [block.strip() for block in shown], name


PLAIN = """
name: mine
stages:
  answer:
    images: [satellite]
    prompt: ask.jinja
    reward:
      terms: {think_format: {weight: 1.0}}
"""


@pytest.mark.parametrize(
    ("text", "prompt", "match"),
    [
        (PLAIN, "Find {{ question }}", None),
        (
            PLAIN.replace("think_format", "think_formt"),
            "{{ question }}",
            r"reward\.term = 'think_formt': must be one of",
        ),
        (PLAIN.replace("1.0", "-1.0"), "{{ question }}", r"think_format\.weight = -1\.0: must not be negative"),
        (PLAIN, "Find it", r"must contain \{\{ question \}\}"),
        (PLAIN, None, r"prompt = 'ask\.jinja': must be a file"),
        (PLAIN + "    grammar: {box: '</answer>'}", "{{ question }}", r"answer\.grammar = .*must read back"),
        (PLAIN + "terms_file: no.py", "{{ question }}", r"recipe\.terms_file = 'no\.py': must be a Python file"),
        ("- a list", "{{ question }}", r"Fix: "),
        ("stages: [", "{{ question }}", r"Fix: "),
        ("name: mine\nstages: 3", "{{ question }}", r"recipe\.stages = .*Fix: "),
        ("", "{{ question }}", r"recipe.*is missing"),
    ],
)
def test_a_mistake_in_ones_own_file_is_an_error_at_the_start(
    tmp_path: Path, text: str, prompt: str | None, match: str | None
) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    if prompt is not None:
        (tmp_path / "ask.jinja").write_text(prompt)
    if match is None:
        assert built(resolve("embedded", [f"recipe={tmp_path}/mine.yaml"])).name == "mine"
        return
    with pytest.raises(ValueError, match=match) as raised:
        built(resolve("embedded", [f"recipe={tmp_path}/mine.yaml"]))
    assert "Fix: " in str(raised.value)


def test_a_recipe_file_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"^recipe = 'no/such\.yaml': must be a file, or one of .*seg_zero.*Fix: "):
        resolve("embedded", ["recipe=no/such.yaml"])
