//! The program as clients meet it.

mod clients;
mod desk;
mod game;
mod guards;
mod limits;
mod protocol;
mod tools;
mod transport;
#[cfg(feature = "torch")]
mod work;
