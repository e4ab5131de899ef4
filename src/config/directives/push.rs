//! `<acct-webhook>` and `<acct-nats>`: records handed on, at least once (all of it ours). The rows about records are those
//! of `<acct-file>`.

use std::sync::Arc;
use std::time::Duration;

use super::Directive;
use super::acct_file::{map_header, on_lag, privacy, queue_filter, record_fields};
use super::set::{Change, Set};
use crate::config::lexer::Args;
use crate::config::model::AcctFile;
use crate::config::push::{self, BatchFormat, Secret};
use crate::config::tree::Reading;
use crate::config::values::{self, ValueError};

type A = Directive<AcctFile>;

const DAY: u64 = 86_400;

const RECORDS: A =
    A::one("records", Set::Kinds(|a, v| a.records = v), "d,b", "Record types that are sent").also(&["record"]);
const RECORD_FIELDS: A = A::many(
    "record-fields",
    Set::Other("TYPE LIST of fields", "d *,header_Subject,!dlvSize", record_fields),
    "Fields of a record type: * is all, !x leaves out, header_X adds a header; a list of names is exactly those",
);
const USER_STRING: A =
    A::one("user-string", Set::Text(|a, v| a.user_string = v), "", "What the field userString holds");
const QUEUE_FILTER: A = A::one(
    "queue-filter",
    Set::Other("LIST of [!]DOMAIN[/VMTA]", "![*.]example.net/*,*/*", queue_filter),
    "",
    "Queues whose d, b, t and tq are sent: the first entry that matches decides, ! leaves out, no match leaves out",
);
const MAP_HEADER: A = A::many(
    "map-header-to-field",
    Set::Other("TYPE header_NAME FIELD", "f header_X-HmXmrOriginalRecipient rcpt", map_header),
    "The header's value, where there is one, takes the place of the field; the first header listed for it wins",
);
const PRIVACY: A = A::one(
    "privacy-policy",
    Set::Other("MODE [KEY or TEXT]", "redact", privacy),
    "retain",
    "retain, redact, siphash, siphash-hexkey, hmac-sha256, hmac-sha256-hexkey: what replaces recipients' local parts",
);
const ON_LAG: A = A::one(
    "on-lag",
    Set::Other("stop-intake or skip", "skip", on_lag),
    "skip",
    "When the ledger is at its limit because of this output: leave records out and say which, or refuse new mail",
);
const NAME: A = A::one(
    "name",
    Set::Other("NAME", "crm", name),
    "",
    "What its place in the ledger is kept under, and what it is called in logs; without it the URL is, and another URL begins anew",
);
const TLS_CA: A = A::one(
    "tls-ca-file",
    Set::Path(|a, v| a.push.tls_ca_file = Some(v)),
    "",
    "Trust the certificates in this PEM file, in the place of the system's",
);

/// The rows of an output that hands records on: its own, between those that each has.
macro_rules! rows {
    ($($own:expr),* $(,)?) => {
        &[
            RECORDS,
            RECORD_FIELDS,
            $($own,)*
            TLS_CA,
            NAME,
            USER_STRING,
            QUEUE_FILTER,
            MAP_HEADER,
            PRIVACY,
            ON_LAG,
        ]
    };
}

/// The rows of `<acct-webhook>`.
pub const WEBHOOK: &[A] = rows![
    A::one(
        "batch-size",
        Set::Int(1, 10_000, |a, v| a.push.batch_size = v),
        "500",
        "Records of one request at most; a body that has reached 1 MB is sent, too",
    ),
    A::one(
        "batch-interval",
        Set::Time(0, 3600, |a, v| a.push.batch_interval = v),
        "1s",
        "How long a record waits for others to go with it",
    ),
    A::one(
        "batch-format",
        Set::Other("array, lines or single", "lines", batch_format),
        "array",
        "The body: a JSON array of records, a record a line (NDJSON), or one record alone",
    ),
    A::one(
        "timeout",
        Set::Time(1, 3600, |a, v| a.push.timeout = v),
        "30s",
        "How long a request may take, with its connection and its answer",
    ),
    A::one(
        "retry-interval",
        Set::Other("TIME,TIME", "1s,5m", retry),
        "1s,5m",
        "The first wait after a failure, doubled each time, and the longest; a Retry-After header lengthens it",
    ),
    A::many(
        "secret",
        Set::Other("KEY", "0123456789abcdef0123456789abcdef", secret),
        "Key that the Carom-Signature header is made with; a second one while keys are changed",
    ),
    A::many("header", Set::Other("NAME VALUE", "X-Tenant 42", header), "A header of every request"),
    A::one("gzip", Set::Bool(|a, v| a.push.gzip = v), "no", "Pack the body (Content-Encoding: gzip)"),
];

