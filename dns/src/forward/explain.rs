//! Where an answer comes from, for people who ask why. Asks nobody by itself.

use super::Inner;
use super::config::Target;
use super::kept::Age;

/// Where an answer comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It is not forwarded: of the mesh, or no question to pass on.
    Refused,
    /// It is answered here, as nobody is to be asked about the name (RFC 6761, RFC 6303).
    Here,
    /// A server said it just now.
    Server(Option<Target>),
    /// It is kept.
    Kept {
        /// Who said it, if anybody did and is still asked.
        server: Option<Target>,
        /// How long ago; `None`: it has ended, and nobody has a newer one.
        seconds: Option<u32>,
    },
    /// The question is our own, come back to us.
    Loop,
    /// No server gave an answer.
    Nobody,
}

/// As [`Origin`], with servers by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Refused,
    Here,
    Server(u32),
    Kept(u32, Age),
    Loop,
    Nobody,
}

impl Inner {
    pub(super) fn origin(&self, source: Source) -> Origin {
        match source {
            Source::Refused => Origin::Refused,
            Source::Here => Origin::Here,
            Source::Server(number) => Origin::Server(self.target(number)),
            Source::Kept(number, age) => {
                let seconds = match age {
                    Age::Seconds(seconds) => Some(seconds),
                    Age::Stale => None,
                };
                Origin::Kept { server: self.target(number), seconds }
            }
            Source::Loop => Origin::Loop,
            Source::Nobody => Origin::Nobody,
        }
    }

    fn target(&self, number: u32) -> Option<Target> {
        let routes = self.routes.load();
        let mut upstreams = routes.groups().flat_map(|group| &group.upstreams);
        upstreams.find(|upstream| upstream.number == number).map(|upstream| upstream.target().clone())
    }
}
