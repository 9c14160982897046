//! The TUN interface: made, read, written, asked for its MTU. Gone when dropped. Knows no WireGuard.
//!
//! See tun(4) of the kernel's `Documentation/networking/tuntap.rst` and netdevice(7).

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::libc;

/// A non-persistent TUN interface without packet information.
pub(crate) struct Tun {
    file: File,
    /// `SIOCGIFMTU` needs a socket of the interface's network namespace.
    control: UdpSocket,
    name: String,
}

impl Tun {
    /// Makes the interface in the network namespace of the calling thread.
    ///
    /// # Errors
    /// `InvalidInput` for a name that no interface can have, `EBUSY` for one that is taken, `EPERM` without
    /// `CAP_NET_ADMIN`, `ENOENT` without `/dev/net/tun`.
    pub(crate) fn create(name: &str, mtu: u16) -> io::Result<Self> {
        let mut request = named(name)?;
        let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
        request.ifr_ifru.ifru_flags = i16::from_ne_bytes(low_half(flags));
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        let control = UdpSocket::bind(("127.0.0.1", 0))?;
        ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request)?;
        let tun = Self { file, control, name: name.to_owned() };
        let mut request = named(name)?;
        request.ifr_ifru.ifru_mtu = mtu.into();
        ioctl(tun.control.as_raw_fd(), libc::SIOCSIFMTU, &mut request)?;
        Ok(tun)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The interface's MTU now; anyone may change it at any time.
    pub(crate) fn mtu(&self) -> io::Result<usize> {
        let mut request = named(&self.name)?;
        ioctl(self.control.as_raw_fd(), libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU succeeded, so the kernel wrote this member of the union; all of it was zeroed before.
        #[allow(unsafe_code)]
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        usize::try_from(mtu).map_err(io::Error::other)
    }

    /// One packet, or `WouldBlock`. Any other error means that the interface is gone.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(buffer)
    }

    /// One packet. An interface that is down refuses it.
    pub(crate) fn write(&self, packet: &[u8]) -> io::Result<usize> {
        (&self.file).write(packet)
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_interface_can_have_are_refused() {
        let check = |name: &str, ok: bool| assert_eq!(named(name).is_ok(), ok, "{name}");
        check("wg0", true);
        check("fifteen-letters", true);
        check("sixteen--letters", false);
        check("", false);
        check("..", false);
        check("a/b", false);
        check("wg%d", false);
    }
}
