//! The text protocol of `wg` (<https://www.wireguard.com/xplatform/>), read and written. Knows no socket.
//!
//! A request is `get=1` or `set=1`, lines `key=value`, and an empty line. One `Parser` reads one request; a request
//! with a fault is read to its end, so that the answer finds a client that listens, and nothing of it is applied.

pub(crate) mod server;
mod socket;

use std::fmt::{self, Write};
use std::net::{SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::time::UNIX_EPOCH;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ipnet::IpNet;
use model::{PrivateKey, PublicKey};
use nix::libc;
use zeroize::{Zeroize as _, Zeroizing};

use crate::state::DeviceState;
use crate::update::{PeerUpdate, PresharedKey, Update};

/// One request: a hundred thousand peers with three allowed IPs each.
pub const REQUEST_BYTES_MAX: usize = 32 * 1024 * 1024;
/// One line: a key in hexadecimal is the longest that means anything.
pub const LINE_BYTES_MAX: usize = 256;

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Everything; see [`print_state`].
    Get,
    /// A change.
    Set(Update),
}

/// Why a request is refused: a number of errno(3), positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("request refused with errno {0}")]
pub struct Refused(pub i32);

const INVALID: Refused = Refused(libc::EINVAL);

/// Reads one request, line by line.
pub struct Parser {
    scope: fn(&str) -> Option<u32>,
    bytes: usize,
    request: Option<Request>,
    refused: Option<Refused>,
}

impl Parser {
    /// A parser of one request. `scope` says which index an interface has, for `fe80::1%eth0`.
    pub const fn new(scope: fn(&str) -> Option<u32>) -> Self {
        Self { scope, bytes: 0, request: None, refused: None }
    }

    /// Takes a line without its end. `Some` at the end of the request: what it asks for, or why it is refused.
    pub fn line(&mut self, line: &str) -> Option<Result<Request, Refused>> {
        self.bytes += line.len() + 1;
        if line.is_empty() {
            let request = self.request.take().ok_or(INVALID);
            return Some(self.refused.take().map_or(request, Err));
        }
        if self.refused.is_none() {
            self.refused = self.take(line).err();
        }
        None
    }

    /// Takes note of a line that is no text, or too long.
    pub fn unreadable(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.refused.get_or_insert(INVALID);
    }

    /// Whether the request is too long to be read to its end.
    pub const fn is_too_long(&self) -> bool {
        self.bytes > REQUEST_BYTES_MAX
    }

    fn take(&mut self, line: &str) -> Result<(), Refused> {
        let (key, value) = line.split_once('=').ok_or(INVALID)?;
        match (&mut self.request, key, value) {
            (None, "get", "1") => self.request = Some(Request::Get),
            (None, "set", "1") => self.request = Some(Request::Set(Update::default())),
            (Some(Request::Set(update)), "public_key", _) => {
                update.peers.push(PeerUpdate::new(PublicKey::from_bytes(*key_bytes(value)?)));
            }
            (Some(Request::Set(update)), ..) => match update.peers.last_mut() {
                Some(peer) => take_peer(peer, key, value, self.scope)?,
                None => take_device(update, key, value)?,
            },
            (None | Some(Request::Get), ..) => return Err(INVALID),
        }
        Ok(())
    }
}

fn take_device(update: &mut Update, key: &str, value: &str) -> Result<(), Refused> {
    match key {
        "private_key" => {
            let bytes = key_bytes(value)?;
            let key = PresharedKey::from_bytes(*bytes).map(|_| PrivateKey::from_bytes(*bytes));
            update.private_key = Some(key);
        }
        "listen_port" => update.listen_port = Some(number(value)?),
        "fwmark" => update.fwmark = Some(mark(value)?),
        "replace_peers" => update.replace_peers = is_true(value)?,
        _ => return Err(INVALID),
    }
    Ok(())
}

fn take_peer(
    peer: &mut PeerUpdate,
    key: &str,
    value: &str,
    scope: fn(&str) -> Option<u32>,
) -> Result<(), Refused> {
    match key {
        "remove" => peer.remove = is_true(value)?,
        "update_only" => peer.update_only = is_true(value)?,
        "preshared_key" => peer.preshared_key = Some(PresharedKey::from_bytes(*key_bytes(value)?)),
        "endpoint" => peer.endpoint = Some(endpoint(value, scope)?),
        "persistent_keepalive_interval" => peer.keepalive_seconds = Some(number(value)?),
        "replace_allowed_ips" => peer.replace_allowed_ips = is_true(value)?,
        "allowed_ip" => match value.strip_prefix('-') {
            Some(net) => peer.disallowed_ips.push(network(net)?),
            None => peer.allowed_ips.push(network(value)?),
        },
        "protocol_version" if value == "1" => {}
        "protocol_version" => return Err(Refused(libc::EPROTONOSUPPORT)),
        _ => return Err(INVALID),
    }
    Ok(())
}

fn key_bytes(value: &str) -> Result<Zeroizing<[u8; 32]>, Refused> {
    let mut decoded = HEXLOWER_PERMISSIVE.decode(value.as_bytes()).map_err(|_| INVALID)?;
    let bytes = <[u8; 32]>::try_from(decoded.as_slice()).map(Zeroizing::new).map_err(|_| INVALID);
    decoded.zeroize();
    bytes
}

fn number<T: FromStr>(value: &str) -> Result<T, Refused> {
    // FromStr would take a sign.
    if value.bytes().all(|b| b.is_ascii_digit()) { value.parse().map_err(|_| INVALID) } else { Err(INVALID) }
}

