//! Those who hand mail in: `<source>`s and `<smtp-user>`s, and what each may do.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::inherit::Overlay;
use crate::config::unsubscribe::ListUnsubscribe;
use crate::event::ScopeKinds;

/// `<source>` blocks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sources {
    /// By prefix: (network, prefix length, settings merged from all wider prefixes), most specific first.
    pub by_prefix: Vec<(IpAddr, u8, Arc<Source>)>,
    /// By lower-cased name, merged onto the default source: `{auth}`, `{pickup}` and named ones.
    pub by_name: BTreeMap<String, Arc<Source>>,
    /// The named ones unmerged, to be put over the source of an address.
    pub(in crate::config) overlays: BTreeMap<String, Overlay>,
}

/// What a submitter may do.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// As written in the configuration, for logs.
    pub name: String,
    /// `smtp-service`: whether mail is taken at all; no greets with 521.
    pub smtp_service: bool,
    /// `always-allow-relaying`: accept mail for any domain, not only for relay domains and our own.
    pub always_allow_relaying: bool,
    /// `allow-auth`: offer AUTH.
    pub allow_auth: bool,
    /// `require-auth`: take no mail before authentication.
    pub require_auth: bool,
    /// `allow-starttls`: offer STARTTLS.
    pub allow_starttls: bool,
    /// `require-starttls-before-auth`: offer AUTH only after STARTTLS.
    pub require_starttls_before_auth: bool,
    /// `allow-unencrypted-plain-auth`: offer PLAIN and LOGIN without TLS.
    pub allow_unencrypted_plain_auth: bool,
    /// Bytes; 0 is unlimited (the store's own limit still holds).
    pub max_message_size: u64,
    /// `max-message-hops`: Received headers beyond which mail is in a loop.
    pub max_message_hops: u32,
    /// 0 is unlimited.
    pub max_rcpt_per_message: u32,
    /// `add-received-header`: add a Received header.
    pub add_received_header: bool,
    /// `hide-message-source`: leave name and address of the submitter out of Received.
    pub hide_message_source: bool,
    /// `add-message-id-header`: add a Message-ID when there is none.
    pub add_message_id_header: bool,
    /// `add-date-header`: add a Date when there is none.
    pub add_date_header: bool,
    /// `process-x-job`: take the job from the X-Job header.
    pub process_x_job: bool,
    /// `retain-x-job`: keep the X-Job header.
    pub retain_x_job: bool,
    /// `jobid-header`: another header to take the job from.
    pub jobid_header: Option<String>,
    /// `process-x-envid`: take the envelope id from the X-Envid header, and take that header out.
    pub process_x_envid: bool,
    /// `process-x-virtual-mta`: take the VirtualMTA from the X-Virtual-MTA header.
    pub process_x_virtual_mta: bool,
    /// `retain-x-virtual-mta`: keep the X-Virtual-MTA header.
    pub retain_x_virtual_mta: bool,
    /// `default-virtual-mta`: virtualMTA or pool of mail that selects none.
    pub default_virtual_mta: Option<String>,
    /// `reject-invalid-virtual-mta`: refuse mail that selects a VirtualMTA that does not exist.
    pub reject_invalid_virtual_mta: bool,
    /// `accept-invalid-recipients`: accept malformed and suppressed recipients and bounce them at once.
    pub accept_invalid_recipients: bool,
    /// `suppression-lists`: lower-cased names of `<address-list>`s whose addresses get no mail from this source.
    pub suppression_lists: Vec<String>,
    /// `suppression-outcome`; `None`: `accept-invalid-recipients` decides (see [`Source::outcome_of_suppressed`]).
    pub suppression_outcome: Option<SuppressionOutcome>,
    /// `suppression-exempt-scopes`: entries with these scopes do not count.
    pub suppression_exempt_scopes: ScopeKinds,
    /// `suppression-exempt-rules`: entries by these rules do not count; lower-cased, separated by commas.
    pub suppression_exempt_rules: Box<str>,
    /// `list-id-header`: the header that names the mailing list, before List-Id.
    pub list_id_header: Option<String>,
    /// `suppress-local-dsn`: send no reports about mail of this source.
    pub suppress_local_dsn: bool,
    /// `dsn-return-default`: what reports about mail of this source return of it: header or whole message.
    pub dsn_return_default: DsnReturn,
    /// `smtp-command-timeout`: wait for a command.
    pub smtp_command_timeout: Duration,
    /// `smtp-data-timeout`: wait for content.
    pub smtp_data_timeout: Duration,
    /// `log-connections`: log when sessions begin and end.
    pub log_connections: bool,
    /// `log-commands`: log the SMTP dialogue.
    pub log_commands: bool,
    /// `add-list-unsubscribe` and what belongs to it.
    pub list_unsubscribe: ListUnsubscribe,
}

impl Default for Source {
    fn default() -> Source {
        Source {
            name: "default".into(),
            smtp_service: true,
            always_allow_relaying: false,
            allow_auth: true,
            require_auth: false,
            allow_starttls: true,
            require_starttls_before_auth: false,
            allow_unencrypted_plain_auth: false,
            max_message_size: 0,
            max_message_hops: 100,
            max_rcpt_per_message: 0,
            add_received_header: true,
            hide_message_source: false,
            add_message_id_header: false,
            add_date_header: false,
            process_x_job: false,
            retain_x_job: false,
            jobid_header: None,
            process_x_envid: false,
            process_x_virtual_mta: false,
            retain_x_virtual_mta: false,
            default_virtual_mta: None,
            reject_invalid_virtual_mta: true,
            accept_invalid_recipients: false,
            suppression_lists: Vec::new(),
            suppression_outcome: None,
            suppression_exempt_scopes: ScopeKinds::default(),
            suppression_exempt_rules: "".into(),
            list_id_header: None,
            suppress_local_dsn: false,
            dsn_return_default: DsnReturn::Headers,
            smtp_command_timeout: Duration::from_secs(600),
            smtp_data_timeout: Duration::from_secs(600),
            log_connections: false,
            log_commands: false,
            list_unsubscribe: ListUnsubscribe::default(),
        }
    }
}

impl Source {
    /// What becomes of a suppressed recipient of this source's mail.
    pub fn outcome_of_suppressed(&self) -> SuppressionOutcome {
        self.suppression_outcome.unwrap_or(match self.accept_invalid_recipients {
            true => SuppressionOutcome::Bounce,
            false => SuppressionOutcome::Reject,
        })
    }
}

/// What becomes of a suppressed recipient (`suppression-outcome`). One that is known to be suppressed only when the
/// header section is there, or while the mail waits, can't be refused any more: then `Reject` is as `Bounce`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SuppressionOutcome {
    /// Refused at RCPT.
    Reject,
    /// Accepted, and ended with a `b` record and, where the sender asked for reports, a report.
    Bounce,
    /// Accepted, and ended with a `b` record; the sender gets no report, even if he asked for one.
    Drop,
}

/// What a delivery report returns of the message it is about (RFC 3461, 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DsnReturn {
    /// Its header; also what `system` means.
    Headers,
    /// All of it.
    Full,
}

/// `<smtp-user>`.
#[derive(Clone, PartialEq, Eq)]
pub struct User {
    /// As written; the map's key is lower-cased.
    pub name: String,
    /// In clear, as CRAM-MD5 needs it. Never in logs or `Debug`.
    pub password: String,
    /// The named source that holds for the user; `None` is `{auth}`.
    pub source: Option<String>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("name", &self.name).field("source", &self.source).finish_non_exhaustive()
    }
}
