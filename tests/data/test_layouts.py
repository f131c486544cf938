"""Layouts of public data sets, drawn small: what `clan data init` finds has to be what a person would find."""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from clan.data.checks import check
from clan.data.dataset import Dataset, find_splits
from clan.data.proposal import propose
from clan.datasets import classes_of, load_description
from tests.pages import ROOT

WIDTH, HEIGHT = 32, 24
RNG = np.random.default_rng(0)
PALETTE = np.array([[128, 64, 128], [0, 0, 142], [70, 130, 180]], np.uint8)


def scene():
    """Three areas, 0…2 [H, W]."""
    areas = np.full((HEIGHT, WIDTH), 2, np.uint8)
    areas[HEIGHT // 2 :] = 0
    areas[8:16, 8:20] = 1
    return areas


def draw(path, kind, values, palette=PALETTE):
    """Writes a file of a kind: a photograph, or the scene as labels of that kind."""
    palette = np.array(palette, np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    areas = scene()
    ids = np.array(values, np.uint8)[areas]
    ramp = np.arange(WIDTH, dtype=np.uint16) + 0 * ids.astype(np.uint16)
    images = {
        "colors": palette[areas],
        "rgba": np.dstack([palette[areas], np.full_like(areas, 255)]),
        "ids": ids,
        "palette": ids,
        "red": np.dstack([ids, 0 * ids, 0 * ids]),
        "instances": ids.astype(np.uint16) * 256 + 1,
        "panoptic": np.dstack([ids, areas + 1, 0 * ids]),
        "depth": np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 60,
    }
    if kind == "photo":
        noise = RNG.normal(0, 25, (HEIGHT, WIDTH, 3))
        pixels = (PALETTE[areas] + noise).clip(0, 255).astype(np.uint8)
        kinds = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF"}
        Image.fromarray(pixels).save(path, format=kinds.get(path.suffix.lower(), "PNG"))
    elif kind == "red16":
        cv2.imwrite(str(path), np.dstack([0 * ramp, ramp, ids.astype(np.uint16)]))
    elif kind in images:
        image = Image.fromarray(images[kind])
        if kind == "palette":
            image.putpalette(np.resize(palette, (256, 3)).ravel().tolist())
        image.save(path)
    else:
        path.write_text(kind)


@dataclass
class Layout:
    """Where the files of a data set lie, and what is to be found.

    Args:
        images, labels: paths with fields of `samples`.
        found: the patterns that are expected.
        others: further files of each sample, path: kind.
        samples: the fields' values; those with `bare` have no label.
        stored: how labels are drawn.
        values: ids of the three areas.
        encoding: what the description has to say of it.
        title: the data set that names are taken from; none: placeholders.
        root: the folder's name.
        lists: list files, with their text.
        palette: colours of the three areas.
    """

    images: str
    labels: str
    found: tuple[str, str]
    samples: list[dict]
    others: dict[str, str] = field(default_factory=dict)
    stored: str = "ids"
    values: tuple[int, int, int] = (7, 26, 23)
    encoding: str = "ids"
    title: str = ""
    root: str = "data"
    lists: dict[str, str] = field(default_factory=dict)
    palette: tuple = tuple(map(tuple, PALETTE.tolist()))


def splits(*names, **fields):
    """Two images a split, with further fields that are the same for all, or one value a split."""
    return [
        {"split": name, "n": f"{2 * number + k:06}"}
        | {key: value if isinstance(value, str) else value[number] for key, value in fields.items()}
        for number, name in enumerate(names)
        for k in range(2)
    ]


def numbers(count=3, form="{:06}", **fields):
    """Some numbered images."""
    return [{"n": form.format(number)} | fields for number in range(count)]


CITIES = splits("train", "val", "test", city=("aachen", "frankfurt", "berlin"))
CITY = "{split}/{city}/{city}_{n}_000019"
FOUND_CITY = "{split}/{folder}/{name}"
BETAS = ("0.005", "0.01", "0.02")
CITYSCAPES = "Cityscapes labelIds"

LAYOUTS = {
    "Cityscapes": Layout(
        f"leftImg8bit/{CITY}_leftImg8bit.png",
        f"gtFine/{CITY}_gtFine_labelIds.png",
        (f"leftImg8bit/{FOUND_CITY}_leftImg8bit.png", f"gtFine/{FOUND_CITY}_gtFine_labelIds.png"),
        CITIES,
        {
            f"gtFine/{CITY}_gtFine_color.png": "rgba",
            f"gtFine/{CITY}_gtFine_instanceIds.png": "instances",
            f"gtFine/{CITY}_gtFine_polygons.json": "{}",
            f"gtFine/{CITY}_gtFine_labelTrainIds.png": "ids",
            f"gtCoarse/{CITY}_gtCoarse_labelIds.png": "ids",
            f"disparity/{CITY}_disparity.png": "depth",
            f"rightImg8bit/{CITY}_rightImg8bit.png": "photo",
        },
        title=CITYSCAPES,
    ),
    "Cityscapes, each archive in its folder": Layout(
        f"leftImg8bit_trainvaltest/leftImg8bit/{CITY}_leftImg8bit.png",
        f"gtFine_trainvaltest/gtFine/{CITY}_gtFine_labelIds.png",
        (
            f"leftImg8bit_trainvaltest/leftImg8bit/{FOUND_CITY}_leftImg8bit.png",
            f"gtFine_trainvaltest/gtFine/{FOUND_CITY}_gtFine_labelIds.png",
        ),
        CITIES,
        {f"gtFine_trainvaltest/gtFine/{CITY}_gtFine_color.png": "rgba"},
        title=CITYSCAPES,
    ),
    "Cityscapes, labelIds alone": Layout(
        f"leftImg8bit/{CITY}_leftImg8bit.png",
        f"gtFine/{CITY}_gtFine_labelIds.png",
        (f"leftImg8bit/{FOUND_CITY}_leftImg8bit.png", f"gtFine/{FOUND_CITY}_gtFine_labelIds.png"),
        [sample | {"bare": sample["split"] == "test"} for sample in CITIES],
        title=CITYSCAPES,
    ),
    "Foggy Cityscapes": Layout(
        f"leftImg8bit_foggy/{CITY}_leftImg8bit_foggy_beta_{{beta}}.png",
        f"gtFine/{CITY}_gtFine_labelIds.png",
        (
            f"leftImg8bit_foggy/{FOUND_CITY}_leftImg8bit_foggy_beta_{{beta:0.005|0.01|0.02}}.png",
            f"gtFine/{FOUND_CITY}_gtFine_labelIds.png",
        ),
        [sample | {"beta": beta} for sample in CITIES for beta in BETAS],
        {f"gtFine/{CITY}_gtFine_color.png": "rgba", f"gtFine/{CITY}_gtFine_instanceIds.png": "instances"},
        title=CITYSCAPES,
    ),
    "Cityscapes beside Foggy Cityscapes": Layout(
        f"leftImg8bit/{CITY}_leftImg8bit.png",
        f"gtFine/{CITY}_gtFine_labelIds.png",
        (f"leftImg8bit/{FOUND_CITY}_leftImg8bit.png", f"gtFine/{FOUND_CITY}_gtFine_labelIds.png"),
        CITIES,
        {f"leftImg8bit_foggy/{CITY}_leftImg8bit_foggy_beta_{beta}.png": "photo" for beta in BETAS},
        title=CITYSCAPES,
    ),
    "Nighttime Driving": Layout(
        "leftImg8bit/{split}/night/{n}_leftImg8bit.png",
        "gtCoarse_daytime_trainvaltest/{split}/night/{n}_gtCoarse_labelIds.png",
        (
            "leftImg8bit/{split}/night/{name}_leftImg8bit.png",
            "gtCoarse_daytime_trainvaltest/{split}/night/{name}_gtCoarse_labelIds.png",
        ),
        splits("test"),
        {"gtCoarse_daytime_trainvaltest/{split}/night/{n}_gtCoarse_labelTrainIds.png": "ids"},
        title=CITYSCAPES,
    ),
    "Virtual KITTI 2": Layout(
        "Scene{q}/clone/frames/rgb/Camera_{c}/rgb_{n}.jpg",
        "Scene{q}/clone/frames/classSegmentation/Camera_{c}/classgt_{n}.png",
        (
            "{folder_1}/clone/frames/rgb/{folder_2}/rgb_{name}.jpg",
            "{folder_1}/clone/frames/classSegmentation/{folder_2}/classgt_{name}.png",
        ),
        [sample | {"q": q, "c": c} for q in ("01", "02") for c in "01" for sample in numbers(2, "{:05}")],
        {
            "Scene{q}/clone/frames/depth/Camera_{c}/depth_{n}.png": "depth",
            "Scene{q}/clone/frames/instanceSegmentation/Camera_{c}/instancegt_{n}.png": "palette",
        },
        stored="colors",
        encoding="colors",
        palette=((100, 60, 100), (200, 200, 200), (90, 200, 255)),
    ),
    "Supervisely": Layout(
        "ds0/img/{n}.png",
        "ds0/masks_machine/{n}.png",
        ("ds0/img/{name}.png", "ds0/masks_machine/{name}.png"),
        numbers(),
        {"ds0/masks_human/{n}.png": "colors", "ds0/ann/{n}.json": "{}"},
    ),
    "IDD": Layout(
        "leftImg8bit/{split}/{seq}/frame{n}_leftImg8bit.jpg",
        "gtFine/{split}/{seq}/frame{n}_gtFine_labelids.png",
        (
            "leftImg8bit/{split}/{folder}/{name}_leftImg8bit.jpg",
            "gtFine/{split}/{folder}/{name}_gtFine_labelids.png",
        ),
        splits("train", "val", seq=("0", "119")),
        {"gtFine/{split}/{seq}/frame{n}_gtFine_instanceids.png": "instances"},
        values=(0, 12, 33),
        title="IDD labelids",
    ),
    "IDD-Lite": Layout(
        "leftImg8bit/{split}/{seq}/{n}_image.jpg",
        "gtFine/{split}/{seq}/{n}_label.png",
        ("leftImg8bit/{split}/{folder}/{name}_image.jpg", "gtFine/{split}/{folder}/{name}_label.png"),
        splits("train", "val", seq=("0", "119")),
        {"gtFine/{split}/{seq}/{n}_inst_label.png": "ids"},
        values=(0, 3, 6),
        title="IDD-Lite",
    ),
    "ACDC": Layout(
        "rgb_anon/{sky}/{split}/GP010{seq}/GP010{seq}_frame_{n}_rgb_anon.png",
        "gt/{sky}/{split}/GP010{seq}/GP010{seq}_frame_{n}_gt_labelIds.png",
        (
            "rgb_anon/{folder_1}/{split}/{folder_2}/{name}_rgb_anon.png",
            "gt/{folder_1}/{split}/{folder_2}/{name}_gt_labelIds.png",
        ),
        [sample | {"sky": sky} for sky in ("fog", "night") for sample in splits("train", "val", seq=("376", "475"))],
        {
            "rgb_anon/{sky}/{split}_ref/GP010{seq}/GP010{seq}_frame_{n}_rgb_ref_anon.png": "photo",
            "gt/{sky}/{split}/GP010{seq}/GP010{seq}_frame_{n}_gt_labelTrainIds.png": "ids",
            "gt/{sky}/{split}/GP010{seq}/GP010{seq}_frame_{n}_gt_labelColor.png": "rgba",
            "gt/{sky}/{split}/GP010{seq}/GP010{seq}_frame_{n}_gt_invIds.png": "ids",
        },
        title=CITYSCAPES,
    ),
    "Dark Zurich": Layout(
        "rgb_anon/{split}/{time}/GOPR0{seq}/GOPR0{seq}_frame_{n}_rgb_anon.png",
        "gt/{split}/{time}/GOPR0{seq}/GOPR0{seq}_frame_{n}_gt_labelIds.png",
        (
            "rgb_anon/{split}/night/{folder}/{name}_rgb_anon.png",
            "gt/{split}/night/{folder}/{name}_gt_labelIds.png",
        ),
        [
            *splits("val", "val", time="night", seq=("356", "357")),
            *[sample | {"bare": True} for sample in splits("train", time="night", seq="351")],
        ],
        {
            "gt/val/night/GOPR0356/GOPR0356_frame_000000_gt_labelTrainIds.png": "ids",
            "gt/val/night/GOPR0356/GOPR0356_frame_000000_gt_labelColor.png": "rgba",
            "rgb_anon/train/day/GOPR0345/GOPR0345_frame_{n}_rgb_anon.png": "photo",
            "rgb_anon/val_ref/day/GOPR0356_ref/GOPR0356_frame_{n}_rgb_ref_anon.png": "photo",
        },
        title=CITYSCAPES,
    ),
    "A2D2": Layout(
        "2018080{d}_1/camera/cam_{cam}_center/2018080{d}_camera_{cam}center_{n}.png",
        "2018080{d}_1/label/cam_{cam}_center/2018080{d}_label_{cam}center_{n}.png",
        (
            "{folder_1}/camera/{folder_2}/{name}_camera_{rest}.png",
            "{folder_1}/label/{folder_2}/{name}_label_{rest}.png",
        ),
        [sample | {"d": d, "cam": cam} for d in "67" for cam in ("front", "rear") for sample in numbers(2)],
        stored="colors",
        encoding="colors",
        title="A2D2",
        palette=((255, 0, 255), (200, 0, 0), (135, 206, 255)),
    ),
    "KITTI": Layout(
        "{split}/image_2/{n}_10.png",
        "{split}/semantic/{n}_10.png",
        ("{split}/image_2/{name}.png", "{split}/semantic/{name}.png"),
        [*splits("training"), *[sample | {"bare": True} for sample in splits("testing")]],
        {
            "training/semantic_rgb/{n}_10.png": "colors",
            "training/instance/{n}_10.png": "instances",
        },
        title=CITYSCAPES,
    ),
    "Mapillary Vistas 1.2": Layout(
        "{split}/images/{n}.jpg",
        "{split}/labels/{n}.png",
        ("{split}/images/{name}.jpg", "{split}/labels/{name}.png"),
        [*splits("training", "validation"), {"split": "testing", "n": "_x-3A", "bare": True}],
        {"training/instances/{n}.png": "instances", "training/panoptic/{n}.png": "panoptic"},
        stored="palette",
        values=(13, 55, 27),
        title="Mapillary Vistas 1.2",
        root="mapillary-vistas",
    ),
    "Mapillary Vistas 2.0": Layout(
        "{split}/images/{n}.jpg",
        "{split}/v2.0/labels/{n}.png",
        ("{split}/images/{name}.jpg", "{split}/v2.0/labels/{name}.png"),
        splits("training", "validation"),
        {
            "{split}/v2.0/instances/{n}.png": "instances",
            "{split}/v2.0/panoptic/{n}.png": "panoptic",
            "{split}/v2.0/polygons/{n}.json": "{}",
        },
        stored="palette",
        values=(21, 108, 61),
        title="Mapillary Vistas 2.0",
    ),
    "Mapillary Vistas 2.0 beside 1.2": Layout(
        "{split}/images/{n}.jpg",
        "{split}/v2.0/labels/{n}.png",
        ("{split}/images/{name}.jpg", "{split}/v2.0/labels/{name}.png"),
        splits("training", "validation"),
        {"{split}/v1.2/labels/{n}.png": "palette", "{split}/v1.2/instances/{n}.png": "instances"},
        stored="palette",
        values=(21, 108, 61),
        title="Mapillary Vistas 2.0",
    ),
    "WildDash": Layout(
        "images/{n}_100000.jpg",
        "labels/{n}_100000.png",
        ("images/{name}.jpg", "labels/{name}.png"),
        numbers(form="aa{:04}"),
        {"instances/{n}_100000.png": "instances", "panoptic/{n}_100000.png": "panoptic"},
        title=CITYSCAPES,
        root="wilddash2",
    ),
    "Synscapes": Layout(
        "img/rgb/{n}.png",
        "img/class/{n}.png",
        ("img/rgb/{name}.png", "img/class/{name}.png"),
        numbers(form="{}"),
        {"img/instance/{n}.png": "panoptic", "img/depth/{n}.png": "depth", "img/rgb-2k/{n}.png": "photo"},
        title=CITYSCAPES,
    ),
    "BDD100K": Layout(
        "images/10k/{split}/{n}4c0-d4dff0ad.jpg",
        "labels/sem_seg/masks/{split}/{n}4c0-d4dff0ad.png",
        ("images/10k/{split}/{name}.jpg", "labels/sem_seg/masks/{split}/{name}.png"),
        splits("train", "val"),
        {
            "labels/sem_seg/colormaps/{split}/{n}4c0-d4dff0ad.png": "rgba",
            "labels/pan_seg/bitmasks/{split}/{n}4c0-d4dff0ad.png": "rgba",
            "labels/ins_seg/colormaps/{split}/{n}4c0-d4dff0ad.png": "rgba",
        },
        values=(0, 13, 10),
        title="Cityscapes trainIds",
    ),
    "BDD100K as first published": Layout(
        "seg/images/{split}/{n}a.jpg",
        "seg/labels/{split}/{n}a_train_id.png",
        ("seg/images/{split}/{name}.jpg", "seg/labels/{split}/{name}_train_id.png"),
        splits("train", "val"),
        {"seg/color_labels/{split}/{n}a_train_color.png": "rgba"},
        values=(0, 13, 10),
        title="Cityscapes trainIds",
    ),
    "CamVid of SegNet": Layout(
        "{split}/0001TP_{n}.png",
        "{split}annot/0001TP_{n}.png",
        ("{split}/{name}.png", "{split}annot/{name}.png"),
        splits("train", "val", "test"),
        values=(3, 8, 0),
        title="CamVid, 11 classes",
        lists={"train.txt": "/SegNet/CamVid/train/0001TP_000000.png /SegNet/CamVid/trainannot/0001TP_000000.png\n"},
    ),
    "CamVid as published": Layout(
        "701_StillsRaw_full/0001TP_{n}.png",
        "LabeledApproved_full/0001TP_{n}_L.png",
        ("701_StillsRaw_full/{name}.png", "LabeledApproved_full/{name}_L.png"),
        numbers(),
        stored="colors",
        encoding="colors",
        title="CamVid, 32 classes",
        palette=((128, 64, 128), (64, 0, 128), (128, 128, 128)),
    ),
    "GTA5": Layout(
        "images/{n}.png",
        "labels/{n}.png",
        ("images/{name}.png", "labels/{name}.png"),
        numbers(form="{:05}"),
        stored="palette",
        title=CITYSCAPES,
        root="GTA5",
    ),
    "SYNTHIA": Layout(
        "RGB/{n}.png",
        "GT/LABELS/{n}.png",
        ("RGB/{name}.png", "GT/LABELS/{name}.png"),
        numbers(form="{:07}"),
        {"GT/COLOR/{n}.png": "colors", "Depth/Depth/{n}.png": "depth", "ALL.txt": "0000000.png\n"},
        stored="red16",
        values=(3, 8, 1),
        encoding="red",
        title="SYNTHIA-RAND-CITYSCAPES",
    ),
    "VOC 2012": Layout(
        "JPEGImages/2007_{n}.jpg",
        "SegmentationClass/2007_{n}.png",
        ("JPEGImages/{name}.jpg", "SegmentationClass/{name}.png"),
        [*numbers(4), {"n": "000009", "bare": True}],
        {"SegmentationObject/2007_{n}.png": "palette"},
        stored="palette",
        values=(0, 15, 255),
        title="PASCAL VOC",
        lists={
            "ImageSets/Main/train.txt": "2007_000000\n2007_000009\n",
            "ImageSets/Segmentation/train.txt": "2007_000000\n2007_000001\n",
            "ImageSets/Segmentation/val.txt": "2007_000002\n2007_000003\n",
        },
    ),
    "ADE20K": Layout(
        "images/{split}/ADE_{n}.jpg",
        "annotations/{split}/ADE_{n}.png",
        ("images/{split}/{name}.jpg", "annotations/{split}/{name}.png"),
        splits("training", "validation"),
        values=(7, 21, 0),
        title="ADE20K",
    ),
    "PaddleSeg": Layout(
        "images/{n}.jpg",
        "annotations/{n}.png",
        ("images/{name}.jpg", "annotations/{name}.png"),
        numbers(4),
        lists={
            "train.txt": "images/000000.jpg annotations/000000.png\nimages/000001.jpg annotations/000001.png\n",
            "val.txt": "images/000002.jpg annotations/000002.png\nimages/000003.jpg annotations/000003.png\n",
        },
    ),
    "COCO-Stuff": Layout(
        "images/{split}/{n}.jpg",
        "annotations/{split}/{n}.png",
        ("images/{split}/{name}.jpg", "annotations/{split}/{name}.png"),
        splits("train2017", "val2017"),
    ),
    "COCO-Stuff, archives beside each other": Layout(
        "{split}/{n}.jpg",
        "stuffthingmaps/{split}/{n}.png",
        ("{split}/{name}.jpg", "stuffthingmaps/{split}/{name}.png"),
        splits("train2017", "val2017"),
    ),
    "CARLA": Layout(
        "town{t}/rgb/{n}.png",
        "town{t}/semantic/{n}.png",
        ("{folder}/rgb/{name}.png", "{folder}/semantic/{name}.png"),
        [sample | {"t": t} for t in "12" for sample in numbers(2)],
        {"town{t}/depth/{n}.png": "photo", "town{t}/instance/{n}.png": "panoptic"},
        stored="red",
        values=(1, 14, 11),
        encoding="red",
        title="CARLA from 0.9.14",
        root="carla",
    ),
    "CARLA up to 0.9.13": Layout(
        "rgb/{n}.png",
        "semantic/{n}.png",
        ("rgb/{name}.png", "semantic/{name}.png"),
        numbers(),
        stored="red",
        values=(7, 10, 13),
        encoding="red",
        title="CARLA up to 0.9.13",
        root="Town01",
    ),
    "CARLA in colours": Layout(
        "rgb/{n}.png",
        "semantic/{n}.png",
        ("rgb/{name}.png", "semantic/{name}.png"),
        numbers(),
        stored="rgba",
        encoding="colors",
        title=CITYSCAPES,
    ),
    "Apolloscape": Layout(
        "ColorImage/Record{r}/Camera 5/1709_{n}_Camera_5.jpg",
        "Label/Record{r}/Camera 5/1709_{n}_Camera_5_bin.png",
        ("ColorImage/{folder}/Camera 5/{name}.jpg", "Label/{folder}/Camera 5/{name}_bin.png"),
        [sample | {"r": r} for r in ("001", "002") for sample in numbers(2)],
        {"Label/Record{r}/Camera 5/1709_{n}_Camera_5_instanceIds.png": "instances"},
        values=(49, 33, 17),
    ),
    "Freiburg Forest": Layout(
        "{split}/rgb/b1-{n}_Clipped.jpg",
        "{split}/GT_color/b1-{n}_Clipped.png",
        ("{split}/rgb/{name}.jpg", "{split}/GT_color/{name}.png"),
        splits("train", "test"),
        {"{split}/nir_color/b1-{n}_Clipped.png": "photo", "{split}/depth_gray/b1-{n}_Clipped.png": "depth"},
        stored="colors",
        encoding="colors",
        title="Freiburg Forest",
        palette=((170, 170, 170), (0, 255, 0), (0, 120, 255)),
    ),
    "LoveDA": Layout(
        "{split}/{area}/images_png/{n}.png",
        "{split}/{area}/masks_png/{n}.png",
        ("{split}/{folder}/images_png/{name}.png", "{split}/{folder}/masks_png/{name}.png"),
        [
            *[sample | {"area": area} for area in ("Urban", "Rural") for sample in splits("Train", "Val")],
            {"split": "Test", "area": "Urban", "n": "9", "bare": True},
        ],
        values=(1, 2, 0),
        title="LoveDA",
    ),
    "UAVid": Layout(
        "uavid_{split}/seq{q}/Images/{n}.png",
        "uavid_{split}/seq{q}/Labels/{n}.png",
        ("uavid_{split}/{folder}/Images/{name}.png", "uavid_{split}/{folder}/Labels/{name}.png"),
        [
            sample | {"q": q, "split": split}
            for split, q in (("train", "1"), ("train", "2"), ("val", "3"))
            for sample in numbers(2)
        ],
        stored="colors",
        encoding="colors",
        title="UAVid",
        palette=((128, 64, 128), (192, 0, 192), (0, 128, 0)),
    ),
    "Potsdam": Layout(
        "2_Ortho_RGB/top_potsdam_2_{n}_RGB.tif",
        "5_Labels_all/top_potsdam_2_{n}_label.tif",
        ("2_Ortho_RGB/{name}_RGB.tif", "5_Labels_all/{name}_label.tif"),
        numbers(form="1{}"),
        {
            "5_Labels_all_noBoundary/top_potsdam_2_{n}_label_noBoundary.tif": "colors",
            "4_Ortho_RGBIR/top_potsdam_2_{n}_IRRG.tif": "photo",
        },
        stored="colors",
        encoding="colors",
        title="ISPRS Potsdam and Vaihingen",
        palette=((255, 255, 255), (255, 255, 0), (0, 0, 255)),
    ),
    "flat, with a tail": Layout("{n}.jpg", "{n}_mask.png", ("{name}.jpg", "{name}_mask.png"), numbers(form="img{}")),
    "flat, all of one suffix": Layout(
        "{n}.png",
        "{n}_mask.png",
        ("{name:*[0-9]}.png", "{name}_mask.png"),
        numbers(form="img{}"),
        {"{n}_color.png": "colors", "{n}_depth.png": "depth"},
    ),
    "LabelMe": Layout(
        "{n}/img.png",
        "{n}/label.png",
        ("{folder}/img.png", "{folder}/label.png"),
        numbers(form="street{}_json"),
        {"{n}/label_viz.png": "photo"},
    ),
    "mixed suffixes": Layout(
        "images/{n}.{end}",
        "labels/{n}.png",
        ("images/{name}.{end:jpg|JPG|jpeg|png}", "labels/{name}.png"),
        [{"n": f"f{k}", "end": end} for k, end in enumerate(["jpg", "JPG", "jpeg", "png", "jpg", "JPG"])],
        {"images/Thumbs.db": "x"},
    ),
    "odd names": Layout(
        "run{{1}}/[a]/images/{n}.jpg",
        "run{{1}}/[a]/labels/{n}_m.png",
        ("run{{1}}/[[]a]/images/{name}.jpg", "run{{1}}/[[]a]/labels/{name}_m.png"),
        [{"n": "x[1]"}, {"n": "y{2}"}, {"n": "图 3"}, {"n": "50%"}],
    ),
    "RUGD": Layout(
        "RUGD_frames-with-annotations/{seq}/{seq}_{n}.png",
        "RUGD_annotations/{seq}/{seq}_{n}.png",
        ("RUGD_frames-with-annotations/{folder}/{name}.png", "RUGD_annotations/{folder}/{name}.png"),
        [sample | {"seq": seq} for seq in ("creek", "park-1") for sample in numbers(2)],
        stored="colors",
        encoding="colors",
        palette=((108, 64, 20), (0, 102, 0), (0, 0, 255)),
    ),
    "RELLIS-3D": Layout(
        "{seq}/pylon_camera_node/frame{n}-1581_750.jpg",
        "{seq}/pylon_camera_node_label_id/frame{n}-1581_750.png",
        ("{folder}/pylon_camera_node/{name}.jpg", "{folder}/pylon_camera_node_label_id/{name}.png"),
        [sample | {"seq": seq} for seq in ("00000", "00001") for sample in numbers(2)],
        {"{seq}/pylon_camera_node_label_color/frame{n}-1581_750.png": "colors"},
    ),
    "Woodscape": Layout(
        "rgb_images/{n}_FV.png",
        "semantic_annotations/gtLabels/{n}_FV.png",
        ("rgb_images/{name}.png", "semantic_annotations/gtLabels/{name}.png"),
        numbers(form="{:05}"),
        {"semantic_annotations/rgbLabels/{n}_FV.png": "colors"},
    ),
}


def written(layout, root):
    """Draws a layout; returns the pairs (image, label) that have to be found."""
    pairs = set()
    for sample in layout.samples:
        image, label = layout.images.format(**sample), layout.labels.format(**sample)
        draw(root / image, "photo", layout.values, layout.palette)
        if not sample.get("bare"):
            draw(root / label, layout.stored, layout.values, layout.palette)
        pairs.add((image, label))
        for path, kind in layout.others.items():
            if not sample.get("bare") or "gt" not in path:
                draw(root / path.format(**sample), kind, layout.values, layout.palette)
    for path, text in layout.lists.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return pairs


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_public_layout_is_found_as_a_person_would(name, tmp_path):
    layout = LAYOUTS[name]
    root = tmp_path / layout.root
    pairs = written(layout, root)
    proposal = propose(root, relative_to=tmp_path)
    text = proposal.text
    values = yaml.safe_load(text)
    assert (values["images"], values["labels"]) == layout.found, "\n".join(proposal.seen)
    assert values.get("encoding", "ids") == layout.encoding
    assert any(f"names suggested: {layout.title}" in line for line in proposal.seen) == bool(layout.title)
    assert proposal.unnamed == any(key.startswith("class_") for key in values["classes"])
    for number, key in enumerate(values["classes"]):
        text = text.replace(f"  {key}:", f"  named {number}:") if key.startswith("class_") else text
    (tmp_path / "found.yaml").write_text(text, encoding="utf-8")
    file = load_description(tmp_path / "found.yaml")
    description = file.description
    if layout.lists and "splits" in values:
        assert values["splits"] == {Path(path).stem: path for path in layout.lists if "Main" not in path}
    found = set()
    for split in find_splits(description, root) or ["train"]:
        dataset = Dataset(description, root, split=split, classes=classes_of(file))
        findings = check(dataset)
        assert findings.ok, (findings.problems, findings.strays)
        assert len(set(dataset.stems)) == len(dataset)
        found |= {
            tuple(path.relative_to(root).as_posix() for path in (dataset.image_path(k), dataset.label_path(k)))
            for k in range(len(dataset))
        }
    labelled = {pair for pair in pairs if (root / pair[1]).exists()}
    assert found == (labelled if "splits" in values else pairs)


def cells(layout, stored):
    """A layout as a row of the documentation's table, without the name that begins it."""
    images, labels = (pattern.replace("|", "\\|") for pattern in layout.found)
    return f" | `{images}` | `{labels}` | {stored[layout.encoding]} | {layout.title or '–'} |"


def test_the_documentation_says_what_is_found_in_each_layout():
    text = (ROOT / "docs/your-data.md").read_text(encoding="utf-8")
    stored = {"ids": "ids", "red": "ids in red", "colors": "colours"}
    rows = [f"| {name}{cells(layout, stored)}" for name, layout in LAYOUTS.items()]
    assert [row for row in rows if row not in text] == []


def test_the_chinese_documentation_has_the_same_rows_in_that_order():
    table = (
        (ROOT / "docs/zh/your-data.md")
        .read_text(encoding="utf-8")
        .split("| 数据集 | 图像 | 标注 |")[1]
        .split("\n\n")[0]
    )
    stored = {"ids": "id", "red": "id，在红色通道", "colors": "颜色"}
    rows = table.splitlines()[2:]
    assert len(rows) == len(LAYOUTS)
    wrong = [row for row, layout in zip(rows, LAYOUTS.values(), strict=True) if not row.endswith(cells(layout, stored))]
    assert wrong == []
