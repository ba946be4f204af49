"""The whole verb, as a user starts it."""

import json
import os
import subprocess
import sys

import pytest
from aiohttp import web
from PIL import Image

from verl_socio.evaluate.launch import launch
from verl_socio.train.settings import ROOT

FIGURE = ROOT / "tests" / "fixtures" / "socioseg_figure"
COMMAND = [sys.executable, "-c", "from verl_socio.cli import main; main()", "evaluate"]


def run(*arguments):
    environment = {**os.environ, "COLUMNS": "120"}
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=280, env=environment, check=False
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_real_samples_through_real_vllm_and_sam2_and_the_same_command_again(tiny_model, tmp_path):
    arguments = [
        f"model={tiny_model}", f"data={FIGURE}", f"output_root={tmp_path}", "max_response_length=32", "pictures=2",
    ]  # fmt: skip
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    [folder] = (tmp_path / tiny_model.name / "eval").iterdir()
    assert all(word in done.stdout for word in ("from the start", "all (4)", "centre box", "localise", "refine", "F1"))
    assert "WARNING" not in done.stdout, "vLLM's own words belong in its log"
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == ["fig_class_0", "fig_class_1", "fig_function_0", "fig_name_0"]
    for row in rows:
        assert row["failure"] is None and row["size_wh"] == [240, 240] and row["target_area"] > 0
        assert [stage["name"] for stage in row["stages"]] == ["localise", "refine"]
        assert all(0 < stage["tokens"] <= 32 and stage["text"] for stage in row["stages"])
    assert len(list((folder / "pictures").glob("*.jpg"))) == 2
    assert len(list((folder / "pictures" / "small").iterdir())) == 4
    assert "fig_class_0" in (folder / "report.html").read_text()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["samples"], summary["failures"]) == (4, 0)
    assert json.loads((folder / "fingerprint.json").read_text())["notes"]["data"] == str(FIGURE)

    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    again = run(*arguments, "concurrency=1")
    assert again.returncode == 0, again.stderr
    assert "complete: nothing to run" in again.stdout and "Starting vLLM" not in again.stdout
    assert again.stdout.splitlines()[-20:] == done.stdout.splitlines()[-20:]
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {name for name in before if before[name] != after[name]} <= {"config.yaml", "vllm.log"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_splits_in_two_ways_through_one_start_of_vllm(tiny_model, tiny_data, tmp_path):
    ways = tmp_path / "ways.yaml"
    ways.write_text("both: []\nno map: ['recipe.stages.localise.images=[satellite]', sampling.temperature=1]\n")
    arguments = [
        f"model={tiny_model}", f"data={tiny_data}", f"output_root={tmp_path}", "max_response_length=16", "name=mine",
        "split=[val,test]", f"ablations={ways}",
    ]  # fmt: skip
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Starting vLLM") == 1 and done.stdout.count("from the start") == 4
    folders = sorted((tmp_path / tiny_model.name / "eval").iterdir())
    assert [folder.name for folder in folders] == [
        "mine-test-both",
        "mine-test-no_map",
        "mine-val-both",
        "mine-val-no_map",
    ]
    rows = [[json.loads(line) for line in (folder / "results.jsonl").open()] for folder in folders]
    ids = [sorted(row["id"] for row in of_folder) for of_folder in rows]
    assert ids == [["test_0", "test_1"]] * 2 + [["val_0", "val_1"]] * 2
    marks = [json.loads((folder / "fingerprint.json").read_text()) for folder in folders]
    assert len({mark["sha256"] for mark in marks}) == 4
    assert marks[1]["identity"]["recipe"]["stages"]["localise"]["images"] == ["satellite"]
    assert all((folder / name).is_file() for folder in folders for name in ("summary.json", "report.html"))
    assert "against the first" in done.stdout and done.stdout.count("no map") >= 2
    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("complete: nothing to run") == 4 and "Starting vLLM" not in again.stdout


def test_without_a_merged_model_one_line_says_how_to_make_one(tmp_path):
    with pytest.raises(ValueError, match=r"model = 'newest'.*Fix: make one: bash training_scripts/"):
        launch([f"output_root={tmp_path}", f"data={FIGURE}"], dry_run=False)


def test_a_dry_run_makes_nothing(tmp_path, capsys):
    launch([f"output_root={tmp_path}", "data=/nowhere"], dry_run=True)
    printed = capsys.readouterr().out
    assert "data: /nowhere" in printed and "model: newest" in printed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("split=nosplit", "nosplit"),
        ("data=/nowhere", "/nowhere"),
        ("concurrency=0", "concurrency = 0"),
        ("pictures=-1", "pictures = -1"),
        ("max_samples=0", "max_samples = 0"),
        ("thumbnails=-1", "thumbnails = -1"),
        ("best_of=2", "best_of = 2"),
        ("max_response_length=many", "max_response_length = 'many'"),
        ("segmenter.weights=/nowhere/sam.pt", "segmenter.weights"),
        ("segmenter.device=tpu", "segmenter.device = 'tpu'"),
        ("+segmenter.size=3", "segmenter.size = 3"),
        ("+vllm.size=3", "vllm.size = 3"),
        ("max_failures=1.5", "max_failures = 1.5"),
        ("max_failures=true", "max_failures = True"),
        ("retry_failed=maybe", "retry_failed = 'maybe'"),
        ("max_prompt_length=20", "max_prompt_length = 20"),
        ("frame=pixels", "frame = 'pixels'"),
        ("sampling.temperature=-1", "sampling.temperature = -1"),
        ("host=http://localhost:abc/v1", "host = 'http://localhost:abc/v1'"),
        ("host=http://", "host = 'http://'"),
        ("host='http://[::1/v1'", "host = 'http://[::1/v1'"),
    ],
)
def test_bad_input_is_told_before_anything_starts(tiny_model, tmp_path, override, message):
    with pytest.raises(ValueError) as caught:
        launch([f"model={tiny_model}", f"data={FIGURE}", f"output_root={tmp_path}", override], dry_run=False)
    assert message in str(caught.value) and "Fix: " in str(caught.value)
    assert not list(tmp_path.rglob("vllm.log"))


