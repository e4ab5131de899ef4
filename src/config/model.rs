//! The configuration as the rest of the house sees it: typed, complete, immutable.
//!
//! Names are the directives' own (reference/directives.md), with underscores. A value stands here only when the
//! program obeys it.

mod acct_file;
mod http;
mod patterns;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::address_list::{AddressList, Entries};
use super::auto_suppression::AutoSuppression;
use super::body_pattern::BodyPattern;
use super::command::Command;
use super::delivery_macro::Template;
pub use super::inherit::Domains;
use super::job_guard::JobGuard;
use super::push::Secret;
use super::unsubscribe::UnsubscribeListener;
use crate::event::{Address, AddressKey, Kinds, TokenKey};

pub use self::acct_file::{AcctFile, AcctFormat, Compression, FieldChoice};
pub use self::http::{HttpAccess, HttpMgmt};
pub use self::patterns::{PatternFile, PatternSource, RetryPattern};
pub use self::source::{DsnReturn, Source, Sources, SuppressionOutcome, User};

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// Names of this host; the first is announced in banner and EHLO.
    pub host_names: Vec<String>,
    /// `postmaster`.
    pub postmaster: Vec<String>,
    /// `custom-dsn-from-header`: display name (may be empty) and address in From of delivery reports; `None`:
    /// MAILER-DAEMON at the first host name.
    pub custom_dsn_from_header: Option<(String, String)>,
    /// Where the store is.
    pub spool: PathBuf,
    /// Free space below which new mail is refused (`min-free-space`).
    pub min_free_space: u64,
    /// `log-file`; `None` logs to standard error.
    pub log_file: Option<PathBuf>,
    /// `smtp-listener`s.
    pub listeners: Vec<Listener>,
    /// `total-max-smtp-in`.
    pub total_max_smtp_in: u32,
    /// `total-max-smtp-out`.
    pub total_max_smtp_out: u32,
    /// `spool-max-recipients`; `None` is `auto`.
    pub spool_max_recipients: Option<u64>,
    /// `name-server`s; empty means the system's.
    pub name_servers: Vec<SocketAddr>,
    /// `smtp-server-tls-certificate`: PEM certificate chain and key; `None` makes a self-signed one.
    pub smtp_server_tls_certificate: Option<PathBuf>,
    /// `relay-domain`s.
    pub relay_domains: Vec<DomainPattern>,
    /// `<source>`s by address prefix, most specific first, and by name.
    pub sources: Sources,
    /// `<smtp-user>`s by lower-cased name.
    pub users: BTreeMap<String, User>,
    /// `<virtual-mta>`s by lower-cased name; `{default}` is always there.
    pub virtual_mtas: BTreeMap<String, Arc<VirtualMta>>,
    /// `<virtual-mta-pool>`s by lower-cased name: their members.
    pub pools: BTreeMap<String, Vec<String>>,
    /// The queue settings of every `<domain>` block, resolved by [`Config::queue_settings`].
    pub domains: Domains,
    /// `<acct-file>`s.
    pub acct_files: Vec<AcctFile>,
    /// `<bounce-category-patterns>` entries in file order, then those of pattern files.
    pub bounce_category_patterns: Vec<PatternSource>,
    /// `<smtp-pattern-list>`s by lower-cased name: their entries in file order.
    pub smtp_pattern_lists: BTreeMap<String, Vec<PatternSource>>,
    /// `<smtp-pattern>`s that say when a recipient is tried again, in file order.
    pub retry_patterns: Vec<RetryPattern>,
    /// `<address-list>`s at the top level by lower-cased name: whom sources that cite them do not mail.
    pub address_lists: BTreeMap<String, NamedAddressList>,
    /// `<bounce-processor>`.
    pub bounce_processor: Option<Processor>,
    /// `<feedback-loop-processor>`.
    pub feedback_loop_processor: Option<Processor>,
    /// Signed return paths: `<return-path-token>`.
    pub return_path_token: Option<ReturnPathToken>,
    /// `<job-guard>`s in file order; [`Config::job_guard`] finds the one that holds.
    pub job_guards: Vec<JobGuard>,
    /// `<unsubscribe-listener>`s.
    pub unsubscribe_listeners: Vec<UnsubscribeListener>,
    /// The `list-unsubscribe-mailto` of every `<source>`: mail to these is for us.
    pub unsubscribe_addresses: BTreeSet<AddressKey>,
    /// Headers to keep with each event: the union of what acct-files ask for, lower-cased.
    pub kept_headers: Vec<String>,
    /// `ledger-retention SIZE` and `ledger-retention TIME`.
    pub ledger_retention_bytes: u64,
    /// See `ledger_retention_bytes`.
    pub ledger_retention: Duration,
    /// `send-index-retention`.
    pub send_index_retention: Duration,
    /// `send-index-max`: most recipients of delivered mail that it remembers.
    pub send_index_max: u64,
    /// `report-quarantine-size`: bytes of reports that nobody understood.
    pub report_quarantine_size: u64,
    /// `alarm-to`: who gets a mail about an alarm; without it `postmaster`.
    pub alarm_to: Vec<String>,
    /// `alarm-command`: a program that gets each alarm as JSON on its standard input.
    pub alarm_command: Option<PathBuf>,
    /// `novelty-alarm-...`.
    pub novelty_alarm: NoveltyAlarm,
    /// `<auto-suppression>`; the defaults where there is none.
    pub auto_suppression: AutoSuppression,
    /// `suppression-storage hashed`: of the suppression list only hashes are kept.
    pub suppression_hashed: bool,
    /// `suppression-hash-key`: the hashes are made with it.
    pub suppression_hash_key: Option<Secret>,
    /// `http-...`: the management API.
    pub http: HttpMgmt,
    /// `command-socket FILE`: where `carom reload` and `carom suppress` reach the running server.
    pub command_socket: PathBuf,
}

