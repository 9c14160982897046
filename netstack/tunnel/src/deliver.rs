//! Opened packets to the interface; a super-packet that it does not take goes packet by packet.

use std::io::IoSlice;

use crate::io::tun::{Tun, Written};
use crate::offload::{Cut, VNET_HEADER_BYTES, VnetHeader};

/// Gives a packet, or several joined, to the interface: header for offloads, headers, payload. What it refuses is
/// lost, as on a network. Says whether the interface takes packets, but not joined.
pub(crate) fn deliver(tun: &Tun, parts: &[IoSlice<'_>]) -> bool {
    match tun.write(parts) {
        Ok(Written::Whole) => false,
        Ok(Written::Refused) => deliver_apart(tun, parts),
        Err(error) => {
            tracing::debug!(%error, "packet refused by the interface");
            false
        }
    }
}

#[cold]
fn deliver_apart(tun: &Tun, parts: &[IoSlice<'_>]) -> bool {
    let whole: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
    let Some((header, packet)) = whole.split_first_chunk::<VNET_HEADER_BYTES>() else { return false };
    let Ok(cut) = Cut::new(&VnetHeader::read(header), packet) else { return false };
    for i in 0..cut.count() {
        let mut packet = vec![0; VNET_HEADER_BYTES + cut.bytes(i)];
        cut.write(i, &mut packet[VNET_HEADER_BYTES..]);
        if let Err(error) = tun.write(&[IoSlice::new(&packet)]) {
            tracing::debug!(%error, "packet refused by the interface");
            return false;
        }
    }
    true
}
