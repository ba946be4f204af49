"""From the command line to files, with the embedded models and their real weights."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from verl_socio.episode import Scene
from verl_socio.infer import launch
from verl_socio.infer.launch import Options, infer
from verl_socio.infer.requests import gather
from verl_socio.recipes import Recipe
from verl_socio.train.settings import ROOT, shipped_recipe


@pytest.fixture
def asked(tmp_path: Path, write_sample: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Options:
    monkeypatch.setattr(launch, "console", Console(width=500))
    place = write_sample(tmp_path / "data", "s", size_wh=(140, 112))
    overrides = (f"output_root={tmp_path}/outputs", "max_response_length=16")
    return Options(
        str(place / "sat.png"), "School", str(place / "map.png"), out=tmp_path / "found", overrides=overrides
    )


def kept(out: Path, name: str) -> dict:
    return json.loads((out / name).read_text(encoding="utf-8"))


def test_a_place_is_segmented_and_all_of_it_kept(asked: Options, capsys: pytest.CaptureFixture[str]) -> None:
    out = infer(replace(asked, out=None))
    assert out.parent == asked.out.parent / "outputs" / "infer"
    told = capsys.readouterr().out
    assert "sat: School (segmentation, chosen by rules)" in told
    assert "localise, thinking: " in told and "refine, answer (cut off at max_response_length): " in told
    found = kept(out, "sat_boxes.json")
    assert (found["task"], found["task_chosen_by"]) == ("segmentation", "rules")
    # Of so few tokens no answer is whole: there is no mask.
    assert (found["status"], found["cut_off"]) == ("unparseable", [True, True])
    assert len(found["thinking"]) == 2
    assert Image.open(out / "sat_picture.png").width > 4 * 140
    assert sorted(path.name for path in out.glob("[!.]*")) == ["sat_boxes.json", "sat_picture.png"]


def test_nothing_is_written_over(asked: Options) -> None:
    asked.out.mkdir()
    (asked.out / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match=r"must be new or empty.*Fix: "):
        infer(replace(asked, model="/no/such/model"))  # before the model is looked for
    assert [path.name for path in asked.out.iterdir()] == ["thesis.txt"]


def test_several_images_a_task_each_and_a_recipe_of_ones_own(
    asked: Options, tmp_path: Path, text_model: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"image": asked.image, "text": text} for text in ("How many schools?\x1b[31m", "What is here?")]
    (tmp_path / "list.jsonl").write_text("\n".join(map(json.dumps, lines)))
    recipe = str(ROOT / "configs" / "recipe" / "embedded" / "one_stage.yaml")
    out = infer(replace(asked, image=str(tmp_path / "list.jsonl"), map_image=None, recipe=recipe))
    told = capsys.readouterr().out
    assert "No map was given" in told
    assert "How many schools??[31m" in told and "\x1b" not in told
    counted = kept(out, "1_sat_boxes.json")
    assert counted["task"] == "counting"
    assert counted["count"] == (None if counted["status"] == "unparseable" else len(counted["objects"]))
    answered = kept(out, "2_sat_answer.json")
    assert answered["task"] == "question"
    assert answered["cut_off"] is (f"answer (cut off at max_response_length): {answered['answer']}" in told)
    assert not list(out.glob("*_mask.png"))
    routed = infer(
        replace(asked, router=str(text_model("detection")), out=tmp_path / "routed", recipe="embedded/one_stage")
    )
    assert kept(routed, "sat_boxes.json")["task"] == "detection"


def test_each_image_is_shown_with_the_map_that_was_given_for_it(
    asked: Options, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"image": asked.image, "text": "School", "map": asked.map_image}, {"image": asked.image, "text": "School"}]
    listed = tmp_path / "list.jsonl"
    listed.write_text("\n".join(map(json.dumps, lines)))
    recipe = shipped_recipe("embedded/one_stage")
    requests = gather(str(listed), None, None)
    with_map, without = launch._recipes(recipe, requests)
    assert with_map == recipe
    assert [stage.images for stage in without.stages] == [("satellite",)]
    assert "No map was given for 1 of 2 images" in capsys.readouterr().out
    assert launch._recipes(recipe, requests[:1]) == [recipe]
    assert capsys.readouterr().out == ""
    shown = []

    async def answer(scene: Scene, recipe: Recipe, **_: object) -> None:
        shown.append((sorted(scene.images), recipe.stages[0].images))
        raise ValueError("seen")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "run_episode", answer)
        with pytest.raises(RuntimeError, match="2 of 2 images could not be answered"):
            infer(replace(asked, image=str(listed), map_image=None, recipe="embedded/one_stage"))
    assert shown == [(["map", "satellite"], ("map", "satellite")), (["satellite"], ("satellite",))]


def test_a_map_that_the_recipe_shows_nowhere_is_told_and_not_kept_as_shown(
    asked: Options, capsys: pytest.CaptureFixture[str]
) -> None:
    out = infer(replace(asked, recipe="embedded/one_stage", overrides=(*asked.overrides, "images=[satellite]")))
    assert "its map is left out: recipe one_stage shows none" in capsys.readouterr().out
    assert kept(out, "sat_boxes.json")["map"] is None


@pytest.mark.parametrize("name", ["m (1)", "a,b", "müller", "o'brien", "[x] = 1"])
def test_model_and_recipe_lie_in_folders_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    recipe = tmp_path / name / "mine.yaml"
    shutil.copyfile(ROOT / "configs" / "recipe" / "embedded" / "one_stage.yaml", recipe)
    config = launch._settings(Options("a.png", model=str(tmp_path / name), recipe=str(recipe)))
    assert config.model == str(tmp_path / name)
    shipped = launch._settings(Options("a.png", recipe="embedded/one_stage"))
    assert config.recipe.name == shipped.recipe.name


def test_an_image_that_cannot_be_read_does_not_stop_the_others(asked: Options, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"no picture")
    Image.new("RGB", (140, 112)).save(folder / "b.png")
    with pytest.raises(RuntimeError, match=r"1 of 2 images could not be answered; the others are in "):
        infer(replace(asked, image=str(folder), map_image=None, recipe="embedded/one_stage"))
    assert (asked.out / "b_boxes.json").is_file()
    assert not (asked.out / "a_boxes.json").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"task": "paint"}, r"^task = 'paint': must be one of auto, detection"),
        ({"engine": "abacus"}, r"^engine = 'abacus': must be one of auto, transformers, vllm"),
        ({"model": "/no/such/model"}, r"^model = "),
        ({"recipe": "no/such.yaml"}, r"^recipe = "),
        ({"text": "a <|image_pad|>"}, r"must not hold the model's control tokens"),
        ({"overrides": ("no_such=1",)}, r"no_such"),
        ({"overrides": ("+vllm.size=3",)}, r"^vllm.size = 3: is not a known key"),
        ({"overrides": ("images=[map]",), "map_image": None}, r"^map = None: is all that stage .* Fix: give --map"),
        ({"overrides": ("workers=2",)}, r"^workers = 2: must be 1"),
        ({"overrides": ("host=http://localhost:8000/v1",)}, r"^host = .*: must be vllm"),
        ({"overrides": ("best_of=4", "sampling.temperature=1")}, r"^best_of = 4: must be 1"),
        ({"overrides": ("concurrency=0",)}, r"^concurrency = 0: must be a whole number of 1 or more"),
        ({"overrides": ("sampling.temperature=-1",)}, r"^sampling.temperature = -1: must be"),
    ],
)
def test_a_mistake_is_told_before_anything_is_written(asked: Options, change: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match) as raised:
        infer(replace(asked, **change))
    assert "Fix: " in str(raised.value)
    assert not asked.out.exists()


def test_the_script_is_the_command() -> None:
    script = ROOT / "inference_scripts" / "infer.py"
    words = [sys.executable, str(script), "--image", "/no/such.png", "--text", "School"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Error: image = '/no/such.png': must be an existing image file" in done.stderr
    assert "Traceback" not in done.stderr
