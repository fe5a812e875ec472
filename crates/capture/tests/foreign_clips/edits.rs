//! Number and times of the frames of edited, late, fragmented and variable-rate clips.

use std::fs;
use std::path::Path;

use types::MediaTime;

use crate::made::{Folder, frames, make, mean_difference, probed_times, reference, run, to_rgb};

/// Checks a clip against ffprobe and ffmpeg: as many frames, at the same times to 1 ms, of the same content.
fn check(path: &Path, what: &str) -> Vec<i64> {
    let got = frames(path);
    let times: Vec<i64> = got.iter().map(|frame| frame.time().as_micros() as i64).collect();
    let want = probed_times(path);
    assert_eq!(times.len(), want.len(), "{what}");
    for (got, want) in times.iter().zip(&want) {
        assert!((got - want).abs() <= 1000, "{what}: {got} µs, not {want}");
    }
    let pictures = reference(path, &to_rgb("170m", "limited"), got[0].side());
    assert_eq!(pictures.len(), got.len(), "{what}");
    for (frame, picture) in got.iter().zip(&pictures) {
        let error = mean_difference(frame.rgb(), picture);
        assert!(error < 1.0, "{what}: {error:.1} levels at {:?}", frame.time());
    }
    times
}

/// Source of four seconds at 25 frames per second, with B frames.
const CLIP: &str = "-f lavfi -i testsrc2=s=96x96:r=25:d=4 -f lavfi -i sine=d=4 -c:v libx264 -bf 2 -g 25 \
     -preset veryfast -crf 12 -pix_fmt yuv420p -c:a aac";

/// Replaces the edit list of the first track by edits of a duration in milliseconds and a media time.
fn set_edits(from: &Path, to: &Path, version: u8, edits: &[(u64, i64)]) {
    let mut bytes = fs::read(from).unwrap();
    let number =
        |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let find = |bytes: &[u8], kind: &[u8]| bytes.windows(4).position(|w| w == kind).unwrap() - 4;
    let mut list = vec![0, 0, 0, 0, b'e', b'l', b's', b't', version, 0, 0, 0];
    list.extend((edits.len() as u32).to_be_bytes());
    for (duration, media_time) in edits {
        if version == 1 {
            list.extend(duration.to_be_bytes());
            list.extend(media_time.to_be_bytes());
        } else {
            list.extend((*duration as u32).to_be_bytes());
            list.extend((*media_time as i32).to_be_bytes());
        }
        list.extend(0x10000_u32.to_be_bytes());
    }
    let size = list.len() as u32;
    list[..4].copy_from_slice(&size.to_be_bytes());
    let at = find(&bytes, b"elst");
    let old_size = number(&bytes, at);
    for kind in [b"edts", b"trak", b"moov"] {
        let at = find(&bytes, kind);
        let grown = number(&bytes, at) + size - old_size;
        bytes[at..at + 4].copy_from_slice(&grown.to_be_bytes());
    }
    bytes.splice(at..at + old_size as usize, list);
    fs::write(to, bytes).unwrap();
}

#[test]
fn an_edit_list_decides_which_frames_are_shown_and_when() {
    let folder = Folder::new("edits");
    let (whole, path) = (folder.join("whole.mp4"), folder.join("edited.mp4"));
    make(&whole, CLIP);
    check(&whole, "unedited");
    // The pictures are two frames late in the media, 512 units each.
    let at = |frame: i64| 1024 + 512 * frame;
    for version in [0, 1] {
        for (what, edits, n_frames) in [
            ("a trim at key pictures", &[(1000, at(25))][..], 25),
            ("a trim within groups of pictures", &[(1240, at(31))], 31),
            ("a trim within a frame", &[(1000, at(10) + 200)], 25),
            ("a late start", &[(700, -1), (1000, at(0))], 25),
            ("a late start of a trim", &[(300, -1), (300, -1), (2000, at(13))], 50),
            ("a cut", &[(1000, at(0)), (1000, at(50))], 50),
            ("the end first", &[(1000, at(75)), (1000, at(0))], 50),
            ("a repetition", &[(400, at(0)), (400, at(0)), (400, at(0))], 30),
            ("no delay", &[(4000, 0)], 98),
        ] {
            set_edits(&whole, &path, version, edits);
            assert_eq!(check(&path, what).len(), n_frames, "{what}");
        }
    }
}

