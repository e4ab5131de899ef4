//! `<domain>`: where mail of a queue goes and how (directives.md, 2.10).

use std::path::Path;
use std::sync::Arc;

use super::Directive;
use super::set::{Change, Set};
use crate::config::command::Command;
use crate::config::delivery_macro::{self, Template};
use crate::config::lexer::{Args, Span};
use crate::config::model::{FileFormat, QueueSettings, Rate, Transport};
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};

type D = Directive<QueueSettings>;

const WEEK: u64 = 7 * 86_400;
const YEAR: u64 = 366 * 86_400;
const MOST: u64 = u32::MAX as u64;

/// The rows.
pub const DOMAIN: &[D] = &[
    D::one("type", Set::Other("smtp, pipe, file or discard", "discard", transport), "smtp", "How mail leaves: by SMTP, to a program (command), into files (file-destination), or thrown away"),
    D::one("command", Set::Other("STR", "/bin/cat $to", command), "", "With type pipe: the program that is started for each recipient, with the message on its standard input; no shell; $user, $domain, $to, $from, $envid, $isodate and others are replaced in its arguments"),
    D::one("command-timeout", Set::Time(1, 86_400, |q, v| q.command_timeout = v), "10m", "With type pipe: a program that takes longer is ended, and the recipient tried again later"),
    D::one("macro-variables-preserve-case", Set::Bool(|q, v| q.macro_variables_preserve_case = v), "no", "In command and file-destination: keep the case of $to and $from; $user and $domain are always lower case"),
    D::one("file-format", Set::Other("newfile-plain, newfile-pickup or append-mbox", "append-mbox", file_format), "newfile-plain", "With type file: a new file for each mail (pickup: with x-sender and x-receiver in front), or one mailbox"),
    D::one("file-destination", Set::Other("DIR or FILE", "/var/mail/$domain/$user", file_destination), "", "With type file: the folder of new files, or the mailbox; $user, $domain, $to, $from, $envid, $isodate and others are replaced"),
    D::one("discard-as-bounce", Set::Bool(|q, v| q.discard_as_bounce = v), "no", "A discarding queue records b instead of d"),
    D::one("bounce-after", Set::Time(1, YEAR, |q, v| q.bounce_after = v), "4d12h", "Age at which mail bounces that is still queued"),
    D::one("retry-after", Set::Times(|q, v| q.retry_after = v), "10m", "Waits between attempts after a failure of the queue; the last one repeats"),
    D::one("retry-recipients-after", Set::Time(1, YEAR, |q, v| q.retry_recipients_after = v), "10m", "Wait of a recipient that got a 4xx reply"),
    D::one("suppression-hold-retry", Set::Time(1, 86_400, |q, v| q.suppression_hold_retry = v), "30s", "How soon a recipient is looked at again that waits because its entry in the suppression list is held back"),
    D::one("max-smtp-out", Set::Limit("unlimited", |q, v| q.max_smtp_out = whole(v, u32::MAX)), "20", "Connections per queue"),
    D::one("max-msg-rate", Set::Rate(|q, v| q.max_msg_rate = v), "unlimited", "Recipients attempted per time, whether they succeed or not"),
    D::one("max-msg-per-hour", Set::Other("INT", "1000", per_hour), "", "Deprecated: recipients attempted per hour; sets max-msg-rate, of which the last one given holds"),
    D::one("max-connect-rate", Set::Rate(|q, v| q.max_connect_rate = v), "unlimited", "Connections opened per time"),
    D::one("max-msg-per-connection", Set::Limit("unlimited", |q, v| q.max_msg_per_connection = whole(v, 0)), "0", "Messages sent over one connection before it is closed; 0 is no limit"),
    D::one("max-rcpt-per-message", Set::Limit("unlimited", |q, v| q.max_rcpt_per_message = whole(v, 0)), "1000", "Recipients per transaction; more are split over several; 0 is no limit").also(&["max-rcpt-per-transaction"]),
    D::one("connection-idle-timeout", Set::Time(0, 600, |q, v| q.connection_idle_timeout = v), "0", "How long an idle connection waits for more mail, up to 10m").also(&["idle-timeout"]),
    D::one("smtp-hosts", Set::Other("HOSTS", "a.example.com,[192.0.2.1]:2525;lookup-mx:example.com", hosts), "", "Hosts to deliver to instead of the domain's MX; commas between equals, semicolons between levels of preference").also(&["route", "smtp-route"]),
    D::one("default-smtp-port", Set::Int(1, 65_535, |q, v| q.default_smtp_port = u16::try_from(v).unwrap_or(25)), "25", "Port where smtp-hosts names none"),
    D::one("use-starttls", Set::Bool(|q, v| q.use_starttls = v), "yes", "Encrypt when the other side offers STARTTLS"),
    D::one("require-starttls", Set::Bool(|q, v| q.require_starttls = v), "no", "Do not send without TLS"),
    D::one("smtp-tls-ca-file", Set::Path(|q, v| q.smtp_tls_ca_file = Some(v)), "", "PEM file of roots that the other side's certificate must lead to"),
    D::one("bounce-upon-no-mx", Set::Other("BOOL or never", "yes", no_mx), "no", "Bounce when the domain has no MX instead of trying its address"),
    D::one("bounce-upon-5xx-greeting", Set::Bool(|q, v| q.bounce_upon_5xx_greeting = v), "yes", "Bounce on a 5xx greeting; no: treat it as temporary and try the next host"),
    D::one("connect-timeout", Set::Time(1, WEEK, |q, v| q.connect_timeout = v), "2m", "Wait for a TCP connection"),
    D::one("smtp-greeting-timeout", Set::Time(1, WEEK, |q, v| q.smtp_greeting_timeout = v), "5m", "Wait for the greeting"),
    D::one("data-send-timeout", Set::Time(1, WEEK, |q, v| q.data_send_timeout = v), "3m", "Wait for one piece of the content to be taken"),
    D::one("smtp-data-termination-timeout", Set::Time(1, WEEK, |q, v| q.smtp_data_termination_timeout = v), "10m", "Wait for the reply after the final dot"),
    D::one("ignore-pipelining", Set::Bool(|q, v| q.ignore_pipelining = v), "no", "Never pipeline commands"),
    D::one("ignore-8bitmime", Set::Bool(|q, v| q.ignore_8bitmime = v), "no", "Never declare 8-bit content"),
    D::one("ignore-dsn", Set::Bool(|q, v| q.ignore_dsn = v), "no", "Never pass on RET, ENVID, NOTIFY and ORCPT"),
    D::one("notify-of-delay-every", Set::TimeOrNever(|q, v| q.notify_of_delay_every = v), "4h", "How often senders are told that mail still waits, where they asked for it (NOTIFY=DELAY)"),
    D::many("bounce-pattern-file", Set::Other("FILE", "/etc/carom/patterns.conf", bounce_pattern_file), "Patterns that give bounces of this domain their category, before the global ones"),
    D::one("disable-acct-records", Set::Kinds(|q, v| q.disable_acct_records = v), "", "Record types that are not written for the queue (of d, b, t, tq)"),
    D::one("log-connections", Set::Bool(|q, v| q.log_connections = v), "no", "Log when outbound sessions begin and end"),
    D::one("log-commands", Set::Bool(|q, v| q.log_commands = v), "no", "Log the SMTP dialogue"),
    D::one("log-messages", Set::Bool(|q, v| q.log_messages = v), "no", "In <domain {bounce}> and <domain {feedbackLoop}>: log each mail that the processor reads"),
    D::one("add-token-header", Set::Bool(|q, v| q.add_token_header = v), "no", "Put the signed token of <return-path-token> into the header that it names; each recipient gets a transaction of his own"),
    D::many("smtp-pattern-list", Set::Other("LIST of names", "builtin", pattern_lists), "Lists of reply patterns that steer the queue, consulted before those of wider patterns; builtin is the one that ships with Carom, \"\" takes those of wider patterns away"),
    D::one("backoff-retry-after", Set::Times(|q, v| q.backoff_retry_after = v), "1h", "retry-after in backoff mode"),
    D::one("backoff-max-smtp-out", Set::Limit("unlimited", |q, v| q.backoff_max_smtp_out = whole(v, u32::MAX)), "20", "max-smtp-out in backoff mode"),
    D::one("backoff-max-msg-rate", Set::Rate(|q, v| q.backoff_max_msg_rate = Some(v)), "", "max-msg-rate in backoff mode; without it the normal one"),
    D::one("backoff-max-msg-per-hour", Set::Other("INT", "1000", backoff_per_hour), "", "Deprecated: sets backoff-max-msg-rate, of which the last one given holds"),
    D::one("backoff-max-connect-rate", Set::Rate(|q, v| q.backoff_max_connect_rate = Some(v)), "", "max-connect-rate in backoff mode; without it the normal one"),
    D::one("backoff-to-normal-after", Set::TimeOrNever(|q, v| q.backoff_to_normal_after = v), "never", "Backoff mode ends so long after it began"),
    D::one("backoff-to-normal-after-delivery", Set::Bool(|q, v| q.backoff_to_normal_after_delivery = v), "no", "Backoff mode ends with the first delivery"),
    D::one("backoff-upon-all-sources-disabled", Set::Bool(|q, v| q.backoff_upon_all_sources_disabled = v), "no", "Backoff mode begins when disable-source-ip has left no source address"),
    D::one("reenable-source-ip-after", Set::TimeOrNever(|q, v| q.reenable_source_ip_after = v), "never", "How long disable-source-ip lasts where the pattern has no reenable-after"),
    D::one("max-errors-per-domain", Set::Int(0, MOST, |q, v| q.max_errors_per_domain = u32::try_from(v).unwrap_or(u32::MAX)), "0", "Backoff mode begins after so many failures of connections and sessions in a row; 0 is never"),
    D::one("log-transfer-failures", Set::Bool(|q, v| q.log_transfer_failures = v), "no", "Log a warning when a connection breaks within a message"),
];

