#![expect(clippy::disallowed_methods, reason = "edge: the clock that --since is counted from")]
//! `carom report quarantine list|show|replay|drop`: what came to the report addresses and nobody understood; through the
//! running server when there is one, else on its store directly.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::peer::Peer;
use crate::cli::{Failure, ServerArgs};
use crate::event::plain;
use crate::event::plain::fit;
use crate::manage::{Command, QuarantineCommand};
use crate::report::quarantine::{Filter, Which, Why};

/// Arguments of `carom report quarantine`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  carom report quarantine list --since 7d --subject undeliver\n  \
    carom report quarantine show 4711 --raw > mail.eml; carom report mail.eml\n  \
    carom report quarantine replay --all      after a pattern file was added and the server reloaded\n  \
    carom report quarantine drop --why unmatched --older-than 30d --yes\n\
    A running server is asked; without one its store is opened. A mail that is replayed is read as if it came now; when it \
    is a report, it gets its events, once, and leaves the quarantine; else it stays.\n\
    Exit code: 0 done; 1 some mails were not understood, are not there, or it did not work; 2 wrong arguments.")]
pub struct Args {
    #[command(subcommand)]
    command: Sub,
    #[command(flatten)]
    server: ServerArgs,
    /// JSON lines instead of text
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Show the mails, the oldest first
    List {
        #[command(flatten)]
        filter: FilterArgs,
        /// Start behind the mail with this id
        #[arg(long, value_name = "ID", default_value_t = 0, hide_default_value = true)]
        after: u64,
        /// At most so many [default: all]
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        limit: u64,
    },
    /// Show one mail
    Show {
        /// Its id, as list shows it
        id: u64,
        /// The mail as it came, as far as it was kept, and nothing else
        #[arg(long)]
        raw: bool,
    },
    /// Read mails again, after a pattern was added or Carom was updated
    Replay {
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Throw mails away
    Drop {
        #[command(flatten)]
        which: WhichArgs,
        /// Do it, when a filter and not ids says which
        #[arg(long)]
        yes: bool,
    },
}

/// Which mails of many.
#[derive(Debug, Clone, clap::Args)]
struct FilterArgs {
    /// Came to this processor
    #[arg(long, value_name = "bounce|feedback|unsubscribe", value_parser = processor)]
    processor: Option<Which>,
    /// Is here because it is no report of a known form, or one that can't be read
    #[arg(long, value_name = "unmatched|unreadable", value_parser = why)]
    why: Option<Why>,
    /// The envelope sender contains this
    #[arg(long, value_name = "TEXT")]
    from: Option<String>,
    /// The address it came to contains this
    #[arg(long, value_name = "TEXT")]
    to: Option<String>,
    /// The subject contains this
    #[arg(long, value_name = "TEXT")]
    subject: Option<String>,
    /// Came at most so long ago, such as 7d or 12h
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<std::time::Duration>,
    /// Came longer ago than this
    #[arg(long, value_name = "TIME", value_parser = time)]
    older_than: Option<std::time::Duration>,
}

#[derive(Debug, Clone, clap::Args)]
struct WhichArgs {
    /// Ids, as list shows them
    #[arg(value_name = "ID")]
    ids: Vec<u64>,
    /// All that there are
    #[arg(long, conflicts_with = "ids")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

fn processor(text: &str) -> Result<Which, String> {
    serde_json::from_value(json!(text)).map_err(|_| "write bounce, feedback or unsubscribe".to_owned())
}

fn why(text: &str) -> Result<Why, String> {
    serde_json::from_value(json!(text)).map_err(|_| "write unmatched or unreadable".to_owned())
}

fn time(text: &str) -> Result<std::time::Duration, String> {
    crate::config::values::time(text).map_err(|e| format!("{e}; {}", e.help))
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        let now = jiff::Timestamp::now().as_microsecond();
        let ago = |t: std::time::Duration| now.saturating_sub(i64::try_from(t.as_micros()).unwrap_or(i64::MAX));
        Filter {
            processor: self.processor,
            why: self.why,
            from: self.from.clone(),
            to: self.to.clone(),
            subject: self.subject.clone(),
            since: self.since.map(ago),
            before: self.older_than.map(ago),
        }
    }
}

/// Entries asked for at once.
const PAGE: u32 = 500;
/// Mails replayed or dropped with one question.
const AT_ONCE: usize = 100;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    if let Sub::Replay { which } | Sub::Drop { which, .. } = &args.command
        && let Err(why) = which.check(matches!(args.command, Sub::Drop { yes: false, .. }))
    {
        eprintln!("carom: {why}");
        return Ok(ExitCode::from(2));
    }
    let mut peer = match Peer::reach(&args.server)? {
        Ok(peer) => peer,
        Err(code) => return Ok(code),
    };
    match &args.command {
        Sub::List { filter, after, limit } => list(&mut peer, &filter.filter(), *after, *limit, args.json),
        Sub::Show { id, raw } => show(&mut peer, *id, *raw, args.json),
        Sub::Replay { which } => each(&mut peer, which, args.json, "replayed", |ids| QuarantineCommand::Replay { ids }),
        Sub::Drop { which, .. } => each(&mut peer, which, args.json, "dropped", |ids| QuarantineCommand::Drop { ids }),
    }
}

