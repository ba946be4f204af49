"""The command `verl-socio`: one verb each for training, evaluation, studies, reports, data and a look around."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from verl_socio.command import run
from verl_socio.text import for_terminal

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
data = typer.Typer(no_args_is_help=True, help="Make, check and look at data.")
app.add_typer(data, name="data")
study = typer.Typer(
    no_args_is_help=True, help="Fill a matrix of trainings and evaluations, and write down what it shows."
)
app.add_typer(study, name="study")
report = typer.Typer(no_args_is_help=True, help="Reports of evaluations, and two of them compared.")
app.add_typer(report, name="report")
console = Console(stderr=True)


@app.command()
def train(
    config: Annotated[str, typer.Argument(help="A configuration of configs/, without its suffix.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key=value.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print the resolved settings and stop.")] = False,
) -> None:
    """Train, or go on with the run that the same command began."""
    from verl_socio.train.launch import launch

    launch(config, overrides or [], dry_run=dry_run)


@app.command()
def evaluate(
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings as key=value.")] = None,
    dry_run: Annotated[bool, typer.Option(help="Print the resolved settings and stop.")] = False,
) -> None:
    """Evaluate a model: a table, a line of JSON a sample, pictures, a report."""
    from verl_socio.evaluate.launch import launch

    launch(overrides or [], dry_run=dry_run)


@app.command()
def infer(
    image: Annotated[str, typer.Option(help="An image, a folder of images, or a JSONL file (image, text, map).")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Settings of configs/evaluate/eval.yaml.")] = None,
    text: Annotated[str | None, typer.Option(help="What is asked: a place, an instruction, a question.")] = None,
    map_image: Annotated[str | None, typer.Option("--map", help="The image's map; for a folder a folder.")] = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe's name or file. Default: the model's own.")] = None,
    model: Annotated[str | None, typer.Option(help="A model folder or Hub id. Default: the embedded model.")] = None,
    task: Annotated[str, typer.Option(help="auto, detection, segmentation, counting or question.")] = "auto",
    router: Annotated[str | None, typer.Option(help="A text model that chooses the task. Default: rules.")] = None,
    engine: Annotated[str, typer.Option(help="auto, transformers or vllm.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="A new folder. Default: <output_root>/infer/<time>.")] = None,
) -> None:
    """Ask a model about images: prints thinking and answer, writes masks, boxes and pictures."""
    from verl_socio.infer.launch import Options
    from verl_socio.infer.launch import infer as answer

    answer(Options(image, text, map_image, recipe, model, task, router, engine, out, overrides or []))


@app.command()
def doctor() -> None:
    """Tell what is installed, what is missing, and the fix."""
    from verl_socio.doctor import examine, report

    raise typer.Exit(report(examine()))


@data.command()
def validate(
    source: Annotated[str, typer.Argument(help="A raw folder, a parquet file or a Hub id.")],
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    need_map: Annotated[
        bool | None, typer.Option(help="Whether a row must have a map. Default: where some row has one.")
    ] = None,
) -> None:
    """Check every row: sizes, pairs, masks, JSON."""
    from verl_socio.data.validate import validate as find_problems

    problems = find_problems(source, split, need_map)
    for problem in problems:
        console.print(for_terminal(str(problem)), markup=False, highlight=False, soft_wrap=True)
    found = f"{len(problems)} faults" if problems else "every row is sound"
    console.print(f"{source}: {found}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if problems else 0)


@data.command()
def city(
    out: Annotated[Path, typer.Argument(help="A folder that is empty or does not exist.")],
    samples: Annotated[
        int,
        typer.Option(
            help="Train, val and test samples together (6:1:3); two more test sets, each as large as test, come on top."
        ),
    ] = 400,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 0,
    size: Annotated[int, typer.Option(help="Width and height in pixels.")] = 140,
) -> None:
    """Generate a city in SocioSeg's raw layout."""
    from verl_socio.city import generate

    generate(out, samples=samples, seed=seed, size_wh=(size, size))


@data.command()
def convert(
    source: Annotated[Path, typer.Argument(help="A folder of RefCOCOg-style or LISA-style annotations.")],
    out: Annotated[Path, typer.Argument(help="A folder that is empty or does not exist.")],
    split: Annotated[str, typer.Option(help="The split to convert.")] = "train",
    style: Annotated[str, typer.Option(help="auto, refcocog or lisa.")] = "auto",
    images: Annotated[Path | None, typer.Option(help="The pictures' folder. Default: SOURCE/images.")] = None,
    refs: Annotated[str | None, typer.Option(help="The refs file, where a RefCOCOg-style folder has several.")] = None,
    join: Annotated[int, typer.Option(help="Up to so many texts of a picture, of different objects, a question.")] = 1,
) -> None:
    """Make a training table of others' annotations: masks, boxes, inscribed-circle points."""
    from verl_socio.data.convert import convert as make

    rows = make(source, out, split=split, style=style, images=images, refs=refs, join=join)
    console.print(f"{rows} rows: data.train_files={out / split}.parquet", markup=False, highlight=False, soft_wrap=True)


@data.command()
def preview(
    source: Annotated[str, typer.Argument(help="A raw folder, a parquet file or a Hub id.")],
    split: Annotated[str, typer.Option(help="The split to show.")] = "train",
    out: Annotated[Path, typer.Option(help="The picture to write.")] = Path("preview.png"),
) -> None:
    """Draw a contact sheet of a split."""
    from verl_socio.data.preview import preview as draw

    draw(source, split, out)


@study.command(name="run")
def run_study(
    plan: Annotated[Path, typer.Argument(help="A plan such as configs/study/city.yaml.")],
    only: Annotated[list[str] | None, typer.Option(help="Only this variant; may be given several times.")] = None,
    seeds: Annotated[str | None, typer.Option(help="Only these seeds, as in 0,1.")] = None,
    dry_run: Annotated[bool, typer.Option(help="List what would run and stop.")] = False,
) -> None:
    """Do what of a study is missing; what is done is never done again."""
    from verl_socio.study.run import read_seeds, run

    run(plan, only or [], read_seeds(seeds), dry_run=dry_run)


@study.command(name="page")
def write_study_page(
    plan: Annotated[Path, typer.Argument(help="A plan such as configs/study/city.yaml.")],
) -> None:
    """Copy the records of a study's runs, and write its page from the records."""
    from verl_socio.study.page import page

    page(plan)


@report.command("make")
def make_report(
    folder: Annotated[Path, typer.Argument(help="An evaluation's folder, <run>/eval/<name>.")],
) -> None:
    """Write report.html, report.json and the charts anew."""
    from verl_socio.report.make import make

    console.print(f"The report: {make(folder)}", markup=False, highlight=False, soft_wrap=True)


@report.command()
def compare(
    a: Annotated[Path, typer.Argument(help="An evaluation's folder.")],
    b: Annotated[Path, typer.Argument(help="Another one's, of the same samples.")],
    most: Annotated[int, typer.Option(help="How many of the most changed samples are listed.")] = 10,
) -> None:
    """Compare two evaluations sample by sample: B minus A, with intervals, and what changed most."""
    from verl_socio.report.compare import compare as compare_evaluations
    from verl_socio.report.compare import tables

    shown = Console()
    for table in tables(compare_evaluations(a, b), most):
        shown.print(table)


def main() -> None:
    """Run the command; `verl_socio.command` says how it ends."""
    run(app)
