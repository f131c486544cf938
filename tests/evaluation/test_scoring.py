import json
import re
import subprocess
import sys
from copy import copy

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as benchmark
from cityscapesscripts.helpers.labels import trainId2label
from PIL import Image

from clan.core.errors import ConfigError, DataError
from clan.datasets import NAMED_CLASSES
from clan.datasets.labels import CITYSCAPES, CITYSCAPES_TO_TRAIN_ID, IGNORE
from clan.evaluation.scoring import find_pairs, score_folders

TRAIN_ID_TO_ID = np.zeros(256, np.uint8)
for _label, _train_id in CITYSCAPES_TO_TRAIN_ID.items():
    TRAIN_ID_TO_ID[_train_id] = _label


def save(path, ids):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


@pytest.fixture
def folders(tmp_path):
    """Two small pairs, perfectly predicted: (ground-truth folder, prediction folder)."""
    truth_dir, prediction_dir = tmp_path / "gtFine", tmp_path / "result"
    rng = np.random.default_rng(0)
    for name in ("bonn/bonn_1", "aachen/aachen_1"):
        train_ids = rng.integers(0, 19, (6, 8)).astype(np.uint8)
        save(truth_dir / f"{name}_gtFine_labelIds.png", TRAIN_ID_TO_ID[train_ids])
        save(prediction_dir / f"{name.split('/')[1]}_leftImg8bit.png", train_ids)
    return truth_dir, prediction_dir


@pytest.fixture
def devkit(tmp_path):
    """The lists of `folders`, and Cityscapes' ids in the devkit's own words."""
    folder = tmp_path / "devkit"
    folder.mkdir()
    names = ("bonn/bonn_1", "aachen/aachen_1")
    (folder / "val.txt").write_text("".join(f"{name}_leftImg8bit.png\n" for name in names))
    (folder / "label.txt").write_text("".join(f"{name}_gtFine_labelIds.png\n" for name in names))
    table = [[-1, IGNORE], [0, IGNORE], *map(list, CITYSCAPES_TO_TRAIN_ID.items())]
    names = [name.upper() for name in CITYSCAPES.names]
    (folder / "info.json").write_text(json.dumps({"classes": 19, "label2train": table, "label": names}))
    return folder


class TestRealPredictions:
    """The predictions of two public networks."""

    @pytest.mark.parametrize("network", ["BASE", "DA"])
    @pytest.mark.parametrize("with_devkit", [False, True])
    def test_equals_the_official_and_the_seeds_script(self, shared, network, with_devkit):
        data = shared / "data/iou"
        official = json.loads((data / "official_iou.json").read_text())[network]
        devkit = data / "lists" if with_devkit else None
        scores = score_folders(data / "gtFine/val", data / "result" / network, devkit_dir=devkit)
        np.testing.assert_allclose(scores.iou, official["iou"], rtol=0, atol=1e-9)
        assert scores.means["mIoU-19"] == pytest.approx(np.mean(official["iou"]), abs=1e-9)
        assert scores.means["mIoU-13"] == pytest.approx(official["seed_mIoU13"], abs=1e-9)

    def test_equals_the_evaluation_of_the_benchmark(self, shared, tmp_path):
        truth_dir = shared / "data/iou/gtFine/val"
        pairs = find_pairs(truth_dir, shared / "data/iou/result/BASE")[:8]
        for pair in pairs:
            train_ids = np.asarray(Image.open(pair.prediction))
            save(tmp_path / "result" / pair.prediction.name, TRAIN_ID_TO_ID[train_ids])
            save(tmp_path / "gtFine" / pair.truth.name, np.asarray(Image.open(pair.truth)))
        scores = score_folders(tmp_path / "gtFine", tmp_path / "result", prediction_ids="labelId")

        settings = copy(benchmark.args)
        settings.evalInstLevelScore, settings.JSONOutput, settings.quiet = False, False, True
        copies = find_pairs(tmp_path / "gtFine", tmp_path / "result")
        truths, predictions = zip(*((str(pair.truth), str(pair.prediction)) for pair in copies), strict=True)
        theirs = benchmark.evaluateImgLists(predictions, truths, settings)

        by_class = [theirs["classScores"][trainId2label[c].name] for c in range(19)]
        np.testing.assert_allclose(scores.iou, by_class, rtol=0, atol=1e-12)
        assert scores.means["mIoU-19"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-12)


