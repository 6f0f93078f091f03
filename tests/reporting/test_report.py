import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import report, summarize
from stages.contracts import labels, paths, predictions
from stages.contracts.labels import Labels
from stages.contracts.variant import BASELINE
from stages.core import files
from stages.reporting import gallery
from stages.training import fit

NAMES = ("tench", "cats & <dogs>", "crane", "hen", "ox", "owl", "ram", "cod", "elk", "bee")
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Every element with its attributes, and the text inside it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self.open: list[tuple[str, dict[str, str], list[str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = (tag, {key: value or "" for key, value in attrs}, [])
        self.elements.append(element)
        self.open += [element] if tag not in VOID else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}, []))

    def handle_endtag(self, tag: str) -> None:
        name, _, _ = self.open.pop()
        assert name == tag, f"<{name}> is closed by </{tag}>"

    def handle_data(self, data: str) -> None:
        for _, _, texts in self.open:
            texts.append(data)

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        return [found for name, found, _ in self.elements if name == tag and wanted.items() <= found.items()]

    def texts(self, tag: str, **wanted: str) -> list[str]:
        found = [texts for name, given, texts in self.elements if name == tag and wanted.items() <= given.items()]
        return [" ".join("".join(texts).split()) for texts in found]


def select(**changes: Any) -> dict[str, Any]:
    """A selection.json in which tflite-int8 won."""
    limits = ("max_top1_drop", "max_p99_ms", "p99_batch_size", "max_size_bytes", "max_peak_memory_bytes")
    fate = {"eligible": True, "verdict": "within", "images_needed": None}
    return {
        "objective": "latency",
        "batch_size": 1,
        "budget": dict.fromkeys(limits) | {"max_top1_drop": 0.01},
        "outcome": "selected",
        "sentence": "Ship tflite-int8 (2 ms), the best of 2 within budget.",
        "winner": "tflite-int8",
        "nearest_miss": None,
        "pareto": ["tflite-int8"],
        "variants": {
            "savedmodel-fp32": fate | {"verdict": None, "reason": "4 ms against the 2 ms of tflite-int8"},
            "tflite-int8": fate | {"reason": None},
        },
    } | changes


def write(names: tuple[str, ...], **changes: Any) -> Reader:
    """Run the stages `summarize` and `report`."""
    summary = summarize.summarise(names)
    files.write_json(paths.SUMMARY, summary)
    summarize.write_classes(summary["rows"], labels.read(), paths.CLASSES)
    files.write_json(paths.SELECTION, select(**changes))
    report.main()
    return Reader(paths.PAGE.read_text(encoding="utf-8"))


@pytest.fixture
def ready(results: Any, photo: Any) -> Any:
    """A checkout with class names, photographs and timed calls; the last photograph cannot be read."""
    labels.write(Labels(NAMES, tuple(f"n{i:08}" for i in range(len(NAMES)))))
    for i in range(3):
        photo(paths.EVALUATION / f"{i}.jpg", seed=i)
    files.write_text(paths.EVALUATION / "3.jpg", "no photograph")
    calls = np.random.default_rng(0).gamma(40, 0.1, (2, 60))
    names = ("savedmodel-fp32", "tflite-int8")
    lines = [f"{name},1,latency,0,0,{ms:.4f}\n" for name, row in zip(names, calls, strict=True) for ms in row]
    header = "variant,batch_size,term,repeat,block,ms\n"
    files.write_text(paths.SAMPLES, header + "".join(lines) + "tflite-int8,8,latency,0,0,9\n")
    return results


@pytest.fixture
def shown(ready: Any, mixed: tuple[str, ...]) -> Reader:
    """The page of two variants that ran, two that were skipped and one that failed."""
    return write(mixed)


def test_the_page_needs_nothing_else(shown: Reader) -> None:
    text = paths.PAGE.read_text(encoding="utf-8")
    assert not shown.all("script") and "@import" not in text and "@font-face" not in text
    links = [given[key] for _, given, _ in shown.elements for key in ("src", "href") if key in given]
    assert links and all(link.startswith(("#", "data:")) for link in links)
    assert all(style.startswith("#") for style in re.findall(r"url\(['\"]?([^)]*)\)", text))
    assert len(text) < 2_000_000


