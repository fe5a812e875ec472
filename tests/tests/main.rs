//! What crosses crates, in one binary that is linked once.

mod tidy;
