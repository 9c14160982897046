//! Bounds of the endpoint's work: how much is done for one before the next has its turn.

use std::time::Duration;

/// Packets of one connection that are opened before another's turn: what one system call brings of a sender.
pub(super) const PACKETS_AT_ONCE: usize = 64;
/// Packets of one connection that are sent before another's turn, as quinn has it: so that acknowledgements are read between.
pub(super) const SENT_AT_ONCE: usize = 20;
/// Packets that go with one system call, as quinn has it: more win nothing and make a buffer larger.
pub(super) const SEGMENTS_MAX: usize = 10;
/// Packets that a worker opens and sends before other tasks have its thread, as quinn has it.
pub(super) const WORK_MAX: usize = 160;
/// The time for which packets are taken from the socket before other tasks have the thread, as quinn has it.
pub(super) const RECEIVE_TIME_MAX: Duration = Duration::from_micros(50);
/// Packets of one connection that wait to be opened; those beyond are lost. Four times what the kernel holds for a socket, so
/// that only who keeps a worker busy loses some.
pub(super) const WAITING_EACH_MAX: usize = 1024;
/// Packets of all connections that wait to be opened: ten megabytes. Beyond them the kernel's buffer fills, and packets
/// are lost there.
pub(super) const WAITING_MAX: usize = 8192;
