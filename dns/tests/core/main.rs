//! The core, asked without sockets.

mod ask;
mod edns;
mod explain;
mod fuzz;
#[path = "../support/home.rs"]
mod home;
mod hot;
mod patches;
mod reference;
mod tables;
mod tenants;
mod zones;
