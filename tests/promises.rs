//! What the operator promises, one module a promise, against a real control plane and real registries.
//!
//! Run by `make test`, which brings the control plane up. One binary, since thirty would link for minutes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, missing_docs)]

mod support;

mod cost;
mod crash;
mod deletion;
mod fields;
mod generated;
mod lanes;
mod lifecycle;
mod manifests;
mod misbehaving_registry;
mod own_control_plane;
mod replacement;
mod secret;
mod surface;
mod thousand;
mod wrong_manifest;
