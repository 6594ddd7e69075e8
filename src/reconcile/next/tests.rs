//! Every rule with its reasons; then whole passes over an API server and a registry in memory, with every fault at every call.

#![expect(clippy::needless_pass_by_value, reason = "`json!(…)` reads better without an ampersand")]

pub(crate) mod given;
mod listing;
mod neighbours;
mod providers;
mod rules;
mod stories;
mod world;
