//! `<source>` and `<smtp-user>`: what a submitter may do (directives.md, 2.7 and 2.8).

use std::sync::Arc;

use super::Directive;
use super::set::{Change, Set};
use super::source_suppression as suppression;
use super::unsubscribe;
use crate::config::lexer::Args;
use crate::config::model::{DsnReturn, Source};
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};

type S = Directive<Source>;
type U = Directive<UserBlock>;

const DAY: u64 = 86_400;

/// The rows of `<source>`.
pub const SOURCE: &[S] = &[
    S::one(
        "smtp-service",
        Set::Bool(|s, v| s.smtp_service = v),
        "yes",
        "Whether mail is taken at all; no greets with 521",
    ),
    S::one(
        "always-allow-relaying",
        Set::Bool(|s, v| s.always_allow_relaying = v),
        "no",
        "Accept mail for any domain, not only for relay domains and our own",
    ),
    S::one("allow-auth", Set::Bool(|s, v| s.allow_auth = v), "yes", "Offer AUTH"),
    S::one("require-auth", Set::Bool(|s, v| s.require_auth = v), "no", "Take no mail before authentication"),
    S::one("allow-starttls", Set::Bool(|s, v| s.allow_starttls = v), "yes", "Offer STARTTLS"),
    S::one(
        "require-starttls-before-auth",
        Set::Bool(|s, v| s.require_starttls_before_auth = v),
        "no",
        "Offer AUTH only after STARTTLS",
    ),
    S::one(
        "allow-unencrypted-plain-auth",
        Set::Bool(|s, v| s.allow_unencrypted_plain_auth = v),
        "no",
        "Offer PLAIN and LOGIN without TLS",
    ),
    S::one(
        "max-message-size",
        Set::Size(|s, v| s.max_message_size = v),
        "unlimited",
        "Largest message taken; 0 is no limit",
    ),
    S::one(
        "max-message-hops",
        Set::Int(1, 10_000, |s, v| s.max_message_hops = small(v)),
        "100",
        "Received headers beyond which mail is in a loop",
    ),
    S::one(
        "max-rcpt-per-message",
        Set::Limit("unlimited", |s, v| s.max_rcpt_per_message = small(v.unwrap_or(0))),
        "0",
        "Recipients per message; 0 is no limit",
    ),
    S::one("add-received-header", Set::Bool(|s, v| s.add_received_header = v), "yes", "Add a Received header"),
    S::one(
        "hide-message-source",
        Set::Bool(|s, v| s.hide_message_source = v),
        "no",
        "Leave name and address of the submitter out of Received",
    ),
    S::one(
        "add-message-id-header",
        Set::Bool(|s, v| s.add_message_id_header = v),
        "no",
        "Add a Message-ID when there is none",
    ),
    S::one("add-date-header", Set::Other("{no,yes}", "yes", date_header), "no", "Add a Date when there is none"),
    S::one("process-x-job", Set::Bool(|s, v| s.process_x_job = v), "no", "Take the job from the X-Job header"),
    S::one("retain-x-job", Set::Bool(|s, v| s.retain_x_job = v), "no", "Keep the X-Job header"),
    S::one(
        "jobid-header",
        Set::Text(|s, v| s.jobid_header = Some(v).filter(|v| !v.is_empty())),
        "",
        "Another header to take the job from",
    ),
    S::one(
        "process-x-envid",
        Set::Bool(|s, v| s.process_x_envid = v),
        "no",
        "Take the envelope id from the X-Envid header, and take that header out",
    ),
    S::one(
        "process-x-virtual-mta",
        Set::Bool(|s, v| s.process_x_virtual_mta = v),
        "no",
        "Take the VirtualMTA from the X-Virtual-MTA header",
    ),
    S::one("retain-x-virtual-mta", Set::Bool(|s, v| s.retain_x_virtual_mta = v), "no", "Keep the X-Virtual-MTA header"),
    S::one(
        "default-virtual-mta",
        Set::VirtualMta(|s, v| s.default_virtual_mta = v),
        "",
        "VirtualMTA or pool of mail that selects none",
    ),
    S::one(
        "reject-invalid-virtual-mta",
        Set::Bool(|s, v| s.reject_invalid_virtual_mta = v),
        "yes",
        "Refuse mail that selects a VirtualMTA that does not exist",
    ),
    S::one(
        "accept-invalid-recipients",
        Set::Bool(|s, v| s.accept_invalid_recipients = v),
        "no",
        "Accept malformed and suppressed recipients and bounce them at once",
    ),
    suppression::LISTS,
    suppression::OUTCOME,
    suppression::EXEMPT_SCOPES,
    suppression::EXEMPT_RULES,
    suppression::LIST_ID_HEADER,
    S::one(
        "suppress-local-dsn",
        Set::Bool(|s, v| s.suppress_local_dsn = v),
        "no",
        "Send no reports about mail of this source",
    ),
    S::one(
        "dsn-return-default",
        Set::Other("{headers,full,system}", "full", dsn_return),
        "system",
        "What reports about mail of this source return of it: its header (also system) or all of it",
    ),
    unsubscribe::ADD,
    unsubscribe::URL,
    unsubscribe::MAILTO,
    unsubscribe::DEFAULT_LIST,
    S::one("smtp-command-timeout", Set::Time(1, DAY, |s, v| s.smtp_command_timeout = v), "10m", "Wait for a command"),
    S::one("smtp-data-timeout", Set::Time(1, DAY, |s, v| s.smtp_data_timeout = v), "10m", "Wait for content"),
    S::one("log-connections", Set::Bool(|s, v| s.log_connections = v), "no", "Log when sessions begin and end"),
    S::one("log-commands", Set::Bool(|s, v| s.log_commands = v), "no", "Log the SMTP dialogue"),
];

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn dsn_return(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let help = "write headers, full or system".to_owned();
    let Some(word) = args.word() else { return Err(ValueError { message: "no value".into(), help }) };
    let what = match word.text.to_ascii_lowercase().as_str() {
        "headers" | "system" => DsnReturn::Headers,
        "full" => DsnReturn::Full,
        other => return Err(ValueError { message: format!("\"{other}\" is not what a report can return"), help }),
    };
    Ok(Arc::new(move |s| s.dsn_return_default = what))
}

