//! Events to CSV records: RFC 4180, UTF-8, CRLF, a header line first (reference/accounting.md, section 2).
//!
//! A cell is written as it is and then looked at: only if it holds a comma, a quote or a line end is it quoted after the
//! fact, which few cells are. Nothing is allocated per record once the buffers have grown.

use std::hash::Hasher as _;

use jiff::tz::TimeZone;
use siphasher::sip::SipHasher24;

use super::closing::Gap;
use super::columns::{Column, Columns, Source, arf_values};
use super::iso_time::IsoTimes;
use crate::config::AcctFile;
use crate::event::fields::Value;
use crate::event::{Event, StoreId, Time};

/// Writes the records of one output.
#[derive(Debug)]
pub struct CsvRows {
    columns: Columns,
    times: Option<IsoTimes>,
    rules: csv_core::Writer,
    scratch: Vec<u8>,
}

impl CsvRows {
    /// For these columns; times as text in `zone`, or as seconds since the epoch when there is none.
    pub fn new(columns: Columns, zone: Option<TimeZone>) -> CsvRows {
        let rules = csv_core::WriterBuilder::new().terminator(csv_core::Terminator::CRLF).build();
        CsvRows { columns, times: zone.map(IsoTimes::new), rules, scratch: Vec::new() }
    }

