//! A `NumPy` archive with one array, written by hand: a stored zip with one `.npy` inside.

use types::{LANDMARKS, Landmarks};

/// `landmarks.npy` of shape `[frames, 478, 3]`, float32, NaN where no face was found, in a `.npz`.
///
/// # Source
/// `NumPy`'s format version 1.0 (numpy.lib.format) in a zip without compression (PKWARE APPNOTE
/// 4.3).
pub fn npz_of_landmarks(frames: &[Option<Landmarks>]) -> Vec<u8> {
    let mut header = format!(
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {LANDMARKS}, 3), }}",
        frames.len()
    );
    // Magic, version and length take ten bytes; the header ends a multiple of 64 with a newline.
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut npy = b"\x93NUMPY\x01\x00".to_vec();
    npy.extend((header.len() as u16).to_le_bytes());
    npy.extend(header.as_bytes());
    for frame in frames {
        match frame {
            Some(landmarks) => {
                npy.extend(landmarks.points.iter().flatten().flat_map(|v| v.to_le_bytes()));
            }
            None => {
                npy.extend(std::iter::repeat_n(f32::NAN.to_le_bytes(), LANDMARKS * 3).flatten());
            }
        }
    }
    stored_zip("landmarks.npy", &npy)
}

fn stored_zip(name: &str, data: &[u8]) -> Vec<u8> {
    let size = (data.len() as u32).to_le_bytes();
    // Version 2.0, no flags, stored, midnight of 1 January 1980.
    let mut common = vec![20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0];
    common.extend(crc32(data).to_le_bytes());
    common.extend([size, size].concat());
    common.extend((name.len() as u16).to_le_bytes());
    common.extend([0, 0]);

    let mut zip = b"PK\x03\x04".to_vec();
    zip.extend(&common);
    zip.extend(name.as_bytes());
    zip.extend(data);
    let directory_at = zip.len() as u32;
    zip.extend(b"PK\x01\x02\x14\x00");
    zip.extend(&common);
    // No comment, disk 0, no attributes, local header at 0.
    zip.extend([0; 14]);
    zip.extend(name.as_bytes());
    let directory_size = zip.len() as u32 - directory_at;
    zip.extend(b"PK\x05\x06\x00\x00\x00\x00\x01\x00\x01\x00");
    zip.extend(directory_size.to_le_bytes());
    zip.extend(directory_at.to_le_bytes());
    zip.extend([0, 0]);
    zip
}

fn crc32(data: &[u8]) -> u32 {
    let table: [u32; 256] = std::array::from_fn(|i| {
        (0..8).fold(i as u32, |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 })
    });
    !data.iter().fold(u32::MAX, |c, &byte| table[((c ^ u32::from(byte)) & 255) as usize] ^ c >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_zip_files() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn an_archive_says_its_shape_and_holds_the_numbers() {
        let one = Landmarks::exact(vec![[1.5; 3]; LANDMARKS]);
        let bytes = npz_of_landmarks(&[Some(one), None]);
        let text = String::from_utf8_lossy(&bytes[..200]).into_owned();
        assert!(text.contains("'shape': (2, 478, 3)"), "{text}");
        // Local header, name, then 128 bytes of array header.
        let data = &bytes[30 + 13 + 128..];
        assert_eq!(data[..4], 1.5_f32.to_le_bytes());
        let second = LANDMARKS * 12;
        assert_eq!(data[second..second + 4], f32::NAN.to_le_bytes());
    }
}
