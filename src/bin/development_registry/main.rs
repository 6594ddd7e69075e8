//! The embedded default registry: an OAuth registry on loopback, to try oauth-operator with and to test it.
//!
//! It registers clients (RFC 7591), lets their holders manage them (RFC 7592) and answers the client
//! credentials grant, so that a secret can be tried. It is for trying and testing; it is not an
//! authorization server for production: nobody can sign in, and no token it issues opens anything.

mod registry;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use url::Url;

use crate::registry::Registry;

/// How long requests under way may take to end once a signal asked the process to stop.
const GRACE: Duration = Duration::from_secs(5);

/// A registry on loopback for trying and testing oauth-operator; not an authorization server for production
///
/// It serves RFC 8414 metadata, RFC 7591 registration at `/register`, RFC 7592 management at the
/// `registration_client_uri` it returns, and the `client_credentials` grant at `/token`. Nobody can sign in
/// here and no issued token opens anything.
///
/// To look and to break things by hand, on the same address: `GET /inspect/clients` lists the registered
/// metadata, `PATCH /inspect/clients/<client_id>` changes it (JSON merge patch), and
/// `DELETE /inspect/clients/<client_id>` loses the client. They need no credential; that is one more reason
/// why only loopback is served.
#[derive(Parser)]
#[command(name = "development-registry", version, about, long_about)]
struct Options {
    /// Address to listen on; a loopback address only. Port 0 takes a free port
    #[arg(long, env = "DEVELOPMENT_REGISTRY_LISTEN", default_value = "127.0.0.1:8765", value_parser = loopback)]
    listen: SocketAddr,

    /// Issuer, and origin of every URL in a reply, if clients reach this registry at another URL than the
    /// one it listens on, say through a proxy. A path in it is served under [default: http://<address>]
    #[arg(long, env = "DEVELOPMENT_REGISTRY_ISSUER", value_name = "URL", value_parser = issuer)]
    issuer: Option<String>,

    /// File that holds the clients; made if it is absent. Secrets and tokens are in it as hashes only
    #[arg(long, env = "DEVELOPMENT_REGISTRY_DATA", value_name = "FILE")]
    data: PathBuf,

    /// File with the initial access token that a registration must then bear. Without it anybody on this
    /// machine may register
    #[arg(long, env = "DEVELOPMENT_REGISTRY_INITIAL_ACCESS_TOKEN_FILE", value_name = "FILE")]
    initial_access_token_file: Option<PathBuf>,

    /// Answer each PUT with a new registration access token; the old one is dead at once
    #[arg(long, env = "DEVELOPMENT_REGISTRY_ROTATE_REGISTRATION_TOKEN")]
    rotate_registration_token: bool,

    /// File to append one JSON line a request to, {"method","path","status"}, before the reply is sent.
    /// Requests to /inspect are left out
    #[arg(long, env = "DEVELOPMENT_REGISTRY_REQUEST_LOG", value_name = "FILE")]
    request_log: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nothing is left to do if even standard error is closed.
            let _ = writeln!(std::io::stderr(), "development-registry: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until a signal asks to stop.
async fn run(options: Options) -> Result<(), String> {
    // Before the ready line: whoever read it may send a signal at once.
    let stop = stop_signals().map_err(|e| format!("cannot listen for signals: {e}"))?;
    let listener = TcpListener::bind(options.listen).await.map_err(|e| {
        format!("cannot listen on {}: {e}; stop what holds the port or give --listen another", options.listen)
    })?;
    let address = listener.local_addr().map_err(|e| format!("cannot tell the address bound: {e}"))?;
    let (registry, log) = open(&options, address)?;

    let (stopping, stopped) = oneshot::channel();
    let server = axum::serve(listener, registry::router(registry, log)).with_graceful_shutdown(async {
        stop.await;
        let _ = stopping.send(());
    });
    writeln!(
        std::io::stdout(),
        "development registry ready at http://{address} (for trying and testing only)"
    )
    .map_err(|e| format!("cannot write the ready line to standard output: {e}"))?;
    tokio::select! {
        ended = async { server.await } => ended.map_err(|e| format!("cannot go on serving {address}: {e}")),
        () = async { let _ = stopped.await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

/// Opens the files the options name.
fn open(options: &Options, address: SocketAddr) -> Result<(Registry, Option<File>), String> {
    let token = options.initial_access_token_file.as_ref().map(|file| {
        let text = std::fs::read_to_string(file).map_err(|e| {
            format!("cannot read the initial access token: {}: {e}; name a readable file", file.display())
        })?;
        match text.trim() {
            "" => Err(format!("{} is empty; write an initial access token into it", file.display())),
            token => Ok(token.to_owned()),
        }
    });
    let log = options.request_log.as_ref().map(|file| {
        File::options().create(true).append(true).open(file).map_err(|e| {
            format!("cannot append to the request log {}: {e}; name a writable file", file.display())
        })
    });
    let issuer = options.issuer.clone().unwrap_or_else(|| format!("http://{address}"));
    let token = token.transpose()?;
    let registry =
        Registry::open(issuer, options.data.clone(), token.as_deref(), options.rotate_registration_token)?;
    Ok((registry, log.transpose()?))
}

/// Completes at the first SIGTERM or SIGINT.
fn stop_signals() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt): (Signal, Signal) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
    })
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "give an IP address and a port, such as 127.0.0.1:8765".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("this registry guards nothing and listens on loopback only; give 127.0.0.1 or [::1]".to_owned())
    }
}

fn issuer(text: &str) -> Result<String, String> {
    let url = Url::parse(text).map_err(|e| e.to_string())?;
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if matches!(url.scheme(), "http" | "https") && plain {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err("an issuer is an http or https URL without user, query and fragment".to_owned())
    }
}