    /// The header line.
    pub fn header(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, column) in self.columns.iter().enumerate() {
            let start = begin(&mut out, i);
            out.extend_from_slice(column.name.as_bytes());
            quote_if_needed(&self.rules, &mut out, start, &mut Vec::new());
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// Appends the record of a classified event to `out`.
    pub fn push(&mut self, out: &mut Vec<u8>, event: &Event<'_>) {
        for (i, column) in self.columns.iter().enumerate() {
            let start = begin(out, i);
            match self.columns.value(column, event) {
                Value::Absent => continue,
                // These never need quotes.
                Value::Time(t) => match &mut self.times {
                    Some(times) => times.push(out, t),
                    None => Value::Time(t).push_text(out),
                },
                value @ (Value::Number(_)
                | Value::Bool(_)
                | Value::Ip(_)
                | Value::Id(_)
                | Value::Hex(_)
                | Value::Code(_)) => {
                    value.push_text(out);
                }
                value => {
                    match &column.source {
                        Source::Arf(name) => arf_cell(&self.rules, out, event, name, &mut self.scratch),
                        _ => value.push_text(out),
                    }
                    quote_if_needed(&self.rules, out, start, &mut self.scratch);
                }
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    /// What decides how records look besides the header line, in few letters: the record types of each column, what is
    /// mapped, how times and recipients are written.
    pub fn layout(&self, file: &AcctFile) -> String {
        let mut hash = SipHasher24::new();
        for column in self.columns.iter() {
            hash.write(format!("{} {:?} {:?}\n", column.name, column.kinds, column.mapped).as_bytes());
        }
        hash.write(format!("{} {:?} {}", file.user_string, file.privacy_policy, file.iso_times).as_bytes());
        format!("{:016x}", hash.finish())
    }

    /// The line that stands for events that were left out: type `gap`, when, the event ids of the first and the last,
    /// and words in `dsnDiag`, as far as there are such columns.
    pub fn gap(&mut self, store: StoreId, gap: &Gap) -> Vec<u8> {
        let mut out = Vec::new();
        for (i, column) in self.columns.iter().enumerate() {
            let start = begin(&mut out, i);
            match column.name.as_str() {
                "type" => out.extend_from_slice(b"gap"),
                "timeLogged" => match &mut self.times {
                    Some(times) => times.push(&mut out, Time(gap.at)),
                    None => Value::Time(Time(gap.at)).push_text(&mut out),
                },
                "eventId" => out.extend_from_slice(format!("{store}-{}..{}", gap.first, gap.last).as_bytes()),
                "dsnDiag" => {
                    out.extend_from_slice(gap.words().as_bytes());
                }
                _ => {}
            }
            quote_if_needed(&self.rules, &mut out, start, &mut self.scratch);
        }
        out.extend_from_slice(b"\r\n");
        out
    }

    /// The columns.
    pub fn columns(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter()
    }
}

fn begin(out: &mut Vec<u8>, column: usize) -> usize {
    if column > 0 {
        out.push(b',');
    }
    out.len()
}

/// Quotes what stands in `out` from `start` on, if it must be.
fn quote_if_needed(rules: &csv_core::Writer, out: &mut Vec<u8>, start: usize, scratch: &mut Vec<u8>) {
    if !rules.should_quote(&out[start..]) {
        return;
    }
    scratch.clear();
    scratch.extend_from_slice(&out[start..]);
    out.truncate(start);
    out.push(b'"');
    for (i, part) in scratch.split(|b| *b == b'"').enumerate() {
        if i > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part);
    }
    out.push(b'"');
}

/// A single value as it is; several as a CSV record of their own.
fn arf_cell(rules: &csv_core::Writer, out: &mut Vec<u8>, event: &Event<'_>, name: &str, scratch: &mut Vec<u8>) {
    let several = arf_values(event.arf, name).nth(1).is_some();
    for (i, value) in arf_values(event.arf, name).enumerate() {
        let start = begin(out, i);
        out.extend_from_slice(value.as_bytes());
        if several {
            quote_if_needed(rules, out, start, scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::columns::tests::acct_file;
    use super::*;
    use crate::config::FieldChoice;
    use crate::event::record::PairsBuf;
    use crate::event::{Action, DeliveryType, EnhancedStatus, Kind, SourceType};
    use proptest::prelude::*;
    use std::net::{IpAddr, Ipv4Addr};

    fn ip(d: u8) -> Option<IpAddr> {
        Some(Ipv4Addr::new(192, 0, 2, d).into())
    }

    const REMOTE: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 8)));

    /// The record of one event in a file of its type, PowerMTA's columns only.
    fn line(event: &Event<'_>) -> String {
        // The sample records of d stand in a file that has b, too; bounceCat is there for those.
        let kinds = if event.kind == Kind::Delivered { vec![Kind::Delivered, Kind::Bounced] } else { vec![event.kind] };
        let columns = Columns::of(&acct_file("a.csv", &kinds)).unwrap();
        let mut rows = CsvRows::new(columns, Some(TimeZone::UTC));
        let mut out = Vec::new();
        rows.push(&mut out, event);
        String::from_utf8(out).unwrap()
    }

    fn attempt<'a>(kind: Kind, second: i64) -> Event<'a> {
        Event {
            time_queued: Time::from_secs(1_714_550_405),
            orig: "news@example.com",
            mta: "mx.example.net",
            mta_ip: REMOTE,
            src_type: Some(SourceType::Smtp),
            src_mta: "feeder",
            src_ip: ip(5),
            dlv_type: Some(DeliveryType::Smtp),
            dlv_source_ip: ip(20),
            dlv_destination_ip: REMOTE,
            dlv_esmtp: "PIPELINING,8BITMIME",
            vmta: "vmta1",
            job: "job7",
            queue: "example.net/vmta1",
            ..Event::new(kind, Time::from_secs(1_714_550_400 + second))
        }
    }

    /// Against the sample records of reference/accounting.md, 3.4, which PowerMTA's tools read.
    #[test]
    fn records_of_every_type_are_written_as_powermta_writes_them() {
        let d = Event {
            rcpt: "ann@example.net",
            action: Some(Action::Relayed),
            status: EnhancedStatus::new(2, 0, 0),
            diag: "smtp;250 queued",
            dlv_size: 4120,
            ..attempt(Kind::Delivered, 9)
        };
        assert_eq!(
            line(&d),
            "d,2024-05-01 08:00:09+0000,2024-05-01 08:00:05+0000,news@example.com,ann@example.net,,relayed,\
             2.0.0 (success),smtp;250 queued,mx.example.net (198.51.100.8),,smtp,feeder (192.0.2.5),smtp,192.0.2.20,\
             198.51.100.8,\"PIPELINING,8BITMIME\",4120,vmta1,job7,,example.net/vmta1,\r\n"
        );
        let b = Event {
            rcpt: "bob@example.net",
            action: Some(Action::Failed),
            status: EnhancedStatus::new(5, 1, 1),
            diag: "smtp;550 5.1.1 no such user",
            category: "bad-mailbox",
            ..attempt(Kind::Bounced, 10)
        };
        assert_eq!(
            line(&b),
            "b,2024-05-01 08:00:10+0000,2024-05-01 08:00:05+0000,news@example.com,bob@example.net,,failed,\
             5.1.1 (bad destination mailbox address),smtp;550 5.1.1 no such user,mx.example.net (198.51.100.8),\
             bad-mailbox,smtp,feeder (192.0.2.5),smtp,192.0.2.20,198.51.100.8,\"PIPELINING,8BITMIME\",,vmta1,job7,,\
             example.net/vmta1,\r\n"
        );
        let t = Event {
            rcpt: "cy@example.net",
            action: Some(Action::Delayed),
            status: EnhancedStatus::new(4, 7, 0),
            diag: "smtp;421 4.7.0 slow down",
            category: "policy-related",
            ..attempt(Kind::Transient, 11)
        };
        assert_eq!(
            line(&t),
            "t,2024-05-01 08:00:11+0000,2024-05-01 08:00:05+0000,news@example.com,cy@example.net,,delayed,\
             4.7.0 (other or undefined security status),smtp;421 4.7.0 slow down,mx.example.net (198.51.100.8),\
             policy-related,smtp,feeder (192.0.2.5),smtp,192.0.2.20,198.51.100.8,\"PIPELINING,8BITMIME\",,vmta1,job7,,\
             example.net/vmta1,\r\n"
        );
        let tq = Event {
            status: EnhancedStatus::new(4, 4, 1),
            mta: "mx.example.org",
            mta_ip: Some(Ipv4Addr::new(203, 0, 113, 9).into()),
            dlv_type: Some(DeliveryType::Smtp),
            dlv_destination_ip: Some(Ipv4Addr::new(203, 0, 113, 9).into()),
            vmta: "vmta1",
            queue: "example.org/vmta1",
            ..Event::new(Kind::TransientQueue, Time::from_secs(1_714_550_412))
        };
        assert_eq!(
            line(&tq),
            "tq,2024-05-01 08:00:12+0000,4.4.1 (no answer from host),,mx.example.org (203.0.113.9),smtp,0.0.0.0,\
             203.0.113.9,vmta1,example.org/vmta1\r\n"
        );
        let r = Event {
            orig: "news@example.com",
            rcpt: "ann@example.net",
            src_type: Some(SourceType::Smtp),
            src_mta: "feeder",
            src_ip: ip(5),
            rcv_ip: ip(10),
            vmta: "vmta1",
            job: "job7",
            env_id: "env1",
            ..Event::new(Kind::Received, Time::from_secs(1_714_550_405))
        };
        assert_eq!(
            line(&r),
            "r,2024-05-01 08:00:05+0000,news@example.com,ann@example.net,,smtp,feeder (192.0.2.5),192.0.2.5,\
             192.0.2.10,vmta1,job7,env1\r\n"
        );
        let rb = Event {
            orig: "news@example.com",
            rcpt: "dee@example.org",
            status: EnhancedStatus::new(5, 1, 1),
            diag: "smtp;550 unknown user: \"dee\"",
            mta: "mx.example.org",
            mta_ip: Some(Ipv4Addr::new(203, 0, 113, 9).into()),
            reporting_mta: "relay.example.org",
            category: "bad-mailbox",
            src_type: Some(SourceType::Smtp),
            src_mta: "relay.example.org",
            src_ip: Some(Ipv4Addr::new(203, 0, 113, 8).into()),
            ..Event::new(Kind::RemoteBounce, Time::from_secs(1_714_554_000))
        };
        assert_eq!(
            line(&rb),
            "rb,2024-05-01 09:00:00+0000,news@example.com,dee@example.org,,5.1.1 (bad destination mailbox address),\
             \"smtp;550 unknown user: \"\"dee\"\"\",mx.example.org (203.0.113.9),relay.example.org,bad-mailbox,smtp,\
             relay.example.org (203.0.113.8),\r\n"
        );
        let rs = Event { kind: Kind::RemoteStatus, action: Some(Action::Delayed), diag: "", category: "", ..rb };
        assert_eq!(
            line(&rs),
            "rs,2024-05-01 09:00:00+0000,news@example.com,dee@example.org,,delayed,5.1.1 (bad destination mailbox \
             address),,mx.example.org (203.0.113.9),,smtp,relay.example.org (203.0.113.8),\r\n"
        );
        let f = Event {
            format: "arf",
            user_agent: "ExampleFBL/1.0",
            reporting_mta: "fbl.example.org",
            dlv_source_ip: Some(Ipv4Addr::new(203, 0, 113, 7).into()),
            feedback_type: "abuse",
            ..Event::new(Kind::Feedback, Time::from_secs(1_714_557_600))
        };
        assert_eq!(
            line(&f),
            "f,2024-05-01 10:00:00+0000,arf,ExampleFBL/1.0,,,,fbl.example.org,203.0.113.7,abuse,,\r\n"
        );
    }

    #[test]
    fn a_repeated_arf_field_becomes_a_list_in_one_cell() {
        let mut file = acct_file("a.csv", &[Kind::Feedback]);
        file.iso_times = false;
        let fields = ["timeLogged", "arf_Original-Rcpt-To", "header_subject"];
        file.record_fields.insert(Kind::Feedback, fields.iter().map(|f| FieldChoice::Field((*f).into())).collect());
        let mut rows = CsvRows::new(Columns::of(&file).unwrap(), None);
        assert_eq!(rows.header(), b"type,timeLogged,arf_Original-Rcpt-To,header_subject\r\n");
        let (mut arf, mut headers) = (PairsBuf::default(), PairsBuf::default());
        arf.push("original-rcpt-to", "a@example.net");
        arf.push("Source-IP", "192.0.2.1");
        arf.push("Original-Rcpt-To", "\"b,c\"@example.net");
        headers.push("Subject", "Hi\r\nthere");
        let event = Event {
            arf: arf.as_pairs(),
            headers: headers.as_pairs(),
            ..Event::new(Kind::Feedback, Time::from_secs(1_714_557_600))
        };
        let mut out = Vec::new();
        rows.push(&mut out, &event);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "f,1714557600,\"a@example.net,\"\"\"\"\"\"b,c\"\"\"\"@example.net\"\"\",\"Hi\r\nthere\"\r\n"
        );
    }

    proptest! {
        #[test]
        fn any_text_reads_back_with_an_ordinary_csv_reader(diag in "\\PC{0,60}", job in "[ -~\\r\\n\"]{0,20}", seq: u64) {
            let mut file = acct_file("a.csv", Kind::ALL);
            file.strict_columns = false;
            let mut rows = CsvRows::new(Columns::of(&file).unwrap(), Some(TimeZone::UTC));
            let mut out = rows.header();
            let event = Event { diag: &diag, job: &job, seq, store: StoreId(1), ..attempt(Kind::Bounced, 1) };
            rows.push(&mut out, &event);
            let mut reader = csv::Reader::from_reader(out.as_slice());
            let headers = reader.headers().unwrap().clone();
            let records: Vec<_> = reader.records().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(records.len(), 1);
            let cell = |name: &str| records[0].get(headers.iter().position(|h| h == name).unwrap()).unwrap().to_owned();
            prop_assert_eq!(cell("dsnDiag"), diag);
            prop_assert_eq!(cell("jobId"), job);
            prop_assert_eq!(cell("eventId"), format!("0000000000000001-{seq}"));
        }
    }
}
