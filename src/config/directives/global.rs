//! What stands outside of blocks, and `<spool>` and `<smtp-listener>` (directives.md, 2.1, 2.2 and 2.17).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Directive;
use super::http;
use super::set::{Change, Reference, Set};
use super::virtual_mta::{SourceHost, read_source_hosts};
use crate::config::lexer::{Args, Span};
use crate::config::model::{DomainPattern, HttpMgmt, Listener, NoveltyAlarm, PatternFile};
use crate::config::pattern_file;
use crate::config::push::{self, Secret};
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};

type G = Directive<Global>;

const DAY: u64 = 86_400;

/// What stands at the top level.
#[derive(Clone)]
pub struct Global {
    /// `host-name`
    pub host_names: Vec<String>,
    /// `postmaster`
    pub postmaster: Vec<String>,
    /// `custom-dsn-from-header`: display name and address
    pub dsn_from: Option<(String, String)>,
    /// `spool DIR`
    pub spool: Option<PathBuf>,
    /// `spool-min-free-space` (written in megabytes), in bytes
    pub min_free_space: u64,
    /// `log-file`
    pub log_file: Option<PathBuf>,
    /// `smtp-listener` lines
    pub listeners: Vec<(Listener, Span)>,
    /// `total-max-smtp-in`
    pub total_max_smtp_in: u32,
    /// `total-max-smtp-out`
    pub total_max_smtp_out: u32,
    /// `spool-max-recipients`
    pub spool_max_recipients: Option<u64>,
    /// `name-server`
    pub name_servers: Vec<SocketAddr>,
    /// `smtp-server-tls-certificate`
    pub tls_certificate: Option<PathBuf>,
    /// `relay-domain`
    pub relay_domains: Vec<DomainPattern>,
    /// `smtp-source-host`
    pub source_hosts: Vec<SourceHost>,
    /// `domain-macro`: lower-cased name to items
    pub macros: BTreeMap<String, Vec<String>>,
    /// `bounce-pattern-file`
    pub pattern_files: Vec<PatternFile>,
    /// `acct-file F` without a tag
    pub acct_files: Vec<String>,
    /// `virtual-mta NAME` without a tag
    pub virtual_mtas: Vec<String>,
    /// `ledger-retention SIZE`
    pub ledger_retention_bytes: u64,
    /// `ledger-retention TIME`
    pub ledger_retention: Duration,
    /// `send-index-retention`
    pub send_index_retention: Duration,
    /// `send-index-max`
    pub send_index_max: u64,
    /// `report-quarantine-size`
    pub report_quarantine_size: u64,
    /// `alarm-to`
    pub alarm_to: Vec<String>,
    /// `alarm-command`
    pub alarm_command: Option<PathBuf>,
    /// `novelty-alarm-...`
    pub novelty_alarm: NoveltyAlarm,
    /// `suppression-storage`
    pub suppression_hashed: bool,
    /// `suppression-hash-key`
    pub suppression_hash_key: Option<Secret>,
    /// `http-...`
    pub http: HttpMgmt,
    /// `command-socket`
    pub command_socket: Option<PathBuf>,
    /// `source=NAME` of listener lines
    pub references: Vec<Reference>,
}

impl Default for Global {
    fn default() -> Global {
        Global {
            host_names: Vec::new(),
            postmaster: Vec::new(),
            dsn_from: None,
            spool: None,
            min_free_space: 0,
            log_file: None,
            listeners: Vec::new(),
            total_max_smtp_in: 100,
            total_max_smtp_out: 1200,
            spool_max_recipients: None,
            name_servers: Vec::new(),
            tls_certificate: None,
            relay_domains: Vec::new(),
            source_hosts: Vec::new(),
            macros: BTreeMap::new(),
            pattern_files: Vec::new(),
            acct_files: Vec::new(),
            virtual_mtas: Vec::new(),
            ledger_retention_bytes: 1 << 30,
            ledger_retention: Duration::from_secs(DAY),
            send_index_retention: Duration::from_secs(30 * DAY),
            send_index_max: 50_000_000,
            report_quarantine_size: 64 << 20,
            alarm_to: Vec::new(),
            alarm_command: None,
            novelty_alarm: NoveltyAlarm::default(),
            suppression_hashed: false,
            suppression_hash_key: None,
            http: HttpMgmt::default(),
            command_socket: None,
            references: Vec::new(),
        }
    }
}

