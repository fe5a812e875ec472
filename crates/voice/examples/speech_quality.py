"""Scores what `lossy_line` wrote: PESQ (wide-band, ITU-T P.862.2) and extended STOI.

pip install pesq==0.0.4 pystoi scipy
python3 speech_quality.py speech.f32 OUT table.csv
`table.csv` is what `lossy_line` printed; the delays in it align the two sounds.
"""
import csv
import pathlib
import sys

import numpy as np
from pesq import NoUtterancesError, pesq
from pystoi import stoi
from scipy.signal import fftconvolve, resample_poly

SECONDS = 8


def read(path):
    return resample_poly(np.fromfile(path, dtype="<f4"), 1, 3)


def align(piece, heard, start):
    """The part of `heard` near `start` that is most like `piece`: delays change within a call."""
    margin = 3200
    near = heard[start - margin : start + len(piece) + margin]
    product = fftconvolve(near, piece[::-1], mode="valid")
    best = int(np.argmax(product))
    return near[best : best + len(piece)]


def main():
    original = read(sys.argv[1])
    folder = pathlib.Path(sys.argv[2])
    print("| condition | kbit/s Opus | with headers | delay ms | recovered % | concealed % | noise % | PESQ | ESTOI |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for row in csv.DictReader(open(sys.argv[3])):
        heard = read(folder / f"{row['name']}.f32")
        shift = int(float(row["delay_ms"]) * 16)
        scores, clear = [], []
        # The first two seconds are left out: the delay is being found.
        for start in range(2 * 16000, len(original) - (SECONDS + 2) * 16000, SECONDS * 16000):
            a = original[start : start + SECONDS * 16000]
            b = heard[start + shift : start + shift + SECONDS * 16000]
            pieces = [
                align(a[i : i + 16000], heard, start + shift + i) for i in range(0, len(a), 16000)
            ]
            clear.append(stoi(a, np.concatenate(pieces), 16000, extended=True))
            try:
                scores.append(pesq(16000, a, b, "wb"))
            except NoUtterancesError:
                scores.append(1.0)
        print(
            f"| {row['name']} | {row['kbit_s_opus']} | {row['kbit_s_wire']} | {row['delay_ms']} | "
            f"{row['recovered']} | {row['concealed']} | {row['noise']} | "
            f"{np.mean(scores):.2f} | {np.mean(clear):.2f} |",
            flush=True,
        )


main()
