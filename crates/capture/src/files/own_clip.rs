//! How clips that this program has written are told from those of others.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

/// Name of the video track in MP4 files of this program.
pub(crate) const HANDLER_NAME: &[u8] = b"Feathercall\0";
/// First bytes of an MP4 file of this program: its brands.
const MP4_BRANDS: &[u8] = b"\0\0\0\x24ftypisom\0\0\x02\0isomiso2iso6avc1mp41";
/// While it grows: room for the header that makes it complete.
const GROWING: &[u8] = b"\0\0\0\x10free";
/// Rest of the first line of a Y4M file of this program, after size and rate.
const Y4M_FORMAT: &[u8] = b" Ip A1:1 C444 XCOLORRANGE=LIMITED";
/// Contents of the `LIST` chunk in WAV files of this program: its name as the software.
pub(crate) const WAV_SOFTWARE: &[u8] = b"INFOISFT\x0c\0\0\0Feathercall\0";
/// Name of the file of the sound in a folder of pictures.
pub(crate) const SOUND_NAME: &str = "sound.wav";
/// Bytes that are read of a file.
const START_BYTES: u64 = 4096;

/// Returns whether a file is a clip that this program has written, complete or not. Folders are
/// never replaced, so they need not be recognized.
pub fn is_own_clip(path: &Path) -> bool {
    let start = start_of(path);
    let mut windows = start.windows(HANDLER_NAME.len());
    let is_mp4 = start.starts_with(MP4_BRANDS) && windows.any(|window| window == HANDLER_NAME);
    let line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    is_mp4 || is_wav(&start) || (line.starts_with(b"YUV4MPEG2 W") && line.ends_with(Y4M_FORMAT))
}

fn is_wav(start: &[u8]) -> bool {
    let mut windows = start.windows(WAV_SOFTWARE.len());
    start.starts_with(b"RIFF") && windows.any(|window| window == WAV_SOFTWARE)
}

/// Returns whether a file or folder with a temporary name has the contents of a clip that was not
/// completed: somebody's film may be called `holiday.part-2.mp4`.
pub(crate) fn is_growing_clip(path: &Path) -> bool {
    if path.is_dir() {
        let Ok(entries) = fs::read_dir(path) else { return false };
        return entries.flatten().all(|entry| {
            let name = entry.file_name();
            let is_sound = name == SOUND_NAME;
            let number = name.to_str().and_then(|name| name.strip_suffix(".png"));
            is_sound
                || number.is_some_and(|n| n.len() >= 6 && n.bytes().all(|c| c.is_ascii_digit()))
        });
    }
    let is_empty = path.metadata().is_ok_and(|about| about.len() == 0);
    let start = start_of(path);
    let is_growing_mp4 = || start.strip_prefix(MP4_BRANDS).is_some_and(|b| b.starts_with(GROWING));
    is_empty
        || match path.extension().and_then(|extension| extension.to_str()) {
            Some("y4m") => start.starts_with(b"YUV4MPEG2 "),
            Some("wav") => is_wav(&start),
            _ => is_growing_mp4(),
        }
}

/// Returns the first bytes of a file; none if it cannot be read.
fn start_of(path: &Path) -> Vec<u8> {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(START_BYTES).read_to_end(&mut start));
    if read.is_ok() { start } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClipWriter;
    use crate::test_clips::{Folder, picture};

    #[test]
    fn clips_of_this_program_are_told_from_others() {
        let folder = Folder::new("own-clip");
        for name in ["a.mp4", "a.y4m"] {
            let mut writer = ClipWriter::create(&folder.join(name), 25).unwrap();
            writer.push(&picture(0, 32, 32)).unwrap();
            writer.finish().unwrap();
            assert!(is_own_clip(&folder.join(name)), "{name}");
        }
        let film = b"\0\0\0\x24ftypisom\0\0\x02\0isomiso2iso6avc1mp41\0\0\0\x10free";
        let raw = b"YUV4MPEG2 W64 H64 F25:1 Ip A0:0 C420jpeg XYSCSS=420JPEG\nFRAME\n";
        for (name, contents) in [
            ("film.mp4", &film[..]),
            ("raw.y4m", raw),
            ("notes.y4m", b" Ip A1:1 C444 XCOLORRANGE=LIMITED\n"),
            ("empty.mp4", b""),
        ] {
            fs::write(folder.join(name), contents).unwrap();
            assert!(!is_own_clip(&folder.join(name)), "{name}");
        }
        assert!(!is_own_clip(&folder.join("missing.mp4")) && !is_own_clip(&folder.0));
    }
}
