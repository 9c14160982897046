//! The store on SQLite and on PostgreSQL: every test runs on both, each time on a database of its own.

mod audit;
mod authorities;
mod certificates;
mod commands;
mod directory;
mod dumps;
mod hosts;
mod keyed;
mod lease;
mod people;
mod pooled;
mod postgres;
mod presence;
mod races;
mod rows;
mod schema;
mod schemas;
mod support;
