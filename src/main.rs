//! The operator's process.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use oauth_operator::{
    operator,
    settings::{Arguments, Command},
    telemetry, uninstall,
};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::read();
    if let Err(error) = telemetry::init(arguments.log_format, &arguments.log) {
        // There is no log to write this to, and nobody to tell if standard error is closed.
        let _ = writeln!(io::stderr(), "--log {}: {error}", arguments.log);
        return ExitCode::FAILURE;
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return failed("another TLS provider was installed first");
    }
    let done = match arguments.command.clone() {
        None => operator::run(arguments).await.map_err(|error| error.to_string()),
        Some(Command::Uninstall(options)) => {
            let Arguments { operator_namespace, namespaces, .. } = arguments;
            uninstall::run(operator_namespace, namespaces, options).await.map_err(|error| error.to_string())
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(why: &str) -> ExitCode {
    tracing::error!("{why}");
    ExitCode::FAILURE
}
