"""Evaluation, and validation with it: reading, the network and what is made of its label maps overlap."""

import threading

import paddle

from clan.data.dataset import Dataset
from clan.evaluation import inference
from clan.evaluation.inference import EvaluationOptions, each_label_map

PATIENCE = 20.0
IMAGES = 6


class Stages:
    """Which image each stage has come to, and waiting for that."""

    def __init__(self):
        self.changed, self.at = threading.Condition(), {"reading": -1, "network": -1}

    def reach(self, stage, index):
        with self.changed:
            self.at[stage] = max(self.at[stage], index)
            self.changed.notify_all()

    def wait(self, stage, index):
        with self.changed:
            return self.changed.wait_for(lambda: self.at[stage] >= index, PATIENCE)


def test_stages_overlap(worlds, monkeypatch):
    """Each waits for the next image to be in the stage before it, which would take for ever if it came afterwards."""
    monkeypatch.setattr(inference, "available_cores", lambda: 2)
    stages, seen = Stages(), []
    dataset = Dataset("cityscapes", worlds / "Cityscapes", split="val").part([0, 1] * (IMAGES // 2))
    read = dataset.read_image

    def reading(index):
        stages.reach("reading", index)
        return read(index)

    monkeypatch.setattr(dataset, "read_image", reading)

    class Network(paddle.nn.Layer):
        align_corners = True

        def __init__(self):
            super().__init__()
            self.count = 0

        def forward(self, images):
            stages.reach("network", self.count)
            assert stages.wait("reading", min(self.count + 1, IMAGES - 1)), "the next image is read meanwhile"
            self.count += 1
            return (paddle.zeros([1, 3, 4, 8]),)

    def use(train_ids, index):
        seen.append((index, stages.wait("network", min(index + 1, IMAGES - 1))))

    each_label_map(Network(), dataset, use, options=EvaluationOptions(input_size=(64, 32)))
    assert sorted(seen) == [(index, True) for index in range(IMAGES)], "label maps are used while the network goes on"
