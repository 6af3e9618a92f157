//! The program as clients meet it.

mod clients;
mod desk;
mod fairness;
mod game;
mod groups;
mod guards;
mod limits;
mod tools;
mod transport;
#[cfg(feature = "torch")]
mod work;