impl WhichArgs {
    fn is_filtered(&self) -> bool {
        self.filter.filter() != Filter::default()
    }

    /// What is wrong with the choice; `unsure` when it throws away and `--yes` is not given.
    fn check(&self, unsure: bool) -> Result<(), &'static str> {
        match (self.ids.is_empty(), self.all || self.is_filtered()) {
            (true, false) => Err("which mails? give ids, a filter such as --subject TEXT, or --all"),
            (false, true) => Err("give either ids or a filter"),
            (true, true) if unsure => Err("this throws away all mails that the filter lets pass; add --yes to do it"),
            _ => Ok(()),
        }
    }
}

/// What is done with the answer and the entries in it.
type Page<'p> = dyn FnMut(&Value, &[Value]) -> Result<(), Failure> + 'p;

/// Calls `each` with every page of entries.
fn pages(peer: &mut Peer, filter: &Filter, mut after: u64, mut left: u64, each: &mut Page<'_>) -> Result<(), Failure> {
    loop {
        let limit = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
        let asked = QuarantineCommand::List { filter: filter.clone(), after, limit };
        let data = peer.data(Command::ReportQuarantine(asked))?;
        let entries = data.get("entries").and_then(Value::as_array).cloned().unwrap_or_default();
        each(&data, &entries)?;
        left -= (entries.len() as u64).min(left);
        match entries.last().and_then(|e| e.get("id")).and_then(Value::as_u64) {
            Some(last) if left > 0 && entries.len() as u32 == limit => after = last,
            _ => return Ok(()),
        }
    }
}