def test_the_decision_comes_first(shown: Reader) -> None:
    assert shown.texts("h1") == ["Ship tflite-int8"]
    assert "Ship tflite-int8 (2 ms), the best of 2 within budget." in shown.texts("p")
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
        "2.00[1.50, 2.50]",
        "3.00",
        "2.00\N{MULTIPLICATION SIGN}",
        "2.0",
        "300",
    )
    assert all(figure in winner.replace("\N{NO-BREAK SPACE}", " ") for figure in figures), winner
    skipped = next(text for text in shown.texts("tr") if text.startswith("tftrt-fp32"))
    assert "skipped" in skipped and skipped.count("none") == 10


def test_notes_say_what_the_table_leaves_open(shown: Reader) -> None:
    notes = shown.texts("li")
    assert "p99 is quoted from 662 calls on; there are 100." in notes
    assert not [note for note in notes if note.startswith(("p90", "A question mark", "unsteady"))]


def test_every_loser_has_its_reason_and_like_ones_share_it(shown: Reader) -> None:
    text = shown.texts("dl", **{"class": "reasons"})[0]
    assert "savedmodel-fp32 4 ms against the 2 ms of tflite-int8" in text
    assert "tftrt-fp32, tftrt-int8 no NVIDIA GPU" in text
    assert "tflite-fp32 convert: no memory" in text


def test_the_gallery_names_each_changed_image_and_both_answers(shown: Reader) -> None:
    # 2.jpg is right for the baseline alone; 3.jpg is the same wrong class for both.
    assert "1 of 4 images changed: 1 lost, 0 gained, 0 wrong before and now" in shown.texts("span")
    (image,) = shown.all("img")
    assert image["alt"] == "2.jpg, a photograph of tench"
    assert image["src"].startswith("data:image/jpeg;base64,/9j/")
    assert shown.texts("figcaption")[-1].endswith("labeltench beforetench, 50.0 % nowcats & <dogs>, 50.0 %")


def test_a_gpus_time_is_split_where_it_is_known(ready: Any, mixed: tuple[str, ...], shown: Reader) -> None:
    assert "Where the time goes" not in shown.texts("h2")
    split = {"input_copy": 0.25, "compute": 1.5, "output_copy": 0.01}
    timing = ready.timings["tflite-int8"]
    timing["batches"]["1"]["parts_ms"] = split
    ready.write_timings()
    ready.converted("tflite-int8", details={"options": {"cuda_graph": True, "pinned": False}})
    again = write(mixed)
    assert "Where the time goes" in again.texts("h2")
    assert "tflite-int8CUDA graph" in again.texts("th", scope="row")
    cells = again.texts("td")
    start = cells.index("0.250")
    assert cells[start - 1 : start + 5] == ["1", "0.250", "1.500", "0.010", "1.240", "3.000"]


def test_only_the_gpu_that_is_used_is_named(ready: Any, mixed: tuple[str, ...], machine: dict[str, Any]) -> None:
    two = [*machine["gpus"], {"name": "NVIDIA A2", "compute_capability": "8.6", "memory_bytes": None}]
    files.write_json(paths.ENVIRONMENT, machine | {"gpus": two})
    assert write(mixed).texts("p", **{"class": "eyebrow"}) == ["tiny · 4 evaluation images · NVIDIA T4"]


def test_other_gpus_have_a_table_of_their_own(ready: Any, other_gpu: tuple[str, ...]) -> None:
    found = write(other_gpu)
    assert "On other GPUs" in found.texts("h3")
    line = next(text for text in found.texts("tr") if text.startswith("NVIDIA T4tflite-int8"))
    assert line == "NVIDIA T4tflite-int8ok50.04.0032.002.50x9.5"
    assert "tflite-fp32 on NVIDIA T4 failed: convert: no memory" in found.texts("li")


def test_without_other_gpus_there_is_no_table_of_them(shown: Reader) -> None:
    assert "On other GPUs" not in shown.texts("h3")


