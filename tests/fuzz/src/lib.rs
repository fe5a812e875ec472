//! The parts of the test harness that the fuzz targets need, compiled without the rest of the workspace.

#[path = "../../src/actor.rs"]
pub mod actor;
#[path = "../../src/fuzzing/mod.rs"]
pub mod fuzzing;