/// `none` for no limit, else the number.
fn whole(limit: Option<u64>, none: u32) -> u32 {
    limit.map_or(none, |n| u32::try_from(n).unwrap_or(u32::MAX))
}

fn transport(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let Some(word) = args.word() else { return Err(missing()) };
    let transport = match word.text.to_ascii_lowercase().as_str() {
        "smtp" => Transport::Smtp,
        "discard" => Transport::Discard,
        "file" => Transport::File,
        "pipe" => Transport::Pipe,
        "http-delivery" => {
            // Mail meant for a server of one's own must not go out to the world instead.
            let message = "type http-delivery is not supported yet".to_owned();
            let help = "take the directive out, or use type discard to throw such mail away".to_owned();
            return Err(ValueError { message, help });
        }
        _ => return Err(missing()),
    };
    Ok(Arc::new(move |q| q.transport = transport))
}

fn file_format(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let word = args.word().map(|w| w.text.to_ascii_lowercase()).unwrap_or_default();
    let format = match word.as_str() {
        "newfile-plain" => FileFormat::New { envelope: false },
        "newfile-pickup" => FileFormat::New { envelope: true },
        "append-mbox" => FileFormat::Mbox,
        _ => {
            let help = "write newfile-plain, newfile-pickup or append-mbox".to_owned();
            return Err(ValueError { message: "not a file format".to_owned(), help });
        }
    };
    Ok(Arc::new(move |q| q.file_format = format))
}

