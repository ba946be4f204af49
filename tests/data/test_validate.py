import json
import re
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from verl_socio.data import load_samples, validate
from verl_socio.data.write import write_hub
from verl_socio.episode import Scene


def one_problem(problems: list) -> tuple[str, str]:
    (problem,) = problems
    assert problem.fix and problem.file
    return problem.id, problem.rule


def test_the_real_samples_are_sound(figure_folder, tmp_path):
    assert validate(str(figure_folder)) == []
    write_hub({"test": load_samples(str(figure_folder))}, tmp_path / "hub")
    assert validate(str(tmp_path / "hub"), "test") == []


def cut_mask(folder):
    Image.new("L", (10, 10), 255).save(folder / "mask.png")


def empty_mask(folder):
    Image.new("L", (64, 48)).save(folder / "mask.png")


def speck_mask(folder):
    mask_hw = np.zeros((48, 64), dtype=np.uint8)
    mask_hw[3, 3:6] = 255
    Image.fromarray(mask_hw).save(folder / "mask.png")


def broken_mask(folder):
    (folder / "mask.png").write_bytes(b"no picture")


def no_mask(folder):
    (folder / "mask.png").unlink()


def no_map(folder):
    (folder / "map.png").unlink()


def small_map(folder):
    Image.new("RGB", (64, 40)).save(folder / "map.png")


def no_satellite(folder):
    (folder / "sat.png").unlink()


