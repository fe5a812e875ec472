use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// Ticks of processor time per second in `/proc` (`sysconf(_SC_CLK_TCK)`, 100 on every Linux).
const TICKS_PER_SECOND: f64 = 100.0;

/// A service in a process of its own, which ends with this value.
pub(crate) struct ServiceProcess {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl ServiceProcess {
    pub(crate) fn start(binary: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(binary)
            .args(["rendezvous", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {binary}"))?;
        let output = child.stdout.take().context("it has an output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let text = line.strip_prefix("listening on ").and_then(|line| line.split(": ").next());
        let address = text.context("it says where it listens")?.parse()?;
        Ok(Self { child, address })
    }

    /// Returns the resident memory.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let status = self.proc_file("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().split(' ').next());
        Ok(kilobytes.context("VmRSS")?.parse::<u64>()? * 1024)
    }

    /// Returns the processor time spent so far, by the process and by the system for it, in seconds.
    pub(crate) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = self.proc_file("stat")?;
        // The name of the program, in parentheses, may contain spaces. Fields 14 and 15 follow it.
        let (_, fields) = stat.rsplit_once(") ").context("a name")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        let ticks = ticks.sum::<Result<u64, _>>()?;
        Ok(ticks as f64 / TICKS_PER_SECOND)
    }

    fn proc_file(&self, name: &str) -> anyhow::Result<String> {
        let path = format!("/proc/{}/{name}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    }
}

impl Drop for ServiceProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