def test_pairs_are_sorted_without_lists_and_ordered_by_them_with(folders, devkit):
    names = [pair.prediction.name for pair in find_pairs(*folders)]
    assert names == ["aachen_1_leftImg8bit.png", "bonn_1_leftImg8bit.png"]
    listed = find_pairs(*map(str, folders), devkit_dir=str(devkit))
    assert [pair.prediction.name for pair in listed] == names[::-1]
    assert [pair.truth.parent.name for pair in listed] == ["bonn", "aachen"]


@pytest.mark.parametrize("workers", [None, 1])
def test_perfect_predictions_score_one_and_every_pair_is_reported(folders, workers):
    reported = []
    scores = score_folders(*folders, workers=workers, on_pair=lambda *pair: reported.append(pair))
    assert scores.means["mIoU-19"] == 1.0
    assert scores.confusion.sum() == 2 * 6 * 8
    assert [pair for pair, _ in reported] == find_pairs(*folders)
    np.testing.assert_array_equal(sum(confusion for _, confusion in reported), scores.confusion)


def test_palette_predictions_are_read_as_indices(folders):
    plain = score_folders(*folders)
    for path in folders[1].iterdir():
        image = Image.open(path)
        image.putpalette(CITYSCAPES.palette())
        image.save(path)
        assert Image.open(path).mode == "P"
    np.testing.assert_array_equal(score_folders(*folders).confusion, plain.confusion)


def test_a_devkit_of_19_classes_renames_them(folders, devkit):
    scores = score_folders(*folders, devkit_dir=devkit)
    assert scores.names[0] == "ROAD"
    assert scores.means == {"mIoU-19": 1.0, "mIoU-16": 1.0, "mIoU-13": 1.0}


def test_a_devkit_of_other_classes_replaces_them(folders, devkit):
    table = [[label, train_id % 2] for label, train_id in CITYSCAPES_TO_TRAIN_ID.items()]
    (devkit / "info.json").write_text(json.dumps({"label2train": table, "label": ["even", "odd"]}))
    for path in folders[1].iterdir():
        save(path, np.asarray(Image.open(path)) % 2)
    scores = score_folders(*folders, devkit_dir=devkit)
    assert scores.names == ("even", "odd")
    assert scores.means == {"mIoU": 1.0}


