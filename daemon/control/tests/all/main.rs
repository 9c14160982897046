//! The server's decisions from outside: tables, properties, links driven frame by frame, two replicas on one store.

mod abilities;
mod authorities;
mod between;
mod commands;
mod decide;
mod handshake;
mod hosts;
mod hub_key;
mod lease;
mod node;
mod own_interfaces;
mod plans;
mod publishing;
mod replicas;
mod revocations;
mod store;
mod tenants;
mod world;
