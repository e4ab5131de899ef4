//! Simulated surroundings, for the demo, tests and benches.

pub mod disk;
