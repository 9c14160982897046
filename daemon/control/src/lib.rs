//! What the server decides: directories, edits, plans, the publisher and the server's side of every link. Sans-IO;
//! knows no database, socket, clock or random source, and never what a node does with a snapshot.

pub mod rows;

pub use rows::{
    Actor, AuditEntry, Commit, CommitError, CommitId, Device, DnsEntry, Fact, Hub, Loaded, PresenceRow,
    Refresh, Since, Standings, Tenant, TenantRows, Token,
};
