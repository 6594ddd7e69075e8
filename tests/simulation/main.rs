//! The simulator: the real operator, its controller's queue and its drivers included, against an API server and registries in
//! memory, under a clock that stands still until nobody has anything to do.
//!
//! Every story is run at every class of registry: undisturbed, with every single fault at every call and every event, with pairs of
//! faults, and with walks of many. `--help` says how to ask for less, or for more.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test may fail loudly"
)]

mod acts;
mod campaign;
mod cluster;
mod coverage;
mod invariants;
mod mutation;
mod network;
mod plan;
#[path = "../support/providers/mod.rs"]
mod providers;
mod registries;
mod run;
mod scenario;
mod story;
mod watch;
mod wire;
mod witnesses;

use std::process::ExitCode;

use clap::Parser;

/// Where the clients are.
pub const NAMESPACE: &str = "shop";
/// Where the operator and its records are.
pub const OPERATOR_NAMESPACE: &str = "operator";
/// The Secret with the registry's credentials.
pub const CREDENTIALS: &str = "credentials";
/// The resource of clients.
pub const CLIENTS: &str = "oauthclients";
/// Which installation the operator is.
pub const INSTALLATION: &str = "installation";

/// A third of the time goes into allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = campaign::Arguments::parse();
    run::hear_of_panics();
    let sound = match &arguments.replay {
        Some(plan) => campaign::replay(&arguments, plan),
        None if arguments.mutations.is_some() => mutation::table(&arguments),
        None => campaign::run_all(&arguments),
    };
    if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
