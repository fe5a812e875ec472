//! What the network means for the encoder: reports in, orders out.

use std::time::Instant;

use codec::Encoder;
use transport::{Packetizer, PacketizerSettings, ReceiverReport};
use types::{Rate, UnitNumber};

/// What the session tells the thread that codes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// The peer is there: a clip begins now, and features are wanted.
    Start,
    CameraOff(bool),
    Acknowledge(UnitNumber),
    Rate(Rate),
    Key,
    Stop,
}

impl Order {
    /// What an order means for the encoder; nothing, for those that are not about it.
    pub(crate) fn apply(self, encoder: &mut Encoder) {
        match self {
            Self::Start | Self::Key => encoder.request_key(),
            Self::Acknowledge(id) => encoder.acknowledge(id),
            Self::Rate(rate) => encoder.set_rate(rate),
            Self::CameraOff(_) | Self::Stop => {}
        }
    }
}

/// What a report of the peer makes of the units to come.
pub(crate) fn orders_of(
    packetizer: &mut Packetizer,
    now: Instant,
    report: ReceiverReport,
) -> Vec<Order> {
    packetizer.handle_report(now, &report);
    let mut orders = Vec::new();
    if report.key_requested() {
        orders.push(Order::Key);
    }
    while let Some(number) = packetizer.poll_confirmed() {
        orders.push(Order::Acknowledge(number));
    }
    orders
}

/// How units are packed: one a packet, because the encoder already sends only what is needed.
pub(crate) fn settings(rate: Rate) -> PacketizerSettings {
    PacketizerSettings {
        units_per_packet: 1,
        // Units build on those that ride along.
        min_redundancy: rate.parameters().redundancy as usize,
        repeat_interval: rate.parameters().repeat_interval,
        ..PacketizerSettings::default()
    }
}
