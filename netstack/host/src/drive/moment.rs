//! What the service manager hears of a node.

/// What the service manager is told (`sd_notify(3)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moment {
    /// The host was read for the first time.
    Ready,
    /// The loop turns; at least once in five seconds.
    Alive,
    /// One line for people.
    Status(String),
    /// The node is leaving.
    Stopping,
}
