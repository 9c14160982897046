//! `warren-apid`, the unprivileged API process: owns the database, enrols devices, takes heartbeats, serves people, and
//! relays; or relays only.
//!
//! Has no capability and no netlink; what must happen in a kernel happens because a node holds a newer snapshot.

mod accounts;
mod audit;
mod backup;
mod certificate;
mod clock;
mod config;
mod courier;
mod desk;
mod due;
mod first_start;
mod http;
mod keys;
mod lapse;
mod lease;
mod limiters;
mod listen;
mod local;
mod master_key;
mod metrics;
mod news;
mod people;
mod places;
mod proxies;
mod redact;
mod relay;
mod relay_alone;
mod report;
mod restore;
mod retention;
mod room;
mod seal;
mod second_factor;
mod signing;
mod sinks;
mod site;
mod stun;
mod sweep;
mod sweeper;
mod throttle;
mod withdrawn;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use clap::CommandFactory as _;
use clap::error::ErrorKind;
use control::{Control, ControlConfig};
use link::tls::Certificate;
use model::Endpoint;
use model::wire::Remark;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use shell::service::{self, Wish, Wishes};
use store::Store;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::RwLock;
use tokio::task::{JoinHandle, JoinSet};

use crate::clock::Clock;
use crate::config::{Role, Settings, Task};
use crate::desk::{Desk, Works};
use crate::http::{App, Readiness};
use crate::keys::Keys;
use crate::limiters::Limiters;
use crate::metrics::Metrics;
use crate::places::Addresses;
use crate::relay::Switchboard;
use crate::seal::SealError;
use crate::signing::Signing;
use crate::site::Site;

/// Where settings are looked for first.
const CONFIG_FILE: &str = "/etc/warren/apid.toml";

fn main() -> ExitCode {
    let settings: Settings = match service::begin(CONFIG_FILE) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    // Offline, and root's: the files of two users are put in place.
    if let Some(Task::Verify | Task::Restore) = settings.task {
        return restore::run(&settings, settings.task == Some(Task::Restore));
    }
    if nix::unistd::Uid::effective().is_root() && !settings.allow_root {
        return service::refuse(
            "warren-apid needs no privilege: run it as its own user, or add --allow-root",
        );
    }
    if let Err(error) = raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is: each link needs one");
    }
    match settings.task {
        Some(Task::Migrate) => return service::run(migrated(settings)),
        Some(Task::Rewrap) => return rewrap(&settings),
        Some(Task::Verify | Task::Restore) | None => {}
    }
    match settings.role {
        Role::Relay => service::run(relay_alone::serve(settings)),
        Role::Server if settings.restored => service::run(restored(settings)),
        Role::Server => service::run(serve(settings)),
    }
}

/// Has the keys opened by something else. Refused where that is not said, or where nothing opens them now.
fn rewrap(settings: &Settings) -> ExitCode {
    if settings.new_ca_passphrase_file.is_none() && !settings.to_key_file {
        let what = "say what opens the keys from now on: --new-ca-passphrase-file FILE, or --to-key-file to go without";
        let error = Settings::command().error(ErrorKind::MissingRequiredArgument, what);
        // Nothing is left to do if the terminal is gone.
        let _ = error.print();
        return ExitCode::from(2);
    }
    let mut refused = None;
    let exit = service::run(async {
        match master_key::rewrap(settings).await {
            Err(error) if error.is::<SealError>() => refused = Some(format!("{error:#}")),
            done => done?,
        }
        Ok(())
    });
    refused.map_or(exit, |why| service::refuse(&why))
}

/// As many files as the hard limit allows (getrlimit(2)).
fn raise_open_files() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
}

/// Tells a restored database that it is one: everything after it is newer than anything that nodes hold.
async fn restored(settings: Settings) -> anyhow::Result<()> {
    let store = Store::open(&settings.database_url()).await.context("the database cannot be used")?;
    let entry = accounts::entry(control::Actor::Server, "server.restored", "", None);
    let epoch = store.raise_epoch(&restore::after(model::Epoch::default()), &entry).await?;
    store.close().await;
    tracing::info!(
        epoch = epoch.0,
        "the epoch is raised; tokens and sessions from before are void: start warren-apid"
    );
    Ok(())
}

