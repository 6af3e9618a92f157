//! The program as clients meet it.

mod clients;
mod costs;
mod desk;
mod fairness;
mod game;
mod groups;
mod guards;
mod tools;
mod transport;
#[cfg(feature = "torch")]
mod work;
