import shutil
from contextlib import nullcontext

import cv2
import numpy as np
import paddle
import pytest
from PIL import ExifTags, Image

from clan.cli import main as cli
from clan.core.errors import ClanError
from clan.data.dataset import Dataset
from clan.data.image_files import read_id_label
from clan.datasets.labels import CITYSCAPES
from clan.evaluation import inference
from clan.evaluation.inference import evaluating
from clan.evaluation.label_maps import EvaluationOptions, evaluate, load_segmenter
from clan.evaluation.model import same_area
from clan.evaluation.overlays import CONFIDENCE, DISCREPANCY, heat_palette, overlay
from clan.evaluation.prediction import Products, predict
from clan.evaluation.resampling import sureness
from clan.evaluation.video import video_writer
from clan.models.options import NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.models.weights import save_weights
from clan.training.run import train

pytestmark = pytest.mark.plain

SUFFIXES = (".png", "_color.png", "_overlay.jpg", "_confidence.png", "_discrepancy.png")


@pytest.fixture(scope="module")
def weights(worlds, tmp_path_factory):
    """A run of one step, with its `config.yaml`."""
    from tests.conftest import tiny_config

    return train(tiny_config(worlds, tmp_path_factory.mktemp("run"), num_steps=1, warmup_steps=0, save_every=1))


@pytest.fixture
def picture(worlds):
    return next((worlds / "Cityscapes/leftImg8bit/val").rglob("*.png"))


def test_the_label_map_is_that_of_evaluation(worlds, weights, tmp_path):
    dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val")
    options = EvaluationOptions(network=NetworkConfig(backbone="resnet-tiny"), input_size=(64, 32))
    evaluate(
        load_segmenter(weights, NetworkConfig(backbone="resnet-tiny", num_classes=19)),
        dataset,
        tmp_path / "a",
        options=options,
    )
    predict(dataset.image_root, weights, tmp_path / "b")
    for name in dataset.names:
        stem = (tmp_path / "b" / name).with_suffix("")
        assert sorted(path.name for path in stem.parent.glob(f"{stem.name}*")) == sorted(
            stem.name + s for s in SUFFIXES
        )
        expected = read_id_label(tmp_path / "a" / f"{stem.name}.png")
        np.testing.assert_array_equal(read_id_label(stem.with_suffix(".png")), expected)
    assert (tmp_path / "b/legend.png").is_file()


def test_maps_are_what_the_heads_say(weights):
    """Heads that are alike agree everywhere; heads of zeros are as unsure as can be."""
    planes = np.random.default_rng(0).normal(0, 50, (3, 32, 64)).astype(np.float32)
    segmenter = load_segmenter(weights, NetworkConfig(backbone="resnet-tiny", num_classes=19))
    for parameter in segmenter.head1.parameters():
        parameter.set_value(100 * parameter)
    confidence, discrepancy = maps(segmenter, planes)
    assert discrepancy.shape == confidence.shape == (32, 64)
    assert confidence.min() >= 1 / 19 and confidence.max() <= 1
    assert discrepancy.max() > 0.01
    segmenter.head2.set_state_dict(segmenter.head1.state_dict())
    assert maps(segmenter, planes)[1].max() < 1e-5
    for head in (segmenter.head1, segmenter.head2):
        for parameter in head.parameters():
            parameter.set_value(parameter * 0)
    np.testing.assert_allclose(maps(segmenter, planes)[0], 1 / 19, rtol=1e-5)


def maps(segmenter, planes):
    with evaluating(segmenter):
        logits = np.concatenate([one.numpy() for one in segmenter(paddle.to_tensor(planes[None]))])
    return sureness(logits, planes.shape[1:], align_corners=segmenter.align_corners)


def test_any_size_and_format_keeps_its_own_size(weights, tmp_path):
    (tmp_path / "in").mkdir()
    for name, size in (("tall.jpg", (37, 91)), ("dot.webp", (1, 1)), ("wide.bmp", (200, 20))):
        Image.effect_noise(size, 80).convert("RGB").save(tmp_path / "in" / name)
    Image.new("RGBA", (30, 30), (9, 9, 9, 0)).save(tmp_path / "in/clear.png")
    assert predict(tmp_path / "in", weights, tmp_path / "out") == 4
    for path in (tmp_path / "in").iterdir():
        for suffix in SUFFIXES:
            with Image.open(tmp_path / "out" / (path.stem + suffix)) as made, Image.open(path) as given:
                assert made.size == given.size


def test_same_area_keeps_area_and_proportions():
    assert same_area((2048, 1024), (1024, 512)) == (1024, 512)
    width, height = same_area((720, 1280), (1024, 512))
    assert width % 8 == height % 8 == 0
    assert width * height == pytest.approx(1024 * 512, rel=0.03)
    assert width / height == pytest.approx(720 / 1280, rel=0.02)


