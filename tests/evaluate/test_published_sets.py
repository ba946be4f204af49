"""Every published set from its files to its table, answered by a script."""

import asyncio
import shlex

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from verl_socio.data import load_samples
from verl_socio.data.sets import FORMATS
from verl_socio.episode import Reply
from verl_socio.evaluate.evaluator import Evaluator
from verl_socio.evaluate.feeding import feed
from verl_socio.evaluate.fingerprint import Fingerprint
from verl_socio.evaluate.launch import launch
from verl_socio.evaluate.pictures import Pictures
from verl_socio.evaluate.protocols import protocol_of
from verl_socio.evaluate.protocols.no_masks import NoMasks
from verl_socio.evaluate.results import Results
from verl_socio.evaluate.scores import summarise
from verl_socio.evaluate.settings import resolve
from verl_socio.evaluate.survey import survey
from verl_socio.evaluate.table import table
from verl_socio.geometry import Frame
from verl_socio.recipes import Recipe
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.train.settings import ROOT

# The IoU of two neighbours' rectangles, 20 x 20 pixels of which 19 columns are shared.
NEAR = (19 * 20) / (2 * 400 - 19 * 20)


@pytest.fixture
def one_stage():
    config = resolve(["model=embedded", "recipe=one_stage", "images=[satellite]"])
    return Recipe.from_config(OmegaConf.to_container(config.recipe))


@pytest.fixture
def evaluated(published_set, one_stage, tmp_path):
    """Evaluates a set; every answer names the same box."""

    def run(name, texts=None):
        samples = load_samples(str(published_set(name)), "test")
        protocol = protocol_of("auto", name)
        seen = survey(samples, need_map=False, seen=lambda: None)

        async def generate(turn):
            assert len(turn.images) == 1
            box = '[{"bbox_2d": [5, 10, 25, 30], "points": [[6, 11]]}]'
            number = next(at for at, sample in enumerate(samples) if sample.question in turn.text)
            return Reply((texts or {}).get(number, f"<think></think><answer>{box}</answer>"))

        with Results(tmp_path / "eval", Fingerprint({"set": name}, {})) as results:
            evaluator = Evaluator(
                recipe=one_stage,
                generate=generate,
                segmenter=BoxSegmenter() if protocol.needs_masks else NoMasks(),
                frame_of=Frame.of_image,
                center_box_share=seen.target_share,
                pictures=Pictures(tmp_path / "pictures", len(samples), len(samples), 32),
            )
            asyncio.run(feed(samples, results, [evaluator.evaluate], 2, lambda row: None))
            rows = sorted(results.rows(), key=lambda row: row.index)
        assert [row.failure for row in rows] == [None] * len(samples)
        assert len(list((tmp_path / "pictures").glob("*.jpg"))) == len(samples)
        summary = summarise(rows, ["answer"], protocol)
        console = Console(width=160)
        with console.capture() as capture:
            console.print(table(summary, name))
        assert all(column.title in capture.get() for column in protocol.columns)
        return rows, summary

    return run


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        # The third sample has no target, and one is named: 400 pixels more below the line.
        ("earthreason", {"ciou": 780 / 1220, "giou": (1 + NEAR) / 3, "no_target": 0.0}),
        ("rrsisd", {"p50": 1.0, "p90": 2 / 3}),
        ("refsegrs", {"ciou": 780 / 820, "giou": (1 + NEAR) / 2, "p50": 1.0, "p90": 1.0}),
        ("risbench", {"ciou": 780 / 820, "giou": (1 + NEAR) / 2, "p50": 1.0, "p90": 1.0}),
        ("referring", {"ciou": 780 / 820, "giou": (1 + NEAR) / 2, "box_accuracy": 1.0}),
        ("counting", {"accuracy": 0.0, "mae": 1.5}),
    ],
)
def test_a_set_comes_to_its_hand_computed_figures(name, figures, evaluated):
    _, summary = evaluated(name)
    [line] = [line for line in summary.lines if line.name == "answer"]
    assert {key: line.figures[key] for key in figures} == pytest.approx(figures)


def test_nothing_where_nothing_is_counts_and_silence_does_not(evaluated):
    right, _ = evaluated("earthreason", {2: "<think></think><answer>[]</answer>"})
    assert right[2].stages[0].score.iou == 1.0 and right[2].target_area == 0


def test_silence_is_no_answer_where_nothing_is(evaluated):
    rows, summary = evaluated("earthreason", {2: "well"})
    assert rows[2].stages[0].status == "unparseable" and rows[2].stages[0].score.iou == 0.0
    assert summary.lines[0].figures["no_target"] == 0.0


def test_detection_needs_no_masks(evaluated):
    rows, summary = evaluated("detection")
    assert rows[0].target_area is None and rows[0].stages[0].score is None and rows[0].center_box is None
    # The second image has two boxes, of which one is found: average precision 51 / 101 there, at every IoU up to 0.9.
    assert summary.lines[0].figures["ap50"] == pytest.approx((1 + 51 / 101) / 2)


@pytest.mark.parametrize("name", FORMATS)
def test_a_recipe_that_shows_maps_is_told_that_there_are_none(name, published_set, tiny_model, tmp_path):
    folder = published_set(name)
    with pytest.raises(
        ValueError, match=r"recipe = 'socioreasoner': shows the map in stage localise and refine.*Fix: "
    ):
        launch([f"model={tiny_model}", f"data={folder}", f"output_root={tmp_path / 'outputs'}"], dry_run=False)


def test_every_script_starts_the_command_with_settings_that_resolve(capsys):
    scripts = sorted((ROOT / "evaluation").glob("eval_*.sh"))
    assert len(scripts) == 6
    for script in scripts:
        text = script.read_text()
        [line] = [line for line in text.splitlines() if line.startswith("exec verl-socio evaluate")]
        words = shlex.split(line)[3:-1]
        launch([*words, "model=embedded", "max_samples=3"], dry_run=True)
        shown = capsys.readouterr().out
        assert "max_samples: 3" in shown and "model: embedded" in shown
        for word in words:
            key, _, value = word.partition("=")
            assert f"\n{key}: " in f"\n{shown}" or f"\n{key}:\n" in shown, (script.name, key, value)


def test_a_random_question_and_a_first_one_are_different_data(published_set, one_stage):
    from verl_socio.data import Choice

    folder = str(published_set("earthreason"))
    marks = {
        survey(load_samples(folder, "test", choice=choice), need_map=False, seen=lambda: None).sha256
        for choice in (Choice(), Choice(), Choice("random", 1), Choice("random", 2))
    }
    assert len(marks) == 3
