"""Windows, scales and mirrorings: every pixel is covered, one view is the plain prediction, memory is bounded."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clan.cli import main as cli
from clan.core.errors import ClanError
from clan.data.image_files import read_id_label
from clan.evaluation import fusion, inference
from clan.evaluation.bulk import evaluate_and_score
from clan.evaluation.fusion import ViewFusion
from clan.evaluation.model import load
from clan.evaluation.resampling import interpolation, labels_of, sureness
from clan.evaluation.scores_file import read_evaluation
from clan.evaluation.viewed_model import ViewedModel
from clan.evaluation.views import Views, groups

pytestmark = pytest.mark.plain

RANDOM = np.random.default_rng(3)
CLASSES = 5


def noise(width, height):
    return Image.fromarray(RANDOM.integers(0, 256, (height, width, 3)).astype(np.uint8))


def network(stride=8, heads=2):
    """Logits that depend on the colours of each square of pixels, and on nothing else."""
    mix = RANDOM.normal(0, 0.03, (heads * CLASSES, 3)).astype(np.float32)

    def logits(images):
        count, height, width = images.shape[:3]
        small = [Image.fromarray(one).resize((-(-width // stride), -(-height // stride))) for one in images]
        values = np.stack([np.asarray(one, np.float32) for one in small]) @ mix.T
        return values.transpose(0, 3, 1, 2).reshape(count, heads, CLASSES, *values.shape[1:3])

    return logits


def constant(values):
    """Logits that are the same everywhere."""
    column = np.asarray(values, np.float32)[None, None, :, None, None]
    return lambda images: np.broadcast_to(column, (len(images), 1, len(values), images.shape[1] // 8, 9)).copy()


sides = st.integers(1, 300)
all_views = st.builds(
    Views,
    window=st.none() | st.tuples(st.integers(32, 200), st.integers(32, 200)),
    overlap=st.floats(0, 0.9),
    flip=st.booleans(),
    scales=st.lists(st.sampled_from([0.5, 1.0, 1.25, 2.0]), min_size=1, max_size=3, unique=True).map(tuple),
)


@given(all_views, st.tuples(sides, sides), st.tuples(sides, sides))
def test_views_cover_every_pixel_and_stay_within_the_image(views, size, seen):
    covered = np.zeros(size[::-1], int)
    for view in views.of(size, seen):
        assert view.left >= 0 and view.top >= 0 and min(view.width, view.height, *view.size) > 0
        assert view.left + view.width <= size[0] and view.top + view.height <= size[1]
        if views.window:
            assert all(side <= limit for side, limit in zip(view.size, views.window, strict=True))
        covered[view.top : view.top + view.height, view.left : view.left + view.width] += 1
    assert covered.min() >= len(views.scales) * (1 + views.flip)


@given(st.integers(40, 400), st.integers(32, 120), st.floats(0, 0.9))
def test_windows_overlap_at_least_as_asked(length, window, overlap):
    views = Views(window=(window, 32), overlap=overlap).of((length, 32), (length, 32))
    starts = sorted(view.left for view in views)
    steps = np.diff(starts)
    assert len(steps) == 0 or steps.max() <= max(1, np.ceil(window * (1 - overlap)))


@settings(max_examples=30, deadline=None)
@given(all_views)
def test_weights_add_up_to_one_everywhere(views):
    probabilities = np.array([0.1, 0.6, 0.3])
    fused = ViewFusion(constant(np.log(probabilities)), views, maps=True)(noise(90, 50), (90, 50), (66, 40))
    assert (fused.labels == 1).all()
    np.testing.assert_allclose(fused.confidence, 0.6, rtol=1e-5)


@pytest.mark.parametrize("average", ["probabilities", "logits"])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_one_window_of_full_size_is_the_plain_prediction(average, mode):
    image, run = noise(200, 120), network()
    plain = run(np.asarray(image)[None])[0]
    views = Views(window=(200, 120), average=average)
    fused = ViewFusion(run, views, upsampling=mode, maps=True)(image, (200, 120), image.size)
    expected = labels_of(plain.sum(axis=0), (120, 200), mode=mode)
    assert (fused.labels == expected).mean() > 0.9999  # equal but for rounding
    if mode == "bilinear":
        for found, known in zip((fused.confidence, fused.discrepancy), sureness(plain, (120, 200)), strict=True):
            np.testing.assert_allclose(found, known, atol=2e-6)


def test_a_mirrored_image_gives_the_mirrored_result():
    image, run = noise(128, 64), network()
    mirrored = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for views in (
        Views(flip=True),
        Views(flip=True, scales=(1.0, 1.5)),
        Views(window=(64, 64), overlap=0.5, flip=True),
    ):
        one, other = (ViewFusion(run, views, maps=True)(picture, (128, 64), (128, 64)) for picture in (image, mirrored))
        assert (one.labels == other.labels[:, ::-1]).mean() > 0.999
        np.testing.assert_allclose(one.confidence, other.confidence[:, ::-1], atol=1e-5)
        np.testing.assert_allclose(one.discrepancy, other.discrepancy[:, ::-1], atol=1e-5)


def test_what_a_window_sees_is_that_part_of_the_image():
    """A network that looks at single pixels gives the same in windows as at once."""
    image, run = noise(160, 96), network(stride=1)
    whole = ViewFusion(run, Views(flip=True))(image, (160, 96), (160, 96)).labels
    windows = ViewFusion(run, Views(window=(64, 48), overlap=0.3), batch_size=4)(image, (160, 96), (160, 96)).labels
    assert (whole == windows).mean() > 0.9999


def test_a_class_that_is_excluded_is_never_predicted_and_is_no_less_sure():
    run, image = constant([0.0, 3.0, 1.0]), noise(64, 64)
    fused = ViewFusion(run, Views(flip=True), excluded=1, maps=True)(image, (64, 64), (64, 64))
    assert (fused.labels == 2).all()
    assert fused.confidence.min() > 0.8


def test_bands_do_not_change_the_result(monkeypatch):
    image, run, views = noise(200, 150), network(), Views(window=(96, 64), flip=True, scales=(1.0, 1.5))
    at_once = ViewFusion(run, views, maps=True)(image, (200, 150), (200, 150))
    monkeypatch.setattr(fusion, "BLOCK", 1)
    by_row = ViewFusion(run, views, maps=True)(image, (200, 150), (200, 150))
    assert (at_once.labels == by_row.labels).mean() > 0.9999
    np.testing.assert_allclose(at_once.discrepancy, by_row.discrepancy, atol=1e-5)


def test_a_large_image_is_never_held_as_logits_of_all_classes():
    width, height = 2048, 1536
    image, run = Image.new("RGB", (width, height)), constant(np.arange(19.0))
    views, calls = Views(window=(512, 256), overlap=0.25), []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    fused = ViewFusion(run, views)(image, (width, height), (width, height), lambda: calls.append(1))
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert (fused.labels == 18).all()
    assert len(calls) == len(views.of((width, height), (width, height))) == 40
    assert peak < 0.4 * width * height * 19 * 4


def test_groups_hold_views_of_one_size_in_order():
    views = Views(window=(64, 64), scales=(1.0, 2.0), flip=True).of((100, 90), (100, 90))
    found = list(groups(views, 3))
    assert [view for group in found for view in group] == views
    assert all(len({view.size for view in group}) == 1 and len(group) <= 3 for group in found)


def test_interpolation_is_paddles():
    import paddle

    from clan.models.segmenter import upsample

    values = RANDOM.normal(size=(2, 5, 7)).astype(np.float32)
    for mode in ("bilinear", "bicubic"):
        for corners in (True, False):
            made = interpolation(5, 23, mode, corners) @ values @ interpolation(7, 11, mode, corners).T
            known = upsample(paddle.to_tensor(values[None]), (23, 11), mode, align_corners=corners)[0].numpy()
            np.testing.assert_allclose(made, known, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--overlap", "0.5"], "--overlap is that of windows: give --window WIDTH HEIGHT too"),
        (["--window", "64", "32", "--overlap", "1"], "--overlap 1 is no share of a window: give 0 to 0.9"),
        (["--window", "8", "32"], "--window 8 32 is too small"),
        (["--tta", "flop"], "--tta flop is neither flip nor a scale such as 1.25"),
        (["--tta", "9"], "--tta 9 is no scale: give 0.25 to 4"),
        (["--tta", "1", "1.0"], "--tta 1 1 names a scale twice"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(options, sentence, error_of):
    assert sentence in error_of(cli.dispatch, "evaluate", "no.pdparams", *options)


@pytest.fixture
def scored(evaluated_runs, worlds, tmp_path):
    """Evaluates a snapshot by some views, and returns the folder of its label maps."""
    from clan.data.dataset import Dataset

    def call(name, views):
        dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val")
        options = {"num_classes": None, "upsampling": None, "views": views}
        (weights,) = (evaluated_runs / "first").glob("*_4.pdparams")
        evaluate_and_score(weights, dataset, tmp_path / name, tmp_path / "books", **options)
        (folder,) = (tmp_path / name).iterdir()
        return folder

    return call


def test_scores_say_how_images_were_seen(scored, capsys, monkeypatch):
    compute, calls = inference._logits, []
    monkeypatch.setattr(inference, "_logits", lambda *given: calls.append(given[1].shape) or compute(*given))
    plain = scored("plain", Views())
    assert calls == [(1, 3, 32, 64)] * 2
    calls.clear()
    views = Views(window=(64, 32), flip=True, scales=(1.0, 1.5))
    seen = scored("seen", views)
    assert calls == [(1, 3, 32, 64)] * 2 * len(views.of((128, 64), (128, 64)))
    assert "seen by windows of 64x32 overlapping by 0.25, flip, scales 1 1.5" in capsys.readouterr().out
    assert read_evaluation(plain).views == ""
    assert read_evaluation(seen).views == str(views)
    assert json.loads((seen / "scores.json").read_text())["views"]["scales"] == [1.0, 1.5]
    one, other = (read_id_label(next(folder.rglob("*_leftImg8bit.png"))) for folder in (plain, seen))
    assert one.shape == other.shape
    again = scored("seen", Views())  # the same folder
    assert read_evaluation(again).views == ""
    assert not (again / "views.json").exists()


def test_an_evaluation_that_ends_early_leaves_no_scores_of_other_label_maps(scored, monkeypatch):
    folder = scored("a", Views())
    assert (folder / "scores.json").is_file()
    monkeypatch.setattr("clan.evaluation.label_maps.each_label_map", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        scored("a", Views(flip=True))
    assert not (folder / "scores.json").exists()


def test_scores_of_other_views_are_not_compared_with_plain_ones(evaluated_runs, scored, tmp_path):
    from clan.reporting.page import make_report

    folder = scored("seen", Views(flip=True))
    page = make_report([evaluated_runs / "first"], tmp_path / "a.html", results=[tmp_path / "seen"], images=0)
    assert any(str(folder) in notice and "mean of probabilities" in notice for notice in page.notices)
    assert all("flip" not in one.name for one in page.runs[0].snapshots)
    page = make_report([evaluated_runs / "first"], tmp_path / "b.html", evaluations=[folder], images=0)
    assert "flip" in page.runs[0].evaluated
    assert not page.published


def test_damaged_views_are_refused(scored):
    folder = scored("a", Views(flip=True))
    (folder / "views.json").write_text("[]")
    with pytest.raises(ClanError, match=r"views\.json is damaged"):
        from clan.evaluation.scores_file import read_views

        read_views(folder)


def test_predictions_are_made_in_views_too(evaluated_runs, worlds, tmp_path, monkeypatch):
    from clan.evaluation import prediction as predictions

    steps = []

    class Counted:
        def __enter__(self):
            return lambda n=1: steps.append(n)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(predictions, "progress", lambda about, total: steps.append(-total) or Counted())
    (weights,) = (evaluated_runs / "first").glob("*_4.pdparams")
    picture = next((worlds / "Cityscapes/leftImg8bit/val").rglob("*.png"))
    options = ["--window", "64", "32", "--tta", "flip", "--input-size", "128", "64"]
    command = ["predict", str(picture), "--weights", str(weights), "-o", str(tmp_path / "out"), *options]
    cli.dispatch(command)
    count = len(Views(window=(64, 32), flip=True).of((128, 64), (128, 64)))
    assert steps == [-count, *[1] * count]
    model = ViewedModel(load(weights), Views.given(window=(64, 32), tta=("flip",), input_size=(128, 64)))
    expected = model(np.asarray(Image.open(picture)))
    np.testing.assert_array_equal(read_id_label(tmp_path / f"out/{picture.stem}.png"), expected.labels)
    assert expected.confidence.shape == expected.discrepancy.shape == (64, 128)
