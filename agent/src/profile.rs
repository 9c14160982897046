//! A profile whose node runs: started again when it fails, until it is told to end. Answers nobody.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::{NodeConfig, Role};
use host::drive::{DriveError, Ended, Handle, NamesSetup, Report, Restart, Setup, channel};
use host::resolver::{Owner, RESOLV_CONF, ResolverConfig, ResolverMode, detect};
use host::sshd::revoked::{self, RevokedFile};
use host::sshd::{self, SshdSetup};
use host::wireguard;
use host::{HostConfig, InterfaceName};
use link::ServerAddress;
use model::id::CommandId;
use model::vouch::{SignedVouch, Vouch, key_digest};
use model::wire::Remark;
use model::{Code, IdentitySecret, Label, Nonce, Refusal, SshTrust, Standing, Timestamp, Version, Zone};
use stack::Stack;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::config::{Mode, Settings};
use crate::store::Kept;

/// Where `wg` looks for the socket of a userspace device.
const UAPI_DIRECTORY: &str = "/var/run/wireguard";
/// What ssh is to refuse, for one profile each.
const REVOKED_HOSTS: &str = "revoked_hosts";
/// A node that failed is started again after so long, and after twice as long each time it fails again.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Whatever keeps failing is tried twice a minute.
const RESTART_AFTER_MAX: Duration = Duration::from_secs(30);

/// How a node is.
#[derive(Clone)]
enum Condition {
    Running(Handle),
    Failed(Refusal),
}

/// A profile that runs.
pub struct Profile {
    interface: InterfaceName,
    server: Arc<Mutex<ServerAddress>>,
    settings: Arc<Settings>,
    stack: Option<Stack>,
    ledger: PathBuf,
    identity: IdentitySecret,
    /// What names meant at the version that is held.
    zone: Mutex<Option<(Version, Arc<Zone>)>>,
    /// The version of which the file for ssh says what is revoked of hosts.
    revoked: tokio::sync::Mutex<Option<Version>>,
    condition: watch::Receiver<Condition>,
    stop: watch::Sender<bool>,
}

impl Profile {
    /// Starts its node.
    pub fn start(kept: Kept, settings: Arc<Settings>, restart: Restart) -> Self {
        let server = Arc::new(Mutex::new(kept.record.server.clone()));
        let (stop, stopped) = watch::channel(false);
        let (handle, commands) = channel();
        let (shown, condition) = watch::channel(Condition::Running(handle));
        let (interface, ledger) = (kept.record.interface.clone(), ledger(&kept));
        let identity = kept.identity.clone();
        let stack = (settings.mode == Mode::Netstack).then(|| start_stack(&settings));
        let runner = Runner {
            kept,
            settings: Arc::clone(&settings),
            server: Arc::clone(&server),
            stack: stack.clone(),
            restart,
        };
        tokio::spawn(runner.run(commands, shown, stopped));
        let (zone, revoked) = Default::default();
        Self { interface, server, settings, stack, ledger, identity, zone, revoked, condition, stop }
    }

    /// The way to its node.
    pub fn handle(&self) -> Result<Handle, Refusal> {
        match &*self.condition.borrow() {
            Condition::Running(handle) => Ok(handle.clone()),
            Condition::Failed(refusal) => Err(refusal.clone()),
        }
    }

    /// The node as it is now, after every command sent before.
    pub async fn report(&self) -> Result<Arc<Report>, Refusal> {
        let handle = self.handle()?;
        match handle.report().await {
            Ok(report) => Ok(report),
            Err(gone) => Err(self.handle().err().unwrap_or_else(|| failed(&gone))),
        }
    }

    /// Waits until the node is as wanted, and gives the last report either way.
    pub async fn wait(
        &self,
        patience: Duration,
        wanted: impl Fn(&Report) -> bool,
    ) -> Result<Arc<Report>, Refusal> {
        let deadline = Instant::now() + patience;
        let mut reports = self.handle()?.reports();
        loop {
            reports.borrow_and_update();
            let report = self.report().await?;
            if wanted(&report) || timeout_at(deadline, reports.changed()).await.is_err() {
                return Ok(report);
            }
        }
    }

