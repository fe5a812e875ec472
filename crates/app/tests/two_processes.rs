//! A whole call between two processes: the invite link is printed by one and given to the other.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn feathercall() -> Command {
    Command::new(env!("CARGO_BIN_EXE_feathercall"))
}

fn demo_face() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../assets/demo.face")
}

/// Ends a peer even when the test fails.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn one_process_calls_another_and_its_face_is_recorded_at_three_sizes() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("two-processes");
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    let (pictures, stats) = (folder.join("pictures"), folder.join("stats.jsonl"));
    let mut caller = feathercall();
    caller.args(["call", "--headless", "--no-audio", "--source", "actor", "--duration", "10m"]);
    caller.args(["--auto-admit", "--face"]).arg(demo_face()).stdout(Stdio::piped());
    let mut caller = Peer(caller.spawn().expect("it starts"));
    let output = BufReader::new(caller.0.stdout.take().unwrap());
    let link = output
        .lines()
        .map_while(Result::ok)
        .find_map(|line| line.split_whitespace().find(|w| w.contains("://")).map(str::to_owned))
        .expect("the caller prints an invite link");

    let mut joiner = feathercall();
    joiner.args(["join", &link, "--headless", "--no-audio", "--resolution", "128"]);
    joiner.args(["--duration", "12s", "--at", "5s=resolution:1024", "8s=resolution:256"]);
    joiner.args(["--at", "7s=rate:high", "--rate", "low"]);
    joiner.arg("--record").arg(&pictures).arg("--stats").arg(&stats);
    let output = joiner.output().expect("it starts");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");

    let rows = std::fs::read_to_string(&stats).unwrap();
    let rows: Vec<serde_json::Value> =
        rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let last = rows.last().expect("there are statistics");
    let number = |name: &str| last[name].as_f64().unwrap_or_else(|| panic!("{name} in {last}"));
    assert!(number("features_in") > 10.0, "{last}");
    assert!(number("wire_bytes_in") > number("payload_bytes_in"), "{last}");
    assert!(number("wire_bytes_out") > 0.0, "{last}");
    assert!(last["render_path"].as_str().is_some_and(|path| !path.is_empty()), "{last}");

    let switches: Vec<_> = rows
        .iter()
        .flat_map(|row| row["switches"].as_array().expect("an array"))
        .map(|switch| (switch["from"].as_u64(), switch["to"].as_u64(), switch["ms"].as_f64()))
        .collect();
    let sides: Vec<_> = switches.iter().map(|(from, to, _)| (from.unwrap(), to.unwrap())).collect();
    assert_eq!(sides, [(128, 1024), (1024, 256)], "each switch is told once");
    assert!(switches.iter().all(|(.., ms)| ms.is_some_and(|ms| ms > 0.0)), "{switches:?}");
    // Nothing of it is noticed on the wire: features go on coming. A busy machine may have a second
    // without one, not four.
    let features: Vec<_> = rows.iter().map(|row| row["features_in"].as_u64().unwrap()).collect();
    let flowing: Vec<_> = features.iter().skip_while(|n| **n == 0).collect();
    assert!(flowing.windows(5).all(|rows| rows[0] < rows[4]), "{features:?}");
    let recorded = last["recorded_frames"].as_u64();
    assert_eq!(
        last["pictures"].as_u64(),
        recorded,
        "the last row is written after the last picture"
    );
    assert_eq!(last["rate"], "high", "{last}");
    assert_eq!(rows[2]["rate"], "low", "{}", rows[2]);

    let mut sizes = std::collections::BTreeSet::new();
    let mut folders = vec![folder.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "png") {
                let bytes = std::fs::read(&path).unwrap();
                sizes.insert(u32::from_be_bytes(bytes[16..20].try_into().unwrap()));
            }
        }
    }
    assert_eq!(sizes.into_iter().collect::<Vec<_>>(), [128, 256, 1024], "all were recorded");
}
