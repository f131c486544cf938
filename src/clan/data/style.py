"""Giving source images the target's looks: pure functions of normalised planes."""

import cv2
import numpy as np


def match_statistics(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The source with the target's mean and deviation in every channel (Reinhard et al., 2001).

    Args:
        source: float32 [3, h, w].
        target: float32 [3, H, W], normalised alike.
    """
    mean, deviation = (measure(source, axis=(1, 2), keepdims=True) for measure in (np.mean, np.std))
    wanted_mean, wanted = (measure(target, axis=(1, 2), keepdims=True) for measure in (np.mean, np.std))
    return ((source - mean) * (wanted / np.maximum(deviation, 1e-6)) + wanted_mean).astype(np.float32)


def swap_amplitudes(source: np.ndarray, target: np.ndarray, extent: float, origin: np.ndarray) -> np.ndarray:
    """The source with the target's amplitudes at low frequencies, its own phases kept (FDA, Yang & Soatto, CVPR 2020).

    Args:
        source: float32 [3, h, w].
        target: float32 [3, H, W], normalised alike; resized to the source's size.
        extent: β: frequencies up to floor(β·min(h, w)) along each axis are swapped.
        origin: [3], what black is normalised to: of images counted from there, the mean is an amplitude too.
    """
    height, width = source.shape[1:]
    if target.shape != source.shape:
        resized = cv2.resize(target.transpose(1, 2, 0), (width, height), interpolation=cv2.INTER_AREA)
        target = resized.transpose(2, 0, 1)
    offset = np.asarray(origin, np.float64).reshape(3, 1, 1)
    own, other = (np.fft.rfft2(planes - offset) for planes in (source, target))
    reach = int(extent * min(height, width))
    # A real image's spectrum is symmetric: rows hold negative frequencies too, at the end, columns do not.
    rows = np.r_[0 : reach + 1, height - reach : height]
    low = (slice(None), rows, slice(0, reach + 1))
    amplitude = np.abs(own[low])
    own[low] *= np.abs(other[low]) / np.maximum(amplitude, 1e-12)
    return (np.fft.irfft2(own, s=(height, width)) + offset).astype(np.float32)
