import re
import shutil
import subprocess
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stages.contracts import codec, labels
from stages.contracts.conversion import Conversion, Proof, conversion_path
from stages.contracts.environment import OTHER_GPUS
from stages.contracts.labels import Labels
from stages.contracts.model import MODEL
from stages.contracts.selection import Judged
from stages.contracts.status import Status
from stages.contracts.timing import SAMPLES
from stages.contracts.training import CURVES, QAT_CURVE, QAT_RECORD, QatRecord, Run, Training
from stages.core import files
from stages.params.load import PARAMS
from stages.reporting import gallery, page
from stages.reporting.report_data import PAGE
from stages.reporting.table import SUMMARY_TABLE
from stages.training.curves import write_curves
from tests.fixtures.records import GPU_MACHINE, PREPARED, TINY, Results
from tests.reporting.conftest import REPOSITORY, TRUTH, inside, prepare, run_mixed, run_several, write_page
from tests.reporting.reader import Reader
from tests.reporting.rows import SELECTION
from tests.reporting.test_proofs import CONVERTED, NATIVE

NOBODY = replace(SELECTION, winner=None, outcome="nothing within budget", pareto=(), variants={})


def test_the_page_needs_nothing_else(shown: Reader) -> None:
    text = shown.text
    assert not shown.all("script") and "@import" not in text and "@font-face" not in text
    links = [own[key] for _, own, _ in shown.elements for key in ("src", "href") if key in own]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert all(style.startswith("#") for style in re.findall(r"url\(['\"]?([^)]*)\)", text))
    assert len(text) < 2_000_000


def test_the_style_stands_in_the_page(shown: Reader) -> None:
    assert shown.texts("style") == [" ".join(page.style().split())]


def test_the_decision_comes_first(shown: Reader) -> None:
    assert shown.texts("h1") == ["Ship tflite-int8"]
    assert shown.texts("p", **{"class": "sentence"}) == [SELECTION.sentence]
    assert "top-1 drop at most 1 point" in shown.texts("li")
    assert "2.00\N{MULTIPLICATION SIGN} as fast as savedmodel-fp32, 4.00 ms" in shown.texts("dd")


def test_the_table_has_every_figure_under_its_unit(shown: Reader) -> None:
    heads = ["Variant", "Status", "Top-1% [95 % CI]", "Droppoints [95 % CI]", "Verdicton the drop", "p50ms [95 % CI]"]
    assert shown.texts("th", scope="col")[:6] == heads
    winner = next(text for text in shown.texts("tr") if text.startswith("tflite-int8"))
    figures = (
        "★ chosen",
        "50.0[15.0, 85.0]",
        "25.00[",
        "✓ within",
        "2.00[2.00, 2.00]",
        "2.00\N{MULTIPLICATION SIGN}",
        "2.0",
        "300",
    )
    assert all(figure in winner.replace("\N{NO-BREAK SPACE}", " ") for figure in figures), winner
    skipped = next(text for text in shown.texts("tr") if text.startswith("tftrt-fp32"))
    assert "skipped" in skipped and skipped.count("none") == 10


@pytest.mark.usefixtures("undrawn")
def test_the_table_for_terminals_is_written_too(ready: Results) -> None:
    write_page(run_mixed(ready))
    assert SUMMARY_TABLE.read_text(encoding="utf-8").startswith("tiny on 4 images (a CPU, 2 threads)\n\n| variant")


def test_notes_and_reasons_stand_below(shown: Reader) -> None:
    assert "p99 is quoted from 662 calls on; there are 100." in shown.texts("li")
    text = shown.texts("dl", **{"class": "reasons"})[0]
    assert "tftrt-fp32, tftrt-int8 no NVIDIA GPU" in text and "tflite-fp32 convert: no memory" in text


def test_the_gallery_names_each_changed_image_and_both_answers(shown: Reader) -> None:
    # 2.jpg is right for the baseline alone; 3.jpg is the same wrong class for both.
    assert "1 of 4 images changed: 1 lost, 0 gained, 0 wrong before and now" in shown.texts("span")
    (image,) = shown.all("img")
    assert image["alt"] == "2.jpg, an image of tench"
    assert image["src"].startswith("data:image/jpeg;base64,/9j/")
    assert shown.texts("figcaption")[-1].endswith("labeltench beforetench, 50.0 % nowcats & <dogs>, 50.0 %")


