//! The store behind pgbouncer, in each of its modes: what the suite says of PostgreSQL holds there, too.

use std::future::Future;
use std::str::FromStr as _;
use std::time::Duration;

use control::{PassedHint, Sighting};
use model::limits::HINT_BYTES_MAX;
use model::{DeviceId, TenantId};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _};
use store::{Kind, News, OpenError, Store, Word};

use crate::postgres::Cluster;
use crate::support::{Fresh, make_tenant};
use crate::{audit, certificates, dumps, lease, people, presence, races, rows, schema};

struct Pooled {
    cluster: Cluster,
    pooler: Cluster,
    databases: u32,
}

impl Pooled {
    fn start(mode: &str) -> Self {
        let cluster = Cluster::start(&[]);
        let pooler = cluster.pooler(mode, "6432");
        Self { cluster, pooler, databases: 0 }
    }

    async fn fresh(&mut self) -> Fresh {
        self.databases += 1;
        let name = format!("t{}", self.databases);
        let raw_url = self.cluster.database(&name).await;
        let url = self.pooler.url.replace("/postgres?", &format!("/{name}?"));
        Fresh { url, raw_url, directory: None }
    }

    async fn holds<F: Future>(&mut self, story: impl FnOnce(Fresh) -> F) {
        story(self.fresh().await).await;
    }

    /// What leans most on sessions, transactions and locks.
    async fn everything_holds(&mut self) {
        self.holds(schema::an_empty_database_is_migrated_once).await;
        self.holds(schema::two_replicas_migrate_at_once).await;
        self.holds(schema::a_rehearsal_leaves_nothing).await;
        self.holds(schema::pools_count_their_connections).await;
        self.holds(rows::every_row_survives_the_round_trip).await;
        self.holds(races::of_two_replicas_one_commits).await;
        self.holds(races::of_twenty_devices_one_redeems).await;
        self.holds(races::a_commit_dropped_anywhere_is_whole_or_nothing).await;
        self.holds(races::overlapping_blocks_are_founded_once).await;
        self.holds(races::a_short_lock_is_waited_for_and_a_long_one_is_named).await;
        self.holds(lease::one_holds_it_until_it_ends).await;
        self.holds(lease::of_many_that_claim_at_once_one_holds_it).await;
        self.holds(lease::what_a_former_holder_commits_is_refused).await;
        self.holds(presence::many_devices_are_saved_at_once).await;
        self.holds(certificates::serials_are_never_given_twice).await;
        self.holds(audit::two_replicas_chain_each_entry_once).await;
        self.holds(people::sessions_end).await;
        self.holds(dumps::a_dump_is_of_one_moment).await;
    }
}

/// A store that writes is heard by another within this time.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

async fn hears(listening: &Store, writing: &Store) {
    let mut news = listening.news().await.expect("the database answers").expect("there may be others");
    writing.tell_others().await.expect("told");
    assert_eq!(next_of(&mut news).await, Word::Wrote);
    let [from, to] = [1, 2].map(|n| DeviceId::from_bytes([n; 16]));
    let hint =
        PassedHint { tenant: TenantId::from_bytes([3; 16]), from, to, sealed: vec![4; HINT_BYTES_MAX] };
    writing.pass(&hint).await.expect("told, or nobody is told");
    let sighting = Sighting { device: to, at: model::Timestamp::from_unix_micros(7) };
    writing.tell_sighting(&sighting).await.expect("told, or nobody is told");
    writing.tell_others().await.expect("told");
    if writing.passes_hints() {
        assert_eq!(next_of(&mut news).await, Word::Hint(hint));
        assert_eq!(next_of(&mut news).await, Word::Sighting(sighting));
    }
    assert_eq!(next_of(&mut news).await, Word::Wrote, "nothing came between");
}

async fn next_of(news: &mut News) -> Word {
    let heard = tokio::time::timeout(HEARD_WITHIN, news.next()).await.expect("it is heard");
    heard.expect("the connection holds")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_their_own_do_everything() {
    let mut pooled = Pooled::start("session");
    pooled.everything_holds().await;
    let fresh = pooled.fresh().await;
    let (one, other) = (fresh.open().await, fresh.open().await);
    assert!(!one.shares_sessions() && !other.shares_sessions() && one.passes_hints());
    hears(&one, &other).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_sessions_do_everything_but_listen() {
    let mut pooled = Pooled::start("transaction");
    pooled.everything_holds().await;
    let fresh = pooled.fresh().await;
    let (one, other) = (fresh.open().await, fresh.open().await);
    assert!(one.shares_sessions() && other.shares_sessions() && !one.passes_hints());
    assert!(one.news().await.expect("the database answers").is_none(), "nobody is heard there");
    make_tenant(&one, 1).await;
    one.tell_others().await.expect("told all the same: others may be elsewhere");
    // Whoever comes past the pooler hears that others wrote. Hints take none of the sessions: mostly nobody would hear them.
    let direct = Store::open(&fresh.raw_url).await.expect("a store");
    assert!(!direct.shares_sessions());
    hears(&direct, &one).await;
    // The sessions are as they were lent: no statement is kept in them, no limit stays.
    let options = PgConnectOptions::from_str(&fresh.url).expect("a URL").extra_float_digits(None);
    let mut lent = options.connect().await.expect("the pooler answers");
    for bad in
        ["(SELECT count(*) FROM pg_prepared_statements) > 0", "current_setting('statement_timeout') <> '0'"]
    {
        let look = format!("DO $$ BEGIN IF {bad} THEN RAISE 'it stays'; END IF; END $$");
        sqlx::raw_sql(AssertSqlSafe(look)).execute(&mut lent).await.expect(bad);
    }
}

#[tokio::test]
async fn a_pooler_that_knows_no_transaction_is_named() {
    let mut pooled = Pooled::start("statement");
    let error = Store::open(&pooled.fresh().await.url).await.expect_err("nothing can be done at once");
    assert!(matches!(&error, OpenError::Database(e) if e.kind == Kind::Unreachable), "{error:?}");
    let OpenError::Database(error) = error else { return };
    assert!(error.chain().contains("statement pooling mode"), "{}", error.chain());
}