fn file_destination(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let span = args.rest_span();
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    if text.is_empty() || text.contains('\0') {
        return Err(ValueError { message: "no path".into(), help: "write file-destination /var/mail/$user".into() });
    }
    let path = Template::parse(&reading.resolve(&text).to_string_lossy());
    unknown_macros(reading, span, "file-destination", &path);
    Ok(Arc::new(move |q| q.file_destination = Some(path.clone())))
}

fn command(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let span = args.rest_span();
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let mut command = Command::parse(&text).map_err(|error| ValueError {
        message: error.to_string(),
        help: "write command \"/path/to/program $to\"".to_owned(),
    })?;
    // A name without a slash is looked for in PATH.
    if command.program.contains('/') {
        command.program = reading.resolve(&command.program).to_string_lossy().into_owned();
    }
    reading.named_at(Path::new(&command.program), span);
    command.arguments.iter().for_each(|argument| unknown_macros(reading, span, "command", argument));
    Ok(Arc::new(move |q| q.command = Some(command.clone())))
}

fn unknown_macros(reading: &mut Reading<'_>, span: Span, directive: &str, template: &Template) {
    for name in template.unknown() {
        let message = format!("{directive}: {name} is no macro and stays as it is");
        reading.warning(span, message, format!("the macros are {}", delivery_macro::names()));
    }
}

