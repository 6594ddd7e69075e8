//! Writes the CRDs to a folder, one YAML file each: `cargo run --bin crds -- crds`.

use std::{error::Error, fs, path::PathBuf};

use clap::Parser;

/// Writes the CRDs to a folder, one YAML file each.
#[derive(Parser)]
struct Arguments {
    /// The folder; it must exist.
    folder: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    for (name, text) in oauth_operator::api::crd_files()? {
        fs::write(arguments.folder.join(name), text)?;
    }
    Ok(())
}
