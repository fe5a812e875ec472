//! Clips that `ffmpeg` decodes for us: number and times of their frames, the stream that is shown, orientation.

use std::path::Path;

use capture::{OpenError, Source, SourceSpec};

use crate::made::{Folder, frames, make, mean_difference, probed_times, reference, to_rgb};

/// Three seconds of pictures at uneven times.
const UNEVEN: &str = r"-f lavfi -i testsrc2=s=96x96:r=25:d=3 -vf settb=1/1000,setpts=(N+0.45*mod(N\,4))/25/TB -vsync vfr";

/// Checks that a clip has the frames and times that ffprobe finds, to 1 ms, and returns the times.
fn check_times(path: &Path) -> Vec<i64> {
    let frames = frames(path);
    let times: Vec<i64> = frames.iter().map(|frame| frame.time().as_micros() as i64).collect();
    let want = probed_times(path);
    assert_eq!(times.len(), want.len(), "{}", path.display());
    for (got, want) in times.iter().zip(&want) {
        assert!((got - want).abs() <= 1000, "{}: {got} µs, not {want}", path.display());
    }
    times
}

#[test]
fn each_frame_comes_once_and_at_its_own_time() {
    let folder = Folder::new("times");
    for (name, arguments, n_frames) in [
        // A browser's recording: its time base is a millisecond, its frame rate is not known.
        ("browser.webm", format!("{UNEVEN} -enc_time_base 1/1000 -c:v libvpx -b:v 1M"), 75),
        ("vp9.webm", format!("{UNEVEN} -enc_time_base 1/1000 -c:v libvpx-vp9 -cpu-used 8 -b:v 1M"), 75),
        ("h264.mkv", format!("{UNEVEN} -enc_time_base 1/1000 -c:v libx264 -bf 2"), 75),
        ("hevc.mp4", format!("{UNEVEN} -enc_time_base 1/90000 -c:v libx265 -x265-params log-level=none"), 75),
        ("hevc-steady.mp4", "-f lavfi -i testsrc2=s=96x96:r=30000/1001:d=2 -c:v libx265 -x265-params log-level=none".to_owned(), 60),
        ("vp9.mp4", "-f lavfi -i testsrc2=s=96x96:r=25:d=2 -c:v libvpx-vp9 -cpu-used 8 -b:v 1M".to_owned(), 50),
        ("lossless.mp4", "-f lavfi -i testsrc2=s=96x96:r=25:d=2 -c:v libx264 -qp 0 -pix_fmt yuv420p".to_owned(), 50),
        ("prores.mov", "-f lavfi -i testsrc2=s=96x96:r=24:d=1 -c:v prores_ks".to_owned(), 24),
        ("mpeg4.avi", "-f lavfi -i testsrc2=s=96x96:r=25:d=2 -c:v mpeg4".to_owned(), 50),
        ("old.flv", "-f lavfi -i testsrc2=s=96x96:r=25:d=2 -c:v flv1".to_owned(), 50),
        ("tape.ts", "-f lavfi -i testsrc2=s=96x96:r=25:d=2 -c:v libx264 -bf 2".to_owned(), 50),
        ("loop.gif", "-f lavfi -i testsrc2=s=96x96:r=10:d=2".to_owned(), 20),
        ("late.mkv", "-f lavfi -i testsrc2=s=96x96:r=25:d=2 -c:v libx264 -output_ts_offset 1.5".to_owned(), 50),
        ("deep.y4m", "-f lavfi -i testsrc2=s=96x96:r=25:d=1 -pix_fmt yuv420p10le -strict -1".to_owned(), 25),
    ] {
        let path = folder.join(name);
        make(&path, &arguments);
        let times = check_times(&path);
        assert_eq!(times.len(), n_frames, "{name}");
        assert!(times.is_sorted_by(|a, b| a < b), "{name}: {times:?}");
    }
}

#[test]
fn the_frame_rate_is_that_of_the_frames() {
    let folder = Folder::new("rate");
    let path = folder.join("clip.webm");
    make(
        &path,
        "-f lavfi -i testsrc2=s=96x96:r=30:d=2 -enc_time_base 1/1000 -c:v libvpx -r 1000 -vsync vfr",
    );
    let source = Source::open(&SourceSpec::Clip(path)).unwrap();
    assert!((29..=34).contains(&source.fps()), "{}", source.fps());
}

/// A clip of one color.
fn colored(path: &Path, color: &str, size: &str, codec: &str) {
    make(
        path,
        &format!("-f lavfi -i color={color}:s={size}:r=25:d=0.4 -c:v {codec} -pix_fmt yuv420p"),
    );
}

