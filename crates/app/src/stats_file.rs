//! The file of `--stats`.

use std::fs::File;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use capture::WriteError;
use serde::Serialize;

/// Statistics, one JSON object a line. What an earlier call left stays until the first line. The file
/// can be read while it grows, and holds whole lines only.
pub(crate) struct StatsFile {
    path: PathBuf,
    file: File,
    /// Whether it is a file, not a device or a pipe.
    is_regular: bool,
    /// Length of the lines written, bytes.
    length: u64,
}

impl StatsFile {
    /// Opens the file, or creates it.
    ///
    /// # Errors
    /// As for [`capture::open_private`].
    pub(crate) fn open(path: &Path) -> Result<Self, WriteError> {
        let file = capture::open_private(path)?;
        let is_regular = file.metadata().is_ok_and(|about| about.is_file());
        Ok(Self { path: path.to_owned(), file, is_regular, length: 0 })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// If it cannot be written, as on a full disk. Nothing of it is then in the file.
    pub(crate) fn append(&mut self, row: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(row)? + "\n";
        let written = self.write(line.as_bytes());
        if written.is_err() {
            // There is nothing more to do if that fails, too.
            let _ = self.cut();
        }
        Ok(written.map_err(WriteError::io(&self.path))?)
    }

    fn write(&mut self, line: &[u8]) -> std::io::Result<()> {
        if self.length == 0 {
            self.cut()?;
        }
        self.file.write_all(line)?;
        self.length += line.len() as u64;
        Ok(())
    }

    /// Removes everything behind the lines written.
    fn cut(&mut self) -> std::io::Result<()> {
        if self.is_regular {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn an_earlier_file_stays_until_the_first_line() {
        let path = std::env::temp_dir().join(format!("stats-{}.jsonl", std::process::id()));
        fs::write(&path, "{\"call_s\": a long line of an earlier call}\n").unwrap();
        let before = fs::read(&path).unwrap();
        let mut stats = StatsFile::open(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        stats.append(&1).unwrap();
        stats.append(&"two").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n\"two\"\n");
        fs::remove_file(path).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_line_that_does_not_fit_is_reported() {
        let mut stats = StatsFile::open("/dev/full".as_ref()).unwrap();
        let error = stats.append(&1).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /dev/full: the disk is full"), "{error}");
    }
}