def cut_satellite(folder):
    content = (folder / "sat.png").read_bytes()
    (folder / "sat.png").write_bytes(content[: len(content) // 2])


def no_question(folder):
    (folder / "question.json").unlink()


def broken_question(folder):
    (folder / "question.json").write_text('{"problem": "Zoo"')


def empty_question(folder):
    (folder / "question.json").write_text('{"problem": ""}')


@pytest.mark.parametrize(
    ("damage", "rule"),
    [
        (cut_mask, "must have the satellite's size, 64x48 px, but has 10x10 px"),
        (empty_mask, "must mark at least one pixel"),
        (speck_mask, "large enough for a box, but marks 3 px"),
        (broken_mask, "must be a readable mask"),
        (no_mask, "must have a mask"),
        (no_map, "must have a map image"),
        (small_map, "must have the satellite's size, 64x48 px, but has 64x40 px"),
        (no_satellite, "must exist"),
        (cut_satellite, "must be a readable image"),
        (no_question, "must be a readable file"),
        (broken_question, "must be JSON in UTF-8"),
        (empty_question, 'must be an object with text under "problem"'),
    ],
)
def test_every_kind_of_bad_sample_is_found(make_raw, tmp_path, damage, rule):
    for name in ("a", "b", "c"):
        make_raw(name)
    damage(tmp_path / "raw" / "train" / "b")
    name, found = one_problem(validate(str(tmp_path / "raw"), "train"))
    assert name == "b" and rule in found


def test_all_bad_rows_come_in_one_pass_in_order(make_raw, tmp_path):
    damages = [cut_mask, empty_mask, no_map, broken_question, no_satellite, small_map] * 9
    for number, damage in enumerate(damages):
        damage(make_raw(f"s{number:03}"))
        make_raw(f"t{number:03}")
    problems = validate(str(tmp_path / "raw"))
    assert [problem.id for problem in problems] == [f"s{number:03}" for number in range(len(damages))]


def test_a_sample_may_break_several_rules(make_raw, tmp_path):
    folder = make_raw("a")
    small_map(folder)
    empty_mask(folder)
    assert len(validate(str(tmp_path / "raw"))) == 2


def test_a_map_is_not_asked_of_data_that_is_used_without(make_raw, tmp_path):
    no_map(make_raw("a"))
    assert validate(str(tmp_path / "raw"), need_map=False) == []


def test_maps_are_asked_of_all_rows_where_one_row_has_one(make_raw, tmp_path):
    for name in ("a", "b"):
        no_map(make_raw(name))
    assert validate(str(tmp_path / "raw")) == []
    assert len(validate(str(tmp_path / "raw"), need_map=True)) == 2
    make_raw("c")
    assert [problem.id for problem in validate(str(tmp_path / "raw"))] == ["a", "b"]


def test_an_id_in_two_splits_is_found_when_all_are_checked(make_raw, tmp_path):
    make_raw("a", split="test")
    make_raw("a", split="train")
    make_raw("b", split="train")
    name, rule = one_problem(validate(str(tmp_path / "raw")))
    assert name == "a" and "is in test" in rule
    assert validate(str(tmp_path / "raw"), "train") == []


def test_folders_that_are_one_on_other_file_systems_are_found(make_raw, tmp_path):
    make_raw("Zoo")
    make_raw("zoo")
    name, rule = one_problem(validate(str(tmp_path / "raw")))
    assert name == "zoo" and "as Zoo" in rule


def test_a_repeated_id_in_a_table_is_found(make_raw, tmp_path):
    folder = make_raw("a")
    row = {"id": "x", "question": "Zoo", **{n: str(folder / f) for n, f in PATHS.items()}}
    pq.write_table(pa.Table.from_pylist([row, row | {"id": "y"}, row]), tmp_path / "t.parquet")
    name, rule = one_problem(validate(str(tmp_path / "t.parquet")))
    assert name == "x" and "id of its own" in rule


PATHS = {"satellite": "sat.png", "map": "map.png", "target": "mask.png"}


def test_bad_rows_of_a_table_are_found_with_their_row(make_raw, tmp_path):
    folder = make_raw("a")
    good = {"id": "x", "question": "Zoo", **{n: str(folder / f) for n, f in PATHS.items()}}
    rows = [good, good | {"id": "y", "question": " "}, good | {"id": "z", "map": "gone.png"}, good | {"id": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    problems = validate(str(tmp_path / "t.parquet"))
    assert [problem.id for problem in problems] == ["", "y", "z"]
    assert "row 3" in problems[0].file and "row 1" in problems[1].file and "gone.png" in problems[2].file


def test_an_empty_table_is_a_problem(tmp_path):
    pq.write_table(pa.table({"id": [], "question": [], "satellite": []}), tmp_path / "t.parquet")
    assert "at least one row" in one_problem(validate(str(tmp_path / "t.parquet")))[1]


def test_a_path_that_does_not_exist_is_an_error_and_no_problem(tmp_path):
    with pytest.raises(ValueError, match="must be a path that exists"):
        validate(str(tmp_path / "gone"))


def test_a_problem_reads_as_one_line(make_raw, tmp_path):
    (make_raw("a") / "question.json").write_text(json.dumps([1]))
    assert re.fullmatch(r"a: .*question\.json: must .*\. Fix: .*\.", str(validate(str(tmp_path / "raw"))[0]))


def test_memory_does_not_grow_with_the_data(make_raw, tmp_path):
    import tracemalloc

    folder = make_raw("a", size_wh=(256, 256))
    for number in range(150):
        shutil.copytree(folder, folder.with_name(f"b{number:03}"))
    tracemalloc.start()
    assert validate(str(tmp_path / "raw")) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    whole = 151 * 3 * 256 * 256 * 3
    assert peak < whole / 4


def test_a_mask_that_marks_nothing_is_right_where_no_target_is_an_answer(make_raw, tmp_path):
    root = tmp_path / "raw"
    empty_mask(make_raw("a"))
    assert {problem.rule for problem in validate(str(root), "train")} == {"must mark at least one pixel above 0"}
    assert validate(str(root), "train", need_target=False) == []


def published_table(path, solution):
    """A table in the columns of VisionReasoner's and Seg-Zero's training sets: one image, a solution, no mask."""
    Image.new("RGB", (64, 48)).save(path.parent / "image.png")
    picture = {"bytes": (path.parent / "image.png").read_bytes(), "path": None}
    row = {"id": 7, "problem": "the dog", "solution": solution, "image": picture, "img_height": 48, "img_width": 64}
    pq.write_table(pa.Table.from_pylist([row]), path)
    return str(path)


@pytest.mark.parametrize(
    ("solution", "rule"),
    [
        ('[{"bbox_2d": [1, 2, 30, 40], "point_2d": [9, 9]}]', None),
        ("<box>(1,2),(30,40)</box><points>(3,4),(5,6)</points>", None),
        ('[{"bbox_2d": [100, 2, 300, 40]}]', "must have its boxes on the image of 64x48 px"),
        ("the dog", "solution = 'the dog': must be JSON"),
        ("", "must have a mask"),
    ],
)
def test_the_published_training_sets_are_read_by_their_solution(tmp_path, solution, rule):
    table = published_table(tmp_path / "train.parquet", solution)
    found = validate(table, need_map=False)
    if rule is None:
        assert found == []
        (sample,) = load_samples(table)
        assert (sample.id, sample.question, sample.map, sample.target) == ("7", "the dog", None, None)
        assert sample.truth.boxes_xyxy == ((1, 2, 30, 40),)
        assert type(sample).from_row(sample.to_row()) == sample
    else:
        assert rule in one_problem(found)[1]


def test_a_published_training_set_in_the_hubs_layout_trains(tmp_path):
    (tmp_path / "set" / "data").mkdir(parents=True)
    published_table(
        tmp_path / "set" / "data" / "train-00000-of-00001.parquet",
        '[{"bbox_2d": [1, 2, 30, 40], "point_2d": [9, 8]}, {"bbox_2d": [5, 5, 9, 9], "point_2d": [6, 7]}]',
    )
    (sample,) = load_samples(str(tmp_path / "set"), "train")
    target = Scene.load(sample, with_target=True).target
    assert target.boxes_xyxy.tolist() == [[1, 2, 30, 40], [5, 5, 9, 9]]
    assert target.points_xy.tolist() == [[9, 8], [6, 7]]
    assert target.mask_hw.sum() == 29 * 38
    assert validate(str(tmp_path / "set"), "train", need_map=False) == []
