//! Throwaway PostgreSQL clusters, one for all tests of this run. They go when this process does, however that ends.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

/// A cluster that serves until this is dropped or its process ends.
pub(crate) struct Cluster {
    pub(crate) url: String,
    script: Child,
}

impl Cluster {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::run("postgres", arguments)
    }

    /// pgbouncer before it, on a port of its own.
    pub(crate) fn pooler(&self, mode: &str, port: &str) -> Self {
        Self::run("pgbouncer", &[self.directory(), "5432", port, mode])
    }

    fn directory(&self) -> &str {
        self.url.split_once("?host=").expect("its directory").1
    }

    fn run(script: &str, arguments: &[&str]) -> Self {
        let path = format!("{}/../../scripts/lib/{script}", env!("CARGO_MANIFEST_DIR"));
        let mut script = Command::new(path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the scripts of scripts/lib run");
        let mut url = String::new();
        let stdout = script.stdout.take().expect("it was piped");
        BufReader::new(stdout).read_line(&mut url).expect("its output is text");
        assert!(url.starts_with("postgres://"), "no PostgreSQL; what to install stands above");
        Self { url: url.trim().into(), script }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        // Its standard input is closed: it stops, and whether it did so well is no longer our matter.
        self.script.wait().ok();
    }
}

/// The URL of a fresh, empty database.
pub(crate) async fn fresh_database() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| Cluster::start(&[]));
    cluster.database(&name).await
}

impl Cluster {
    /// Makes an empty database and gives its URL.
    pub(crate) async fn database(&self, name: &str) -> String {
        let mut connection = PgConnection::connect(&self.url).await.expect("the cluster answers");
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .expect("the name is fresh");
        self.url.replace("/postgres?", &format!("/{name}?"))
    }
}