fn list(peer: &mut Peer, filter: &Filter, after: u64, limit: u64, json: bool) -> Result<ExitCode, Failure> {
    let mut shown = 0;
    let mut first = true;
    let mut total = Value::Null;
    pages(peer, filter, after, limit, &mut |data, entries| {
        total = data.clone();
        if json {
            for entry in entries {
                say!("{entry}")?;
            }
        } else if !entries.is_empty() {
            let mut table = comfy_table::Table::new();
            table.load_style(comfy_table::presets::NOTHING);
            if std::mem::take(&mut first) {
                table.set_header(["id", "came", "processor", "why", "bytes", "from", "to", "subject"]);
            }
            for entry in entries {
                let text = |name: &str| match entry.get(name) {
                    Some(Value::String(s)) => plain(s).into_owned(),
                    Some(other) => other.to_string(),
                    None => String::new(),
                };
                let from = if text("from").is_empty() { "<>".to_owned() } else { text("from") };
                let also = if entry.get("passedOn").is_some() { ", passed on" } else { "" };
                let cut = entry.get("kept").map(|kept| format!(" ({kept} kept)")).unwrap_or_default();
                let came = text("time").chars().take(19).collect::<String>() + "Z";
                table.add_row([
                    text("id"),
                    came,
                    text("processor"),
                    text("why") + also,
                    text("size") + &cut,
                    from,
                    text("to"),
                    text("subject"),
                ]);
            }
            for line in table.to_string().lines() {
                say!("{}", line.trim_end())?;
            }
        }
        shown += entries.len();
        Ok(())
    })?;
    if !json {
        let n = |name: &str| total.get(name).and_then(Value::as_u64).unwrap_or(0);
        let (mails, bytes, limit) = (n("mails"), n("bytes"), n("limit"));
        say!("{shown} shown of {mails} mails; they take {bytes} bytes of {limit} (report-quarantine-size)")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(peer: &mut Peer, id: u64, raw: bool, json: bool) -> Result<ExitCode, Failure> {
    let data = peer.data(Command::ReportQuarantine(QuarantineCommand::Show { id }))?;
    if json {
        say!("{data}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mail = data.get("mail").and_then(Value::as_str).unwrap_or("");
    let mail = data_encoding::BASE64.decode(mail.as_bytes()).map_err(|_| "the answer is damaged")?;
    if raw {
        std::io::stdout().lock().write_all(&mail)?;
    } else {
        let text = |name: &str| plain(data.get(name).and_then(Value::as_str).unwrap_or(""));
        say!("mail {id} to {}, from <{}>, came {}: {}", text("to"), text("from"), text("time"), text("why"))?;
        say!()?;
        for line in String::from_utf8_lossy(&mail).lines() {
            say!("{}", line.chars().map(|c| if c == '\t' { c } else { fit(c) }).collect::<String>().trim_end())?;
        }
    }
    if let Some(kept) = data.get("kept") {
        let size = data.get("size").cloned().unwrap_or_default();
        eprintln!("carom: the mail was too large to be kept whole: this is the first {kept} bytes of {size}");
    } else if data.get("cut").and_then(Value::as_bool).unwrap_or(false) {
        eprintln!("carom: the mail is larger; only its beginning is shown");
    }
    Ok(ExitCode::SUCCESS)
}

/// Replays or drops what is chosen, in portions.
fn each(
    peer: &mut Peer,
    which: &WhichArgs,
    json: bool,
    what: &str,
    command: fn(Vec<u64>) -> QuarantineCommand,
) -> Result<ExitCode, Failure> {
    let mut ids = which.ids.clone();
    if ids.is_empty() {
        pages(peer, &which.filter.filter(), 0, u64::MAX, &mut |_, entries| {
            ids.extend(entries.iter().filter_map(|e| e.get("id").and_then(Value::as_u64)));
            Ok(())
        })?;
    }
    let bar = match std::io::stderr().is_terminal() && ids.len() > AT_ONCE {
        true => indicatif::ProgressBar::new(ids.len() as u64),
        false => indicatif::ProgressBar::hidden(),
    };
    let (mut done, mut events, mut stayed, mut failed, mut cut) = (0u64, 0u64, 0u64, 0u64, 0u64);
    for portion in ids.chunks(AT_ONCE) {
        let data = peer.data(Command::ReportQuarantine(command(portion.to_vec())))?;
        for result in data.get("results").and_then(Value::as_array).into_iter().flatten() {
            let id = result.get("id").and_then(Value::as_u64).unwrap_or(0);
            cut += u64::from(result.get("cut").is_some());
            match result.get("result").and_then(Value::as_str).unwrap_or("") {
                "recorded" => {
                    done += 1;
                    events += result.get("events").and_then(Value::as_u64).unwrap_or(0);
                }
                "auto-reply" | "dropped" => done += 1,
                "not-understood" => stayed += 1,
                _ => {
                    failed += 1;
                    let why = result.get("error").and_then(Value::as_str).unwrap_or("it is not in the quarantine");
                    eprintln!("carom: mail {id}: {why}");
                }
            }
            if json {
                say!("{result}")?;
            }
        }
        bar.inc(portion.len() as u64);
    }
    bar.finish_and_clear();
    if !json {
        match what {
            "replayed" => {
                say!("{done} mails replayed ({events} events), {stayed} still not understood")?;
                if cut > 0 {
                    say!("of {cut} of them only the beginning was there: they were too large to be kept whole")?;
                }
            }
            _ => say!("{done} mails dropped")?,
        }
    }
    Ok(if stayed + failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