/// When and how the operator hears of replies in words never seen before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoveltyAlarm {
    /// `novelty-alarm-count`: so many at one provider; 0 is never.
    pub count: u32,
    /// `novelty-alarm-within`: in this time.
    pub within: Duration,
    /// `novelty-alarm-to`: who gets a mail; without it `alarm-to`, then `postmaster`.
    pub to: Vec<String>,
    /// `novelty-alarm-command`: a program that gets the alarm as JSON on its standard input.
    pub command: Option<PathBuf>,
}

impl Default for NoveltyAlarm {
    fn default() -> NoveltyAlarm {
        NoveltyAlarm { count: 20, within: Duration::from_secs(600), to: Vec::new(), command: None }
    }
}

/// A listener for mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// `source=NAME`.
    pub source: Option<String>,
    /// `tls-certificate`, overriding the global one.
    pub tls_certificate: Option<PathBuf>,
}

/// `<virtual-mta>`.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualMta {
    /// As written; the map's key is lower-cased.
    pub name: String,
    /// (address, EHLO name); rotated. Empty: the system chooses the address.
    pub smtp_source_hosts: Vec<(IpAddr, String)>,
    /// Its own `host-name`; already used for source hosts without a name.
    pub host_name: Option<String>,
    /// Connections over all queues of the VirtualMTA.
    pub max_smtp_out: Option<u32>,
    /// `max-smtp-msg-rate`: recipients attempted per time over all queues of the VirtualMTA.
    pub max_smtp_msg_rate: Option<Rate>,
}

/// So many per so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; never 0.
    pub count: u64,
    /// Per how long; never 0.
    pub per: Duration,
}

/// Which domains a block is about (directives.md, 1.4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DomainPattern {
    /// `*`
    Any,
    /// `foo.com`
    Exact(String),
    /// `*.foo.com`: proper subdomains.
    Subdomains(String),
    /// `[*.]foo.com`: the name and all below it.
    NameAndSubdomains(String),
    /// `[ip/len]`: address literals.
    Literal(IpAddr, u8),
}

