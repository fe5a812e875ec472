//! Orientation and pixel aspect ratio.

use std::fs;
use std::path::Path;

use crate::made::{Folder, frames, make, mean_difference, reference, to_rgb};

/// Overwrites the display matrix of the video track, `[a, b, c, d]`.
fn set_matrix(path: &Path, matrix: [i32; 4]) {
    let mut bytes = fs::read(path).unwrap();
    let header = bytes.windows(4).position(|w| w == b"tkhd").unwrap() + 4;
    for (place, value) in [0, 4, 12, 16].into_iter().zip(matrix) {
        let at = header + 40 + place;
        bytes[at..at + 4].copy_from_slice(&(value << 16).to_be_bytes());
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn clips_are_upright_and_round_as_in_ffmpeg() {
    let folder = Folder::new("orientation");
    let path = folder.join("clip.mp4");
    let turns = [
        [1, 0, 0, 1],
        [0, 1, -1, 0],
        [-1, 0, 0, -1],
        [0, -1, 1, 0],
        [-1, 0, 0, 1],
        [1, 0, 0, -1],
        [0, 1, 1, 0],
        [0, -1, -1, 0],
    ];
    // Gray, because ffmpeg turns pictures before it converts them, with their chroma in the wrong place.
    for (aspect, side) in [("1", 96), ("2/1", 96), ("2/3", 128), ("12/11", 96)] {
        for matrix in turns {
            make(
                &path,
                &format!(
                    "-f lavfi -i testsrc2=s=128x96:r=5:d=0.4,format=gray,setsar={aspect} -c:v libx264 -crf 5 -pix_fmt yuv420p"
                ),
            );
            set_matrix(&path, matrix);
            let exact = to_rgb("170m", "limited");
            let square = r"scale=w=if(gt(sar\,1)\,iw*sar\,iw):h=if(lt(sar\,1)\,ih/sar\,ih)";
            let filter = format!("{exact},{square},crop={side}:{side}");
            let want = reference(&path, &filter, side);
            let got = frames(&path);
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                assert_eq!(got.side(), side, "aspect {aspect}");
                let error = mean_difference(got.rgb(), want);
                // Resampling filters differ a little, and a crop may be off by half a pixel.
                let bound = if aspect == "1" { 1.0 } else { 6.0 };
                assert!(error < bound, "{matrix:?}, aspect {aspect}: {error:.2} levels");
            }
        }
    }
}

#[test]
fn the_bitstream_tells_the_aspect_ratio_if_the_container_does_not() {
    let folder = Folder::new("aspect");
    let path = folder.join("clip.mp4");
    make(&path, "-f lavfi -i testsrc2=s=64x128:r=5:d=0.4,setsar=2/1 -c:v libx264 -pix_fmt yuv420p");
    assert_eq!(frames(&path)[0].side(), 128);
    let mut bytes = fs::read(&path).unwrap();
    let pasp = bytes.windows(4).position(|w| w == b"pasp").unwrap();
    bytes[pasp..pasp + 4].copy_from_slice(b"free");
    fs::write(&path, &bytes).unwrap();
    // Now the size in the track header tells it; then only the bitstream.
    assert_eq!(frames(&path)[0].side(), 128);
    let size = bytes.windows(4).position(|w| w == b"tkhd").unwrap() + 4 + 76;
    bytes[size..size + 4].copy_from_slice(&(64_u32 << 16).to_be_bytes());
    fs::write(&path, &bytes).unwrap();
    assert_eq!(frames(&path)[0].side(), 128);
}
