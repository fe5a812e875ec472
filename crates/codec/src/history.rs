use crate::UnitId;
use crate::prediction::State;

/// Units that are remembered: more than the oldest reference and its tap.
const CAPACITY: usize = 64;

/// The states of the last units, by id, in bounded space.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// The state of unit `id` is at `id % CAPACITY`, or nowhere.
    slots: Vec<Option<Entry>>,
    newest: Option<UnitId>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: UnitId,
    state: State,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { slots: vec![None; CAPACITY], newest: None }
    }

    #[cfg(test)]
    fn newest(&self) -> Option<UnitId> {
        self.newest
    }

    pub(crate) fn state(&self, id: UnitId) -> Option<&State> {
        let entry = self.slots[usize::from(id.get()) % CAPACITY].as_ref()?;
        (entry.id == id).then_some(&entry.state)
    }

    /// Remembers a unit.
    ///
    /// A unit older than the window is let go, unless it `restarts` the stream: a key unit so far
    /// off is the first after an outage longer than ids can count.
    pub(crate) fn insert(&mut self, id: UnitId, state: State, restarts: bool) {
        let lead = self.newest.map_or(1, |newest| id.since(newest));
        if lead <= -(CAPACITY as i32) {
            if !restarts {
                return;
            }
            self.slots.fill(None);
            self.newest = None;
        }
        if lead > 0 || self.newest.is_none() {
            self.newest = Some(id);
            // Units that left the window must not be found when their ids come around again.
            for slot in &mut self.slots {
                if slot.as_ref().is_some_and(|e| id.since(e.id).unsigned_abs() >= CAPACITY as u32) {
                    *slot = None;
                }
            }
        }
        self.slots[usize::from(id.get()) % CAPACITY] = Some(Entry { id, state });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Rate;

    fn at(count: u32) -> UnitId {
        UnitId::from_count(count)
    }

    #[test]
    fn only_the_last_64_are_remembered() {
        let mut history = History::new();
        for count in 0..70_000 {
            history.insert(at(count), State::rest(Rate::Normal), false);
        }
        assert!(history.state(at(69_999 - 63)).is_some());
        assert!(history.state(at(69_999 - 64)).is_none());
        history.insert(at(69_900), State::rest(Rate::Normal), false); // too late to be of use
        assert!(history.state(at(69_900)).is_none() && history.state(at(69_964)).is_some());
    }

    #[test]
    fn nothing_is_found_when_ids_come_around_after_an_outage() {
        let mut history = History::new();
        history.insert(at(10), State::rest(Rate::Normal), true);
        for count in [30_000, 60_000, 65_536] {
            history.insert(at(count), State::rest(Rate::Normal), false);
        }
        assert!(history.state(at(65_536 + 10)).is_none());
    }

    #[test]
    fn a_key_unit_from_another_age_starts_over() {
        let mut history = History::new();
        history.insert(at(3000), State::rest(Rate::Normal), true);
        history.insert(at(1500), State::rest(Rate::Normal), false);
        assert_eq!(history.newest(), Some(at(3000)));
        history.insert(at(1500), State::rest(Rate::Normal), true);
        assert_eq!(history.newest(), Some(at(1500)));
        assert!(history.state(at(3000)).is_none());
    }
}
