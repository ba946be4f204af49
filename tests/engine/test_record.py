import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from verl_socio.data import load_samples
from verl_socio.engine.metrics import stage_metrics
from verl_socio.engine.record import stage_record
from verl_socio.episode import Episode, Reply, Scene, Turn, run_episode
from verl_socio.geometry import Frame
from verl_socio.recipes import Recipe
from verl_socio.segment.box_segmenter import BoxSegmenter

SHIPPED = Path(__file__).parents[2] / "configs" / "recipe" / "socioreasoner.yaml"


def episode_of(data: Path, *texts: str) -> Episode:
    async def generate(turn: Turn) -> Reply:
        return Reply(texts[turn.stage])

    scene = Scene.load(load_samples(str(data), "train")[0], with_target=True)
    recipe = Recipe.from_config(OmegaConf.to_container(OmegaConf.load(SHIPPED), resolve=True))
    segmenter = BoxSegmenter()
    return asyncio.run(run_episode(scene, recipe, generate=generate, segmenter=segmenter, frame_of=Frame.of_image))


def test_a_record_holds_what_the_stage_earned_and_counted(tiny_data: Path) -> None:
    # The target is the box 5, 10, 25, 30: 400 px.
    first = '<think></think><answer>[{"bbox_2d": [5, 10, 15, 30]}, {"bbox_2d": [40, 10, 50, 20]}]</answer>'
    second = '<think></think><answer>[{"bbox_2d": [5, 10, 15, 30], "points": [[6, 11], [7, 12], [8, 13]]}]</answer>'
    episode = episode_of(tiny_data, first, second)
    localised, refined = (stage_record(episode, result) for result in episode.stages)
    counted = ("boxes", "points", "intersection", "union", "predicted", "targeted", "hits")
    assert {name: localised[name] for name in counted} == {
        "boxes": 2.0,
        "points": 0.0,
        "intersection": 200.0,
        "union": 500.0,
        "predicted": 2.0,
        "targeted": 1.0,
        "hits": 1.0,
    }
    assert (refined["boxes"], refined["points"]) == (1.0, 3.0)
    assert (refined["intersection"], refined["union"]) == (200.0, 400.0)
    for record, result in zip((localised, refined), episode.stages, strict=True):
        assert record["reward"] == result.reward.total
        assert (record["parse_failure"], record["nothing_found"]) == (0.0, 0.0)
        parts = {name: record[f"reward/{name}"] for name in result.reward.parts}
        assert parts == result.reward.parts
        assert all(isinstance(value, float) for value in record.values())


def test_unreadable_and_nothing_found_are_told_apart(tiny_data: Path) -> None:
    episode = episode_of(tiny_data, "I cannot tell.", "<think></think><answer>[]</answer>")
    localised, refined = (stage_record(episode, result) for result in episode.stages)
    assert (localised["parse_failure"], localised["nothing_found"]) == (1.0, 0.0)
    assert (refined["parse_failure"], refined["nothing_found"]) == (0.0, 1.0)
    assert (refined["intersection"], refined["union"]) == (0.0, 400.0)


def test_records_of_a_stage_can_be_summed_up(tiny_data: Path) -> None:
    episodes = [episode_of(tiny_data, "-", "-"), episode_of(tiny_data, '[{"bbox_2d": [5, 10, 25, 30]}]', "[]")]
    records = [stage_record(episode, episode.stages[0]) for episode in episodes]
    summary = stage_metrics("localise", records, ["q", "q"])
    assert summary["localise/giou"] == 0.5
    assert summary["localise/parse_failure"] == 0.5
    assert summary["localise/reward/box_accuracy"] == 1.0
    assert summary["localise/zero_variance_groups"] == 0.0


def test_a_sample_is_measured_by_the_rules_of_the_evaluation(tmp_path: Path, write_sample: Callable[..., Path]) -> None:
    """Ignored pixels count nowhere, and an answer that cannot be read does not say that nothing is there."""
    write_sample(tmp_path, "empty", "train", boxes_xyxy=())
    unread = episode_of(tmp_path, "I cannot tell.", "I cannot tell.")
    assert stage_record(unread, unread.stages[0])["iou"] == 0.0
    box = '<think></think><answer>[{"bbox_2d": [5, 10, 15, 30]}]</answer>'
    episode = episode_of(tmp_path, box, box)
    everything = replace(episode.scene.target, ignored_hw=np.ones_like(episode.scene.target.mask_hw))
    ignoring = replace(episode, scene=replace(episode.scene, target=everything))
    assert stage_record(episode, episode.stages[0])["iou"] == 0.0
    assert stage_record(ignoring, episode.stages[0])["iou"] == 1.0
