//! A database per test, and rows to put into it.

use control::{
    Actor, AuditEntry, Commit, CommitError, CommitId, Device, DnsEntry, Fact, Hub, Kind, Stay, Tenant,
    TenantRows, Token, Trace,
};
use model::key::TokenSecret;
use model::wire::Remark;
use model::{
    Abilities, AnchorSecret, Block, DeviceId, Generation, IdentitySecret, Label, Name, PublicKey, Standing,
    TenantId, Timestamp, TokenId, Version,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use store::{Sealed, Store};

use crate::postgres;

/// Makes a test on each engine of every function named.
macro_rules! on_both_engines {
    ($($name:ident),* $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::support::Fresh::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::support::Fresh::postgres().await).await;
            })*
        }
    };
}
pub(crate) use on_both_engines;

/// A database that was empty when the test began.
pub(crate) struct Fresh {
    pub(crate) url: String,
    /// Past what pools connections, if anything does.
    pub(crate) raw_url: String,
    pub(crate) directory: Option<tempfile::TempDir>,
}

impl Fresh {
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite:{}/warren.db", directory.path().display());
        Self { raw_url: url.clone(), url, directory: Some(directory) }
    }

    pub(crate) async fn postgres() -> Self {
        let url = postgres::fresh_database().await;
        Self { raw_url: url.clone(), url, directory: None }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.url).await.expect("a store")
    }

    /// A connection past the store.
    pub(crate) async fn raw(&self) -> Raw {
        if self.directory.is_some() {
            Raw::Sqlite(Box::new(SqliteConnection::connect(&self.raw_url).await.expect("the file")))
        } else {
            Raw::Postgres(Box::new(PgConnection::connect(&self.raw_url).await.expect("the cluster")))
        }
    }
}

pub(crate) enum Raw {
    Sqlite(Box<SqliteConnection>),
    Postgres(Box<PgConnection>),
}

impl Raw {
    pub(crate) async fn run(&mut self, sql: &str) {
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let done = match self {
            Self::Sqlite(connection) => query.execute(&mut **connection).await.map(drop),
            Self::Postgres(connection) => query.execute(&mut **connection).await.map(drop),
        };
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn count(&mut self, sql: &'static str) -> i64 {
        match self {
            Self::Sqlite(connection) => sqlx::query_scalar(sql).fetch_one(&mut **connection).await,
            Self::Postgres(connection) => sqlx::query_scalar(sql).fetch_one(&mut **connection).await,
        }
        .expect("a count")
    }
}

pub(crate) const SEALED: &[u8] = b"sealed \0 anchor";

/// What is sealed of a new tenant.
pub(crate) fn sealed() -> Sealed {
    Sealed { anchor: Some(SEALED.to_vec()), keys: Vec::new() }
}

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_790_000_000_000_000 + seconds * 1_000_000 + 7)
}

pub(crate) fn label(text: &str) -> Label {
    text.parse().expect("a label")
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().expect("a name")
}

pub(crate) fn tenant_id(n: u8) -> TenantId {
    TenantId::from_bytes([n; 16])
}

pub(crate) fn device_id(n: u8) -> DeviceId {
    DeviceId::from_bytes([n; 16])
}

/// Tenant `n` has the block 100.(64 + n).0.0/16.
pub(crate) fn tenant(n: u8) -> Tenant {
    let net = format!("100.{}.0.0/16", 64 + n).parse().expect("a net");
    Tenant {
        id: tenant_id(n),
        name: label(&format!("tenant{n}")),
        suffix: name("internal"),
        block: Block::new(net, tenant_id(n)).expect("a block"),
        anchor: AnchorSecret::from_seed([n; 32]).public(),
        created_at: at(0),
        quota: None,
        hub_port: None,
        closing: None,
        deleted_at: None,
    }
}

pub(crate) fn device(n: u8) -> Device {
    Device {
        id: device_id(n),
        name: label(&format!("device{n}")),
        kind: Kind::Agent {
            identity: IdentitySecret::from_seed([n; 32]).public(),
            token: TokenId::from_bytes([9; 16]),
        },
        wireguard: PublicKey::from_bytes([n; 32]),
        number: u32::from(n) + 2,
        standing: Standing::Active,
        tags: [label("web"), label("a")].into(),
        labels: [(label("env"), label("prod"))].into(),
        expires_at: None,
        idle_max: None,
        os: Remark::new("Debian 12 \u{2713} \"x'"),
        abilities: Abilities::PATHS,
        enrolled_at: at(10),
        approved_at: Some(at(11)),
        revoked_at: None,
    }
}

pub(crate) fn token(n: u8, uses_max: u32) -> Token {
    Token {
        id: TokenId::from_bytes([n; 16]),
        key: TokenSecret::from_seed([n; 32]).public(),
        created_at: at(1),
        created_by: Actor::User(Remark::new("alice")),
        expires_at: at(1_000),
        uses_max,
        uses: 0,
        needs_approval: true,
        tags: [label("new")].into(),
        stay: Stay::default(),
        revoked_at: None,
    }
}

pub(crate) fn hub() -> Hub {
    Hub {
        key: PublicKey::from_bytes([200; 32]),
        serial: 1,
        endpoint: "vpn.example.org:51820".parse().expect("an endpoint"),
        next: None,
        retiring: None,
    }
}

pub(crate) fn record(owner: &str, kind: &str, value: &str) -> DnsEntry {
    let data = model::RecordData::parse(kind, value).expect("a record");
    DnsEntry { name: name(owner), data, ttl: 30 }
}

pub(crate) fn entry(action: &str, tenant: Option<TenantId>) -> AuditEntry {
    AuditEntry {
        at: at(100),
        tenant,
        actor: Actor::User(Remark::new("alice")),
        action: action.into(),
        target: "it".into(),
        refused: None,
        detail: "for a test".into(),
        trace: Trace::default(),
    }
}

pub(crate) fn commit(tenant: TenantId, expect: Version, facts: Vec<Fact>) -> Commit {
    Commit {
        id: CommitId(1),
        tenant,
        expect,
        facts,
        term: None,
        redeems: None,
        devices_count: 0,
        audit: entry("test.commit", Some(tenant)),
        new_anchor: None,
        new_keys: Vec::new(),
    }
}

/// Makes tenant `n` and returns its version.
pub(crate) async fn make_tenant(store: &Store, n: u8) -> Version {
    let epoch = store.load().await.expect("loads").epoch;
    let expect = Version { epoch, generation: Generation(0) };
    let commit = commit(tenant_id(n), expect, vec![Fact::Tenant(tenant(n))]);
    store.commit(&commit, &sealed()).await.expect("a new tenant");
    commit.result()
}

/// Commits facts at a version and returns the next one.
pub(crate) async fn put(
    store: &Store,
    tenant: TenantId,
    expect: Version,
    facts: Vec<Fact>,
) -> Result<Version, CommitError> {
    let commit = commit(tenant, expect, facts);
    store.commit(&commit, &Sealed::default()).await.map(|()| commit.result())
}

/// All rows of tenant `n`.
pub(crate) async fn rows_of(store: &Store, n: u8) -> TenantRows {
    let loaded = store.load().await.expect("loads");
    loaded.tenants.into_iter().find(|rows| rows.tenant.id == tenant_id(n)).expect("the tenant")
}

/// How many audit entries there are.
pub(crate) async fn audit_count(store: &Store) -> usize {
    store.audit_list(None, None, 1_000).await.expect("a page").rows.len()
}