/// The rows of the top level.
pub const GLOBAL: &[G] = &[
    G::many(
        "host-name",
        Set::Host(|g, v| g.host_names.push(v)),
        "Name of this host; the first is announced in banner and EHLO, mail to all of them is accepted",
    )
    .also(&["hostname"]),
    G::many("postmaster", Set::Email(|g, v| g.postmaster.push(v)), "Address of the operator").also(&["administrator"]),
    G::one(
        "custom-dsn-from-header",
        Set::Other("STR", "\"Mail Delivery <bounces@example.com>\"", dsn_from),
        "",
        "From of the reports sent about mail that bounced; without it, MAILER-DAEMON at the first host-name",
    ),
    G::one(
        "spool",
        Set::Path(|g, v| g.spool = Some(v)),
        "/var/spool/carom",
        "Folder of the store; also written <spool DIR>",
    )
    .also(&["disk-queue"])
    .restart(),
    G::one(
        "spool-min-free-space",
        Set::Int(0, 1 << 40, |g, v| g.min_free_space = v << 20),
        "0",
        "Deprecated: free megabytes below which new mail is refused; use min-free-space in <spool>",
    )
    .restart(),
    G::one(
        "spool-max-recipients",
        Set::Limit("auto", |g, v| g.spool_max_recipients = v),
        "auto",
        "Recipients in the queue beyond which new mail is refused for now",
    ),
    G::one("log-file", Set::Path(|g, v| g.log_file = Some(v)), "", "The log; without it, standard error").restart(),
    G::many(
        "smtp-listener",
        Set::Other("ADDRESS:PORT [source=NAME]", "127.0.0.1:2525", listener),
        "Where mail is taken by SMTP; 0.0.0.0:25 if there is none",
    )
    .restart(),
    G::one(
        "total-max-smtp-in",
        Set::Int(1, 1_000_000, |g, v| g.total_max_smtp_in = small(v)),
        "100",
        "Inbound connections at once",
    ),
    G::one(
        "total-max-smtp-out",
        Set::Int(0, 1_000_000, |g, v| g.total_max_smtp_out = small(v)),
        "1200",
        "Outbound connections at once",
    ),
    G::many(
        "name-server",
        Set::Other("IP[:PORT]", "192.0.2.53", name_server),
        "DNS server; the system's if there is none",
    )
    .also(&["dns-server"])
    .restart(),
    G::one(
        "smtp-server-tls-certificate",
        Set::Other("FILE", "/etc/carom/tls.pem", server_certificate),
        "",
        "PEM file with certificate chain and key for inbound STARTTLS; without it a self-signed one is made",
    ),
    G::many(
        "relay-domain",
        Set::Other("DOMPAT", "[*.]example.com", relay_domains),
        "Domains that mail is accepted for from anybody",
    ),
    G::many(
        "smtp-source-host",
        Set::Other("IP HOST", "192.0.2.1 mail.example.com", source_host),
        "Address that mail leaves from and the name given there, for {default} and each VirtualMTA without its own",
    )
    .also(&["smtp-source-ip"]),
    G::many(
        "domain-macro",
        Set::Other("NAME LIST of domains", "yahoo yahoo.com,ymail.com", domain_macro),
        "A name for several domains, written $NAME in the argument of <domain>",
    ),
    G::many(
        "bounce-pattern-file",
        Set::Other("FILE", "/etc/carom/patterns.conf", pattern_file),
        "Patterns that give bounces their category, after those of <bounce-category-patterns>",
    ),
    G::many(
        "acct-file",
        Set::Text(|g, v| g.acct_files.push(v)),
        "An acct-file with the default settings; also written <acct-file PATH>",
    ),
    G::many(
        "bounce-hook",
        Set::Other("COMMAND or URL", "/usr/local/bin/bounced", bounce_hook),
        "Every b and rb record, as JSON, to a program's standard input (a line each) or posted to a URL, at least once",
    ),
    G::many(
        "virtual-mta",
        Set::Text(|g, v| g.virtual_mtas.push(v)),
        "A VirtualMTA that uses the global source addresses; also written <virtual-mta NAME>",
    ),
    G::many(
        "ledger-retention",
        Set::Other("SIZE or TIME", "24h", ledger_retention),
        "How much of the ledger is kept for late readers: a SIZE (1G, 500M), a TIME (24h, 7d; a small m is minutes), or one line for each",
    )
    .restart(),
    G::one(
        "send-index-retention",
        Set::Time(60, 3660 * DAY, |g, v| g.send_index_retention = v),
        "30d",
        "How long it is remembered what was sent to whom, to know a report for genuine",
    )
    .restart(),
    G::one(
        "send-index-max",
        Set::Int(1, 10_000_000_000, |g, v| g.send_index_max = v),
        "50000000",
        "Of how many recipients at most it is remembered what was sent to them; the oldest go first",
    )
    .restart(),
    G::one(
        "report-quarantine-size",
        Set::Size(|g, v| g.report_quarantine_size = v),
        "64M",
        "How much mail to report addresses is kept that nobody understood, of one mail a sixteenth of it and 256K at most; the oldest of who sent most goes first; 0 keeps none",
    ),
    G::many(
        "alarm-to",
        Set::Email(|g, v| g.alarm_to.push(v)),
        "Who gets a mail when something needs an operator; the postmaster if not given",
    ),
    G::one(
        "alarm-command",
        Set::Path(|g, v| g.alarm_command = Some(v)),
        "",
        "A program that gets each alarm as one JSON object on its standard input",
    ),
    G::one(
        "novelty-alarm-count",
        Set::Int(0, 10_000, |g, v| g.novelty_alarm.count = small(v)),
        "20",
        "Replies in words never seen before that raise an alarm when so many come from one provider; 0 is never",
    ),
    G::one(
        "novelty-alarm-within",
        Set::Time(1, DAY, |g, v| g.novelty_alarm.within = v),
        "10m",
        "The time within which novelty-alarm-count replies come",
    ),
    G::many(
        "novelty-alarm-to",
        Set::Email(|g, v| g.novelty_alarm.to.push(v)),
        "Who gets a mail about replies in words never seen before; who alarm-to names if not given",
    ),
    G::one(
        "novelty-alarm-command",
        Set::Path(|g, v| g.novelty_alarm.command = Some(v)),
        "",
        "A program that gets each such alarm as one JSON object on its standard input; alarm-command if not given",
    ),
    G::one(
        "suppression-storage",
        Set::Other("plain or hashed", "hashed", http::suppression_storage),
        "plain",
        "Whether the suppression list keeps addresses and replies, or only hashes that go on suppressing",
    )
    .restart(),
    G::one(
        "suppression-hash-key",
        Set::Other("STR", "0123456789abcdef", http::suppression_hash_key),
        "",
        "Secret under which the hashes of the suppression list are made, so that nobody can look addresses up in a stolen one",
    )
    .restart(),
    G::one(
        "http-mgmt-port",
        Set::Int(0, 65_535, |g, v| g.http.port = u16::try_from(v).unwrap_or(0)),
        "0",
        "Port of the management API over HTTP; 0 is off",
    )
    .restart(),
    G::one(
        "http-mgmt-address",
        Set::Other("IP", "127.0.0.1", http::address),
        "",
        "Address that the management API listens on; all of them when http-access lets other machines in, else 127.0.0.1",
    )
    .restart(),
    G::many(
        "http-access",
        Set::Other("CIDR none, monitor, operator or admin", "127.0.0.1 admin", http::access),
        "What may be done over HTTP from these addresses; the first line that matches holds, and none lets nobody in",
    ),
    G::one(
        "http-mgmt-password",
        Set::Other("STR", "secret-password", http::password),
        "",
        "Password of the management API (HTTP Basic, with any name, which goes into the record of what is changed)",
    ),
    G::one(
        "http-mgmt-password-hash",
        Set::Other("HASH", http::SAMPLE_HASH, http::password_hash),
        "",
        "The same as a hash, made by carom http-password",
    ),
    G::many(
        "http-api-key",
        Set::Other("STR", "0123456789abcdef0123456789abcdef", http::api_key),
        "Value of the header X-API-Key that opens the management API as admin; 32 to 128 letters, digits and underscores",
    ),
    G::one(
        "http-tls-certificate",
        Set::Other("FILE", "/etc/carom/tls.pem", http::certificate),
        "",
        "PEM file with certificate chain and key of the management API; without it a self-signed one is made",
    ),
    G::one(
        "command-socket",
        Set::Path(|g, v| g.command_socket = Some(v)),
        "",
        "Where the commands reach the running server; carom.sock in the spool if not given",
    )
    .restart(),
];

