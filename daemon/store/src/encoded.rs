//! A fact as columns of a table, and the statement that writes it. Knows no table and no fact.

use model::TenantId;

use crate::fields::Columns;
use crate::sql::Value;

/// What a fact does to its table.
pub(crate) enum Write {
    /// The row is this.
    Set,
    /// There is no such row.
    Remove,
}

/// A fact, ready to be written.
pub(crate) struct Encoded {
    pub(crate) table: &'static Table,
    /// Names the fact in the change log.
    pub(crate) kind: &'static str,
    pub(crate) write: Write,
    pub(crate) columns: Columns,
}

/// How one table is written.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) key: &'static [&'static str],
    /// The column of the tenant's id, bound before all others; `None` where the row is the tenant's own.
    pub(crate) tenant: Option<&'static str>,
    /// Set when the row is made, and by its own statement afterwards.
    pub(crate) frozen: &'static [&'static str],
}

/// A counter as the databases store it.
pub(crate) fn signed(counter: u64) -> i64 {
    i64::try_from(counter).expect("a counter of edits stays below 2^63")
}

/// The statement that writes a fact, and its arguments. Every part of its text is a constant of this file.
pub(crate) fn statement(fact: Encoded, tenant: TenantId) -> (String, Vec<Value>) {
    let Table { name: table, key, tenant: tenant_column, frozen } = *fact.table;
    let mut columns = fact.columns;
    if let Some(column) = tenant_column {
        columns.insert(0, (column, tenant.to_string().into()));
    }
    let (names, arguments): (Vec<&str>, Vec<Value>) = columns.into_iter().unzip();
    let text = match fact.write {
        Write::Remove => {
            let conditions: Vec<String> =
                (1..).zip(&names).map(|(n, name)| format!("{name} = ${n}")).collect();
            format!("DELETE FROM {table} WHERE {}", conditions.join(" AND "))
        }
        Write::Set => {
            let places: Vec<String> = (1..=names.len()).map(|n| format!("${n}")).collect();
            let free = names.iter().filter(|name| !key.contains(name) && !frozen.contains(name));
            let sets: Vec<String> = free.map(|name| format!("{name} = excluded.{name}")).collect();
            let same_tenant = tenant_column
                .map_or(String::new(), |column| format!(" WHERE {table}.{column} = excluded.{column}"));
            format!(
                "INSERT INTO {table} ({}) VALUES ({}) ON CONFLICT ({}) DO UPDATE SET {}{same_tenant}",
                names.join(", "),
                places.join(", "),
                key.join(", "),
                sets.join(", "),
            )
        }
    };
    (text, arguments)
}
