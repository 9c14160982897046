//! Who may be sent what over the relay: datagrams go from link to link inside one realm. Knows no frame and no directory:
//! whoever owns the links says who sits where.
//!
//! Nothing waits here: what a link has no room for is lost there, as in any network. A device that is sent more than it
//! takes loses packets of its own, and nobody else's.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use control::HubPlace;
use futures_util::FutureExt as _;
use link::Datagrams;
use model::relay::{HEAD_BYTES, HUB, Piece, PieceIds, Relayed, datagram};
use model::{DeviceId, Fingerprint};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;
use tokio::task::yield_now;

use super::hub_leg::{LEGS_MAX, Leg};

/// Datagrams of one link that are given on before others have their turn: a burst.
const TURN: usize = 64;

/// Whose device: the anchor of the tenant, and the device.
type Seat = (Fingerprint, DeviceId);

/// Why a datagram was not given on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub enum Dropped {
    /// The sender is not admitted: pending, revoked, or not attached yet.
    NotAdmitted,
    /// It is no datagram.
    Malformed,
    /// The receiver is not here, or of another tenant.
    Absent,
    /// The receiver's link had no room.
    NoRoom,
    /// It does not fit the receiver's path, not even in two.
    TooLong,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::NotAdmitted, Self::Malformed, Self::Absent, Self::NoRoom, Self::TooLong];

    /// As metrics show it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotAdmitted => "not-admitted",
            Self::Malformed => "malformed",
            Self::Absent => "absent",
            Self::NoRoom => "no-room",
            Self::TooLong => "too-long",
        }
    }
}

/// What is counted. Clones count into the same.
#[derive(Clone, Default)]
pub struct Counters {
    /// Devices that may be sent something now.
    pub sessions: Gauge,
    /// Datagrams given on.
    pub datagrams: Counter,
    /// Bytes of them, without what names the device.
    pub bytes: Counter,
    /// Datagrams that were not, as [`Dropped::ALL`] lists them.
    pub dropped: [Counter; Dropped::ALL.len()],
}

impl Counters {
    /// What became of a datagram: so many bytes were given on, or none.
    fn count(&self, given_on: Result<usize, Dropped>) {
        match given_on {
            Ok(bytes) => {
                self.datagrams.inc();
                self.bytes.inc_by(bytes as u64);
            }
            Err(why) => _ = self.dropped[why as usize].inc(),
        }
    }
}

/// All links that have datagrams. Clones share them.
#[derive(Clone)]
pub struct Switchboard(Arc<Board>);

struct Board {
    /// By the number of the link.
    lines: Mutex<BTreeMap<u64, Arc<Wire>>>,
    seats: RwLock<HashMap<Seat, Arc<Wire>>>,
    /// Where the hub of each realm is, of which that is known.
    hubs: RwLock<HashMap<Fingerprint, HubPlace>>,
    legs: Arc<Semaphore>,
    counters: Counters,
}

/// One link.
struct Wire {
    datagrams: Datagrams,
    seat: RwLock<Option<Seat>>,
    /// Of packets that are cut for this link.
    ids: Mutex<PieceIds>,
    /// Its way to the hub, once it sends there.
    leg: Mutex<Option<Leg>>,
}

impl Switchboard {
    /// Nobody is there yet.
    pub fn new(counters: Counters) -> Self {
        let legs = Arc::new(Semaphore::new(LEGS_MAX));
        let (lines, seats, hubs) = Default::default();
        Self(Arc::new(Board { lines, seats, hubs, legs, counters }))
    }

    /// The hub of a realm is there from now on. Until it is known, what is sent to it is lost.
    pub fn hub_at(&self, realm: Fingerprint, place: HubPlace) {
        self.0.hubs.write().unwrap_or_else(PoisonError::into_inner).insert(realm, place);
    }

    /// Opens a line for the datagrams of a link, which nobody may use before [`Self::admit`]. `link` is the only line of
    /// that number. Run [`Line::carry`]; dropped, the line is closed.
    pub fn open(&self, link: u64, datagrams: Datagrams) -> Line {
        let (seat, ids) = (RwLock::new(None), Mutex::new(PieceIds::of_relay()));
        let wire = Arc::new(Wire { datagrams, seat, ids, leg: Mutex::default() });
        lock(&self.0.lines).insert(link, wire.clone());
        Line { board: self.0.clone(), link, wire }
    }

    /// The link is this device's from now on. Another link of the device is not any more. A link without datagrams is
    /// passed over.
    pub fn admit(&self, link: u64, realm: Fingerprint, device: DeviceId) {
        let Some(wire) = lock(&self.0.lines).get(&link).cloned() else { return };
        let mut seats = self.0.seats.write().unwrap_or_else(PoisonError::into_inner);
        wire.sit(Some((realm, device)));
        if let Some(before) = seats.insert((realm, device), wire.clone())
            && !Arc::ptr_eq(&before, &wire)
        {
            before.sit(None);
        }
        self.0.counters.sessions.set(i64::try_from(seats.len()).unwrap_or(i64::MAX));
    }

    /// The link is nobody's any more.
    pub fn dismiss(&self, link: u64) {
        let wire = lock(&self.0.lines).get(&link).cloned();
        wire.iter().for_each(|wire| self.0.unseat(wire));
    }
}

/// The line of one link.
pub struct Line {
    board: Arc<Board>,
    link: u64,
    wire: Arc<Wire>,
}

