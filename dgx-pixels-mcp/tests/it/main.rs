//! The program as clients meet it.

mod clients;
mod desk;
mod game;
mod guards;
mod tools;
mod transport;
#[cfg(feature = "torch")]
mod work;
