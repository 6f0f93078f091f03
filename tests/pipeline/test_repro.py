"""A first run, a second that has nothing to do, and edits, in one copy and in order: as a user's afternoon would go."""

import json
import re
import shutil
from dataclasses import replace

import pytest
from PIL import Image

from stages.contracts import codec
from stages.contracts.environment import ENVIRONMENT, FINGERPRINTS
from stages.contracts.row import HERE, Speed, Summary
from stages.contracts.selection import SELECTION, Selection
from tests.pipeline.project import AFTER, FINISHED, Project, finished, stages_run
from tests.pipeline.project import no_leftovers as no_leftovers

pytestmark = pytest.mark.slow

VARIANTS = list(FINISHED)
ADDED = "tflite-fp16"


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Project, str]:
    return finished(tmp_path_factory)


@pytest.fixture(scope="module")
def project(first: tuple[Project, str]) -> Project:
    return first[0]


def test_first_run_writes_the_table_and_the_summary(first: tuple[Project, str]) -> None:
    project, output = first
    for variant in VARIANTS:
        assert f"| {variant} " in output
    assert project.summary().evaluation.images == 6
    rows = project.rows()
    assert list(rows) == VARIANTS
    for row in (rows[name] for name in VARIANTS if name != "tftrt-fp16"):
        assert row.status.ok and row.accuracy and row.conversion and row.conversion.files and row.footprint
        assert [speed.batch_size for speed in row.speeds] == [1, 2]
        assert all(speed.latency.samples >= 3 and speed.latency_host.samples >= 3 for speed in row.speeds)
        assert row.size_bytes == sum(row.conversion.files.values())


def test_gpu_rows_are_skipped_with_the_reason_where_there_is_no_gpu(project: Project) -> None:
    if project.summary().environments[HERE].machine.gpus:
        pytest.skip("this machine has an NVIDIA GPU")
    row = project.rows()["tftrt-fp16"]
    assert row.status.state == "skipped"
    assert "no NVIDIA GPU" in str(row.status.reason)
    assert (row.accuracy, row.speeds, row.size_bytes) == (None, (), None)


def test_git_sees_only_the_lock_and_the_summary(project: Project) -> None:
    changed = {line[3:] for line in project.ok("git", "status", "--porcelain").splitlines()}
    assert changed <= {
        "dvc.lock",
        "reports/summary.json",
        "reports/summary.md",
        "reports/metrics.json",
        "reports/selection.json",
    }
    project.ok("git", "add", "-A")
    project.ok("git", "commit", "-qm", "first run")


def test_mlflow_holds_the_results(project: Project) -> None:
    import mlflow

    runs = {run.data.tags["variant"]: run for run in project.runs("variant")}
    row = project.rows()["tflite-int8"]
    run = runs["tflite-int8"]
    assert row.accuracy and run.data.metrics["top1"] == pytest.approx(row.accuracy.top1.value)
    assert run.data.params["precision"] == "int8"
    assert run.data.params["benchmark.batch_sizes"] == "1,2"
    assert run.data.tags["cached"] == "false"
    client = mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db")
    p50s = [run.data.metrics[name] for name in ("p50_ms", "p50_ms.batch2")]
    assert p50s == pytest.approx([speed.latency.p50_ms for speed in row.speeds])
    assert {file.path for file in client.list_artifacts(run.info.run_id)} >= {"predictions.csv", "convert.json"}
    (parent,) = project.runs("pipeline")
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {"plots", "summary.json", "summary.md"}
    assert runs["tftrt-fp16"].data.tags["status"] in {"skipped", "ok"}


def test_a_run_that_somebody_deleted_is_logged_again(project: Project) -> None:
    import mlflow

    (run,) = project.runs("pipeline")
    mlflow.MlflowClient(f"sqlite:///{project.folder}/mlflow.db").delete_run(run.info.run_id)
    assert project.repro_ok() == ["environment", "track", "register"]
    (again,) = project.runs("pipeline")
    assert again.info.run_id != run.info.run_id


