//! The steps of the way to an answer, as people read them. Knows no zone.

use std::fmt;

/// One step of the way to an answer. Names are without the final dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// The asker is in no tenant's block: refused.
    Stranger,
    /// A whole zone is asked for, by AXFR or IXFR: refused, whoever asks (RFC 5936, section 5).
    Transfer,
    /// The type is no type of records, such as TKEY: refused (RFC 6895, section 3.1).
    NoType,
    /// The name is of no zone that the asker sees: refused, or asked elsewhere.
    Foreign {
        /// Asked for.
        name: String,
    },
    /// The name is at or below the origin of a zone that the asker sees.
    Zone {
        /// The top of the zone.
        origin: String,
        /// Whether it is the asker's own, or another tenant's that they may see.
        own: bool,
    },
    /// The name is in the reverse tree of the asker's block.
    Block {
        /// The top of the reverse zone.
        apex: String,
    },
    /// The name does not exist, and a wildcard answers for it (RFC 4592).
    Wildcard {
        /// Asked for.
        name: String,
        /// The nearest name above that exists: `*` below it answers.
        encloser: String,
    },
    /// The name is an alias.
    Alias {
        /// Asked for.
        name: String,
        /// What is asked for next.
        target: String,
    },
    /// The alias leads out of the zone: others are asked, or the asker goes on.
    Outside {
        /// Where to.
        name: String,
    },
    /// The aliases lead in a circle, or on and on: given as far as this.
    Endless {
        /// Where it was given up.
        name: String,
    },
    /// The name has records of the type.
    Records {
        /// Whose they are.
        name: String,
        /// How many.
        count: usize,
    },
    /// The name exists, but not with this type: no error and no record.
    NoRecords {
        /// Asked for.
        name: String,
    },
    /// The name does not exist.
    Missing {
        /// Asked for.
        name: String,
        /// The nearest name above that does.
        encloser: String,
    },
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger => write!(f, "the asker's address is in no tenant's block: refused"),
            Self::Transfer => write!(f, "transfers of whole zones are refused (RFC 5936)"),
            Self::NoType => write!(f, "that is no type of records"),
            Self::Foreign { name } => write!(f, "{name} is of no zone that the asker sees"),
            Self::Zone { origin, own: true } => write!(f, "the zone {origin} is the asker's own"),
            Self::Zone { origin, own: false } => write!(f, "the zone {origin} is another tenant's"),
            Self::Block { apex } => write!(f, "the zone {apex} is of the asker's addresses"),
            Self::Wildcard { name, encloser } => {
                write!(f, "{name} does not exist; *.{encloser} answers for it")
            }
            Self::Alias { name, target } => write!(f, "{name} is an alias of {target}"),
            Self::Outside { name } => {
                write!(f, "{name} is outside of the zone: asked of others, or by the asker")
            }
            Self::Endless { name } => write!(f, "the aliases do not end: given up at {name}"),
            Self::Records { name, count: 1 } => write!(f, "{name} has a record of this type"),
            Self::Records { name, count } => write!(f, "{name} has {count} records of this type"),
            Self::NoRecords { name } => write!(f, "{name} exists, without records of this type"),
            Self::Missing { name, encloser } => {
                write!(f, "{name} does not exist, nor *.{encloser}")
            }
        }
    }
}