    /// The device's word that an SSH key is on it; only while it takes part.
    pub async fn vouch(&self, public_key: &str, now: Timestamp) -> Result<SignedVouch, Refusal> {
        let report = self.report().await?;
        let tenant = report.node.tenants.first().filter(|tenant| tenant.standing == Standing::Active);
        let (Some(device), Some(tenant)) = (report.node.device, tenant) else {
            return Err(Refusal::new(Code::DevicePending, "this device does not take part in the mesh"));
        };
        let vouch = Vouch { tenant: tenant.tenant, device, key: key_digest(public_key), at: now };
        Ok(vouch.sign(&self.identity))
    }

    /// Its interface.
    pub const fn interface(&self) -> &InterfaceName {
        &self.interface
    }

    /// What it has instead of an interface, in mode netstack.
    pub const fn stack(&self) -> Option<&Stack> {
        self.stack.as_ref()
    }

    /// Where its node keeps what it holds.
    pub fn ledger(&self) -> &Path {
        &self.ledger
    }

    /// What it was started with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The names and addresses of the mesh at the version that is held.
    pub async fn zone(&self, version: Version) -> Result<Arc<Zone>, Refusal> {
        let known = self.zone.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, zone)) = known.filter(|(at, _)| *at == version) {
            return Ok(zone);
        }
        let zones = self.handle()?.zones().await.map_err(|gone| failed(&gone))?;
        let zone = zones.into_iter().next().map(Arc::new);
        let zone = zone.ok_or_else(|| Refusal::new(Code::NotEnrolled, "this device holds no names yet"))?;
        *self.zone.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, Arc::clone(&zone)));
        Ok(zone)
    }

    /// Brings the file that tells ssh which hosts to refuse to the version that is held. It is beside the socket: whoever may
    /// ask finds it, and it is there whenever somebody was answered. What a restored server forgot is kept beside the ledger.
    pub async fn revoked_hosts(
        &self,
        name: &Label,
        held: Version,
        now: Timestamp,
    ) -> Result<PathBuf, Refusal> {
        let folder = self.settings.socket.parent().unwrap_or(Path::new("/"));
        let path = folder.join(format!("{REVOKED_HOSTS}.{name}"));
        let mut written = self.revoked.lock().await;
        if *written == Some(held) && path.exists() {
            return Ok(path);
        }
        let trust = self.handle()?.ssh_trust().await.map_err(|gone| failed(&gone))?;
        let (version, trust) = trust.unwrap_or((held, SshTrust::default()));
        let file = RevokedFile::keeping(path.clone(), self.ledger.with_file_name(REVOKED_HOSTS));
        let write = move || file.write(revoked::hosts(&trust, version), now, |_| Ok(()));
        let done = tokio::task::spawn_blocking(write).await.map_err(|error| failed(&error))?;
        done.map_err(|error| failed(&error))?;
        *written = Some(version);
        Ok(path)
    }

    /// What it holds of SSH; nothing if the server says nothing of it.
    pub async fn ssh_trust(&self) -> Result<SshTrust, Refusal> {
        let trust = self.handle()?.ssh_trust().await.map_err(|gone| failed(&gone))?;
        Ok(trust.map(|(_, trust)| trust).unwrap_or_default())
    }

    /// Where its server is.
    pub fn server(&self) -> ServerAddress {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the machine's resolver is left alone because the settings say so.
    pub fn leaves_resolver(&self) -> bool {
        ResolverMode::from(self.settings.resolver) == ResolverMode::Off
    }

    /// Uses another server from now on.
    pub async fn set_server(&self, address: ServerAddress) -> Result<(), Refusal> {
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = address.clone();
        self.handle()?.server(self.settings.server(address)).await.map_err(|gone| failed(&gone))
    }

    /// Takes away what was installed for this machine's sshd, if this profile did it.
    pub async fn forget_sshd(&self) {
        if self.interface != self.settings.interface || self.stack.is_some() {
            return;
        }
        let config = self.settings.sshd_config.clone();
        let removed = tokio::task::spawn_blocking(move || sshd::remove(&config)).await;
        if let Ok(Err(reason)) = removed {
            tracing::warn!(reason, "this machine's sshd may not be as it was");
        }
    }

    /// Tells the node to end; [`Self::ended`] waits for it.
    pub fn stop(&self) {
        let _ = self.stop.send(true);
        if let Ok(handle) = self.handle() {
            handle.stop();
        }
    }

    /// Waits until the node has left the host as it should be without it. Call [`Self::stop`] first.
    pub async fn ended(&self) {
        let mut condition = self.condition.clone();
        // The sender is the task's.
        while condition.changed().await.is_ok() {}
    }
}

