"""To add a strategy of sampling: what chooses images and crops by position, and an entry in SAMPLINGS."""

import numpy as np


class RarestClass:
    """Images by the share of their rarest class in the whole data set, drawn at every position (as in DAFormer)."""

    def __init__(self, dataset, seed, config):
        self.seed = seed
        labels = [dataset.read_label(index) for index in range(len(dataset))]
        counts = np.array(
            [np.bincount(label.ravel(), minlength=256)[: len(config.classes.classes)] for label in labels]
        )
        self.rare = int(np.where(counts.sum(axis=0), counts.sum(axis=0), counts.sum() + 1).argmin())
        self.shares = (counts[:, self.rare] + 1) / (counts[:, self.rare] + 1).sum()

    def index(self, position):
        return int(np.random.default_rng([*self.seed, 0, position]).choice(len(self.shares), p=self.shares))

    def accepts(self, position, label):
        return bool((label == self.rare).any())
