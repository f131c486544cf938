"""Style transfer from target to source images: pure functions of normalised images."""

import cv2
import numpy as np


def match_statistics(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Sets the mean and standard deviation of every source channel to the target's (Reinhard et al., 2001).

    Args:
        source: float32 [3, h, w].
        target: float32 [3, H, W], with the same normalisation.

    Returns:
        float32 [3, h, w].
    """
    mean, deviation = (measure(source, axis=(1, 2), keepdims=True) for measure in (np.mean, np.std))
    wanted_mean, wanted = (measure(target, axis=(1, 2), keepdims=True) for measure in (np.mean, np.std))
    return ((source - mean) * (wanted / np.maximum(deviation, 1e-6)) + wanted_mean).astype(np.float32)


def swap_amplitudes(source: np.ndarray, target: np.ndarray, extent: float, origin: np.ndarray) -> np.ndarray:
    """Replaces the source's low-frequency amplitudes by the target's and keeps its phases (FDA, Yang & Soatto, 2020).

    Args:
        source: float32 [3, h, w].
        target: float32 [3, H, W], with the same normalisation; resized to the source's size.
        extent: β: frequencies up to floor(β·min(h, w)) along each axis are replaced.
        origin: [3], the normalised value of black, subtracted first so that the mean is an amplitude too.

    Returns:
        float32 [3, h, w].
    """
    height, width = source.shape[1:]
    if target.shape != source.shape:
        resized = cv2.resize(target.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_AREA)
        target = resized.transpose(2, 0, 1)
    offset = np.asarray(origin, np.float64).reshape(3, 1, 1)
    own, other = (np.fft.rfft2(planes - offset) for planes in (source, target))
    reach = int(extent * min(height, width))
    # rfft2 returns negative frequencies for rows (at the end) but not for columns.
    rows = np.r_[0 : reach + 1, height - reach : height]
    low = (slice(None), rows, slice(0, reach + 1))
    amplitude = np.abs(own[low])
    own[low] *= np.abs(other[low]) / np.maximum(amplitude, 1e-12)
    return (np.fft.irfft2(own, s=(height, width)) + offset).astype(np.float32)