fn small(n: u64) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn listener(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let place = args.line().span;
    let text = args.word().map(|w| w.text).unwrap_or_default();
    let mut listener = Listener { address: values::listen_address(&text)?, source: None, tls_certificate: None };
    let mut reference = None;
    while let Some(word) = args.word() {
        let Some(("source", name)) = word.text.split_once('=') else {
            let message = "only source=NAME may follow the address".to_owned();
            return Err(ValueError { message, help: "write smtp-listener ADDRESS:PORT source=NAME".into() });
        };
        let name = name.trim_matches('"').to_owned();
        reference = Some(Reference { virtual_mta: false, name: name.clone(), span: word.span });
        listener.source = Some(name);
    }
    Ok(Arc::new(move |g| {
        g.listeners.push((listener.clone(), place));
        g.references.extend(reference.clone());
    }))
}

fn name_server(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let servers = values::list(&text).map(values::name_server).collect::<Result<Vec<_>, _>>()?;
    Ok(Arc::new(move |g| g.name_servers.extend(&servers)))
}

/// `FILE [PASSWORD]`, the password never repeated in a message.
pub(super) fn read_certificate(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<PathBuf, ValueError> {
    let Some(file) = args.word() else {
        return Err(ValueError { message: "no file is named".into(), help: "write the path of a PEM file".into() });
    };
    if let Some(password) = args.word() {
        let help = "write the key without a password into a file that only Carom can read";
        reading.warning(password.span, "keys with a password are not supported yet", help);
    }
    let path = reading.resolve(&file.text);
    reading.named_at(&path, file.span);
    Ok(path)
}

fn server_certificate(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let path = read_certificate(args, reading)?;
    Ok(Arc::new(move |g| g.tls_certificate = Some(path.clone())))
}

fn relay_domains(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let word = args.rest();
    let text = word.as_ref().map(|w| w.text.as_str()).unwrap_or_default();
    let patterns = values::list(text).map(values::domain_pattern).collect::<Result<Vec<_>, _>>()?;
    if patterns.contains(&DomainPattern::Any) {
        let span = word.map(|w| w.span).unwrap_or_default();
        let help = "name the domains that are yours; to relay for your own systems use always-allow-relaying in their <source>";
        reading.warning(span, "OPEN RELAY: relay-domain * accepts mail for any domain from anybody", help);
    }
    Ok(Arc::new(move |g| g.relay_domains.extend(patterns.clone())))
}

fn source_host(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let hosts = read_source_hosts(args, reading)?;
    Ok(Arc::new(move |g| g.source_hosts.extend(hosts.clone())))
}

fn domain_macro(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let help = "write domain-macro NAME a.com,b.com; the name is made of letters, digits and _";
    let name = args.word().map(|w| w.text).unwrap_or_default();
    let bare = name.strip_prefix('$').unwrap_or(&name);
    if bare.is_empty() || bare.len() > 64 || !bare.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(ValueError { message: "not the name of a macro".into(), help: help.into() });
    }
    let key = bare.to_ascii_lowercase();
    let list = args.rest();
    let items: Vec<String> =
        list.iter().flat_map(|w| values::list(&w.text)).map(|item| item.trim_matches('"').to_owned()).collect();
    if items.is_empty() {
        return Err(ValueError { message: "the macro stands for nothing".into(), help: help.into() });
    }
    Ok(Arc::new(move |g| {
        g.macros.insert(key.clone(), items.clone());
    }))
}