/// ffprobe takes a pause for a piece of the clip, and its times run backwards at a cut within a group of
/// pictures, so it is no reference here.
#[test]
fn pauses_and_cuts_between_edits_are_kept() {
    let folder = Folder::new("pause");
    let (whole, path) = (folder.join("whole.mp4"), folder.join("edited.mp4"));
    make(&whole, CLIP);
    let media_time = |frame: i64| 1024 + 512 * frame;
    let whole_frames = frames(&whole);
    for (edits, shown) in [
        (
            &[(400, media_time(0)), (600, -1), (200, media_time(50))][..],
            &[(0, 0..10), (25, 50..55)],
        ),
        (&[(1000, media_time(10)), (1000, media_time(60))], &[(0, 10..35), (25, 60..85)]),
    ] {
        set_edits(&whole, &path, 0, edits);
        let shown: Vec<_> =
            shown.iter().flat_map(|(start, media)| (*start..).zip(media.clone())).collect();
        let got = frames(&path);
        assert_eq!(got.len(), shown.len());
        for (frame, (frame_idx, media_idx)) in got.iter().zip(shown) {
            assert_eq!(frame.time(), MediaTime::of_frame(frame_idx, 25));
            assert_eq!(frame.rgb(), whole_frames[media_idx].rgb(), "picture {media_idx}");
        }
    }
}

#[test]
fn fragmented_clips_are_read_to_their_end() {
    let folder = Folder::new("fragmented");
    let path = folder.join("clip.mp4");
    for flags in [
        "frag_keyframe+empty_moov",
        "frag_keyframe+empty_moov+default_base_moof",
        "frag_keyframe+empty_moov+omit_tfhd_offset",
        "frag_keyframe+delay_moov",
        // The index has the first second, fragments the others.
        "frag_keyframe",
        "frag_keyframe+separate_moof",
        "dash",
    ] {
        make(&path, &format!("{CLIP} -movflags {flags}"));
        assert_eq!(check(&path, flags).len(), 100, "{flags}");
    }
}

#[test]
fn variable_and_late_clips_keep_their_times() {
    let folder = Folder::new("variable");
    let path = folder.join("clip.mp4");
    let video = "-c:v libx264 -preset veryfast -crf 12 -pix_fmt yuv420p";
    for (what, arguments) in [
        (
            "variable rate",
            format!(
                "-f lavfi -i testsrc2=s=96x96:r=25:d=2,select='not(mod(n,7)*mod(n,3))' -vsync vfr {video}"
            ),
        ),
        (
            "late picture",
            format!(
                "-f lavfi -i sine=d=2 -itsoffset 0.7 -f lavfi -i testsrc2=s=96x96:r=25:d=1 -c:a aac {video}"
            ),
        ),
        (
            "late sound",
            format!(
                "-f lavfi -i testsrc2=s=96x96:r=25:d=1 -itsoffset 0.7 -f lavfi -i sine=d=2 -c:a aac {video}"
            ),
        ),
        ("index first", format!("{CLIP} -movflags faststart")),
        ("negative offsets", format!("{CLIP} -movflags negative_cts_offsets")),
        ("no edit list", format!("{CLIP} -use_editlist 0")),
        (
            "one group",
            format!("-f lavfi -i testsrc2=s=96x96:r=25:d=2 {video} -bf 3 -b_strategy 0 -g 999"),
        ),
        (
            "open groups",
            format!(
                "-f lavfi -i testsrc2=s=96x96:r=25:d=2 {video} -x264-params open-gop=1:keyint=12:bframes=3"
            ),
        ),
    ] {
        make(&path, &arguments);
        check(&path, what);
    }
}

/// ffprobe adds the largest offset to all times of fragments, but not to those of sound.
#[test]
fn negative_offsets_in_fragments_do_not_delay_pictures() {
    let folder = Folder::new("negative");
    let path = folder.join("clip.mp4");
    for flags in ["frag_keyframe+negative_cts_offsets+empty_moov", "dash+cmaf"] {
        make(&path, &format!("{CLIP} -movflags {flags}"));
        let times: Vec<_> = frames(&path).iter().map(|frame| frame.time()).collect();
        let want: Vec<_> = (0..100).map(|i| MediaTime::of_frame(i, 25)).collect();
        assert_eq!(times, want, "{flags}");
    }
}

/// A trim that ffmpeg itself makes without encoding again, as phones do.
#[test]
fn a_trim_without_encoding_begins_where_it_was_cut() {
    let folder = Folder::new("trim");
    let (whole, path) = (folder.join("whole.mp4"), folder.join("trim.mp4"));
    for groups in ["", "-x264-params open-gop=1:keyint=12:bframes=3"] {
        make(&whole, &format!("{CLIP} {groups}"));
        let (from, to) = (whole.to_str().unwrap(), path.to_str().unwrap());
        run("ffmpeg", &["-y", "-ss", "1.37", "-t", "2", "-i", from, "-c", "copy", to]);
        // ffmpeg adds the frames that those until then refer to.
        assert!(check(&path, groups).len() < 60);
    }
}