def test_second_run_does_nothing(project: Project) -> None:
    before = len(project.runs("pipeline")), len(project.runs("variant"))
    assert project.repro_ok() == ["environment"]
    assert (len(project.runs("pipeline")), len(project.runs("variant"))) == before


def test_another_machine_runs_what_depends_on_the_machine_again_and_nothing_else(project: Project) -> None:
    """What `environment` writes on a machine with another CPU."""
    (digests,) = [project.folder / FINGERPRINTS]
    here = {path: path.read_text() for path in (digests, project.folder / ENVIRONMENT)}
    digests.write_text(re.sub(r'"[0-9a-f]{64}"', f'"{"0" * 64}"', here[digests]))
    (project.folder / ENVIRONMENT).write_text(here[project.folder / ENVIRONMENT] + " ")
    changed = json.loads(project.ok("dvc", "status", "--json"))
    for path, text in here.items():
        path.write_text(text)
    dependent = {f"{stage}@{variant}" for stage in ("convert", "evaluate") for variant in VARIANTS}
    assert set(changed) == dependent | {"environment", "sweep", "benchmark", "summarize", "track", "register"}


def test_predict_prints_five_classes_with_their_probabilities(project: Project) -> None:
    photos = sorted(str(path) for path in (project.folder / "photos").glob("*.[jp]*g"))[:2]
    output = project.ok("python", "-m", "stages", "predict", "--variant", "tflite-int8", *photos)
    lines = output.splitlines()
    assert sum("%" in line for line in lines) == 10
    assert all(any(line.startswith(photo) for line in lines) for photo in photos)


def test_predict_names_what_can_be_used(project: Project) -> None:
    photo = str(next((project.folder / "photos").glob("*.[jp]*g")))
    refused = project.run("python", "-m", "stages", "predict", "--variant", ADDED, photo)
    assert refused.returncode == 1
    assert f"{ADDED} is not converted here: name one of savedmodel-fp32" in refused.stderr
    assert "Traceback" not in refused.stderr
    missing = project.run("python", "-m", "stages", "predict", "nowhere.jpg")
    assert missing.returncode == 1
    assert "there is no file nowhere.jpg" in missing.stderr


def test_a_changed_budget_chooses_again_and_measures_nothing(project: Project) -> None:
    project.edit(lambda values: values["budget"].update(max_size_bytes=1))
    done = project.repro()
    assert done.returncode == 0, done.stdout + done.stderr
    assert stages_run(done.stdout) == ["environment", "select", "report", "track", "register"]
    assert "None meets the budget; the nearest is" in done.stdout
    checked = project.run("python", "-m", "stages", "check")
    assert (checked.returncode, checked.stderr) == (4, "")


def test_an_added_variant_runs_only_its_own_stages(project: Project) -> None:
    project.edit(lambda values: values["budget"].update(max_size_bytes=None))
    project.edit(lambda values: values["variants"].append(ADDED))
    own = [f"convert@{ADDED}", f"evaluate@{ADDED}"]
    assert sorted(project.repro_ok()) == sorted(["environment", "sweep", *own, "benchmark", *AFTER])
    assert list(project.rows()) == [*VARIANTS, ADDED]
    assert len(project.runs("pipeline")) == 3
    checked = project.run("python", "-m", "stages", "check")
    assert checked.returncode == 0
    assert re.search(r"\nShip \w+-", checked.stdout)


def test_the_report_is_one_file_about_the_choice(project: Project) -> None:
    page = (project.folder / "reports/report.html").read_text()
    winner = codec.read(Selection, project.folder / SELECTION).winner
    assert f"Ship {winner}" in page
    changes = [row.accuracy.change for row in project.rows().values() if row.accuracy and row.accuracy.change]
    changed = sum(change.changed > 0 for change in changes)
    # Five charts of the variants, the reliability diagrams, the baseline's matrix, and two for each other that differs.
    assert page.count("<svg") == 5 + 1 + 1 + 2 * changed
    assert "Confusion matrix savedmodel-fp32" in page
    assert "http" not in "".join(re.findall(r'(?:src|href)="([^"]*)"', page))


