//! What a clip holds, by the program `ffprobe`.

use std::cmp::Reverse;
use std::io::{self, Read};
use std::path::Path;

use serde::Deserialize;
use types::MAX_FRAME_SIDE;

use crate::ffmpeg::pixel_format::PixelFormat;
use crate::ffmpeg::process::{Outcome, Program, Tools};
use crate::picture::ColorTags;
use crate::picture::{DisplayMatrix, Geometry, pixel_aspect};

/// Packets that are read to find the frame rate.
const PACKETS: &str = "%+#120";
/// Latest start of a clip whose container counts from its beginning, microseconds.
const MAX_START_US: i64 = 60_000_000;
/// Longest description that is read, bytes.
const MAX_OUTPUT: u64 = 4 << 20;
/// Containers whose times may jump, so that `ffmpeg` treats them in its own way.
const LOOSE: [&str; 3] = ["mpeg", "ogg", "nut"];
/// What is asked about a clip.
const ENTRIES: &str = "stream=index,codec_type,codec_name,pix_fmt,width,height,sample_aspect_ratio,\
    color_range,color_space,color_transfer,color_primaries,chroma_location,field_order,avg_frame_rate,\
    channels:stream_side_data=displaymatrix:stream_disposition=default,attached_pic,timed_thumbnails,still_image\
    :format=format_name,start_time:packet=stream_index,pts_time";

/// The streams of a clip that are played.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) video: Option<VideoStream>,
    pub(crate) sound: Option<SoundStream>,
    /// Earliest time in the clip, microseconds. `ffmpeg` subtracts it from all times.
    pub(crate) start_us: i64,
    /// Whether `ffmpeg` subtracts the earliest time of the streams that it is asked for instead.
    pub(crate) has_loose_start: bool,
}

/// A stream of pictures.
#[derive(Clone, Debug)]
pub(crate) struct VideoStream {
    pub(crate) index: u32,
    /// Layout of its pixels, in the name of `ffmpeg`.
    pub(crate) pixel_format: String,
    pub(crate) color: ColorTags,
    /// Whether the samples of halved chroma are in the middle of their pixels.
    pub(crate) has_centered_chroma: bool,
    pub(crate) geometry: Geometry,
    pub(crate) is_interlaced: bool,
    /// Frames per second, rounded.
    pub(crate) fps: u32,
}

/// A stream of sound.
#[derive(Clone, Debug)]
pub(crate) struct SoundStream {
    pub(crate) index: u32,
    pub(crate) n_channels: u32,
}

impl Probe {
    /// Returns arguments by which `ffmpeg` reads another stream too, and throws it away: so the earliest time
    /// that it subtracts is that of the clip, whichever stream it decodes.
    pub(crate) fn beside(&self, other: Option<u32>) -> Vec<String> {
        let other = other.filter(|_| self.has_loose_start);
        let discard = |index| {
            ["-map", &format!("0:{index}"), "-c", "copy", "-f", "null", "-"].map(str::to_owned)
        };
        other.map_or_else(Vec::new, |index| discard(index).to_vec())
    }

    /// Converts a time of `ffmpeg`'s output, microseconds, to media time. Time zero is that of the container, as
    /// `ffprobe` shows it, unless that is far away, as in a broadcast; then it is the start of the clip.
    pub(crate) fn media_us(&self, micros: i64) -> i64 {
        let is_near = self.start_us.abs() < MAX_START_US;
        if is_near { micros.saturating_add(self.start_us) } else { micros }
    }
}

/// Why there is no description of a clip.
#[derive(Debug)]
pub(crate) enum ProbeError {
    /// There is no `ffprobe` on the `PATH`.
    NoProgram,
    /// It does not know the format, or finds damage; its message.
    Unreadable(String),
}

/// Asks `ffprobe` about a clip.
pub(crate) fn probe(tools: &Tools, path: &Path) -> Result<Probe, ProbeError> {
    let before = ["-show_entries", ENTRIES, "-read_intervals", PACKETS, "-of", "json=compact=1"];
    let (mut program, stdout) =
        Program::start(&tools.ffprobe, &before, path, &[]).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ProbeError::NoProgram,
            _ => ProbeError::Unreadable(error.to_string()),
        })?;
    let mut output = Vec::new();
    let read = stdout.take(MAX_OUTPUT).read_to_end(&mut output);
    let outcome = program.finish();
    if let Some(failure) = outcome.failure() {
        return Err(ProbeError::Unreadable(failure));
    }
    let unreadable = |error: &dyn ToString, outcome: &Outcome| {
        ProbeError::Unreadable(
            outcome.last_message().map_or_else(|| error.to_string(), str::to_owned),
        )
    };
    read.map_err(|error| unreadable(&error, &outcome))?;
    let answer: Answer =
        serde_json::from_slice(&output).map_err(|error| unreadable(&error, &outcome))?;
    Ok(answer.into_probe())
}

