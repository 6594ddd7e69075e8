//! A provider's fake as a process of its own, for `make demo REGISTRY=…`: people watch the operator at it.
//!
//! It ends with an error as soon as an exchange was not as the provider's document describes.

mod by_hand;
#[path = "../providers/mod.rs"]
mod providers;

use std::{
    io::{Write as _, stderr, stdout},
    process::ExitCode,
    time::Duration,
};

use clap::{Parser, ValueEnum};
use oauth_operator::clock::Clock;
use tokio::{
    net::TcpListener,
    select,
    signal::unix::{SignalKind, signal},
    time::interval,
};

use by_hand::ByHand;
use providers::{
    Fake, cal_com::CalCom, meteroid::Meteroid, server::serve_beside, teable::Teable, telnyx::Telnyx,
};

/// How soon a broken contract is noticed.
const LOOK: Duration = Duration::from_millis(100);

/// A provider's fake on a free port of loopback, to watch the operator at; it forgets everything when it ends
///
/// To look and to break things by hand, on the same address: `GET /inspect/clients` lists the clients, `PATCH
/// /inspect/clients/<client_id>` changes one, `POST /inspect/authenticate` tells whether `client_id` and
/// `client_secret` are accepted, and `GET /inspect/credentials` gives what the operator needs.
#[derive(Parser)]
#[command(name = "fake-provider", about, long_about)]
struct Options {
    /// Whose fake
    provider: Name,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    Calcom,
    Telnyx,
    Teable,
    Meteroid,
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended = match Options::parse().provider {
        Name::Calcom => run::<CalCom>().await,
        Name::Telnyx => run::<Telnyx>().await,
        Name::Teable => run::<Teable>().await,
        Name::Meteroid => run::<Meteroid>().await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            // Nothing is left to do if even standard error is closed.
            let _ = writeln!(stderr(), "fake-provider: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// Serves until it is asked to stop, or until the contract is broken.
async fn run<P: ByHand>() -> Result<(), String> {
    // Before the ready line: whoever read it may send a signal at once.
    let mut stop = signal(SignalKind::terminate()).map_err(|e| format!("cannot listen for signals: {e}"))?;
    let fake = Fake::new(P::showing(Clock::system().now()));
    let listener = TcpListener::bind("127.0.0.1:0").await.map_err(|e| format!("no free port: {e}"))?;
    let served = serve_beside(listener, by_hand::routes(fake.clone()), fake.clone());
    say(&format!("fake provider ready at {} (for trying and testing only)", served.url()))?;
    let broken = select! {
        _ = stop.recv() => fake.take_violations(),
        broken = violations(&fake) => broken,
    };
    if broken.is_empty() {
        say(&format!("{} exchanges, each as the contract describes", fake.calls().len()))
    } else {
        Err(format!("the contract was broken\n{}", broken.join("\n")))
    }
}

/// In what ways the contract was broken, once it was.
async fn violations<P: ByHand>(fake: &Fake<P>) -> Vec<String> {
    let mut ticks = interval(LOOK);
    loop {
        ticks.tick().await;
        let broken = fake.take_violations();
        if !broken.is_empty() {
            return broken;
        }
    }
}

fn say(line: &str) -> Result<(), String> {
    writeln!(stdout(), "{line}").map_err(|e| format!("cannot write to standard output: {e}"))
}
