//! What a service counts, as text for Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::refusals::Refusal;

/// Counters since the start of the service. They name no room and no address.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Seats that were taken.
    pub(super) joins: Counter,
    /// Members who lost their seat to a newer proof.
    pub(super) replacements: Counter,
    /// Messages received from members.
    pub(super) messages: Counter,
    /// Messages of them that nobody could take.
    pub(super) dropped_messages: Counter,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    refusals: [Counter; Refusal::ALL.len()],
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, amount: usize) {
        self.0.fetch_add(amount as u64, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Metrics {
    /// Counts a refusal.
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.refusals[refusal as usize].add(1);
    }

    /// Returns everything in the text format of Prometheus 0.0.4, with the current numbers of
    /// sockets and rooms.
    pub(super) fn text(&self, n_sockets: usize, n_rooms: usize) -> String {
        let mut text = String::new();
        let mut write = |name: &str, kind: &str, help: &str, value: u64| {
            let _ = write!(
                text,
                "# HELP feathercall_{name} {help}\n# TYPE feathercall_{name} {kind}\n\
                 feathercall_{name} {value}\n"
            );
        };
        write("sockets", "gauge", "Open sockets.", n_sockets as u64);
        write("rooms", "gauge", "Rooms with a member.", n_rooms as u64);
        for (name, help, counter) in [
            ("joins_total", "Seats that were taken.", &self.joins),
            ("replacements_total", "Members replaced by a newer proof.", &self.replacements),
            ("messages_total", "Messages received from members.", &self.messages),
            ("dropped_messages_total", "Messages for nobody.", &self.dropped_messages),
            ("received_bytes_total", "Bytes received.", &self.bytes_in),
            ("sent_bytes_total", "Bytes sent.", &self.bytes_out),
        ] {
            write(name, "counter", help, counter.value());
        }
        text.push_str("# HELP feathercall_refusals_total Connections refused or closed.\n");
        text.push_str("# TYPE feathercall_refusals_total counter\n");
        for (refusal, counter) in Refusal::ALL.into_iter().zip(&self.refusals) {
            let (label, value) = (refusal.label(), counter.value());
            let _ = writeln!(text, "feathercall_refusals_total{{reason=\"{label}\"}} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_number_once() {
        let metrics = Metrics::default();
        metrics.joins.add(3);
        metrics.bytes_in.add(1000);
        metrics.refuse(Refusal::Flood);
        let text = metrics.text(5, 2);
        for line in [
            "# TYPE feathercall_sockets gauge\nfeathercall_sockets 5\n",
            "feathercall_rooms 2\n",
            "# TYPE feathercall_joins_total counter\nfeathercall_joins_total 3\n",
            "feathercall_received_bytes_total 1000\n",
            "feathercall_refusals_total{reason=\"flood\"} 1\n",
            "feathercall_refusals_total{reason=\"full\"} 0\n",
        ] {
            assert_eq!(text.matches(line).count(), 1, "{line:?} in {text}");
        }
    }
}