def test_what_tensorrt_did_stands_below_the_results(ready: Any, mixed: tuple[str, ...], shown: Reader) -> None:
    assert "What TensorRT did" not in shown.texts("h3")
    converted = {
        "tf32": True, "tensorrt_linked": "8.4.3", "tensorrt_loaded": "8.5.3", "ops_outside": {"Identity": 2},
        "engine_ops": 1, "share_in_engines": 0.99, "engine_build_s": {"1": 26.0}, "variables_bytes": 0,
        "graph_bytes": 14_000_000, "engine_bytes": 31_100_000,
    }  # fmt: skip
    native = {
        "tf32": True, "tensorrt": "TensorRT 8.5.3.1", "form": "each", "because": "so", "engine_build_s": {"1": 58.3},
        "engines": {"1": {"fp32_weights": []}}, "int8_layers": 0, "fp16_layers": 55, "fp32_layers": 0,
        "engine_bytes": 9_100_000,
    }  # fmt: skip
    ready.converted("savedmodel-fp32", details=converted)
    ready.converted("tflite-int8", details=native)
    again = write(mixed)
    assert "What TensorRT did" in again.texts("h3")
    captions, cells = again.texts("caption"), again.texts("td")
    assert captions[1:3] == ["TensorFlow's graphs with TensorRT's engines in them", "Engines without TensorFlow"]
    assert {"8.4.3", "8.5.3", "2 Identity", "99.0", "31.1"} <= set(cells)
    assert {"TensorRT 8.5.3.1", "0 / 55 / 0", "58", "9.1"} <= set(cells)


def test_what_the_page_was_made_from_stands_in_it(shown: Reader) -> None:
    code = "".join(next(texts for tag, _, texts in shown.elements if tag == "code" and "benchmark:" in "".join(texts)))
    assert code.strip() == paths.PARAMS.read_text(encoding="utf-8").strip()
    assert "make repro" in shown.texts("pre")
    facts = " ".join(shown.texts("dl"))
    assert "gpu missingno NVIDIA driver answers" in facts and "tensorflow version2.14.1" in facts


def test_a_screen_reader_finds_its_way(shown: Reader) -> None:
    assert len(shown.all("h1")) == len(shown.all("main")) == len(shown.all("header")) == len(shown.all("footer")) == 1
    assert shown.all("html", lang="en") and shown.all("nav", **{"aria-label": "On this page"})
    ids = [given["id"] for _, given, _ in shown.elements if "id" in given]
    assert len(ids) == len(set(ids))
    assert shown.all("a", href="#main") and {link["href"][1:] for link in shown.all("a")} <= set(ids)
    assert len(shown.all("caption")) == len(shown.all("table"))
    assert all("scope" in head for head in shown.all("th"))
    scrolling = [given for _, given, _ in shown.elements if "scroll" in given.get("class", "").split()]
    assert scrolling and all(given["tabindex"] == "0" and given["aria-label"] for given in scrolling)
    assert len(shown.all("svg", role="img")) == len(shown.all("svg")) == 6
    assert all(image["alt"] for image in shown.all("img"))


def test_no_heading_level_is_left_out(shown: Reader) -> None:
    levels = [int(tag[1]) for tag, _, _ in shown.elements if re.fullmatch(r"h\d", tag)]
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_same_inputs_give_the_same_bytes(shown: Reader) -> None:
    before = paths.PAGE.read_bytes()
    gallery.thumbnail.cache_clear()
    report.main()
    assert paths.PAGE.read_bytes() == before


def test_a_file_that_is_no_image_is_named_in_its_place(ready: Any) -> None:
    ready.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0)
    ready.ok("tflite-int8", [0, 0, 0, 1], 2.0)
    shown = write(("savedmodel-fp32", "tflite-int8"))
    assert "3.jpg cannot be shown" in shown.texts("span") and not shown.all("img")


def test_lost_images_come_first_then_the_surest_and_at_most_24(ready: Any) -> None:
    def found(best: list[int], scores: list[float]) -> list[predictions.Prediction]:
        pairs = enumerate(zip(best, scores, strict=True))
        return [predictions.Prediction(f"{i}.jpg", 0, [one], [score]) for i, (one, score) in pairs]

    predictions.write(found([1, 0, 1, 0], [0.5] * 4), paths.record(BASELINE.name, "predictions.csv"))
    predictions.write(found([2, 3, 0, 4], [0.9, 0.6, 0.8, 0.7]), paths.record("tflite-int8", "predictions.csv"))
    rows = [{"variant": "tflite-int8", "change": {"images": 4}}]
    (shown,) = gallery.galleries(rows, labels.read(), lambda _: None)
    assert [one.file for one in shown.shown] == ["3.jpg", "1.jpg", "2.jpg", "0.jpg"]
    assert shown.counts == {"lost": 2, "gained": 1, "other": 1}
    predictions.write(found([0] * 30, [0.5] * 30), paths.record(BASELINE.name, "predictions.csv"))
    predictions.write(found([1] * 30, [0.5] * 30), paths.record("tflite-int8", "predictions.csv"))
    (shown,) = gallery.galleries(rows, labels.read(), lambda _: None)
    assert (len(shown.shown), shown.counts["lost"]) == (24, 30)


