//! The harness of the tests that cross crates: a GPU where there is one, comparisons whose
//! failures say where and by how much, and bad networks.

pub mod actor;
pub mod compare;
pub mod gpu;
pub mod netsim;
