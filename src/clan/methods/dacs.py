"""DACS: self-training on mixtures of source and target images (Tranheden et al., WACV 2021)."""

from clan.methods.self_training import SelfTraining
from clan.run.method_options import DacsOptions


class DACS(SelfTraining):
    """A teacher's labels on mixtures, whose classes are drawn for each image by itself."""

    options_type = DacsOptions
    options: DacsOptions
    classes_of_batch = False
