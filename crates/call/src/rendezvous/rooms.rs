//! Rooms with two seats, and the messages on their way from one seat to the other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Notify;
use transport::Role;

/// Messages that wait for a slow member. More are dropped.
const MAX_MESSAGES: usize = 64;
/// Bytes of the messages that wait for a slow member. More are dropped.
const MAX_BYTES: usize = 96 * 1024;
/// Bytes of the messages that wait in all rooms. More are dropped.
const MAX_TOTAL_BYTES: usize = 64 * 1024 * 1024;

/// Rooms in which at least one seat is taken, by name.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    by_name: HashMap<Arc<str>, Room>,
    /// Number of the next member.
    next_member: u64,
    /// Bytes that wait in all rooms.
    n_bytes: usize,
}

#[derive(Debug, Default)]
struct Room {
    host: Option<Member>,
    guest: Option<Member>,
}

impl Room {
    fn seat(&mut self, role: Role) -> &mut Option<Member> {
        match role {
            Role::Host => &mut self.host,
            Role::Guest => &mut self.guest,
        }
    }

    fn is_empty(&self) -> bool {
        self.host.is_none() && self.guest.is_none()
    }
}

/// Who has a seat, and what waits for that member.
#[derive(Debug)]
struct Member {
    number: u64,
    queue: VecDeque<Bytes>,
    n_bytes: usize,
    /// Notified when a message waits, or when the seat is lost.
    wake: Arc<Notify>,
}

/// Seat that a member has taken.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    room: Arc<str>,
    role: Role,
    member: u64,
}

/// What a member is to do next.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Next {
    /// Take this message.
    Message(Bytes),
    /// Wait.
    Nothing,
    /// Leave: somebody with a newer proof has the seat.
    Replaced,
}

impl Rooms {
    /// Returns the number of rooms.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Gives a seat to a new member, and takes it from the one who has it. The new member is woken
    /// through the returned [`Notify`].
    pub(super) fn take_seat(&mut self, room: &str, role: Role) -> (Seat, Arc<Notify>) {
        let room = match self.by_name.get_key_value(room) {
            Some((name, _)) => Arc::clone(name),
            None => room.into(),
        };
        let number = self.next_member;
        self.next_member += 1;
        let wake = Arc::new(Notify::new());
        let member = Member { number, queue: VecDeque::new(), n_bytes: 0, wake: Arc::clone(&wake) };
        let seat = self.by_name.entry(Arc::clone(&room)).or_default().seat(role);
        if let Some(replaced) = seat.replace(member) {
            self.n_bytes -= replaced.n_bytes;
            replaced.wake.notify_one();
        }
        (Seat { room, role, member: number }, wake)
    }

    /// Frees a seat, unless it was lost before.
    pub(super) fn leave(&mut self, seat: &Seat) {
        let Some(room) = self.by_name.get_mut(&seat.room) else { return };
        if let Some(member) = room.seat(seat.role).take_if(|member| member.number == seat.member) {
            self.n_bytes -= member.n_bytes;
        }
        if room.is_empty() {
            self.by_name.remove(&seat.room);
            if self.by_name.capacity() > 64 + 4 * self.by_name.len() {
                self.by_name.shrink_to(2 * self.by_name.len());
            }
        }
    }

    /// Queues a message for the other seat of the room. Returns whether it was queued: it is
    /// dropped if nobody has that seat, if its member is slow, or if the sender has lost its seat.
    pub(super) fn forward(&mut self, from: &Seat, message: &[u8]) -> bool {
        let Some(room) = self.by_name.get_mut(&from.room) else { return false };
        let is_sender = |member: &mut Member| member.number == from.member;
        if !room.seat(from.role).as_mut().is_some_and(is_sender) {
            return false;
        }
        let other = match from.role {
            Role::Host => Role::Guest,
            Role::Guest => Role::Host,
        };
        let Some(member) = room.seat(other) else { return false };
        let n = message.len();
        let has_space = member.queue.len() < MAX_MESSAGES && member.n_bytes + n <= MAX_BYTES;
        if !has_space || self.n_bytes + n > MAX_TOTAL_BYTES {
            return false;
        }
        member.n_bytes += n;
        self.n_bytes += n;
        // A copy: the original may be a small part of a large buffer.
        member.queue.push_back(Bytes::copy_from_slice(message));
        member.wake.notify_one();
        true
    }

