"""Prints the numbers `src/quality.rs` is tested against.

Made with scikit-image 0.26, numpy 1.26: `python crates/face/tests/quality.py`. No test needs this.
"""

import numpy as np
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

WIDTH, HEIGHT = 33, 21


def make(shift: int, gain: int) -> np.ndarray:
    y, x, c = np.mgrid[0:HEIGHT, 0:WIDTH, 0:3]
    wave = (x * x + 3 * y * (c + 1) + shift * c) % 97
    return (30 + wave * gain // 10 + (x * 7 + y * 13 * shift) % 11).astype(np.uint8)


a, b = make(0, 20), make(2, 18)
print("PSNR", peak_signal_noise_ratio(a, b))
print(
    "SSIM",
    structural_similarity(
        a / 255.0, b / 255.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
        data_range=1.0, channel_axis=2,
    ),
)
