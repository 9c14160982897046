//! Where peers were last: an engine that lost them finds them again, though nobody configured where they are. Knows
//! no engine. A wrong endpoint costs a few handshakes that nobody answers; who answers proves who it is.
//!
//! The file, a line each after the first, with the second of the last handshake since 1970:
//!
//! ```text
//! warren endpoints 1
//! <public key> <address>:<port> <seconds>
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::PublicKey;

use crate::chain::chain;
use crate::files::{self, FileError, SECRET};
use crate::paths::stands_for_peer;
use crate::wireguard::PeerState;

const HEADER: &str = "warren endpoints 1";
/// A session lives for three minutes from its handshake (WireGuard paper, section 6.1), and what the file says of a
/// peer is [`REFRESH`] old at most. After that a device makes its handshake itself.
const REMEMBERED: Duration = Duration::from_secs(180).saturating_add(REFRESH);
/// New handshakes alone are written so often.
const REFRESH: Duration = Duration::from_secs(60);
/// Five times the peers of the largest mesh.
const PEERS_MAX: usize = 50_000;
/// A key, the longest address and a time, with what is between them.
const LINE_BYTES_MAX: usize = 128;
const FILE_BYTES_MAX: usize = PEERS_MAX * LINE_BYTES_MAX;
/// Writing should cost no more than one fiftieth of the time, fsync included...
const WRITE_SHARE: u32 = 50;
/// ... and wears out no memory card...
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// ... but who came last is remembered soon, also on a slow one.
const WRITE_INTERVAL_MAX: Duration = Duration::from_secs(10);

/// What is remembered, and its file.
pub(crate) struct Endpoints {
    file: Option<PathBuf>,
    known: BTreeMap<PublicKey, Known>,
    unwritten: Unwritten,
    write_after: Option<Instant>,
    refresh_after: Option<Instant>,
    failing: bool,
}

struct Known {
    endpoint: SocketAddr,
    handshake: SystemTime,
    /// The engine has no endpoint for it any more, or never had.
    lost: bool,
}

/// What the file does not say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unwritten {
    Nothing,
    Handshakes,
    Endpoints,
}

/// Why a file says nothing.
#[derive(Debug, thiserror::Error)]
enum Damage {
    #[error("unreadable")]
    File(#[from] FileError),
    #[error("longer than {FILE_BYTES_MAX} bytes")]
    TooLong,
    #[error("line {0}")]
    Line(usize),
}

impl Endpoints {
    /// Remembers what the file says. One that is damaged is passed over, and replaced in time.
    pub(crate) fn open(file: Option<PathBuf>) -> Self {
        let known = file.as_deref().map_or_else(BTreeMap::new, |path| {
            read(path).unwrap_or_else(|error| {
                let (path, error) = (path.display(), chain(&error));
                tracing::warn!(code = "endpoints-damaged", %path, error, "remembered endpoints are not used");
                BTreeMap::new()
            })
        });
        Self {
            file,
            known,
            unwritten: Unwritten::Nothing,
            write_after: None,
            refresh_after: None,
            failing: false,
        }
    }

    /// Takes note of the engine's peers; none if it has no interface.
    pub(crate) fn note(&mut self, peers: &BTreeMap<PublicKey, PeerState>, now: SystemTime) {
        self.known.retain(|_, known| is_recent(known.handshake, now));
        for (key, known) in &mut self.known {
            known.lost = peers.get(key).is_none_or(|peer| peer.endpoint.is_none());
        }
        for (key, peer) in peers {
            let (Some(endpoint), Some(handshake)) = (peer.endpoint, peer.last_handshake) else { continue };
            let has_room = self.known.len() < PEERS_MAX || self.known.contains_key(key);
            if !has_room || !is_recent(handshake, now) || !is_usable(endpoint) {
                continue;
            }
            let before = self.known.insert(*key, Known { endpoint, handshake, lost: false });
            let differs = match before {
                Some(before) if before.endpoint == endpoint && before.handshake == handshake => continue,
                Some(before) if before.endpoint == endpoint => Unwritten::Handshakes,
                _ => Unwritten::Endpoints,
            };
            self.unwritten = self.unwritten.max(differs);
        }
    }

    /// Where a peer was that the engine lost; once, until it is lost again.
    pub(crate) fn take(&mut self, key: &PublicKey, now: SystemTime) -> Option<SocketAddr> {
        let known = self.known.get_mut(key).filter(|known| known.lost && is_recent(known.handshake, now))?;
        known.lost = false;
        Some(known.endpoint)
    }

    /// Forgets a peer that is none any more.
    pub(crate) fn forget(&mut self, key: &PublicKey) {
        if self.known.remove(key).is_some() {
            self.unwritten = Unwritten::Endpoints;
        }
    }

    /// Forgets all.
    pub(crate) fn forget_all(&mut self) {
        if !std::mem::take(&mut self.known).is_empty() {
            self.unwritten = Unwritten::Endpoints;
        }
    }

