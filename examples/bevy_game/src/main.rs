//! Game.
fn main() {}