fn missing() -> ValueError {
    ValueError { message: "not a transport".into(), help: "write smtp, pipe, file or discard".into() }
}

fn per_hour(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let rate = hourly(args)?;
    Ok(Arc::new(move |q| q.max_msg_rate = rate))
}

fn backoff_per_hour(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let rate = hourly(args)?;
    Ok(Arc::new(move |q| q.backoff_max_msg_rate = Some(rate)))
}

fn hourly(args: &mut Args<'_>) -> Result<Option<Rate>, ValueError> {
    let word = args.word().map(|w| w.text).unwrap_or_default();
    let count = if word.eq_ignore_ascii_case("unlimited") { 0 } else { values::integer(&word, 0, MOST)? };
    Ok((count > 0).then_some(Rate { count, per: std::time::Duration::from_secs(3600) }))
}

/// Names of lists, to be put before those of wider patterns; whether they exist is checked at the end. An empty word
/// takes the lists of wider patterns away.
fn pattern_lists(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let names: Vec<String> = values::list(&text).map(str::to_lowercase).collect();
    if names.is_empty() {
        return Ok(Arc::new(|q| q.smtp_pattern_lists.clear()));
    }
    Ok(Arc::new(move |q| {
        q.smtp_pattern_lists.retain(|known| !names.contains(known));
        q.smtp_pattern_lists.splice(0..0, names.iter().cloned());
    }))
}

fn hosts(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let Some(word) = args.rest() else { return Ok(Arc::new(|q| q.smtp_hosts.clear())) };
    let hosts = values::smtp_hosts(&word.text)?;
    if hosts.is_empty() && !word.quoted {
        reading.warning(word.span, "no host is named", "write \"\" to clear the hosts of wider patterns");
    }
    Ok(Arc::new(move |q| q.smtp_hosts.clone_from(&hosts)))
}

/// The file is read where the domain is known (`resolve`): classification needs its rules, the queue does not.
fn bounce_pattern_file(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    if args.rest().is_none_or(|word| word.text.is_empty()) {
        return Err(ValueError {
            message: "the file is missing".into(),
            help: "write bounce-pattern-file FILE".into(),
        });
    }
    Ok(Arc::new(|_| {}))
}

fn no_mx(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<QueueSettings>, ValueError> {
    let word = args.word();
    let text = word.as_ref().map(|w| w.text.to_ascii_lowercase()).unwrap_or_default();
    let bounce = match text.as_str() {
        "never" => false,
        text if values::boolean(text).is_err() && values::time(text).is_ok() => {
            let span = word.map(|w| w.span).unwrap_or_default();
            reading.warning(span, "bounce-upon-no-mx with a time is not supported yet; read as no", "write yes or no");
            false
        }
        text => values::boolean(text)?,
    };
    Ok(Arc::new(move |q| q.bounce_upon_no_mx = bounce))
}
