//! `carom suppress simulate`: what suppression rules would have done over history.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use comfy_table::{CellAlignment, Table};

use super::Failure;
use super::acct_input::{self, Progress};
use crate::classify::RuleSet;
use crate::event::{Event, Kind, MessageId, StoreId};
use crate::history::simulate::{Effect, Simulation};
use crate::history::{Input, Row, Scan};

/// Arguments of `carom suppress simulate`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  carom suppress simulate --acct '/var/log/carom/acct/*.csv' --rules new-rules.conf\n  \
    carom suppress simulate --acct acct/ --rules /etc/carom/carom.conf --json\n\n\
    FILE is a configuration with an <auto-suppression> block; nothing else need be in it. A mail to an address that would \
    have been on the list counts as not sent: its bounces and complaints are saved, and if it was delivered, with neither \
    following, it is a good delivery lost. Categories are those of the records; what has none is classified with the patterns \
    of FILE. Reports in PowerMTA's own files are taken for proved. Files are read in the order of their first records; within \
    them the records must be in the order of time. Memory grows with the addresses entered, about 100 bytes each, and those \
    with strikes, about 150.\n\
    Exit code: 0 done; 1 no file could be read; 2 some could not, or the rules have errors."
)]
pub struct SimulateArgs {
    /// Accounting files, CSV or Parquet, folders of them, or patterns; may be given several times
    #[arg(long, value_name = "GLOB", required = true, num_args = 1..)]
    acct: Vec<String>,
    /// A configuration with the rules
    #[arg(long, value_name = "FILE")]
    rules: PathBuf,
}

const COLUMNS: [&str; 20] = [
    "type",
    "timeLogged",
    "timeQueued",
    "orig",
    "rcpt",
    "dsnStatus",
    "dsnDiag",
    "bounceCat",
    "jobId",
    "vmta",
    "provider",
    "messageId",
    "attributedBy",
    "feedbackType",
    "dlvDestinationIp",
    "smtpStage",
    "timeSent",
    "eventId",
    "envId",
    "format",
];

/// `carom suppress simulate`.
pub(super) fn run(args: &SimulateArgs, json: bool) -> Result<ExitCode, Failure> {
    let loaded = crate::config::load(&args.rules, None);
    let own = |d: &&crate::config::Diagnostic| d.line > 0 || d.is_error();
    loaded.diagnostics.iter().filter(own).for_each(|d| eprint!("{}", d.render()));
    let Some(config) = loaded.config else { return Ok(ExitCode::from(2)) };
    let patterns = match RuleSet::compile(&config.bounce_category_patterns) {
        Ok(patterns) => patterns,
        Err(errors) => {
            errors.iter().for_each(|e| eprintln!("carom: {e}"));
            return Ok(ExitCode::from(2));
        }
    };
    let inputs = in_order(acct_input::inputs(&args.acct)?);
    let mut play = Simulation::new(&config.auto_suppression);
    let bar = Progress::over(&inputs, json);
    let mut unknown = 0u64;
    let report = Scan::new(&COLUMNS).required(&["type", "rcpt"]).run(&inputs, &mut |n| bar.add(n), &mut |row| {
        let mut texts = Texts::default();
        match event(row, &mut texts) {
            Some(event) => play.see(&event, &patterns),
            None => unknown += 1,
        }
        ControlFlow::Continue(())
    });
    drop(bar);
    let code = acct_input::complain(&report);
    if json {
        say!("{}", serde_json::json!({ "records": report.rows, "outcome": play.outcome(), "total": play.total() }))?;
        return Ok(code);
    }
    show(&play)?;
    if unknown > 0 {
        eprintln!("carom: {unknown} records of no known type or without a time were left out");
    }
    Ok(code)
}

fn show(play: &Simulation) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header([
        "rule",
        "addresses",
        "domains",
        "mails not sent",
        "bounces saved",
        "complaints saved",
        "good deliveries lost",
    ]);
    let row = |e: &Effect| {
        let numbers = [e.addresses, e.domains, e.mails, e.bounces, e.complaints, e.good_deliveries];
        std::iter::once(e.rule.clone()).chain(numbers.map(|n| n.to_string())).collect::<Vec<_>>()
    };
    for effect in &play.outcome().rules {
        table.add_row(row(effect));
    }
    table.add_row(row(&play.total()));
    table.column_iter_mut().skip(1).for_each(|c| c.set_cell_alignment(CellAlignment::Right));
    say!("{table}")?;
    let out = play.outcome();
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 * 100.0 / all as f64 };
    let total = play.total();
    say!(
        "of {} mails, {} bounces and {} complaints: {:.2} % of the mail not sent, {:.1} % of the bounces and {:.1} % of the \
         complaints saved, {:.3} % of the mail lost that was wanted",
        out.mails,
        out.bounces,
        out.complaints,
        share(total.mails, out.mails),
        share(total.bounces, out.bounces),
        share(total.complaints, out.complaints),
        share(total.good_deliveries, out.mails)
    )?;
    if out.already_suppressed > 0 {
        say!(
            "{} mails more were suppressed at the time; what would have become of them is not known",
            out.already_suppressed
        )?;
    }
    if out.out_of_order > 0 {
        eprintln!(
            "carom: {} records are more than an hour older than one before them; the figures suffer from that",
            out.out_of_order
        );
    }
    Ok(())
}

/// By the time of their first records; what has none stays where it is, in front.
fn in_order(mut inputs: Vec<Input>) -> Vec<Input> {
    inputs.sort_by_cached_key(|input| {
        let mut first = None;
        if !matches!(input, Input::Stdin) {
            let scan = Scan::new(&["timeLogged"]);
            scan.run(std::slice::from_ref(input), &mut |_| {}, &mut |row| {
                first = row.time(0);
                ControlFlow::Break(())
            });
        }
        first
    });
    inputs
}

/// Cells that are not kept as text.
#[derive(Default)]
struct Texts {
    ip: String,
    message: String,
}

/// The record as the rules see it.
fn event<'r>(row: &Row<'r>, texts: &mut Texts) -> Option<Event<'r>> {
    let time = row.time(1)?;
    let kind = row.kind(0)?;
    row.push_text(14, &mut texts.ip);
    row.push_text(11, &mut texts.message);
    let status = row.str(5).split_whitespace().next().and_then(|s| s.parse().ok());
    let is_powermta = matches!(row.cell(17), crate::history::Cell::Absent);
    let attributed_by = match (kind, is_powermta) {
        // Its reports come by the return path.
        (Kind::RemoteBounce | Kind::Feedback, true) => "return-path",
        _ => row.str(12),
    };
    let known = |column| row.time(column).unwrap_or_default();
    Some(Event {
        store: StoreId(1),
        message: MessageId(number(&texts.message)),
        time_queued: known(2),
        orig: row.str(3),
        rcpt: row.str(4),
        status,
        diag: row.str(6),
        category: row.str(7),
        job: row.str(8),
        vmta: row.str(9),
        provider: row.str(10),
        attributed_by,
        feedback_type: row.str(13),
        dlv_destination_ip: texts.ip.parse().ok(),
        stage: row.str(15).parse().ok(),
        time_sent: known(16),
        env_id: row.str(18),
        format: row.str(19),
        ..Event::new(kind, time)
    })
}

/// A message's id as a number; those that are none become one.
fn number(id: &str) -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    if id.is_empty() {
        return 0;
    }
    let mut hasher = foldhash::fast::FixedState::default().build_hasher();
    hasher.write(id.as_bytes());
    hasher.finish().max(1)
}
