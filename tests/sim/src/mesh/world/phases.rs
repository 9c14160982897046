//! The phases of a run, and its fault: when which begins, and what is judged at its end. Knows not by which rules.

use std::time::Duration;

use engine::paths::{PathInput, RelayId};

use super::super::network::{CARRIES_ALL, CARRIES_LITTLE};
use super::{Break, Fault, Happening, Phase, SILENCE_FULL_MAX, World, topology};

/// From the first packet to a path that must be there.
const CALM: Duration = Duration::from_secs(10);
/// A direct path must be found within this time of the first packet.
const DIRECT_WITHIN: Duration = Duration::from_secs(2);
/// Silence until everybody has noticed that a relay is gone, or that one address after the other is.
const SILENCE_MAX_NOTICED: Duration = Duration::from_secs(5);
/// Silence until both have noticed that what one of them sends is lost: two seconds and the pings of a relay for the one that hears
/// nothing, and then as much for the other, whose relay says nothing more.
const SILENCE_MAX_ONE_SIDED: Duration = Duration::from_secs(8);
/// Of a hundred runs so many have a relay that died unnoticed when nobody talked.
const UNNOTICED_PER_MILLE: usize = 500;
/// A relay that is announced while the others work.
const NEW_RELAY: u32 = 9;
/// Questions in ten minutes to one who is left to the hub: hints, and pings over the relay.
const ASKED_MAX: u64 = 8;
/// Silence while neither a path nor a relay is left, before the hub carries the packets.
const SILENCE_MAX_HUB: Duration = Duration::from_secs(8);
/// From the end of a fault to the path that must be there: searches are rarer by then.
const MENDED_WITHIN: Duration = Duration::from_secs(70);
/// Nothing is sent when nobody has talked for so long.
const QUIET_AFTER: Duration = Duration::from_secs(130);

impl World {
    pub(super) fn next(&mut self, phase: Phase) {
        self.trace.tell(self.at, || format!("{phase:?}, {:?}", self.fault));
        self.judge_turns();
        match phase {
            Phase::Start => {
                self.begin_to_talk();
                if self.fault == Fault::ServerGoneEarly {
                    let soon = self.dice.millis(50, 1000);
                    self.soon(soon, Happening::Break(Break::Server));
                }
                self.soon(CALM, Happening::Next(Phase::Fault));
            }
            Phase::Fault => {
                if self.fault != Fault::ServerGoneEarly {
                    self.judge_ways("a-path-that-must-be-there-is-found");
                    self.judge_first(DIRECT_WITHIN);
                }
                self.begin_fault();
                self.soon(Duration::from_secs(30), Happening::Next(Phase::Mend));
            }
            Phase::Mend => {
                if self.fault == Fault::DirectBlocked {
                    self.judge_relayed();
                }
                if matches!(self.fault, Fault::ServerGoneAndBlocked | Fault::HostNarrows) {
                    self.judge_ways("a-path-is-found-or-left-during-the-fault");
                }
                self.mend();
                self.soon(MENDED_WITHIN, Happening::Next(Phase::Silence));
            }
            Phase::Silence => {
                self.judge_ways("a-path-that-is-there-again-is-found");
                self.talking = false;
                self.soon(QUIET_AFTER, Happening::Next(Phase::Quiet));
            }
            Phase::Quiet => {
                self.nodes.iter_mut().for_each(|node| node.sent = 0);
                self.soon(Duration::from_secs(600), Happening::Next(Phase::Again));
            }
            Phase::Again => {
                let sent: u64 = self.nodes.iter().map(|node| node.sent).sum();
                // Whoever is left to the hub is asked now and then.
                let mute = self.nodes.iter().any(|node| node.is_mute);
                let allowed = if mute { ASKED_MAX * self.nodes.len() as u64 } else { 0 };
                if sent > allowed {
                    self.fail("silence-costs-nothing", format!("{sent} datagrams in ten minutes"));
                }
                (self.silence_max, self.silence_full_max) = (Duration::from_secs(1), Duration::from_secs(1));
                if !self.relays.is_empty() && self.dice.chance(UNNOTICED_PER_MILLE) {
                    self.die_unnoticed();
                }
                self.begin_to_talk();
                self.soon(CALM, Happening::Next(Phase::End));
            }
            Phase::End => {
                self.judge_keepalives();
                let invariant = "a-path-that-must-be-there-is-found";
                // Without a server nobody learns any more how NATs map.
                match self.server_up {
                    true => self.judge_ways(invariant),
                    false => self.judge_ways_unasked(invariant),
                }
                self.ended = true;
            }
        }
    }

    pub(super) fn begin_to_talk(&mut self) {
        (self.talking, self.began) = (true, self.at);
        for pair in &mut self.pairs {
            (pair.heard, pair.heard_full) = ([self.at; 2], [self.at; 2]);
        }
        self.soon(Duration::ZERO, Happening::Talk);
    }

