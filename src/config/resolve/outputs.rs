//! Blocks of accounting: files, pipes, webhooks and brokers, each an [`AcctFile`].

use std::path::{Component, Path, PathBuf};

use super::Draft;
use crate::config::directives::acct_file::{ACCT_FILE, with_defaults};
use crate::config::directives::push::{NATS, WEBHOOK};
use crate::config::directives::{Directive, Scope};
use crate::config::lexer::Span;
use crate::config::model::*;
use crate::config::names::no_blocks;
use crate::config::push;
use crate::config::tree::{Block, Node, Reading};
use crate::config::values::ValueError;

/// What says how CSV files are written, closed and removed; Parquet files have their own rules.
const CSV_ONLY: &[&str] = &[
    "max-size",
    "strict-columns",
    "move-to",
    "move-interval",
    "delete-after",
    "iso-times",
    "rotate",
    "count-moved-records",
];

/// What is about a program that reads.
const PIPE_ONLY: &[&str] = &["retry-interval", "write-timeout"];

/// What is about files, which a program that reads does not see.
const FILES_ONLY: &[&str] =
    &["max-size", "move-to", "move-interval", "delete-after", "rotate", "count-moved-records", "world-readable"];

/// `path` without `.` and with `..` taken back as far as names allow, so that two spellings of one file are one.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match (part, plain.components().next_back()) {
            (Component::CurDir, _) => {}
            (Component::ParentDir, Some(Component::Normal(_))) => {
                plain.pop();
            }
            _ => plain.push(part),
        }
    }
    plain
}

impl Draft {
    pub(super) fn acct_file(&mut self, reading: &mut Reading<'_>, argument: &str, span: Span, children: &[Node]) {
        let (settings, blocks) = self.settings(reading, Scope::AcctFile, ACCT_FILE, children);
        no_blocks(reading, Scope::AcctFile, &blocks);
        let pipe = argument.trim().strip_prefix('|').map(str::trim);
        if pipe == Some("") {
            reading.error(span, "the pipe has no command", "write <acct-file |/path/to/program arguments>");
            return;
        }
        let path = match pipe {
            Some(command) => PathBuf::from(format!("|{command}")),
            None => plain(&reading.resolve(argument)),
        };
        reading.named_at(&path, span);
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        let format = match extension.as_deref() {
            _ if pipe.is_some() => AcctFormat::Pipe,
            Some("csv") => AcctFormat::Csv,
            Some("parquet") => AcctFormat::Parquet,
            _ => {
                let message = format!("{} is neither a .csv nor a .parquet file", path.display());
                let help =
                    "the format is taken from the name: write NAME.csv or NAME.parquet, or |COMMAND for a program";
                reading.error(span, message, help);
                return;
            }
        };
        let mut file = with_defaults(path, format);
        for setting in &settings {
            setting.apply(&mut file);
            let csv_only = CSV_ONLY.contains(&setting.name);
            let parquet_only = ["close-rows", "close-after", "row-group-rows"].contains(&setting.name);
            let what = match format {
                AcctFormat::Parquet if csv_only || PIPE_ONLY.contains(&setting.name) => "a Parquet file",
                AcctFormat::Csv if parquet_only || PIPE_ONLY.contains(&setting.name) => "a CSV file",
                AcctFormat::Pipe if parquet_only || FILES_ONLY.contains(&setting.name) => "a pipe",
                _ => continue,
            };
            reading.warning(setting.span, format!("{} has no effect on {what}", setting.name), "take it out");
        }
        self.acct_files.push((file, span));
    }

    pub(super) fn webhook(&mut self, reading: &mut Reading<'_>, url: &str, block: &Block) {
        let warned = |reading: &mut Reading<'_>, (file, warning): (AcctFile, Option<&str>)| {
            if let Some(warning) = warning {
                reading.warning(block.span, warning, "write https:");
            }
            file
        };
        let file = push::webhook(url).map(|found| warned(reading, found));
        if let Some(file) = self.handed_on(reading, Scope::Webhook, WEBHOOK, file, block)
            && file.push.secrets.is_empty()
        {
            let message = "no secret is given: whoever knows the URL can send records that look like ours";
            reading.note(block.span, message, "write secret KEY; make one with: openssl rand -hex 32");
        }
    }

    pub(super) fn nats(&mut self, reading: &mut Reading<'_>, urls: &str, block: &Block) {
        let Some(file) = self.handed_on(reading, Scope::Nats, NATS, push::nats(urls), block) else { return };
        let (user, password) = (!file.push.user.is_empty(), !file.push.password.is_empty());
        let ways = [user, !file.push.token.is_empty(), file.push.credentials.is_some()];
        if user != password {
            let (given, missing) = if user { ("user", "password") } else { ("password", "user") };
            reading.error(block.span, format!("{given} without {missing}"), format!("write {missing}, too"));
        }
        if ways.iter().filter(|w| **w).count() > 1 {
            let help = "keep one of user and password, token, credentials";
            reading.error(block.span, "there is more than one way to log in", help);
        }
    }

    /// A block of an output that hands records on.
    fn handed_on(
        &mut self,
        reading: &mut Reading<'_>,
        scope: Scope,
        table: &'static [Directive<AcctFile>],
        file: Result<AcctFile, ValueError>,
        block: &Block,
    ) -> Option<AcctFile> {
        let (settings, blocks) = self.settings(reading, scope, table, &block.children);
        no_blocks(reading, scope, &blocks);
        let mut file = match file {
            Ok(file) => file,
            Err(e) => {
                reading.error(block.span, format!("<{}>: {e}", block.tag), e.help);
                return None;
            }
        };
        settings.iter().for_each(|s| s.apply(&mut file));
        push::named(&mut file);
        reading.named_at(&file.path, block.span);
        self.acct_files.push((file.clone(), block.span));
        Some(file)
    }
}