def test_texts_of_others_are_no_mark_up(ready: Any, mixed: tuple[str, ...]) -> None:
    bad = '<script>alert(1)</script> & "quoted"'
    fate = {name: {"eligible": False, "verdict": None, "images_needed": None, "reason": bad} for name in mixed}
    shown = write(mixed, sentence=bad, variants=fate)
    assert not shown.all("script")
    assert shown.texts("p", **{"class": "sentence"}) == [bad]


@pytest.mark.parametrize(
    ("changes", "title", "heading"),
    [
        ({"outcome": "cannot tell"}, report.HEADLINES["cannot tell"], "Known to be within budget: tflite-int8"),
        ({"outcome": "cannot tell", "winner": None}, report.HEADLINES["cannot tell"], None),
        (
            {
                "outcome": "nothing within budget",
                "winner": None,
                "nearest_miss": {"variant": "tflite-int8", "reason": "its drop"},
            },
            report.HEADLINES["nothing within budget"],
            "Nearest to the budget: tflite-int8, its drop",
        ),
        ({"outcome": "nothing within budget", "winner": None}, report.HEADLINES["nothing within budget"], None),
    ],
)
def test_no_decision_is_told_as_one(
    ready: Any, mixed: tuple[str, ...], changes: dict[str, Any], title: str, heading: str | None
) -> None:
    shown = write(mixed, **changes)
    assert shown.texts("h1") == [title]
    assert shown.texts("h2", **{"class": "cards-name"}) == ([heading] if heading else [])
    assert "chosen" not in " ".join(shown.texts("tr"))


NOBODY: dict[str, Any] = {"winner": None, "outcome": "nothing within budget", "pareto": [], "variants": {}}


def test_a_page_can_be_written_when_nothing_ran(ready: Any) -> None:
    ready.stopped("tftrt-fp32", "skipped", "no NVIDIA GPU")
    for samples in ("", "variant,batch_size,term,repeat,block,ms\n"):
        files.write_text(paths.SAMPLES, samples)
        shown = write(("tftrt-fp32",), **NOBODY)
        assert not shown.all("svg")
        assert len(shown.texts("p", **{"class": "nothing"})) == 6
        assert "No variant was evaluated." in shown.texts("p")
        assert "savedmodel-fp32 was not measured, so there is no drop and no speed-up." in shown.texts("li")
    assert "No variant is listed in params.yaml." in write((), **NOBODY).texts("td")


def test_a_single_variant_needs_no_baseline(ready: Any) -> None:
    ready.ok("tflite-int8", [0, 0, 1, 1], 2.0)
    shown = write(("tflite-int8",))
    assert shown.texts("h1") == ["Ship tflite-int8"] and len(shown.all("svg")) == 6
    assert "There are no others." in shown.texts("p")


# Classes.

TRUTH = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2]


@pytest.fixture
def several(ready: Any) -> Reader:
    """The page of three classes: INT8 loses two images of the first to the second, and FP16 changes nothing."""
    images = files.read_json(paths.IMAGES)
    files.write_json(paths.IMAGES, images | {"evaluation": images["evaluation"] | {"images": 10, "classes": 3}})
    ready.ok("savedmodel-fp32", [0, 0, 0, 1, 1, 0, 2, 2, 2, 9], 4.0, TRUTH)
    ready.ok("tflite-fp16", [0, 0, 0, 1, 1, 0, 2, 2, 2, 9], 3.0, TRUTH)
    ready.ok("tflite-int8", [0, 1, 1, 1, 1, 1, 2, 2, 2, 9], 2.0, TRUTH)
    return write(("savedmodel-fp32", "tflite-fp16", "tflite-int8"))


def test_averages_stand_beside_the_baselines(several: Reader) -> None:
    averages = next(text for text in several.texts("table") if text.startswith("Averages over the classes"))
    _, fp16, int8 = re.split("tflite-", averages)
    # Recall 1, 2/3 and 3/4 becomes 1/3, 1 and 3/4.
    assert "80.60.00 the same" in fp16 and "69.4\N{MINUS SIGN}11.11 worse" in int8
    # Every confidence is 0.5: a top-1 of 0.8 lies 30 points off, one of 0.7 only 20.
    assert int8.endswith("20.0\N{MINUS SIGN}10.00 better")


