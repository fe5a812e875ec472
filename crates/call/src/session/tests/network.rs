//! The simulated network: datagrams with delay, loss, jitter and duplicates, and links that are set
//! up by an exchange of datagrams, as ICE, DTLS and SCTP do.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use transport::Control;

use super::path::{Arrival, Connection, LinkEnd, STEPS};
use super::world::World;
use crate::event::LinkError;
use crate::session::{Input, LinkCommand, LinkEvent, LinkId, SignalingEvent};

/// Time that a link takes to gather candidates.
const GATHERING: Duration = Duration::from_millis(50);

/// Returns the line of a description with the fingerprint of a peer's certificate, of which it has
/// made `n` others before.
fn fingerprint_line(index: usize, n: usize) -> String {
    let byte = format!("{:02X}", index + 16 * n);
    format!("a=fingerprint:sha-256 {}", [byte.as_str(); 32].join(":"))
}

impl World {
    /// Lets something happen at a peer, or on the network, after `delay`.
    pub(super) fn schedule(&mut self, delay: Duration, arrival: Arrival) {
        self.n_flights += 1;
        self.in_flight.push((self.now + delay, self.n_flights, arrival));
    }

    pub(super) fn deliver(&mut self, index: usize, delay: Duration, input: Input) {
        self.schedule(delay, Arrival::Input(index, input));
    }

    /// Returns how often a datagram to `to` arrives that is sent now, and after which delays.
    fn fates(&mut self, to: usize) -> Vec<Duration> {
        self.n_datagrams += 1;
        let conditions = self.conditions;
        let is_deaf = self.deaf == Some(to);
        if !self.network_is_up || is_deaf || self.random.uniform_f64() < conditions.loss {
            return Vec::new();
        }
        let n = 1 + usize::from(self.random.uniform_f64() < conditions.duplicates);
        let mut delay =
            || conditions.latency + conditions.jitter.mul_f64(self.random.uniform_f64());
        (0..n).map(|_| delay()).collect()
    }

    pub(super) fn forward_sealed(&mut self, from: usize, sealed: &[u8]) {
        if !self.rendezvous_is_up || !self.peers[from].in_room || self.unserved == Some(from) {
            return;
        }
        self.sealed.push(sealed.to_vec());
        for index in 0..self.peers.len() {
            if index != from && self.peers[index].in_room && self.unserved != Some(index) {
                let event = SignalingEvent::Sealed(Bytes::copy_from_slice(sealed));
                self.deliver(index, self.conditions.latency, Input::Signaling(event));
            }
        }
    }

    pub(super) fn carry_out_command(&mut self, end: LinkEnd, command: LinkCommand) {
        let (index, id) = end;
        let event = |event| Input::Link(id, event);
        let peer = &mut self.peers[index];
        match command {
            LinkCommand::Offer => {
                peer.open_link(id);
                let offer =
                    format!("{index} {}\n{}", id.0, fingerprint_line(index, peer.n_certificates));
                self.deliver(index, GATHERING, event(LinkEvent::Described(offer)));
            }
            LinkCommand::Answer(offer) => {
                peer.open_link(id);
                let offered = offer.lines().next().unwrap_or_default();
                let answer = format!(
                    "{offered} {index} {}\n{}",
                    id.0,
                    fingerprint_line(index, peer.n_certificates)
                );
                self.deliver(index, GATHERING, event(LinkEvent::Described(answer)));
                self.deliver(index, GATHERING, event(LinkEvent::Candidate("late".into())));
            }
            LinkCommand::Accept(answer) => self.accept(end, &answer),
            LinkCommand::AddCandidate(_) => {}
            LinkCommand::SendFeatures(packet) => {
                peer.n_feature_messages += 1;
                self.send_datagram(end, &LinkEvent::Features(packet));
            }
            LinkCommand::SendSound(packet) => self.send_datagram(end, &LinkEvent::Sound(packet)),
            LinkCommand::SendControl(message) => {
                peer.control_sent.push(Control::parse(&message).expect("a session's own message"));
                for message in (self.tamper)(index, message) {
                    self.send_control(end, Bytes::from(message));
                }
            }
            LinkCommand::Close => {
                peer.links.retain(|link| *link != id);
                for connection in &mut self.connections {
                    connection.is_alive &= !connection.ends.contains(&end);
                }
            }
        }
    }

