//! What the `main` of every daemon does alike: layered configuration, logging, signals, the service manager.
//!
//! Knows nothing of meshes; a daemon says what its settings are, this crate says where they come from.

pub mod config;
pub mod log;
pub mod metrics;
pub mod process;
pub mod service;
pub mod users;
