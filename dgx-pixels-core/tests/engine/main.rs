//! The engine from outside: what it promises, and the faults that it survives.
#![cfg(feature = "engine")]

mod deaths;
mod empty;
mod faults;
mod kills;
mod memory;
mod records;
mod rig;
mod serving;
mod survival;
