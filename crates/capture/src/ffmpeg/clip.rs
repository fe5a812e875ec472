//! Clips in other formats, decoded by the `ffmpeg` program if it is installed.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use std::process::ChildStdout;
use std::time::Duration;

use types::{Frame, MediaTime};

use crate::errors::{OpenError, ReadError};
use crate::ffmpeg::ffprobe::{Probe, ProbeError, VideoStream, probe};
use crate::ffmpeg::nut::NutReader;
use crate::ffmpeg::pixel_format::PixelFormat;
use crate::ffmpeg::process::{Program, Tools};

/// Running `ffmpeg` process that decodes a clip into a pipe, each frame once and with its own time.
///
/// It delivers the planes of the clip, which are converted here as those of other clips are. Frames of a stream that
/// changes its size have the size of the first.
pub(crate) struct FfmpegClip {
    program: Program,
    reader: NutReader<BufReader<ChildStdout>>,
    probe: Probe,
    video: VideoStream,
    format: PixelFormat,
    bytes: Vec<u8>,
    n_frames: u64,
    /// Time of the newest frame.
    newest: Duration,
    ended: bool,
    /// Whether the file is an AVI file without its end, which `ffmpeg` does not mind.
    is_short_avi: bool,
}

impl FfmpegClip {
    /// Starts `ffmpeg` and waits until the first frame is decoded.
    ///
    /// # Errors
    /// If there is no `ffmpeg`, or it cannot read the clip or finds no moving pictures in it.
    pub(crate) fn open(path: &Path) -> Result<Self, OpenError> {
        Self::open_with(&Tools::default(), path)
    }

    fn open_with(tools: &Tools, path: &Path) -> Result<Self, OpenError> {
        let path_of = || path.to_owned();
        let says = |message| OpenError::Ffmpeg { path: path_of(), message };
        let probe = probe(tools, path).map_err(|error| match error {
            ProbeError::NoProgram => OpenError::NoFfmpeg { path: path_of() },
            ProbeError::Unreadable(message) => says(message),
        })?;
        let Some(video) = probe.video.clone() else {
            return Err(OpenError::NoVideo { path: path_of() });
        };
        let format = PixelFormat::for_source(&video.pixel_format, video.has_centered_chroma);
        let map = format!("0:{}", video.index);
        let mut after = vec!["-map", &map, "-pix_fmt", &format.name];
        if video.is_interlaced {
            // Two fields that were taken at different times would make combs.
            after.extend(["-vf", "yadif=deint=interlaced"]);
        }
        // The time base of the encoder is that of our media time; by default it would be the frame rate, to
        // which `ffmpeg` rounds.
        after.extend(["-c:v", "rawvideo", "-enc_time_base", "1/1000000", "-f", "nut", "-"]);
        let beside = probe.beside(probe.sound.as_ref().map(|sound| sound.index));
        after.extend(beside.iter().map(String::as_str));
        // The matrix is applied here.
        let before = ["-nostdin", "-noautorotate"];
        let (mut program, stdout) = Program::start(&tools.ffmpeg, &before, path, &after)
            .map_err(|_| OpenError::NoFfmpeg { path: path_of() })?;
        let reader = NutReader::new(BufReader::with_capacity(1 << 20, stdout))
            .map_err(|error| says(program.explain(&error)))?;
        Ok(Self {
            program,
            reader,
            probe,
            video,
            format,
            bytes: Vec::new(),
            n_frames: 0,
            newest: Duration::ZERO,
            ended: false,
            is_short_avi: is_short_avi(path).unwrap_or(false),
        })
    }

    pub(crate) fn fps(&self) -> u32 {
        self.video.fps
    }

    /// Returns whether the clip has sound too.
    pub(crate) fn has_sound(&self) -> bool {
        self.probe.sound.is_some()
    }

    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        match self.reader.next_frame(&mut self.bytes) {
            Ok(Some(micros)) => {
                let micros = self.probe.media_us(micros).max(0) as u64;
                self.newest = Duration::from_micros(micros);
                self.n_frames += 1;
                self.frame().map(Some)
            }
            Ok(None) => {
                self.ended = true;
                self.check_end()
            }
            Err(error) => {
                self.ended = true;
                let why = self.program.explain(&error);
                Err(ReadError::CutShort { why: format!("ffmpeg says: {why}") })
            }
        }
    }

    /// Returns the frame whose pixels were read last.
    fn frame(&mut self) -> Result<Frame, ReadError> {
        let (width, height) = self.reader.size();
        let rgb = match self.format.planes {
            None => std::mem::take(&mut self.bytes),
            Some(layout) => {
                let color = self.video.color.space(width, height);
                let size = (width as usize, height as usize);
                let planes = layout.planes(&self.bytes, size, color);
                planes.ok_or(ReadError::Corrupt { at: self.n_frames })?.to_rgb()
            }
        };
        let frame = Frame::new(width, height, MediaTime::ZERO + self.newest, rgb)?;
        Ok(self.video.geometry.apply(frame)?)
    }

    /// Returns the error of a clip that did not end where it should.
    fn check_end(&mut self) -> Result<Option<Frame>, ReadError> {
        let outcome = self.program.finish();
        let early = || outcome.early_end().map(str::to_owned);
        if let Some(why) = outcome.failure().or_else(early) {
            return Err(ReadError::CutShort { why: format!("ffmpeg says: {why}") });
        }
        if self.is_short_avi {
            return Err(ReadError::CutShort { why: "the file is shorter than it says".to_owned() });
        }
        Ok(None)
    }
}

