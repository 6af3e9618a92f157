//! Tests of the whole.

mod program;
