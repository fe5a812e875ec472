//! One file a command, or a family of them.

mod bench;
mod bench_fields;
mod calls;
mod demo;
mod devices;
mod enroll;
mod evaluate;
mod model;
mod offline;
mod track;

use std::path::Path;

use anyhow::Context;
use face::FaceFile;

use crate::cli::{Command, Model};
use crate::window;

/// Runs one command to its end.
pub(crate) fn run(command: Option<Command>) -> anyhow::Result<()> {
    match command {
        None => window::open(window::Start::Home),
        Some(Command::Demo(args)) => demo::run(&args),
        Some(Command::Enroll(args)) => enroll::run(args),
        Some(Command::Call(args)) => calls::host(args),
        Some(Command::Join(args)) => calls::join(args),
        Some(Command::Rendezvous { listen }) => calls::rendezvous(listen),
        Some(Command::Encode { clip, face, out, rate }) => {
            offline::encode(&clip, &face, &out, rate)
        }
        Some(Command::Decode { stream, face, out, resolution, background, fps }) => {
            offline::decode(&stream, &face, &out, resolution, &background, fps)
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
        }) => {
            if let Some(folder) = curve {
                return evaluate::curves(&clip, &face, frames, &folder, json);
            }
            if let Some(share) = loss {
                let side = resolutions.first().copied().unwrap_or(256);
                let loss = evaluate::loss(share, burst);
                return evaluate::lossy(&clip, &face, frames, side, rate, loss, json);
            }
            let options = eval::Options { frames, resolutions, rate };
            evaluate::run(&clip, &face, &options, samples, json, report.as_deref())
        }
        Some(Command::Track { clip, landmarks, json }) => track::run(&clip, &landmarks, json),
        Some(Command::Devices) => {
            devices::run();
            Ok(())
        }
        Some(Command::Model(Model::Info { face, json })) => model::info(&face, json),
        Some(Command::Bench { part, face, stream, samples, json }) => {
            bench::run(part, face.as_deref(), stream.as_deref(), samples, json)
        }
    }
}

/// The face that ships with the program: the actor's.
const DEMO_FACE: &[u8] = include_bytes!("../../../../assets/demo.face");

fn read_face(path: &Path) -> anyhow::Result<FaceFile> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    FaceFile::parse(&bytes).with_context(|| format!("cannot use {}", path.display()))
}

/// The face at `path`, or the built-in one.
pub(crate) fn face_or_demo(path: Option<&Path>) -> anyhow::Result<FaceFile> {
    match path {
        Some(path) => read_face(path),
        None => FaceFile::parse(DEMO_FACE).context("the built-in face is damaged; reinstall"),
    }
}
