//! The real operator, as a process of its own.

use super::ports::free_port;
use super::process::Process;
use super::{PATIENCE, World, eventually, http};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;
use tokio::process::Command;

/// How the operator is started. The defaults suit a test that wants to see something soon.
pub struct OperatorOptions {
    /// Instead of the control plane's own, for a proxy in between or for other rights.
    pub kubeconfig: Option<PathBuf>,
    /// After how long an unanswered request is over for certain.
    pub settle_time: Duration,
    /// For how long a deletion is tried.
    pub deletion_timeout: Duration,
    /// Serves the whole cluster instead of the world's namespace: for a control plane of the test's own.
    pub all_namespaces: bool,
    /// How many objects are worked on at once.
    pub concurrency: usize,
    /// More variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// More arguments, after all others.
    pub extra: Vec<String>,
}

/// A running (or ended) operator. Dropping it kills it, and shows its log if the test is panicking.
pub struct Operator {
    process: Process,
    url: String,
}

impl Default for OperatorOptions {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            settle_time: Duration::from_secs(1),
            deletion_timeout: Duration::from_secs(30),
            all_namespaces: false,
            concurrency: 8,
            environment: Vec::new(),
            extra: Vec::new(),
        }
    }
}

impl Operator {
    /// Starts it for a world and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it ends instead, or is not ready in time, with its log.
    pub async fn start(world: &World, options: OperatorOptions) -> Self {
        let operator = Self::spawn(world, options);
        operator.wait_ready(PATIENCE).await;
        operator
    }

    /// Starts it for a world, ready or not.
    pub fn spawn(world: &World, options: OperatorOptions) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        let kubeconfig = options.kubeconfig.clone().unwrap_or_else(|| world.cluster.kubeconfig());
        let mut environment =
            vec![("KUBECONFIG", kubeconfig.display().to_string()), ("RUST_BACKTRACE", "1".to_owned())];
        environment.extend(options.environment.clone());
        let mut command = Command::new(env!("CARGO_BIN_EXE_oauth-operator"));
        command.args(arguments(world, &listen, options));
        Self {
            process: Process::spawn("oauth-operator", &mut command, &environment),
            url: format!("http://{listen}"),
        }
    }

    /// Starts it with an environment instead of arguments, as a pod does.
    pub fn spawn_with(mut environment: BTreeMap<String, String>) -> Self {
        let listen = format!("127.0.0.1:{}", free_port());
        environment.insert("OAUTH_OPERATOR_LISTEN".to_owned(), listen.clone());
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_oauth-operator"));
        Self {
            process: Process::spawn("oauth-operator", &mut command, &environment),
            url: format!("http://{listen}"),
        }
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    ///
    /// When it ends instead, or is not ready in time, with its log.
    pub async fn wait_ready(&self, deadline: Duration) {
        eventually("the operator is ready", deadline, async || {
            self.process.assert_running();
            self.get("readyz").await.map(drop)
        })
        .await;
    }

    /// Its metrics, in the text format.
    pub async fn metrics(&self) -> String {
        self.get("metrics").await.expect("the operator's metrics")
    }

    /// What it answers at a path of its own server, if that is a 2xx; what went wrong otherwise.
    pub async fn get(&self, path: &str) -> Result<String, String> {
        http::get(&format!("{}/{path}", self.url)).await
    }

    /// Everything it has written to standard output and error so far; all of it once it has ended.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Kills it on the spot, as a machine that dies does, and waits until it is gone.
    pub async fn kill9(&self) {
        self.process.kill9().await;
    }

    /// What kills it on the spot when called, for `Action::kill`.
    pub fn killer(&self) -> impl Fn() + Send + Sync + 'static {
        self.process.killer()
    }

    /// What sends it a signal when called (`-TERM`, `-STOP`, `-CONT`), for `Action::tell`.
    pub fn signaller(&self, which: &'static str) -> impl Fn() + Send + Sync + 'static {
        self.process.signaller(which)
    }

    /// Asks it to end (SIGTERM); returns how it ended and how long that took.
    ///
    /// # Panics
    ///
    /// When it is still running after a minute, with its log.
    pub async fn terminate(&self) -> (ExitStatus, Duration) {
        self.process.terminate(PATIENCE).await
    }

    /// Waits for its end, whatever brings it about.
    ///
    /// # Panics
    ///
    /// When it is still running after a minute, with its log.
    pub async fn wait_exit(&self) -> ExitStatus {
        self.process.wait_exit(PATIENCE).await
    }

    /// How much memory it holds and held at most, as Linux counts it.
    pub fn memory(&self) -> String {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap_or_default();
        let lines = status.lines().filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>().join(", ")
    }

    /// How it ended, if it has.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.exit_status()
    }
}

fn arguments(world: &World, listen: &str, options: OperatorOptions) -> Vec<String> {
    let pairs = [
        ("--operator-namespace", world.operator_namespace.clone()),
        ("--listen", listen.to_owned()),
        ("--log-format", "json".to_owned()),
        ("--settle-time", duration(options.settle_time)),
        ("--deletion-timeout", duration(options.deletion_timeout)),
        ("--allowed-addresses", "127.0.0.0/8,::1/128".to_owned()),
        ("--concurrency", options.concurrency.to_string()),
    ];
    let namespaces = (!options.all_namespaces).then(|| ("--namespaces", world.namespace.clone()));
    let arguments = pairs.into_iter().chain(namespaces);
    arguments.flat_map(|(name, value)| [name.to_owned(), value]).chain(options.extra).collect()
}

/// As the Gateway API writes them.
fn duration(duration: Duration) -> String {
    match (duration.as_secs(), duration.subsec_millis()) {
        (seconds, 0) => format!("{seconds}s"),
        (seconds, milliseconds) => format!("{seconds}s{milliseconds}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn durations_are_the_gateway_apis() {
        assert_eq!(duration(Duration::from_secs(90)), "90s");
        assert_eq!(duration(Duration::from_millis(1500)), "1s500ms");
        assert_eq!(duration(Duration::from_millis(20)), "0s20ms");
    }
}
