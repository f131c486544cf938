import numpy as np
import pytest
from PIL import Image

from clan.core.errors import ConfigError
from clan.core.ranks import ALONE
from clan.data.dataset import Dataset
from clan.datasets import Description
from clan.datasets.labels import CITYSCAPES_TO_TRAIN_ID
from clan.evaluation.bulk import write_label_maps
from clan.evaluation.label_maps import EvaluationOptions, evaluate, load_segmenter
from clan.models.options import NetworkConfig
from clan.models.segmenter import build_segmenter
from clan.models.weights import save_weights

pytestmark = pytest.mark.plain


def test_label_maps_equal_the_official_ones(shared, golden_weights, tmp_path):
    dataset = Dataset("cityscapes", shared / "data/mini/Cityscapes", split="val")
    segmenter = load_segmenter(golden_weights["segmenter"], NetworkConfig(backbone="resnet101", num_classes=19))
    # The official script writes 2048×1024 always; ours the size of the ground truth, unless told otherwise.
    evaluate(segmenter, dataset, tmp_path, options=EvaluationOptions(output_size=(2048, 1024)))
    names = sorted(path.name for path in (shared / "golden/predictions").iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name in names:
        ours, official = (Image.open(folder / name) for folder in (tmp_path, shared / "golden/predictions"))
        assert ours.mode == official.mode
        assert (np.asarray(ours) == np.asarray(official)).mean() >= 0.999
        if ours.mode == "P":
            assert ours.getpalette()[: 19 * 3] == official.getpalette()[: 19 * 3]


@pytest.fixture
def small(tmp_path):
    """A small segmenter on file, and one picture with a 40×20 ground truth."""
    root = tmp_path / "Cityscapes"
    image = root / "leftImg8bit/val/town/town_0_leftImg8bit.png"
    truth = root / "gtFine/val/town/town_0_gtFine_labelIds.png"
    for path, picture in ((image, Image.new("RGB", (64, 32), "red")), (truth, Image.new("L", (40, 20)))):
        path.parent.mkdir(parents=True)
        picture.save(path)
    weights = tmp_path / "small.pdparams"
    save_weights(build_segmenter(NetworkConfig(backbone="resnet-tiny", num_classes=19)), weights)
    return load_segmenter(weights, NetworkConfig(backbone="resnet-tiny", num_classes=19)), Dataset(
        "cityscapes", root, split="val"
    )


def ids(small, folder, **options):
    evaluate(*small, folder, options=EvaluationOptions(input_size=(64, 32), **options))
    return np.asarray(Image.open(folder / "town_0_leftImg8bit.png"))


def test_sizes_encodings_and_exclusion(small, tmp_path):
    train_ids = ids(small, tmp_path / "plain")
    assert train_ids.shape == (20, 40)
    label_ids = ids(small, tmp_path / "ids", label_ids=True)
    np.testing.assert_array_equal(np.vectorize(CITYSCAPES_TO_TRAIN_ID.get)(label_ids), train_ids)
    common = int(np.bincount(train_ids.ravel()).argmax())
    for upsampling in ("bilinear", "bicubic"):
        assert common not in ids(small, tmp_path / upsampling, excluded=common, upsampling=upsampling)
    assert ids(small, tmp_path / "large", output_size=(100, 60)).shape == (60, 100)


@pytest.mark.parametrize("batch_size", [2, 7])
def test_the_size_of_batches_changes_nothing(small, tmp_path, batch_size):
    segmenter, first = small
    for number in (1, 2, 3, 4):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 64, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(first.image_path(0).with_name(f"town_{number}_leftImg8bit.png"))
    dataset = Dataset("cityscapes", first.root, split="val")
    seen = []
    for name, size in (("one", 1), ("many", batch_size)):
        options = EvaluationOptions(input_size=(64, 32), output_size=(64, 32), batch_size=size)
        evaluate(segmenter, dataset, tmp_path / name, options=options, on_image=seen.append)
    assert seen == dataset.names * 2
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert len(names) == 2 * 5
    for name in names:
        one, many = (np.asarray(Image.open(tmp_path / folder / name)) for folder in ("one", "many"))
        assert (one == many).mean() > 0.999  # the network's sums may be ordered differently


def test_a_process_without_a_share_of_the_images_evaluates_nothing(small, tmp_path):
    segmenter, dataset = small
    evaluate(segmenter, dataset.part([]), tmp_path / "none", options=EvaluationOptions())
    assert not list((tmp_path / "none").glob("*.png"))


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="batch size 0 is no number of images"):
        EvaluationOptions(batch_size=0)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (-3, 5), (20_000, 8)])
def test_a_size_of_nothing_or_too_much_is_refused(size):
    for name in ("input_size", "output_size"):
        with pytest.raises(ConfigError, match=f"{size[0]} {size[1]} is no size of an image"):
            EvaluationOptions(**{name: size})


def test_label_maps_that_overwrite_each_other_are_refused_before_anything_is_computed(tmp_path):
    for name in ("a.png", "a_color.png"):
        Image.new("RGB", (64, 32)).save(tmp_path / name)
    dataset = Dataset(Description(name="mine", images="{name}"), tmp_path)
    segmenter = build_segmenter(NetworkConfig(backbone="resnet-tiny"))
    with pytest.raises(ConfigError, match=r"a(_color)?\.png .* written to .*out/a(_color)?\.png"):
        evaluate(segmenter, dataset, tmp_path / "out", options=EvaluationOptions())
    with pytest.raises(ConfigError, match="would both be written"):  # the weights are not looked at yet
        write_label_maps([(tmp_path / "none.pdparams", tmp_path / "out")], dataset, ALONE)
    with pytest.raises(ConfigError, match=r"1\.pdparams and .*2\.pdparams would both be written to"):
        write_label_maps([(tmp_path / f"{k}.pdparams", tmp_path / "out") for k in (1, 2)], dataset, ALONE)
    assert not (tmp_path / "out").exists()


def test_label_maps_do_not_replace_the_images(tmp_path):
    Image.new("RGB", (64, 32)).save(tmp_path / "a.png")
    dataset = Dataset(Description(name="mine", images="{name}.png"), tmp_path)
    with pytest.raises(ConfigError, match=r"a\.png would be overwritten by a result of"):
        evaluate(build_segmenter(NetworkConfig(backbone="resnet-tiny")), dataset, tmp_path, options=EvaluationOptions())
