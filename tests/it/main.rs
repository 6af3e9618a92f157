//! Tests of the whole.

mod docs;
mod engines;
mod program;
mod sprite_xl;
