"""What users bring: every way to describe it wrongly ends in a sentence, and the way from folders to pictures works."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from clan.cli import main as cli
from clan.cli.train import read_configuration, start_parser
from clan.data.dataset import Dataset
from clan.data.domains import config_for_domains, load_classes, named_domain
from clan.datasets import PACKAGED
from clan.run import presets as recipes
from clan.run.config import load
from tests.pages import ROOT

DESCRIPTIONS = ROOT / "benchmarks/domains"

PLAIN = """\
images: "photos/{name}.png"
labels: "truth/{name}.png"
classes:
  road: 0
  sky: [1, 2]
ignore: 255
"""


def picture(path, ids, colors=None):
    """Saves ids as they are, or in colours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = np.asarray(ids, np.uint8)
    Image.fromarray(ids if colors is None else np.asarray(colors, np.uint8)[ids]).save(path)


@pytest.fixture
def folder(tmp_path, monkeypatch, tiny):
    """Four photographs with ids 0, 1, 2 and 255, their description `my.yaml`, and small presets; the working folder."""
    rng = np.random.default_rng(0)
    for number in range(4):
        picture(tmp_path / f"photos/{number}.png", rng.integers(0, 255, (32, 64, 3)))
        label = np.repeat([0, 1, 2, 255], 8)[:, None].repeat(64, axis=1)
        picture(tmp_path / f"truth/{number}.png", label)
    (tmp_path / "my.yaml").write_text(PLAIN)
    monkeypatch.setitem(recipes.PRESETS, "official", lambda source: tiny(shuffle=False))
    # The first step may take long enough, compiling, for a line of progress.
    monkeypatch.setattr("clan.core.output.Pace.first_after", 600.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- Descriptions that do not fit ---

WRONG = {
    "unknown key": (("labels:", "lables:"), "line 2: lables is not an option here: did you mean labels?"),
    "no images": (("images:", "pictures:"), "line 1: pictures is not an option here"),
    "duplicate key": (("ignore: 255", "ignore: 255\nignore: 3"), "given twice, first in line 6"),
    "class twice": (("  sky: [1, 2]", "  road: 1"), "given twice, first in line 4"),
    "two classes for one id": (("[1, 2]", "[1, 0]"), "line 5: classes.sky: 0 belongs to both road and sky"),
    "id both ignored and a class": (("255", "[255, 2]"), "line 6: ignore: 2 belongs to both sky and ignore"),
    "word for an id": (("road: 0", "road: zero"), "line 4: classes.road: expected a colour"),
    "id beyond 16 bits": (("road: 0", "road: 70000"), "line 4: classes.road: ids are 0…65535, got 70000"),
    "colour that is a comment": (("road: 0", "road: #804080"), "quote colours, since a bare # begins a comment"),
    "colour among ids": (("road: 0", 'road: "#804080"'), "expected an id with encoding ids"),
    "id among colours": (("ignore: 255", "encoding: colors"), "line 4: classes.road: expected a colour"),
    "unknown encoding": (("ignore: 255", "encoding: rgb"), "line 6: encoding: "),
    "glob in labels": (("truth/{name}", "truth/*"), "line 2: labels: labels take no *"),
    "unknown part in labels": (("truth/{name}", "truth/{city}"), "{city} is no part of images"),
    "one image alone": (("photos/{name}", "photos/0"), "names one file"),
    "absolute pattern": (("photos/{name}", "/photos/{name}"), "no path below the root"),
    "broken pattern": (("{name}.png", "{name.png"), "line 1: images: "),
    "labels without classes": (("classes:\n  road: 0\n  sky: [1, 2]\n", ""), "labels need classes"),
    "palette too short": (("ignore: 255", "ignore: 255\ncolors: {road: [1, 2, 3]}"), "no colour for class sky"),
    "palette of another": (("255", '255\ncolors: {road: "#123456", sky: "#654321", sea: [1, 2, 3]}'), "sea is none"),
    "colour out of range": (("255", "255\ncolors: {road: [1, 2, 300], sky: [1, 2, 3]}"), "got [1, 2, 300]"),
    "size of one number": (("255", "255\nsize: 640"), "line 7: size: "),
    "deviation of zero": (("255", "255\nstd: [1, 0, 1]"), "line 7: std.1: "),
    "split by an unknown part": (("255", "255\nsplits: {night: {tiem: n}}"), "splits.night: tiem is neither"),
    "list that is not there": (("255", "255\nsplits: {train: my/list.txt}"), "my/list.txt"),
    "folder of a user that there is not": (
        ("images:", "root: ~nobody-of-this-name/d\nimages:"),
        "/photos does not exist",
    ),
    "glob matching nothing": (("photos/{name}", "photos/{name}_x"), "holds no image matching photos/{name}_x.png"),
    "folder that is not there": (("photos/{name}", "fotos/{name}"), "fotos does not exist"),
    "not YAML": (("[1, 2]", "[1, 2"), "line "),
    "a list": ((PLAIN, "- images"), "my.yaml"),
}


@pytest.mark.parametrize("command", ["data check", "train --source"])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_description_is_named_in_a_sentence(case, command, folder, error_of):
    change, message = WRONG[case]
    assert change[0] in PLAIN
    (folder / "my.yaml").write_text(PLAIN.replace(*change))
    sentence = error_of(cli.dispatch, *command.split(), "my.yaml")
    assert message in sentence
    assert not (folder / "snapshots").exists()


WRONG_CLASSES = {
    "two merges for one name": ("classes:\n  road: mud\n  sky: mud", "line 3: classes.sky: mud is merged into both"),
    "a class in another": ("classes:\n  road: sky\n  sky:", "sky is merged into both road and sky"),
    "subset of nothing": ("classes:\n  road:\nsubsets:\n  few: [sky]", "line 4: subsets.few: sky is none of"),
    "none": ("classes: {}", "line 1: classes: "),
    "unknown key": ("class:\n  road:", "class is not an option here: did you mean classes?"),
    "no key at all": ("road: mud", "line 1: road is not an option here: choose among classes, colors, subsets"),
    "mistyped": ("classes:\n  road:\n  up: [sky, clouds]", "merge clouds, which is no class of my or my"),
}


@pytest.mark.parametrize("case", WRONG_CLASSES)
def test_wrong_classes_are_named_in_a_sentence(case, folder, error_of):
    text, message = WRONG_CLASSES[case]
    (folder / "space.yaml").write_text(text)
    assert message in error_of(
        cli.dispatch, "train", "--source", "my.yaml", "--target", "my.yaml", "--classes", "space.yaml"
    )


def unknown_id(folder):
    picture(folder / "truth/2.png", np.full((32, 64), 7))
    return "truth/2.png holds 7 in 2,048 pixels"


def unknown_color(folder):
    colors = [(128, 64, 128), (70, 130, 180), (1, 2, 3)]
    for number in range(4):
        picture(folder / f"truth/{number}.png", np.full((32, 64), 2 if number == 3 else number % 2), colors)
    text = PLAIN.replace("road: 0", 'road: "#804080"').replace("[1, 2]", '"#4682b4"').replace("255", "[]")
    (folder / "my.yaml").write_text(f"{text}encoding: colors\n")
    return 'truth/3.png holds "#010203" in 2,048 pixels'


def missing_label(folder):
    (folder / "truth/1.png").unlink()
    return "photos/1.png has no label"


def other_size(folder):
    picture(folder / "truth/1.png", np.zeros((16, 64)))
    return "is 64x32 but its label"


def damaged_image(folder):
    (folder / "photos/2.png").write_bytes(b"<html>")
    return "photos/2.png cannot be decoded"


def colors_for_ids(folder):
    picture(folder / "truth/0.png", np.zeros((32, 64)), [(1, 2, 3)])
    return "encoding .*colors"


def ids_for_colors(folder):
    (folder / "my.yaml").write_text('images: "photos/{name}.png"\nlabels: "truth/{name}.png"\n'
                                    'encoding: colors\nclasses: {road: "#804080"}\n')  # fmt: skip
    return "truth/0.png has one channel .*encoding .*ids"


def ids_for_a_channel(folder):
    (folder / "my.yaml").write_text(f"{PLAIN}encoding: red\n")
    return "has one channel"


def bits(folder):
    (folder / "my.yaml").write_text(f"{PLAIN}bits: 16\n")
    return "has 8 bits a channel, .* of my .* 16"


FAULTS = (
    *(unknown_id, unknown_color, missing_label, other_size, damaged_image),
    *(colors_for_ids, ids_for_colors, ids_for_a_channel, bits),
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_files_that_are_not_as_described(fault, folder, error_of, capsys):
    message = fault(folder)
    assert re.search(message, error_of(cli.dispatch, "train", "--source", "my.yaml", "--target", "my.yaml"))
    with pytest.raises(SystemExit) as stop:
        cli.dispatch(["data", "check", "my.yaml", "--json"])
    assert stop.value.code == 1
    (split,) = json.loads(capsys.readouterr().out)["splits"].values()
    said = " ".join(split["problems"]) + " ".join(split["unknown"])
    assert not split["ok"]
    assert re.search(message, said) or split["unknown"]


def test_images_that_share_a_label(folder, error_of):
    picture(folder / "photos/1.jpg", np.zeros((32, 64, 3)))
    (folder / "my.yaml").write_text(PLAIN.replace("photos/{name}.png", "photos/{name}.*"))
    assert "1.jpg and 1.png" in error_of(cli.dispatch, "data", "check", "my.yaml")


def test_a_split_of_data_without_splits(folder, error_of):
    assert "my has no splits: omit --split val" in error_of(cli.dispatch, "data", "check", "my.yaml", "--split", "val")
    arguments = ("w.pdparams", "--domain", "my.yaml", "--split", "val")
    assert "my has no splits: omit --split val" in error_of(cli.dispatch, "evaluate", *arguments)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_file_that_is_called_as_a_packaged_data_set_is_read_as_any_other(name, folder):
    for file in ("my", name):
        (folder / f"{file}.yaml").write_text(PLAIN + "splits: {training: {name: '[0-2]'}}\n")
    mine, other = (
        config_for_domains(recipes.official(), dict.fromkeys(("source", "target"), f"{file}.yaml"), None).model_dump()
        for file in ("my", name)
    )
    for role in ("source", "target"):
        assert (other[role]["size"], other[role]["split"]) == ((64, 32), "training")
        assert other[role].pop("dataset") == mine[role].pop("dataset") | {"name": name}
        assert other[role] == mine[role]


@pytest.mark.parametrize(
    ("splits", "chosen"), [("ab", "a"), (("Training_1", "b"), "Training_1"), (("val", "test"), "test")]
)
def test_a_split_that_is_trained_on_in_place_of_train_is_said(splits, chosen, folder):
    for split in splits:
        picture(folder / f"of/photos/{split}/0.png", np.zeros((8, 8, 3)))
    text = PLAIN.replace("photos/", "of/photos/{split}/").replace("truth/", "of/truth/{split}/")
    (folder / "my.yaml").write_text(text)
    said = []
    config = config_for_domains(recipes.official(), {"target": "my.yaml"}, None, notify=said.append)
    assert config.target.split == chosen
    sentence = f"the target my has no split train: its split {chosen} is trained on, unless --target.split"
    assert any(sentence in one for one in said) == (chosen != "Training_1")


FITTING = {
    "smaller crops": ("dacs", "--augmentation.crop-size 16 8"),
    "larger images": ("dacs", "--source.size 512 512 --target.size 512 512"),
    "all remedies": ("best", "--augmentation.crop-size 16 8 --method.mask-block 8 --method.lambda-fd 0"),
    "own things": ("best", "--augmentation.crop-size 16 8 --method.mask-block 8 --method.things road"),
}


@pytest.mark.parametrize("case", FITTING)
def test_flags_fit_a_preset_for_large_images_to_small_ones(case, folder, error_of):
    preset, flags = FITTING[case]
    words = ["--preset", preset, "--source", "my.yaml", "--target", "my.yaml"]
    crop = "augmentation.crop_size 512×512 is larger than source images can be, 64×32: make it smaller"
    assert crop in error_of(cli.dispatch, "train", *words)
    _, config = read_configuration(start_parser("clan train"), [*words, *flags.split()], "", "", notify=[].append)
    assert (config.augmentation.crop_size == (16, 8)) == ("crop" in flags)
    assert config.source.size == ((64, 32) if "crop" in flags else (512, 512))


def test_a_source_without_labels(folder, error_of):
    (folder / "bare.yaml").write_text('images: "photos/{name}.png"')
    assert "bare has no labels" in error_of(cli.dispatch, "train", "--source", "bare.yaml")


# --- Looking at data ---


def test_a_check_counts_everything_and_lists_every_fault(folder, capsys):
    unknown_id(folder)
    missing_label(folder)
    damaged_image(folder)
    picture(folder / "truth/9.png", np.zeros((32, 64)))
    with pytest.raises(SystemExit) as stop:
        cli.dispatch(["data", "check", "my.yaml", "--json", "--sheet", "sheet.png"])
    assert stop.value.code == 1
    split = json.loads(capsys.readouterr().out)["splits"]["train"]
    assert len(split["problems"]) == 2
    assert split["unknown"] == {"7": {"pixels": 2048, "files": 1, "first": "2.png"}}
    assert split["labels_without_image"] == ["truth/9.png"]
    quarter = 8 * 64
    assert split["classes"]["road"]["pixels"] == 2 * quarter
    sky = split["classes"]["sky"]
    assert (sky["pixels"], sky["images"]) == (4 * quarter, 2)
    assert sum(one["rare_class_probability"] for one in split["classes"].values()) == pytest.approx(1)
    assert split["ignored_pixels"] == 2 * quarter
    assert split["sizes"] == {"64x32": 3}
    pixels = np.stack([np.asarray(Image.open(folder / f"photos/{number}.png")) for number in (0, 1, 3)])
    np.testing.assert_allclose(split["mean"], pixels.mean(axis=(0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(split["std"], pixels.std(axis=(0, 1, 2)), atol=1e-3)
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 4 * 320


def test_every_split_has_a_sheet_of_its_own_and_none_replaces_an_image(folder, error_of):
    for split in ("day_1", "night_1", "far/1"):
        for kind, pixels in (("photos", np.zeros((8, 8, 3))), ("truth", np.zeros((8, 8)))):
            picture(folder / f"of/{kind}/{split}/s.png", pixels)
    text = PLAIN.replace("photos/", "of/photos/{split:path}/").replace("truth/", "of/truth/{split}/")
    (folder / "my.yaml").write_text(text)
    sheets = {f"{start}_{split}.png" for start in ("my", "sheet") for split in ("day_1", "night_1", "far_1")}
    for flags in ([], ["--sheet", "sheet.png"], ["--split", "day_1", "--sheet", "alone.png"]):
        cli.dispatch(["data", "check", "my.yaml", *flags])
    assert {path.name for path in folder.glob("*.png")} == {*sheets, "alone.png"}
    sheet = folder / "of/photos/night_1/s.png"
    before = sheet.read_bytes()
    flags = ("--split", "day_1", "--sheet", str(sheet))
    assert f"{sheet} would be overwritten" in error_of(cli.dispatch, "data", "check", "my.yaml", *flags)
    assert sheet.read_bytes() == before


def test_a_check_of_good_data_in_words(folder, capsys):
    cli.dispatch(["data", "check", "my.yaml"])
    said = capsys.readouterr().out
    assert "4 images, 4 with a label" in said
    assert "everything can be used" in said
    road, sky = (line for line in said.splitlines() if "█" in line)
    assert road.split()[2:] == ["33.33", "%", "4", "100.00", "%"], "share, images, how often it would be drawn"
    assert sky.count("█") == 2 * road.count("█") == 40


@pytest.mark.parametrize("name", ["camvid", "idd_lite", "rendered_streets"])
def test_the_benchmarks_descriptions_fit_their_data(name, shared):
    named = named_domain(str(DESCRIPTIONS / f"{name}.yaml"))
    dataset = Dataset(named.description, shared / "data" / name, classes=named.classes)
    assert len(dataset) == {"camvid": 367, "idd_lite": 1403, "rendered_streets": 800}[name]
    for index in (0, len(dataset) // 2, len(dataset) - 1):
        _, label = dataset.read_pair(index)
        assert len(np.unique(label)) > 3
    if name == "camvid":
        assert len(Dataset(named.description, shared / "data/camvid", split="test-seq05vd")) == 171


MERGES = {
    "rendered_to_camvid": {
        "camvid": {3: 0, 4: 1, 1: 2, 7: 3, 2: 4, 6: 5, 5: 6, 0: 7, 9: 8, 8: 9, 10: 255, 11: 255},
        "rendered_streets": {
            **{0: 0, 1: 1, 2: 2, 3: 2, 4: 3, 5: 4, 6: 5, 7: 5, 8: 6, 9: 6, 10: 7, 11: 8, 13: 9, 14: 9, 15: 9, 255: 255},
        },
    },
    "idd_to_camvid": {
        "camvid": {3: 0, 4: 1, 9: 2, 8: 3, 2: 4, 6: 4, 7: 4, 1: 5, 5: 5, 0: 6, 10: 255, 11: 255},
        "idd_lite": {**{number: number for number in range(7)}, 255: 255},
    },
}


@pytest.mark.parametrize("task", MERGES)
def test_the_benchmarks_merge_as_published(task):
    classes = load_classes(DESCRIPTIONS / f"{task}.yaml")
    for name, expected in MERGES[task].items():
        description = named_domain(str(DESCRIPTIONS / f"{name}.yaml")).description
        table = classes.table(description)
        assert {label_id: table[label_id] for label_id in expected} == expected
        assert set(np.delete(table, list(expected))) == {254}, "everything else is an error"
        assert not classes.absent(description)


# --- Labels that teach nothing, and names that say nothing ---


def without_pixels(folder):
    """All labels hold an id that is ignored."""
    for number in range(4):
        picture(folder / f"truth/{number}.png", np.full((32, 64), 255))


def test_labels_without_a_pixel_of_a_class_are_an_error_in_check_and_a_warning_in_training(folder, capsys):
    without_pixels(folder)
    with pytest.raises(SystemExit) as stop:
        cli.dispatch(["data", "check", "my.yaml"])
    assert stop.value.code == 1
    ignored = "labels of the {} my is ignored: they hold 255, but the classes take 0, 1, 2"
    assert ignored.format("data set") in capsys.readouterr().out
    (folder / "list.txt").write_text("0.png\n")
    (folder / "kept.yaml").write_text(PLAIN + "splits: {test: list.txt}\n")  # as benchmarks that keep their truth do
    cli.dispatch(["data", "check", "kept.yaml", "--split", "test"])
    assert "every pixel of this split's labels is ignored: there is nothing to score" in capsys.readouterr().out
    cli.dispatch(["train", "--source", "my.yaml", "--target", "my.yaml", "--num-steps", "1", "--warmup-steps", "0",
                  "--validate-every", "1"])  # fmt: skip
    said = capsys.readouterr().out
    assert "WARNING: every pixel of the 4 " + ignored.format("training set") in said
    assert "WARNING: every pixel of the 4 " + ignored.format("validation set") in said
    cli.dispatch(["evaluate", "snapshots/my2my/my_1.pdparams"])
    assert "no pixel of the ground truth is of a class: nothing was scored" in capsys.readouterr().out


def test_a_class_that_is_alone_or_absent_is_said(folder, capsys):
    quick = ["--num-steps", "1", "--warmup-steps", "0"]
    (folder / "more.yaml").write_text(PLAIN.replace("  road: 0", "  road: 0\n  mud: 7"))
    cli.dispatch(["train", "--source", "more.yaml", "--target", "my.yaml", *quick])
    assert "mud never occurs in the labels of the training set more" in capsys.readouterr().out
    cli.dispatch(["data", "check", "more.yaml"])
    assert re.search(r"mud +never", capsys.readouterr().out)
    for number in range(4):
        picture(folder / f"truth/{number}.png", np.full((32, 64), 1))
    cli.dispatch(["train", "--source", "my.yaml", "--target", "my.yaml", *quick])
    assert "WARNING: sky is the only class in the 4 labels of the training set my" in capsys.readouterr().out


def test_a_source_that_has_none_of_the_classes(folder, error_of):
    said = error_of(cli.dispatch, "train", "--source", "my.yaml", "--target", "my.yaml", "--classes", "few.yaml")
    assert "few.yaml" in said
    (folder / "few.yaml").write_text("classes: {mud: , grass: }")
    said = error_of(cli.dispatch, "train", "--source", "my.yaml", "--target", "my.yaml", "--classes", "few.yaml")
    assert "none of the classes is in the source my, which has road, sky" in said


def test_names_of_a_proposal_are_refused_where_two_could_match(folder, error_of, capsys):
    unnamed = PLAIN.replace("road:", "class_0:")
    (folder / "new.yaml").write_text(unnamed)
    (folder / "letters.yaml").write_text(PLAIN.replace("road:", "class_a:"))
    (folder / "merged.yaml").write_text("classes: {road: , class_1: sky}")
    for words, said in (
        ("--source new.yaml --target my.yaml", "class_0 in new is not named yet"),
        ("--source my.yaml --target new.yaml", "class_0 in new is not named yet"),
        ("--source new.yaml --target new.yaml", "class_0 in new is not named yet"),
        ("--source my.yaml --target my.yaml --classes merged.yaml", "class_1 in the classes file is not named yet"),
    ):
        assert said in error_of(cli.dispatch, "train", *words.split())
    assert not (folder / "snapshots").exists()
    assert "class_0 in new" in error_of(cli.dispatch, "iou", "new.yaml", "photos", "--split", "val")
    assert "class_0 in new" in error_of(cli.dispatch, "evaluate", "w.pdparams", "--domain", "new.yaml")
    with pytest.raises(SystemExit) as stop:
        cli.dispatch(["data", "check", "new.yaml"])
    said = capsys.readouterr().out
    assert stop.value.code == 1
    assert "1 classes without a name" in said
    assert "33.33 %" in said, "frequencies help to name them"
    assert (folder / "new.png").is_file()
    cli.dispatch(["data", "check", "letters.yaml"])


# --- Proposing ---


def initialised(folder, capsys, name="found.yaml"):
    """Proposes a description, checks it with other names for its classes, and returns it as values."""
    cli.dispatch(["data", "init", str(folder), "-o", name])
    Path("named.yaml").write_text(re.sub(r"\bclass_(\d+):", r"thing \1:", Path(name).read_text()))
    cli.dispatch(["data", "check", "named.yaml"])
    said, found = capsys.readouterr().out, yaml.safe_load(Path(name).read_text())
    assert "NOT" not in said
    unnamed = any(key.startswith("class_") for key in found.get("classes", ()))
    assert ("give its classes their names" in said) == unnamed
    return found


LAYOUTS = {
    "beside each other": ("{name}.jpg", "{name}_mask.png"),
    "heads": ("img/img_{name}.jpg", "seg/seg_{name}.png"),
    "splits below": ("images/{split}/{name}.jpg", "masks/{split}/{name}.png"),
    "splits above": ("{split}/rgb/{name}.jpg", "{split}/semantic/{name}.png"),
    "splits within": ("images_{split}/{name}.jpg", "labels_{split}/{name}.png"),
    "sequences": ("{folder}/camera/{name}.png", "{folder}/label/{name}.png"),
    "deep": ("a/{folder_1}/{folder_2}/rgb/{name}.jpg", "a/{folder_1}/{folder_2}/gt/{name}_ids.png"),
}


@pytest.mark.parametrize("coding", ["ids", "colors", "red"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_is_described_by_looking_at_it(layout, coding, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images, labels = LAYOUTS[layout]
    rng = np.random.default_rng(1)
    colors = {"ids": None, "colors": [(0, 0, 0), (128, 64, 128), (9, 8, 7)], "red": [(v, 0, 0) for v in range(3)]}
    for number, split in enumerate(("train", "train", "train", "val", "val")):
        folders = {"folder": f"s{number % 2}", "folder_1": f"x{number % 2}", "folder_2": f"y{number // 2}"}
        parts = {"split": split, "name": f"{number:04}", **folders}
        picture(tmp_path / "data" / images.format(**parts), rng.integers(0, 255, (24, 32, 3)))
        picture(tmp_path / "data" / labels.format(**parts), rng.integers(0, 3, (24, 32)), colors[coding])
    found = initialised(tmp_path / "data", capsys)
    assert (found["images"], found["labels"]) == (images, labels)
    assert found.get("encoding", "ids") == coding
    assert len(found["classes"]) == 3


@pytest.mark.parametrize("name", ["SYNTHIA", "GTA5", "Cityscapes"])
def test_the_classic_data_sets_are_recognised(name, shared, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = initialised(shared / "data/mini" / name, capsys)
    expected = {
        "SYNTHIA": ("RAND_CITYSCAPES/RGB/{name}.png", "RAND_CITYSCAPES/GT/LABELS/{name}.png", "red"),
        "GTA5": ("images/{name}.png", "labels/{name}.png", "ids"),
        "Cityscapes": (
            "leftImg8bit/{split}/{folder}/{name}_leftImg8bit.png",
            "gtFine/{split}/{folder}/{name}_gtFine_labelIds.png",
            "ids",
        ),
    }
    assert (found["images"], found["labels"], found.get("encoding", "ids")) == expected[name]


def test_init_refuses_what_it_cannot_do(tmp_path, error_of):
    (tmp_path / "empty").mkdir()
    assert "holds no image" in error_of(cli.dispatch, "data", "init", tmp_path / "empty")
    assert "nowhere is no folder" in error_of(cli.dispatch, "data", "init", tmp_path / "nowhere")
    (tmp_path / "mine.yaml").write_text("mine")
    assert "exists already" in error_of(cli.dispatch, "data", "init", tmp_path / "empty", "-o", tmp_path / "mine.yaml")
    picture(tmp_path / "photos/0.png", np.zeros((8, 8, 3)))
    below = tmp_path / "mine.yaml/other.yaml"
    assert f"cannot write {below} (" in error_of(cli.dispatch, "data", "init", tmp_path / "photos", "-o", below)


TOO_LONG = "x" * 300


@pytest.mark.parametrize(
    "command",
    ["data init PATH", "data init photos -o PATH", "data check my.yaml --root PATH", "data check my.yaml --sheet PATH",
     "data check PATH.yaml", "train --source PATH.yaml", "train --source my.yaml --classes PATH",
     "train --source my.yaml --target my.yaml --target.root PATH",
     "train --source my.yaml --target my.yaml --target.list-file PATH"],
)  # fmt: skip
def test_a_path_that_the_system_refuses_is_named_in_a_sentence(command, folder, error_of):
    words = command.replace("PATH", TOO_LONG).split()
    assert re.search(f"{TOO_LONG}.*File name too long", error_of(cli.dispatch, *words))


# --- From two folders to predictions ---


def test_from_two_folders_to_pictures(tmp_path, monkeypatch, capsys):
    """A rendered source labelled in colours and a camera target, partly labelled with ids, from init to predict."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    street = np.repeat([0, 1, 2], 16)[:, None].repeat(80, axis=1)  # sky, houses, road
    for take, frame in ((take, frame) for take in ("take1", "take2") for frame in range(2)):
        light = rng.integers(0, 40, (48, 80, 3)) + 60 * street[:, :, None]
        picture(tmp_path / f"render/{take}/beauty/f{frame}.png", light)
        picture(tmp_path / f"render/{take}/objects/f{frame}.png", street, [(0, 0, 255), (255, 0, 0), (90, 90, 90)])
    for ride, number in (("training", 0), ("training", 1), ("testing", 2)):
        picture(
            tmp_path / f"rides/{ride}/shots/{number}.jpg", rng.integers(0, 90, (48, 80, 3)) + 50 * street[:, :, None]
        )
        if ride == "testing":
            picture(tmp_path / f"rides/{ride}/truth/{number}.png", np.choose(street, [4, 7, 1]))

    for name in ("render", "rides"):
        initialised(tmp_path / name, capsys, f"{name}.yaml")
    renames = {"render": ("sky", "road", "house"), "rides": ("street", "sky", "building")}
    for name, classes in renames.items():  # what a person does, in the order of colours and of ids
        text = Path(f"{name}.yaml").read_text()
        for old, new in zip(yaml.safe_load(text)["classes"], classes, strict=True):
            text = text.replace(f"  {old}:", f"  {new}:")
        Path(f"{name}.yaml").write_text(text)
    Path("classes.yaml").write_text("classes:\n  road: street\n  house: building\n  sky:\nsubsets:\n  mIoU-low: road\n")

    small = ["--network.backbone", "resnet-tiny", "--network.discriminator-width", "8", "--num-workers", "0"]
    steps = ["--num-steps", "2", "--save-every", "2"]
    cli.dispatch(
        ["train", "--source", "render.yaml", "--target", "rides.yaml", "--classes", "classes.yaml", *small, *steps]
    )
    run = tmp_path / "snapshots/render2rides"
    config = load(run / "config.yaml")
    assert (config.network.num_classes, config.source.size, config.target.split) == (3, (80, 48), "training")
    for name in ("render", "rides", "classes"):
        Path(f"{name}.yaml").rename(f"moved_{name}.yaml")
    capsys.readouterr()
    cli.dispatch(["evaluate", str(run / "render_2.pdparams")])
    said = capsys.readouterr().out
    assert [line.split(":")[0] for line in said.splitlines()[1:]] == [
        *("===>road", "===>house", "===>sky", "===> mIoU-3", "===> mIoU-low"),
    ]
    result = tmp_path / "result/render2rides_render_2"
    with Image.open(result / "2_color.png") as color, Image.open(result / "2.png") as ids:
        assert ids.size == color.size == (80, 48)
        shown = {(128, 64, 128), *config.classes.label_space.colors}
        assert {rgb for _, rgb in color.convert("RGB").getcolors()} <= shown
    scores = said.partition("\n")[2]
    cli.dispatch(["iou", "moved_rides.yaml", str(result), "--split", "testing", "--classes", "moved_classes.yaml"])
    assert capsys.readouterr().out == scores
    cli.dispatch(["train", "--config", str(run / "config.yaml"), "--snapshot-dir", "again"])
    assert (run / "loss.txt").read_text() == Path("again/loss.txt").read_text()
    cli.dispatch(["evaluate", "again", "--domain", "moved_rides.yaml", "--split", "training"])
    assert "no ground truth" in capsys.readouterr().out
