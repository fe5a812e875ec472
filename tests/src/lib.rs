//! Harness of the tests that cross crates: a GPU if the machine has one, picture comparison, bad
//! networks, attacks on the real program, and the bodies of the fuzz targets.

pub mod actor;
pub mod attack;
pub mod compare;
pub mod fuzzing;
pub mod gpu;
pub mod netsim;