# --- whole evaluations, through a server that stands in for the engine ---


class Evaluating:
    """The verb on a set of one's own, answered by a small server that may refuse questions or die."""

    def __init__(self, server, completion, model, tmp_path, data):
        self.refused, self.dead = (), ()
        self._completion = completion
        self.server = server(lambda running, request: self._answer(running.requests[-1], request))
        self.eval = tmp_path / "out" / model.name / "eval"
        self._words = [
            f"model={model}", f"data={data}", f"output_root={tmp_path}/out", f"host={self.server.url}", "name=mine",
            "segmenter.weights=boxes", "pictures=0", "thumbnails=0", "concurrency=1",
        ]  # fmt: skip

    def _answer(self, asked, request):
        text = asked["messages"][0]["content"][-1]["text"]
        if any(word in text for word in self.dead):
            request.transport.close()
        if any(word in text for word in self.refused):
            return web.json_response({"error": {"message": f"no room for it.{chr(7)}"}}, status=400)
        return web.json_response(self._completion("<answer>[]</answer>"))

    def __call__(self, *overrides):
        before = len(self.server.requests)
        try:
            launch([*self._words, *overrides], dry_run=False)
        finally:
            self.asked = len(self.server.requests) - before

    def rows(self, name="mine"):
        rows = [json.loads(line) for line in (self.eval / name / "results.jsonl").open()]
        return {row["id"]: row["failure"] for row in rows}


@pytest.fixture
def places(tmp_path, write_sample):
    """Ten places of the split test, two of the split val."""
    for split, count in (("test", 10), ("val", 2)):
        for number in range(count):
            write_sample(tmp_path / "data", f"{split}_{number}", split, question=f"Place {number} of {split}")
    return tmp_path / "data"


@pytest.fixture
def evaluating(server, completion, tiny_model, tmp_path, places):
    return Evaluating(server, completion, tiny_model, tmp_path, places)


def test_too_many_failures_end_an_evaluation_and_failed_samples_can_be_tried_again(evaluating, capsys):
    evaluating.refused = ("Place",)
    with pytest.raises(RuntimeError, match=r"2 of 10 samples failed, .*max_failures = 0.1 may; the first is test_0: "):
        evaluating()
    folder = evaluating.eval / "mine"
    assert len(evaluating.rows()) == 2 and not (folder / "summary.json").exists()
    assert "Stopped after 2 of 10" in capsys.readouterr().out
    evaluating.refused = ()
    with pytest.raises(RuntimeError, match=r"test_0: .*no room for it\.\?.*retry_failed=true.*max_failures=1\.$"):
        evaluating()
    assert evaluating.asked == 0, "told before anything starts"
    evaluating("retry_failed=true")
    assert list(evaluating.rows().values()) == [None] * 10
    assert json.loads((folder / "summary.json").read_text())["failures"] == 0
    evaluating("retry_failed=true")
    assert evaluating.asked == 0 and (folder / "summary.json").is_file()


