//! `feathercall demo`: two peers on this machine, real WebRTC on loopback.

use std::path::PathBuf;
use std::time::Duration;

use call::{Call, Settings, SoundSource};
use capture::{SourceSpec, SpeakerSpec};

use super::calls::{self, recorded_to};
use super::questions::Questions;
use crate::cli::{Demo, Resolution};
use crate::destination;
use crate::display::Display;
use crate::face_files;
use crate::live::{CallOptions, Live};
use crate::window;

/// Runs a call between two peers in this process, in a window or without one.
pub(super) fn run(args: &Demo) -> anyhow::Result<()> {
    let display = if args.headless { None } else { Display::find().ok() };
    let has_window = display.is_some();
    let record = args.record.clone().or_else(|| (!has_window).then(|| PathBuf::from("demo.mp4")));
    let recording = record.as_deref().map(recorded_to);
    destination::check(recording.as_slice(), &[], args.overwrite.force)?;
    // The actor speaks. Without a window only the recording hears it.
    let speaker = if has_window { SpeakerSpec::Default } else { SpeakerSpec::Silent };
    let ours = Settings {
        face: Some(face_files::read_or_demo(None)?),
        source: Some(SourceSpec::Actor),
        loopback: true,
        name: "Actor".to_owned(),
        sound_source: SoundSource::Source,
        speaker: SpeakerSpec::Silent,
        auto_admit: true,
        ..Settings::default()
    };
    let theirs = Settings {
        loopback: true,
        sound_source: SoundSource::None,
        speaker,
        auto_admit: true,
        ..Settings::default()
    };
    let (host, link) = Call::host(ours)?;
    let guest = Call::join(&link, theirs)?;
    let duration = Duration::from_secs(args.seconds);
    let options = CallOptions {
        record,
        sound: true,
        resolution: if has_window { Resolution::Auto } else { Resolution::Side(256) },
        duration: (!has_window).then_some(duration),
        ..CallOptions::default()
    };
    if has_window {
        return window::open(window::Start::Demo(Box::new((host, guest, options))));
    }
    let seconds = args.seconds;
    println!("a call of {seconds} s between two peers on this machine, over WebRTC on loopback");
    let summary = calls::drive(Live::new(guest, options)?, Questions::new(true))?;
    drop(host);
    calls::report(&summary)
}
