//! The database: SQLite or PostgreSQL, one store over both. Knows no link, no HTTP and no kernel, and decides nothing.
//!
//! ```text
//! reach ─▶ Opened ─ migrate ─▶ Store ─┬ load, refresh, standings, commit      directory.rs
//!                                     ├ append_audit, audit_list, prune_audit audit.rs
//!                                     ├ reserve_serials, record_certificate   certificates.rs
//!                                     ├ save_presence, presence               presence.rs
//!                                     ├ hold_lease, begin_term                lease.rs
//!                                     ├ tell_others, news                     news.rs
//!                                     └ users, sessions, API tokens, setup    people.rs
//! ```

mod audit;
mod authorities;
mod certificates;
mod database;
mod dialect;
mod directory;
mod encoded;
mod error;
mod fields;
mod lease;
mod migrate;
mod news;
mod people;
mod presence;
mod rehearsal;
mod restore;
mod rows;
mod sql;
mod ssh_rows;
mod store;

pub use audit::{AUDIT_PAGE_MAX, AuditCursor, AuditPage, BadCursor};
pub use authorities::Sealed;
pub use certificates::{CERTIFICATES_MAX, CertificateRow, CertificatesOf, RecordError};
pub use database::{CONNECTIONS_DEFAULT, PoolFigures};
pub use directory::GENERATIONS_KEPT;
pub use error::{Corrupt, DatabaseError, Kind, OpenError, ReadError, RehearsalError};
pub use lease::{Claim, Holding};
pub use news::News;
pub use people::{ApiToken, BadRole, PeopleError, Role, Session, User};
pub use sql::Engine;
pub use store::{Opened, Store};
