//! The commands, one file for each or for a group of related ones.

mod bench;
mod bench_fields;
mod calls;
mod demo;
mod devices;
mod enroll;
mod evaluate;
mod files;
mod model;
mod offline;
mod questions;
mod stream;
mod track;

use crate::cli::{Command, Model};
use crate::window;

/// Wrong usage that the parser of the command line cannot see; exit code 2.
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// Runs a command to its end.
pub(crate) fn run(command: Option<Command>) -> anyhow::Result<()> {
    match command {
        None => window::open(window::Start::Home),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Enroll(args)) => with_clip(args.partial, || enroll::run(args)),
        Some(Command::Call(args)) => calls::host(args),
        Some(Command::Join(args)) => calls::join(args),
        Some(Command::Rendezvous { listen }) => calls::rendezvous(listen),
        Some(Command::Encode { clip, face, out, rate, partial, overwrite, json }) => {
            with_clip(partial, || offline::encode(&clip, &face, &out, rate, overwrite.force, json))
        }
        Some(Command::Decode {
            stream,
            face,
            out,
            resolution,
            background,
            fps,
            yes,
            overwrite,
            json,
        }) => {
            let options = offline::DecodeOptions {
                resolution,
                background: &background,
                fps,
                is_agreed: yes,
                is_forced: overwrite.force,
                is_json: json,
            };
            offline::decode(&stream, &face, &out, &options)
        }
        Some(Command::Eval {
            clip,
            face,
            frames,
            resolutions,
            rate,
            samples,
            json,
            report,
            loss,
            burst,
            curve,
            partial,
            overwrite,
        }) => with_clip(partial, || {
            let (report, curve) = (report.as_deref(), curve.as_deref());
            evaluate::check_folders(&clip, &face, report, curve, overwrite.force)?;
            if let Some(folder) = curve {
                return evaluate::curves(&clip, &face, frames, folder, json);
            }
            if let Some(share) = loss {
                let side = resolutions.first().copied().unwrap_or(256);
                let loss = evaluate::loss(share, burst);
                return evaluate::lossy(&clip, &face, frames, side, rate, loss, json);
            }
            let options = eval::EvalOptions { frames, resolutions, rate };
            evaluate::run(&clip, &face, &options, samples, json, report)
        }),
        Some(Command::Track { clip, landmarks, json, partial, overwrite }) => {
            with_clip(partial, || track::run(&clip, &landmarks, json, overwrite.force))
        }
        Some(Command::Devices { json }) => {
            devices::run(json);
            Ok(())
        }
        Some(Command::Model(Model::Info { face, json })) => model::info(&face, json),
        Some(Command::Model(Model::Export { face, out, overwrite, json })) => {
            model::export(&face, &out, overwrite.force, json)
        }
        Some(Command::Model(Model::Encrypt { face, json })) => model::encrypt(&face, json),
        Some(Command::Model(Model::Decrypt { face, out, overwrite, json })) => {
            model::decrypt(&face, &out, overwrite.force, json)
        }
        Some(Command::Files { folders, remove, json }) => files::run(&folders, remove, json),
        Some(Command::Bench { part, face, stream, samples, json }) => {
            bench::run(part, face.as_deref(), stream.as_deref(), samples, json)
        }
    }
}

/// Runs a command that reads a whole clip. One that cannot be read to its end is an error, unless the
/// user takes it as it is.
fn with_clip(is_partial: bool, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    if is_partial {
        capture::accept_partial_clips(|error| eprintln!("warning: {error}"));
    }
    run().map_err(|error| {
        let is_incomplete = error.chain().any(|cause| {
            let read = match cause.downcast_ref() {
                Some(call::EncodeStreamError::Read(read)) => Some(read),
                _ => cause.downcast_ref(),
            };
            matches!(read, Some(capture::ReadError::Incomplete { .. }))
        });
        if is_incomplete {
            error.context("the clip cannot be read to its end (--partial takes what can be read)")
        } else {
            error
        }
    })
}
