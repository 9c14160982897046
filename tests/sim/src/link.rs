//! A link: a reliable ordered stream in each direction, which the network delays, holds back and ends, but never bends.

use std::collections::VecDeque;
use std::time::Duration;

use model::Mono;
use model::wire::Channel;

/// What travels.
#[derive(Debug, Clone)]
pub enum Item {
    /// The bytes of one frame.
    Frame(Vec<u8>),
    /// The other end closed.
    End,
}

/// Where an item goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From node to server.
    Up,
    /// From server to node.
    Down,
}

/// Who dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Client {
    /// A machine, in one of its lives.
    Machine(usize, u64),
    /// Somebody hostile.
    Stranger(usize),
}

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// A server, in one of its lives.
    Replica(usize, u64),
    /// Somebody who pretends to be one.
    Forger,
}

/// One direction.
#[derive(Debug, Default)]
pub struct Pipe {
    /// When what was sent last arrives: nothing overtakes it.
    last: Mono,
    /// Sent, and held back by a partition.
    pub held: VecDeque<Item>,
}

impl Pipe {
    /// When something that is sent now arrives.
    pub fn arrival(&mut self, at: Mono, latency: Duration) -> Mono {
        self.last = self.last.max(at + latency);
        self.last
    }
}

/// One link.
pub struct Link {
    /// Who dialled; `None` once it let go.
    pub client: Option<Client>,
    /// Who answers; `None` once it let go.
    pub server: Option<Server>,
    /// What the client has for a channel.
    pub channel: Channel,
    /// Nobody hostile is on it.
    pub honest: bool,
    /// From node to server.
    pub up: Pipe,
    /// From server to node.
    pub down: Pipe,
    /// How long an item takes at least.
    pub latency: Duration,
    /// Frames that the server has queued and not written.
    pub unwritten: u32,
    /// How long the server takes to write one.
    pub writes_in: Duration,
    /// When the last one is written.
    pub written_at: Mono,
    /// What the client sent so far, for who records it.
    pub record: Vec<Vec<u8>>,
}

impl Link {
    /// The pipe of one way.
    pub const fn pipe(&mut self, way: Way) -> &mut Pipe {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }
}
