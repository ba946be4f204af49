import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from verl_socio.data import load_samples, validate
from verl_socio.data.convert import convert
from verl_socio.episode import Scene

RIGHT = [60, 10, 81, 10, 81, 31, 60, 31]
LEFT = [10, 10, 31, 10, 31, 31, 10, 31]


@pytest.fixture
def refcocog(tmp_path: Path) -> Path:
    """Two pictures of 100 x 60 px; three objects described in the first, one in the second."""
    folder = tmp_path / "refcocog"
    (folder / "images").mkdir(parents=True)
    images, annotations, refs = [], [], []
    for image_id in (1, 2):
        Image.new("RGB", (100, 60), "green").save(folder / "images" / f"{image_id}.jpg")
        images.append({"id": image_id, "file_name": f"{image_id}.jpg", "width": 100, "height": 60})
    objects = [(1, LEFT, "the left one"), (1, RIGHT, "the right one"), (1, [40, 40, 51, 40, 51, 51, 40, 51], "low")]
    for number, (image_id, polygon, text) in enumerate([*objects, (2, LEFT, "the only one")], start=10):
        annotations.append({"id": number, "image_id": image_id, "segmentation": [polygon]})
        sentences = [{"sent": text}, {"sent": f"{text} again"}]
        refs.append({"ref_id": 100 + number, "ann_id": number, "split": "train", "sentences": sentences})
    refs.append({"ref_id": 1, "ann_id": 10, "split": "val", "sentences": [{"raw": "left"}]})
    (folder / "instances.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    (folder / "refs(umd).p").write_bytes(pickle.dumps(refs))
    return folder


@pytest.fixture
def lisa(tmp_path: Path) -> Path:
    folder = tmp_path / "lisa" / "train"
    folder.mkdir(parents=True)
    Image.new("RGB", (100, 60), "green").save(folder / "a.jpg")
    shapes = [
        {"label": "target", "points": np.reshape(LEFT, (4, 2)).tolist()},
        {"label": "target", "points": np.reshape(RIGHT, (4, 2)).tolist()},
        {"label": "ignore", "points": [[90, 50], [99, 50], [99, 59]]},
        {"label": "flag", "points": [[0, 0], [100, 0], [100, 60], [0, 60]]},
    ]
    content = {"text": ["what would you eat?", "the fruit"], "is_sentence": True, "shapes": shapes}
    (folder / "a.json").write_text(json.dumps(content))
    return tmp_path / "lisa"


def test_refcocog_an_object_a_question(refcocog: Path, tmp_path: Path) -> None:
    assert convert(refcocog, tmp_path / "out") == 4
    table = str(tmp_path / "out" / "train.parquet")
    assert validate(table) == []
    samples = load_samples(table)
    assert [sample.question for sample in samples] == ["the left one", "the right one", "low", "the only one"]
    first = samples[0]
    left, top, right, bottom = first.truth.boxes_xyxy[0]
    assert (left, top) == (10, 10) and 31 <= right <= 32 and 31 <= bottom <= 32
    (x, y), second = first.truth.points_xy[0]
    assert abs(x - 20.5) <= 1 and abs(y - 20.5) <= 1, "the middle of a square"
    assert second != (x, y)
    assert first.target_mask()[20, 20] and not first.target_mask()[20, 70]
    target = Scene.load(first, with_target=True).target
    assert target.two_points_xy.tolist() == [[x, y], list(second)]


def test_several_objects_of_a_picture_are_joined(refcocog: Path, tmp_path: Path) -> None:
    assert convert(refcocog, tmp_path / "out", join=2, style="refcocog") == 3
    samples = load_samples(str(tmp_path / "out" / "train.parquet"))
    assert [sample.question for sample in samples] == ["the left one and the right one", "low", "the only one"]
    assert [len(sample.truth.boxes_xyxy) for sample in samples] == [2, 1, 1]
    assert samples[0].target_mask()[20, 20] and samples[0].target_mask()[20, 70]


def test_texts_of_the_same_object_are_not_joined(refcocog: Path, tmp_path: Path) -> None:
    refs = pickle.loads((refcocog / "refs(umd).p").read_bytes())
    refs.insert(1, refs[0] | {"ref_id": 1101, "sentences": [{"sent": "left again"}]})
    (refcocog / "refs(umd).p").write_bytes(pickle.dumps(refs))
    assert convert(refcocog, tmp_path / "out", join=3) == 3
    samples = load_samples(str(tmp_path / "out" / "train.parquet"))
    joined = "left again and the right one and low"
    assert [sample.question for sample in samples] == ["the left one", joined, "the only one"]
    assert [len(sample.truth.boxes_xyxy) for sample in samples] == [1, 3, 1]


def test_of_several_refs_files_one_is_chosen(refcocog: Path, tmp_path: Path) -> None:
    refs = pickle.loads((refcocog / "refs(umd).p").read_bytes())
    (refcocog / "refs(google).p").write_bytes(pickle.dumps([ref | {"split": "train"} for ref in refs[:2]]))
    for named in (None, "refs(unc).p"):
        match = r"^refs = .*: refs\(google\)\.p, refs\(umd\)\.p\. Fix: .*--refs"
        with pytest.raises(ValueError, match=match):
            convert(refcocog, tmp_path / "out", refs=named)
        assert not (tmp_path / "out").exists(), "nothing half-made is left"
    assert convert(refcocog, tmp_path / "google", refs="refs(google).p") == 2
    assert convert(refcocog, tmp_path / "umd", refs="refs(umd).p") == 4


def test_a_named_style_without_a_refs_file_is_an_error(refcocog: Path, tmp_path: Path) -> None:
    (refcocog / "refs(umd).p").unlink()
    with pytest.raises(ValueError, match=r"^refs = None: .*none\. Fix: "):
        convert(refcocog, tmp_path / "out", style="refcocog")


def test_another_split_and_refs_as_json(refcocog: Path, tmp_path: Path) -> None:
    refs = pickle.loads((refcocog / "refs(umd).p").read_bytes())
    (refcocog / "refs(umd).p").unlink()
    (refcocog / "refs.json").write_text(json.dumps(refs))
    assert convert(refcocog, tmp_path / "out", split="val") == 1
    assert load_samples(str(tmp_path / "out" / "val.parquet"))[0].question == "left"


def test_lisa_every_text_means_all_targets(lisa: Path, tmp_path: Path) -> None:
    assert convert(lisa, tmp_path / "out") == 2
    table = str(tmp_path / "out" / "train.parquet")
    assert validate(table) == []
    first, second = load_samples(table)
    assert [first.question, second.question] == ["what would you eat?", "the fruit"]
    assert len(first.truth.boxes_xyxy) == 2
    mask_hw, ignored_hw = first.target_and_ignored()
    assert mask_hw[20, 20] and mask_hw[20, 70] and not mask_hw[40, 50]
    assert ignored_hw[51, 98] and not ignored_hw[20, 20]


def test_texts_of_lisas_files_are_never_joined(lisa: Path, tmp_path: Path) -> None:
    content = json.loads((lisa / "train" / "a.json").read_text())
    content["text"].append("what is sweet?")
    (lisa / "train" / "a.json").write_text(json.dumps(content))
    assert convert(lisa, tmp_path / "out", join=3) == 3
    samples = load_samples(str(tmp_path / "out" / "train.parquet"))
    assert [sample.question for sample in samples] == ["what would you eat?", "the fruit", "what is sweet?"]
    assert [len(sample.truth.boxes_xyxy) for sample in samples] == [2, 2, 2], "two targets, each there once"


def test_lisas_suffixes_may_be_in_capitals(lisa: Path, tmp_path: Path) -> None:
    folder = lisa / "train"
    shutil.copy(folder / "a.jpg", folder / "c.JPG")
    shutil.copy(folder / "a.json", folder / "c.JSON")
    assert convert(lisa, tmp_path / "out") == 4
    pictures = [sample.satellite.uri for sample in load_samples(str(tmp_path / "out" / "train.parquet"))]
    assert [Path(picture).name for picture in pictures] == ["a.jpg", "a.jpg", "c.JPG", "c.JPG"]


def test_lisas_json_files_without_a_picture_are_named(lisa: Path, tmp_path: Path) -> None:
    for name in ("b.json", "d.json"):
        shutil.copy(lisa / "train" / "a.json", lisa / "train" / name)
    with pytest.raises(ValueError, match=r"^JSON files of .*train = \['b\.json', 'd\.json'\]: .*picture.*Fix: "):
        convert(lisa, tmp_path / "out")
    assert not (tmp_path / "out").exists(), "nothing half-made is left"


def test_lisas_sets_have_no_refs_file(lisa: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^refs = 'refs\.p': must be left out.*Fix: "):
        convert(lisa, tmp_path / "out", refs="refs.p")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"split": "dev"}, r"^split = 'dev': must be one of train, val"),
        ({"style": "voc"}, r"^style = 'voc': must be auto or one of refcocog, lisa"),
        ({"join": 0}, r"^join = 0: must be 1 or more"),
        ({"images": Path("/no/such")}, r"^image 1 = '1\.jpg': must be a picture in /no/such"),
    ],
)
def test_what_cannot_be_converted(refcocog: Path, tmp_path: Path, change: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match + ".*Fix: "):
        convert(refcocog, tmp_path / "out", **change)
    assert not (tmp_path / "out").exists(), "nothing half-made is left"


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^data = .*must hold refs"):
        convert(tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("ann_id", 99), ("ann_id", None), ("sentences", []), ("sentences", [{"sent": " "}]), ("sentences", 5),
        ("split", None),
    ],
)  # fmt: skip
def test_a_broken_ref_is_named(refcocog: Path, tmp_path: Path, part: str, value: object) -> None:
    refs = pickle.loads((refcocog / "refs(umd).p").read_bytes())
    refs[0][part] = value
    (refcocog / "refs(umd).p").write_bytes(pickle.dumps(refs))
    with pytest.raises(ValueError, match=r"(entry 0|ref 110).*Fix: "):
        convert(refcocog, tmp_path / "out")


