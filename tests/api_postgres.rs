//! The HTTP API again, the same tests on PostgreSQL.

#[path = "api.rs"]
mod api;
