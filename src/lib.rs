//! OAuth clients as Kubernetes resources.

pub mod api;
pub mod clock;
pub mod controller;
pub mod metrics;
pub mod operator;
pub mod reconcile;
pub mod registry;
pub mod server;
pub mod settings;
pub mod sweep;
pub mod telemetry;
