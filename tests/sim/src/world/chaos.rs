//! What goes wrong, and when it is well again.

use std::time::Duration;

use model::{Abilities, Mono};

use super::{Happening, Phase, Who, World};
use crate::link::Way;
use crate::store::Ailment;

/// Crashes after which a machine runs a version with other abilities.
const UPGRADED_PER_MILLE: usize = 150;

/// Something that is wrong for a while.
#[derive(Debug, Clone, Copy)]
pub(super) enum Illness {
    Store,
    Host(usize),
    Spoofing,
}

impl World {
    /// The next thing that goes wrong.
    pub(super) fn fault(&mut self) {
        if self.phase != Phase::Chaos {
            return;
        }
        let mean = u64::try_from(self.scenario.fault_interval.as_millis()).unwrap_or(u64::MAX);
        let pause = self.dice.chaos.millis(0, 2 * mean);
        self.soon(pause, Happening::Fault);
        let machine = self.dice.chaos.below(self.machines.len());
        let replica = self.dice.chaos.below(self.replicas.len());
        match self.dice.chaos.below(100) {
            0..10 => self.replicas[replica].crash_after = Some(self.some_steps(60)),
            10..13 => self.drain(replica),
            13..25 => self.machines[machine].crash_after = Some(self.some_steps(25)),
            25..37 => self.store_falls_ill(),
            37..52 => self.partition(replica),
            52..60 => self.break_links(),
            60..67 => self.host_falls_ill(machine),
            67..82 => {
                let told = self.dice.chaos.chance(800);
                self.soon(Duration::from_millis(1), Happening::Meddle { machine, told });
            }
            82..85 => self.machines[machine].disk.tear(usize::from(self.dice.chaos.bytes::<1>()[0]) * 7),
            85..88 => self.hub_loses_key(),
            88..90 => self.clocks_jump(),
            90..93 => self.restore(),
            93..95 => self.clone_machine(machine),
            _ => self.attack(),
        }
    }

    fn some_steps(&mut self, at_most: usize) -> u32 {
        u32::try_from(1 + self.dice.chaos.below(at_most)).unwrap_or(1)
    }

    fn drain(&mut self, index: usize) {
        let name = &self.replicas[index].name;
        self.trace.tell(self.at, || format!("{name} is told to drain"));
        self.replicas[index].draining = true;
        self.drive_replica(index, Some(control::Input::Drain));
    }

    /// A program ends: the kernel keeps the host as it is, unless the machine goes with it.
    pub(super) fn crash_machine(&mut self, index: usize) {
        let dice = &mut self.dice.chaos;
        let (renamed, reboots, wiped) = (dice.chance(500), dice.chance(300), dice.chance(100) && index != 0);
        let name = self.machines[index].name.clone();
        self.trace.event(self.at, "crash", index as u64, &[]);
        self.trace.tell(self.at, || {
            let how = if reboots { "loses power" } else { "is killed" };
            format!("{name} {how}{}", if wiped { " and its disk is new" } else { "" })
        });
        self.stop_machine(index, reboots);
        let machine = &mut self.machines[index];
        machine.began_for = None;
        machine.disk.crash(renamed);
        if reboots {
            machine.host.reboot();
        }
        if wiped {
            machine.forget();
            machine.sshd = crate::sshd::Sshd::new(machine.sshd.there, self.dice.keys.bytes());
            machine.wish = crate::machine::Wish::None;
        }
        let upgraded = self.dice.chaos.chance(UPGRADED_PER_MILLE) && index != 0;
        if upgraded {
            machine.abilities =
                if machine.abilities == Abilities::NONE { Abilities::KNOWN } else { Abilities::NONE };
            self.trace.tell(self.at, || format!("{name} is going to run another version"));
        }
        let (down, life) = (self.dice.chaos.millis(20, 60_000), machine.life);
        self.soon(down, Happening::Start { who: Who::Machine(index), life });
    }

    /// Its program ends; its link does so at once, or when the server notices.
    pub(super) fn stop_machine(&mut self, index: usize, silently: bool) {
        let link = self.machines[index].link;
        self.machines[index].stop();
        let Some(id) = link else { return };
        if silently {
            if let Some(link) = self.links.get_mut(&id) {
                link.client = None;
            }
            return self.sweep(id);
        }
        self.let_go(id);
    }

    fn store_falls_ill(&mut self) {
        let shared = self.replicas.len() > 1;
        let ailment = match self.dice.chaos.below(5) {
            0 => Ailment { away: true, ..Ailment::default() },
            1 => Ailment { slow: true, ..Ailment::default() },
            2 => Ailment { answers_lost_per_mille: 500, ..Ailment::default() },
            3 if shared => Ailment { behind: 1 + self.dice.chaos.below(5) as u64, ..Ailment::default() },
            _ => Ailment { read_only: true, ..Ailment::default() },
        };
        self.store.ailment = ailment;
        self.trace.tell(self.at, || format!("the store falls ill: {ailment:?}"));
        let lasts = self.dice.chaos.millis(30, 40_000);
        self.soon(lasts, Happening::Well { what: Illness::Store });
    }

    fn host_falls_ill(&mut self, index: usize) {
        let machine = &mut self.machines[index];
        machine.host.fails_per_mille = [100, 500, 1000][self.dice.chaos.below(3)];
        let name = machine.name.clone();
        self.trace.tell(self.at, || format!("operations on {name} begin to fail"));
        let lasts = self.dice.chaos.millis(1_000, 90_000);
        self.soon(lasts, Happening::Well { what: Illness::Host(index) });
    }

