//! Control messages as the kernel reads and writes them (cmsg(3), ip(7), ipv6(7), udp(7)). Calls nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nix::libc;

/// More than IPv6's packet information, traffic class, segment size and time take: 40 + 24 + 24 + 32.
pub(super) const CONTROL_BYTES: usize = 128;
/// `cmsghdr` as the kernel has it: length, level, kind.
const HEADER_BYTES: usize = size_of::<usize>() + 8;
/// The two bits of the type of service that are for congestion (RFC 3168, section 5).
const ECN_MASK: u8 = 3;

/// Control messages, one after another.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control {
    pub(super) bytes: [u8; CONTROL_BYTES],
    pub(super) length: usize,
}

/// What came with a datagram.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Our address.
    pub(super) local: Option<IpAddr>,
    /// Bits for congestion.
    pub(super) ecn: u8,
    /// The length of each of the joined datagrams but the last.
    pub(super) stride: Option<usize>,
    /// When the kernel had it, in wall time since 1970.
    pub(super) came: Option<Duration>,
}

impl Control {
    /// Nothing yet.
    pub(super) const EMPTY: Self = Self { bytes: [0; CONTROL_BYTES], length: 0 };
    /// Room for what comes.
    pub(super) const ROOM: Self = Self { bytes: [0; CONTROL_BYTES], length: CONTROL_BYTES };

    /// The datagram is to leave from this address.
    pub(super) fn leave_from(&mut self, local: IpAddr) {
        match local {
            // in_pktinfo: interface, address to leave from, and one that only the kernel sets.
            IpAddr::V4(local) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&local.octets());
                self.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            // in6_pktinfo: address, interface.
            IpAddr::V6(local) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&local.octets());
                self.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
        }
    }

    /// Type of service or traffic class of the outer header.
    pub(super) fn class(&mut self, class: u8, v4: bool) {
        let class = libc::c_int::from(class).to_ne_bytes();
        if v4 {
            self.put(libc::IPPROTO_IP, libc::IP_TOS, &class);
        } else {
            self.put(libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class);
        }
    }

    /// The kernel is to cut what is sent into datagrams of this length.
    pub(super) fn segments(&mut self, stride: u16) {
        self.put(libc::SOL_UDP, libc::UDP_SEGMENT, &stride.to_ne_bytes());
    }

    fn put(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let length = HEADER_BYTES + data.len();
        let space = length.next_multiple_of(size_of::<usize>());
        let into =
            self.bytes[self.length..].get_mut(..space).expect("there is room for one message of each kind");
        let (header, rest) = into.split_at_mut(size_of::<usize>());
        header.copy_from_slice(&length.to_ne_bytes());
        rest[..4].copy_from_slice(&level.to_ne_bytes());
        rest[4..8].copy_from_slice(&kind.to_ne_bytes());
        rest[8..8 + data.len()].copy_from_slice(data);
        self.length += space;
    }

    /// What the kernel wrote. Kinds that nobody asked for are passed over.
    pub(super) fn read(&self) -> Told {
        let mut told = Told::default();
        let mut rest = self.bytes.get(..self.length).unwrap_or_default();
        while let Some((length, level, kind)) = header(rest) {
            let Some(data) = rest.get(HEADER_BYTES..length) else { break };
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let octets = data.get(4..8).and_then(|octets| <[u8; 4]>::try_from(octets).ok());
                    told.local = octets.map(|octets| Ipv4Addr::from(octets).into()).or(told.local);
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let octets = data.get(..16).and_then(|octets| <[u8; 16]>::try_from(octets).ok());
                    told.local = octets.map(|octets| Ipv6Addr::from(octets).into()).or(told.local);
                }
                // One byte here, an int there.
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    told.ecn = small(data).map_or(0, |class| class.to_le_bytes()[0] & ECN_MASK);
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    told.stride = small(data).and_then(|stride| usize::try_from(stride).ok());
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => told.came = timespec(data),
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
        }
        told
    }
}

/// Seconds and nanoseconds, as wide as the machine's integers.
fn timespec(data: &[u8]) -> Option<Duration> {
    let (seconds, nanos) = data.split_at_checked(size_of::<libc::time_t>())?;
    let seconds = libc::time_t::from_ne_bytes(seconds.try_into().ok()?);
    let (nanos, _) = nanos.split_first_chunk()?;
    let nanos = libc::c_long::from_ne_bytes(*nanos);
    Some(Duration::new(seconds.try_into().ok()?, nanos.try_into().ok()?))
}

/// A byte or an int.
fn small(data: &[u8]) -> Option<u32> {
    match *data {
        [byte] => Some(byte.into()),
        [a, b, c, d, ..] => Some(u32::from_ne_bytes([a, b, c, d])),
        _ => None,
    }
}

/// Length with header, level and kind of the first message.
fn header(bytes: &[u8]) -> Option<(usize, libc::c_int, libc::c_int)> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (level, rest) = rest.split_first_chunk()?;
    let (kind, _) = rest.split_first_chunk()?;
    let length = usize::from_ne_bytes(*length);
    (length >= HEADER_BYTES)
        .then(|| (length, libc::c_int::from_ne_bytes(*level), libc::c_int::from_ne_bytes(*kind)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_messages_are_as_long_as_the_headers_of_the_c_library_say() {
        let mut control = Control::EMPTY;
        let mut expected = 0;
        for (local, v4, info) in [("192.0.2.1", true, 12), ("2001:db8::1", false, 20)] {
            control.length = 0;
            control.leave_from(local.parse().expect("an address"));
            control.class(0x8a, v4);
            control.segments(1452);
            // SAFETY: only arithmetic.
            #[allow(unsafe_code)]
            let space = |bytes| unsafe { libc::CMSG_SPACE(bytes) as usize };
            expected = space(info) + space(4) + space(2);
            assert_eq!(control.length, expected);
            let told = Told { local: local.parse().ok(), ecn: 2, stride: None, came: None };
            assert_eq!(control.read(), told, "UDP_SEGMENT is not what the kernel says");
        }
        assert!(expected <= CONTROL_BYTES);
    }

    #[test]
    fn what_the_kernel_says_is_read_and_nonsense_is_not() {
        let mut control = Control::EMPTY;
        control.put(libc::SOL_SOCKET, 77, &[1, 2, 3]);
        control.put(libc::IPPROTO_IP, libc::IP_TOS, &[0xff]);
        let stamp = [3, 4].map(libc::c_long::to_ne_bytes).concat();
        control.put(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &stamp);
        control.put(libc::SOL_UDP, libc::UDP_GRO, &1452i32.to_ne_bytes());
        assert_eq!(
            control.read(),
            Told { local: None, ecn: 3, stride: Some(1452), came: Some(Duration::new(3, 4)) }
        );
        // The last four bytes only fill up.
        for length in 0..control.length - 4 {
            let cut = Control { length, ..control };
            assert!(cut.read() != control.read(), "{length}");
        }
        for nonsense in [0, 7, 15, CONTROL_BYTES + 1, usize::MAX] {
            let mut control = control;
            control.bytes[..size_of::<usize>()].copy_from_slice(&nonsense.to_ne_bytes());
            assert_eq!(control.read(), Told::default(), "{nonsense}");
        }
    }
}
