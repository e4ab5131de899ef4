//! `carom queue`: the mode of queues by hand, source addresses that patterns have disabled, and pausing jobs.

use std::net::IpAddr;
use std::process::ExitCode;

use super::{Failure, ServerArgs, caller};
use crate::manage::{Answer, Command};

/// Arguments of `carom queue`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    server: ServerArgs,
    /// JSON instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Put queues into normal or backoff mode
    #[command(
        after_help = "Examples:\n  carom queue mode normal gmail.com/vmta1\n  carom queue mode backoff 'yahoo.*/*'\n\n\
        In backoff mode the backoff- directives hold. Queues that are not there yet, since no mail waits for them, are \
        not changed.\nExit code: 0 done; 1 it did not work."
    )]
    Mode {
        /// Which mode
        #[arg(value_enum)]
        mode: Mode,
        /// DOMAIN/VMTA, with * for any text; without /VMTA it is {default}
        queue: String,
    },
    /// Use a source address again that a pattern has disabled
    #[command(after_help = "Examples:\n  carom queue enable-source 192.0.2.10 hotmail.com/vmta1\n  \
        carom queue enable-source 192.0.2.10 '*/*'\n\n`carom status` shows which are disabled, until when and why.\n\
        Exit code: 0 done; 1 it did not work.")]
    EnableSource {
        /// The address
        ip: IpAddr,
        /// DOMAIN/VMTA, with * for any text; without /VMTA it is {default}
        queue: String,
    },
    /// Pause a job: no attempt for its mail begins any more, until it is resumed
    #[command(after_help = "Examples:\n  carom queue pause-job spring-2026 --reason 'wrong list'\n\n\
        Its mail stays in the queue and bounce-after still ends it; attempts under way go on. The pause holds over a \
        restart, and for mail of the job that comes later.\nExit code: 0 done; 1 it did not work.")]
    PauseJob {
        /// The job (X-Job)
        job: String,
        /// Why, for the record
        #[arg(long)]
        reason: String,
        /// Who, for the record [default: the user who calls]
        #[arg(long)]
        by: Option<String>,
    },
    /// Let a paused job go on
    #[command(after_help = "Examples:\n  carom queue resume-job spring-2026\n\n\
        A job that its guard has paused is paused again only when further mail is worse than what it was paused for.\n\
        Exit code: 0 done; 1 it is not paused, or it did not work.")]
    ResumeJob {
        /// The job (X-Job)
        job: String,
        /// Who, for the record [default: the user who calls]
        #[arg(long)]
        by: Option<String>,
    },
    /// The jobs with mail in the queue, and those that are paused: by whom, since when, why
    #[command(after_help = "Examples:\n  carom queue jobs\n  carom queue jobs --json\n\n\
        The counts are what the job guard goes by: what has ended within its window.\nExit code: 0 done; 1 it did not \
        work.")]
    Jobs,
}

/// The jobs, for people.
fn jobs(data: &serde_json::Value) -> String {
    let of = |row: &serde_json::Value, name: &str| match row.pointer(name) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(s)) => s.clone(),
        Some(other) => other.to_string(),
    };
    let rows = data.get("jobs").and_then(serde_json::Value::as_array).cloned().unwrap_or_default();
    if rows.is_empty() {
        return "No job has mail in the queue, and none is paused.".to_owned();
    }
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(
        ["job", "queued", "state", "ended", "bounced", "dead", "complaints", "since", "by", "reason"]
            .map(|heading| format!(" {heading}")),
    );
    for row in &rows {
        let state = if row["paused"] == true { "PAUSED" } else { "goes on" };
        let mut cells = vec![of(row, "/job"), of(row, "/recipients"), state.to_owned()];
        cells.extend(
            ["/counts/ended", "/counts/bounced", "/counts/hard", "/counts/complaints", "/since", "/by", "/reason"]
                .map(|name| of(row, name)),
        );
        table.add_row(cells.into_iter().map(|cell| format!(" {cell}")));
    }
    let mut text: Vec<String> = table.to_string().lines().map(|line| line.trim_end().to_owned()).collect();
    let all = data.get("count").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if all > rows.len() as u64 {
        text.push(format!("({} more)", all - rows.len() as u64));
    }
    text.join("\n")
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Mode {
    Normal,
    Backoff,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let command = match &args.what {
        What::Mode { mode, queue } => {
            Command::QueueMode { queue: queue.clone(), backoff: matches!(mode, Mode::Backoff) }
        }
        What::EnableSource { ip, queue } => Command::EnableSource { queue: queue.clone(), ip: *ip },
        What::PauseJob { job, reason, by } => {
            Command::PauseJob { job: job.clone(), reason: reason.clone(), by: caller(by.as_deref()) }
        }
        What::ResumeJob { job, by } => Command::ResumeJob { job: job.clone(), by: caller(by.as_deref()) },
        What::Jobs => Command::Jobs,
    };
    if !matches!(args.what, What::Jobs) {
        return args.server.tell(&command, args.json);
    }
    match args.server.ask(&command)? {
        Ok(Answer::Success { data, .. }) => {
            match args.json {
                true => say!("{data}")?,
                false => say!("{}", jobs(&data))?,
            }
            Ok(ExitCode::SUCCESS)
        }
        Ok(Answer::Error { message }) => Err(message.into()),
        Err(code) => Ok(code),
    }
}