    /// It is well again.
    pub(super) fn well(&mut self, what: Illness) {
        match what {
            Illness::Store => self.store.ailment = Ailment::default(),
            Illness::Host(index) => self.machines[index].host.fails_per_mille = 0,
            Illness::Spoofing => self.spoofed_per_mille = 0,
        }
        self.trace.tell(self.at, || format!("well again: {what:?}"));
    }

    fn partition(&mut self, replica: usize) {
        let share = [100, 500, 1000][self.dice.chaos.below(3)];
        let machines = 1..self.machines.len();
        let machines: Vec<usize> = machines.filter(|_| self.dice.chaos.chance(share)).collect();
        let ways = match self.dice.chaos.below(3) {
            0 => vec![Way::Up],
            1 => vec![Way::Down],
            _ => vec![Way::Up, Way::Down],
        };
        let (name, count) = (&self.replicas[replica].name, machines.len());
        self.trace.tell(self.at, || format!("{count} machines are cut off {name}, {ways:?}"));
        let cut = self.paths.cut(machines, replica, ways);
        let lasts = self.dice.chaos.millis(500, 150_000);
        self.soon(lasts, Happening::Mend { cut });
    }

    fn break_links(&mut self) {
        let share = [50, 300, 1000][self.dice.chaos.below(3)];
        let ids: Vec<_> = self.links.keys().copied().filter(|_| self.dice.chaos.chance(share)).collect();
        self.trace.tell(self.at, || format!("{} links break", ids.len()));
        for id in ids {
            for way in [Way::Up, Way::Down] {
                self.send(id, way, crate::link::Item::End);
            }
        }
    }

    /// Somebody changes a host.
    pub(super) fn meddle(&mut self, index: usize, told: bool) {
        let restless = self.is_sabotaged(crate::scenario::Sabotage::HumanNeverRests);
        if !self.is_wild() && !restless {
            return;
        }
        if restless {
            self.soon(Duration::from_secs(20), Happening::Meddle { machine: 0, told: true });
        }
        let Some(what) = self.machines[index].host.meddle(&mut self.dice.host) else { return };
        let (name, life) = (self.machines[index].name.clone(), self.machines[index].life);
        self.trace.event(self.at, "meddle", index as u64, what.as_bytes());
        self.trace.tell(self.at, || format!("a human on {name}: {what}"));
        if told {
            let input = Box::new(engine::Input::HostChanged);
            self.soon(Duration::from_millis(2), Happening::Tell { machine: index, life, input });
        }
    }

    /// The key's file is lost: the hub comes back with another.
    fn hub_loses_key(&mut self) {
        self.trace.tell(self.at, || "the hub loses its key".to_owned());
        self.stop_machine(0, false);
        let machine = &mut self.machines[0];
        machine.wireguard = model::PrivateKey::from_bytes(self.dice.keys.bytes());
        machine.secrets().into_iter().for_each(|key| self.judge.keep_secret(key));
        machine.disk.crash(true);
        let life = machine.life;
        self.soon(Duration::from_secs(2), Happening::Start { who: Who::Machine(0), life });
    }

    /// Every wall clock is set ahead, as after a long night: monotonic clocks stood still.
    fn clocks_jump(&mut self) {
        self.jumped += Duration::from_secs(25 * 3600);
        self.trace.tell(self.at, || "walls are set ahead by 25 h".to_owned());
    }

    /// Somebody copies a machine with all its keys, and lets both run.
    fn clone_machine(&mut self, index: usize) {
        let original = &self.machines[index];
        let joined = matches!(original.wish, crate::machine::Wish::Joined(_));
        if !joined || original.disk.file().is_none() || self.machines.len() > 2 * self.scenario.devices {
            return;
        }
        let copy = original.clone_disk(original.tenant, &mut self.dice.keys);
        self.machines[index].copied = true;
        let name = copy.name.clone();
        self.trace.tell(self.at, || format!("there is a {name}"));
        let index = self.machines.len();
        self.machines.push(copy);
        self.soon(Duration::ZERO, Happening::Start { who: Who::Machine(index), life: 0 });
    }

    /// Copies of machines are thrown away.
    pub(super) fn discard_copies(&mut self) {
        for index in self.scenario.devices + 1..self.machines.len() {
            self.stop_machine(index, false);
            self.machines[index].gone = true;
        }
    }

    /// The servers are stopped, an older copy is put in place, the servers start.
    fn restore(&mut self) {
        let complete = self.tokens.tenants.len() == self.scenario.tenants;
        if !self.scenario.restore || self.restored || !complete {
            return;
        }
        self.restored = true;
        for index in 0..self.replicas.len() {
            self.restart_replica(index, "is stopped", false);
        }
        let ago = self.dice.chaos.millis(1_000, 200_000);
        let founded = |stored: &crate::store::Stored| stored.founded_at;
        let youngest = self.store.tenants().map(|(_, stored)| founded(stored)).max().unwrap_or_default();
        let ago = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
        let moment = Mono::from_micros(self.at.as_micros().saturating_sub(ago)).max(youngest);
        let lost = self.store.restore(moment);
        let epoch = self.store.epoch().0;
        self.trace.event(self.at, "restore", lost, &[]);
        self.trace.tell(self.at, || format!("the database is restored: {lost} edits lost, epoch {epoch}"));
        for (_, stored) in self.store.tenants() {
            self.judge.restored(&stored.rows);
        }
    }

    fn attack(&mut self) {
        if !self.scenario.attacks {
            return;
        }
        if self.dice.chaos.chance(500) {
            self.spoofed_per_mille = 500;
            self.trace.tell(self.at, || "somebody hostile answers dials".to_owned());
            let lasts = self.dice.chaos.millis(5_000, 60_000);
            return self.soon(lasts, Happening::Well { what: Illness::Spoofing });
        }
        self.strangers_call();
    }
}
