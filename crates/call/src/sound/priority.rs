//! Priorities of threads, so that a machine that cannot keep up drops faces first and sound last.

use thread_priority::{ThreadPriority, ThreadPriorityValue};

/// Of 99; on Linux nice -16. Systems give it to programs that may have it.
const SOUND: u8 = 90;
/// On Linux nice 4.
const FACE: u8 = 40;

/// Raises the priority of this thread, if the system allows it.
pub(crate) fn raise_priority() {
    set(SOUND);
}

/// Lowers the priority of this thread below that of sound.
pub(crate) fn lower_priority() {
    set(FACE);
}

fn set(priority: u8) {
    if let Ok(value) = ThreadPriorityValue::try_from(priority) {
        // A thread with the usual priority does its work, too.
        let _ = ThreadPriority::Crossplatform(value).set_for_current();
    }
}