/// Brings the database to the newest schema, or says whether that would do.
async fn migrated(settings: Settings) -> anyhow::Result<()> {
    let opened = Store::reach(&settings.database_url()).await.context("the database cannot be used")?;
    if settings.check {
        let (migrations, tenants) = opened.rehearse().await?;
        let migrations = migrations.join(", ");
        tracing::info!(migrations, tenants, "the migrations would do, and nothing of them stayed");
        return Ok(());
    }
    let pending = opened.pending().await?.join(", ");
    opened.migrate().await?.close().await;
    tracing::info!(migrations = pending, "the database has the newest schema");
    Ok(())
}

async fn serve(settings: Settings) -> anyhow::Result<()> {
    let clock = Clock::start();
    let mut wishes = Wishes::listen().context("signals cannot be caught")?;
    let public = settings.public()?;
    let metrics = Metrics::new(&settings.state_dir);
    let readiness = Readiness::default();

    let probes = bind(settings.metrics_listen)?;
    tokio::spawn(listen::probes(probes, http::probes(readiness.clone(), metrics.clone())));

    let _held = first_start::serving(&settings.state_dir)?;
    let certificate = first_start::certificate(&settings, &public).await?;
    let store = first_start::store(&settings).await?;
    let keys = Keys::new(master_key::open(&settings, &store).await?);
    let policy = first_start::policy(&settings)?;
    let sinks = sinks::of(&settings)?;
    let setup = first_start::administrator(&store, &settings, &policy).await?;

    let answers = stun::Doors::open(settings.stun_listen);
    let control = Control::new(control_config(&settings, &public, &store, &answers)?, seed()?);
    let signing = Signing::start(&settings.state_dir, store.clone(), keys.clone(), clock, metrics.clone())?;
    let limiters = Limiters::new(&settings.capacities, &metrics);
    let works = Works {
        store: store.clone(),
        keys: keys.clone(),
        signing: signing.clone(),
        clock,
        metrics: metrics.clone(),
        switchboard: Switchboard::new(metrics.relay()),
    };
    let (desk, running) = Desk::start(control, works, limiters.clone());
    first_start::tenant(&desk, &settings).await?;
    let lease = lease::of(&settings, &store, &desk, clock, &metrics).await?;
    readiness.set(store.clone(), desk.clone(), signing.clone(), lease.clone());

    let site = Arc::new(Site::of(&settings, &certificate, clock, &answers)?);
    let under_way = Arc::<RwLock<()>>::default();
    let app = App {
        under_way: Arc::clone(&under_way),
        backups: backup::Backups::new(store.clone(), keys.clone(), desk.clone(), Arc::clone(&site)),
        desk: desk.clone(),
        store: store.clone(),
        metrics: metrics.clone(),
        clock,
        public: Arc::new(public.clone()),
        fingerprint: site.fingerprint,
        proxies: proxies::Proxies::new(settings.trusted_proxy.clone()),
        signing,
        readiness,
        site: Arc::clone(&site),
        keys: keys.clone(),
        policy,
        limiters,
        commands: Arc::default(),
        throttle: Arc::default(),
    };
    let keeping = keep(sinks, &settings, &app, lease);
    let mut doors = open_doors(&settings, certificate, http::router(app), &desk, &metrics).await?;
    for door in answers.doors(&metrics) {
        doors.spawn(door.answer());
    }
    announce(&settings, &site, &metrics, setup);
    service::ready("serving");
    until_told(&mut wishes, running, &mut doors).await?;
    service::stopping();
    doors.abort_all();
    end(&under_way, &desk, keeping, &store).await;
    tracing::info!("stopped");
    Ok(())
}

/// In this order: what was begun is done, and what came of it kept for who asks again; nodes are sent away; the database is let go.
async fn end(under_way: &RwLock<()>, desk: &Desk, mut keeping: JoinSet<()>, store: &Store) {
    // What takes longer is cut off: whoever asks again hears that nobody knows.
    let _ = tokio::time::timeout(UNDER_WAY_TIME_MAX, under_way.write()).await;
    desk.stop().await;
    keeping.shutdown().await;
    store.close().await;
}

/// A server that is told to stop waits so long for requests that are under way: a commit takes milliseconds.
const UNDER_WAY_TIME_MAX: Duration = Duration::from_secs(5);

