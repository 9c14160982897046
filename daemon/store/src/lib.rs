//! The database: SQLite or PostgreSQL, one store over both. Knows no link, no HTTP and no kernel, and decides nothing.
//!
//! ```text
//! reach ─▶ Opened ─ migrate ─▶ Store ─┬ load, refresh, standings, commit      directory.rs
//!                                     ├ append_audit, audit_list              audit.rs
//!                                     ├ chain_audit, verify_audit             audit_chain.rs, audit_links.rs
//!                                     ├ prune_audit                           audit_retention.rs
//!                                     ├ reserve_serials, record_certificate   certificates.rs
//!                                     ├ save_presence, presence               presence.rs
//!                                     ├ queue_command, waiting_commands       commands.rs
//!                                     ├ hold_lease, begin_term                lease.rs
//!                                     ├ tell_others, news                     news.rs
//!                                     ├ users, setup, settings                people.rs
//!                                     ├ sessions, api_tokens, second_factor   each its own file
//!        └ refill (from a backup)     └ dump (for a backup)                   dump.rs, refill.rs, portable.rs
//! ```

mod api_tokens;
mod audit;
mod audit_chain;
mod audit_head;
mod audit_links;
mod audit_retention;
mod authorities;
mod certificates;
mod commands;
mod database;
mod dialect;
mod directory;
mod dump;
mod encoded;
mod error;
mod fields;
mod installed;
mod keyed;
mod labels;
mod lease;
mod migrate;
mod news;
mod people;
mod pooler;
mod portable;
mod presence;
mod refill;
mod rehearsal;
mod restore;
mod rows;
mod second_factor;
mod sessions;
mod sql;
mod ssh_rows;
mod store;

pub use api_tokens::ApiToken;
pub use audit::{AUDIT_PAGE_MAX, AuditCursor, AuditPage, AuditRow, BadCursor};
pub use audit_chain::AuditVerdict;
pub use audit_head::{AuditEnds, AuditSeal, ChainError};
pub use audit_retention::AuditRetention;
pub use authorities::{Sealed, SealedBack};
pub use certificates::{CERTIFICATES_MAX, CertificateRow, CertificatesOf, RecordError};
pub use commands::{COMMANDS_WAITING_MAX, CommandRow, CommandState, QueueError, WaitingDevice};
pub use database::{CONNECTIONS_DEFAULT, PoolFigures};
pub use directory::GENERATIONS_KEPT;
pub use dump::{Dump, DumpOf, Page};
pub use error::{Corrupt, DatabaseError, Kind, OpenError, ReadError, RefillError, RehearsalError};
pub use keyed::{KEYED_REQUESTS_MAX, Keyed, KeyedRequest};
pub use lease::{Claim, Holding};
pub use model::Role;
pub use news::{News, Word};
pub use people::{PeopleError, User};
pub use refill::Refill;
pub use restore::After;
pub use second_factor::SecondFactor;
pub use sessions::Session;
pub use sql::Engine;
pub use store::{Opened, Store};
