//! Reading of whole files and lines up to a limit.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Reads a file of at most `limit` bytes. A longer one is refused before anything is read, and one
/// that grows meanwhile, or a pipe, behind the limit.
///
/// # Errors
/// If the file cannot be read, or is longer ([`io::ErrorKind::FileTooLarge`]).
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    let mut bytes = Vec::new();
    if length <= limit {
        file.take(limit + 1).read_to_end(&mut bytes)?;
    }
    if length.max(bytes.len() as u64) <= limit { Ok(bytes) } else { Err(too_large(limit)) }
}

/// Reads a line of at most `limit` bytes, and returns it without white space at either end.
///
/// # Errors
/// If the line cannot be read, is not text, or is longer ([`io::ErrorKind::FileTooLarge`]).
///
/// # Examples
/// ```
/// let line = capture::read_line(&b"an answer\r\nmore"[..], 100)?;
/// assert_eq!(line, "an answer");
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn read_line(input: impl BufRead, limit: u64) -> io::Result<String> {
    let mut line = String::new();
    input.take(limit + 1).read_line(&mut line)?;
    if line.len() as u64 > limit { Err(too_large(limit)) } else { Ok(line.trim().to_owned()) }
}

fn too_large(limit: u64) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clips::Folder;

    #[test]
    fn a_file_is_read_up_to_the_limit_and_refused_beyond() {
        let folder = Folder::new("bounded-read");
        let path = folder.join("file");
        std::fs::write(&path, [7; 100]).unwrap();
        assert_eq!(read_file(&path, 100).unwrap(), [7; 100]);
        assert_eq!(read_file(&path, 99).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        // A file of a terabyte, which takes no space on disk.
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let error = read_file(&path, 1 << 20).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 1048576 bytes");
    }

    #[cfg(unix)]
    #[test]
    fn a_device_without_an_end_is_refused() {
        let error = read_file(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_line_without_an_end_is_refused() {
        let endless = io::BufReader::new(io::repeat(b'a'));
        assert_eq!(read_line(endless, 1000).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_line(&b""[..], 1000).unwrap(), "");
    }
}
