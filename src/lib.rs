//! OAuth clients as Kubernetes resources: the life of a spec, and where each part of it is told.
//!
//! ```text
//! kubectl apply ─► OAuthClient ─► one pass ─► registry (RFC 7591, RFC 7592)
//!                     ▲ status       ├──────► record: a Secret in the operator's namespace
//!                     └──────────────┴──────► Secret: derived from the record, in the layout that the app wants
//! ```
//!
//! 1. A user applies an `OAuthClient`. Its types and the rules that the API server enforces are in [`api`].
//! 2. [`controller`] watches clients and registries, and wakes one pass for a client that changed or is due.
//! 3. A pass ([`reconcile`]) *gathers* what is known into [`Facts`](reconcile::facts::Facts), reads only. Then it asks
//!    [`next`](mod@reconcile::next) for one [`Step`](reconcile::next::Step) at a time: the first of an ordered list of small pure rules
//!    that has something to say. [`run`](reconcile::run) runs that one effect and adds what it brought to the facts. When no rule
//!    has anything to do any more, the verdict is *reported*: conditions, where they differ, and events.
//! 4. To register a client, the pass writes finalizer and [`Intent`](reconcile::intent::Intent) onto the object, in one patch that
//!    fails if its view was stale; sends the registration; and creates the [`Record`](reconcile::record::Record) before anything
//!    else. That create is the commit. The user's [`secret`](reconcile::secret) and the [`status`](reconcile::status) follow from
//!    it, now or in any later pass.
//! 5. The pass may die between any two of these lines. What it had written is enough for the next one: a registration of which
//!    nobody saw the end is never taken for a failure nor for a success.
//! 6. Every drift interval a pass looks again. At rest it reads, and writes nothing.
//! 7. Deletion goes the other way: client, then record, then finalizer; and it ends, with the registry told or not. [`sweep`] looks
//!    after records whose object went without a word, [`in_use`] keeps a registry object until its clients are gone.
//!
//! What the outside can be asked is one trait, [`registry::Registry`], behind which each registry is one file. A pass knows it by
//! its [`Capabilities`](registry::Capabilities) only. All time comes from [`clock`] and tokio, all HTTP from one place below
//! [`registry::transport`], all Kubernetes calls from the client in [`reconcile::Context`], which [`api_server`] connects: a test can
//! stand in for each.
//!
//! [`operator`] puts the parts together, and lets one of several replicas work at a time ([`lease`]); [`settings`] is what it is told, [`server`], [`metrics`] and [`telemetry`] what it tells.

pub mod api;
pub mod api_server;
pub mod clock;
pub mod controller;
pub mod in_use;
pub mod lease;
pub mod metrics;
pub mod operator;
pub mod reconcile;
pub mod registry;
pub mod registry_objects;
pub mod rounds;
pub mod server;
pub mod settings;
pub mod sweep;
pub mod telemetry;
pub mod uninstall;

#[cfg(test)]
#[path = "../tests/support/providers/mod.rs"]
pub(crate) mod providers;

#[cfg(test)]
mod fuzz;

// Not below `providers`: the promises compile those too.
#[cfg(test)]
#[path = "../tests/support/providers/tests/mod.rs"]
mod providers_tests;
