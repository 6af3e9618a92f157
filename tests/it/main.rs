//! Tests of the whole.

#[cfg(feature = "torch")]
mod docs;
mod program;
#[cfg(feature = "torch")]
mod sprite_xl;
