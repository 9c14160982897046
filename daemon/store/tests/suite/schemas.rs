//! Databases of every schema that there was, as text in `schemas/`: each is upgraded with its rows, and what the programs of before
//! write and ask goes on beside the newest schema, as far as it says that it lets them.
//!
//! ```text
//! schemas/0012.sql         schema 12 as its migrations made it, and rows as its program wrote them
//! schemas/0012.statements  what its program says to the database, one statement a line
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use model::Standing;
use store::Store;

use crate::schema::NEWEST;
use crate::support::{Fresh, Raw, on_both_engines};

on_both_engines! {
    a_database_of_every_schema_is_upgraded_with_its_rows,
    programs_of_before_go_on_beside_the_newest_schema,
}

/// What divides a dump.
const ROWS: &str = "\n-- Rows.\n";
/// Set: the statements of the newest schema are written anew.
const KEEP: &str = "WARREN_KEEP_STATEMENTS";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/schemas")
}

fn dump(version: u32) -> String {
    std::fs::read_to_string(folder().join(format!("{version:04}.sql"))).unwrap_or_else(|error| {
        panic!(
            "the database of schema {version} is not kept ({error}): copy the dump before it, append the migration's text and \
             its row of `migrations`, and a row for each table and column that is new"
        )
    })
}

fn statements(version: u32) -> Vec<String> {
    let text = std::fs::read_to_string(folder().join(format!("{version:04}.statements")));
    let text = text.unwrap_or_else(|error| {
        panic!("what the program of schema {version} asks is not kept ({error}): {KEEP}=1 with that program's tests writes it")
    });
    text.lines().map(str::to_owned).collect()
}

/// The inserted rows of a dump.
fn inserts(dump: &str) -> Vec<&str> {
    let (_, rows) = dump.split_once(ROWS).expect("rows follow the schema");
    rows.split_terminator(";\n").collect()
}

/// A dump as an engine reads it. As the migrations, it has the types of PostgreSQL; bytes are as SQLite has them.
fn of_engine(text: &str, fresh: &Fresh) -> String {
    if fresh.directory.is_some() {
        let types = text.replace("BIGINT", "INTEGER").replace("BOOLEAN", "INTEGER").replace("BYTEA", "BLOB");
        types.replace("/* STRICT */", "STRICT")
    } else {
        text.replace(" X'", " '\\x").replace("(X'", "('\\x")
    }
}

async fn another(fresh: &Fresh) -> Fresh {
    if fresh.directory.is_some() { Fresh::sqlite() } else { Fresh::postgres().await }
}

/// A dump as a database. Gives the text as its engine read it.
async fn fill(fresh: &Fresh, version: u32) -> String {
    if let Some(directory) = &fresh.directory {
        std::fs::File::create_new(directory.path().join("warren.db")).expect("a file");
    }
    let text = of_engine(&dump(version), fresh);
    fresh.raw().await.run(&text).await;
    text
}

/// A row as the condition that it is there.
fn there(insert: &str) -> String {
    let (head, values) = insert.split_once(" VALUES (").expect("values");
    let (table, columns) =
        head.strip_prefix("INSERT INTO ").and_then(|h| h.split_once(" (")).expect("columns");
    let columns = columns.trim_end_matches(')').split(", ");
    let values = split(values.strip_suffix(')').expect("one row"));
    let same = columns.zip(values).map(|(column, value)| format!("{column} IS NOT DISTINCT FROM {value}"));
    format!("SELECT COUNT(*) FROM {table} WHERE {}", same.collect::<Vec<_>>().join(" AND "))
}

