//! `carom digest`: what `privacy-policy` replaces a local part with, to find an address in files that hide it.

use std::process::ExitCode;

use super::Failure;
use crate::accounting::privacy;
use crate::config;

/// Arguments of `carom digest`.
#[derive(Debug, clap::Args)]
#[command(
    group(clap::ArgGroup::new("algorithm").required(true)),
    group(clap::ArgGroup::new("secret").required(true)),
    after_help = "Example: carom digest --siphash --key=secret jane\n\nGive the local part alone, what stands before the \
    @; its case does not matter. Exit code: 0 done; 2 the key does not fit."
)]
pub struct Args {
    /// HMAC-SHA256, as privacy-policy hmac-sha256 and hmac-sha256-hexkey
    #[arg(long, group = "algorithm")]
    hmac_sha256: bool,
    /// SipHash-2-4, as privacy-policy siphash and siphash-hexkey
    #[arg(long, group = "algorithm")]
    siphash: bool,
    /// The key as text
    #[arg(long, group = "secret")]
    key: Option<String>,
    /// The key in hexadecimal
    #[arg(long, alias = "hex-key", group = "secret")]
    hexkey: Option<String>,
    /// The local part
    string: String,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let algorithm = if args.siphash { "siphash" } else { "hmac-sha256" };
    let (mode, key) = match (&args.key, &args.hexkey) {
        (Some(key), _) => (algorithm.to_owned(), key),
        (None, Some(hex)) => (format!("{algorithm}-hexkey"), hex),
        (None, None) => return Ok(ExitCode::from(2)),
    };
    let policy = match config::privacy(&mode, Some(key)) {
        Ok((policy, _)) => policy,
        Err(e) => {
            eprintln!("carom: {e}; {}", e.help);
            return Ok(ExitCode::from(2));
        }
    };
    let result = privacy::digest(&policy, &args.string).unwrap_or_default();
    match args.json {
        true => say!("{}", serde_json::json!({ "result": result }))?,
        false => say!("Result: {result}")?,
    }
    Ok(ExitCode::SUCCESS)
}