/// A refusal because something on this machine failed.
pub fn failed(error: &dyn std::error::Error) -> Refusal {
    Refusal::new(Code::HostFailed, host::chain(error))
}

/// A stack; what peers ask for goes on to this machine.
fn start_stack(settings: &Arc<Settings>) -> Stack {
    let (stack, incoming) = Stack::start();
    let settings = Arc::clone(settings);
    tokio::spawn(stack::forward(incoming, move |port| settings.admits(port)));
    stack
}

struct Runner {
    kept: Kept,
    settings: Arc<Settings>,
    server: Arc<Mutex<ServerAddress>>,
    stack: Option<Stack>,
    restart: Restart,
}

impl Runner {
    async fn run(
        mut self,
        mut commands: host::drive::Commands,
        shown: watch::Sender<Condition>,
        mut stop: watch::Receiver<bool>,
    ) {
        let profile = self.kept.name.clone();
        let mut pause = RESTART_AFTER;
        loop {
            let began = Instant::now();
            let refusal = match self.drive(commands).await {
                Ok(Ended::Stopped) => return,
                Ok(Ended::Rekeyed { command }) => {
                    self.rekeyed(command);
                    let (handle, taken) = channel();
                    commands = taken;
                    if *stop.borrow() {
                        return;
                    }
                    let _ = shown.send(Condition::Running(handle));
                    continue;
                }
                Err(refusal) => refusal,
            };
            tracing::error!(%profile, code = %refusal.code, reason = refusal.detail, "the profile failed");
            let mended_by_time = refusal.code != Code::StateDamaged;
            let _ = shown.send(Condition::Failed(refusal));
            if began.elapsed() > RESTART_AFTER_MAX {
                pause = RESTART_AFTER;
            }
            // What is damaged on disk waits for somebody.
            let stopped = stop.wait_for(|stop| *stop);
            if mended_by_time {
                if timeout(pause, stopped).await.is_ok() {
                    return;
                }
            } else {
                let _ = stopped.await;
                return;
            }
            pause = RESTART_AFTER_MAX.min(pause * 2);
            let (handle, taken) = channel();
            commands = taken;
            if *stop.borrow() {
                return;
            }
            let _ = shown.send(Condition::Running(handle));
        }
    }

    /// The node begins with the other key, and answers the command that wanted it.
    fn rekeyed(&mut self, command: Option<CommandId>) {
        let profile = self.kept.name.clone();
        match self.kept.rekey() {
            Ok(()) => tracing::info!(%profile, "the WireGuard key is another"),
            Err(error) => {
                let reason = host::chain(&error);
                tracing::error!(%profile, code = "key-not-kept", reason, "the new WireGuard key is used and not yet in its place");
            }
        }
        if command.is_some() {
            self.restart.done = command;
        }
    }