/// In decimal as `wg` writes it, or in hexadecimal as `wg` shows it; nothing is 0.
fn mark(value: &str) -> Result<u32, Refused> {
    match value.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).map_err(|_| INVALID),
        None if value.is_empty() => Ok(0),
        None => number(value),
    }
}

/// Flags can only be set.
fn is_true(value: &str) -> Result<bool, Refused> {
    if value == "true" { Ok(true) } else { Err(INVALID) }
}

fn network(value: &str) -> Result<IpNet, Refused> {
    value.parse().map(|net: IpNet| net.trunc()).map_err(|_| INVALID)
}

/// `192.0.2.1:51820`, `[2001:db8::1]:51820`, and `[fe80::1%eth0]:51820` with an interface by name or number.
fn endpoint(value: &str, scope: fn(&str) -> Option<u32>) -> Result<SocketAddr, Refused> {
    let endpoint = match (value.split_once('%'), value.rsplit_once("]:")) {
        (Some((address, rest)), Some((_, port))) => {
            let interface = rest.strip_suffix(port).and_then(|r| r.strip_suffix("]:")).ok_or(INVALID)?;
            let address = address.strip_prefix('[').ok_or(INVALID)?.parse().map_err(|_| INVALID)?;
            let index = number(interface).ok().or_else(|| scope(interface)).ok_or(INVALID)?;
            SocketAddrV6::new(address, number(port)?, 0, index).into()
        }
        _ => value.parse::<SocketAddr>().map_err(|_| INVALID)?,
    };
    if endpoint.port() == 0 { Err(INVALID) } else { Ok(endpoint) }
}

/// Writes the answer to `get=1`, without the final `errno`.
pub fn print_state(state: &DeviceState, to: &mut impl Write) -> fmt::Result {
    if let Some(key) = &state.private_key {
        writeln!(to, "private_key={}", *hex(&key.expose()))?;
    }
    writeln!(to, "listen_port={}", state.listen_port)?;
    if state.fwmark != 0 {
        writeln!(to, "fwmark={}", state.fwmark)?;
    }
    for peer in &state.peers {
        writeln!(to, "public_key={}", *hex(peer.key.as_bytes()))?;
        print_preshared_key(peer.preshared_key.as_ref(), to)?;
        writeln!(to, "protocol_version=1")?;
        if let Some(endpoint) = peer.endpoint {
            writeln!(to, "endpoint={endpoint}")?;
        }
        let since = peer.last_handshake.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
        writeln!(to, "last_handshake_time_sec={}", since.as_secs())?;
        writeln!(to, "last_handshake_time_nsec={}", since.subsec_nanos())?;
        writeln!(to, "rx_bytes={}", peer.received_bytes)?;
        writeln!(to, "tx_bytes={}", peer.sent_bytes)?;
        writeln!(to, "persistent_keepalive_interval={}", peer.keepalive_seconds)?;
        peer.allowed_ips.iter().try_for_each(|net| writeln!(to, "allowed_ip={net}"))?;
    }
    Ok(())
}

/// Writes a request that [`Parser`] reads as this update, with its final empty line.
pub fn print_update(update: &Update, to: &mut impl Write) -> fmt::Result {
    writeln!(to, "set=1")?;
    if let Some(key) = &update.private_key {
        let bytes = key.as_ref().map_or_else(|| Zeroizing::new([0; 32]), PrivateKey::expose);
        writeln!(to, "private_key={}", *hex(&bytes))?;
    }
    if let Some(port) = update.listen_port {
        writeln!(to, "listen_port={port}")?;
    }
    if let Some(mark) = update.fwmark {
        writeln!(to, "fwmark={mark}")?;
    }
    if update.replace_peers {
        writeln!(to, "replace_peers=true")?;
    }
    update.peers.iter().try_for_each(|peer| print_peer_update(peer, to))?;
    writeln!(to)
}

fn print_peer_update(peer: &PeerUpdate, to: &mut impl Write) -> fmt::Result {
    writeln!(to, "public_key={}", *hex(peer.key.as_bytes()))?;
    if peer.remove {
        writeln!(to, "remove=true")?;
    }
    if peer.update_only {
        writeln!(to, "update_only=true")?;
    }
    if let Some(key) = &peer.preshared_key {
        print_preshared_key(key.as_ref(), to)?;
    }
    if let Some(endpoint) = peer.endpoint {
        writeln!(to, "endpoint={endpoint}")?;
    }
    if let Some(seconds) = peer.keepalive_seconds {
        writeln!(to, "persistent_keepalive_interval={seconds}")?;
    }
    if peer.replace_allowed_ips {
        writeln!(to, "replace_allowed_ips=true")?;
    }
    peer.allowed_ips.iter().try_for_each(|net| writeln!(to, "allowed_ip={net}"))?;
    peer.disallowed_ips.iter().try_for_each(|net| writeln!(to, "allowed_ip=-{net}"))
}

fn print_preshared_key(key: Option<&PresharedKey>, to: &mut impl Write) -> fmt::Result {
    let bytes = key.map_or_else(|| Zeroizing::new([0; 32]), PresharedKey::expose);
    writeln!(to, "preshared_key={}", *hex(&bytes))
}

fn hex(bytes: &[u8; 32]) -> Zeroizing<String> {
    Zeroizing::new(HEXLOWER.encode(bytes))
}

#[cfg(test)]
mod tests;
