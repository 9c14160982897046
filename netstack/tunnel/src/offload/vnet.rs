//! The ten bytes before each packet of a TUN device that was opened with `IFF_VNET_HDR`.
//!
//! `struct virtio_net_hdr` of `include/uapi/linux/virtio_net.h`, in the byte order of the machine: nobody here asks
//! for `TUNSETVNETLE`.

/// Bytes of the header without the number of buffers, which a TUN device does not have by default.
pub(crate) const VNET_HEADER_BYTES: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field holds the sum of the pseudo-header only.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_ECN`: the first segment has CWR. It stands beside the kind.
const ECN: u8 = 0x80;

/// What a packet is cut into: `VIRTIO_NET_HDR_GSO_*`. UFO is never asked for and has no name here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// One packet of the wire.
    Single = 0,
    /// TCP over IPv4.
    Tcp4 = 1,
    /// TCP over IPv6.
    Tcp6 = 4,
    /// UDP datagrams of one size over either family.
    Udp = 5,
}

/// The header. Any value may come from a descriptor: [`super::Cut::new`] checks it against the packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VnetHeader {
    /// `VIRTIO_NET_HDR_F_*`.
    pub(crate) flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`, and whether the first segment has CWR.
    pub(crate) kind: u8,
    /// Bytes of all headers. The kernel gives it as a hint: it may reach into the payload.
    pub(crate) header_bytes: u16,
    /// Bytes of payload of each segment but the last.
    pub(crate) segment_bytes: u16,
    /// Where the transport header starts.
    pub(crate) checksum_start: u16,
    /// Where the checksum is, counted from `checksum_start`.
    pub(crate) checksum_offset: u16,
}

impl VnetHeader {
    /// The header of a packet that is whole, checksums and all.
    pub(crate) const SINGLE: Self =
        Self { flags: 0, kind: 0, header_bytes: 0, segment_bytes: 0, checksum_start: 0, checksum_offset: 0 };

    /// The header of a super-packet whose checksum holds the sum of the pseudo-header.
    pub(crate) fn joined(kind: Kind, ecn: bool) -> Self {
        Self { flags: NEEDS_CHECKSUM, kind: kind as u8 | if ecn { ECN } else { 0 }, ..Self::SINGLE }
    }

    /// The header as it is read from the descriptor.
    pub(crate) fn read(bytes: &[u8; VNET_HEADER_BYTES]) -> Self {
        let field = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Self {
            flags: bytes[0],
            kind: bytes[1],
            header_bytes: field(2),
            segment_bytes: field(4),
            checksum_start: field(6),
            checksum_offset: field(8),
        }
    }

    /// The header as it is written to the descriptor.
    pub(crate) fn write(&self) -> [u8; VNET_HEADER_BYTES] {
        let mut bytes = [0; VNET_HEADER_BYTES];
        bytes[0] = self.flags;
        bytes[1] = self.kind;
        let fields = [self.header_bytes, self.segment_bytes, self.checksum_start, self.checksum_offset];
        for (to, field) in bytes[2..].as_chunks_mut().0.iter_mut().zip(fields) {
            *to = field.to_ne_bytes();
        }
        bytes
    }

    /// What the packet is cut into. `None`: a kind that no TUN device was asked for.
    pub(crate) fn kind(&self) -> Option<Kind> {
        [Kind::Single, Kind::Tcp4, Kind::Tcp6, Kind::Udp]
            .into_iter()
            .find(|kind| *kind as u8 == self.kind & !ECN)
    }

    /// Whether the checksum is to be completed.
    pub(crate) fn needs_checksum(&self) -> bool {
        self.flags & NEEDS_CHECKSUM != 0
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, VnetHeader};

    #[test]
    fn fields_are_where_the_kernel_has_them() {
        let header = VnetHeader {
            flags: 1,
            kind: 4,
            header_bytes: 0x0102,
            segment_bytes: 0x0304,
            checksum_start: 0x0506,
            checksum_offset: 0x0708,
        };
        let mut expected = vec![1, 4];
        for field in [0x0102_u16, 0x0304, 0x0506, 0x0708] {
            expected.extend(field.to_ne_bytes());
        }
        assert_eq!(header.write().to_vec(), expected);
        assert_eq!(VnetHeader::read(&header.write()), header);
    }

    #[test]
    fn a_kind_is_known_with_and_without_ecn() {
        let kind = |kind| VnetHeader { kind, ..VnetHeader::SINGLE }.kind();
        assert_eq!(kind(0), Some(Kind::Single));
        assert_eq!(kind(0x81), Some(Kind::Tcp4));
        assert_eq!(kind(4), Some(Kind::Tcp6));
        assert_eq!(kind(5), Some(Kind::Udp));
        assert_eq!(kind(3), None, "UFO");
        assert_eq!(kind(0x41), None);
    }
}