fn date_header(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<Source>, ValueError> {
    let word = args.word();
    let text = word.as_ref().map(|w| w.text.as_str()).unwrap_or_default();
    let add = if text.eq_ignore_ascii_case("override") {
        let span = word.as_ref().map(|w| w.span).unwrap_or_default();
        reading.warning(span, "add-date-header override is not supported yet; read as yes", "write yes or no");
        true
    } else {
        values::boolean(text)?
    };
    Ok(Arc::new(move |s| s.add_date_header = add))
}

/// What stands in a `<smtp-user>`.
#[derive(Clone, Default)]
pub struct UserBlock {
    /// `password`
    pub password: Option<String>,
    /// `source`
    pub source: Option<String>,
    /// Whether the method is `password`.
    pub other_method: bool,
}

/// The rows of `<smtp-user>`.
pub const USER: &[U] = &[
    U::one("password", Set::Text(|u, v| u.password = Some(v)), "", "What the user proves to know"),
    U::one("source", Set::Source(|u, v| u.source = Some(v)), "{auth}", "The source whose settings hold for the user"),
    U::one(
        "authentication-method",
        Set::Other("{password}", "password", method),
        "password",
        "How the user is known: by password",
    )
    .also(&["auth-type"]),
];

fn method(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<UserBlock>, ValueError> {
    let help = "write password".to_owned();
    let Some(word) = args.word() else { return Err(ValueError { message: "no method".into(), help }) };
    match word.text.to_ascii_lowercase().as_str() {
        "password" => Ok(Arc::new(|u| u.other_method = false)),
        other @ ("system" | "certificate") => {
            let message = format!("authentication-method {other} is not supported yet; this user can't log in");
            reading.warning(word.span, message, help);
            Ok(Arc::new(|u| u.other_method = true))
        }
        _ => Err(ValueError { message: "not an authentication method".into(), help }),
    }
}