/// Values between commas that are in no text.
fn split(values: &str) -> Vec<&str> {
    let (mut found, mut begin, mut quoted) = (Vec::new(), 0, false);
    for (at, byte) in values.bytes().enumerate() {
        match byte {
            b'\'' => quoted = !quoted,
            b',' if !quoted => {
                found.push(values[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    found.push(values[begin..].trim());
    found
}

async fn a_database_of_every_schema_is_upgraded_with_its_rows(fresh: Fresh) {
    for version in 1..=NEWEST {
        let fresh = another(&fresh).await;
        let text = fill(&fresh, version).await;
        let store = Store::open(&fresh.url).await.unwrap_or_else(|e| panic!("schema {version}: {e:?}"));
        let mut raw = fresh.raw().await;
        for insert in inserts(&text) {
            let sql = there(insert);
            assert_eq!(raw.count_of(&sql).await, 1, "schema {version}: {sql}");
        }
        reads(&store, version).await;
        store.close().await;
    }
}

/// A program of now understands the rows.
async fn reads(store: &Store, version: u32) {
    let loaded = store.load().await.unwrap_or_else(|e| panic!("schema {version}: {e:?}"));
    let [home, lab] = &loaded.tenants[..] else { panic!("schema {version}: two tenants") };
    assert!(home.tenant.deleted_at.is_none() && lab.tenant.deleted_at.is_some());
    let names: Vec<_> = home.devices.iter().map(|device| device.name.as_str()).collect();
    let plain = if version >= 9 { vec!["phone"] } else { vec![] };
    assert_eq!(names, [vec!["laptop", "desk", "laptop"], plain].concat(), "schema {version}");
    let standings: Vec<_> = home.devices.iter().take(3).map(|device| device.standing).collect();
    let second = if version >= 10 { Standing::Expired } else { Standing::Pending };
    assert_eq!(standings, [Standing::Active, second, Standing::Revoked], "schema {version}");
    assert_eq!(
        (home.tokens.len(), home.records.len(), home.ssh.keys.len()),
        (2, 3, if version >= 3 { 2 } else { 0 })
    );
    assert_eq!(home.hub.as_ref().map(|hub| hub.serial), Some(3));
    assert_eq!(home.ssh.roles.len(), if version >= 8 { 2 } else { 0 }, "schema {version}");
    assert_eq!(loaded.presence.len(), 1);
    assert_eq!(store.users().await.expect("people").len(), if version >= 2 { 2 } else { 0 });
    assert_eq!(store.audit_list(None, None, 10).await.expect("a page").rows.len(), 2);
    let commands = store.device_commands(home.devices[0].id).await.expect("commands");
    assert_eq!(commands.len(), if version >= 11 { 2 } else { 0 });
}

async fn programs_of_before_go_on_beside_the_newest_schema(fresh: Fresh) {
    fresh.open().await.close().await;
    let needs = fresh.raw().await.count("SELECT MAX(needs) FROM migrations").await;
    let needs = u32::try_from(needs).expect("a version");
    assert!(
        needs < NEWEST,
        "no program of before may run: then there is nothing to see here, and a dump of before is enough"
    );
    for version in needs..=NEWEST {
        let fresh = another(&fresh).await;
        fresh.open().await.close().await;
        let mut raw = fresh.raw().await;
        let text = of_engine(&dump(version), &fresh);
        for insert in inserts(&text) {
            // What it does not name has to have a value that nobody minds.
            raw.run(insert).await;
        }
        for statement in statements(version) {
            raw.understands(version, &statement).await;
        }
    }
}

#[test]
fn what_was_released_is_as_it_was() {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/migrations");
    let mut files: Vec<_> =
        std::fs::read_dir(migrations).expect("migrations").map(|file| file.expect("one").path()).collect();
    files.sort();
    for version in 1..=NEWEST {
        let dump = dump(version);
        for file in &files[..version as usize] {
            let text = std::fs::read_to_string(file).expect("a migration");
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("--"));
            let text = lines.collect::<Vec<_>>().join("\n");
            assert!(dump.contains(text.trim()), "schema {version} was made by another {}", file.display());
        }
        let (schema, rows) = dump.split_once(ROWS).expect("rows");
        let tables = schema.split("CREATE TABLE ").skip(1).filter_map(|text| text.split_whitespace().next());
        for table in tables {
            let row = format!("INSERT INTO {table} (");
            assert!(rows.contains(&row) || schema.contains(&row), "schema {version} has no row of {table}");
        }
    }
}

/// A column as SQLite tells of it: its type, and whether a row may leave it out.
type Columns = BTreeMap<(String, String), (String, bool)>;

#[tokio::test]
async fn a_step_that_lets_programs_of_before_go_on_takes_nothing_away() {
    let mut before: Option<(Columns, BTreeSet<String>)> = None;
    for version in 1..=NEWEST {
        let fresh = Fresh::sqlite();
        fill(&fresh, version).await;
        let mut raw = fresh.raw().await;
        let needs = raw.count_of(&format!("SELECT needs FROM migrations WHERE version = {version}")).await;
        let now = (raw.columns().await, raw.unique().await);
        if let Some((columns, unique)) = before.filter(|_| needs < i64::from(version)) {
            let tables: BTreeSet<&String> = columns.keys().map(|(table, _)| table).collect();
            for (key, (kind, _)) in &columns {
                assert_eq!(now.0.get(key).map(|(kind, _)| kind), Some(kind), "schema {version}: {key:?}");
            }
            for (key, (_, left_out)) in now.0.iter().filter(|(key, _)| !columns.contains_key(*key)) {
                assert!(*left_out || !tables.contains(&key.0), "schema {version}: {key:?} has no default");
            }
            // An index over new columns alone minds no row of before: they have none there.
            let of_before = |index: &&String| {
                let mut words = index.split(' ');
                let table = words.next().unwrap_or_default();
                tables.contains(&table.to_owned())
                    && words.all(|column| columns.contains_key(&(table.to_owned(), column.to_owned())))
            };
            let new: Vec<_> = now.1.difference(&unique).filter(of_before).collect();
            assert!(new.is_empty(), "schema {version}: unique from now on: {new:?}");
        }
        before = Some(now);
    }
}

#[test]
fn what_the_program_of_the_newest_schema_asks_is_kept() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files = std::fs::read_dir(sources).expect("sources").map(|file| file.expect("one").path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let found: BTreeSet<String> =
        files.flat_map(|path| said(&std::fs::read_to_string(path).expect("a source"))).collect();
    let text: String = found.iter().map(|statement| format!("{statement}\n")).collect();
    let path = folder().join(format!("{NEWEST:04}.statements"));
    if std::env::var_os(KEEP).is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{} is not what this program asks: {KEEP}=1 cargo nextest run -p store -E 'test(is_kept)'",
        path.display()
    );
}

/// The statements in a source: its texts that begin as one, but for those that are put together.
fn said(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).map(|l| format!("{l}\n")).collect();
    let (mut found, mut rest) = (Vec::new(), code.as_str());
    while let Some(begin) = rest.find('"') {
        let engine = ["sqlite: ", "postgres: "].into_iter().find(|engine| rest[..begin].ends_with(engine));
        let (mut text, mut end, mut escaped) = (String::new(), begin + 1, false);
        for c in rest[begin + 1..].chars() {
            end += c.len_utf8();
            match (escaped, c) {
                (false, '"') => break,
                (false, '\\') => escaped = true,
                (false, c) => text.push(c),
                (true, '\n') => {
                    text.push('\n');
                    escaped = false;
                }
                (true, c) => {
                    text.push(c);
                    escaped = false;
                }
            }
        }
        rest = &rest[end..];
        // A line that goes on in the next one begins there with its first word.
        let text: String = text
            .split('\n')
            .enumerate()
            .map(|(n, line)| if n == 0 { line } else { line.trim_start() })
            .collect();
        let begins =
            ["SELECT ", "INSERT INTO ", "UPDATE ", "DELETE FROM "].iter().any(|word| text.starts_with(word));
        if begins && !text.contains('{') {
            found.push(format!("{}{text}", engine.unwrap_or_default()));
        }
    }
    found
}

impl Raw {
    /// A count by a statement that was put together.
    async fn count_of(&mut self, sql: &str) -> i64 {
        let query = sqlx::AssertSqlSafe(sql.to_owned());
        let done = match self {
            Self::Sqlite(connection) => sqlx::query_scalar(query).fetch_one(&mut **connection).await,
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_one(&mut **connection).await,
        };
        done.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// Every column of every table, as SQLite tells of it.
    async fn columns(&mut self) -> Columns {
        let sql = "SELECT t.name, c.name, c.type, c.\"notnull\" = 0 OR c.dflt_value IS NOT NULL \
                   FROM pragma_table_list AS t JOIN pragma_table_info(t.name) AS c \
                   WHERE t.schema = 'main' AND t.type = 'table' AND t.name NOT LIKE 'sqlite_%'";
        let Self::Sqlite(connection) = self else { panic!("SQLite") };
        let rows: Vec<(String, String, String, bool)> =
            sqlx::query_as(sql).fetch_all(&mut **connection).await.expect("columns");
        rows.into_iter().map(|(table, column, kind, left_out)| ((table, column), (kind, left_out))).collect()
    }

    /// The table and the columns of every unique index.
    async fn unique(&mut self) -> BTreeSet<String> {
        let sql = "SELECT t.name || ' ' || (SELECT group_concat(name, ' ') FROM pragma_index_info(i.name)) \
                   FROM pragma_table_list AS t JOIN pragma_index_list(t.name) AS i \
                   WHERE t.schema = 'main' AND t.type = 'table' AND i.\"unique\" = 1";
        let Self::Sqlite(connection) = self else { panic!("SQLite") };
        let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut **connection).await.expect("indices");
        rows.into_iter().collect()
    }

    /// Whether the engine would do a statement that a program of some schema says to it.
    async fn understands(&mut self, version: u32, statement: &str) {
        let (engine, prepare) = match self {
            Self::Sqlite(_) => ("sqlite: ", "EXPLAIN"),
            Self::Postgres(_) => ("postgres: ", "PREPARE asked AS"),
        };
        let of_one = ["sqlite: ", "postgres: "].into_iter().find(|engine| statement.starts_with(engine));
        let of_postgres = statement.contains("pg_") && engine == "sqlite: ";
        if of_postgres || of_one.is_some_and(|of| of != engine) {
            return;
        }
        let statement = statement.strip_prefix(engine).unwrap_or(statement);
        let query = sqlx::raw_sql(sqlx::AssertSqlSafe(format!("{prepare} {statement}")));
        let done = match self {
            Self::Sqlite(connection) => query.execute(&mut **connection).await.map(drop),
            Self::Postgres(connection) => query.execute(&mut **connection).await.map(drop),
        };
        match done {
            Ok(()) if engine == "postgres: " => self.run("DEALLOCATE asked").await,
            Ok(()) => {}
            // The program says of which type its arguments are, this text does not; all else was looked at before.
            Err(sqlx::Error::Database(error))
                if error.code().is_some_and(|code| ["42P08", "42P18"].contains(&&*code)) => {}
            Err(error) => panic!("what schema {version} asks: {statement}: {error}"),
        }
    }
}
