/// The numbers of a `.npz` file's first array: little-endian f32, row-major, stored or deflated.
///
/// `None` if the file is something else or cut short.
///
/// # Source
/// `NumPy`'s format version 1.0 (numpy.lib.format) in a zip (PKWARE APPNOTE 4.3).
pub fn floats_of_npz(zip: &[u8]) -> Option<Vec<f32>> {
    let u16_at = |at: usize| Some(u16::from_le_bytes(*zip.get(at..)?.first_chunk()?));
    let is_zip = zip.starts_with(b"PK\x03\x04");
    let data = zip.get(30 + usize::from(u16_at(26)?) + usize::from(u16_at(28)?)..)?;
    let npy = match u16_at(8)? {
        0 => data.to_vec(),
        _ => miniz_oxide::inflate::decompress_to_vec(data).ok()?,
    };
    let header = 10 + usize::from(u16::from_le_bytes(*npy.get(8..)?.first_chunk()?));
    let text = String::from_utf8_lossy(npy.get(..header)?).into_owned();
    let plain = text.contains("'<f4'") && text.contains("'fortran_order': False");
    (is_zip && plain)
        .then(|| npy[header..].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_archive_or_cut_short_gives_nothing() {
        for bytes in [&b""[..], b"PK\x03\x04", &[0; 64]] {
            assert_eq!(floats_of_npz(bytes), None);
        }
    }

    #[test]
    fn a_deflated_array_is_read() {
        let header =
            b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }";
        let mut npy = header.to_vec();
        npy.resize(10 + 0x46, b' ');
        npy.extend([1.5_f32, -2.0].iter().flat_map(|v| v.to_le_bytes()));
        let mut zip = b"PK\x03\x04".to_vec();
        zip.resize(30, 0);
        zip[8] = 8; // deflated
        zip[26] = 1; // length of its name
        zip.push(b'a');
        zip.extend(miniz_oxide::deflate::compress_to_vec(&npy, 6));
        assert_eq!(floats_of_npz(&zip), Some(vec![1.5, -2.0]));
    }
}