@pytest.mark.usefixtures("undrawn")
def test_a_file_that_is_no_image_is_named_in_its_place(ready: Results) -> None:
    ready.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0)
    ready.ok("tflite-int8", [0, 0, 0, 1], 2.0)
    shown = write_page(("savedmodel-fp32", "tflite-int8"))
    assert "3.jpg cannot be shown" in shown.texts("span") and not shown.all("img")


@pytest.mark.usefixtures("undrawn")
def test_other_devices_have_a_table_of_their_own(ready: Results, shown: Reader) -> None:
    assert "On other GPUs" not in shown.texts("h3")
    names = run_mixed(ready)
    ready.timed("savedmodel-fp32", 10.0)
    ready.timed("tflite-int8", 4.0)
    ready.copy_to(OTHER_GPUS / "T4", GPU_MACHINE)
    ready.timed("savedmodel-fp32", 4.0)
    ready.timed("tflite-int8", 2.0)
    again = write_page(names)
    assert "On other GPUs" in again.texts("h3")
    line = next(text for text in again.texts("tr") if text.startswith("NVIDIA T4tflite-int8"))
    assert line == "NVIDIA T4tflite-int8ok50.04.0032.002.50x250.0"
    assert "tflite-fp32 on NVIDIA T4 failed: convert: no memory" in again.texts("li")


def prove(name: str, proof: Proof) -> None:
    """Give a conversion another proof."""
    record = codec.read(Conversion, conversion_path(name))
    codec.write(replace(record, proof=proof), conversion_path(name))


@pytest.mark.usefixtures("undrawn")
def test_what_compilers_did_stands_below_the_results(ready: Results, shown: Reader) -> None:
    assert "What TensorRT did" not in shown.texts("h3")
    names = run_mixed(ready)
    prove("savedmodel-fp32", CONVERTED)
    prove("tflite-int8", NATIVE)
    again = write_page(names)
    assert "What TensorRT did" in again.texts("h3")
    captions, cells = again.texts("caption"), again.texts("td")
    assert captions[1:3] == ["TensorFlow's graphs with TensorRT's engines in them", "Engines without TensorFlow"]
    assert {"8.4.3", "8.5.3", "1 Identity, 1 Placeholder", "99.4", "31.1"} <= set(cells)
    assert {"TensorRT 8.5.3.1", "104 / 2 / 0", "56", "9.1"} <= set(cells)


def test_what_the_page_was_made_from_stands_in_it(shown: Reader) -> None:
    code = "".join(next(texts for tag, _, texts in shown.elements if tag == "code" and "benchmark:" in "".join(texts)))
    assert code.strip() == (REPOSITORY / PARAMS).read_text(encoding="utf-8").strip()
    assert "make repro" in shown.texts("pre")
    facts = " ".join(shown.texts("dl"))
    assert "gpu missingno NVIDIA driver answers" in facts and "tensorflow2.14.1" in facts


def test_a_screen_reader_finds_its_way(shown: Reader) -> None:
    assert len(shown.all("h1")) == len(shown.all("main")) == len(shown.all("header")) == len(shown.all("footer")) == 1
    assert shown.all("html", lang="en") and shown.all("nav", **{"aria-label": "On this page"})
    assert len(shown.ids) == len(set(shown.ids))
    assert shown.all("a", href="#main") and {link["href"][1:] for link in shown.all("a")} <= set(shown.ids)
    assert len(shown.all("caption")) == len(shown.all("table"))
    assert all("scope" in head for head in shown.all("th"))
    scrolling = [own for _, own, _ in shown.elements if "scroll" in own.get("class", "").split()]
    assert scrolling and all(own["tabindex"] == "0" and own["aria-label"] for own in scrolling)
    assert len(shown.all("svg", role="img")) == len(shown.all("svg")) == 6
    assert all(image["alt"] for image in shown.all("img"))


