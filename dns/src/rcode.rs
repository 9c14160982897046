//! The response codes that we give, and what metrics call them. Knows not when which is given.

use std::fmt;

use hickory_proto::op::ResponseCode;

/// The response codes that we give (RFC 1035, section 4.1.1; RFC 6891, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rcode {
    /// The name exists.
    NoError,
    /// The query is no DNS query.
    FormErr,
    /// We failed to write the answer.
    ServFail,
    /// The name does not exist.
    NxDomain,
    /// An opcode that we do not serve.
    NotImp,
    /// The asker or the name is none of ours.
    Refused,
    /// An EDNS version that we do not know.
    BadVers,
}

impl Rcode {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::NoError,
        Self::FormErr,
        Self::ServFail,
        Self::NxDomain,
        Self::NotImp,
        Self::Refused,
        Self::BadVers,
    ];

    /// The name in lower case, as a metric's label: `noerror`, `nxdomain`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoError => "noerror",
            Self::FormErr => "formerr",
            Self::ServFail => "servfail",
            Self::NxDomain => "nxdomain",
            Self::NotImp => "notimp",
            Self::Refused => "refused",
            Self::BadVers => "badvers",
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Rcode> for ResponseCode {
    fn from(code: Rcode) -> Self {
        match code {
            Rcode::NoError => Self::NoError,
            Rcode::FormErr => Self::FormErr,
            Rcode::ServFail => Self::ServFail,
            Rcode::NxDomain => Self::NXDomain,
            Rcode::NotImp => Self::NotImp,
            Rcode::Refused => Self::Refused,
            Rcode::BadVers => Self::BADVERS,
        }
    }
}