fn pattern_file(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let path = reading.resolve(&text);
    match pattern_file::read(reading.files, &path, None) {
        Ok(file) => Ok(Arc::new(move |g| g.pattern_files.push(file.clone()))),
        Err(message) => Err(ValueError { message, help: "check the path and the permissions".into() }),
    }
}

/// A SIZE or a TIME. `m` alone could be both: a capital M is megabytes, a small one minutes.
/// `Name <address>` or an address alone; `""` is the default again.
fn dsn_from(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let help = "write an address, with a name before it if wanted: \"Mail Delivery <bounces@example.com>\"";
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let text = text.trim();
    if text.is_empty() {
        return Ok(Arc::new(|g| g.dsn_from = None));
    }
    let (name, address) = match text.rfind('<') {
        Some(at) => (text[..at].trim().trim_matches('"').trim(), &text[at..]),
        None => ("", text),
    };
    let address = values::email(address).map_err(|e| ValueError { help: help.into(), ..e })?;
    if !address.is_ascii() || name.chars().any(char::is_control) {
        return Err(ValueError { message: "a character that can't stand in From".into(), help: help.into() });
    }
    let from = (name.to_owned(), address);
    Ok(Arc::new(move |g| g.dsn_from = Some(from.clone())))
}

fn ledger_retention(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let text = args.word().map(|w| w.text).unwrap_or_default();
    let minutes = text.ends_with('m');
    if !minutes
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && let Ok(size) = values::size(&text)
    {
        return Ok(Arc::new(move |g| g.ledger_retention_bytes = size));
    }
    match values::time(&text) {
        Ok(time) if text.bytes().any(|b| b.is_ascii_alphabetic()) => Ok(Arc::new(move |g| g.ledger_retention = time)),
        _ => Err(ValueError {
            message: "neither a size nor a time".into(),
            help: "write a size such as 1G or a time such as 24h".into(),
        }),
    }
}

