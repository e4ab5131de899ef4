//! `carom suppress export`: the list as a file, in words or as hashes that can be shared.
#![expect(clippy::disallowed_methods, reason = "edge: reads the key, writes the file")]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use ring::hmac;

use super::{Desk, Misuse, PAGE, Wanted, array, next};
use crate::cli::Failure;
use crate::manage::SuppressionCommand;
use crate::suppress::transfer::write::{COLUMNS, Line, Naming, csv_line, json_line};

/// Arguments of `carom suppress export`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Hashes are made of the lower-cased address with its domain in A-label form. --hashed sha256 is what \
    others can look their own addresses up in; who has a list of addresses can find those that are on yours. --hashed hmac \
    can be looked up only with the key. Where only hashes are kept, plain ones are written in half (32 digits), which \
    carom suppress import --hashed and check --hashed read as well; replies and reasons are left out of hashed exports.\n\n\
    Exit code: 0 done; 1 it did not work, or entries of which only a hash is kept could not be written; 2 wrong arguments."
)]
pub(super) struct Export {
    /// The file to be written [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// csv, newline (subjects alone), json (an object a line)
    #[arg(long, default_value = "csv", value_parser = ["csv", "newline", "json"])]
    format: String,
    /// Write hashes instead of addresses
    #[arg(long, value_name = "ALGORITHM", value_parser = ["sha256", "hmac"])]
    hashed: Option<String>,
    /// File with the key for --hashed hmac; line ends around it do not count
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    #[command(flatten)]
    wanted: Wanted,
}

impl Export {
    fn naming(&self) -> Result<Naming, Failure> {
        match (self.hashed.as_deref(), &self.key_file) {
            (Some("hmac"), Some(file)) => {
                let key = std::fs::read(file).map_err(|e| Misuse(format!("{}: {e}", file.display())))?;
                let key = key.trim_ascii();
                if key.len() < 16 {
                    let short = format!("{}: a key has at least 16 bytes", file.display());
                    return Err(Misuse(short).into());
                }
                Ok(Naming::Hmac(hmac::Key::new(hmac::HMAC_SHA256, key)))
            }
            (Some("hmac"), None) => Err(Misuse("--hashed hmac needs --key-file FILE".to_owned()).into()),
            (_, Some(_)) => Err(Misuse("--key-file is for --hashed hmac".to_owned()).into()),
            (Some(_), None) => Ok(Naming::Sha256),
            (None, None) => Ok(Naming::Plain),
        }
    }
}

pub(super) fn export(desk: &mut Desk<'_>, args: &Export) -> Result<ExitCode, Failure> {
    let (naming, filter) = (args.naming()?, args.wanted.filter()?);
    let mut out: Box<dyn Write> = match &args.output {
        Some(path) => {
            let file = std::fs::File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
            Box::new(std::io::BufWriter::new(file))
        }
        None => Box::new(std::io::BufWriter::new(std::io::stdout())),
    };
    if args.format == "csv" {
        writeln!(out, "{}", csv_line(&COLUMNS))?;
    }
    let bar = indicatif::ProgressBar::new_spinner();
    let (mut after, mut left_out, mut halves) = (String::new(), 0u64, 0u64);
    loop {
        let limit = PAGE * 5;
        let data = desk.ask(SuppressionCommand::List { filter: filter.clone(), after, limit })?;
        for entry in array(&data, "entries") {
            let line = Line::of_json(entry);
            let Some(columns) = line.columns(&naming) else {
                left_out += 1;
                continue;
            };
            halves += u64::from(line.subject.is_empty());
            match args.format.as_str() {
                "newline" => writeln!(out, "{}", columns[0])?,
                "json" => writeln!(out, "{}", json_line(&columns))?,
                _ => writeln!(out, "{}", csv_line(&columns))?,
            }
            bar.inc(1);
        }
        match next(&data) {
            Some(next) => after = next,
            None => break,
        }
    }
    out.flush()?;
    bar.finish_and_clear();
    if halves > 0 {
        eprintln!("carom: of {halves} entries only a hash is kept: it is written as the first 32 digits");
    }
    if left_out > 0 {
        eprintln!("carom: {left_out} entries are left out, since only a hash is kept of them");
    }
    Ok(if left_out > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
