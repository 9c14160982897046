//! Super-packets: what a TUN device with a virtio-net header reads and writes in place of single packets.
//!
//! The kernel's stack runs once for up to 64 KiB of a flow. On the way out [`Cut`] makes the packets of the wire
//! out of one super-packet; on the way in [`Joiner`] makes super-packets out of the packets of a batch, by the rules
//! of the kernel's own GRO (`net/ipv4/tcp_offload.c`, `net/ipv4/udp_offload.c`). Both are pure: no descriptor, no
//! peer, no encryption.

mod checksum;
mod cut;
mod flow;
mod join;
#[cfg(test)]
mod kernel;
#[cfg(test)]
mod packets;
mod vnet;

pub(crate) use cut::Cut;
pub(crate) use flow::Joins;
pub(crate) use join::Joiner;
pub(crate) use vnet::{Kind, VNET_HEADER_BYTES, VnetHeader};

/// Numbers of IANA's registry of protocols.
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Bytes of a header without options.
const IPV4_BYTES: usize = 20;
const IPV6_BYTES: usize = 40;
const TCP_BYTES: usize = 20;
const UDP_BYTES: usize = 8;

/// Where a checksum is in its transport header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Flags in the fourteenth byte of a TCP header (RFC 9293, RFC 3168).
mod flags {
    pub(super) const FIN: u8 = 0x01;
    pub(super) const SYN: u8 = 0x02;
    pub(super) const RST: u8 = 0x04;
    pub(super) const PSH: u8 = 0x08;
    pub(super) const ACK: u8 = 0x10;
    pub(super) const URG: u8 = 0x20;
    pub(super) const CWR: u8 = 0x80;
}

/// Two bytes of a header, in the order of the network. The caller knows that they are there.
fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes of a header, in the order of the network.
fn double_word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Writes two bytes of a header, in the order of the network.
fn set_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
