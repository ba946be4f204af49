import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy.ndimage import label

from verl_socio.city import draw_sample
from verl_socio.embedded import sam2
from verl_socio.embedded.sam2_training import card
from verl_socio.embedded.sam2_training.batches import draw_batch
from verl_socio.embedded.sam2_training.evaluation import Report, evaluate
from verl_socio.embedded.sam2_training.forward import decode, encode
from verl_socio.embedded.sam2_training.losses import balanced_loss, prompt_loss
from verl_socio.embedded.sam2_training.prompts import Mix, draw_group, draw_prompt
from verl_socio.embedded.sam2_training.scenes import Scenes, cached_scenes, draw_scenes
from verl_socio.embedded.sam2_training.schedule import STAGES, Stage
from verl_socio.embedded.sam2_training.stages import train
from verl_socio.segment.config import SegmenterConfig
from verl_socio.segment.loader import load_predictor, predictor_of
from verl_socio.segment.prompts import Batch
from verl_socio.segment.sam2_model import Sam2Model

_MIX = Mix(kinds={(True, 0): 1.0, (True, 2): 1.0, (False, 2): 1.0})
_STAGE = Stage("short", 128, 3, 2, 4, (1e-3, 1e-3), (1.0, 1.0), _MIX)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return draw_scenes(8, seed=3)


def test_scenes_are_those_of_the_city(scenes: Scenes) -> None:
    scene = draw_sample("train", 5, 3)[0]
    assert np.array_equal(scenes.images[5], np.asarray(scene.satellite()))
    for number in range(1, len(scene.places) + 1):
        assert np.array_equal(scenes.places[5] == number, scene.mask([number - 1]))
        parts = np.isin(scenes.cells[5], np.flatnonzero(scenes.cell_place[5] == number))
        assert np.array_equal(parts, scene.part_masks(number - 1).any(0))


def test_scenes_are_drawn_once_until_the_sources_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cached_scenes(tmp_path, 2, seed=1)
    (file,) = tmp_path.iterdir()
    written = file.stat().st_mtime_ns
    again = cached_scenes(tmp_path, 2, seed=1)
    assert file.stat().st_mtime_ns == written
    assert all(np.array_equal(value, getattr(again, name)) for name, value in vars(first).items())
    monkeypatch.setattr("verl_socio.embedded.sam2_training.scenes.made_by", lambda: "changed")
    cached_scenes(tmp_path, 2, seed=1)
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("num_points", [1, 2, 4])
@pytest.mark.parametrize("with_box", [True, False])
def test_prompts_mean_their_target(scenes: Scenes, with_box: bool, num_points: int) -> None:
    rng = np.random.default_rng(0)
    mix = Mix(kinds={}, jittered=0.0, negative=1.0)
    negatives = 0
    for index, places_hw in enumerate(scenes.places):
        for place in range(1, int(places_hw.max()) + 1):
            target_hw, is_part = places_hw == place, scenes.cell_place[index] == place
            coords, labels = draw_prompt(rng, target_hw, scenes.cells[index], is_part, mix, with_box, num_points)
            assert len(coords) == len(labels) == 2 * with_box + num_points
            if with_box:
                (left, top), (right, bottom) = np.round(coords[:2] * target_hw.shape[::-1]).astype(int)
                inside = target_hw[top:bottom, left:right]
                assert inside.sum() == target_hw.sum()
                assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))
                assert labels[:2].tolist() == [2, 3]
            columns, rows = (coords[2 * with_box :] * target_hw.shape[::-1]).astype(int).T
            assert target_hw[rows, columns].tolist() == (labels[2 * with_box :] == 1).tolist()
            negatives += int((labels == 0).sum())
    # One point without a box cannot be negative.
    assert (negatives > 0) == (with_box or num_points > 1)


def test_positive_points_lie_in_different_parts(scenes: Scenes) -> None:
    rng = np.random.default_rng(0)
    mix = Mix(kinds={}, negative=0.0)
    for index, places_hw in enumerate(scenes.places):
        for place in range(1, int(places_hw.max()) + 1):
            is_part = scenes.cell_place[index] == place
            points, _ = draw_prompt(rng, places_hw == place, scenes.cells[index], is_part, mix, False, is_part.sum())
            columns, rows = (points * places_hw.shape[::-1]).astype(int).T
            assert sorted(scenes.cells[index][rows, columns]) == np.flatnonzero(is_part).tolist()


