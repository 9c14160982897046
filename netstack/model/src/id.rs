//! Identifiers of tenants, devices and tokens, and which node a snapshot is for. Makes no randomness.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::text::{cbor_as_bytes, serde_as_text};
use crate::time::Timestamp;

/// The text is not a UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be a UUID such as 0190a3c4-7b1d-7c2e-9f00-2d6f5b8e1a34")]
pub struct BadId {
    what: &'static str,
}

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = concat!("Identifies one ", $what, ": a UUIDv7 (RFC 9562), so ids sort by the time they were made.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A UUIDv7 of this instant; `random` fills the 74 bits that are not time or version.
            pub fn new(at: Timestamp, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(at.unix_millis(), &random).into_uuid())
            }

            /// The 16 bytes, big-endian, as given.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes, big-endian.
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Uuid::try_parse(text).map(Self).map_err(|_| BadId { what: concat!($what, " id") })
            }
        }

        cbor_as_bytes!($name, 16);
        serde_as_text!($name);
    };
}

id!(TenantId, "tenant");
id!(DeviceId, "device");
id!(TokenId, "token");
id!(UserId, "user");
id!(ApiTokenId, "API token");
id!(AuditId, "audit entry");
id!(CommandId, "device command");

/// Who a snapshot is for: the hub of the tenant, or one of its devices. Both run the same engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, minicbor::Encode, minicbor::Decode)]
pub enum NodeId {
    /// The server end of the tenant's mesh.
    #[n(0)]
    Hub,
    /// An enrolled device.
    #[n(1)]
    Device(#[n(0)] DeviceId),
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub => f.write_str("hub"),
            Self::Device(id) => id.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_survive_text() {
        let early = DeviceId::new(Timestamp::from_unix_micros(1_000_000), [255; 10]);
        let late = DeviceId::new(Timestamp::from_unix_micros(2_000_000), [0; 10]);
        assert!(early < late);
        assert_eq!(early.to_string().parse(), Ok(early));
        assert!("not an id".parse::<DeviceId>().is_err());
    }
}