impl Line {
    /// Gives on what comes over the link until it ends. In between, whatever else the task does has its turn.
    pub async fn carry(&self) {
        let (mut given, mut unflushed) = (0_usize, Unflushed(None));
        loop {
            let datagram = match self.wire.datagrams.recv().now_or_never() {
                Some(datagram) => datagram,
                None => {
                    unflushed.flush();
                    self.wire.datagrams.recv().await
                }
            };
            let Some(datagram) = datagram else { return };
            given = given.wrapping_add(1);
            if given.is_multiple_of(TURN) {
                unflushed.flush();
                yield_now().await;
            }
            self.board.counters.count(self.board.give_on(&self.wire, &mut unflushed, &datagram));
        }
    }
}

/// The link that was given something last, which is not sent before this is flushed or dropped: a row of datagrams to one
/// device goes as one.
struct Unflushed(Option<Arc<Wire>>);

impl Unflushed {
    fn touched(&mut self, wire: Arc<Wire>) {
        if !self.0.as_ref().is_some_and(|before| Arc::ptr_eq(before, &wire)) {
            self.flush();
            self.0 = Some(wire);
        }
    }

    fn flush(&mut self) {
        self.0.take().iter().for_each(|wire| wire.datagrams.flush());
    }
}

impl Drop for Unflushed {
    fn drop(&mut self) {
        self.flush();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.board.unseat(&self.wire);
        lock(&self.board.lines).remove(&self.link);
    }
}

impl Board {
    /// Gives one datagram on; says how many bytes it carries.
    fn give_on(&self, from: &Arc<Wire>, unflushed: &mut Unflushed, bytes: &[u8]) -> Result<usize, Dropped> {
        let Some((realm, sender)) = from.seat() else { return Err(Dropped::NotAdmitted) };
        let relayed = Relayed::parse(bytes).ok_or(Dropped::Malformed)?;
        if relayed.device == HUB {
            return self.to_hub(from, realm, &relayed);
        }
        let to = {
            let seats = self.seats.read().unwrap_or_else(PoisonError::into_inner);
            seats.get(&(realm, relayed.device)).cloned().ok_or(Dropped::Absent)?
        };
        let given_on = to.give(&Relayed { device: sender, ..relayed });
        unflushed.touched(to);
        given_on
    }

    /// Gives a message on to the hub. A link over which it would have to be cut is one over UDP, and reaches the hub without us.
    fn to_hub(&self, from: &Arc<Wire>, realm: Fingerprint, relayed: &Relayed<'_>) -> Result<usize, Dropped> {
        if relayed.piece != Piece::Whole {
            return Err(Dropped::TooLong);
        }
        let mut leg = lock(&from.leg);
        // Who was dismissed since has none, and gets none.
        if from.seat().is_none() {
            return Err(Dropped::NotAdmitted);
        }
        let hubs = self.hubs.read().unwrap_or_else(PoisonError::into_inner);
        let place = hubs.get(&realm).ok_or(Dropped::Absent)?;
        if !leg.as_ref().is_some_and(|leg| leg.leads_to(place)) {
            // What it holds may be the last.
            *leg = None;
            let permit = self.legs.clone().try_acquire_owned().map_err(|_| Dropped::NoRoom)?;
            let (wire, counters) = (Arc::downgrade(from), self.counters.clone());
            *leg = Some(Leg::open(place.clone(), permit, move |message| {
                let Some(wire) = wire.upgrade() else { return false };
                let from_hub = Relayed { device: HUB, piece: Piece::Whole, payload: message };
                counters.count(wire.give(&from_hub));
                wire.datagrams.flush();
                true
            }));
        }
        leg.as_ref().map_or(Err(Dropped::Absent), |leg| leg.send(relayed.payload))
    }

    fn unseat(&self, wire: &Arc<Wire>) {
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        let Some(seat) = wire.seat() else { return };
        wire.sit(None);
        if seats.get(&seat).is_some_and(|sitting| Arc::ptr_eq(sitting, wire)) {
            seats.remove(&seat);
        }
        self.counters.sessions.set(i64::try_from(seats.len()).unwrap_or(i64::MAX));
    }
}

impl Wire {
    /// Queues one datagram, in two pieces if it must; says how many bytes it carries.
    fn give(&self, onward: &Relayed<'_>) -> Result<usize, Dropped> {
        let (length, room) = (onward.payload.len(), self.datagrams.bytes_max());
        let fits = HEAD_BYTES + length <= room;
        let sent = match onward.piece {
            _ if fits => self.datagrams.queue(onward.write().into()),
            Piece::Whole => {
                let pieces = datagram::cut(onward.device, onward.payload, room, &mut lock(&self.ids));
                let pieces: Vec<Vec<u8>> = pieces.map(|piece| piece.write()).collect();
                if pieces.is_empty() {
                    return Err(Dropped::TooLong);
                }
                // Both are sent: what is lost may be an older one.
                let mut sent = true;
                for piece in pieces {
                    sent &= self.datagrams.queue(piece.into());
                }
                sent
            }
            Piece::First(_) | Piece::Second(_) => return Err(Dropped::TooLong),
        };
        sent.then_some(length).ok_or(Dropped::NoRoom)
    }

    fn seat(&self) -> Option<Seat> {
        *self.seat.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever sat there before has no way to the hub any more.
    fn sit(&self, seat: Option<Seat>) {
        *self.seat.write().unwrap_or_else(PoisonError::into_inner) = seat;
        *lock(&self.leg) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
