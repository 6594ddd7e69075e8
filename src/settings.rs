//! What the operator is told at start: one flag and one environment variable each. `--help` is the documentation.

use std::{net::SocketAddr, time::Duration};

use clap::{Parser, Subcommand};

use crate::{
    api::{self, RegistryHosts},
    registry::address::Networks,
    telemetry::LogFormat,
    uninstall,
};

/// Registers OAuth clients as declared by `OAuthClient` objects, and keeps their credentials in Secrets.
///
/// The API server is found as kubectl finds it ($KUBECONFIG, ~/.kube/config), or in a pod by its service account. The
/// operator takes no other credential: those of registries stand in Secrets that the registry objects name.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, args_override_self = true)]
pub struct Arguments {
    /// The namespace of the operator. Its records of clients, which hold their credentials, are kept there: nobody else
    /// should read Secrets in it. Its UID names this installation
    #[arg(long, env = "OAUTH_OPERATOR_NAMESPACE", global = true, default_value = "oauth-operator")]
    pub operator_namespace: String,

    /// Serve these namespaces only, separated by commas; then no cluster-wide right is needed and no ClusterOAuthRegistry is
    /// seen. Left out: all namespaces
    #[arg(
        long,
        env = "OAUTH_OPERATOR_NAMESPACES",
        global = true,
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    pub namespaces: Vec<String>,

    /// Where /livez, /readyz and /metrics are served
    #[arg(long, env = "OAUTH_OPERATOR_LISTEN", default_value = "0.0.0.0:8080", value_name = "ADDRESS")]
    pub listen: SocketAddr,

    /// Work only while holding the Lease `oauth-operator` in the operator's namespace: then several replicas may run, of which
    /// one works and the others wait
    #[arg(
        long,
        env = "OAUTH_OPERATOR_LEADER_ELECTION",
        default_value_t = false,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set,
        value_name = "true|false"
    )]
    pub leader_election: bool,

    /// The name of this process in the Lease, its own among all replicas. Left out: a new one at each start, so that a process
    /// that starts anew waits until the Lease of the one before is old
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub identity: Option<String>,

    /// Addresses that registries may have although they are refused otherwise: loopback, link-local, unspecified, multicast, cloud
    /// metadata, and the API server's. CIDRs, separated by commas
    #[arg(
        long,
        env = "OAUTH_OPERATOR_ALLOWED_ADDRESSES",
        default_value = "",
        hide_default_value = true,
        value_name = "CIDR"
    )]
    pub allowed_addresses: Networks,

    /// The hosts that an OAuthRegistry may name, in any of its URLs: names, or *.example.com for all below, separated by commas. `none`:
    /// no OAuthRegistry is served. Left out: any. A ClusterOAuthRegistry may name any host
    #[arg(
        long,
        env = "OAUTH_OPERATOR_NAMESPACED_REGISTRY_HOSTS",
        default_value = "",
        hide_default_value = true,
        value_name = "HOST"
    )]
    pub namespaced_registry_hosts: RegistryHosts,

    /// How many clients are worked on at once: passes at once, for each registry. More than 8 may draw 429 from the API
    /// server's priority and fairness
    #[arg(long, env = "OAUTH_OPERATOR_CONCURRENCY", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256), value_name = "N")]
    pub concurrency: u16,

    /// After a registration with unknown outcome: how long until the lost request must be over. Never shorter than the
    /// registry's own timeout
    #[arg(long, env = "OAUTH_OPERATOR_SETTLE_TIME", default_value = "30s", value_parser = api::Duration::parse, value_name = "DURATION")]
    pub settle_time: Duration,

    /// How long a deletion may try to tell the registry before it ends without, with an event, a metric and the record kept
    #[arg(long, env = "OAUTH_OPERATOR_DELETION_TIMEOUT", default_value = "10m", value_parser = api::Duration::parse, value_name = "DURATION")]
    pub deletion_timeout: Duration,

    /// How long running passes may take to end after SIGTERM. Keep terminationGracePeriodSeconds above it
    #[arg(long, env = "OAUTH_OPERATOR_SHUTDOWN_TIMEOUT", default_value = "60s", value_parser = api::Duration::parse, value_name = "DURATION")]
    pub shutdown_timeout: Duration,

    /// How log lines look
    #[arg(long, env = "OAUTH_OPERATOR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,

    /// Which log lines are written, for example `debug` or `info,oauth_operator=debug`
    #[arg(long, env = "OAUTH_OPERATOR_LOG", default_value = "info,kube_runtime=warn", value_name = "FILTER")]
    pub log: String,

    /// What else to do than to run
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What else to do than to run.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Prepares the operator's removal: lets go of what it looks after, or refuses. Touches no Secret and no registry
    Uninstall(uninstall::Options),
}

impl Arguments {
    /// Those of this process; it ends here if they are wrong.
    pub fn read() -> Self {
        let mut arguments = Self::parse();
        // A variable that is set to nothing names no namespace.
        arguments.namespaces.retain(|namespace| !namespace.is_empty());
        arguments
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