def test_what_averages_mean_is_told(several: Reader) -> None:
    notes = several.texts("li")
    assert any(note.startswith("Macro: the mean over the 3 classes that have images.") for note in notes)
    assert "With 3.3 images of each class, figures of single classes say little." in notes


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
    opened = [given for given in several.all("details") if "open" in given]
    assert len(opened) == 2


def test_a_never_predicted_class_has_no_precision(ready: Any) -> None:
    ready.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0, [0, 0, 1, 1])
    lowest = next(text for text in write(("savedmodel-fp32",)).texts("table") if text.startswith("Lowest F1"))
    assert "cats & <dogs>2\N{EN DASH}none0.00.0" in lowest


def test_predictions_on_other_images_are_not_compared(ready: Any) -> None:
    ready.ok("savedmodel-fp32", [0, 1, 1], 4.0, [0, 1, 0])
    ready.ok("tflite-int8", [0, 1], 2.0, [0, 1])
    shown = write(("savedmodel-fp32", "tflite-int8"))
    assert not [text for text in shown.texts("table") if text.startswith("Largest losses")]
    assert len([text for text in shown.texts("table") if text.startswith("Lowest F1")]) == 2


def test_a_baseline_at_chance_is_told_first(ready: Any) -> None:
    truth = [0, 1] * 10
    ready.ok("savedmodel-fp32", [1, 0] * 10, 4.0, truth)
    (warning,) = write(("savedmodel-fp32",)).texts("p", **{"class": "warning"})
    assert "savedmodel-fp32 is no better than chance: its top-1 is 0.0 % of 20 images" in warning
    assert "preprocessing (scale, mean, channel order)" in warning
    ready.ok("savedmodel-fp32", truth, 4.0, truth)
    assert not write(("savedmodel-fp32",)).texts("p", **{"class": "warning"})


def test_20000_classes_make_a_page_no_larger_than_twelve_do(ready: Any) -> None:
    names = tuple(f"class number {i}" for i in range(20_000))
    labels.write(Labels(names, names))
    truth = [i % 20_000 for i in range(40_000)]
    ready.ok("savedmodel-fp32", [(label * 7) % 20_000 if label % 5 else label for label in truth], 4.0, truth)
    ready.ok("tflite-int8", [(label * 3) % 20_000 if label % 3 else label for label in truth], 2.0, truth)
    shown = write(("savedmodel-fp32", "tflite-int8"))
    assert not [text for text in shown.texts("title") if text.startswith("Confusion")]
    bodies = [text for text in shown.texts("table") if text.startswith(("Largest", "Lowest", "Most confused"))]
    assert len(bodies) == 4 and all(len(text) < 2000 for text in bodies)
    assert paths.PAGE.stat().st_size < 500_000


def test_only_calls_of_that_batch_size_and_term_are_read(tmp_path: Path) -> None:
    lines = "variant,batch_size,term,repeat,block,ms\na,1,latency,0,0,2.5\na,1,latency_host,0,0,9\na,8,latency,0,0,9\n"
    files.write_text(tmp_path / "samples.csv", lines)
    found = report.read_calls(tmp_path / "samples.csv", "1")
    assert {name: calls.tolist() for name, calls in found.items()} == {"a": [2.5]}


# Training.


@pytest.fixture
def taught(several: Reader, ready: Any) -> Reader:
    """The page of a model that was trained with two seeds, and again for an INT8 that wins back two images of ten."""
    ready.ok("tflite-int8-qat", [0, 0, 0, 1, 1, 1, 2, 2, 2, 9], 2.5, TRUTH)
    ready.learned()
    runs = [{"seed": seed, "best_epoch": 2, "best_val_loss": 0.5 + seed} for seed in (0, 1)]
    files.write_json(paths.MODEL, files.read_json(paths.MODEL) | {"training": {"seed": 0, "runs": runs}})
    epochs = [{"seed": seed, "epoch": i, "loss": 1.5, "val_loss": seed + 1 / i} for seed in (0, 1) for i in (1, 2)]
    fit.write_curves(epochs, paths.CURVES)
    return write(("savedmodel-fp32", "tflite-fp16", "tflite-int8", "tflite-int8-qat"))


def section(shown: Reader) -> str:
    """The text of the section on training."""
    (text,) = shown.texts("section", id="training")
    return text


def test_fp32_and_int8_without_and_with_training_stand_side_by_side(taught: Reader) -> None:
    (found,) = (text for text in taught.texts("tr") if text.startswith("tfliteFP32: "))
    assert found == (
        "tfliteFP32: savedmodel-fp3280.0[49.0, 94.3]70.0[39.7, 89.2]90.0[59.6, 98.2]"
        "+20.00[\N{MINUS SIGN}13.30, 50.98]0.52.000 / 2.5002.00 / 2.00"
    )