@pytest.fixture
def video(tmp_path):
    """Six frames, 64×48, ever brighter."""
    path = tmp_path / "drive.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 12.5, (64, 48))
    for number in range(6):
        writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    writer.release()
    return path


def test_a_photograph_is_set_upright(weights, tmp_path):
    turned = Image.effect_noise((96, 48), 80).convert("RGB")
    exif = turned.getexif()
    exif[ExifTags.Base.Orientation] = 6
    turned.save(tmp_path / "phone.jpg", exif=exif)
    predict(tmp_path / "phone.jpg", weights, tmp_path / "out")
    with Image.open(tmp_path / "out/phone.png") as labels:
        assert labels.size == (48, 96)


def test_a_strip_however_thin_is_as_much_work_as_a_picture():
    for size in ((1, 1), (20000, 1), (1, 30000), (640, 480), (97, 1031)):
        width, height = same_area(size, (1024, 512))
        assert min(width, height) >= 16
        assert 0.5 < width * height / (1024 * 512) < 1.5


def test_frames_of_odd_size_lose_nothing(tmp_path):
    frame = np.zeros((33, 65, 3), np.uint8)
    frame[-1], frame[:, -1] = 255, 255
    with video_writer(tmp_path / "odd.mp4", 10, (65, 33)) as append:
        append(frame)
    found, kept = cv2.VideoCapture(str(tmp_path / "odd.mp4")).read()
    assert found
    assert kept.shape == (34, 66, 3)
    assert kept[-2:].min() > 128 and kept[:, -2:].min() > 128


def test_a_video_gives_videos_of_its_length_rate_and_size(video, weights, tmp_path):
    assert predict(video, weights, tmp_path / "out") == 6
    kinds = ("color", "overlay", "confidence", "discrepancy")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"legend.png", *(f"drive_{k}.mp4" for k in kinds)}
    for kind in kinds:
        capture = cv2.VideoCapture(str(tmp_path / f"out/drive_{kind}.mp4"))
        assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.5)
        frames = [frame for found, frame in iter(capture.read, (False, None)) if found]
        assert [frame.shape for frame in frames] == [(48, 64, 3)] * 6
    overlay_only = Products(labels=False, confidence=False, discrepancy=False)
    predict(video, weights, tmp_path / "one", products=overlay_only)
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"legend.png", "drive_overlay.mp4"}


def test_overlays_mix_by_opacity_and_leave_the_unknown():
    image = np.full((4, 6, 3), 100, np.uint8)
    ids = np.zeros((4, 6), np.uint8)
    np.testing.assert_array_equal(overlay(image, ids, CITYSCAPES, opacity=0), image)
    np.testing.assert_array_equal(overlay(image, ids, CITYSCAPES, opacity=1), CITYSCAPES.colorize(ids))
    np.testing.assert_array_equal(overlay(image, np.full_like(ids, 255), CITYSCAPES), image)


def test_scales_are_monotone_and_end_where_the_palette_does():
    ramp = np.linspace(0, 1, 256, dtype=np.float32)[None]
    for scale in (CONFIDENCE, DISCREPANCY):
        steps = scale.quantize(ramp, (256, 1))[0].astype(int)
        assert (steps[0], steps[-1]) == (0, 255)
        assert (np.diff(steps) >= 0).all()
    assert DISCREPANCY.quantize(np.full((2, 2), 0.25, np.float32), (2, 2)).max() == 128
    luminance = heat_palette() @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > -0.5).all()


def test_what_cannot_be_done_is_said_in_a_sentence(weights, picture, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "broken.png").write_bytes(b"no image")
    copy = tmp_path / "own/a.png"
    copy.parent.mkdir()
    shutil.copy(picture, copy)
    for source, save, message in (
        (tmp_path / "nowhere", "out", "nowhere does not exist: give an image"),
        (tmp_path / "empty", "out", "empty holds no image"),
        (tmp_path / "broken.mp4", "out", "holds no frame that OpenCV can decode"),
        (tmp_path / "broken.png", "out", "broken.png cannot be decoded"),
        (copy, "own", "would lie among the images"),
        (copy.parent, "own/below", "would lie among the images"),
    ):
        with pytest.raises(ClanError, match=message):
            predict(source, weights, tmp_path / save)
    with pytest.raises(ClanError, match="--opacity 2 is no share"):
        Products(opacity=2)
    with pytest.raises(ClanError, match="nothing to write"):
        Products(labels=False, overlay=False, confidence=False, discrepancy=False)


CLASHES = {
    "suffixes": (("a.jpg", "a.png"), "{in}/a.jpg and {in}/a.png would both be written to {out}/a.png"),
    "colours": (("a.jpg", "a_color.jpg"), "{in}/a.jpg and {in}/a_color.jpg would both be written to {out}/a_color.png"),
    "maps": (("a_discrepancy.bmp", "a.jpg"), "would both be written to {out}/a_discrepancy.png"),
    "below": (("x/a.jpg", "x/a_color.webp"), "would both be written to {out}/x/a_color.png"),
    "legend": (("legend.jpg",), "the legend and {in}/legend.jpg would both be written to {out}/legend.png"),
    "folder": (("a.jpg", "a.png/b.jpg"), "{in}/a.jpg would be written to {out}/a.png, which must be a folder for"),
}


