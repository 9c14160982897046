//! SSH in the world: the sshd of machines, certificates that servers sign, and what people do to authorities.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ca::{Ground, KeyGeneration, Verifier};
use control::{Directory, Edit, InstalledRow, LinkId};
use engine::{Input, SshOutput};
use model::{
    Abilities, CaKey, CaKind, CertificateId, Code, DeviceId, Mono, Refusal, Revoked, SshIdentity, Standing,
    TenantId,
};

use super::people::alice;
use super::{Happening, Phase, World};
use crate::certificates::Certificate;
use crate::scenario::Sabotage;
use crate::sshd::{ASK_INTERVAL, Shown};

/// People who log in.
const PEOPLE: [&str; 3] = ["ada", "bob", "cyd"];
/// What could not be installed is tried again.
const INSTALL_RETRY: Duration = Duration::from_secs(10);
/// A certificate of a host: a week, as in life.
const HOST_LIFE: Duration = Duration::from_secs(7 * 24 * 3600);
/// After faults have stopped people go on for so long, and connected hosts must follow in time.
const DRILL: Duration = Duration::from_secs(45);
/// What takes too long, in a run that must fail for it.
const LAG: Duration = Duration::from_secs(12);

/// A certificate that is about to be signed, by the key that the server took for the right one.
pub(super) struct Wish {
    /// The host's link, if it is one's.
    link: Option<LinkId>,
    tenant: TenantId,
    kind: CaKind,
    generation: KeyGeneration,
    signer: CaKey,
    id: CertificateId,
    device: DeviceId,
    life: Duration,
}

impl World {
    /// What walls show that are right.
    pub(super) fn wall(&self) -> Mono {
        self.at + self.jumped
    }

    /// The program says something to its machine's sshd.
    pub(super) fn tell_sshd(&mut self, index: usize, output: SshOutput) {
        self.machines[index].sshd.hear(output);
        let life = self.machines[index].life;
        let mut took = self.dice.host.millis(5, 300);
        if self.is_sabotaged(Sabotage::HostsBoast)
            && let Some(word) = self.machines[index].sshd.boast()
        {
            let input = Box::new(Input::Ssh(word));
            self.soon(Duration::from_millis(1), Happening::Tell { machine: index, life, input });
        }
        if self.is_sabotaged(Sabotage::HostsBoast) || self.is_sabotaged(Sabotage::SshdLags) {
            took += LAG;
        }
        self.soon(took, Happening::Install { machine: index, life });
    }

    /// sshd goes by what was told last.
    pub(super) fn install(&mut self, index: usize, life: u64) {
        if !self.lives(index, life) {
            return;
        }
        if self.dice.host.chance(self.machines[index].host.fails_per_mille) {
            return self.soon(INSTALL_RETRY, Happening::Install { machine: index, life });
        }
        let news = self.machines[index].sshd.install(self.at);
        let name = self.machines[index].name.clone();
        for word in news {
            self.trace.event(self.at, "sshd", index as u64, format!("{word:?}").as_bytes());
            self.trace.detail(self.at, || format!("{name}: {word:?}"));
            if matches!(word, engine::SshInput::Certify(_)) {
                self.soon(ASK_INTERVAL, Happening::Install { machine: index, life });
            }
            self.drive(index, Some(Input::Ssh(word)));
        }
    }

    /// A host asks for a certificate.
    pub(super) fn certify(&mut self, replica: usize, link: LinkId, tenant: TenantId, device: DeviceId) {
        let life = self.replicas[replica].life;
        let control = self.replicas[replica].control.as_ref();
        let directory = control.and_then(|control| control.directory(tenant));
        let key = directory.and_then(|directory| Some((directory, directory.signing_key(CaKind::Host)?)));
        let Some((directory, key)) = key else {
            let result = Err(Refusal::new(Code::TenantNotFound, "no authority signs"));
            let input = Box::new(control::Input::Certified { link, result });
            return self.soon(Duration::from_millis(1), Happening::Answer { replica, life, input });
        };
        let wish = Wish {
            link: Some(link),
            tenant,
            kind: CaKind::Host,
            generation: key.generation,
            signer: key.public,
            id: CertificateId::Device(device, directory.tenant().name.clone()),
            device,
            life: HOST_LIFE,
        };
        self.sign_soon(replica, wish);
    }

    fn sign_soon(&mut self, replica: usize, wish: Wish) {
        let (life, delay) = (self.replicas[replica].life, self.store_delay() * 2);
        self.soon(delay, Happening::Sign { replica, life, wish: Box::new(wish) });
    }