/// What is done now and then beside serving.
fn keep(sinks: Vec<sinks::Sink>, settings: &Settings, app: &App, lease: lease::Lease) -> JoinSet<()> {
    let (store, desk) = (&app.store, &app.desk);
    let log = sinks::Log { store: store.clone(), desk: desk.clone(), keys: app.keys.clone() };
    let mut keeping = sinks::start(sinks, &log, &lease);
    let retention = settings.retention;
    keeping.spawn(sweeper::prune_daily(store.clone(), app.keys.clone(), lease.clone(), retention));
    keeping.spawn(lapse::forever(desk.clone(), store.clone(), lease.clone()));
    keeping.spawn(courier::forever(desk.clone(), store.clone(), lease.clone(), Arc::clone(&app.commands)));
    keeping.spawn(due::tell(desk.clone(), app.metrics.clone(), settings.ssh_ca_key_life));
    keeping.spawn(audit::chain(store.clone(), app.keys.clone()));
    keeping.spawn(news::hear(store.clone(), desk.clone()));
    keeping.spawn(sweep::forever(desk.clone(), store.clone(), lease));
    keeping
}

/// What whoever watches wants to know of a start.
fn announce(settings: &Settings, site: &Site, metrics: &Metrics, setup: Option<String>) {
    let public = &site.public;
    metrics.certificate_expiry.set(site.certificate_end.unix_micros() / 1_000_000);
    tracing::info!(url = %public, listen = %settings.listen, socket = %settings.socket.display(), fingerprint = %site.fingerprint, "serving");
    if let Some(secret) = setup {
        tracing::info!(url = %format!("{public}/setup?secret={secret}"), "no administrator yet: open the URL, it works once");
    }
}

/// Where people, devices and the hub come in.
async fn open_doors(
    settings: &Settings,
    certificate: Certificate,
    router: Router,
    desk: &Desk,
    metrics: &Metrics,
) -> anyhow::Result<JoinSet<()>> {
    let https = bind(settings.listen)?;
    let quic = link::quic::Listener::bind(settings.listen, &certificate, link::quic::Limits::default())?;
    let users = local::LocalUsers::new(&settings.hub_user, &settings.admin_group);
    let unix = bind_unix(&settings.socket).await?;
    let mut doors = JoinSet::new();
    doors.spawn(listen::quic(quic, desk.clone()));
    doors.spawn(listen::unix(unix, users, desk.clone(), router.clone()));
    let addresses = addresses(settings, metrics);
    doors.spawn(async move {
        if let Err(error) = listen::https(https, &certificate, addresses, router).await {
            tracing::error!(%error, "HTTPS cannot be served");
        }
    });
    Ok(doors)
}

/// How many HTTPS connections each address may have.
fn addresses(settings: &Settings, metrics: &Metrics) -> Addresses {
    let proxies = proxies::Proxies::new(settings.trusted_proxy.clone());
    Addresses::new(proxies, settings.connections_per_address, metrics.https_refused.clone())
}

async fn bind_unix(path: &Path) -> anyhow::Result<UnixListener> {
    let listening = link::unix::listen(path, SOCKET_MODE).await;
    listening.with_context(|| format!("cannot listen on {}", path.display()))
}

fn seed() -> anyhow::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).context("the kernel has no random bytes")?;
    Ok(seed)
}

/// Ends well when the operator says so, and badly when something ends that nobody asked to: the service manager then
/// starts the process anew.
async fn until_told(
    wishes: &mut Wishes,
    mut desk: JoinHandle<()>,
    doors: &mut JoinSet<()>,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            wish = wishes.next() => match wish {
                Wish::Stop => return Ok(()),
                Wish::Reload => tracing::info!(
                    "nothing can be reloaded: restart to change settings; agents keep their tunnels meanwhile"
                ),
            },
            _ = &mut desk => anyhow::bail!("the desk ended by itself"),
            _ = doors.join_next() => anyhow::bail!("a listener ended by itself"),
        }
    }
}

/// Everybody on the machine may knock; the kernel says who it is.
const SOCKET_MODE: u32 = 0o666;

fn bind(address: std::net::SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = link::listening::tcp(address).and_then(TcpListener::from_std);
    listener.with_context(|| format!("cannot listen on tcp {address}"))
}

fn control_config(
    settings: &Settings,
    public: &link::ServerAddress,
    store: &Store,
    answers: &stun::Doors,
) -> anyhow::Result<ControlConfig> {
    let at = |port| Endpoint { host: public.host.clone(), port };
    Ok(ControlConfig {
        software: Remark::new(concat!("warren-apid ", env!("CARGO_PKG_VERSION"))),
        zone_suffix: settings.zone_suffix.clone(),
        hub_endpoint_host: public.host.clone(),
        hub_endpoint: settings.hub_endpoint.clone(),
        relays: settings.relays()?,
        stun: answers.ports().into_iter().map(at).collect(),
        shared: store.engine() == store::Engine::Postgres,
        passes_hints: store.passes_hints(),
        leased: store.engine() == store::Engine::Postgres,
    })
}