def test_no_heading_level_is_left_out(shown: Reader) -> None:
    levels = [int(tag[1]) for tag, _, _ in shown.elements if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_same_inputs_give_the_same_bytes(ready: Results, shown: Reader) -> None:
    gallery.thumbnail.cache_clear()
    assert write_page(run_mixed(ready)).text == shown.text


@pytest.mark.usefixtures("undrawn")
def test_texts_of_others_are_no_mark_up(ready: Results) -> None:
    names = run_mixed(ready)
    bad = '<script>alert(1)</script> & "quoted"'
    judged = {name: Judged(False, None, None, bad) for name in names}
    shown = write_page(names, replace(SELECTION, sentence=bad, variants=judged))
    assert not shown.all("script")
    assert shown.texts("p", **{"class": "sentence"}) == [bad]


@pytest.mark.usefixtures("undrawn")
def test_no_choice_marks_no_variant_as_chosen(ready: Results) -> None:
    assert "chosen" not in " ".join(write_page(run_mixed(ready), replace(SELECTION, outcome="cannot tell")).texts("tr"))


def test_a_page_can_be_written_when_nothing_ran(ready: Results) -> None:
    ready.stopped("tftrt-fp32", Status("skipped", "no NVIDIA GPU"))
    files.write_text(SAMPLES, "variant,batch_size,term,repeat,block,ms\n")
    shown = write_page(("tftrt-fp32",), NOBODY)
    assert not shown.all("svg")
    assert len(shown.texts("p", **{"class": "nothing"})) == 6
    assert "No variant was evaluated." in shown.texts("p")
    assert "No variant is listed in params.yaml." in write_page((), NOBODY).texts("td")


@pytest.mark.usefixtures("undrawn")
def test_a_single_variant_needs_no_baseline(ready: Results) -> None:
    ready.ok("tflite-int8", [0, 0, 1, 1], 2.0)
    shown = write_page(("tflite-int8",))
    assert shown.texts("h1") == ["Ship tflite-int8"] and len(shown.all("svg")) == 6
    assert "There are no others." in shown.texts("p")


# Classes.


def test_averages_stand_beside_the_baselines(several: Reader) -> None:
    averages = next(text for text in several.texts("table") if text.startswith("Averages over the classes"))
    _, fp16, int8 = re.split("tflite-", averages)
    # Recall 1, 2/3 and 3/4 becomes 1/3, 1 and 3/4.
    assert "80.60.00 the same" in fp16 and "69.4\N{MINUS SIGN}11.11 worse" in int8
    # Every confidence is 0.5: a top-1 of 0.8 lies 30 points off, one of 0.7 only 20.
    assert int8.endswith("20.0\N{MINUS SIGN}10.00 better")


def test_the_largest_losses_and_the_most_confused_pairs_are_named(several: Reader) -> None:
    tables = several.texts("table")
    losses = next(text for text in tables if text.startswith("Largest losses of F1"))
    # F1 of class 0 was 6/7 and is 1/2, that of class 1 was 4/5 and is 3/4, that of class 2 stays.
    assert "tench3100.0+25.00 better33.3\N{MINUS SIGN}66.67 worse50.0\N{MINUS SIGN}35.71 worse" in losses
    assert losses.index("tench") < losses.index("cats & <dogs>") and "crane" not in losses
    confused = [text for text in tables if text.startswith("Most confused classes")]
    assert confused[1].endswith("tenchcats & <dogs>02 cranebee11 cats & <dogs>tench10")
    lowest = next(text for text in tables if text.startswith("Lowest F1"))
    assert lowest.index("cats & <dogs>") < lowest.index("crane")


def test_matrices_before_and_after_are_drawn_and_unchanged_variants_named(several: Reader) -> None:
    titles = [text for text in several.texts("title") if text.startswith("Confusion matrix")]
    assert titles == [
        "Confusion matrix savedmodel-fp32",
        "Confusion matrix before, savedmodel-fp32",
        "Confusion matrix after, tflite-int8",
    ]
    assert "tflite-fp16: every best class is that of savedmodel-fp32." in several.texts("p")
    assert len(several.all("svg", role="img")) == len(several.all("svg")) == 9
    assert len([own for own in several.all("details") if "open" in own]) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_never_predicted_class_has_no_precision(ready: Results) -> None:
    ready.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0, [0, 0, 1, 1])
    lowest = next(text for text in write_page(("savedmodel-fp32",)).texts("table") if text.startswith("Lowest F1"))
    assert "cats & <dogs>2\N{EN DASH}none0.00.0" in lowest