@pytest.mark.parametrize("segmentation", [[], [[1, 2]], "x", None, [[200, 200, 210, 200, 210, 210]]])
def test_a_mask_that_cannot_be_drawn_is_named(refcocog: Path, tmp_path: Path, segmentation: object) -> None:
    content = json.loads((refcocog / "instances.json").read_text())
    content["annotations"][0]["segmentation"] = segmentation
    (refcocog / "instances.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"(annotation 10|object 110).*Fix: "):
        convert(refcocog, tmp_path / "out")


@pytest.mark.parametrize("width", [None, "100", 0, True])
def test_a_picture_without_its_size_is_named(refcocog: Path, tmp_path: Path, width: object) -> None:
    content = json.loads((refcocog / "instances.json").read_text())
    content["images"][0] |= {"width": width}
    (refcocog / "instances.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"^image 1 of instances\.json = .*must have width and height.*Fix: "):
        convert(refcocog, tmp_path / "out")
    del content["images"][0]["width"]
    (refcocog / "instances.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"^image 1 of instances\.json"):
        convert(refcocog, tmp_path / "out")


@pytest.mark.parametrize("points", [None, 5, {}, "abc", [[1, 2]]])
def test_a_shape_without_points_is_named(lisa: Path, tmp_path: Path, points: object) -> None:
    content = json.loads((lisa / "train" / "a.json").read_text())
    content["shapes"][0]["points"] = points
    (lisa / "train" / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"^shape target of .*a\.json = .*three or more points.*Fix: "):
        convert(lisa, tmp_path / "out")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(
    content=st.binary()
    | st.recursive(
        st.none() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "shapes", "label", "points"]), inner)
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_file_of_lisas_is_converted_or_a_clear_error(lisa: Path, tmp_path: Path, content: bytes) -> None:
    (lisa / "train" / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"Fix: "):
        convert(lisa, tmp_path / "out", style="lisa")