/// The answer of `ffprobe`, as it writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    packets: Vec<Packet>,
    streams: Vec<Stream>,
    format: Format,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Packet {
    stream_index: u32,
    pts_time: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stream {
    index: u32,
    codec_type: String,
    codec_name: String,
    pix_fmt: String,
    width: u32,
    height: u32,
    sample_aspect_ratio: String,
    color_range: String,
    color_space: String,
    color_transfer: String,
    color_primaries: String,
    chroma_location: String,
    field_order: String,
    avg_frame_rate: String,
    channels: u32,
    disposition: Disposition,
    side_data_list: Vec<SideData>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Disposition {
    default: u8,
    attached_pic: u8,
    timed_thumbnails: u8,
    still_image: u8,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct SideData {
    displaymatrix: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Format {
    format_name: String,
    start_time: String,
}

impl Answer {
    fn into_probe(self) -> Probe {
        let video = self.streams.iter().filter(|s| s.is_video()).max_by_key(|s| s.rank());
        let sound =
            self.streams.iter().filter(|s| s.codec_type == "audio").max_by_key(|s| s.rank());
        let start = seconds(&self.format.start_time).unwrap_or(0.0);
        Probe {
            video: video.map(|stream| VideoStream {
                index: stream.index,
                pixel_format: stream.pix_fmt.clone(),
                color: stream.color_tags(),
                has_centered_chroma: stream.has_centered_chroma(),
                geometry: stream.geometry(),
                is_interlaced: matches!(&*stream.field_order, "tt" | "bb" | "tb" | "bt"),
                fps: self.fps(stream),
            }),
            sound: sound.map(|s| SoundStream { index: s.index, n_channels: s.channels }),
            start_us: (start * 1e6).round() as i64,
            has_loose_start: LOOSE.iter().any(|name| self.format.format_name.contains(name)),
        }
    }

    /// Returns the frame rate by the median interval between packets, or what the stream says.
    fn fps(&self, stream: &Stream) -> u32 {
        let packets = self.packets.iter().filter(|p| p.stream_index == stream.index);
        let mut times: Vec<f64> = packets.filter_map(|p| seconds(&p.pts_time)).collect();
        times.sort_by(f64::total_cmp);
        let mut steps: Vec<f64> =
            times.windows(2).map(|w| w[1] - w[0]).filter(|step| *step > 0.0).collect();
        steps.sort_by(f64::total_cmp);
        let rate = match steps.get(steps.len() / 2) {
            Some(step) => 1.0 / step,
            None => fraction(&stream.avg_frame_rate).unwrap_or(25.0),
        };
        (rate.round() as u32).clamp(1, 1000)
    }
}

impl Stream {
    /// Returns whether these are moving pictures and not a cover or another attached picture, of a size that is
    /// read.
    fn is_video(&self) -> bool {
        let other = &self.disposition;
        let is_picture = other.attached_pic + other.timed_thumbnails + other.still_image > 0;
        let sides = 1..=MAX_FRAME_SIDE;
        let is_fitting = sides.contains(&self.width) && sides.contains(&self.height);
        self.codec_type == "video" && !is_picture && is_fitting
    }

    /// Returns the tags as code points of ITU-T H.273.
    fn color_tags(&self) -> ColorTags {
        let code = |name: &str, names: &[(&str, u8)]| {
            names.iter().find(|(known, _)| *known == name).map_or(2, |(_, code)| *code)
        };
        let full_by_name = PixelFormat::is_full_by_name(&self.pix_fmt).then_some(true);
        ColorTags {
            primaries: code(&self.color_primaries, PRIMARIES),
            transfer: code(&self.color_transfer, TRANSFERS),
            matrix: code(&self.color_space, MATRICES),
            full_range: match &*self.color_range {
                "pc" | "full" | "jpeg" => Some(true),
                "tv" | "limited" | "mpeg" => Some(false),
                _ => full_by_name,
            },
        }
    }

    fn has_centered_chroma(&self) -> bool {
        match &*self.chroma_location {
            "center" => true,
            "" | "unknown" | "unspecified" => matches!(&*self.codec_name, "mjpeg" | "mpeg1video"),
            _ => false,
        }
    }

    fn geometry(&self) -> Geometry {
        let matrix =
            self.side_data_list.iter().find_map(|data| display_matrix(&data.displaymatrix));
        let aspect = self
            .sample_aspect_ratio
            .split_once(':')
            .and_then(|(width, height)| pixel_aspect(width.parse().ok()?, height.parse().ok()?));
        let turned = matrix.map_or_else(Geometry::default, Geometry::of_matrix);
        Geometry { pixel_aspect: aspect.or(turned.pixel_aspect), ..turned }
    }

    /// Ranks streams of a kind: the default one first, then the largest, then the first.
    fn rank(&self) -> (u8, u64, Reverse<u32>) {
        let area = u64::from(self.width) * u64::from(self.height);
        (self.disposition.default, area, Reverse(self.index))
    }
}

/// Code points of ITU-T H.273 by the names that `ffprobe` gives them.
const PRIMARIES: &[(&str, u8)] = &[
    ("bt709", 1),
    ("bt470m", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("film", 8),
    ("bt2020", 9),
    ("smpte428", 10),
    ("smpte431", 11),
    ("smpte432", 12),
];
const TRANSFERS: &[(&str, u8)] = &[("bt709", 1), ("smpte2084", 16), ("arib-std-b67", 18)];
const MATRICES: &[(&str, u8)] = &[
    ("bt709", 1),
    ("fcc", 4),
    ("bt470bg", 5),
    ("smpte170m", 6),
    ("smpte240m", 7),
    ("bt2020nc", 9),
    ("bt2020c", 10),
];

/// Parses a display matrix: three lines of three numbers, of which the first two lines and columns turn.
fn display_matrix(text: &str) -> Option<DisplayMatrix> {
    let rows = text.lines().filter_map(|line| line.split_once(':'));
    let numbers = rows.flat_map(|(_, row)| row.split_whitespace());
    let numbers: Vec<f64> = numbers.map_while(|n| n.parse().ok()).collect();
    let [a, b, _, c, d, ..] = numbers[..] else { return None };
    Some([a, b, c, d].map(|v| v / 65536.0))
}

fn seconds(text: &str) -> Option<f64> {
    text.parse().ok().filter(|seconds: &f64| seconds.is_finite())
}

/// Parses a fraction; `None` unless it is positive.
fn fraction(text: &str) -> Option<f64> {
    let (num, den) = text.split_once('/')?;
    let value = seconds(num)? / seconds(den)?;
    (value.is_finite() && value > 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe_of(json: &str) -> Probe {
        serde_json::from_str::<Answer>(json).unwrap().into_probe()
    }

    #[test]
    fn the_cover_is_not_the_video_and_the_default_stream_comes_first() {
        let probe = probe_of(
            r#"{"streams": [
                {"index": 0, "codec_type": "audio", "channels": 2, "disposition": {"default": 0}},
                {"index": 1, "codec_type": "video", "width": 4000, "height": 4000,
                 "disposition": {"default": 1, "attached_pic": 1}},
                {"index": 2, "codec_type": "video", "width": 1920, "height": 1080},
                {"index": 3, "codec_type": "video", "width": 640, "height": 480,
                 "disposition": {"default": 1}},
                {"index": 4, "codec_type": "audio", "channels": 6, "disposition": {"default": 1}},
                {"index": 5, "codec_type": "audio", "channels": 2, "disposition": {"default": 1}}]}"#,
        );
        assert_eq!(probe.video.unwrap().index, 3);
        assert_eq!(probe.sound.unwrap().index, 4);
        let cover = r#"{"streams": [{"codec_type": "video", "width": 9, "height": 9,
            "disposition": {"attached_pic": 1}}]}"#;
        assert!(probe_of(cover).video.is_none());
    }

    #[test]
    fn the_frame_rate_is_that_of_the_packets() {
        let packets: Vec<String> = [0.0, 0.04, 0.12, 0.08, 0.16, 0.9]
            .map(|t| format!(r#"{{"stream_index": 0, "pts_time": "{t:.6}"}}"#))
            .to_vec();
        let answer = |packets: &str, rate: &str| {
            let stream = format!(
                r#"{{"codec_type": "video", "width": 9, "height": 9, "avg_frame_rate": "{rate}"}}"#
            );
            probe_of(&format!(r#"{{"packets": [{packets}], "streams": [{stream}]}}"#))
                .video
                .unwrap()
        };
        assert_eq!(answer(&packets.join(","), "1000/1").fps, 25);
        assert_eq!(answer("", "30000/1001").fps, 30);
        assert_eq!(answer("", "0/0").fps, 25);
    }

    #[test]
    fn a_turned_stream_of_wide_pixels_is_described_as_one() {
        let probe = probe_of(
            r#"{"streams": [{"codec_type": "video", "width": 9, "height": 9, "sample_aspect_ratio": "4:3",
            "side_data_list": [{}, {"displaymatrix":
            "\n00000000:  0  65536  0\n00000001:  -65536  0  0\n00000002:  0  0  1073741824\n"}]}]}"#,
        );
        let want = Geometry::of_matrix([0.0, 1.0, -1.0, 0.0]);
        let want = Geometry { pixel_aspect: Some(4.0 / 3.0), ..want };
        assert_eq!(probe.video.unwrap().geometry, want);
        let other = r#"{"streams": [{"codec_type": "video", "width": 9, "height": 9,
            "sample_aspect_ratio": "N/A", "side_data_list": [{"displaymatrix": "no"}]}]}"#;
        assert_eq!(probe_of(other).video.unwrap().geometry, Geometry::default());
    }
}