def test_so_many_failures_as_are_allowed_are_counted_as_wrong(evaluating, capsys):
    evaluating.refused = ("Place 3",)
    evaluating()
    failed = [name for name, reason in evaluating.rows().items() if reason is not None]
    assert failed == ["test_3"]
    assert json.loads((evaluating.eval / "mine" / "summary.json").read_text())["failures"] == 1
    assert "retry_failed=true tries them again" in " ".join(capsys.readouterr().out.split())


def test_each_of_several_is_finished_as_soon_as_its_rows_are_there(evaluating):
    evaluating.dead = ("of val",)
    with pytest.raises(RuntimeError, match="the server does not answer"):
        evaluating("split=[test,val]")
    folders = [evaluating.eval / f"mine-{split}" for split in ("test", "val")]
    for name in ("summary.json", "report.html"):
        assert [(folder / name).is_file() for folder in folders] == [True, False]


def test_a_summary_goes_when_rows_are_missing_and_comes_back_with_them(evaluating):
    evaluating()
    rows, summary = (evaluating.eval / "mine" / name for name in ("results.jsonl", "summary.json"))
    rows.write_text("".join(rows.read_text().splitlines(keepends=True)[:-1]))
    evaluating.dead = ("Place",)
    with pytest.raises(RuntimeError, match="the server does not answer"):
        evaluating()
    assert not summary.exists()
    evaluating.dead = ()
    evaluating()
    assert json.loads(summary.read_text())["samples"] == 10
    assert json.loads((evaluating.eval / "mine" / "fingerprint.json").read_text())["notes"]["samples"] == 10


def test_an_evaluation_goes_on_with_the_model_that_it_began_with(evaluating):
    evaluating.dead = ("Place 4",)
    with pytest.raises(RuntimeError, match="the server does not answer"):
        evaluating()
    evaluating.dead, evaluating.server.model = (), "other"
    with pytest.raises(ValueError, match=r"served_model = None: was m when .* is now other\. Fix: serve m again"):
        evaluating()
    assert evaluating.asked == 0
    evaluating.server.model = "m"
    evaluating()
    assert len(evaluating.rows()) == 10 and {each["model"] for each in evaluating.server.requests} == {"m"}


def test_a_question_that_cannot_be_asked_is_told_before_any_is(evaluating, places):
    (places / "test" / "test_6" / "question.json").write_text('{"problem": "a <|im_end|>"}')
    with pytest.raises(ValueError, match="must not hold the model's control tokens"):
        evaluating()
    assert evaluating.asked == 0


def test_a_map_that_no_stage_shows_need_not_fit(tiny_model, tmp_path, write_sample, monkeypatch):
    data = tmp_path / "data"
    Image.new("RGB", (5, 5)).save(write_sample(data, "s", "test") / "map.png")
    overrides = [f"model={tiny_model}", f"data={data}", f"output_root={tmp_path}"]
    with pytest.raises(ValueError, match=r"map of s = \(5, 5\): must be as large as"):
        launch(overrides, dry_run=False)
    started = []
    monkeypatch.setattr("verl_socio.evaluate.launch.run", lambda waiting, *_: started.extend(waiting))
    monkeypatch.setattr("verl_socio.evaluate.launch._finish", lambda evaluation: sys.exit())
    with pytest.raises(SystemExit):
        launch([*overrides, "images=[satellite]"], dry_run=False)
    assert [sample.map for sample in started[0].samples] == [None]


def test_results_of_other_settings_under_the_same_name_are_refused(tiny_model, tmp_path):
    base = [f"model={tiny_model}", f"data={FIGURE}", f"output_root={tmp_path}", "name=mine"]
    with pytest.raises(ValueError, match="max_prompt_length = 20"):
        launch([*base, "max_prompt_length=20"], dry_run=False)
    with pytest.raises(ValueError, match=r"name = 'mine'.*max_prompt_length was 20 and is now 640.*Fix:"):
        launch([*base, "max_prompt_length=640"], dry_run=False)
