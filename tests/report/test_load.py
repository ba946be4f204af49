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
