import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from verl_socio.data import load_samples, split_names, tables
from verl_socio.data.readers import raw
from verl_socio.data.sample import ImageRef
from verl_socio.data.write import write_hub, write_parquet


@pytest.fixture
def hub_folder(figure_folder, tmp_path):
    """The figure's four samples as a data set in the Hub's layout, in two splits."""
    samples = load_samples(str(figure_folder), "test")
    write_hub({"test": samples, "train": samples[:2]}, tmp_path / "hub")
    return tmp_path / "hub"


def pixels(image: ImageRef) -> list:
    return np.asarray(image.open(mode=None)).tolist()


def test_the_real_samples_load_in_order_of_id(figure_folder):
    samples = load_samples(str(figure_folder), "test")
    assert [one.id for one in samples] == ["fig_class_0", "fig_class_1", "fig_function_0", "fig_name_0"]
    assert [one.level for one in samples] == ["class", "class", "function", "name"]
    assert samples[3].question == "Jinan Zoo"
    assert all(one.map is not None and one.target is not None for one in samples)
    assert samples == load_samples(str(figure_folder)), "the only split needs no name"
    assert samples == load_samples(str(figure_folder / "test")), "a split's own folder will do"


def test_a_source_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="must be a path that exists"):
        load_samples(str(tmp_path / "gone"), "train")


def test_a_folder_with_something_else_says_what_it_found(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"found there: notes\.txt"):
        load_samples(str(tmp_path), "train")


def test_an_unknown_split_lists_the_splits_found(make_raw, tmp_path):
    make_raw("a", split="train")
    make_raw("b", split="val")
    assert split_names(str(tmp_path / "raw")) == ["train", "val"]
    for split in (None, "test"):
        with pytest.raises(ValueError, match="found there: train, val"):
            load_samples(str(tmp_path / "raw"), split)


def test_a_missing_map_or_mask_is_none_and_a_missing_satellite_an_error(make_raw, tmp_path):
    folder = make_raw("a")
    (folder / "map.png").unlink()
    (folder / "mask.png").unlink()
    (one,) = load_samples(str(tmp_path / "raw"))
    assert one.map is None and one.target is None
    (folder / "sat.png").unlink()
    with pytest.raises(ValueError, match=r"sample a .*sat\.png.*data validate"):
        load_samples(str(tmp_path / "raw"))


def test_raw_data_may_say_the_level_itself(make_raw, tmp_path):
    (make_raw("a") / "question.json").write_text(json.dumps({"problem": "Amber Hall", "level": "class"}))
    assert load_samples(str(tmp_path / "raw"))[0].level == "class"


@given(st.binary(max_size=200) | st.text().map(str.encode))
def test_any_question_file_gives_text_or_a_value_error(content):
    try:
        question, level = raw.parse_question(content)
    except ValueError:
        return
    assert question.strip() == question != "" and level in ("name", "class", "function")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["problem", "level", "x"]), inner),
    max_leaves=8,
)


@given(json_values)
def test_any_json_gives_text_or_a_value_error(value):
    try:
        question, level = raw.parse_question(json.dumps(value).encode())
    except ValueError:
        return
    assert value["problem"].strip() == question
    assert "level" not in value or level == value["level"]


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(str.strip), st.booleans())
def test_a_good_question_in_any_script_is_read_back(question, bom):
    text = json.dumps({"problem": question}, ensure_ascii=False).encode("utf-8-sig" if bom else "utf-8")
    assert raw.parse_question(text)[0] == question.strip()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 200_000,
        b'{"problem": "\\ud800"}',
        b'{"problem": " "}',
        b'{"problem": ["Zoo"]}',
        b'{"problem": "Zoo", "level": "town"}',
        b'{"question": "Zoo"}',
        b" " * (1 << 21),
    ],
)
def test_a_broken_question_file_is_a_value_error(content):
    with pytest.raises(ValueError, match="must"):
        raw.parse_question(content)


def test_a_paths_table_gives_the_samples_back(figure_folder, tmp_path):
    samples = load_samples(str(figure_folder), "test")
    write_parquet(samples, tmp_path / "rows" / "train.parquet")
    types = pq.read_schema(tmp_path / "rows" / "train.parquet").types
    assert set(types) == {pa.string()}, "strings only, never pixels"
    assert load_samples(str(tmp_path / "rows" / "train.parquet"), "any") == samples
    assert load_samples(str(tmp_path / "rows"), "train") == samples
    with pytest.raises(ValueError, match="found there: train"):
        load_samples(str(tmp_path / "rows"), "test")


def test_relative_paths_are_relative_to_the_table(make_raw, tmp_path):
    make_raw("a")
    row = {"id": ["a"], "question": ["Zoo"], "satellite": ["raw/train/a/sat.png"], "map": [None], "target": [""]}
    pq.write_table(pa.table(row), tmp_path / "t.parquet")
    (one,) = load_samples(str(tmp_path / "t.parquet"))
    assert one.satellite.size_wh == (64, 48)
    assert one.map is None and one.target is None and one.level == "class"