@pytest.mark.usefixtures("undrawn")
def test_predictions_on_other_images_are_not_compared(ready: Results) -> None:
    ready.ok("savedmodel-fp32", [0, 1, 1], 4.0, [0, 1, 0])
    ready.ok("tflite-int8", [0, 1], 2.0, [0, 1])
    shown = write_page(("savedmodel-fp32", "tflite-int8"))
    assert not [text for text in shown.texts("table") if text.startswith("Largest losses")]
    assert len([text for text in shown.texts("table") if text.startswith("Lowest F1")]) == 2


@pytest.mark.usefixtures("undrawn")
def test_a_baseline_at_chance_is_told_first(ready: Results) -> None:
    truth = [0, 1] * 10
    ready.ok("savedmodel-fp32", [1, 0] * 10, 4.0, truth)
    assert len(write_page(("savedmodel-fp32",)).texts("p", **{"class": "warning"})) == 1
    ready.ok("savedmodel-fp32", truth, 4.0, truth)
    assert not write_page(("savedmodel-fp32",)).texts("p", **{"class": "warning"})


@pytest.mark.usefixtures("undrawn")
def test_permuted_classes_are_told_before_chance(ready: Results) -> None:
    ready.ok("savedmodel-fp32", [1, 0] * 10, 4.0, [0, 1] * 10)
    (warning,) = write_page(("savedmodel-fp32",)).texts("p", **{"class": "warning"})
    first, _, rest = warning.removeprefix("Look here first.").strip().partition(". ")
    assert first == (
        "2 of 2 classes are answered as another one throughout: name the classes in their order in custom.labels"
    )
    assert rest.startswith("They are in the order of the folders of the images, in alphabetical order.")
    assert "savedmodel-fp32 is no better than chance" in rest


@pytest.mark.usefixtures("undrawn")
def test_5000_classes_make_a_page_no_larger_than_twelve_do(ready: Results) -> None:
    names = tuple(f"class number {i}" for i in range(5_000))
    labels.write(Labels(names, names))
    truth = [i % 5_000 for i in range(10_000)]
    ready.ok("savedmodel-fp32", [(label * 7) % 5_000 if label % 5 else label for label in truth], 4.0, truth)
    ready.ok("tflite-int8", [(label * 3) % 5_000 if label % 3 else label for label in truth], 2.0, truth)
    shown = write_page(("savedmodel-fp32", "tflite-int8"))
    assert not [text for text in shown.texts("title") if text.startswith("Confusion")]
    bodies = [text for text in shown.texts("table") if text.startswith(("Largest", "Lowest", "Most confused"))]
    assert len(bodies) == 4 and all(len(text) < 2000 for text in bodies)
    assert PAGE.stat().st_size < 500_000


# Training.


