//! Text that the other end wrote, for people to read. Hostile until it was cut and cleaned here.

use minicbor::{Decode, Encode};

use crate::limits::REMARK_BYTES_MAX;

/// Short text of a peer, for people: at most [`REMARK_BYTES_MAX`] bytes, control characters replaced when read.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Remark(String);

impl Remark {
    /// Cuts the text to size at a character border and replaces control characters by `?`.
    pub fn new(text: &str) -> Self {
        let mut out: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
        while out.len() > REMARK_BYTES_MAX {
            out.pop();
        }
        Self(out)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Remark {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

crate::text::serde_as_text!(Remark);

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::fmt::Debug for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<C> Encode<C> for Remark {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Remark {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str().map(Self::new)
    }
}
