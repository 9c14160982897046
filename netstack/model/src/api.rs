//! Forms of the HTTP API and of the agent's local socket: what people and scripts read and write as JSON.
//!
//! The same types serve the server, the agent and the CLI, so that a field exists once. A field is added, never
//! renamed; a reader ignores what it does not know.

pub mod admin;
pub mod audit;
pub mod backup;
pub mod commands;
pub mod local;
pub mod people;
pub mod problem;
pub mod ssh;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use problem::Problem;

/// Raised when a form changes in a way that a reader must know of.
pub const SCHEMA_VERSION: u32 = 1;

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// In the order of the list.
    pub items: Vec<T>,
    /// Give it as `cursor` for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// A list that is one page.
    pub const fn whole(items: Vec<T>) -> Self {
        Self { schema_version: SCHEMA_VERSION, items, next: None }
    }
}