def run_trained(results: Results) -> tuple[str, ...]:
    """A model that was trained with two seeds, and again for an INT8 that wins back two images of ten."""
    names = run_several(results)
    results.ok("tflite-int8-qat", [0, 0, 0, 1, 1, 1, 2, 2, 2, 9], 2.5, TRUTH)
    results.learned()
    runs = tuple(Run(seed, 2, 0.5 + seed, 0.9, 10.0) for seed in (0, 1))
    codec.write(replace(TINY, training=Training("mobilenet", 0, 1200, 96, PREPARED, runs)), MODEL)
    epochs = [{"seed": seed, "epoch": i, "loss": 1.5, "val_loss": seed + 1 / i} for seed in (0, 1) for i in (1, 2)]
    write_curves(epochs, CURVES)
    write_curves([{"seed": 3, "epoch": i, "val_loss": loss} for i, loss in enumerate((0.5, 0.25, 0.375))], QAT_CURVE)
    return (*names, "tflite-int8-qat")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The page of `run_trained`."""
    with inside(tmp_path_factory.mktemp("trained")):
        return write_page(run_trained(prepare()))


def section(shown: Reader) -> str:
    """The text of the section on training."""
    (text,) = shown.texts("section", id="training")
    return text


def test_fp32_and_int8_without_and_with_training_stand_side_by_side(trained: Reader) -> None:
    (line,) = (text for text in trained.texts("tr") if text.startswith("tfliteFP32: "))
    assert line == (
        "tfliteFP32: savedmodel-fp3280.0[49.0, 94.3]70.0[39.7, 89.2]90.0[59.6, 98.2]"
        "+20.00[\N{MINUS SIGN}13.30, 50.98]0.52.000 / 2.5002.00 / 2.00"
    )
    assert trained.texts("title", id="training-title") == ["Loss by epoch of each training"]


@pytest.mark.usefixtures("undrawn")
def test_training_that_failed_has_its_reason_and_no_curve(ready: Results) -> None:
    ready.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0)
    ready.stopped("tflite-int8-qat", Status("failed", "qat: its loss is not finite"))
    codec.write(QatRecord(Status("failed", "qat: its loss is not finite"), None), QAT_RECORD)
    shown = write_page(("savedmodel-fp32", "tflite-int8-qat"))
    assert "QAT failed: its loss is not finite." in shown.texts("li")
    assert "Loss by epoch" not in section(shown)


def test_a_model_that_was_not_trained_has_no_such_section(shown: Reader) -> None:
    assert not shown.all("section", id="training") and not shown.all("a", href="#training")


@pytest.mark.usefixtures("undrawn")
def test_a_model_that_was_only_trained_has_its_curves_and_no_table(ready: Results) -> None:
    run_trained(ready)
    shown = write_page(("savedmodel-fp32", "tflite-int8"))
    assert shown.all("a", href="#training") and "Loss by epoch" in section(shown)
    assert "Won back" not in section(shown) and "QAT" not in section(shown)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_words_and_shapes_stand_out_from_their_background(mode: int) -> None:
    """WCAG 2.2: 4.5:1 for text, 3:1 for shapes."""
    block = re.findall(r":root \{(.+?)\}", page.style(), re.DOTALL)[mode]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))

    def contrast(one: str, other: str) -> float:
        high, low = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    words = ("ink", "muted", "accent", "good", "bad", "unsure")
    weak = [(word, ground) for word in words for ground in ("paper", "card", "tint") if contrast(word, ground) < 4.5]
    weak += [(f"series-{i}", "card") for i in range(8) if contrast(f"series-{i}", "card") < 3]
    assert not weak


PROBE = """<!DOCTYPE html><body style="margin:0">
<iframe src="/report.html" style="border:0;width:{width}px;height:3000px"></iframe><script>
onload = () => {{
  const page = frames[0].document, root = page.documentElement;
  const wide = [...page.querySelectorAll("body *")].filter(
    (one) => !one.closest(".scroll *, svg *") && one.getBoundingClientRect().right > {width} + 1);
  document.title = JSON.stringify({{
    scrolls: root.scrollWidth > root.clientWidth, wide: wide.map((one) => one.tagName + "." + one.className),
    dark: frames[0].matchMedia("(prefers-color-scheme: dark)").matches,
    charts: page.querySelectorAll("svg.chart").length,
    blind: [...page.images].filter((one) => !one.naturalWidth).length,
  }});
}};
</script>"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_a_browser_shows_the_page_at_phone_and_desktop_width(
    trained: Reader, server: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the PATH (Debian: apt install chromium)")
    for name, body in (("report.html", trained.text.encode()), ("probe.html", PROBE.format(width=width).encode())):
        server.pages[f"/{name}"] = (200, {"Content-Type": "text/html; charset=utf-8"}, body)
    server.pages["/favicon.ico"] = (200, {}, b"")
    quiet = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    browse = [
        chromium, *quiet.split(), "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
        f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=5000", f"--window-size={max(500, width)},3000",
        # Blink's numbers: 0 is dark, 1 is light.
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
    ]  # fmt: skip
    shot = tmp_path / f"{scheme}-{width}.png"
    command = [*browse, f"--screenshot={shot}", "--dump-dom", f"{server.url}/probe.html"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=180)
    outcome = re.search(r"<title>(.+?)</title>", done.stdout)
    assert outcome, done.stdout[-500:]
    dark = str(scheme == "dark").lower()
    assert outcome[1] == f'{{"scrolls":false,"wide":[],"dark":{dark},"charts":12,"blind":0}}'
    assert "CONSOLE" not in done.stderr, done.stderr
    assert shot.stat().st_size > 5_000
