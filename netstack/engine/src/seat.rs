//! Which of a node's interfaces something is about. Knows no name of one: the shell does.

use std::fmt;

/// Which of a node's interfaces. A device has one; a hub has one that tenants share, and one more for each that has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Seat {
    /// The one that every node has.
    #[default]
    Shared,
    /// A tenant's own, on a hub, by its UDP port: no two programs of a machine listen on one.
    Own(u16),
}

impl fmt::Display for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => f.write_str("shared"),
            Self::Own(port) => write!(f, "own, port {port}"),
        }
    }
}
