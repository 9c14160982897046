//! Where inner packets come from and go to: a TUN interface that is made here and gone when dropped, or a packet
//! descriptor of somebody in this process. Knows no WireGuard.
//!
//! Every packet has the kernel's header for offloads (`struct virtio_net_hdr`, 10 bytes) before it, in both
//! directions. See tun(4) of the kernel's `Documentation/networking/tuntap.rst` and netdevice(7).

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

/// Bytes of the header before every packet.
pub(crate) const HEADER_BYTES: usize = 10;
/// What one read may give: the header and the largest packet.
pub(crate) const READ_BYTES: usize = HEADER_BYTES + 65_535;

/// `flags` and `gso_type` of the header that nothing is left to do for.
const PLAIN: [u8; 2] = [0, 0];
/// Packets that one read passes over because the kernel cannot describe them.
const UNREADABLE_MAX: u32 = 16;
/// Parts of a packet that a packet descriptor takes: header, headers, payload and one to spare.
const PARTS_MAX: usize = 4;

/// What the kernel may leave to whoever reads: super-packets to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Offloads {
    /// Partial checksums and TCP super-packets of both families.
    pub(crate) tcp: bool,
    /// UDP super-packets of both families; since Linux 6.2.
    pub(crate) udp: bool,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Written {
    /// It is through.
    Whole,
    /// A super-packet that is not taken: its packets are to be written one by one. If they fail too, then it was
    /// not their being together: `EIO` is also what an interface that is down says.
    Refused,
}

/// A source and sink of packets. Nothing blocks.
pub(crate) struct Tun(End);

enum End {
    Interface {
        file: File,
        /// `SIOCGIFMTU` needs a socket of the interface's network namespace.
        control: UdpSocket,
        name: String,
    },
    Descriptor {
        socket: Socket,
        mtu: u16,
    },
}

impl Tun {
    /// Makes a non-persistent interface in the network namespace of the calling thread, with all offloads that the
    /// kernel has or with none.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no interface can have, `EBUSY` for one that is taken, `EPERM` without
    /// `CAP_NET_ADMIN`, `ENOENT` without `/dev/net/tun`.
    pub(crate) fn create(name: &str, mtu: u16, offload: bool) -> io::Result<Self> {
        let mut request = named(name)?;
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL | libc::IFF_VNET_HDR;
        request.ifr_ifru.ifru_flags = i16::from_ne_bytes(low_half(flags));
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        let control = UdpSocket::bind(("127.0.0.1", 0))?;
        ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request)?;
        let mut request = named(name)?;
        request.ifr_ifru.ifru_mtu = mtu.into();
        ioctl(control.as_raw_fd(), libc::SIOCSIFMTU, &mut request)?;
        let tun = Self(End::Interface { file, control, name: name.to_owned() });
        let offloads = tun.set_offload(offload)?;
        tracing::debug!(?offloads, "tun interface made");
        Ok(tun)
    }

    /// A descriptor that keeps the borders of packets and carries them bare: one end of a socketpair(2) of
    /// `SOCK_SEQPACKET` or `SOCK_DGRAM`. With the former, a closed other end is an error of [`Self::read`].
    ///
    /// # Errors
    /// What fcntl(2) has against `O_NONBLOCK`.
    pub(crate) fn over(fd: OwnedFd, mtu: u16) -> io::Result<Self> {
        let socket = Socket::from(fd);
        socket.set_nonblocking(true)?;
        Ok(Self(End::Descriptor { socket, mtu }))
    }

    /// Whether the interface was deleted, or the other end of a descriptor closed, though nobody read it yet.
    pub(crate) fn is_gone(&self) -> bool {
        let mut fds = [PollFd::new(self.as_fd(), PollFlags::empty())];
        let gone = PollFlags::POLLERR | PollFlags::POLLHUP;
        poll(&mut fds, PollTimeout::ZERO)
            .is_ok_and(|_| fds[0].revents().is_some_and(|seen| seen.intersects(gone)))
    }

    /// The MTU now; anyone may change an interface's at any time.
    pub(crate) fn mtu(&self) -> io::Result<usize> {
        let (control, name) = match &self.0 {
            End::Interface { control, name, .. } => (control, name),
            End::Descriptor { mtu, .. } => return Ok((*mtu).into()),
        };
        let mut request = named(name)?;
        ioctl(control.as_raw_fd(), libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU succeeded, so the kernel wrote this member of the union; all of it was zeroed before.
        #[allow(unsafe_code)]
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        usize::try_from(mtu).map_err(io::Error::other)
    }

    /// Lets the kernel leave work to the reader, or do it all itself, from the next packet of its stack on, and tells
    /// which work that is. Those on their way may still be super-packets. A descriptor has no offloads.
    ///
    /// # Errors
    /// `EBADFD` if the interface is gone.
    pub(crate) fn set_offload(&self, wanted: bool) -> io::Result<Offloads> {
        const TCP: libc::c_uint =
            libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
        const UDP: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;
        let End::Interface { file, .. } = &self.0 else { return Ok(Offloads::default()) };
        let steps =
            [(TCP | UDP, Offloads { tcp: true, udp: true }), (TCP, Offloads { tcp: true, udp: false })];
        for (flags, offloads) in steps.into_iter().filter(|_| wanted) {
            match set_offload(file, flags) {
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                set => return set.map(|()| offloads),
            }
        }
        set_offload(file, 0).map(|()| Offloads::default())
    }

    /// Header and packet, at most [`READ_BYTES`], or `WouldBlock`. Any other error means that the interface or the
    /// other end is gone.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((header, packet)) = buffer.split_at_mut_checked(HEADER_BYTES) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        match &self.0 {
            End::Interface { file, .. } => read_described(file, buffer),
            End::Descriptor { socket, .. } => {
                let mut reader = socket;
                let length = retried(|| reader.read(packet))?;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                header.fill(0);
                Ok(HEADER_BYTES + length)
            }
        }
    }

    /// Header and packet, in as many parts as writev(2) takes for an interface; for a descriptor [`PARTS_MAX`], of
    /// which the first begins with the whole header. The header of what is not a super-packet and needs no checksum
    /// is all zeros.
    ///
    /// # Errors
    /// `EIO` if the interface is down, `WouldBlock` if the other end of a descriptor is slow: the packet is lost.
    pub(crate) fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<Written> {
        let plain = parts.first().is_some_and(|first| first.starts_with(&PLAIN));
        let written = match &self.0 {
            End::Interface { file, .. } => {
                let mut writer = file;
                retried(|| writer.write_vectored(parts))
            }
            End::Descriptor { .. } if !plain => return Ok(Written::Refused),
            End::Descriptor { socket, .. } => write_bare(socket, parts),
        };
        match written {
            Ok(_) => Ok(Written::Whole),
            Err(error) if !plain && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO)) => {
                Ok(Written::Refused)
            }
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            End::Interface { file, .. } => file.as_fd(),
            End::Descriptor { socket, .. } => socket.as_fd(),
        }
    }
}