    /// Writes the file if it is due.
    pub(crate) fn save_if_due(&mut self, now: Instant) {
        let after = match self.unwritten {
            Unwritten::Nothing => return,
            Unwritten::Handshakes => self.refresh_after,
            Unwritten::Endpoints => self.write_after,
        };
        if after.is_none_or(|at| now >= at) {
            self.save(now);
        }
    }

    /// Writes the file if it says something else than what is remembered.
    pub(crate) fn save(&mut self, now: Instant) {
        let Some(path) = &self.file else { return };
        if self.unwritten == Unwritten::Nothing {
            return;
        }
        let written = files::replace(path, print(&self.known).as_bytes(), SECRET);
        let interval = (now.elapsed() * WRITE_SHARE).clamp(WRITE_INTERVAL, WRITE_INTERVAL_MAX);
        (self.write_after, self.refresh_after) = (Some(now + interval), Some(now + REFRESH));
        match written {
            Ok(()) => {
                self.unwritten = Unwritten::Nothing;
                self.failing = false;
            }
            // The disk that is full has been told of by now; what is lost is a quick start.
            Err(_) if self.failing => {}
            Err(error) => {
                self.failing = true;
                let error = chain(&error);
                tracing::warn!(
                    code = "endpoints-unwritten",
                    error,
                    "endpoints are remembered in memory only"
                );
            }
        }
    }
}

fn is_recent(handshake: SystemTime, now: SystemTime) -> bool {
    now.duration_since(handshake).is_ok_and(|age| age <= REMEMBERED)
}

fn is_usable(endpoint: SocketAddr) -> bool {
    let somebody = match endpoint.ip() {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    };
    somebody && endpoint.port() != 0 && !stands_for_peer(endpoint)
}

fn print(known: &BTreeMap<PublicKey, Known>) -> String {
    let mut text = format!("{HEADER}\n");
    for (key, known) in known {
        let seconds = known.handshake.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        writeln!(text, "{key} {} {seconds}", known.endpoint).expect("memory takes it");
    }
    text
}

fn read(path: &Path) -> Result<BTreeMap<PublicKey, Known>, Damage> {
    let Some(bytes) = files::read_up_to(path, FILE_BYTES_MAX as u64 + 1)? else { return Ok(BTreeMap::new()) };
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Damage::TooLong);
    }
    parse(&bytes)
}

/// All of it is right, or nothing is used.
fn parse(bytes: &[u8]) -> Result<BTreeMap<PublicKey, Known>, Damage> {
    let text = bytes.strip_suffix(b"\n").and_then(|whole| std::str::from_utf8(whole).ok());
    let mut lines = text.ok_or(Damage::Line(0))?.split('\n').zip(1..);
    if lines.next().is_none_or(|(first, _)| first != HEADER) {
        return Err(Damage::Line(1));
    }
    let mut known = BTreeMap::new();
    for (line, number) in lines {
        let (key, entry) = parse_line(line).ok_or(Damage::Line(number))?;
        if known.len() == PEERS_MAX || known.insert(key, entry).is_some() {
            return Err(Damage::Line(number));
        }
    }
    Ok(known)
}