#[test]
fn the_default_stream_is_shown_and_no_cover() {
    let folder = Folder::new("streams");
    let [red, blue] = ["red", "blue"].map(|color| folder.join(&format!("{color}.mkv")));
    colored(&red, "red", "96x96", "libvpx");
    colored(&blue, "blue", "64x64", "libvpx");
    let cover = folder.join("cover.jpg");
    make(&cover, "-f lavfi -i color=green:s=500x500 -frames:v 1");
    let inputs = [&red, &blue, &cover].map(|path| format!("-i {}", path.display())).join(" ");
    let path = folder.join("two.mkv");
    let shown = |path: &Path| {
        let frames = frames(path);
        let pixel = frames[0].rgb_at(32, 32);
        let strongest = (0..3).max_by_key(|c| pixel[*c]).unwrap();
        (["red", "green", "blue"][strongest], frames.len())
    };
    let copy = "-c copy -disposition:v:0 0 -disposition:v:1 default";
    make(&path, &format!("{inputs} -map 0 -map 1 {copy}"));
    assert_eq!(shown(&path), ("blue", 10));
    // A cover comes first and is larger.
    let path = folder.join("cover.mp4");
    let sound = "-f lavfi -i sine=d=0.4";
    let hevc =
        "-c:v:1 libx265 -x265-params log-level=none -c:v:0 copy -disposition:v:0 attached_pic";
    make(&path, &format!("{inputs} {sound} -map 2 -map 1:v -map 3 {hevc}"));
    assert_eq!(shown(&path), ("blue", 10));
    // Nothing moves in a song.
    let path = folder.join("song.mp3");
    make(&path, &format!("{inputs} {sound} -map 3 -map 2 -c:v copy -disposition:v:0 attached_pic"));
    let error = Source::open(&SourceSpec::Clip(path)).err();
    assert!(matches!(error, Some(OpenError::NoVideo { .. })), "{error:?}");
}

#[test]
fn mp4_files_with_other_coding_look_as_ffmpeg_shows_them() {
    let folder = Folder::new("other-coding");
    for (name, coding) in [
        ("lossless.mp4", "-c:v libx264 -qp 0 -pix_fmt yuv420p"),
        ("full-chroma.mp4", "-c:v libx264 -qp 0 -pix_fmt yuv444p"),
        ("hevc.mp4", "-c:v libx265 -x265-params log-level=none:crf=20 -pix_fmt yuv420p"),
        ("vp9.mp4", "-c:v libvpx-vp9 -cpu-used 8 -b:v 1M -pix_fmt yuv420p"),
    ] {
        let path = folder.join(name);
        make(&path, &format!("-f lavfi -i testsrc2=s=96x96:r=25:d=0.4 {coding}"));
        let want = reference(&path, &to_rgb("170m", "limited"), 96);
        let got = frames(&path);
        assert_eq!((got.len(), want.len()), (10, 10), "{name}");
        for (frame, want) in got.iter().zip(&want) {
            let levels = mean_difference(frame.rgb(), want);
            assert!(levels <= 1.0, "{name} at {:?}: {levels:.2} levels", frame.time());
        }
    }
}

#[test]
fn turned_wide_and_interlaced_clips_look_as_ffmpeg_shows_them() {
    let folder = Folder::new("shown");
    let flat = folder.join("flat.mp4");
    // Gray, because ffmpeg turns pictures before it converts them, with their chroma in the wrong place.
    let source = "-f lavfi -i testsrc2=s=128x96:r=25:d=0.4,format=gray";
    let hevc = "-c:v libx265 -x265-params log-level=none:crf=10 -pix_fmt yuv420p";
    make(&flat, &format!("{source} {hevc}"));
    let turned = folder.join("turned.mp4");
    make(&turned, &format!("-i {} -c copy -metadata:s:v rotate=90", flat.display()));
    let wide = folder.join("wide.mkv");
    make(&wide, &format!("{source} -vf setsar=3/2 {hevc}"));
    let square = "crop=96:96";
    for (path, filter) in [(&flat, square), (&turned, square), (&wide, "scale=192:96,crop=96:96")] {
        // Resampling filters differ a little.
        let limit = if path == &wide { 6.0 } else { 1.0 };
        let want = reference(path, &format!("{},{filter}", to_rgb("170m", "limited")), 96);
        let got = frames(path);
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            let error = mean_difference(got.rgb(), want);
            assert!(error <= limit, "{}: {error}", path.display());
        }
    }
    let interlaced = folder.join("interlaced.ts");
    let fields =
        "-f lavfi -i testsrc2=s=96x96:r=50:d=0.4 -vf tinterlace=interleave_top,fieldorder=tff";
    make(&interlaced, &format!("{fields} -c:v mpeg2video -flags +ilme+ildct -b:v 4M"));
    assert_eq!(check_times(&interlaced).len(), 10);
}

#[test]
fn a_clip_that_changes_its_size_keeps_the_size_of_its_first_frame() {
    let folder = Folder::new("resized");
    let parts = ["96x96", "64x64"].map(|size| {
        let path = folder.join(&format!("{size}.ts"));
        colored(&path, "gray", size, "mpeg2video");
        std::fs::read(path).unwrap()
    });
    let path = folder.join("both.ts");
    std::fs::write(&path, parts.concat()).unwrap();
    let frames = frames(&path);
    assert!(
        frames.len() >= 18 && frames.iter().all(|frame| frame.side() == 96),
        "{}",
        frames.len()
    );
}
