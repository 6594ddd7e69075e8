//! Writes the CRDs to a folder, one YAML file each, and their reference for people: `cargo run --bin crds -- crds docs/api.md`.

use std::{error::Error, fs, path::PathBuf};

use clap::Parser;

/// Writes the CRDs to a folder, one YAML file each, and their reference for people.
#[derive(Parser)]
struct Arguments {
    /// The folder; it must exist.
    folder: PathBuf,
    /// The page that explains every field.
    reference: Option<PathBuf>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    for (name, text) in oauth_operator::api::crd_files()? {
        fs::write(arguments.folder.join(name), text)?;
    }
    if let Some(page) = arguments.reference {
        fs::write(page, oauth_operator::api::reference()?)?;
    }
    Ok(())
}