    /// The certificate is signed: recorded, if all is still as it was, and only then given out.
    pub(super) fn sign(&mut self, replica: usize, life: u64, wish: Wish) {
        if self.replicas[replica].life != life {
            return;
        }
        let link = wish.link;
        let result = self.record(wish);
        if let Some(link) = link {
            let input = control::Input::Certified { link, result };
            self.tell_replica(replica, life, input);
        }
    }

    fn record(&mut self, wish: Wish) -> Result<String, Refusal> {
        let ailment = self.store.ailment;
        if ailment.away || ailment.read_only {
            return Err(Code::StoreUnavailable.into());
        }
        let Wish { tenant, kind, generation, signer, id, device, life, .. } = wish;
        let rows = self.store.tenant(tenant).map(|stored| &stored.rows).ok_or(Code::TenantNotFound)?;
        let signs = rows.ssh.authorities.iter().find(|authority| authority.rotation.kind == kind);
        let signs = signs.is_some_and(|authority| authority.rotation.signs() == generation);
        let active = |row: &control::Device| row.id == device && row.standing == Standing::Active;
        if !signs || !rows.devices.iter().any(active) {
            return Err(Code::Conflict.into());
        }
        let serial = self.store.ssh.serial(self.store.epoch());
        let (recorded_at, until) = (self.at, self.wall() + life);
        let text = format!("{serial} of {id} by {kind} key {}", generation.0);
        self.trace.event(self.at, "certificate", serial.number(), text.as_bytes());
        self.trace.detail(self.at, || format!("store: certificate {text}"));
        let revoked_at = None;
        let certificate =
            Certificate { tenant, kind, generation, serial, id, device, until, recorded_at, revoked_at };
        self.store.ssh.record(certificate);
        if self.dice.store.chance(ailment.answers_lost_per_mille) {
            return Err(Code::StoreUnavailable.into());
        }
        Ok(Shown { serial, signer }.line())
    }

    /// What devices installed is kept.
    pub(super) fn save_installed(&mut self, replica: usize, life: u64, rows: Vec<InstalledRow>) {
        if self.replicas[replica].life != life {
            return;
        }
        if self.store.ailment.away || self.store.ailment.read_only {
            return self.tell_replica(replica, life, control::Input::InstalledUnsaved(rows));
        }
        self.store.ssh.save(self.at, rows);
    }

    /// The next thing that people do to authorities.
    pub(super) fn ssh_turn(&mut self) {
        let drills = self.phase == Phase::Calm && self.at.since(self.phase_until) < DRILL;
        if !self.is_wild() && !drills {
            return;
        }
        let pause = self.dice.ssh.millis(200, 4_000);
        self.soon(pause, Happening::Ssh);
        let tenants: Vec<TenantId> = self.store.tenants().map(|(id, _)| *id).collect();
        let index = self.dice.ssh.below(self.replicas.len());
        let Some(tenant) = self.dice.ssh.pick(&tenants).copied() else { return };
        let kind = if self.dice.ssh.chance(500) { CaKind::User } else { CaKind::Host };
        let edit = match self.dice.ssh.below(100) {
            0..35 => return self.person_asks(index, tenant),
            35..70 => self.advance(index, tenant, kind),
            70..80 => Some(Edit::RotateAuthority(kind)),
            80..84 => Some(Edit::RollBackAuthority(kind)),
            84..86 => Some(Edit::ReplaceAuthority(kind)),
            _ => self.revocation(tenant, kind),
        };
        if let Some(edit) = edit {
            self.request_at(index, Some(tenant), edit, alice());
        }
    }

    /// `warren ssh login`, on one of the tenant's devices.
    fn person_asks(&mut self, replica: usize, tenant: TenantId) {
        let control = self.replicas[replica].control.as_ref();
        let Some(directory) = control.and_then(|control| control.directory(tenant)) else { return };
        let active = directory.devices().filter(|row| row.standing == Standing::Active && !row.is_plain());
        let active: Vec<DeviceId> = active.map(|row| row.id).collect();
        let (Some(key), Some(device)) =
            (directory.signing_key(CaKind::User), self.dice.ssh.pick(&active).copied())
        else {
            return;
        };
        let (generation, signer) = (key.generation, key.public);
        let name = PEOPLE[self.dice.ssh.below(PEOPLE.len())].parse().expect("a label");
        let id = CertificateId::Identity(SshIdentity::Person(name), directory.tenant().name.clone());
        let life = self.dice.ssh.millis(5_000, 60_000);
        let kind = CaKind::User;
        self.sign_soon(replica, Wish { link: None, tenant, kind, generation, signer, id, device, life });
    }