fn parse_line(line: &str) -> Option<(PublicKey, Known)> {
    let mut words = line.split(' ');
    let (key, endpoint, seconds) = (words.next()?, words.next()?, words.next()?);
    let endpoint = endpoint.parse().ok().filter(|endpoint| is_usable(*endpoint))?;
    let handshake = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
    let known = Known { endpoint, handshake, lost: true };
    words.next().is_none().then_some((key.parse().ok()?, known))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn seen(endpoint: &str, handshake: SystemTime) -> PeerState {
        PeerState { endpoint: Some(at(endpoint)), last_handshake: Some(handshake), ..PeerState::default() }
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_lost_peer_is_given_out_once_until_it_is_lost_again() {
        let (mut endpoints, now) = (Endpoints::open(None), SystemTime::now());
        let peers = BTreeMap::from([
            (key(1), seen("192.0.2.1:7", now)),
            (key(2), seen("[fe80::1%2]:9", now - seconds(100))),
            (key(3), PeerState { last_handshake: None, ..seen("192.0.2.3:7", now) }),
            (key(4), seen("192.0.2.4:7", now - REMEMBERED - seconds(1))),
            (key(5), seen("192.0.2.5:7", now + seconds(9))),
        ]);
        endpoints.note(&peers, now);
        assert_eq!(endpoints.take(&key(1), now), None, "the engine has it");
        endpoints.note(&BTreeMap::new(), now);
        let all = |endpoints: &mut Endpoints, now| {
            (1..=5).map(|n| endpoints.take(&key(n), now)).collect::<Vec<_>>()
        };
        let both = [Some(at("192.0.2.1:7")), Some(at("[fe80::1%2]:9")), None, None, None];
        assert_eq!(all(&mut endpoints, now), both);
        assert_eq!(all(&mut endpoints, now), [None; 5]);
        endpoints.note(&BTreeMap::from([(key(1), PeerState::default())]), now);
        assert_eq!(all(&mut endpoints, now), both, "a peer without an endpoint is lost too");
        endpoints.note(&BTreeMap::new(), now);
        endpoints.forget(&key(1));
        assert_eq!(all(&mut endpoints, now + REMEMBERED - seconds(50)), [None; 5], "forgotten, and too old");
    }

    #[test]
    fn the_file_gives_back_what_was_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endpoints");
        let (mut endpoints, now) = (Endpoints::open(Some(path.clone())), SystemTime::now());
        endpoints.save(Instant::now());
        assert!(!path.exists(), "nothing to say");
        let peers =
            BTreeMap::from([(key(1), seen("192.0.2.1:7", now)), (key(2), seen("[2001:db8::1]:9", now))]);
        endpoints.note(&peers, now);
        endpoints.save_if_due(Instant::now());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut again = Endpoints::open(Some(path.clone()));
        assert_eq!(again.take(&key(1), now), Some(at("192.0.2.1:7")));
        assert_eq!(again.take(&key(2), now), Some(at("[2001:db8::1]:9")));
        again.forget_all();
        again.save(Instant::now());
        assert_eq!(fs::read_to_string(&path).unwrap(), "warren endpoints 1\n");
    }

    #[test]
    fn the_file_is_written_seldom_and_only_when_something_is_new() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endpoints");
        let (mut endpoints, now, started) =
            (Endpoints::open(Some(path.clone())), SystemTime::now(), Instant::now());
        let mut written = |endpoint: &str, handshake: SystemTime, after: Duration| {
            endpoints.note(&BTreeMap::from([(key(1), seen(endpoint, handshake))]), now);
            endpoints.save_if_due(started + after);
            fs::remove_file(&path).is_ok()
        };
        let (past, later) = (now - seconds(2), now - seconds(1));
        assert!(written("192.0.2.1:7", past, seconds(0)));
        assert!(!written("192.0.2.1:7", past, seconds(100)), "nothing is new");
        assert!(written("192.0.2.1:8", past, seconds(100)), "another endpoint");
        assert!(!written("192.0.2.1:9", past, Duration::from_millis(100_900)), "just written");
        assert!(written("192.0.2.1:9", past, seconds(111)));
        assert!(!written("192.0.2.1:9", later, seconds(170)), "a new handshake can wait");
        assert!(written("192.0.2.1:9", later, seconds(171)));
    }

    #[test]
    fn a_file_that_is_damaged_says_nothing() {
        let (key, now) = (key(1), 1_700_000_000);
        let good = format!("{HEADER}\n{key} 192.0.2.1:7 {now}\n");
        assert_eq!(parse(good.as_bytes()).unwrap().len(), 1);
        assert_eq!(parse(format!("{HEADER}\n").as_bytes()).unwrap().len(), 0);
        for bad in [
            String::new(),
            "\n".into(),
            "warren endpoints 2\n".into(),
            good[..good.len() - 1].into(),
            format!("{good}{key} 192.0.2.1:7 {now}\n"),
            format!("{good}\n"),
            format!("{HEADER}\n{key} 192.0.2.1:7 {now} more\n"),
            format!("{HEADER}\n{key} 192.0.2.1:7\n"),
            format!("{HEADER}\n{key} 192.0.2.1:0 {now}\n"),
            format!("{HEADER}\n{key} 0.0.0.0:7 {now}\n"),
            format!("{HEADER}\n{key} [ff02::1]:7 {now}\n"),
            format!("{HEADER}\n{key} 255.255.255.255:7 {now}\n"),
            format!("{HEADER}\n{key} example.org:7 {now}\n"),
            format!("{HEADER}\n{key} 192.0.2.1:7 -1\n"),
            format!("{HEADER}\n{key} 192.0.2.1:7 99999999999999999999\n"),
            format!("{HEADER}\nnokey 192.0.2.1:7 {now}\n"),
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(parse(&[HEADER.as_bytes(), b"\n\xff\n"].concat()).is_err());
        assert!(parse(&vec![0; 100_000]).is_err());

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endpoints");
        fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX as u64 + 1).unwrap();
        assert!(matches!(read(&path), Err(Damage::TooLong)));
        fs::write(&path, "nonsense").unwrap();
        let mut endpoints = Endpoints::open(Some(path.clone()));
        let now = SystemTime::now();
        endpoints.note(&BTreeMap::from([(key, seen("192.0.2.1:7", now))]), now);
        endpoints.save(Instant::now());
        assert_eq!(read(&path).unwrap().len(), 1, "it is replaced");
    }

    #[test]
    fn a_full_file_is_not_too_long() {
        let longest = at("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff%4294967295]:65535");
        let line = format!("{} {longest} {}\n", key(1), u64::MAX);
        assert!(line.len() <= LINE_BYTES_MAX && HEADER.len() < LINE_BYTES_MAX - 1, "{}", line.len());
    }
}