def test_a_group_is_joined_as_a_place_is(scenes: Scenes) -> None:
    rng = np.random.default_rng(0)
    sizes = []
    for cells_hw in scenes.cells:
        target_hw, is_part = draw_group(rng, cells_hw, scenes.cell_place.shape[1], 3)
        assert label(target_hw, np.ones((3, 3)))[1] == 1
        assert set(cells_hw[target_hw].tolist()) - {0} == set(np.flatnonzero(is_part).tolist())
        assert target_hw[is_part[cells_hw]].all()
        sizes.append(int(is_part.sum()))
    assert max(sizes) == 3 and min(sizes) >= 1


def test_a_batch_is_aligned(scenes: Scenes) -> None:
    batch = draw_batch(scenes, np.random.default_rng(1), _MIX, 96, num_scenes=3, num_prompts=5)
    assert batch.images.shape == (3, 3, 96, 96)
    assert batch.targets.shape == (15, 140, 140)
    assert len(batch.coords_xy) == len(batch.labels) == 15
    # Turned together: a target's parts are whole cells of the turned scene.
    for row, target in enumerate(batch.targets > 0.5):
        cells = batch.cells[row // 5]
        inside = set(cells[target].tolist()) - {0}
        assert inside and not inside & set(cells[~target].tolist())


def test_training_decodes_as_the_segmenter_does() -> None:
    model = sam2.build(seed=2)
    image = draw_sample("train", 0, 0)[0].satellite()
    coords = np.array([[[20, 30], [90, 110], [40, 50]]], dtype=np.float32)
    labels = np.array([[2, 3, 1]], dtype=np.int32)
    segmenter = Sam2Model(predictor_of(model))
    logits, score = segmenter.logits(segmenter.encode(image), Batch(np.array([0]), coords, labels))
    pixels = segmenter._predictor._transforms(image)[None]
    with torch.inference_mode():
        low_res, scores = decode(
            model, encode(model, pixels), torch.from_numpy(coords / 140), torch.from_numpy(labels).float()
        )
        best = int(scores[0, 1:].argmax()) + 1
        enlarged = torch.nn.functional.interpolate(low_res[:, best : best + 1], (140, 140), mode="bilinear")
    torch.testing.assert_close(scores[0, best], score[0])
    torch.testing.assert_close(enlarged[:, 0], logits, atol=1e-4, rtol=1e-4)


def test_perfect_masks_cost_nothing_and_empty_ones_do() -> None:
    targets = (torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(0)) > 0.7).float()
    perfect = (40.0 * (targets - 0.5))[:, None].expand(-1, 4, -1, -1)
    scores = torch.ones(2, 4)
    assert prompt_loss(perfect, scores, targets) < 1e-3
    assert prompt_loss(torch.full_like(perfect, -20.0), 0.0 * scores, targets) > 1.5
    assert balanced_loss(perfect, targets) < 1e-3
    # Of the three competing masks only the best one counts, unless nothing is left open.
    one_good = torch.cat([perfect[:, :2], -perfect[:, 2:]], 1)
    scores = torch.tensor([[1.0, 1.0, 0.0, 0.0]] * 2)
    assert prompt_loss(one_good, scores, targets) < 1e-3
    assert prompt_loss(one_good, scores, targets, torch.tensor([True, False])) > 0.5


def test_the_seed_decides_the_training(scenes: Scenes) -> None:
    (first, losses), (again, same), (_, other) = (train(scenes, seed, [_STAGE], warmup_steps=2) for seed in (0, 0, 1))
    assert losses == same != other
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in first.state_dict().items())


