//! Decoders of other crates, which may panic on the bytes of a stranger.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static IS_CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Returns whether a panic of the current thread, at this moment, only means that a clip is damaged. A
/// panic hook may then keep silent.
pub fn is_contained() -> bool {
    IS_CONTAINED.get()
}

/// Runs a decoder; `None` if it panics.
pub(crate) fn contain<T>(decode: impl FnOnce() -> T) -> Option<T> {
    let before = IS_CONTAINED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(decode));
    IS_CONTAINED.set(before);
    result.ok()
}
