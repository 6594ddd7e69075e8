//! Our own registry for trying things out, as a process of its own.

use super::fault::FaultPlan;
use super::peer::{INITIAL_ACCESS_TOKEN, Peer};
use super::ports::{free_port, own_url};
use super::process::Process;
use super::{FaultProxy, PATIENCE};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// How the registry is started.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Whether an update brings a new registration access token and makes the old one useless.
    pub rotate_registration_token: bool,
}

/// A running (or stopped) registry. Its clients outlive a restart.
pub struct DevelopmentRegistry {
    issuer: String,
    port: u16,
    own_url: String,
    options: RegistryOptions,
    folder: TempDir,
    request_log: PathBuf,
    process: Process,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self { rotate_registration_token: true }
    }
}

impl DevelopmentRegistry {
    /// Starts it with tokens that rotate and waits until it listens.
    pub async fn start() -> Self {
        Self::start_with(RegistryOptions::default()).await
    }

    /// Starts it and waits until it listens.
    pub async fn start_with(options: RegistryOptions) -> Self {
        let port = free_port();
        Self::listen(port, own_url(port), options).await
    }

    /// Starts it behind a proxy that carries out `plan`.
    pub async fn start_behind(plan: &FaultPlan) -> (Self, FaultProxy) {
        Self::start_behind_with(plan, RegistryOptions::default()).await
    }

    /// Starts it so behind a proxy that carries out `plan`.
    pub async fn start_behind_with(plan: &FaultPlan, options: RegistryOptions) -> (Self, FaultProxy) {
        let port = free_port();
        let proxy = FaultProxy::to_registry(&own_url(port), plan).await;
        (Self::listen(port, proxy.url().to_owned(), options).await, proxy)
    }

    /// Ends it: from now on nobody answers at its URL.
    pub async fn stop(&self) {
        self.process.terminate(PATIENCE).await;
    }

    /// Ends it if need be and starts it again, at the same URL and with the same clients.
    pub async fn restart(&mut self) {
        if self.process.exit_status().is_none() {
            self.stop().await;
        }
        self.process = spawn(self.port, &self.issuer, &self.options, self.folder.path()).await;
    }

    async fn listen(port: u16, issuer: String, options: RegistryOptions) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the registry");
        std::fs::write(folder.path().join(TOKEN_FILE), INITIAL_ACCESS_TOKEN)
            .expect("the initial access token");
        let process = spawn(port, &issuer, &options, folder.path()).await;
        let request_log = folder.path().join(REQUEST_LOG);
        Self { issuer, port, own_url: own_url(port), options, folder, request_log, process }
    }
}

impl Peer for DevelopmentRegistry {
    fn url(&self) -> &str {
        &self.issuer
    }

    fn own_url(&self) -> &str {
        &self.own_url
    }

    fn request_log(&self) -> &Path {
        &self.request_log
    }
}

const TOKEN_FILE: &str = "initial-access-token";
const REQUEST_LOG: &str = "requests.jsonl";

async fn spawn(port: u16, issuer: &str, options: &RegistryOptions, folder: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_development-registry"));
    command.arg("--listen").arg(format!("127.0.0.1:{port}"));
    command.arg("--data").arg(folder.join("data"));
    command.arg("--issuer").arg(issuer);
    command.arg("--initial-access-token-file").arg(folder.join(TOKEN_FILE));
    command.arg("--request-log").arg(folder.join(REQUEST_LOG));
    if options.rotate_registration_token {
        command.arg("--rotate-registration-token");
    }
    let process = Process::spawn("development-registry", &mut command, &[]);
    process.wait_for_output("development registry ready at", PATIENCE).await;
    process
}

#[cfg(test)]
mod tests {
    use super::super::peer::describe;
    use super::super::token::grant;
    use super::*;
    use serde_json::json;

    #[tokio::test(flavor = "multi_thread")]
    async fn clients_outlive_a_restart_until_they_are_lost() {
        let (mut registry, proxy) = DevelopmentRegistry::start_behind(&FaultPlan::new()).await;
        let metadata =
            json!({ "grant_types": ["client_credentials"], "response_types": [], "client_name": "One" });
        let client = registry.register(&metadata).await;
        let (id, secret) = (client["client_id"].as_str().unwrap(), client["client_secret"].as_str().unwrap());
        let uri = client["registration_client_uri"].as_str().unwrap();
        assert!(uri.starts_with(proxy.url()), "{uri}");

        registry.restart().await;
        registry.patch(id, &json!({ "client_name": "Two" })).await;
        assert_eq!(registry.clients().await[0]["client_name"], "Two");
        assert_eq!(grant(registry.url(), id, secret).await.unwrap().token_type.to_lowercase(), "bearer");

        registry.lose(id).await;
        assert_eq!(registry.clients().await.len(), 0);
        grant(registry.url(), id, secret).await.unwrap_err();
        let requests = registry.requests();
        let registrations =
            requests.iter().filter(|request| request.method == "POST" && request.status == 201);
        assert_eq!(registrations.count(), 1, "{}", describe(&requests));
    }
}