    /// Begins the handshake of the two link ends that an answer names. Other answers are refused.
    fn accept(&mut self, (index, id): LinkEnd, answer: &str) {
        let numbers = answer.lines().next().unwrap_or_default().split(' ');
        let numbers: Vec<u32> = numbers.filter_map(|n| n.parse().ok()).collect();
        let [host, host_link, guest, guest_link] = numbers[..] else {
            let error = LinkError::from(webrtc::error::Error::ErrSDPZeroTransceivers);
            self.handle(index, Input::Link(id, LinkEvent::Error(error)));
            return;
        };
        if !self.has_path {
            return;
        }
        let ends = [(host as usize, LinkId(host_link)), (guest as usize, LinkId(guest_link))];
        let is_alive = ends.iter().all(|(peer, id)| self.peers[*peer].links.contains(id));
        self.connections.push(Connection {
            ends,
            is_alive,
            n_steps: 0,
            held_back: VecDeque::new(),
            last_control: [self.now; 2],
        });
        self.send_step(self.connections.len() - 1, 0, 0);
    }

    /// Sends a datagram of a handshake for the `n`-th time.
    fn send_step(&mut self, connection: usize, step: usize, n: u32) {
        // The guest sends the even steps.
        let (to, _) = self.connections[connection].ends[step % 2];
        for delay in self.fates(to) {
            self.schedule(delay, Arrival::Step(connection, step));
        }
        if let Some(interval) = self.conditions.repeat_interval(step, n) {
            self.schedule(interval, Arrival::Repeat(connection, step, n + 1));
        }
    }

    pub(super) fn repeat_step(&mut self, connection: usize, step: usize, n: u32) {
        let is_last = step + 1 == STEPS;
        let Connection { n_steps, is_alive, .. } = self.connections[connection];
        if is_alive && !is_last && n_steps <= step + 1 {
            self.send_step(connection, step, n);
        }
    }

    pub(super) fn handle_step(&mut self, connection: usize, step: usize) {
        let Connection { n_steps, is_alive, ends, .. } = self.connections[connection];
        if !is_alive || step > n_steps {
            return;
        }
        if step == n_steps {
            self.connections[connection].n_steps += 1;
            if step + 2 >= STEPS {
                // The host opens with the last step but one, the guest with the last one.
                let (peer, id) = ends[step + 2 - STEPS];
                self.deliver(peer, Duration::ZERO, Input::Link(id, LinkEvent::Open));
            }
            if step + 1 < STEPS {
                self.send_step(connection, step + 1, 0);
            }
        } else if step + 1 == n_steps && step + 1 < STEPS {
            // Its answer was lost. One more, beside those that are repeated anyway.
            let (to, _) = ends[(step + 1) % 2];
            for delay in self.fates(to) {
                self.schedule(delay, Arrival::Step(connection, step + 1));
            }
        }
    }

    fn connection_of(&mut self, end: LinkEnd) -> Option<&mut Connection> {
        let mut connections = self.connections.iter_mut();
        connections.find(|connection| connection.is_alive && connection.ends.contains(&end))
    }

    fn other_end(&mut self, end: LinkEnd) -> Option<LinkEnd> {
        let ends = self.connection_of(end)?.ends;
        ends.into_iter().find(|other| *other != end)
    }

    fn send_datagram(&mut self, from: LinkEnd, event: &LinkEvent) {
        let Some((index, id)) = self.other_end(from) else { return };
        for delay in self.fates(index) {
            let event = match event {
                LinkEvent::Features(packet) => LinkEvent::Features(packet.clone()),
                LinkEvent::Sound(packet) => LinkEvent::Sound(packet.clone()),
                other => panic!("{other:?} is no datagram"),
            };
            self.deliver(index, delay, Input::Link(id, event));
        }
    }

    /// Sends a control message; without a network it is held back, as it is sent reliably.
    fn send_control(&mut self, from: LinkEnd, message: Bytes) {
        let Some((index, id)) = self.other_end(from) else { return };
        if !self.network_is_up || self.deaf == Some(index) {
            if let Some(connection) = self.connection_of(from) {
                connection.held_back.push_back(((index, id), message));
            }
            return;
        }
        // What is lost is sent again after SCTP's timeout, or when later messages report the gap.
        let mut timeout = (3 * self.conditions.latency).max(Duration::from_secs(1));
        let (mut waited, mut fates) = (Duration::ZERO, self.fates(index));
        while fates.is_empty() {
            waited += timeout;
            timeout = (2 * timeout).min(Duration::from_secs(3));
            fates = self.fates(index);
        }
        let at = self.now + waited + fates[0];
        let direction = usize::from(index != 0);
        let Some(connection) = self.connection_of(from) else { return };
        let at = at.max(connection.last_control[direction]);
        connection.last_control[direction] = at;
        self.deliver(index, at - self.now, Input::Link(id, LinkEvent::Control(message)));
    }

    /// Ends an outage: what was held back is delivered.
    pub(super) fn restore_network(&mut self) {
        self.network_is_up = true;
        let alive = self.connections.iter_mut().filter(|connection| connection.is_alive);
        let held_back: Vec<_> =
            alive.flat_map(|connection| std::mem::take(&mut connection.held_back)).collect();
        for (to, message) in held_back {
            if let Some(from) = self.other_end(to) {
                self.send_control(from, message);
            }
        }
    }
}