    /// The next step of a rotation, by what the server knows at that moment. Now and then without some who are away for good.
    fn advance(&mut self, replica: usize, tenant: TenantId, kind: CaKind) -> Option<Edit> {
        let leaves_out = self.dice.ssh.chance(100);
        let directory = self.replicas[replica].control.as_ref()?.directory(tenant)?;
        let all: Vec<DeviceId> = directory.devices().map(|row| row.id).collect();
        let except: BTreeSet<DeviceId> =
            all.into_iter().filter(|_| leaves_out && self.dice.ssh.chance(300)).collect();
        let directory = self.replicas[replica].control.as_ref()?.directory(tenant)?;
        let judged = directory.authority(kind)?.rotation.step();
        self.rotations.asked(tenant, kind, &except);
        if self.is_sabotaged(Sabotage::GatesOpen) {
            return Some(Edit::AdvanceAuthority { kind, except, judged, ground: Ground::default() });
        }
        let ground = self.ground(replica, directory, kind, &except);
        Some(Edit::AdvanceAuthority { kind, except, judged, ground })
    }

    /// As the server's own `ground` looks at its database.
    fn ground(
        &self,
        replica: usize,
        directory: &Directory,
        kind: CaKind,
        except: &BTreeSet<DeviceId>,
    ) -> Ground {
        let tenant = directory.tenant().id;
        let said = self.store.ssh.installed(tenant);
        let active = directory.devices().filter(|row| row.standing == Standing::Active && !row.is_plain());
        let verifier = |device: &DeviceId| {
            said.get(device).map_or_else(Verifier::default, |said| verifier_of(directory, kind, &said.row))
        };
        let devices = active.map(|row| (row.id, verifier(&row.id))).collect();
        let exempt = directory.authority(kind).map(|row| row.rotation.exempt.clone()).unwrap_or_default();
        let left_out = |device: &DeviceId| exempt.contains(device) || except.contains(device);
        let mut certificates_until = BTreeMap::new();
        for one in self.store.ssh.of(tenant, kind).filter(|one| one.lives(self.wall())) {
            let shows = said.get(&one.device).and_then(|said| said.row.presents);
            let shows = shows.and_then(|key| directory.key_generation(kind, &key));
            let needed = shows.is_none_or(|shown| shown == one.generation) && !left_out(&one.device);
            if kind == CaKind::User || needed {
                let until = self.replicas[replica].now(one.until, Duration::ZERO).wall;
                let last = certificates_until.entry(one.generation).or_insert(until);
                *last = until.max(*last);
            }
        }
        Ground { devices, certificates_until }
    }

    /// Certificates that live are taken back: one, or all of somebody.
    fn revocation(&mut self, tenant: TenantId, kind: CaKind) -> Option<Edit> {
        let living = self.store.ssh.of(tenant, kind).filter(|one| one.lives(self.wall()));
        let living: Vec<(Revoked, Revoked)> =
            living.map(|one| (Revoked::Serial(one.serial), Revoked::Id(one.id.clone()))).collect();
        let (serial, id) = self.dice.ssh.pick(&living).cloned()?;
        // A host whose every certificate is revoked gets no other until that ends.
        let what = if kind == CaKind::User && self.dice.ssh.chance(200) { id } else { serial };
        let now = self.replicas[0].now(self.at, self.jumped).wall;
        let until = now + HOST_LIFE;
        Some(Edit::RevokeCertificates { kind, what: [what].into(), until })
    }

    /// What of a machine's sshd is not as the directory says.
    pub(super) fn sshd_differs(&self, index: usize, directory: &Directory) -> Option<String> {
        let machine = &self.machines[index];
        if !machine.abilities.has(Abilities::SSH) || !machine.sshd.there {
            return None;
        }
        let Some(installed) = &machine.sshd.installed else { return Some("keeps no sshd".into()) };
        let trusted: BTreeSet<CaKey> = directory.trusted_keys(CaKind::User).map(|key| key.public).collect();
        let revoked = directory.revocations().filter(|row| row.kind == CaKind::User);
        let signer = directory.signing_key(CaKind::Host).map(|key| key.public);
        let holds = [
            (installed.people == trusted, "trusted keys"),
            (revoked.into_iter().all(|row| installed.revoked.contains(&row.what)), "revocations"),
            (machine.sshd.shows.map(|shown| shown.signer) == signer, "a signer of its host certificate"),
        ];
        holds.into_iter().find(|(holds, _)| !holds).map(|(_, what)| format!("its sshd has other {what}"))
    }
}

fn verifier_of(directory: &Directory, kind: CaKind, row: &InstalledRow) -> Verifier {
    let generation = |key: &CaKey| directory.key_generation(kind, key);
    let (keys, presents) = match kind {
        CaKind::User => (row.people.as_ref(), None),
        CaKind::Host => (Some(&row.hosts), row.presents),
    };
    Verifier {
        trusts: keys.map(|keys| keys.iter().filter_map(generation).collect()),
        presents: presents.as_ref().and_then(generation),
        said_at: Some(row.said_at),
    }
}