/// Where mail of one queue goes and how (`show settings`).
#[derive(Debug, Clone, PartialEq)]
pub struct QueueSettings {
    /// `type`: how mail leaves.
    pub transport: Transport,
    /// `file-format`: what a mail becomes there.
    pub file_format: FileFormat,
    /// `file-destination`: folder or mailbox, with macros; without one `type file` can't deliver.
    pub file_destination: Option<Template>,
    /// `command`: the program of `type pipe`; without one it can't deliver.
    pub command: Option<Command>,
    /// `command-timeout`: how long a program may take for a recipient.
    pub command_timeout: Duration,
    /// `macro-variables-preserve-case`: `$to` and `$from` are not made lower case.
    pub macro_variables_preserve_case: bool,
    /// `discard-as-bounce`: A discarding queue records b instead of d.
    pub discard_as_bounce: bool,
    /// `bounce-after`: age at which mail bounces that is still queued.
    pub bounce_after: Duration,
    /// At least one; the last repeats.
    pub retry_after: Vec<Duration>,
    /// `retry-recipients-after`: wait of a recipient that got a 4xx reply.
    pub retry_recipients_after: Duration,
    /// `suppression-hold-retry`: how soon a recipient on hold is looked at again.
    pub suppression_hold_retry: Duration,
    /// `max-smtp-out`: connections per queue.
    pub max_smtp_out: u32,
    /// `max-msg-rate`: recipients attempted per time, whether they succeed or not.
    pub max_msg_rate: Option<Rate>,
    /// `max-connect-rate`: connections opened per time.
    pub max_connect_rate: Option<Rate>,
    /// 0 is unlimited.
    pub max_msg_per_connection: u32,
    /// `max-rcpt-per-message`: recipients per transaction; more are split over several; 0 is no limit.
    pub max_rcpt_per_message: u32,
    /// `connection-idle-timeout`: how long an idle connection waits for more mail, up to 10m.
    pub connection_idle_timeout: Duration,
    /// `smtp-hosts`: hosts to deliver to instead of the domain's MX; commas between equals, semicolons between
    /// levels of preference.
    pub smtp_hosts: Vec<SmtpHost>,
    /// `default-smtp-port`: port where smtp-hosts names none.
    pub default_smtp_port: u16,
    /// `use-starttls`: encrypt when the other side offers STARTTLS.
    pub use_starttls: bool,
    /// `require-starttls`: do not send without TLS.
    pub require_starttls: bool,
    /// `smtp-tls-ca-file`: PEM file of roots that the other side's certificate must lead to.
    pub smtp_tls_ca_file: Option<PathBuf>,
    /// `bounce-upon-no-mx`: bounce when the domain has no MX instead of trying its address.
    pub bounce_upon_no_mx: bool,
    /// `bounce-upon-5xx-greeting`: bounce on a 5xx greeting; no: treat it as temporary and try the next host.
    pub bounce_upon_5xx_greeting: bool,
    /// `connect-timeout`: wait for a TCP connection.
    pub connect_timeout: Duration,
    /// `smtp-greeting-timeout`: wait for the greeting.
    pub smtp_greeting_timeout: Duration,
    /// `data-send-timeout`: wait for one piece of the content to be taken.
    pub data_send_timeout: Duration,
    /// `smtp-data-termination-timeout`: wait for the reply after the final dot.
    pub smtp_data_termination_timeout: Duration,
    /// `ignore-pipelining`: never pipeline commands.
    pub ignore_pipelining: bool,
    /// `ignore-8bitmime`: never declare 8-bit content.
    pub ignore_8bitmime: bool,
    /// `ignore-dsn`: never use DSN parameters (RFC 3461).
    pub ignore_dsn: bool,
    /// `notify-of-delay-every`: how often a sender who asked for it is told that mail waits; `None` is never.
    pub notify_of_delay_every: Option<Duration>,
    /// `disable-acct-records`: record types that are not written for the queue (of d, b, t, tq).
    pub disable_acct_records: Kinds,
    /// `log-connections`: log when outbound sessions begin and end.
    pub log_connections: bool,
    /// `log-commands`: log the SMTP dialogue.
    pub log_commands: bool,
    /// `log-transfer-failures`: log a warning when a connection breaks within a message.
    pub log_transfer_failures: bool,
    /// `log-messages`: of the reserved queues `{bounce}` and `{feedbackLoop}`: log each mail that came there.
    pub log_messages: bool,
    /// `add-token-header`: put the signed token into the header of what is sent.
    pub add_token_header: bool,
    /// `smtp-pattern-list`: lower-cased names of the lists that the replies to the queue are held against, those of the
    /// narrowest `<domain>` first.
    pub smtp_pattern_lists: Vec<String>,
    /// `backoff-retry-after`: `retry_after` in backoff mode; at least one.
    pub backoff_retry_after: Vec<Duration>,
    /// `backoff-max-smtp-out`: `max_smtp_out` in backoff mode.
    pub backoff_max_smtp_out: u32,
    /// `backoff-max-msg-rate`: `max_msg_rate` in backoff mode; `None` is the normal one.
    pub backoff_max_msg_rate: Option<Option<Rate>>,
    /// `backoff-max-connect-rate`: `max_connect_rate` in backoff mode; `None` is the normal one.
    pub backoff_max_connect_rate: Option<Option<Rate>>,
    /// `backoff-to-normal-after`: so long after it began backoff mode ends; `None` is never.
    pub backoff_to_normal_after: Option<Duration>,
    /// `backoff-to-normal-after-delivery`: the first delivery ends backoff mode.
    pub backoff_to_normal_after_delivery: bool,
    /// `backoff-upon-all-sources-disabled`: when no source address is left, backoff mode begins.
    pub backoff_upon_all_sources_disabled: bool,
    /// `reenable-source-ip-after`: how long a source address stays disabled when the pattern does not say; `None` is for
    /// good.
    pub reenable_source_ip_after: Option<Duration>,
    /// `max-errors-per-domain`: so many failures in a row begin backoff mode; 0 is never.
    pub max_errors_per_domain: u32,
}

