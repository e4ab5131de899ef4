//! `carom check-config FILE`: the parser, then everything that would happen at start-up short of starting.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `carom check-config`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file
    file: PathBuf,
    /// Relative paths in it are taken from here [default: the current folder]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// One JSON object instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, super::Failure> {
    let mut loaded = crate::config::load(&args.file, args.root.as_deref());
    // Patterns, certificates and columns are other rooms' business: a dry run of what start-up builds.
    let mut problems: Vec<String> = Vec::new();
    if let Some(config) = &loaded.config {
        problems = crate::node::check(config);
    }
    let good = loaded.config.is_some() && problems.is_empty();
    if args.json {
        let diagnostics = std::mem::take(&mut loaded.diagnostics);
        println!("{}", serde_json::json!({ "ok": good, "diagnostics": diagnostics, "problems": problems }));
    } else {
        for diagnostic in &loaded.diagnostics {
            eprint!("{}", diagnostic.render());
        }
        for problem in &problems {
            eprintln!("error: {problem}");
        }
        if good {
            println!("{}: good", args.file.display());
        }
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(2) })
}
