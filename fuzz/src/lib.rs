//! What `cargo fuzz` runs; see CONTRIBUTING.md.

pub mod targets;
