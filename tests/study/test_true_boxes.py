import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from verl_socio.data import load_samples
from verl_socio.segment.box_segmenter import BoxSegmenter
from verl_socio.study.true_boxes import main, measure, points_in, true_prompts


@pytest.fixture
def city(tmp_path: Path, write_sample: Callable[..., Path]) -> Path:
    write_sample(tmp_path / "city", "one", "test")
    write_sample(tmp_path / "city", "two", "test", boxes_xyxy=((2, 2, 12, 12), (30, 20, 50, 40)))
    return tmp_path / "city"


def test_rectangles_are_found_whole_by_what_fills_boxes(city: Path) -> None:
    lines = asyncio.run(measure(load_samples(str(city), "test"), BoxSegmenter(), [0, 1, 2]))
    assert [line.name for line in lines] == ["true boxes", "true boxes, 1 point each", "true boxes, 2 points each"]
    assert {(line.samples, line.giou, line.ciou, line.f1) for line in lines} == {(2, 1.0, 1.0, 1.0)}


def test_each_region_has_its_own_box_and_points() -> None:
    target_hw = np.zeros((40, 60), dtype=bool)
    target_hw[2:12, 3:13] = target_hw[20:38, 30:50] = True
    target_hw[0, 59] = True  # a speck is no instance
    one, two = true_prompts(target_hw, 2)
    assert (one.box_xyxy, two.box_xyxy) == ((3, 2, 13, 12), (30, 20, 50, 38))
    assert one.labels == (1, 1)
    assert all(3 < x < 13 and 2 < y < 12 for x, y in one.points_xy)


def test_points_lie_deep_inside_and_apart() -> None:
    region_hw = np.zeros((30, 60), dtype=bool)
    region_hw[5:16, 5:16] = region_hw[5:16, 40:51] = True
    region_hw[10, 16:40] = True
    first, second, third = points_in(region_hw, 3)
    assert {first, second} == {(10.5, 10.5), (45.5, 10.5)}, "the middles of both halves"
    assert third not in (first, second)
    assert all(region_hw[int(y), int(x)] for x, y in (first, second, third))
    assert points_in(region_hw, 0) == []


def test_a_whole_image_has_its_point_in_the_middle() -> None:
    assert points_in(np.ones((9, 9), dtype=bool), 1) == [(4.5, 4.5)]


def test_a_mistake_on_the_command_line_is_one_message(city: Path, tmp_path: Path) -> None:
    words = [str(city), "no_such", str(tmp_path / "out.json"), "--points", "0", "--weights", "boxes"]
    command = [sys.executable, "-m", "verl_socio.study.true_boxes", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    _stand_in, told = done.stderr.splitlines()
    assert told.startswith("Error: split = 'no_such': must be a split of ")


def test_the_record_is_written(city: Path, tmp_path: Path) -> None:
    main(city, "test", tmp_path / "deep" / "out.json", [0], weights="boxes")
    (line,) = json.loads((tmp_path / "deep" / "out.json").read_text())["lines"]
    assert (line["name"], line["giou"]) == ("true boxes", 1.0)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out.json"]
