//! The program as clients meet it.

mod clients;
mod desk;
mod guards;
mod tools;
#[cfg(feature = "torch")]
mod work;
