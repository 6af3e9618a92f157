//! The program as clients meet it.

mod clients;
mod costs;
mod desk;
mod doors;
mod fairness;
mod game;
mod groups;
mod guards;
mod health;
mod limits;
mod protocol;
mod tools;
mod transport;
mod work;
