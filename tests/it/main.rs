//! Tests of the whole.

mod program;
#[cfg(feature = "torch")]
mod sprite_xl;
