//! The npm package `oidc-provider`, a strict implementation of RFC 7591 and RFC 7592 that is not ours.

use super::FaultProxy;
use super::PATIENCE;
use super::cluster::from_root;
use super::fault::FaultPlan;
use super::peer::{INITIAL_ACCESS_TOKEN, Peer};
use super::ports::{free_port, own_url};
use super::process::Process;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// A running provider; it forgets everything when it ends. Its registration access tokens rotate on every update.
pub struct OidcProvider {
    issuer: String,
    own_url: String,
    request_log: PathBuf,
    _process: Process,
    _folder: TempDir,
}

impl OidcProvider {
    /// Installs it if need be, starts it and waits until it listens.
    pub async fn start() -> Self {
        let port = free_port();
        Self::listen(port, own_url(port)).await
    }

    /// Starts it behind a proxy that carries out `plan`.
    pub async fn start_behind(plan: &FaultPlan) -> (Self, FaultProxy) {
        let port = free_port();
        let proxy = FaultProxy::to_registry(&own_url(port), plan).await;
        (Self::listen(port, proxy.url().to_owned()).await, proxy)
    }

    async fn listen(port: u16, issuer: String) -> Self {
        let installed = install().await;
        let folder = tempfile::tempdir().expect("a folder for the request log");
        let request_log = folder.path().join("requests.jsonl");
        let environment = [
            ("PORT", port.to_string()),
            ("ISSUER", issuer.clone()),
            ("INITIAL_ACCESS_TOKEN", INITIAL_ACCESS_TOKEN.to_owned()),
            ("REQUEST_LOG", request_log.display().to_string()),
        ];
        let mut command = Command::new("node");
        let process =
            Process::spawn("oidc-provider", command.arg(installed.join("server.mjs")), &environment);
        process.wait_for_output("oidc-provider ready at", PATIENCE).await;
        Self { issuer, own_url: own_url(port), request_log, _process: process, _folder: folder }
    }
}

impl Peer for OidcProvider {
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

/// The folder it is installed in. Whoever installs needs their own settings of npm, so this inherits them.
async fn install() -> PathBuf {
    let script = from_root("tests/support/oidc_provider/install");
    let output = Command::new(script).output().await.expect("tests/support/oidc_provider/install starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    from_root("target/tools/oidc-provider")
}

#[cfg(test)]
mod tests {
    use super::super::peer::{Request, describe};
    use super::*;
    use serde_json::json;

    #[tokio::test(flavor = "multi_thread")]
    async fn shows_changes_and_loses_its_clients() {
        let (provider, proxy) = OidcProvider::start_behind(&FaultPlan::new()).await;
        let metadata = json!({ "redirect_uris": ["https://app.example.com/callback"], "client_name": "One" });
        let client = provider.register(&metadata).await;
        let (id, uri) =
            (client["client_id"].as_str().unwrap(), client["registration_client_uri"].as_str().unwrap());
        assert!(uri.starts_with(proxy.url()), "{uri}");

        provider.patch(id, &json!({ "client_name": "Two" })).await;
        let clients = provider.clients().await;
        assert_eq!((clients.len(), &clients[0]["client_name"]), (1, &json!("Two")));

        provider.lose(id).await;
        assert_eq!(provider.clients().await, [json!(null); 0]);
        let request =
            |method: &str, path: &str, status| Request { method: method.into(), path: path.into(), status };
        let expected =
            [request("GET", "/.well-known/oauth-authorization-server", 200), request("POST", "/reg", 201)];
        let requests = provider.requests();
        assert_eq!(requests, expected, "{}", describe(&requests));
    }
}
