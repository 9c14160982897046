//! Reads a query by hand: header, one question, perhaps an OPT. Whatever else there is in it is not for the hot path.

use crate::node::kind;
use crate::opt::{Opt, options_fit};
use crate::wire::Sought;

/// Of a message (RFC 1035, section 4.1.1).
pub(crate) const HEADER_BYTES: usize = 12;
/// Type, class, TTL and length of an OPT record, and its owner, the root.
const OPT_HEAD_BYTES: usize = 11;
/// Names with more labels are not compressed by everybody alike; an address of IPv6 has 34.
const LABELS_MAX: usize = 40;

/// A query of opcode QUERY for one name of class IN.
pub(super) struct Asked {
    pub(super) name: Sought,
    pub(super) kind: u16,
    pub(super) recursion_desired: bool,
    /// Where the question ends.
    pub(super) end: usize,
    pub(super) opt: Option<Opt>,
}

impl Asked {
    /// `None` for what the slow path should look at: all that is broken or rare.
    pub(super) fn read(query: &[u8]) -> Option<Self> {
        let (header, _) = query.split_first_chunk::<HEADER_BYTES>()?;
        let [_, _, flags, _, 0, 1, 0, 0, 0, 0, 0, additional @ 0..=1] = *header else { return None };
        if flags & 0x78 != 0 {
            return None;
        }
        let (name, end) = Sought::read(query, HEADER_BYTES)?;
        let (&[high, low, 0, 1], rest) = query[end..].split_first_chunk::<4>()? else { return None };
        let kind = u16::from_be_bytes([high, low]);
        let meta = kind == kind::OPT || ((128..=255).contains(&kind) && kind != kind::ANY);
        if meta || name.labels() > LABELS_MAX {
            return None;
        }
        let opt = match additional {
            0 if rest.is_empty() => None,
            0 => return None,
            _ => Some(read_opt(rest)?),
        };
        Some(Self { name, kind, recursion_desired: flags & 0x01 != 0, end: end + 4, opt })
    }

    /// A pointer to the question's name without its first labels.
    pub(super) fn pointer(&self, labels: usize) -> [u8; 2] {
        super::reply::pointer(HEADER_BYTES + self.name.start(labels))
    }
}

/// An OPT record of version 0 that is all that is left.
fn read_opt(rest: &[u8]) -> Option<Opt> {
    let (head, data) = rest.split_first_chunk::<OPT_HEAD_BYTES>()?;
    let [0, 0, 41, payload @ .., _, _, _, _, _, _] = *head else { return None };
    let [_, version, flags, _, high, low] = head[5..] else { return None };
    let opt = Opt::new(
        u16::from_be_bytes(payload),
        u16::from_be_bytes([0, version]),
        u16::from_be_bytes([flags, 0]),
    );
    let fits = usize::from(u16::from_be_bytes([high, low])) == data.len() && options_fit(data);
    (opt.version == 0 && fits).then_some(opt)
}
