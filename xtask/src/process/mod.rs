//! Child processes: started, watched and ended without leaving one behind.

mod managed;
mod run;
mod spawner;

pub use managed::{ManagedProcess, ProcessSpec};
pub use run::{Captured, capture, captured, run, run_recorded, succeeds};
pub use spawner::spawn;
