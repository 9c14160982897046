//! The core, asked without sockets.

mod ask;
mod fuzz;
#[path = "../support/home.rs"]
mod home;
mod patches;
mod reference;
mod tables;
