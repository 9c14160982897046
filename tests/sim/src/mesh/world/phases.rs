//! The phases of a run, and its fault: when which begins, and what is judged at its end. Knows not by which rules.

use std::time::Duration;

use engine::paths::{PathInput, RelayId};

use super::{Fault, Happening, Phase, World, topology};

/// From the first packet to a path that must be there.
const CALM: Duration = Duration::from_secs(10);
/// A direct path must be found within this time of the first packet.
const DIRECT_WITHIN: Duration = Duration::from_secs(2);
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
                self.soon(CALM, Happening::Next(Phase::Fault));
            }
            Phase::Fault => {
                self.judge_ways("a-path-that-must-be-there-is-found");
                self.judge_first(DIRECT_WITHIN);
                self.begin_fault();
                self.soon(Duration::from_secs(30), Happening::Next(Phase::Mend));
            }
            Phase::Mend => {
                if self.fault == Fault::DirectBlocked {
                    self.judge_relayed();
                }
                (self.blocked, self.server_up, self.silence_max) = (false, true, SILENCE_MAX_HUB);
                for node in 0..self.nodes.len() {
                    self.tell(node, PathInput::Relays(vec![RelayId::SERVER]));
                }
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
                if sent > 0 {
                    self.fail("silence-costs-nothing", format!("{sent} datagrams in ten minutes"));
                }
                self.silence_max = Duration::from_secs(1);
                self.begin_to_talk();
                self.soon(CALM, Happening::Next(Phase::End));
            }
            Phase::End => {
                self.judge_ways("a-path-that-must-be-there-is-found");
                self.ended = true;
            }
        }
    }

    pub(super) fn begin_to_talk(&mut self) {
        (self.talking, self.began) = (true, self.at);
        self.pairs.iter_mut().for_each(|pair| pair.heard = [self.at; 2]);
        self.soon(Duration::ZERO, Happening::Talk);
    }

    pub(super) fn begin_fault(&mut self) {
        match self.fault {
            Fault::DirectBlocked => self.blocked = true,
            Fault::ServerGone => {
                self.server_up = false;
                self.silence_max = SILENCE_MAX_HUB;
                for node in 0..self.nodes.len() {
                    self.tell(node, PathInput::Relays(Vec::new()));
                }
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