/// The rows of `<acct-nats>`.
pub const NATS: &[A] = rows![
    A::one("stream", Set::Other("NAME", "CAROM", stream), "CAROM", "JetStream's stream that keeps the records"),
    A::one(
        "create-stream",
        Set::Bool(|a, v| a.push.create_stream = v),
        "yes",
        "Make the stream when it is not there; no: do not even ask whether it is",
    ),
    A::one(
        "replicas",
        Set::Other("INT from 1 to 5", "3", replicas),
        "1",
        "Servers that keep a copy of a stream that is made",
    ),
    A::one(
        "duplicate-window",
        Set::Time(1, 7 * DAY, |a, v| a.push.duplicate_window = v),
        "10m",
        "How long a stream that is made remembers event ids, to drop what comes twice",
    ),
    A::one(
        "subject",
        Set::Other("SUBJECT", "carom.events.{type}", subject),
        "carom.events.{type}",
        "Subject of a record's message; {type}, {provider}, {vmta} and {job} stand for what the record says",
    ),
    A::one(
        "max-pending",
        Set::Int(1, 10_000, |a, v| a.push.max_pending = v),
        "512",
        "Messages under way that the broker has not acknowledged",
    ),
    A::one("user", Set::Text(|a, v| a.push.user = v), "", "User to log in as"),
    A::one("password", Set::Text(|a, v| a.push.password = Secret::new(v)), "", "The user's password"),
    A::one("token", Set::Text(|a, v| a.push.token = Secret::new(v)), "", "Token to log in with"),
    A::one(
        "credentials",
        Set::Path(|a, v| a.push.credentials = Some(v)),
        "",
        "File with a user's JWT and key (.creds) to log in with",
    ),
    A::one(
        "timeout",
        Set::Time(1, 3600, |a, v| a.push.timeout = v),
        "10s",
        "How long the broker may take to let us in or to acknowledge",
    ),
    A::one(
        "retry-interval",
        Set::Other("TIME,TIME", "1s,30s", retry),
        "1s,30s",
        "The first wait after a failure, doubled each time, and the longest",
    ),
];

fn word(args: &mut Args<'_>) -> String {
    args.word().map(|w| w.text).unwrap_or_default()
}

fn wrong(message: String, help: &str) -> ValueError {
    ValueError { message, help: help.into() }
}

fn name(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let name = word(args);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(wrong(format!("`{name}` can't be a name"), "write letters, digits, dots, - and _"));
    }
    Ok(Arc::new(move |a| a.push.name.clone_from(&name)))
}

fn batch_format(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let format = match word(args).to_ascii_lowercase().as_str() {
        "array" => BatchFormat::Array,
        "lines" | "ndjson" => BatchFormat::Lines,
        "single" => BatchFormat::Single,
        other => return Err(wrong(format!("`{other}` is no batch format"), "write array, lines or single")),
    };
    Ok(Arc::new(move |a| a.push.batch_format = format))
}

fn retry(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let help = "write the first wait and the longest: 1s,5m";
    let text = args.rest().map(|w| w.text).unwrap_or_default();
    let (first, longest) = match values::times(&text)?.as_slice() {
        [one] => (*one, *one),
        [first, longest] if first <= longest => (*first, *longest),
        _ => return Err(wrong(format!("`{text}` is not two times, the shorter one first"), help)),
    };
    if first < Duration::from_secs(1) {
        return Err(wrong("less than a second".into(), help));
    }
    Ok(Arc::new(move |a| a.push.retry = (first, longest)))
}

fn secret(args: &mut Args<'_>, reading: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let span = args.rest_span();
    let key = word(args);
    if key.is_empty() {
        return Err(wrong("the key is empty".into(), "make one with: openssl rand -hex 32"));
    }
    if key.len() < 32 {
        let message = "the key has less than 32 characters: whoever sees a request may guess it";
        reading.warning(span, message, "make one with: openssl rand -hex 32");
    }
    Ok(Arc::new(move |a| a.push.secrets.push(Secret::new(key.clone()))))
}

fn header(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let name = word(args);
    let value = args.rest().map(|w| w.text).unwrap_or_default();
    let value = value.trim();
    let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
    let header = push::header(name.trim_end_matches(':'), value)?;
    Ok(Arc::new(move |a| a.push.headers.push(header.clone())))
}

fn stream(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let name = push::stream(&word(args))?;
    Ok(Arc::new(move |a| a.push.stream.clone_from(&name)))
}

fn subject(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let subject = push::subject(&word(args))?;
    Ok(Arc::new(move |a| a.push.subject.clone_from(&subject)))
}

fn replicas(args: &mut Args<'_>, _: &mut Reading<'_>) -> Result<Change<AcctFile>, ValueError> {
    let text = word(args);
    let replicas = text.parse::<u64>().ok().filter(|n| (1..=5).contains(n));
    let replicas = replicas.ok_or_else(|| wrong(format!("`{text}` is out of range"), "write a number from 1 to 5"))?;
    Ok(Arc::new(move |a| a.push.replicas = replicas))
}
