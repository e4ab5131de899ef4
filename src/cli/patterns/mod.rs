//! `carom patterns`: the workbench of the postmaster. One file per subcommand; what they compute is in `classify`.

mod acct;
mod apply;
mod coverage;
mod diff;
mod explain;
mod lint;
mod paint;
mod rules;
mod test;
mod unmatched;

use std::process::ExitCode;

use super::Failure;
use crate::classify::Rule;
use crate::config::PatternSource;

/// Arguments of `carom patterns`.
#[derive(Debug, clap::Args)]
#[command(after_help = "A round of tuning:\n  \
    carom patterns coverage --acct /var/log/carom/events        how much is decided by what\n  \
    carom patterns unmatched --acct /var/log/carom/events       what no rule knows, with rules for it\n  \
    carom patterns explain '550 5.7.1 blocked, see ...'         why a reply is what it is\n  \
    carom patterns lint own.conf && carom patterns test own.conf\n  \
    carom patterns diff --acct /var/log/carom/events --old own.conf --new edited.conf\n  \
    carom patterns apply                                        check all, then reload the running server")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check pattern files, or all the rules of a configuration
    Lint(lint::Args),
    /// Why a reply gets its category
    Explain(explain::Args),
    /// How much of the history each category and rule decides
    Coverage(coverage::Args),
    /// Replies that no pattern knows, grouped, with suggested rules
    Unmatched(unmatched::Args),
    /// What edited rules would change in the history
    Diff(diff::Args),
    /// Run the examples in pattern files
    Test(test::Args),
    /// Check the rules, then have the running server use them
    Apply(apply::Args),
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Lint(args) => lint::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Coverage(args) => coverage::run(&args),
        Command::Unmatched(args) => unmatched::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Apply(args) => apply::run(&args),
    }
}

/// The rules of these sources and the shipped ones, in order. Sources that were compiled have no mistakes.
fn known_rules(sources: &[PatternSource]) -> Vec<Rule> {
    crate::classify::explain::known_rules(sources).0
}
