use types::UnitNumber;

use crate::prediction::State;

/// Units that are remembered: more than the oldest reference and its tap.
const CAPACITY: usize = 64;

/// The states of the last units, by id, in bounded space.
#[derive(Clone, Debug)]
pub(crate) struct History {
    /// The state of unit `id` is at `id % CAPACITY`, or nowhere.
    slots: Vec<Option<Entry>>,
    newest: Option<UnitNumber>,
}

#[derive(Clone, Debug)]
struct Entry {
    id: UnitNumber,
    state: State,
}

impl History {
    pub(crate) fn new() -> Self {
        Self { slots: vec![None; CAPACITY], newest: None }
    }

    #[cfg(test)]
    fn newest(&self) -> Option<UnitNumber> {
        self.newest
    }

    pub(crate) fn state(&self, id: UnitNumber) -> Option<&State> {
        let entry = self.slots[slot_of(id)].as_ref()?;
        (entry.id == id).then_some(&entry.state)
    }

    /// Remembers a unit.
    ///
    /// A unit older than the window is dropped, unless it `restarts` the stream, as a key unit does.
    pub(crate) fn insert(&mut self, id: UnitNumber, state: State, restarts: bool) {
        let lead = self.newest.map_or(1, |newest| id.since(newest));
        if lead <= -(CAPACITY as i64) {
            if !restarts {
                return;
            }
            self.slots.fill(None);
            self.newest = None;
        }
        if lead > 0 || self.newest.is_none() {
            self.newest = Some(id);
            for slot in &mut self.slots {
                if slot.as_ref().is_some_and(|e| id.since(e.id).unsigned_abs() >= CAPACITY as u64) {
                    *slot = None;
                }
            }
        }
        self.slots[slot_of(id)] = Some(Entry { id, state });
    }
}

fn slot_of(id: UnitNumber) -> usize {
    (id.0 % CAPACITY as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::Rate;

    fn at(count: u64) -> UnitNumber {
        UnitNumber(count)
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