class TestErrors:
    """Each is one sentence that names the file, the value and the remedy."""

    def refuses(self, sentence, truth_dir, prediction_dir, **options):
        with pytest.raises(DataError, match=sentence) as caught:
            score_folders(truth_dir, prediction_dir, **options)
        assert "\n" not in str(caught.value)

    def test_missing_folders(self, folders, tmp_path):
        nowhere = tmp_path / "nowhere"
        self.refuses(rf"Ground-truth folder {nowhere} does not exist", nowhere, folders[1])
        self.refuses(rf"Prediction folder {nowhere} does not exist", folders[0], nowhere)

    def test_no_ground_truth(self, folders, devkit):
        self.refuses(r"No \*_gtFine_labelIds.png below .*result: is this", folders[1], folders[1])
        for name in ("val.txt", "label.txt"):
            (devkit / name).write_text("\n")
        self.refuses(r"label.txt is empty", *folders, devkit_dir=devkit)

    def test_missing_files(self, folders, devkit):
        (folders[1] / "bonn_1_leftImg8bit.png").unlink()
        self.refuses(r"1 of 2 predictions are missing, first .*bonn_1_leftImg8bit.png: eval", *folders)
        (folders[0] / "aachen/aachen_1_gtFine_labelIds.png").unlink()
        self.refuses(r"1 of 2 ground truths are missing, first .*aachen_1_gtFine", *folders, devkit_dir=devkit)

    def test_lists_of_different_lengths(self, folders, devkit):
        (devkit / "val.txt").write_text("bonn/bonn_1_leftImg8bit.png\n")
        self.refuses(r"val.txt names 1 images but label.txt names 2 ground truths", *folders, devkit_dir=devkit)

    def test_missing_list(self, folders, devkit):
        (devkit / "val.txt").unlink()
        self.refuses(r"cannot read the list .*val.txt .*a devkit folder holds val.txt", *folders, devkit_dir=devkit)

    @pytest.mark.parametrize("text", ["{", "[]", '{"label": ["a"]}', '{"label": ["a"], "label2train": [1]}'])
    def test_damaged_info(self, folders, devkit, text):
        (devkit / "info.json").write_text(text)
        self.refuses(r"info.json .*label2train", *folders, devkit_dir=devkit)

    @pytest.mark.parametrize("pair", [[7, 1], [256, 0], [7, -1]])
    def test_impossible_ids_in_info(self, folders, devkit, pair):
        (devkit / "info.json").write_text(json.dumps({"label": ["a"], "label2train": [pair]}))
        self.refuses(
            rf"maps id {pair[0]} to trainId {pair[1]}: ids are 0…255, trainIds 0…0 or 255",
            *folders,
            devkit_dir=devkit,
        )

    def test_a_devkit_of_other_classes_than_the_label_maps(self, folders, devkit):
        with pytest.raises(ConfigError, match=r"info.json has \d+ classes, but .* 16 classes of synthia-16"):
            score_folders(*folders, devkit_dir=devkit, classes=NAMED_CLASSES["synthia-16"])

    def test_sizes(self, folders):
        save(folders[1] / "bonn_1_leftImg8bit.png", np.zeros((3, 4), np.uint8))
        self.refuses(r"bonn_1_leftImg8bit.png is 4×3 but .*bonn_1_gtFine_labelIds.png is 8×6: save", *folders)

    @pytest.mark.parametrize("damage", ["empty", "truncated", "flipped", "checksum"])
    def test_damaged_png(self, folders, damage):
        path = folders[1] / "bonn_1_leftImg8bit.png"
        content = bytearray(path.read_bytes())
        if damage == "flipped":
            content[content.index(b"IDAT") + 10] ^= 1
        if damage == "checksum":  # of the pixels; the last chunk, of 12 bytes, follows it
            content[-13] ^= 1
        path.write_bytes({"empty": b"", "truncated": content[:-30]}.get(damage, content))
        self.refuses(r"bonn_1_leftImg8bit.png cannot be decoded \(.*download it again", *folders)

    @pytest.mark.parametrize(
        ("mode", "ids"),
        [("RGB", np.zeros((6, 8, 3), np.uint8)), ("I;16", np.zeros((6, 8), np.uint16))],
    )
    def test_wrong_mode(self, folders, mode, ids):
        save(folders[1] / "bonn_1_leftImg8bit.png", ids)
        self.refuses(rf"bonn_1_leftImg8bit.png has mode {mode}, not 8-bit ids", *folders)

    def test_predictions_outside_the_classes(self, folders):
        path = folders[1] / "bonn_1_leftImg8bit.png"
        save(path, np.full((6, 8), 33, np.uint8))
        self.refuses(
            r"bonn_1_leftImg8bit.png: prediction values 33 .* 19 classes.* 48 pixels .*trainIds.*prediction_ids",
            *folders,
        )
        self.refuses(r"values .*labelIds", *folders, prediction_ids="labelId")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"label": ["c"] * 300, "label2train": [[7, 257]]}, "300 classes, not 1 to 255"),
        ({"label": [], "label2train": []}, "0 classes"),
        ({"label": ["a"], "label2train": [[7, float("inf")]]}, "infinity"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_devkit_that_describes_nothing(folders, devkit, content, said):
    (devkit / "info.json").write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=rf"info.json is no devkit description .*{said}"):
        score_folders(*folders, devkit_dir=devkit)


def test_truths_are_found_as_images_of_a_data_set_are(folders):
    truth = folders[0]
    expected = find_pairs(*folders)
    (truth / "bonn/._bonn_1_gtFine_labelIds.png").write_bytes(b"made by macOS")
    assert find_pairs(*folders) == expected
    (truth / "aachen").rename(truth.parent / "elsewhere")
    (truth / "aachen").symlink_to(truth.parent / "elsewhere")
    assert find_pairs(*folders) == expected


def test_importing_it_needs_no_paddle():
    code = "import sys, clan.evaluation.scoring, clan.evaluation.tables; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not re.search(r"\b(paddle|rich|xlsxwriter)\b", modules)


def test_some_images_alone_can_be_scored(folders):
    truths = sorted(folders[0].rglob("*_gtFine_labelIds.png"))
    names = [path.relative_to(folders[0]).as_posix().replace("_gtFine_labelIds", "_leftImg8bit") for path in truths]
    assert len(names) > 1
    assert [pair.truth for pair in find_pairs(*folders, images=names[:1])] == truths[:1]
