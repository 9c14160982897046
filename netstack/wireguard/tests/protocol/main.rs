//! The protocol against boringtun's, an implementation of others, and against an attacker.

mod cookies;
mod handshakes;
mod known;
mod oracle;
