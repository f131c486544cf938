"""Every way to store pixels gives the same ones in training, evaluation, prediction and checks, or a sentence."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress

import numpy as np
import pytest
from PIL import Image

from clan.core.errors import DataError
from clan.data import transforms
from clan.data.checks import Stray, check
from clan.data.dataset import Dataset
from clan.data.encodings import read_codes
from clan.data.image_files import LossyLabel, image_size, read_channels, read_id_label, read_ids, read_rgb
from clan.data.image_headers import turned
from clan.data.loader import DomainSampler
from clan.data.pixel_checks import ALIKE, BLACK, WHITE
from clan.datasets import Classes, Description
from clan.evaluation.inference import EvaluationOptions, _read_ahead
from clan.evaluation.prediction import _readable
from clan.models.normalization import CAFFE
from clan.reporting.contact_sheet import draw_contact_sheet
from clan.run.config import AugmentationConfig
from tests.data.stored import bmp, chunk, png, tiff

RANDOM = np.random.default_rng(5)
EIGHT = RANDOM.integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = EIGHT[:, :, 0]
DEEP = RANDOM.integers(0, 65536, (6, 9, 3))
DEEP[0, 0], DEEP[0, 1] = 0, 65535
CAMERA = RANDOM.integers(0, 4096, (6, 9, 3))
CAMERA[0, :2] = [[1, 2, 3], [4095] * 3]
COLORS = RANDOM.integers(0, 256, (16, 3))
ALPHA = RANDOM.integers(0, 256, (6, 9, 1)).astype(np.uint8)


def grey(values):
    return np.repeat(np.asarray(values)[:, :, None], 3, axis=2)


def scaled(values, highest):
    return np.round(np.asarray(values) * 255 / highest).astype(np.uint8)


def saved(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def exif(orientation):
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def with_thumbnail(pixels):
    """A TIFF whose second page says that it is a smaller copy."""
    content, small = bytearray(tiff(pixels, 8, 2)), tiff(pixels[:2, :3, 0], tags=[(254, [1])])
    (directory,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, directory)
    struct.pack_into("<I", content, directory + 2 + 12 * entries, len(content))
    return bytes(content) + small[14:]  # its directory, whose pixels are the first ones of the large one


def palette_chunk(colors):
    return chunk(b"PLTE", np.asarray(colors, np.uint8).tobytes())


def significant(*bits):
    return chunk(b"sBIT", bytes(bits))


def orientation_chunk(orientation):
    return chunk(b"eXIf", exif(orientation).tobytes().removeprefix(b"Exif\0\0"))


def ids(bits):
    return RANDOM.integers(0, 2**bits, (6, 9))


FOUR, TWO, ONE = ids(4), ids(2), ids(1)
TIFF_PALETTE = [*(COLORS[:, 0] * 257), *(COLORS[:, 1] * 257), *(COLORS[:, 2] * 257)]

IMAGES = {
    # name: the file, and its pixels or what is said of it
    "rgb.png": (png(EIGHT, 8, 2), EIGHT),
    "rgb interlaced.png": (png(EIGHT, 8, 2, interlaced=True), EIGHT),
    "rgb with what is not looked at.png": (
        png(EIGHT, 8, 2, significant(5, 5, 5), chunk(b"tRNS", bytes(6)), chunk(b"gAMA", bytes([0, 1, 134, 160]))),
        EIGHT,
    ),
    "rgba.png": (png(np.concatenate([EIGHT, ALPHA], 2), 8, 6), EIGHT),
    "grey and alpha.png": (png(np.concatenate([GREY[:, :, None], ALPHA], 2), 8, 4), grey(GREY)),
    "grey.png": (png(GREY), grey(GREY)),
    "grey 4.png": (png(FOUR, 4), grey(FOUR * 17)),
    "grey 2.png": (png(TWO, 2), grey(TWO * 85)),
    "grey 1.png": (png(ONE, 1), grey(ONE * 255)),
    "palette.png": (png(FOUR, 8, 3, palette_chunk(COLORS), chunk(b"tRNS", bytes(3))), COLORS[FOUR]),
    "palette 4.png": (png(FOUR, 4, 3, palette_chunk(COLORS)), COLORS[FOUR]),
    "grey 16.png": (png(DEEP[:, :, 0], 16), grey(scaled(DEEP[:, :, 0], 65535))),
    "grey 16 with alpha.png": (png(DEEP[:, :, :2], 16, 4), grey(scaled(DEEP[:, :, 0], 65535))),
    "rgb 16.png": (png(DEEP, 16, 2), scaled(DEEP, 65535)),
    "rgb 16 interlaced.png": (png(DEEP, 16, 2, interlaced=True), scaled(DEEP, 65535)),
    "rgba 16.png": (png(np.concatenate([DEEP, DEEP[:, :, :1]], 2), 16, 6), scaled(DEEP, 65535)),
    "rgb 12 in 16, unsaid.png": (png(CAMERA, 16, 2), scaled(CAMERA, 65535)),
    "rgb 12 in 16, said.png": (png(CAMERA, 16, 2, significant(12, 12, 12)), scaled(CAMERA, 4095)),
    "rgb 12 in 16, moved up.png": (
        png(CAMERA << 4 | CAMERA >> 8, 16, 2, significant(12, 12, 12)),
        scaled(CAMERA, 4095),
    ),
    "grey 12 in 16, said.png": (png(CAMERA[:, :, 0], 16, 0, significant(12)), grey(scaled(CAMERA[:, :, 0], 4095))),
    "grey 12 in 16, dark and moved up.png": (
        png((CAMERA[:, :, 0] >> 5) << 4, 16, 0, significant(12)),
        grey(scaled((CAMERA[:, :, 0] >> 5) << 4, 65535)),
    ),
    "grey 16.tif": (tiff(DEEP[:, :, 0], 16), grey(scaled(DEEP[:, :, 0], 65535))),
    "grey 16, big-endian.tif": (tiff(DEEP[:, :, 0], 16, order=">"), grey(scaled(DEEP[:, :, 0], 65535))),
    "grey 16, white is 0.tif": (tiff(DEEP[:, :, 0], 16, 0), grey(scaled(65535 - DEEP[:, :, 0], 65535))),
    "grey 12.tif": (tiff(CAMERA[:, :, 0], 12), grey(scaled(CAMERA[:, :, 0], 4095))),
    "grey 12 in 16, said.tif": (tiff(CAMERA[:, :, 0], 16, tags=[(341, [4095])]), grey(scaled(CAMERA[:, :, 0], 4095))),
    "rgb 16.tif": (tiff(DEEP, 16, 2), scaled(DEEP, 65535)),
    "rgb 16, big-endian.tif": (tiff(DEEP, 16, 2, order=">"), scaled(DEEP, 65535)),
    "rgb 12 in 16, said.tif": (tiff(CAMERA, 16, 2, tags=[(341, [4095] * 3)]), scaled(CAMERA, 4095)),
    "grey, white is 0.tif": (tiff(GREY, 8, 0), grey(255 - GREY)),
    "grey 4.tif": (tiff(FOUR, 4), grey(FOUR * 17)),
    "grey 1, white is 0.tif": (tiff(ONE, 1, 0), grey(255 - ONE * 255)),
    "palette 4.tif": (tiff(FOUR, 4, 3, palette=TIFF_PALETTE), COLORS[FOUR]),
    "palette 4.bmp": (bmp(FOUR, 4, COLORS), COLORS[FOUR]),
    "black and white.bmp": (bmp(ONE, 1, [(0, 0, 0), (255, 255, 255)]), grey(ONE * 255)),
    "a small copy behind.tif": (with_thumbnail(EIGHT), EIGHT),
    "pages.tif": (
        saved(Image.fromarray(EIGHT), "TIFF", save_all=True, append_images=[Image.new("RGB", (9, 6))]),
        "holds 2 images, pages or frames",
    ),
    "frames.png": (
        saved(Image.fromarray(EIGHT), "PNG", save_all=True, append_images=[Image.new("RGB", (9, 6))]),
        "holds 2 images, pages or frames",
    ),
    "frames.webp": (
        saved(Image.fromarray(EIGHT), "WEBP", save_all=True, append_images=[Image.new("RGB", (9, 6))]),
        "holds 2 images, pages or frames",
    ),
    "whole numbers.tif": (tiff(DEEP[:, :, 0], 32), "holds 32-bit integers"),
    "signed.tif": (tiff(CAMERA[:, :, 0], 16, sample_format=2), "holds 16-bit integers"),
    "fractions.tif": (tiff(GREY / 255, 32, sample_format=3), "holds floating-point numbers"),
    "says too little.tif": (
        tiff(DEEP[:, :, 0], 16, tags=[(341, [4095])]),
        "states 4095 as its largest value .* 65535",
    ),
    "says an odd range.tif": (tiff(CAMERA[:, :, 0], 16, tags=[(341, [5000])]), "states 5000 as its largest value"),
    "cmyk 16.tif": (tiff(np.concatenate([DEEP, DEEP[:, :, :1]], 2), 16, 5), "save it as 8-bit RGB"),
    "lab.tif": (tiff(EIGHT, 8, 8), "LAB.* 8-bit RGB"),
    "10 bits.tif": (tiff(CAMERA[:, :, 0] // 4, 10), "cannot be decoded"),
    "misread.bmp": (bmp(ONE, 8, [(0, 0, 0), (255, 255, 255)]), "cannot be decoded"),
    **{f"turned {turn}.png": (png(EIGHT, 8, 2, orientation_chunk(turn)), turned(EIGHT, turn)) for turn in range(1, 9)},
    **{f"turned {turn}.tif": (tiff(EIGHT, 8, 2, tags=[(274, [turn])]), turned(EIGHT, turn)) for turn in range(1, 9)},
    **{
        f"turned {turn}, 16.tif": (tiff(DEEP, 16, 2, tags=[(274, [turn])]), scaled(turned(DEEP, turn), 65535))
        for turn in range(1, 9)
    },
    **{
        f"turned {turn}.webp": (
            saved(Image.fromarray(EIGHT), "WEBP", lossless=True, exif=exif(turn)),
            turned(EIGHT, turn),
        )
        for turn in (3, 6)
    },
    "turned by nonsense.png": (png(EIGHT, 8, 2, chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\x09")), EIGHT),
    "turned by 9.png": (png(EIGHT, 8, 2, orientation_chunk(9)), EIGHT),
}


def written(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def dataset_of(folder, pattern="*"):
    return Dataset(Description(name="mine", images=f"{{name}}{pattern}"), folder)


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_read_alike_everywhere(name, tmp_path):
    content, expected = IMAGES[name]
    path = written(tmp_path, name, content)
    dataset = dataset_of(tmp_path)
    if isinstance(expected, str):
        with pytest.raises(DataError, match=expected) as error:
            read_rgb(path)
        assert str(path) in str(error.value)
        assert check(dataset).problems == [str(error.value)]
        return
    np.testing.assert_array_equal(np.asarray(read_rgb(path)), expected)
    size = (expected.shape[1], expected.shape[0])
    assert image_size(path) == dataset.stored_size(0) == size
    assert check(dataset).sizes == {size: 1}
    np.testing.assert_allclose(check(dataset).mean, expected.reshape(-1, 3).mean(0))

    plain = AugmentationConfig(random_scale=False, random_mirror=False)
    sampler = DomainSampler(
        dataset, size=size, augmentation=plain, batch_size=1, shuffle=False, labelled=False, seed=(0, 0)
    )
    np.testing.assert_array_equal(transforms.denormalize(sampler.batch(0).images[0]), expected)
    with ThreadPoolExecutor(1) as pool:
        ((_, planes),) = _read_ahead(pool, dataset, EvaluationOptions(input_size=size))
        np.testing.assert_array_equal(transforms.denormalize(planes[0], CAFFE), expected)
        ((_, image),) = _readable(pool, [path], None, read_rgb)
    assert image is not None
    np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize("turn", range(1, 9))
def test_jpegs_are_turned_as_their_cameras_say(turn, tmp_path):
    smooth = Image.linear_gradient("L").resize((40, 24)).convert("RGB")
    path = written(tmp_path, "a.jpg", saved(smooth, "JPEG", quality=95, exif=exif(turn)))
    upright = turned(np.asarray(smooth), turn)
    assert image_size(path) == upright.shape[1::-1]
    assert np.abs(np.asarray(read_rgb(path)).astype(int) - upright).max() < 8
    content = path.read_bytes()
    start = content.index(b"Exif\0\0") + 6
    for position in range(start, start + 26):  # damaged EXIF is none, or another one, and never ends in a traceback
        for bit in (1, 128, 255):
            damaged = bytearray(content)
            damaged[position] ^= bit
            written(tmp_path, "b.jpg", bytes(damaged))
            assert read_rgb(tmp_path / "b.jpg").size == image_size(tmp_path / "b.jpg")


def test_colour_spaces_of_print_are_converted(tmp_path):
    color = Image.new("RGB", (16, 8), (200, 40, 90))
    for mode, suffix in (("CMYK", "jpg"), ("CMYK", "tif"), ("YCbCr", "jpg")):
        color.convert(mode).save(tmp_path / f"{mode}.{suffix}")
        pixels = np.asarray(read_rgb(tmp_path / f"{mode}.{suffix}")).astype(int)
        assert np.abs(pixels - [200, 40, 90]).max() <= 3, (mode, suffix)


def test_a_telephones_photograph_is_one_image_whatever_it_adds(tmp_path):
    image = Image.new("RGB", (16, 8), (9, 8, 7))
    image.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (4, 4))])
    assert read_rgb(tmp_path / "a.jpg").size == (16, 8)


LABELS = {
    "grey.png": (png(GREY), GREY),
    "interlaced.png": (png(GREY, interlaced=True), GREY),
    "grey 4.png": (png(FOUR, 4), FOUR),
    "grey 4 interlaced.png": (png(FOUR, 4, interlaced=True), FOUR),
    "grey 2.png": (png(TWO, 2), TWO),
    "grey 1.png": (png(ONE, 1), ONE),
    "grey 4 with a colour left out.png": (png(FOUR, 4, 0, chunk(b"tRNS", b"\0\3")), FOUR),
    "palette with a colour left out.png": (png(FOUR, 8, 3, palette_chunk(COLORS), chunk(b"tRNS", bytes(3))), FOUR),
    "palette 4.png": (png(FOUR, 4, 3, palette_chunk(COLORS)), FOUR),
    "palette 2.png": (png(TWO, 2, 3, palette_chunk(COLORS[:4])), TWO),
    "palette 1.png": (png(ONE, 1, 3, palette_chunk(COLORS[:2])), ONE),
    "grey 16.png": (png(DEEP[:, :, 0], 16), DEEP[:, :, 0]),
    "grey 16.tif": (tiff(DEEP[:, :, 0], 16), DEEP[:, :, 0]),
    "grey 16, white is 0.tif": (tiff(DEEP[:, :, 0], 16, 0), DEEP[:, :, 0]),
    "whole numbers.tif": (tiff(DEEP[:, :, 0], 32), DEEP[:, :, 0]),
    **{f"grey {bits}.tif": (tiff(ids_, bits), ids_) for bits, ids_ in ((1, ONE), (2, TWO), (4, FOUR), (8, GREY))},
    **{
        f"grey {bits}, white is 0.tif": (tiff(ids_, bits, 0), ids_)
        for bits, ids_ in ((1, ONE), (2, TWO), (4, FOUR), (8, GREY))
    },
    "palette 4.tif": (tiff(FOUR, 4, 3, palette=TIFF_PALETTE), FOUR),
    "palette 4.bmp": (bmp(FOUR, 4, COLORS), FOUR),
    "palette 1.bmp": (bmp(ONE, 1, [(0, 0, 0), (255, 255, 255)]), ONE),
    "palette 8.bmp": (bmp(GREY, 8, [(value,) * 3 for value in range(256)]), GREY),
    **{f"turned {turn}.png": (png(FOUR, 4, 0, orientation_chunk(turn)), turned(FOUR, turn)) for turn in (3, 6)},
    **{f"turned {turn}.tif": (tiff(GREY, 8, tags=[(274, [turn])]), turned(GREY, turn)) for turn in (3, 6)},
    "photograph.jpg": (
        saved(Image.fromarray(GREY), "JPEG"),
        r"lossy compression \(JPEG\).* PNG",
    ),
    "lossy.webp": (saved(Image.fromarray(EIGHT), "WEBP", quality=90), r"lossy compression \(WEBP\)"),
    "fractions.tif": (tiff(GREY / 255, 32, sample_format=3), "holds floating-point numbers"),
    "below 0.tif": (tiff(np.full((6, 9), -1), 16, sample_format=2), "holds -1, but ids are 0…65535"),
    "below 0, 8 bits.tif": (tiff(np.full((6, 9), -1), 8, sample_format=2), "holds negative numbers"),
    "beyond.tif": (tiff(np.full((6, 9), 70000), 32), "holds 70000, but ids are 0…65535"),
    "colours.png": (png(EIGHT, 8, 2), "has mode RGB, not 8-bit ids"),
    "misread.bmp": (bmp(ONE, 8, [(0, 0, 0), (255, 255, 255)]), "cannot be decoded"),
}


def with_half_its_pixels(content):
    """A PNG that is well formed, but whose pixels end after half of its rows."""
    start = content.index(b"IDAT") - 4
    end = content.index(b"IEND") - 4
    pixels = zlib.decompress(content[start + 8 : end - 4])
    return content[:start] + chunk(b"IDAT", zlib.compress(pixels[: len(pixels) // 2])) + content[end:]


@pytest.mark.parametrize("name", [name for name in (*IMAGES, *LABELS) if name.endswith(".png")])
def test_a_png_that_lacks_rows_is_refused(name, tmp_path):
    content, expected = (IMAGES | LABELS)[name]
    if isinstance(expected, str):
        return
    path = written(tmp_path, name, with_half_its_pixels(content))
    with pytest.raises(
        DataError, match=r"cannot be decoded \((its pixels end before the last row|image file is trunc)"
    ):
        read_rgb(path)
    for read in (read_ids, read_channels):
        with pytest.raises(DataError):
            read(path)


def test_other_files_that_end_early_are_refused(tmp_path):
    noise = Image.effect_noise((64, 64), 80).convert("RGB")
    rows = saved(noise, "JPEG", quality=90, restart_marker_rows=1)
    files = {
        "within a row.jpg": rows[: len(rows) // 2],
        "after a row.jpg": rows[: rows.index(b"\xff\xd1")],
        "scans.jpg": saved(noise, "JPEG", progressive=True).rpartition(b"\xff\xda")[0],
        **{f"{kind}.{kind}": (whole := saved(noise, kind))[: len(whole) // 2] for kind in ("bmp", "tiff", "webp")},
        "deep.tiff": (whole := tiff(np.tile(DEEP, (9, 9, 1)), 16, 2))[: len(whole) // 2],
    }
    for name, content in files.items():
        with pytest.raises(DataError, match="cannot be decoded"):
            read_rgb(written(tmp_path, name, content))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", IMAGES)
def test_a_damaged_file_is_read_or_refused(name, tmp_path):
    random = np.random.default_rng(len(name))
    content = IMAGES[name][0]
    for _ in range(12):
        damaged = bytearray(content)
        for position in random.integers(0, len(content), 3):
            damaged[position] ^= 1 << int(random.integers(8))
        path = written(tmp_path, name, bytes(damaged))
        for read in (read_rgb, read_ids, read_channels, image_size):
            with suppress(DataError):
                read(path)


@pytest.mark.parametrize("name", LABELS)
def test_ids_are_those_stored_in_the_file(name, tmp_path):
    content, expected = LABELS[name]
    path = written(tmp_path, name, content)
    fields = {"images": "{name}.x", "labels": "{name}.y", "classes": {"a": 0}, "ignore": "rest"}
    description = Description.model_validate({"name": "mine", **fields})
    if isinstance(expected, str):
        for read in (read_ids, read_id_label, lambda path: read_codes(path, description)):
            with pytest.raises(DataError, match=expected):
                read(path)
        return
    np.testing.assert_array_equal(read_ids(path)[0], expected)
    np.testing.assert_array_equal(read_codes(path, description), expected)
    assert image_size(path) == expected.shape[::-1]
    if "16" in name or "whole" in name:
        with pytest.raises(DataError, match="not 8-bit ids"):
            read_id_label(path)
    else:
        np.testing.assert_array_equal(read_id_label(path), expected)


def pairs(folder, labels, *, image=EIGHT, suffix="png", **fields):
    """A data set of pairs, each with the same image unless its file is given."""
    for number, label in enumerate(labels):
        content = image if isinstance(image, bytes) else png(image, 8, 2)
        written(folder, f"images/{number}.{suffix}", content)
        written(folder, f"labels/{number}.png", label)
    values = {"name": "mine", "images": "images/{name}.*", "labels": "labels/{name}.*", "classes": {"a": 0}}
    values["labels"] = "labels/{name}.png"
    description = Description.model_validate({**values, "ignore": "rest", **fields})
    return Dataset(description, folder, classes=Classes(classes=dict.fromkeys(description.classes, ())))


def test_exif_is_named_when_turning_makes_image_and_label_disagree(tmp_path):
    dataset = pairs(tmp_path, [png(FOUR)], image=png(EIGHT, 8, 2, orientation_chunk(6)))
    message = r"is 6x9 but its label .* is 9x6, since 0\.png .* EXIF orientation 6"
    for read in (dataset.read_pair, dataset.stored_size):
        with pytest.raises(DataError, match=message):
            read(0)
    (problem,) = check(dataset).problems
    assert "EXIF orientation 6" in problem
    turned_label = pairs(tmp_path / "a", [png(FOUR, 8, 0, orientation_chunk(8))])
    with pytest.raises(DataError, match=r"is 9x6 but .* since 0\.png .* EXIF orientation 8"):
        turned_label.read_pair(0)
    upright = pairs(tmp_path / "b", [png(turned(FOUR, 6))], image=png(EIGHT, 8, 2, orientation_chunk(6)))
    assert upright.read_pair(0)[0].size == upright.stored_size(0) == (6, 9)
    assert check(upright).remarks["turned upright by EXIF"] == ["0.png"]
    draw_contact_sheet(upright, [0], "upright")


WEBP_EXTRAS = {
    "nothing": {},
    "colour profile": {"icc_profile": bytes(5001)},
    "camera": {"exif": b"Exif\0\0MM\0*\0\0\0\x08" + bytes(5000)},
    "text": {"xmp": b"VP8 VP8L" + bytes(5000)},
}


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("extra", WEBP_EXTRAS)
@pytest.mark.parametrize("transparent", [False, True])
def test_a_webp_is_lossy_whatever_else_it_holds(lossless, extra, transparent, tmp_path):
    colors = np.random.default_rng(0).integers(0, 256, (64, 96, 3 + transparent), dtype=np.uint8)
    kind = {"lossless": lossless, "exact": True, **WEBP_EXTRAS[extra]}
    path = written(tmp_path, "label.webp", saved(Image.fromarray(colors), "WEBP", **kind))
    with nullcontext() if lossless else pytest.raises(LossyLabel):
        np.testing.assert_array_equal(read_channels(path), colors[:, :, :3])


def test_lossy_labels_are_told_once(tmp_path):
    dataset = pairs(tmp_path, [saved(Image.fromarray(GREY), "JPEG")] * 3)
    (problem,) = check(dataset).problems
    assert "3 labels of 3" in problem and "export the labels again as PNG" in problem


ALIKE_IMAGES = {
    "12 bits in 16.png": (png(CAMERA, 16, 2), BLACK),
    "white.png": (png(np.full((6, 9, 3), 255), 8, 2), WHITE),
    "constant.png": (png(np.full((6, 9, 3), 90), 8, 2), ALIKE),
    "14 bits of heat in 16.png": (png(CAMERA[:, :, 0] // 4 + 9000, 16), ALIKE),
    "rgb.png": (png(EIGHT, 8, 2), None),
    "night.png": (png(EIGHT // 3, 8, 2), None),
}


def test_pixels_that_are_all_alike_are_remarked_upon(tmp_path):
    for name, (content, _) in ALIKE_IMAGES.items():
        written(tmp_path, name, content)
    findings = check(dataset_of(tmp_path, ".png"))
    assert findings.ok
    for kind in (BLACK, WHITE, ALIKE):
        expected = sorted(name for name, (_, said) in ALIKE_IMAGES.items() if said == kind)
        assert findings.remarks[kind] == findings.to_json()["remarks"][kind] == expected


def test_smoothed_colours_are_one_problem_and_undescribed_classes_are_listed(tmp_path):
    colors = np.array([(128, 64, 128), (70, 130, 180), (0, 0, 142)], np.uint8)
    street = np.repeat([0, 1, 2, 1], 30)[:, None].repeat(120, axis=1)
    street[20:90, 40:70] = 2
    smooth = np.asarray(Image.fromarray(colors[street]).resize((97, 103), Image.Resampling.BICUBIC)).copy()
    smooth[:9, :40] = 1, 2, 3
    classes = {f"c{number}": list(map(int, color)) for number, color in enumerate(colors)}
    fields = {"encoding": "colors", "classes": classes, "ignore": ()}
    image = np.zeros((103, 97, 3), np.uint8)
    findings = check(pairs(tmp_path / "smooth", [png(smooth, 8, 2)] * 2, image=image, **fields))
    assert list(findings.strays) == ["#010203"]
    (sentence,) = findings.problems
    assert "mixtures" in sentence and "% of the labels' pixels" in sentence
    many = RANDOM.integers(0, 256, (103, 97, 3)).astype(np.uint8)
    many[:, 5:] = colors[0]
    findings = check(pairs(tmp_path / "many", [png(many, 8, 2)], image=image, **fields))
    assert len(findings.strays) > 400 and not findings.problems, "colours of classes that nobody described"


@pytest.mark.parametrize("ignore", [(), "rest"])
def test_photographs_taken_for_labels_are_a_sentence_and_no_list_of_all_their_colours(ignore, tmp_path):
    photo = RANDOM.integers(0, 256, (300, 200, 3)).astype(np.uint8)
    photo[:9, :9] = 1, 2, 3
    labels = [png(photo, 8, 2), png(photo[::-1], 8, 2)]
    fields = {"encoding": "colors", "classes": {"a": "#ffffff", "b": "#010201"}, "ignore": ignore}
    findings = check(pairs(tmp_path, labels, image=photo, **fields))
    (sentence,) = findings.problems
    if ignore == "rest":
        assert 'they hold "#010203", ' in sentence and len(sentence) < 500
        return
    number = len(np.unique(photo.reshape(-1, 3), axis=0))
    assert f"{number:,} colours in 100 % of the labels' pixels are not in the description" in sentence
    assert len(findings.strays) == 10_000
    assert findings.strays["#010203"] == Stray(2 * 81, 2, "0.png")
