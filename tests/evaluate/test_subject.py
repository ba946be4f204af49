import os

import pytest

from verl_socio.evaluate.subject import newest_merged, subject_of


def merged(root, run, step, age, *, whole=True):
    folder = root / run / "merged" / step
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    if whole:
        (folder / "config.json").write_text("{}")
    os.utime(folder, (1_700_000_000 - age, 1_700_000_000 - age))
    return folder


def test_the_newest_merged_model_by_time_is_taken(tmp_path):
    merged(tmp_path, "run_a", "global_step_40", age=50)
    newest = merged(tmp_path, "run_b", "global_step_2", age=10)
    merged(tmp_path, "run_c", "global_step_9", age=0, whole=False)
    merged(tmp_path, "run_c", ".global_step_9.x1", age=0)
    assert newest_merged(tmp_path) == newest
    subject = subject_of("newest", tmp_path)
    assert (subject.name, subject.source) == ("global_step_2", str(newest))
    assert subject.run_dir == tmp_path / "run_b"
    assert subject.title == "run_b/global_step_2", "all runs call their models alike"
    assert subject.folder() == newest


def test_without_a_merged_model_the_error_tells_how_to_make_one(tmp_path):
    assert newest_merged(tmp_path / "nothing") is None
    with pytest.raises(ValueError, match=r"Fix: .*training_scripts/model_merger.py.*model=FOLDER_OR_HUB_ID"):
        subject_of("newest", tmp_path)


def test_the_settings_of_a_run_belong_to_its_merged_models_only(tmp_path):
    folder = merged(tmp_path, "run", "global_step_1", age=0)
    assert subject_of(str(folder), tmp_path).trained_with() is None
    (tmp_path / "run" / "config.yaml").write_text("frame: image\n")
    assert subject_of(str(folder), tmp_path).trained_with().frame == "image"
    elsewhere = tmp_path / "other" / "model"
    elsewhere.mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("frame: image\n")
    assert subject_of(str(elsewhere), tmp_path / "outputs").trained_with() is None


def test_results_of_a_model_from_elsewhere_go_below_the_output_root(tmp_path):
    model = tmp_path / "models" / "merged" / "mine"
    model.mkdir(parents=True)
    assert subject_of(str(model), tmp_path / "outputs").run_dir == tmp_path / "outputs" / "mine"
    hub = subject_of("Qwen/Qwen2.5-VL-3B-Instruct", tmp_path / "outputs")
    assert not hub.is_local and hub.trained_with() is None
    assert [subject_of(str(model), tmp_path).title, hub.title] == ["mine", "Qwen2.5-VL-3B-Instruct"]
    assert hub.run_dir == tmp_path / "outputs" / "Qwen2.5-VL-3B-Instruct"


@pytest.mark.parametrize("model", ["./missing", "/missing/model", "one/two/three", "", "a\x00b", "x" * 5000])
def test_what_is_neither_a_folder_nor_a_hub_id_is_an_error(tmp_path, model):
    with pytest.raises(ValueError, match=r"must be newest, an existing model folder or a Hub id.*Fix:"):
        subject_of(model, tmp_path)


def test_a_folder_without_configuration_or_weights_is_an_error(tmp_path):
    subject = subject_of(str(tmp_path), tmp_path / "outputs")
    with pytest.raises(ValueError, match=r"must hold config.json.*Fix:"):
        subject.folder()
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"must hold weights.*Fix: .*model_merger.py"):
        subject.folder()
