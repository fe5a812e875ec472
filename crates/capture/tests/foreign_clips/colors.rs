//! Colors of tagged and untagged clips.

use crate::made::{Folder, frames, make, mean_difference, reference, to_rgb};

/// Filters after which a clip of BT.2020 is what a screen of ordinary range and gamut shows.
const WIDE: &str =
    "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,zscale=t=bt709,format=gbrp";
const TONE_MAPPED: &str = "zscale=t=linear:npl=100,format=gbrpf32le,zscale=p=bt709,\
     tonemap=mobius:peak=10:desat=0,zscale=t=bt709,format=gbrp";

/// One clip and how ffmpeg is told to convert it.
struct Case {
    /// How the test pattern is encoded.
    filter: &'static str,
    /// Primaries, transfer, matrix and range; empty for an untagged clip.
    tags: &'static str,
    /// Filter of the reference.
    reference: String,
    height: u32,
}

const X264: &str = "-c:v libx264 -preset veryfast -crf 8";
/// Cases of ordinary range and gamut: pattern, tags, matrix and range of the reference.
const ORDINARY: [(&str, &str, &str, &str, u32); 9] = [
    // Untagged: standard and high definition.
    ("format=yuv420p", "", "170m", "limited", 256),
    ("scale=out_color_matrix=bt709,format=yuv420p", "", "709", "limited", 720),
    // Limited range.
    ("scale=out_color_matrix=bt709,format=yuv420p", "bt709 bt709 bt709 tv", "709", "limited", 256),
    ("format=yuv420p", "smpte170m smpte170m smpte170m tv", "170m", "limited", 720),
    (
        "scale=out_color_matrix=bt709,format=yuv422p",
        "bt709 iec61966-2-1 bt709 tv",
        "709",
        "limited",
        256,
    ),
    // Full range.
    (
        "scale=out_color_matrix=bt709:out_range=pc,format=yuv420p",
        "bt709 bt709 bt709 pc",
        "709",
        "full",
        256,
    ),
    ("scale=out_range=pc,format=yuv420p", "bt470bg gamma28 bt470bg pc", "470bg", "full", 256),
    // Ten bits.
    (
        "scale=out_color_matrix=bt709,format=yuv420p10le",
        "bt709 bt709 bt709 tv",
        "709",
        "limited",
        256,
    ),
    (
        "scale=out_range=pc,format=yuv422p10le",
        "smpte170m smpte170m smpte170m pc",
        "170m",
        "full",
        256,
    ),
];

/// Cases of wide gamut, and of high dynamic range: transfer by its two names, filter of the reference.
const WIDE_CASES: [(&str, &str, &str); 3] = [
    (
        "zscale=tin=bt709:pin=bt709:rin=full:t=2020_10:p=2020:m=2020_ncl:r=limited,format=yuv420p10le",
        "bt2020 bt2020-10 bt2020nc tv",
        WIDE,
    ),
    (
        "zscale=tin=bt709:pin=bt709:rin=full:t=arib-std-b67:p=2020:m=2020_ncl:r=limited,format=yuv420p10le",
        "bt2020 arib-std-b67 bt2020nc tv",
        TONE_MAPPED,
    ),
    (
        "zscale=tin=bt709:pin=bt709:rin=full:t=smpte2084:p=2020:m=2020_ncl:r=limited,format=yuv420p10le",
        "bt2020 smpte2084 bt2020nc tv",
        TONE_MAPPED,
    ),
];

#[test]
fn twelve_clips_have_the_colors_of_ffmpeg_to_one_level() {
    let ordinary = ORDINARY.map(|(filter, tags, matrix, range, height)| Case {
        filter,
        tags,
        reference: to_rgb(matrix, range),
        height,
    });
    let wide = WIDE_CASES.map(|(filter, tags, reference)| Case {
        filter,
        tags,
        reference: reference.to_owned(),
        height: 256,
    });
    let folder = Folder::new("colors");
    for (idx, case) in ordinary.iter().chain(&wide).enumerate() {
        let path = folder.join(&format!("{idx}.mp4"));
        encode(case, &path);
        let filter = format!("{},crop={1}:{1}", case.reference, case.height);
        let want = reference(&path, &filter, case.height);
        // The same video in a container that is read through ffmpeg.
        let copy = path.with_extension("mkv");
        make(&copy, &format!("-i {} -c copy", path.display()));
        for path in [path, copy] {
            let got = frames(&path);
            assert_eq!(got.len(), want.len(), "{}", path.display());
            for (got, want) in got.iter().zip(&want) {
                let error = mean_difference(got.rgb(), want);
                let name = path.display();
                eprintln!("{name}, {}: {error:.3}", case.tags);
                assert!(error <= 1.0, "{name}, {} of {}: {error:.2}", case.tags, case.filter);
            }
        }
    }
}

fn encode(case: &Case, path: &std::path::Path) {
    let tags: Vec<String> = ["-color_primaries", "-color_trc", "-colorspace", "-color_range"]
        .iter()
        .zip(case.tags.split_whitespace())
        .map(|(option, tag)| format!("{option} {tag}"))
        .collect();
    let width = case.height * 16 / 9 / 2 * 2;
    let input = format!("-f lavfi -i testsrc2=s={width}x{}:r=10:d=0.3,format=gbrp", case.height);
    make(path, &format!("{input} -vf {} {X264} {}", case.filter, tags.join(" ")));
}
