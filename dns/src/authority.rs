//! Who answers for a zone, and since which change: the SOA and NS of its top, and the SOA of negative answers. Knows
//! no other record.

use model::limits::NEGATIVE_TTL_SECONDS;

use crate::limits::{SOA_EXPIRE_SECONDS, SOA_REFRESH_SECONDS, SOA_RETRY_SECONDS};
use crate::wire::{NAME_BYTES_MAX, Origin};

/// The label of the hub in every zone, in wire form.
pub(crate) const SERVER_LABEL: &[u8] = b"\x03hub";
/// The mailbox of who is responsible (RFC 2142).
pub(crate) const MAILBOX_LABEL: &[u8] = b"\x0ahostmaster";

/// Names are in wire form without the root.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub(crate) server: Box<[u8]>,
    pub(crate) mailbox: Box<[u8]>,
    /// Both are names below the origin, as they are unless it is too long for that.
    pub(crate) below_origin: bool,
    serial: u32,
}

impl Authority {
    /// An origin too long for the names of server and mailbox stands for both.
    pub(crate) fn new(origin: &Origin, serial: u32) -> Self {
        let child = |label: &[u8]| {
            let name = [label, &origin.wire].concat();
            (name.len() <= NAME_BYTES_MAX).then_some(name.into())
        };
        let (server, mailbox) = (child(SERVER_LABEL), child(MAILBOX_LABEL));
        let below_origin = server.is_some() && mailbox.is_some();
        let whole = |name: Option<Box<[u8]>>| name.unwrap_or_else(|| origin.wire.clone());
        Self { server: whole(server), mailbox: whole(mailbox), below_origin, serial }
    }

    pub(crate) const fn set_serial(&mut self, serial: u32) {
        self.serial = serial;
    }

    pub(crate) const fn serial(&self) -> u32 {
        self.serial
    }

    /// What follows the names in a SOA: serial, refresh, retry, expiry, and how long a negative answer holds.
    pub(crate) fn numbers(&self) -> [u8; 20] {
        let [refresh, retry, expire] =
            [SOA_REFRESH_SECONDS, SOA_RETRY_SECONDS, SOA_EXPIRE_SECONDS].map(i32::cast_unsigned);
        let numbers = [self.serial, refresh, retry, expire, NEGATIVE_TTL_SECONDS];
        let mut bytes = [0; 20];
        bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers).for_each(|(to, from)| *to = from.to_be_bytes());
        bytes
    }
}