    /// Returns what the member of a seat is to do next.
    pub(super) fn next(&mut self, seat: &Seat) -> Next {
        let room = self.by_name.get_mut(&seat.room).and_then(|room| room.seat(seat.role).as_mut());
        let Some(member) = room.filter(|member| member.number == seat.member) else {
            return Next::Replaced;
        };
        let Some(message) = member.queue.pop_front() else { return Next::Nothing };
        member.n_bytes -= message.len();
        self.n_bytes -= message.len();
        Next::Message(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static LARGE: [u8; 32 * 1024] = [0; 32 * 1024];
    const ROOM: &str = "0123456789abcdef";

    fn message(text: &'static [u8]) -> Next {
        Next::Message(Bytes::from_static(text))
    }

    #[test]
    fn host_and_guest_of_a_room_hear_each_other_alone() {
        let mut rooms = Rooms::default();
        let (host, _) = rooms.take_seat(ROOM, Role::Host);
        let (guest, _) = rooms.take_seat(ROOM, Role::Guest);
        let (stranger, _) = rooms.take_seat("another-room", Role::Guest);
        assert!(rooms.forward(&host, b"hello"));
        assert_eq!(rooms.next(&guest), message(b"hello"));
        for seat in [&host, &guest, &stranger] {
            assert_eq!(rooms.next(seat), Next::Nothing);
        }
        assert!(!rooms.forward(&stranger, b"nobody is here"));
        for seat in [&host, &guest, &stranger] {
            rooms.leave(seat);
        }
        assert_eq!((rooms.len(), rooms.n_bytes), (0, 0));
    }

    #[test]
    fn a_newer_proof_takes_the_seat_from_the_dead() {
        let mut rooms = Rooms::default();
        let (host, _) = rooms.take_seat(ROOM, Role::Host);
        let (dead, _) = rooms.take_seat(ROOM, Role::Guest);
        assert!(rooms.forward(&host, b"for the one who sleeps"));
        let (alive, _) = rooms.take_seat(ROOM, Role::Guest);
        assert_eq!(rooms.n_bytes, 0, "what waited for the old member is gone");
        assert_eq!(rooms.next(&dead), Next::Replaced);
        assert!(!rooms.forward(&dead, b"late"));
        rooms.leave(&dead);
        assert!(rooms.forward(&host, b"offer") && rooms.forward(&alive, b"answer"));
        assert_eq!(rooms.next(&alive), message(b"offer"));
        assert_eq!(rooms.next(&host), message(b"answer"), "the host kept its seat");
    }

    #[test]
    fn what_waits_for_a_slow_member_is_bounded() {
        let mut rooms = Rooms::default();
        let (host, _) = rooms.take_seat(ROOM, Role::Host);
        let (guest, _) = rooms.take_seat(ROOM, Role::Guest);
        let n_small = (0..1000).filter(|_| rooms.forward(&host, b"small")).count();
        assert_eq!(n_small, MAX_MESSAGES);
        let n_large = (0..1000).filter(|_| rooms.forward(&guest, &LARGE)).count();
        assert_eq!(n_large, 3);
        assert_eq!(rooms.n_bytes, 64 * 5 + 3 * 32 * 1024);
        rooms.leave(&host);
        rooms.leave(&guest);
        assert_eq!((rooms.len(), rooms.n_bytes), (0, 0));
    }

    #[test]
    fn what_waits_in_all_rooms_is_bounded() {
        let mut rooms = Rooms::default();
        let n_queued: usize = (0..2000)
            .map(|i| {
                let room = format!("room-{i}");
                let (host, _) = rooms.take_seat(&room, Role::Host);
                rooms.take_seat(&room, Role::Guest);
                (0..3).filter(|_| rooms.forward(&host, &LARGE)).count()
            })
            .sum();
        assert_eq!(n_queued, MAX_TOTAL_BYTES / (32 * 1024));
    }
}
