//! What the operator promises, one module a promise, against a real control plane and real registries.
//!
//! Run by `make test`, which brings the control plane up. One binary, since thirty would link for minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs)]

mod support;

mod account;
mod at_rest;
mod chart;
mod cost;
mod crash;
mod crash_at_providers;
mod crash_later;
mod credentials;
mod deletion;
mod deletion_at_providers;
mod fields;
mod generated;
mod gitops;
mod install;
mod lanes;
mod leader;
mod lifecycle;
mod manifests;
mod misbehaving_registry;
mod operations;
mod outages;
mod own_control_plane;
mod provider_cost;
mod provider_secrets;
mod provider_status;
mod providers;
mod registry_status;
mod replacement;
mod rights;
mod secret;
mod stand_ins;
mod stops;
mod strangers;
mod surface;
mod teardown;
mod tenant;
mod thousand;
mod two_managers;
mod wrong_manifest;