    pub(super) fn break_down(&mut self, what: Break) {
        match what {
            Break::Server => {
                self.server_up = false;
                (0..self.nodes.len()).for_each(|node| self.connect(node));
            }
            Break::Blocked(blocked) => self.blocked = blocked,
            Break::Ours(node) => (self.blocked_from, self.blocked_alone) = (Some(node), Some(self.at)),
            Break::BlockedAlone => (self.blocked, self.blocked_alone) = (true, Some(self.at)),
        }
    }

    /// The server's machine, with the hub, or a relay is gone, and everybody believes still to be connected to it.
    fn die_unnoticed(&mut self) {
        let is_hub_needed = self.nodes.iter().any(|node| node.is_mute);
        match self.dice.below(self.relays.len() + 1) {
            0 if is_hub_needed => {}
            0 => (self.server_up, self.hub_up) = (false, false),
            relay => drop(self.relays.remove(relay - 1)),
        }
    }

    fn mend(&mut self) {
        (self.blocked, self.server_up, self.deaf) = (false, true, None);
        (self.blocked_alone, self.blocked_from) = (None, None);
        (self.silence_max, self.silence_full_max) = (SILENCE_MAX_HUB, SILENCE_MAX_HUB);
        if self.fault == Fault::HostNarrows {
            self.network.hosts.iter_mut().for_each(|host| host.carries = CARRIES_ALL);
        }
        if self.fault == Fault::RelayGone {
            self.relays.push(RelayId(NEW_RELAY));
        }
        (0..self.nodes.len()).for_each(|node| self.connect(node));
        let mute = self.nodes.iter().position(|node| node.is_mute);
        if let Some(mute) = mute.filter(|_| self.dice.chance(500)) {
            self.nodes[mute].is_mute = false;
            self.introduce(mute);
        }
    }

    pub(super) fn begin_fault(&mut self) {
        match self.fault {
            Fault::DirectBlocked => {
                // At any moment between two packets and two pings.
                let after = self.dice.millis(0, 1000);
                self.soon(after, Happening::Break(Break::BlockedAlone));
            }
            Fault::OursLost => {
                // A kernel's, if there is one: it would follow what still comes.
                let kernel = self.nodes.iter().position(|node| node.kernel.is_some());
                let node = kernel.unwrap_or_else(|| self.dice.below(self.nodes.len()));
                let after = self.dice.millis(0, 1000);
                self.soon(after, Happening::Break(Break::Ours(node)));
            }
            Fault::ServerGone => self.break_down(Break::Server),
            Fault::ServerGoneEarly | Fault::Nothing => {}
            Fault::ServerGoneAndBlocked => {
                self.break_down(Break::Server);
                (self.silence_max, self.silence_full_max) = (SILENCE_MAX_NOTICED, SILENCE_MAX_NOTICED);
                self.soon(Duration::from_secs(8), Happening::Break(Break::Blocked(true)));
                self.soon(Duration::from_secs(14), Happening::Break(Break::Blocked(false)));
            }
            Fault::RelayGone if self.relays.is_empty() => self.break_down(Break::Server),
            Fault::RelayGone => {
                let gone = self.dice.below(self.relays.len());
                self.relays.remove(gone);
                // Nobody hears of it before its link falls silent.
                (self.silence_max, self.silence_full_max) = (SILENCE_MAX_NOTICED, SILENCE_MAX_NOTICED);
                for node in 0..self.nodes.len() {
                    let relays = self.connected();
                    let after = self.dice.millis(500, 3000);
                    self.soon(after, Happening::Connected { node, relays });
                }
            }
            Fault::OneSided => {
                self.blocked = true;
                let node = self.dice.below(self.nodes.len());
                let relays = self.nodes[node].relays.clone();
                self.deaf = self.dice.pick(&relays).map(|relay| (node, *relay));
                (self.silence_max, self.silence_full_max) = (SILENCE_MAX_ONE_SIDED, SILENCE_MAX_ONE_SIDED);
            }
            Fault::HostNarrows => {
                let node = self.dice.below(self.nodes.len());
                self.network.hosts[node].carries = CARRIES_LITTLE;
                self.silence_full_max = SILENCE_FULL_MAX;
            }
            Fault::NatsReboot => {
                self.network.routers.iter_mut().for_each(|router| router.nat.flush());
            }
            Fault::HostMoves => {
                let node = self.dice.below(self.nodes.len());
                let mut segments = 100 + self.network.routers.len();
                let mut host = topology::place(&mut self.network, &mut segments, None, &mut self.dice);
                host.blocked = false;
                self.network.hosts[node] = host;
                let interfaces = self.network.interfaces(node);
                self.tell(node, PathInput::Interfaces(interfaces));
                self.tell(node, PathInput::Moved);
            }
        }
    }
}