/// What stands in a `<spool>`.
#[derive(Debug, Clone, Default)]
pub struct SpoolBlock {
    /// `min-free-space`
    pub min_free_space: u64,
}

/// The rows of `<spool>`.
pub const SPOOL: &[Directive<SpoolBlock>] = &[Directive::one(
    "min-free-space",
    Set::Size(|s: &mut SpoolBlock, v| s.min_free_space = v),
    "0",
    "Free space below which new mail is refused",
)
.restart()];

/// The rows of `<smtp-listener>`.
pub const LISTENER: &[Directive<Listener>] = &[
    Directive::one(
        "source",
        Set::Source(|l, v| l.source = Some(v)),
        "",
        "Source whose settings hold for whoever comes in here",
    ),
    Directive::one(
        "tls-certificate",
        Set::Other("FILE", "/etc/carom/tls.pem", listener_certificate),
        "",
        "PEM file with certificate chain and key; without it smtp-server-tls-certificate",
    ),
];

fn listener_certificate(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<Listener>, ValueError> {
    let path = read_certificate(args, reading)?;
    Ok(Arc::new(move |l| l.tls_certificate = Some(path.clone())))
}

/// Read once more, with the name it then has, where the outputs are put together.
fn bounce_hook(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<Global>, ValueError> {
    let span = args.rest_span();
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    if let (_, Some(warning)) = push::hook(&text)? {
        reading.warning(span, warning, "write https:");
    }
    Ok(Arc::new(|_| {}))
}
