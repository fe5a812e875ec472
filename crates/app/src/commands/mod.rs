//! The commands, one file for each or for a group of related ones.

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

use crate::cli::{Command, Model};
use crate::window;

/// Runs a command to its end.
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
            let options = eval::EvalOptions { frames, resolutions, rate };
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
