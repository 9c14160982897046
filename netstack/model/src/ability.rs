//! What the program on a device knows beyond what every version does. Each device says it when it enrols or attaches, and the
//! server gives it a snapshot with nothing else in it. A part of the snapshot that came later has its ability here.

use minicbor::{Decode, Encode};

/// A set of abilities. An agent of before says nothing: it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Encode, Decode)]
#[cbor(transparent)]
pub struct Abilities(#[n(0)] u32);

impl Abilities {
    /// None at all.
    pub const NONE: Self = Self(0);
    /// Takes other devices for its peers, and finds paths to them and by relays.
    pub const PATHS: Self = Self(1);
    /// Reads what a snapshot says of SSH.
    pub const SSH: Self = Self(2);
    /// Tells being expired, or of a closed tenant, from waiting for an approval.
    pub const STANDINGS: Self = Self(1 << 8);
    /// Does what it is told by device commands.
    pub const COMMANDS: Self = Self(1 << 9);
    /// Makes another WireGuard key when it is told to.
    pub const REKEY: Self = Self(1 << 10);
    /// Reads what each person is permitted on it.
    pub const SSH_PERMITS: Self = Self(1 << 11);
    /// All that this version knows.
    pub const KNOWN: Self = Self(
        Self::PATHS.0
            | Self::SSH.0
            | Self::STANDINGS.0
            | Self::COMMANDS.0
            | Self::REKEY.0
            | Self::SSH_PERMITS.0,
    );

    /// As they are kept.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Of what was kept.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Whether it has all of these.
    pub const fn has(self, these: Self) -> bool {
        self.0 & these.0 == these.0
    }

    /// Whether it has one of these.
    pub const fn has_any(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    /// These and those.
    #[must_use]
    pub const fn and(self, those: Self) -> Self {
        Self(self.0 | those.0)
    }

    /// Without those that this version does not know: a server that knows more hears of them again.
    #[must_use]
    pub const fn known(self) -> Self {
        Self(self.0 & Self::KNOWN.0)
    }
}