/// Reads a packet that the kernel can describe in its header: one with another kind of offload is taken from its
/// queue and refused with `EINVAL`, which is no reason to think the interface gone.
fn read_described(mut file: &File, buffer: &mut [u8]) -> io::Result<usize> {
    for _ in 0..UNREADABLE_MAX {
        match file.read(buffer) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EINTR)) => {}
            // Shorter than its header is no packet.
            Ok(length) if length <= HEADER_BYTES => {}
            read => return read,
        }
    }
    Err(io::ErrorKind::WouldBlock.into())
}

/// Writes the packet without its header.
fn write_bare(mut socket: &Socket, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut bare = [IoSlice::new(&[]); PARTS_MAX];
    let (Some(bare), Some((first, rest))) = (bare.get_mut(..parts.len()), parts.split_first()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    bare[0] = IoSlice::new(first.get(HEADER_BYTES..).ok_or(io::ErrorKind::InvalidInput)?);
    bare[1..].copy_from_slice(rest);
    retried(|| socket.write_vectored(bare))
}

/// Again if a signal came between.
fn retried(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// `ifr_flags` is a short, in which `IFF_TUN_EXCL` is the sign.
fn low_half(flags: libc::c_int) -> [u8; 2] {
    let bytes = flags.to_le_bytes();
    i16::from_le_bytes([bytes[0], bytes[1]]).to_ne_bytes()
}

fn named(name: &str) -> io::Result<libc::ifreq> {
    let usable = !name.is_empty()
        && name.len() < libc::IFNAMSIZ
        && name.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'%' | b':'))
        && !matches!(name, "." | ".." | "all" | "default");
    if !usable {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: ifreq is made of integers, arrays of integers and pointers; all of them may be zero.
    #[allow(unsafe_code)]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

fn ioctl(fd: RawFd, number: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all callers pass numbers whose argument is an ifreq, and this one lives throughout the call.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(fd, number, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_offload(file: &File, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the argument of TUNSETOFFLOAD is a number, not a pointer.
    #[allow(unsafe_code)]
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(flags)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