    async fn drive(&self, commands: host::drive::Commands) -> Result<Ended, Refusal> {
        let setup = self.setup()?;
        host::drive(setup, commands, |_| {}).await.map_err(|error| match error {
            DriveError::Ledger { .. } => Refusal::new(Code::StateDamaged, host::chain(&error)),
            other => failed(&other),
        })
    }

    /// One port serves one interface: the one that has the name from the settings.
    fn listen_port(&self) -> Option<u16> {
        let is_first = self.kept.record.interface == self.settings.interface;
        self.settings.listen_port.filter(|_| is_first)
    }

    /// A machine has one sshd: the first profile's mesh is let in by it. Without an interface nothing comes in at a mesh
    /// address.
    fn sshd(&self) -> SshdSetup {
        let is_first = self.kept.record.interface == self.settings.interface;
        if !is_first || self.stack.is_some() {
            return SshdSetup::none();
        }
        let Settings { ssh, sshd_config, sshd_log, .. } = &*self.settings;
        SshdSetup { mode: *ssh, config: sshd_config.clone(), log: sshd_log.clone() }
    }

    fn setup(&self) -> Result<Setup, Refusal> {
        let server = self.server.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let identity = self.kept.identity.clone();
        Ok(Setup {
            node: NodeConfig {
                // Fresh at each start: two machines with one identity differ in it.
                role: Role::Device {
                    identity,
                    instance: Nonce::from_bytes(random()?),
                    listen_port: self.listen_port(),
                    search: self.settings.dns_search.clone(),
                },
                wireguard: self.kept.wireguard.clone(),
                software: Remark::new(concat!("warren-agent ", env!("CARGO_PKG_VERSION"))),
            },
            host: HostConfig {
                interface: self.kept.record.interface.clone(),
                key: self.kept.wireguard.clone(),
                mode: match self.settings.mode {
                    Mode::Interface(mode) => mode,
                    Mode::Netstack => wireguard::Mode::Userspace,
                },
                forwards: false,
                resolver: resolver(&self.kept, &self.settings),
                state: self.kept.folder.clone(),
                uapi_directory: Some(UAPI_DIRECTORY.into()),
                stack: self.stack.clone(),
                tuning: self.settings.tuning(),
            },
            ledger: ledger(&self.kept),
            server: Some(self.settings.server(server)),
            names_port: self.settings.names.dns_port,
            maps_ports: self.settings.port_mapping,
            birthdays: self.settings.birthday,
            sshd: self.sshd(),
            next_key: Some(self.kept.next_key()),
            seals: None,
            names: NamesSetup {
                options: self.settings.names.options(),
                forward: self.settings.names.forward().map_err(|error| failed(&error))?,
                sees: Vec::new(),
            },
            restart: Some(self.restart.clone()),
            seed: random()?,
        })
    }
}

fn ledger(kept: &Kept) -> PathBuf {
    kept.folder.join("ledger")
}

/// Which resolver is told, and which file is the machine's. A node that leaves the file to another profile does not look
/// at it either: what stands there is not its own.
pub fn resolver(kept: &Kept, settings: &Settings) -> ResolverConfig {
    let mode = ResolverMode::from(settings.resolver);
    let config = ResolverConfig { mode, port: settings.names.dns_port, ..ResolverConfig::off() };
    let is_first = kept.record.interface == settings.interface;
    match mode {
        ResolverMode::Auto | ResolverMode::File if !is_first && has_one_place(mode) => {
            ResolverConfig { mode: ResolverMode::Off, file: kept.folder.join("resolv.conf"), ..config }
        }
        _ => config,
    }
}

/// Whether the machine's resolver is a file, which has room for the names of one mesh: the first profile's.
fn has_one_place(mode: ResolverMode) -> bool {
    mode == ResolverMode::File || detect(Path::new(RESOLV_CONF)) == Owner::File
}

fn random() -> Result<[u8; 32], Refusal> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| failed(&error))?;
    Ok(bytes)
}