def test_a_runtimes_own_fp32_stands_beside_its_int8(taught: Reader, ready: Any) -> None:
    ready.ok("tflite-fp32", [0, 0, 0, 1, 1, 1, 2, 2, 2, 2], 3.0, TRUTH)
    text = section(write(("savedmodel-fp32", "tflite-fp32", "tflite-int8", "tflite-int8-qat")))
    assert "tfliteFP32: tflite-fp32100.0[" in text


def test_an_int8_that_was_not_evaluated_leaves_its_cells_empty(taught: Reader) -> None:
    text = section(write(("tflite-int8-qat",), **NOBODY))
    nothing = "\N{EN DASH}none"
    assert f"tflite{nothing}{nothing}90.0[59.6, 98.2]{nothing}{nothing}\N{EN DASH} / 2.500\N{EN DASH} / 2.00" in text


def test_how_the_training_went_is_told(taught: Reader, ready: Any) -> None:
    told = (
        "QAT was best after epoch 1 of 2: with INT8 simulated, 93.8 % of the 96 validation images were right, and "
        "87.5 % before it learned (epoch 0). It took 42 s on 1,200 images."
    )
    assert told in taught.texts("li") and "did not simulate" not in section(taught)
    ready.learned(layers_not_simulated={"Lambda": 2, "Softmax": 1})
    again = write(("savedmodel-fp32", "tflite-int8-qat"))
    assert "Layers that QAT did not simulate, whose ranges the calibration set gives: 2 Lambda, 1 Softmax." in (
        again.texts("li")
    )


def test_every_training_has_its_curve(taught: Reader) -> None:
    assert "Loss by epoch of each training" in taught.texts("title")
    (told,) = taught.texts("desc", id="training-desc")
    assert told == (
        "seed 0: loss on the validation images 1 after epoch 1, lowest 0.5 after epoch 2 of 2; "
        "seed 1: loss on the validation images 2 after epoch 1, lowest 1.5 after epoch 2 of 2; "
        "QAT: loss on the validation images 0.5 after epoch 0, lowest 0.25 after epoch 1 of 2."
    )


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_training_that_did_not_happen_has_its_reason_and_no_curve(ready: Any, status: str) -> None:
    ready.ok("savedmodel-fp32", [0, 0, 0, 0], 4.0)
    ready.stopped("tflite-int8-qat", status, "qat: its loss is not finite")
    files.write_json(paths.QAT_RECORD, {"status": status, "reason": "qat: its loss is not finite", "sources": {}})
    shown = write(("savedmodel-fp32", "tflite-int8-qat"))
    assert f"QAT {status}: its loss is not finite." in shown.texts("li")
    assert "Loss by epoch" not in section(shown)


def test_a_model_that_was_not_trained_has_no_such_section(shown: Reader) -> None:
    assert not shown.all("section", id="training") and not shown.all("a", href="#training")


def test_a_model_that_was_only_trained_has_its_curves_and_no_table(taught: Reader) -> None:
    shown = write(("savedmodel-fp32", "tflite-int8"))
    assert shown.all("a", href="#training") and "Loss by epoch" in section(shown)
    assert "Won back" not in section(shown) and "QAT" not in section(shown)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("mode", [0, 1], ids=["light", "dark"])
def test_words_and_shapes_stand_out_from_their_background(mode: int) -> None:
    """WCAG 2.2: 4.5:1 for text, 3:1 for shapes."""
    block = re.findall(r":root \{(.+?)\}", report.TEMPLATE.read_text(encoding="utf-8"), re.DOTALL)[mode]
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
    taught: Reader, server: Any, tmp_path: Path, width: int, scheme: str
) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on the PATH (Debian: apt install chromium)")
    for name, body in (("report.html", paths.PAGE.read_bytes()), ("probe.html", PROBE.format(width=width).encode())):
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
    told = re.search(r"<title>(.+?)</title>", done.stdout)
    assert told, done.stdout[-500:]
    dark = str(scheme == "dark").lower()
    assert told[1] == f'{{"scrolls":false,"wide":[],"dark":{dark},"charts":12,"blind":0}}'
    assert "CONSOLE" not in done.stderr, done.stderr
    assert shot.stat().st_size > 20_000