impl Default for QueueSettings {
    fn default() -> QueueSettings {
        QueueSettings {
            transport: Transport::Smtp,
            file_format: FileFormat::New { envelope: false },
            file_destination: None,
            command: None,
            command_timeout: Duration::from_secs(600),
            macro_variables_preserve_case: false,
            discard_as_bounce: false,
            bounce_after: Duration::from_secs(4 * 86_400 + 12 * 3600),
            retry_after: vec![Duration::from_secs(600)],
            retry_recipients_after: Duration::from_secs(600),
            suppression_hold_retry: Duration::from_secs(30),
            max_smtp_out: 20,
            max_msg_rate: None,
            max_connect_rate: None,
            max_msg_per_connection: 0,
            max_rcpt_per_message: 1000,
            connection_idle_timeout: Duration::ZERO,
            smtp_hosts: Vec::new(),
            default_smtp_port: 25,
            use_starttls: true,
            require_starttls: false,
            smtp_tls_ca_file: None,
            bounce_upon_no_mx: false,
            bounce_upon_5xx_greeting: true,
            connect_timeout: Duration::from_secs(120),
            smtp_greeting_timeout: Duration::from_secs(300),
            data_send_timeout: Duration::from_secs(180),
            smtp_data_termination_timeout: Duration::from_secs(600),
            ignore_pipelining: false,
            ignore_8bitmime: false,
            ignore_dsn: false,
            notify_of_delay_every: Some(Duration::from_secs(4 * 3600)),
            disable_acct_records: Kinds::default(),
            log_connections: false,
            log_commands: false,
            log_transfer_failures: false,
            log_messages: false,
            add_token_header: false,
            smtp_pattern_lists: Vec::new(),
            backoff_retry_after: vec![Duration::from_secs(3600)],
            backoff_max_smtp_out: 20,
            backoff_max_msg_rate: None,
            backoff_max_connect_rate: None,
            backoff_to_normal_after: None,
            backoff_to_normal_after_delivery: false,
            backoff_upon_all_sources_disabled: false,
            reenable_source_ip_after: None,
            max_errors_per_domain: 0,
        }
    }
}

