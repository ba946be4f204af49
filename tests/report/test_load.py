import json

import pytest

from verl_socio.report.load import load


@pytest.mark.parametrize("name", ["fingerprint.json", "config.yaml", "results.jsonl"])
def test_a_folder_that_lacks_a_file_is_no_evaluation(write_evaluation, tmp_path, name):
    folder = write_evaluation(tmp_path / "e", 2)
    (folder / name).unlink()
    with pytest.raises(ValueError, match=rf"folder = .*has no {name}.*Fix:"):
        load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", "{", '{"recipe": 1}', "null", '{"sha256": 1, "identity": 2}'])
@pytest.mark.parametrize("name", ["fingerprint.json", "config.yaml"])
def test_a_broken_file_is_an_error(write_evaluation, tmp_path, name, text):
    folder = write_evaluation(tmp_path / "e", 2)
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=r"folder = .*must hold the settings and the fingerprint.*Fix:"):
        load(folder)


def test_nothing_evaluated_yet_is_an_error(write_evaluation, tmp_path):
    with pytest.raises(ValueError, match=r"holds no result yet.*Fix:"):
        load(write_evaluation(tmp_path / "e", 0))


def test_rows_of_other_stages_are_an_error(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 2)
    lines = [json.loads(line) for line in (folder / "results.jsonl").open()]
    lines[1]["stages"].pop()
    (folder / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(ValueError, match=r"has a result of other stages \(sample_1: localise\).*Fix:"):
        load(folder)


def test_rows_come_in_the_set_s_order(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 5)
    lines = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "results.jsonl").write_text("".join(reversed(lines)))
    assert [row.index for row in load(folder).rows] == list(range(5))


@pytest.mark.parametrize(
    ("count", "size", "finished", "missing", "is_finished"),
    [(5, 5, True, 0, True), (5, 7, True, 2, False), (5, 5, False, 0, False), (5, None, True, 0, True)],
)
def test_finished_are_those_of_which_every_sample_has_a_row(
    write_evaluation, tmp_path, count, size, finished, missing, is_finished
):
    found = load(write_evaluation(tmp_path / "e", count, size=size, finished=finished))
    assert (found.missing, found.is_finished) == (missing, is_finished)


@pytest.mark.parametrize(
    ("model", "title"),
    [
        ("outputs/embedded/merged/global_step_50", "embedded/global_step_50"),
        ("models/merged/mine", "mine"),
        ("Qwen/Qwen2.5-VL-3B-Instruct", "Qwen2.5-VL-3B-Instruct"),
    ],
)
def test_a_merged_model_is_called_by_its_run_too(write_evaluation, tmp_path, model, title):
    folder = write_evaluation(tmp_path / "e", 2)
    path = folder / "config.yaml"
    path.write_text(path.read_text().replace("models/tiny", model))
    assert load(folder).title == f"{title} on city, split test"