def test_a_stopped_training_goes_on(scenes: Scenes, tmp_path: Path) -> None:
    second = Stage("second", 96, 2, 2, 4, (1e-3, 0.0), (0.5, 0.0), _MIX)
    through, _ = train(scenes, 0, [_STAGE, second], warmup_steps=0)
    train(scenes, 0, [_STAGE], warmup_steps=0, checkpoints=tmp_path)
    resumed, losses = train(scenes, 0, [_STAGE, second], warmup_steps=0, checkpoints=tmp_path)
    assert len(losses) == second.steps
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in through.state_dict().items())


def test_a_short_training_lowers_its_loss(scenes: Scenes) -> None:
    stage = Stage("short", 96, 60, 2, 4, (1e-3, 1e-3), (1.0, 1.0), Mix(kinds={(True, 0): 1.0}, jittered=0.0))
    _, losses = train(scenes, 0, [stage], warmup_steps=0)
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:10])


def test_shipped_weights_fit_the_architecture() -> None:
    checkpoint = sam2.shipped()
    assert checkpoint is not None
    state, built = load_file(checkpoint), sam2.build()
    buffers = {name for name, _ in built.named_buffers()}
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in built.state_dict().items()
    }
    assert all(value.dtype == torch.bfloat16 for name, value in state.items() if name not in buffers)
    assert checkpoint.with_name(sam2.CONFIG.name).read_bytes() == sam2.CONFIG.read_bytes()
    assert checkpoint.with_name("MODEL_CARD.md").is_file()


@pytest.fixture(scope="module")
def report() -> Report:
    return evaluate(Sam2Model(load_predictor(SegmenterConfig(device="cpu"))), "val", count=20)


def test_the_card_has_every_figure_of_the_report(report: Report) -> None:
    text = card.figures_text(report, 20, "train --measure-only")
    rows = re.findall(r"^\| (?!prompt|---)(.*) \| (.*) \|$", text, re.MULTILINE)
    told = " ".join(value for _, value in rows)
    for name, value in dataclasses.asdict(report).items():
        assert (f"n = {value}" if isinstance(value, int) else f"{value:.3f}") in told, name
    assert "first 20 scenes of test" in text and "`train --measure-only`" in text
    assert f"adds {report.several_parts_box_points - report.several_parts_box:.2f} to" in text
    shipped = sam2.shipped()
    assert shipped is not None
    names = [name for name, _ in rows]
    figures = shipped.with_name("MODEL_CARD.md").read_text().partition("\n## Figures\n\n")[2]
    assert [name for name, _ in re.findall(r"^\| (?!prompt|---)(.*) \| (.*) \|$", figures, re.MULTILINE)] == names


def test_the_card_tells_of_every_stage() -> None:
    text = card.training_text("train", seed=3, scenes=1234)
    assert "| `train`, one CPU thread" in text and "first 1,234 scenes" in text and "Seed 3," in text
    for stage in STAGES:
        (row,) = re.findall(rf"^\| {stage.name} \|.*$", text, re.MULTILINE)
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[1:4] == [str(stage.image_size), f"{stage.steps:,}", str(stage.num_scenes)]
        assert f"box + 3 points {stage.mix.kinds[True, 3]:.0%}" in cells[5]
        assert cells[6:] == [f"{stage.mix.several:.0%}", f"{stage.mix.groups:.0%}"]


def test_shipped_weights_segment_places_of_one_part(report: Report) -> None:
    assert report.one_part >= 60
    assert report.one_part_box >= 0.85


def test_shipped_weights_need_points_for_places_of_several_parts(report: Report) -> None:
    assert report.several_parts >= 30
    assert report.several_parts_box_points >= 0.84
    # 0.10 and more over the first 200 scenes of test, as the model card says; these are few places.
    assert report.several_parts_box_points >= report.several_parts_box + 0.06
    assert report.several_parts_jittered_points >= report.several_parts_jittered + 0.05


def test_shipped_weights_obey_negative_points(report: Report) -> None:
    assert report.wrong >= 5
    assert report.wrong_share > 0.5 > report.wrong_share_negative
    assert report.taken_out >= 0.7
    assert report.wrong_box_negative >= report.wrong_box + 0.05


def test_predicted_iou_tells_good_masks_from_bad_ones(report: Report) -> None:
    assert report.pearson >= 0.7
    assert abs(report.predicted_iou - report.real_iou) < 0.05
