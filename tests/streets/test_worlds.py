import cv2
import numpy as np
import pytest

from clan.datasets.labels import CITYSCAPES, CITYSCAPES_TO_TRAIN_ID, SYNTHIA_TO_TRAIN_ID, lookup_table
from clan.streets.worlds import CAMERA, RENDERED, draw, write_worlds

SIZE = (160, 80)
IMAGES = 16
WORLDS = {"rendered": RENDERED, "camera": CAMERA}


@pytest.fixture(scope="module")
def pictures():
    return {name: [draw(world, (7, i), SIZE) for i in range(IMAGES)] for name, world in WORLDS.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("worlds")
    write_worlds(folder, source_images=2, target_train_images=2, target_val_images=1, size=SIZE, seed=3)
    return folder


def files(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.png")}


def test_same_seed_writes_the_same_bytes_and_more_images_leave_the_first_alone(root, tmp_path):
    write_worlds(tmp_path, source_images=3, target_train_images=2, target_val_images=2, size=SIZE, seed=3)
    assert files(root).items() < files(tmp_path).items()


def test_other_seeds_and_other_splits_show_other_streets(root, tmp_path):
    write_worlds(tmp_path, source_images=2, target_train_images=2, target_val_images=1, size=SIZE, seed=4)
    assert files(root).keys() == files(tmp_path).keys()
    images = [data for folder in (root, tmp_path) for data in files(folder).values()]
    assert len(set(images)) == len(images)


def test_folders_are_those_of_the_real_data_sets(root):
    train, val = ("Cityscapes/leftImg8bit/train/lindenau", "Cityscapes/leftImg8bit/val/brueckstadt")
    assert sorted(files(root)) == sorted(
        [
            "SYNTHIA/RAND_CITYSCAPES/RGB/0000000.png",
            "SYNTHIA/RAND_CITYSCAPES/RGB/0000001.png",
            "SYNTHIA/RAND_CITYSCAPES/GT/LABELS/0000000.png",
            "SYNTHIA/RAND_CITYSCAPES/GT/LABELS/0000001.png",
            f"{train}/lindenau_000000_000000_leftImg8bit.png",
            f"{train}/lindenau_000001_000000_leftImg8bit.png",
            f"{val}/brueckstadt_000000_000000_leftImg8bit.png",
            "Cityscapes/gtFine/val/brueckstadt/brueckstadt_000000_000000_gtFine_labelIds.png",
        ]
    )


def test_source_label_is_16_bit_with_class_in_red_and_instance_in_green(root):
    label = cv2.imread(str(root / "SYNTHIA/RAND_CITYSCAPES/GT/LABELS/0000001.png"), cv2.IMREAD_UNCHANGED)
    picture = draw(RENDERED, (3, 0, 1), SIZE)
    blue, green, red = np.moveaxis(label, -1, 0)
    assert label.dtype == np.uint16
    np.testing.assert_array_equal(lookup_table(SYNTHIA_TO_TRAIN_ID)[red], picture.train_ids)
    np.testing.assert_array_equal(green, picture.instances)
    assert not blue.any()


def test_target_label_is_8_bit_with_cityscapes_ids(root):
    (path,) = root.glob("Cityscapes/gtFine/val/*/*.png")
    label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert label.dtype == np.uint8
    train_ids = lookup_table(CITYSCAPES_TO_TRAIN_ID)[label]
    np.testing.assert_array_equal(train_ids, draw(CAMERA, (3, 2, 0), SIZE).train_ids)


def test_images_are_written_in_their_colours_at_the_size_of_their_labels(root):
    image = cv2.imread(str(root / "SYNTHIA/RAND_CITYSCAPES/RGB/0000000.png"), cv2.IMREAD_UNCHANGED)
    picture = draw(RENDERED, (3, 0, 0), SIZE)
    np.testing.assert_array_equal(image[..., ::-1], picture.image)
    assert picture.image.shape == (SIZE[1], SIZE[0], 3)
    assert picture.train_ids.shape == picture.instances.shape == (SIZE[1], SIZE[0])


@pytest.mark.parametrize("world", WORLDS)
def test_the_classes_of_the_synthia_task_occur_and_no_others(pictures, world):
    labels = np.stack([picture.train_ids for picture in pictures[world]])
    share = np.bincount(labels.ravel(), minlength=19) / labels.size
    in_images = np.array([np.any(labels == c, axis=(1, 2)).mean() for c in range(19)])
    task = list(CITYSCAPES.subsets["mIoU-16"])
    assert set(np.flatnonzero(share)) == set(task)
    assert share[task].min() > 0.0005
    assert in_images[task].min() > 0.15
    assert share.max() < 0.5


@pytest.mark.parametrize("world", WORLDS)
def test_an_instance_is_one_object_of_one_class(pictures, world):
    countable = {CITYSCAPES.names.index(n) for n in ("person", "rider", "car", "bus", "motorcycle", "bicycle")}
    for picture in pictures[world]:
        assert set(np.unique(picture.train_ids[picture.instances > 0])) <= countable
        for instance in range(1, picture.instances.max() + 1):
            assert len(np.unique(picture.train_ids[picture.instances == instance])) <= 1


def test_the_camera_is_paler_warmer_and_softer(pictures):
    def measure(picture):
        image = picture.image.astype(np.float32)
        color = np.ptp(image, axis=2).mean()
        warmth = image[..., 0].mean() - image[..., 2].mean()
        sharpness = np.quantile(np.abs(np.diff(image[..., 1], axis=1)), 0.98)
        return color, warmth, sharpness

    color, warmth, sharpness = np.transpose(
        [np.mean([measure(p) for p in pictures[world]], axis=0) for world in ("rendered", "camera")]
    )
    assert color[0] > 1.25 * color[1]
    assert warmth[1] > warmth[0] + 8
    assert sharpness[0] > 1.25 * sharpness[1]
