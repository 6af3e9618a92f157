//! The engine from outside: what it promises, and the faults that it survives.
#![cfg(feature = "engine")]

mod faults;
mod memory;
mod records;
mod rig;
mod serving;
mod survival;