def test_metrics_and_plots_show_the_change(project: Project) -> None:
    assert ADDED in project.ok("dvc", "metrics", "diff")
    project.ok("dvc", "plots", "show", "-o", "plots_html")
    page = (project.folder / "plots_html/index.html").read_text()
    assert page.count("vegaEmbed(") >= 3
    assert all(title in page for title in ("top-1 against latency", "size on disk", "latency by batch size"))
    assert ADDED in page
    shutil.rmtree(project.folder / "plots_html")


def test_results_are_compared_with_those_of_a_commit_image_by_image(project: Project) -> None:
    project.ok("git", "add", "-A")
    project.ok("git", "commit", "-qm", "one more variant")
    same = project.run("python", "-m", "stages", "check", "--against", "HEAD")
    assert same.returncode == 0, same.stdout + same.stderr
    assert same.stdout.splitlines()[-1] == "Nothing that was compared is worse than HEAD beyond noise."
    assert "compared by counts" not in same.stdout  # DVC's cache has the predictions of that commit
    path = project.folder / "reports/summary.json"
    selection = project.folder / SELECTION
    summary, chosen = path.read_text(), selection.read_text()
    codec.write(slower(project.summary()), path)
    stale = project.run("python", "-m", "stages", "check")
    assert stale.returncode == 1
    assert "reports/summary.json has changed since reports/selection.json was made of it" in stale.stderr
    codec.write(replace(codec.read(Selection, selection), figures=""), selection)
    worse = project.run("python", "-m", "stages", "check", "--against", "HEAD")
    path.write_text(summary)
    selection.write_text(chosen)
    assert worse.returncode == 5
    assert "Worse than HEAD: tflite-" in worse.stdout


def slower(summary: Summary) -> Summary:
    """All variants but the baseline take a hundred times as long."""

    def slow(speed: Speed) -> Speed:
        p50 = speed.latency.p50_ms * 100
        return replace(speed, latency=replace(speed.latency, p50_ms=p50, p50_ci95_ms=(p50, p50)))

    first, *others = summary.rows
    return replace(summary, rows=(first, *(replace(row, speeds=tuple(map(slow, row.speeds))) for row in others)))


def test_a_removed_variant_loses_its_row(project: Project) -> None:
    """And its files, for which a checkout that pulls these results would time everything again."""
    project.edit(lambda values: values["variants"].remove(ADDED))
    project.repro_ok()
    assert list(project.rows()) == VARIANTS
    assert [*project.folder.glob(f"models/{ADDED}"), *project.folder.glob(f"reports/variants/{ADDED}")] == []


def test_unchanged_results_of_changed_parameters_are_a_run_tagged_as_cached(project: Project) -> None:
    earlier = {run.info.run_id: run.data.tags["variant"] for run in project.runs("variant")}
    project.edit(lambda values: values["model"].update(path="./own"))
    assert "convert@tflite-int8" not in project.repro_ok()
    newest = project.runs("pipeline")[-1]
    assert newest.data.params["model.path"] == "./own"
    children = [run for run in project.runs("variant") if run.data.tags["mlflow.parentRunId"] == newest.info.run_id]
    assert len(children) == len(VARIANTS)
    for run in children:
        assert run.data.tags["cached"] == "true"
        assert earlier[run.data.tags["cached_from"]] == run.data.tags["variant"]


def test_an_added_photograph_is_noticed(project: Project) -> None:
    table = project.folder / "photos/labels.csv"
    Image.effect_noise((240, 300), 90).convert("RGB").save(project.folder / "photos/new.png")
    rows = table.read_text().splitlines()
    table.write_text("\n".join([*rows, f"new.png,{rows[-1].split(',')[1]}", ""]))
    ran = project.repro_ok()
    assert "images" in ran and "evaluate@tflite-int8" in ran
    assert "save" not in ran and "convert@tflite-int8" not in ran and "benchmark" not in ran
    assert project.summary().evaluation.images == 7
