//! `carom http-password`: a password as a hash, for `http-mgmt-password-hash`.

use std::io::BufRead;
use std::process::ExitCode;

use ring::rand::{SecureRandom, SystemRandom};

use super::Failure;
use crate::manage::http_guard::hash_password;

/// Arguments of `carom http-password`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Reads the password from standard input, so that it stands in no list of processes, and prints the \
    line for the configuration. Exit code: 0 done; 1 it did not work; 2 the password is too short."
)]
pub struct Args {
    /// JSON instead of the line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let password = line.trim_end_matches(['\r', '\n']);
    if password.len() < 8 {
        eprintln!("carom: the password has fewer than 8 characters");
        return Ok(ExitCode::from(2));
    }
    let mut salt = [0; 16];
    SystemRandom::new().fill(&mut salt).map_err(|_| "the system gives no random numbers")?;
    let hash = hash_password(password, &salt);
    match args.json {
        true => say!("{}", serde_json::json!({ "hash": hash }))?,
        false => say!("http-mgmt-password-hash {hash}")?,
    }
    Ok(ExitCode::SUCCESS)
}