@pytest.mark.parametrize("case", CLASHES)
def test_results_that_overwrite_each_other_are_refused_before_anything_is_read(case, tmp_path):
    names, message = CLASHES[case]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).touch()
    with pytest.raises(ClanError) as error:
        predict(tmp_path / "in", tmp_path / "none.pdparams", tmp_path / "out")
    assert message.format(**{"in": tmp_path / "in", "out": tmp_path / "out"}) in str(error.value)
    assert not (tmp_path / "out").exists()


def test_an_image_is_not_overwritten_through_a_link(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "in").mkdir()
    (tmp_path / "out/a.png").touch()
    (tmp_path / "in/a.png").symlink_to(tmp_path / "out/a.png")
    with pytest.raises(ClanError, match=r"in/a\.png would be overwritten by a result of .*in/a\.png"):
        predict(tmp_path / "in", tmp_path / "none.pdparams", tmp_path / "out")


def test_names_that_only_look_alike_are_fine(tmp_path, picture, weights):
    for name in ("a.png", "A.png", "a_overlay.png", "x/legend.png", "b.c.png", "b.png"):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, tmp_path / "in" / name)
    labels = Products(overlay=False, confidence=False, discrepancy=False)
    assert predict(tmp_path / "in", weights, tmp_path / "out", products=labels) == 6
    assert len(list((tmp_path / "out").rglob("*.png"))) == 2 * 6 + 1


def test_a_folder_from_a_mac_with_damaged_images(tmp_path, picture, weights, capsys):
    folder = tmp_path / "in"
    for name in ("a.png", "c.PNG", ".hidden/z.png", "__MACOSX/y.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, folder / name)
    (folder / "._a.png").write_bytes(b"\0\5\x16\7")
    (folder / "b.jpg").touch()
    (folder / "d.tif").symlink_to("nowhere")
    arguments = ["predict", str(folder), "--weights", str(weights), "--no-overlay", "--no-confidence", "-o"]
    with pytest.raises(SystemExit) as stop:
        cli.dispatch([*arguments, str(tmp_path / "out")])
    said = capsys.readouterr()
    assert stop.value.code == 1
    assert "2 images in" in said.out
    assert "2 of 4 images could not be read" in said.err
    assert "b.jpg cannot be decoded" in said.err and "d.tif is a link to nowhere" in said.err
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*")}
    endings = (".png", "_color.png", "_discrepancy.png")
    assert found == {"legend.png", *(f"{stem}{ending}" for stem in "ac" for ending in endings)}
    with pytest.raises(ClanError, match=r"b\.jpg cannot be decoded"):
        cli.dispatch([*arguments, str(tmp_path / "strict"), "--strict"])


def test_a_folder_of_damaged_images_alone_has_no_results(tmp_path, weights):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").touch()
    with pytest.raises(SystemExit) as stop:
        cli.dispatch(["predict", str(tmp_path / "in"), "--weights", str(weights), "-o", str(tmp_path / "out")])
    assert stop.value.code == 1
    assert not (tmp_path / "out").exists()


def test_other_numbers_of_classes_have_colours_of_their_own(picture, tmp_path):
    save_weights(build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=5)), tmp_path / "five.pdparams")
    predict(picture, tmp_path / "five.pdparams", tmp_path / "out", backbone="resnet-tiny", num_classes=5)
    with Image.open(tmp_path / f"out/{picture.stem}_color.png") as color:
        palette = np.reshape(color.getpalette(), (-1, 3))
    assert len({tuple(rgb) for rgb in palette[:5]} - {(0, 0, 0)}) == 5


def test_half_precision_reaches_the_network_and_what_the_cpu_makes_of_it_is_said(
    weights, picture, tmp_path, monkeypatch, capsys
):
    asked = []
    monkeypatch.setattr(inference, "autocast", lambda precision: asked.append(precision) or nullcontext())
    half = ["--precision", "fp16"]
    cli.dispatch(["predict", str(picture), "--weights", str(weights), "-o", str(tmp_path / "out"), *half])
    cli.dispatch(["evaluate", str(weights), "--save", str(tmp_path / "result"), *half])
    assert set(asked) == {"fp16"}
    assert capsys.readouterr().out.count("so the CPU computes in float32") == 2


def test_the_command_says_where_the_results_are(weights, picture, tmp_path, capsys):
    cli.dispatch(["predict", str(picture), "--weights", str(weights), "-o", str(tmp_path / "out"), "--no-overlay"])
    assert f"1 image in {tmp_path / 'out'}" in capsys.readouterr().out
    assert not (tmp_path / f"out/{picture.stem}_overlay.jpg").exists()
