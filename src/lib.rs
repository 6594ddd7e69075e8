//! OAuth clients as Kubernetes resources.

pub mod api;