def test_images_inside_a_parquet_file_are_read_by_reference(hub_folder, figure_folder):
    originals = load_samples(str(figure_folder), "test")
    (file,) = hub_folder.glob("data/test-*.parquet")
    samples = load_samples(str(file))
    assert [(one.id, one.question, one.level) for one in samples] == [
        (one.id, one.question, one.level) for one in originals
    ]
    assert samples[2].satellite.uri == f"parquet:{file}#2/sat_image"
    for one, original in zip(samples, originals, strict=True):
        assert pixels(one.satellite) == pixels(original.satellite)
        assert (one.target_mask() == original.target_mask()).all()


def test_a_null_image_is_no_image(hub_folder, tmp_path):
    (file,) = hub_folder.glob("data/test-*.parquet")
    table = pq.read_table(file)
    column = table.schema.get_field_index("map_image")
    cells = table.column(column).to_pylist()
    cells[1] = None
    field = table.schema.field(column)
    pq.write_table(table.set_column(column, field, pa.array(cells, field.type)), tmp_path / "holes.parquet")
    assert [one.map is None for one in load_samples(str(tmp_path / "holes.parquet"))] == [False, True, False, False]


def test_a_folder_in_the_hubs_layout_stays_memory_mapped(hub_folder, figure_folder):
    originals = load_samples(str(figure_folder), "test")
    assert split_names(str(hub_folder)) == ["test", "train"]
    samples = load_samples(str(hub_folder), "test")
    assert samples[3].map.uri == f"hub:{hub_folder}#test/3/map_image"
    assert tables.open_hub(str(hub_folder), "test").cache_files, "the table is on disk, not in memory"
    for one, original in zip(samples, originals, strict=True):
        assert (one.id, one.question, one.level) == (original.id, original.question, original.level)
        assert pixels(one.map) == pixels(original.map)


def test_a_reference_opens_in_another_process(hub_folder):
    uri = load_samples(str(hub_folder), "train")[1].satellite.uri
    code = f"from verl_socio.data.sample import ImageRef; assert ImageRef({uri!r}).open().size == (240, 240)"
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})


def test_a_missing_column_is_an_error_that_lists_the_columns(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "text": ["b"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"question or problem; it has id, text"):
        load_samples(str(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [("id", None, "must have an id"), ("question", "", "must have a question"), ("level", "town", "must have a level")],
)
def test_a_bad_row_is_named(tmp_path, column, value, message):
    row = {"id": "a", "question": "Zoo", "satellite": "s.png", "level": "name", column: value}
    pq.write_table(pa.table({name: [text] for name, text in row.items()}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=rf"t\.parquet row 0.*{message}"):
        load_samples(str(tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    "uri",
    [
        "parquet:nothing",
        "parquet:/x.parquet#a/b",
        "parquet:{file}#9/sat_image",
        "parquet:{file}#0/other",
        "parquet:/gone.parquet#0/sat_image",
        "hub:{folder}#test/0",
        "hub:{folder}#test/-1/sat_image",
        "hub:#test/0/sat_image",
    ],
)
def test_a_wrong_reference_is_a_value_error(hub_folder, uri):
    (file,) = hub_folder.glob("data/test-*.parquet")
    with pytest.raises(ValueError, match=r"(image|data) = .*Fix:"):
        ImageRef(uri.format(file=file, folder=hub_folder)).open()


def test_an_unknown_id_on_the_hub_is_a_value_error(tmp_path):
    code = (
        "from verl_socio.data import load_samples\n"
        "try:\n    load_samples('nobody/nothing', 'train')\n"
        "except ValueError as error:\n    assert 'nobody/nothing' in str(error), error\n"
        "else:\n    raise SystemExit('no error')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, cwd=tmp_path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_a_damaged_parquet_file_gives_samples_or_a_value_error(tmp_path, figure_folder, data):
    whole = tmp_path / "whole.parquet"
    if not whole.exists():
        write_parquet(load_samples(str(figure_folder), "test"), whole)
    content = bytearray(whole.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(content[: data.draw(st.sampled_from([len(content), 4, 0, len(content) // 2]))])
    try:
        samples = load_samples(str(damaged))
    except ValueError:
        return
    assert samples


def test_reading_opens_no_image(figure_folder, tmp_path, monkeypatch):
    folder = tmp_path / "copy"
    shutil.copytree(figure_folder, folder)
    for file in folder.glob("test/*/*.png"):
        file.chmod(0o644)
        file.write_bytes(b"not an image")
    assert len(load_samples(str(folder), "test")) == 4


def test_the_data_room_imports_no_heavy_library():
    code = (
        "import sys, verl_socio.data, verl_socio.data.write, verl_socio.city\n"
        "heavy = {'torch', 'verl', 'vllm', 'sam2', 'ray', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