/// The names under which a `<domain>` speaks of what the bounce processor reads (directives.md, 1.10).
pub const BOUNCE_QUEUES: &[&str] = &["{bounce}", "{bounceProcessor}"];
/// The same of the feedback-loop processor.
pub const FEEDBACK_QUEUES: &[&str] = &["{feedbackLoop}"];

/// `type`: how the mail of a queue leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// To a host, by SMTP.
    Smtp,
    /// Thrown away, on purpose.
    Discard,
    /// Into files of this machine.
    File,
    /// To a program of this machine, one run for each recipient.
    Pipe,
}

/// `file-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// A file of its own for each mail and recipient.
    New {
        /// With the envelope in front, as x-sender and x-receiver.
        envelope: bool,
    },
    /// One mailbox that grows.
    Mbox,
}

/// One item of `smtp-hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpHost {
    /// 0 is tried first; equal ones are chosen among at random.
    pub preference: u16,
    /// Host, address or MX look-up.
    pub target: SmtpTarget,
    /// `None`: `default-smtp-port`.
    pub port: Option<u16>,
}

/// Where an item of `smtp-hosts` leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmtpTarget {
    /// Its A and AAAA records.
    Host(String),
    /// This address.
    Address(IpAddr),
    /// The MX of another name.
    LookupMx(String),
}

/// An `<address-list>` at the top level.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedAddressList {
    /// As written.
    pub name: String,
    /// Its `address` and `domain` lines.
    pub list: AddressList,
    /// Its `address-file`s, which are read elsewhere.
    pub files: Vec<PathBuf>,
}

/// `<bounce-processor>` or `<feedback-loop-processor>`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Processor {
    /// `<address-list>`: whose mail it reads.
    pub list: AddressList,
    /// `deliver-matched-email`: deliver reports after they were read; no: drop them.
    pub deliver_matched_email: bool,
    /// `deliver-unmatched-email`: deliver mail that is no report; no: drop it.
    pub deliver_unmatched_email: bool,
    /// `forward-unmatched-to`: address that gets a copy of mail that is no report.
    pub forward_unmatched_to: Vec<String>,
    /// `forward-errors-to`: address that gets reports that could not be read.
    pub forward_errors_to: Vec<String>,
    /// `quarantine-passed-on`: keep what was not understood also when people get it.
    pub quarantine_passed_on: bool,
    /// `body-pattern-file`s, in their order.
    pub body_patterns: Vec<BodyPattern>,
    /// `log-match-info`: log which of them matched, and what it found.
    pub log_match_info: bool,
}

impl Processor {
    /// Whether mail to this address is for the processor, as far as these entries of its list go.
    pub fn takes(&self, address: &Address, entries: Entries) -> bool {
        self.list.takes(address, entries)
    }
}

/// `<return-path-token>`: the signed tokens that tie a report to its send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReturnPathToken {
    /// Domain of the rewritten return path; reports come back there. `None`: return paths stay as they are.
    pub domain: Option<String>,
    /// The first that holds signs, all that hold verify.
    pub keys: Vec<TokenKey>,
    /// `header`: name of the header field with a token, for queues with `add-token-header yes`.
    pub header: Option<String>,
    /// `encrypt-header`: the token in the header can't be read by others either.
    pub encrypt_header: bool,
}

impl ReturnPathToken {
    /// Whether this is the domain of signed return paths.
    pub fn is_its_domain(&self, domain: &str) -> bool {
        self.domain.as_deref().is_some_and(|d| d.eq_ignore_ascii_case(domain))
    }
}
