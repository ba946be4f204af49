import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from verl_socio.metrics import MaskScore
from verl_socio.report import charts
from verl_socio.report.charts import plain
from verl_socio.report.kinds import kind_of
from verl_socio.report.make import make

HOSTILE = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>$\\frac{{{&amp;\ud800\x00é"


def reworded(row, text):
    """The row with a text wherever a model or a data set may have written one."""
    stages = [dataclasses.replace(stage, text=text, thinking=text, reason=text) for stage in row.stages]
    return dataclasses.replace(row, id=f"{text}{row.index}", question=f"{text}{row.level}", stages=tuple(stages))


def test_a_report_is_a_page_its_figures_and_its_charts(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e")
    assert make(folder) == folder / "report.html"
    page = (folder / "report.html").read_text()
    content = json.loads((folder / "report.json").read_text())
    line = next(each for each in content["summary"]["lines"] if (each["level"], each["name"]) == ("all", "refine"))
    low, high = line["intervals"]["ciou"]
    assert low < line["ciou"] < high
    assert all(f"{100 * value:.1f}" in page for value in (line["ciou"], low, high))
    assert [each["index"] for each in content["samples"]] == list(range(24))
    assert sum(content["kinds"].values()) == sum(content["refinement"].values()) == 24
    assert {each["name"] for each in content["classes"]} == {"Zoo", "School"}
    names = ["classes", "iou", "kinds", "levels", "refinement"]
    assert [path.stem for path in sorted((folder / "charts").iterdir())] == names
    for name in names:
        with Image.open(folder / "charts" / f"{name}.png") as image:
            assert image.width > 600 and len(image.convert("L").getcolors()) > 20, "there is something on it"
        assert f'id="chart-{name}"' in page
    assert page.count('href="#s=') == 24, "a link a point"
    assert not re.search(r"(?:src|href)=[\"']https?:", page), "nothing is fetched"


def test_the_same_evaluation_gives_the_same_page(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 6)
    first = make(folder).read_bytes()
    assert make(folder).read_bytes() == first


def test_a_sample_without_pictures_or_without_result_is_there_too(write_evaluation, tmp_path):
    def change(row):
        return dataclasses.replace(row, failure="out of memory", stages=()) if row.index == 1 else row

    folder = write_evaluation(tmp_path / "e", 4, change=change, strips=False)
    make(folder)
    samples = json.loads((folder / "report.json").read_text())["samples"]
    assert {sample["strip"] for sample in samples} == {None}
    assert (samples[1]["kind"], samples[1]["failure"], samples[1]["change"]) == ("failed", "out of memory", None)


def test_where_everything_failed_there_is_a_report_all_the_same(write_evaluation, tmp_path):
    def change(row):
        return dataclasses.replace(row, failure="broken", stages=())

    assert "no result yet" not in make(write_evaluation(tmp_path / "e", 3, change=change)).read_text()


def test_one_stage_has_nothing_to_refine(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 4, stages=("answer",))
    page = make(folder).read_text()
    assert "most helped" not in page and not (folder / "charts" / "refinement.png").exists()


def test_an_unfinished_evaluation_says_so(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 5)
    assert "Unfinished" not in make(folder).read_text()
    lines = (folder / "results.jsonl").read_text().splitlines(keepends=True)
    (folder / "results.jsonl").write_text("".join(lines[1:]))
    assert "at least 1 samples" in make(folder).read_text()
    assert json.loads((folder / "report.json").read_text())["finished"] is False


def test_one_that_was_stopped_says_so_and_stands_beside_nothing_published(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 5, finished=False)
    change_settings(folder, published="SocioSeg/test")
    page = make(folder).read_text()
    assert "Unfinished: the figures are those of the samples done so far." in page
    assert "at least" not in page.split("<main>")[0] and 'class="published"' not in page
    (folder / "summary.json").write_text("{}")
    page = make(folder).read_text()
    assert "Unfinished" not in page and 'class="published"' in page
    assert json.loads((folder / "report.json").read_text())["finished"] is True


def test_how_many_samples_are_missing_is_known_where_the_set_s_size_is(write_evaluation, tmp_path):
    page = make(write_evaluation(tmp_path / "e", 5, size=9)).read_text()
    assert "Unfinished: 4 samples of the set have no result yet" in page


@pytest.mark.parametrize("finished", [True, False])
def test_the_centre_box_s_share_is_that_of_the_whole_set(write_evaluation, tmp_path, finished):
    folder = write_evaluation(tmp_path / "e", 5, finished=finished)
    assert ("Centre box: one centred box" in make(folder).read_text()) is finished
    share = json.loads((folder / "report.json").read_text())["summary"]["center_box_share"]
    assert share == (pytest.approx(100 / (40 * 30)) if finished else None)


def test_two_reports_at_once_do_not_share_their_drafts(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 3)
    # What another process, which writes the same report, has under way.
    drafts = [folder / name for name in (".report.html.part", ".report.json.part", "charts/.iou.png.part")]
    for draft in drafts:
        draft.mkdir(parents=True)
    make(folder)
    assert (folder / "charts" / "iou.png").is_file() and (folder / "report.json").is_file()
    names = {"fingerprint.json", "config.yaml", "results.jsonl", "summary.json", ".lock", "pictures"}
    ours = {"report.html", "report.json", "charts"} | {draft.name for draft in drafts[:2]}
    assert {path.name for path in folder.iterdir()} == names | ours


def test_a_chart_is_one_picture_with_a_name_and_no_stop_of_the_tab_key(write_evaluation, tmp_path):
    page = make(write_evaluation(tmp_path / "e", 9)).read_text()
    names = re.findall(r'<svg role="img" aria-label="([^"]+)"', page)
    assert len(names) == page.count("<svg") == 5
    assert names[-1].startswith("What the last stage did to each mask: helped ")
    assert page.count('<a tabindex="-1" xlink:href="#s=') == page.count('href="#s=') == 9


def luminance(colour):
    shares = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(colour, ground):
    dark, light = sorted((luminance(colour), luminance(ground)))
    return (light + 0.05) / (dark + 0.05)


def test_colours_of_texts_and_of_the_focus_stand_out():
    style = (Path(charts.__file__).parent / "page" / "report.css").read_text()
    named = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})\b", style))
    assert ":focus-visible { outline: 3px solid var(--deep);" in style and "outline: none" not in style
    for ground in ("#ffffff", named["page"]):
        assert contrast(named["deep"], ground) >= 3
        assert contrast(named["up"], ground) >= 4.5 and contrast(named["down"], ground) >= 4.5
    # The header's tiles are its gradient under twelve hundredths of white.
    [gradient] = re.findall(r"linear-gradient\(([^)]*)\)", style)
    for stop in re.findall(r"#[0-9a-f]{6}", gradient):
        tile = "#" + "".join(f"{round(0.12 * 255 + 0.88 * int(stop[at : at + 2], 16)):02x}" for at in (1, 3, 5))
        for colour in re.findall(r"header \.(?:up|down) { color: (#[0-9a-f]{6})", style):
            assert contrast(colour, tile) >= 4.5


def test_a_row_that_is_being_written_is_passed_over(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 3, finished=False)
    whole = (folder / "results.jsonl").read_text()
    for torn in ("{", whole.splitlines()[-1]):
        (folder / "results.jsonl").write_text(whole + torn)
        make(folder)
        assert len(json.loads((folder / "report.json").read_text())["samples"]) == 3


def test_hostile_texts_stay_texts(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e", 6, change=lambda row: reworded(row, HOSTILE), strips=False)
    page = make(folder).read_text()
    assert page.count("<script") == 2 and page.count("</script>") == 2
    assert "<img" not in page
    assert json.loads((folder / "report.json").read_text())["samples"][0]["question"] == f"{HOSTILE}name"


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30))
def test_any_text_makes_a_page_with_our_scripts_alone(text, write_evaluation, tmp_path_factory):
    folder = write_evaluation(
        tmp_path_factory.mktemp("e"), 2, change=lambda row: reworded(row, f"{text}x"), strips=False
    )
    page = make(folder).read_text()
    assert page.count("<script") == 2


@given(st.text(), st.integers(2, 40))
def test_labels_are_short_and_plain(text, most):
    label = plain(text, most)
    assert len(label) <= most and label.isprintable() and label == label.strip()


@pytest.mark.parametrize(
    ("status", "cut_off", "iou", "intersection", "union", "kind"),
    [
        ("ok", False, 0.5, 100, 200, "good"), ("ok", False, 0.4, 100, 250, "too much"),
        ("ok", False, 0.4, 40, 100, "too little"), ("ok", False, 0.0, 0, 150, "elsewhere"),
        ("ok", False, 0.0, 0, 100, "nothing named"), ("empty", False, 0.0, 0, 100, "nothing named"),
        ("unparseable", False, 0.0, 0, 100, "unparsed"), ("unparseable", True, 0.0, 0, 100, "cut off"),
    ],
)  # fmt: skip
def test_kinds(row_with, status, cut_off, iou, intersection, union, kind):
    score = MaskScore(iou, intersection, union, 0, 1, 1)
    assert kind_of(row_with(status=status, cut_off=cut_off, score=score)) == kind


@pytest.fixture
def row_with(write_evaluation, tmp_path):
    """A sample of 100 target pixels whose last stage is changed."""
    from verl_socio.report.load import load

    [row] = load(write_evaluation(tmp_path / "row", 1)).rows
    return lambda **changes: dataclasses.replace(
        row, stages=(row.stages[0], dataclasses.replace(row.stages[1], **changes))
    )


def change_settings(folder, **changes):
    OmegaConf.save(OmegaConf.merge(OmegaConf.load(folder / "config.yaml"), changes), folder / "config.yaml")


def test_a_set_without_levels_or_a_baseline_shows_its_own_columns(write_evaluation, tmp_path):
    def without(row):
        return dataclasses.replace(row, level=None, center_box=None, target_area=0 if row.index % 4 == 0 else 100)

    folder = write_evaluation(tmp_path / "e", change=without)
    change_settings(folder, protocol="no_target", published="EarthReason/test")
    text = make(folder).read_text()
    assert "<th>no target</th>" in text and "F1@0.5" not in text and "centre box" not in text.split("<script>")[0]
    assert "Think2Seg-RS" in text and "75.6" in text
    content = json.loads((folder / "report.json").read_text())
    assert content["summary"]["without_target"] == 6 and content["samples"][0]["center_box_iou"] is None


def test_an_evaluation_without_masks_has_no_report(write_evaluation, tmp_path):
    folder = write_evaluation(tmp_path / "e")
    change_settings(folder, protocol="counting")
    with pytest.raises(ValueError, match=r"must be an evaluation of masks, but its protocol is counting.*Fix:"):
        make(folder)
