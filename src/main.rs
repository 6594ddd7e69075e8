//! The operator's process.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use oauth_operator::{operator, settings::Arguments, telemetry};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = telemetry::init(arguments.log_format, &arguments.log) {
        // There is no log to write this to, and nobody to tell if standard error is closed.
        let _ = writeln!(io::stderr(), "--log {}: {error}", arguments.log);
        return ExitCode::FAILURE;
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return failed("another TLS provider was installed first");
    }
    match operator::run(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.to_string()),
    }
}

fn failed(why: &str) -> ExitCode {
    tracing::error!("{why}");
    ExitCode::FAILURE
}