/// Returns whether a file is an AVI file that is shorter than its first box says.
fn is_short_avi(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    let mut header = [0; 12];
    file.read_exact(&mut header)?;
    let [.., a, b, c, d, _, _, _, _] = header;
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    let is_avi = header.starts_with(b"RIFF") && header.ends_with(b"AVI ");
    Ok(is_avi && length + 8 > file.metadata()?.len() && length < u64::from(u32::MAX))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;
    use crate::test_clips::Folder;

    /// Makes a clip of 50 frames, each of 6000 bytes once it is decoded.
    fn clip(folder: &Folder, name: &str) -> std::path::PathBuf {
        let path = folder.join(name);
        let source = ["-f", "lavfi", "-i", "testsrc2=s=80x50:r=25:d=2", "-c:v", "mpeg4", "-y"];
        let made = Command::new("ffmpeg").args(["-v", "error"]).args(source).arg(&path).status();
        assert!(made.expect("ffmpeg, which `cargo xtask setup` installs").success());
        path
    }

    /// Reads a clip with an `ffmpeg` that is a shell script, and returns the number of frames and the error.
    fn read_by(folder: &Folder, script: &str, path: &Path) -> (u64, Option<String>) {
        let ffmpeg = folder.join("ffmpeg.sh");
        fs::write(&ffmpeg, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&ffmpeg, fs::Permissions::from_mode(0o755)).unwrap();
        let tools = Tools { ffmpeg, ..Tools::default() };
        let mut clip = match FfmpegClip::open_with(&tools, path) {
            Ok(clip) => clip,
            Err(error) => return (0, Some(error.to_string())),
        };
        let mut n_frames = 0;
        loop {
            match clip.next_frame() {
                Ok(Some(_)) => n_frames += 1,
                Ok(None) => return (n_frames, None),
                Err(error) => {
                    assert!(matches!(clip.next_frame(), Ok(None)), "an error is told once");
                    return (n_frames, Some(error.to_string()));
                }
            }
        }
    }

    #[test]
    fn an_ffmpeg_that_does_not_come_to_its_end_is_an_error_after_its_frames() {
        let folder = Folder::new("ffmpeg-fails");
        let path = clip(&folder, "clip.mkv");
        assert_eq!(read_by(&folder, r#"exec ffmpeg "$@""#, &path), (50, None));
        for (script, n_frames, want) in [
            // In the middle of a frame, between two frames, killed, with an exit code, with a message.
            (r#"ffmpeg "$@" 2>/dev/null | head -c 100000"#, 16, "too early"),
            (r#"ffmpeg "$@" 2>/dev/null | head -c 100000; kill -9 $$"#, 16, "signal"),
            (r#"ffmpeg "$@"; exit 3"#, 50, "exit status: 3"),
            (r#"ffmpeg "$@"; echo Cannot allocate memory >&2; exit 1"#, 50, "allocate memory"),
            ("echo Killed by the owner >&2; exit 1", 0, "Killed by the owner"),
            ("yes", 0, "NUT"),
            ("exit 0", 0, "too early"),
        ] {
            let (n, error) = read_by(&folder, script, &path);
            let error = error.expect(script);
            assert!(n == n_frames && error.contains(want), "{script}: {n} frames, {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn without_ffmpeg_the_error_says_what_to_install() {
        let folder = Folder::new("ffmpeg-missing");
        let path = clip(&folder, "clip.mkv");
        let none = folder.join("none");
        for tools in [
            Tools { ffprobe: none.clone(), ..Tools::default() },
            Tools { ffmpeg: none, ..Tools::default() },
        ] {
            let error = FfmpegClip::open_with(&tools, &path).err().unwrap().to_string();
            assert!(error.contains("clip.mkv: install ffmpeg"), "{error}");
        }
    }

    #[test]
    fn a_file_that_is_cut_short_is_told_from_one_that_ends() {
        let folder = Folder::new("ffmpeg-cut");
        for name in ["clip.mkv", "clip.avi"] {
            let path = clip(&folder, name);
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            let mut clip = FfmpegClip::open(&path).unwrap();
            let mut n_frames = 0;
            let error = loop {
                match clip.next_frame() {
                    Ok(Some(_)) => n_frames += 1,
                    Ok(None) => panic!("{name} ends without an error"),
                    Err(error) => break error,
                }
            };
            let is_cut = matches!(&error, ReadError::CutShort { .. });
            assert!(is_cut && (10..50).contains(&n_frames), "{name}: {n_frames}, {error}");
        }
    }

    #[test]
    fn a_playlist_or_a_list_of_files_opens_nothing_else() {
        let folder = Folder::new("ffmpeg-lists");
        let path = clip(&folder, "clip.mkv");
        let name = path.display();
        for (list, content) in [
            ("list.ffconcat", format!("ffconcat version 1.0\nfile '{name}'\n")),
            (
                "list.m3u8",
                format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{name}\n#EXT-X-ENDLIST\n"),
            ),
            ("list.sdp", "v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n".to_owned()),
            ("concat:clip.mkv", "text".to_owned()),
        ] {
            let path = folder.join(list);
            fs::write(&path, content).unwrap();
            let error = FfmpegClip::open(&path).err().expect(list).to_string();
            assert!(error.contains("not a clip") && error.lines().count() == 1, "{error}");
        }
        let named = folder.join("concat:a|b.mkv");
        fs::copy(&path, &named).unwrap();
        assert!(FfmpegClip::open(&named).is_ok(), "a name is no protocol");
    }
}
