//! Files as people have them, written for this project, and what becomes of each line.

use proptest::prelude::*;

use super::*;

fn read(name: &str, format: &str, text: impl AsRef<[u8]>) -> (Vec<Record>, Reader) {
    let options = Options { format: format.into(), name: name.into(), ..Options::default() };
    read_with(options, text).unwrap()
}

fn read_with(options: Options, text: impl AsRef<[u8]>) -> Result<(Vec<Record>, Reader), Refusal> {
    let mut reader = Reader::new(options)?;
    let mut records = Vec::new();
    reader.push(text.as_ref(), &mut |record| records.push(record))?;
    reader.finish(&mut |record| records.push(record))?;
    Ok((records, reader))
}

fn refusal(options: Options, text: &str) -> Refusal {
    match read_with(options, text) {
        Err(refusal) => refusal,
        Ok((records, _)) => panic!("read: {records:?}"),
    }
}

/// Of each record: `subject rule`, `- why`, `! why`.
fn said(records: &[Record]) -> Vec<String> {
    let said = |record: &Record| match &record.outcome {
        Outcome::Entry(row) => Some(format!("{} {}", row.subject, row.rule)),
        Outcome::Skipped(why) => Some(format!("- {why}")),
        Outcome::Rejected(why) => Some(format!("!{} {why}", record.line)),
        Outcome::Nothing => None,
    };
    records.iter().filter_map(said).collect()
}

fn first_row(records: &[Record]) -> &Row {
    records
        .iter()
        .find_map(|r| match &r.outcome {
            Outcome::Entry(row) => Some(&**row),
            _ => None,
        })
        .expect("there is an entry")
}

#[test]
fn a_list_of_lines_is_read_whatever_ends_them() {
    for end in ["\n", "\r\n", "\r"] {
        let text = ["Ann@B.example", "", "@Gone.example", "no address", "# a comment", "<bob@b.example>"].join(end);
        let (records, reader) = read("x", "auto", text);
        assert_eq!(reader.format(), "newline");
        assert_eq!(
            said(&records),
            [
                "ann@b.example import",
                "@gone.example import",
                "!4 \"no address\": address has no @",
                "bob@b.example import"
            ]
        );
        assert_eq!(records[3].raw, b"no address");
    }
}

#[test]
fn a_bad_first_line_of_a_list_is_no_header() {
    let (records, _) = read("x", "auto", "nonsense\nann@b.example\n");
    assert_eq!(said(&records), ["!1 \"nonsense\": address has no @", "ann@b.example import"]);
    assert_eq!(said(&read("x", "auto", "E-Mail\nann@b.example\n").0), ["ann@b.example import"]);
}

#[test]
fn the_column_is_found_by_header_by_content_or_as_said() {
    let header = "id;E-Mail;reason\n1;ann@b.example;\"left; for good\"\n";
    let (records, reader) = read("x", "auto", header);
    assert_eq!((said(&records), reader.format()), (vec!["ann@b.example import".to_owned()], "csv"));
    assert_eq!(first_row(&records).note, "left; for good");
    assert_eq!(
        said(&read("x", "auto", "1,ann@b.example,x\n2,bob@b.example,y\n").0),
        ["ann@b.example import", "bob@b.example import"]
    );
    assert_eq!(
        said(&read("x", "auto", "Kunde,Adr\n1,ann@b.example\n").0),
        ["ann@b.example import"],
        "by content below a header"
    );
    for column in ["second", "2"] {
        let options = Options { column: Some(column.into()), ..Options::default() };
        let (records, _) = read_with(options, "email,second\na@b.example,c@d.example\n").unwrap();
        assert_eq!(said(&records), ["c@d.example import"]);
    }
    let options = Options { column: Some("third".into()), ..Options::default() };
    assert_eq!(refusal(options, "a,b\n1,2\n"), Refusal::OtherColumn("third".into(), "a, b".into()));
    assert_eq!(refusal(Options::default(), "a,b\n1,2\n"), Refusal::NoColumn);
}

#[test]
fn a_quote_that_is_not_closed_costs_one_line() {
    let text = "email,reason\nann@b.example,\"550 no\nsuch user\"\nbob@b.example,\"open\ncarl@b.example,x\n";
    let (records, _) = read("x", "auto", text);
    assert_eq!(
        said(&records),
        ["ann@b.example import", "!4 a quote is opened and not closed", "carl@b.example import"]
    );
    assert_eq!(first_row(&records).note, "550 no\nsuch user");
    let long = format!("email,reason\nbob@b.example,\"{}\ncarl@b.example,x\n", "y".repeat(200_000));
    assert_eq!(said(&read("x", "auto", long).0), ["!2 the line is longer than 64 KiB", "carl@b.example import"]);
}

#[test]
fn sendgrid() {
    let bounces = "status,reason,email,created\n5.1.1,550 5.1.1 no such user,ann@b.example,1576573113\n\
                   4.2.2,452 full,bob@b.example,1576573113\n";
    let (records, reader) = read("bounces.csv", "auto", bounces);
    assert_eq!(reader.format(), "sendgrid-bounces");
    assert_eq!(said(&records), ["ann@b.example hard", "- status 4.2.2 is temporary"]);
    assert_eq!(
        (first_row(&records).reply.as_str(), first_row(&records).time.secs()),
        ("550 5.1.1 no such user", 1_576_573_113)
    );
    assert!(reader.remarks().iter().any(|r| r.contains("--format sendgrid-blocks")), "{:?}", reader.remarks());
    for (name, format) in [("suppression_blocks.csv", "auto"), ("x.csv", "sendgrid-blocks")] {
        let (records, reader) = read(name, format, bounces);
        assert_eq!(reader.format(), "sendgrid-blocks");
        assert!(said(&records).iter().all(|s| s == "- a block is about the message, not about the address"));
        assert!(reader.remarks()[0].starts_with("2 left out"));
    }
    for (header, line, format, rule) in [
        ("email,created,ip", "ann@b.example,1576573113,192.0.2.1", "sendgrid-spam-reports", "complaint"),
        (
            "email,created,reason",
            "ann@b.example,1576573113,Mail domain mentioned is unknown",
            "sendgrid-invalid",
            "hard",
        ),
        ("email,created", "ann@b.example,2019-12-17 08:58:33", "sendgrid-unsubscribes", "unsub"),
    ] {
        let (records, reader) = read("x", "auto", format!("{header}\n{line}\n"));
        assert_eq!((reader.format(), said(&records)), (format, vec![format!("ann@b.example {rule}")]));
    }
    let api = r#"[{"created":1576573113,"email":"ann@b.example","reason":"550 no","status":"5.1.1"}]"#;
    assert_eq!(said(&read("x", "auto", api).0), ["ann@b.example hard"]);
}

#[test]
fn sparkpost_in_csv_and_json() {
    let csv = "recipient,source,type,description,created\n\
               ann@b.example,Spam Complaint,non_transactional,,2017-10-01T12:00:00+00:00\n\
               bob@b.example,Bounce Rule,transactional,550 no such user,2017-10-01T12:00:00+00:00\n\
               carl@b.example,Manually Added,transactional,,2017-10-01T12:00:00+00:00\n";
    let (records, reader) = read("x", "auto", csv);
    assert_eq!(reader.format(), "sparkpost");
    assert_eq!(said(&records), ["ann@b.example complaint", "bob@b.example hard", "carl@b.example import"]);
    assert_eq!(first_row(&records).note, "Spam Complaint at SparkPost, non-transactional mail");
    let json = r#"{"results":[{"recipient":"ann@b.example","type":"non_transactional","source":"List Unsubscribe",
        "description":"used the header","created":"2017-10-01T12:00:00+00:00","transactional":false,"non_transactional":true}],
        "links":[],"total_count":1}"#;
    let (records, reader) = read("x", "auto", json);
    assert_eq!((said(&records), reader.format()), (vec!["ann@b.example unsub".to_owned()], "sparkpost"));
}

#[test]
fn mailgun_in_csv_and_json() {
    let bounces = "address,code,error,created_at\nann@b.example,550,no such user,\"Tue, 17 Dec 2019 08:58:33 UTC\"\n\
                   bob@b.example,452,full,\n";
    let (records, _) = read("x", "auto", bounces);
    assert_eq!(said(&records), ["ann@b.example hard", "- code 452 is temporary"]);
    assert_eq!(
        (first_row(&records).reply.as_str(), first_row(&records).time.secs()),
        ("550 no such user", 1_576_573_113)
    );
    let unsubscribes = "address,tags,created_at\nann@b.example,*,\nbob@b.example,news,\n";
    let tag_only = "- left a tag only; --scope says for whose mail to enter it";
    assert_eq!(said(&read("x", "auto", unsubscribes).0), ["ann@b.example unsub", tag_only]);
    let complaints = "address,created_at\nann@b.example,\n";
    assert_eq!(said(&read("x", "auto", complaints).0), ["ann@b.example complaint"]);
    let json = r#"{"items":[{"address":"ann@b.example","tags":["*"],"created_at":"Tue, 17 Dec 2019 08:58:33 UTC"}],
                   "paging":{"next":"https://x.example/"}}"#;
    assert_eq!(said(&read("x", "auto", json).0), ["ann@b.example unsub"]);
}

#[test]
fn ses_in_json_and_csv() {
    let json = r#"{"SuppressedDestinationSummaries":[
        {"EmailAddress":"ann@b.example","Reason":"BOUNCE","LastUpdateTime":"2019-12-17T08:58:33Z"},
        {"EmailAddress":"bob@b.example","Reason":"COMPLAINT","LastUpdateTime":1576573113.25},
        {"EmailAddress":"carl@b.example","Reason":"WHIM"}],"NextToken":"x"}"#;
    let (records, reader) = read("x", "auto", json);
    assert_eq!(reader.format(), "ses");
    assert_eq!(
        said(&records),
        ["ann@b.example hard", "bob@b.example complaint", "!4 \"WHIM\" is neither BOUNCE nor COMPLAINT"]
    );
    let csv = "EmailAddress,Reason,LastUpdateTime\nann@b.example,BOUNCE,2019-12-17T08:58:33Z\n";
    assert_eq!(said(&read("x", "auto", csv).0), ["ann@b.example hard"]);
    assert_eq!(said(&read("x", "ses", "ann@b.example,COMPLAINT\n").0), ["ann@b.example complaint"], "without a header");
}

#[test]
fn postmark() {
    let json = r#"{"Suppressions":[
        {"EmailAddress":"ann@b.example","SuppressionReason":"HardBounce","Origin":"Recipient","CreatedAt":"2019-12-17T03:58:33-05:00"},
        {"EmailAddress":"bob@b.example","SuppressionReason":"SpamComplaint","Origin":"Recipient","CreatedAt":""},
        {"EmailAddress":"carl@b.example","SuppressionReason":"ManualSuppression","Origin":"Recipient"},
        {"EmailAddress":"dora@b.example","SuppressionReason":"ManualSuppression","Origin":"Customer"},
        {"EmailAddress":"eve@b.example","SuppressionReason":"SoftBounce","Origin":"Recipient"}]}"#;
    let (records, reader) = read("x", "auto", json);
    assert_eq!(reader.format(), "postmark");
    assert_eq!(
        said(&records),
        [
            "ann@b.example hard",
            "bob@b.example complaint",
            "carl@b.example unsub",
            "dora@b.example import",
            "- a soft bounce"
        ]
    );
}

#[test]
fn mailchimp_and_never_its_subscribers() {
    let tail = "MEMBER_RATING,OPTIN_TIME,LEID,EUID";
    let cleaned = format!("Email Address,First Name,{tail},CLEAN_TIME\nann@b.example,Ann,2,,1,x,2019-12-17 08:58:33\n");
    let (records, reader) = read("x", "auto", cleaned);
    assert_eq!((reader.format(), said(&records)), ("mailchimp-cleaned", vec!["ann@b.example hard".to_owned()]));
    let left = format!(
        "Email Address,{tail},UNSUB_TIME,UNSUB_REASON\nann@b.example,2,,1,x,2019-12-17 08:58:33,NORMAL\n\
         bob@b.example,2,,1,x,2019-12-17 08:58:33,I think this is SPAM\n"
    );
    assert_eq!(said(&read("x", "auto", left).0), ["ann@b.example unsub", "bob@b.example complaint"]);
    let subscribed = format!("Email Address,{tail}\nann@b.example,2,,1,x\n");
    assert_eq!(refusal(Options::default(), &subscribed), Refusal::Subscribers);
    assert_eq!(said(&read("x", "csv", subscribed).0), ["ann@b.example import"]);
}

#[test]
fn sums_are_read_whole_or_in_half() {
    let options = Options { hashed: true, ..Options::default() };
    let (sum, half) = ("AB".repeat(32), "cd".repeat(16));
    let (records, _) = read_with(options, format!("{sum}\n{half}\nann@b.example\n")).unwrap();
    let wrong = "!3 no SHA-256 sum in hexadecimal (64 digits, or the first 32)";
    assert_eq!(said(&records), [format!("{} import", "ab".repeat(32)), format!("{half} import"), wrong.to_owned()]);
}

#[test]
fn what_was_exported_is_read_back_the_same() {
    let line = write::Line {
        subject: "ann@b.example",
        scope: "list weekly",
        state: "active",
        source: "auto",
        rule: "unsub",
        time: "2019-12-17T08:58:33Z",
        expires: "2031-01-01T00:00:00Z",
        category: "bad-mailbox",
        reply: "550 \"no\", they said",
        note: "#1",
        ..write::Line::default()
    };
    let columns = line.columns(&write::Naming::Plain).unwrap();
    let csv = format!("{}\n{}\n", write::csv_line(&write::COLUMNS), write::csv_line(&columns));
    for text in [csv, write::json_line(&columns)] {
        let (records, reader) = read("x", "auto", text);
        assert_eq!(reader.format(), "carom");
        let row = first_row(&records);
        assert_eq!((row.subject.as_str(), row.rule.as_str(), row.note.as_str()), ("ann@b.example", "unsub", "#1"));
        assert_eq!(
            (row.scope.as_ref().unwrap().to_string(), row.reply.as_str()),
            ("list weekly".into(), "550 \"no\", they said")
        );
        assert_eq!((row.time.secs(), row.expires.secs()), (1_576_573_113, 1_924_992_000));
    }
    let hashed = line.columns(&write::Naming::Sha256).unwrap();
    assert!(!hashed.iter().any(|c| c.contains("ann") || c.contains("550")), "{hashed:?}");
}

#[test]
fn a_file_of_another_kind_is_refused_by_name() {
    let options = |format: &str| Options { format: format.into(), ..Options::default() };
    assert!(matches!(Reader::new(options("excel")), Err(Refusal::Format(..))));
    assert!(matches!(refusal(options("mailgun"), "a,b\n1,2\n"), Refusal::OtherFormat(..)));
    assert_eq!(read_with(Options::default(), b"\xff\xfea\0").unwrap_err_refusal(), Refusal::Utf16);
    let (records, _) = read("x", "auto", b"\xef\xbb\xbfemail\nann@b.example\n");
    assert_eq!(said(&records), ["ann@b.example import"], "a byte order mark is no part of the name");
}

trait Refused {
    fn unwrap_err_refusal(self) -> Refusal;
}

impl Refused for Result<(Vec<Record>, Reader), Refusal> {
    fn unwrap_err_refusal(self) -> Refusal {
        match self {
            Err(refusal) => refusal,
            Ok(_) => panic!("it was read"),
        }
    }
}

/// The records of a text that comes in pieces of these sizes.
fn in_pieces(text: &[u8], sizes: &[usize]) -> Option<Vec<Record>> {
    let mut reader = Reader::new(Options::default()).unwrap();
    let (mut records, mut rest, mut sizes) = (Vec::new(), text, sizes.iter().cycle());
    while !rest.is_empty() {
        let n = sizes.next().map_or(rest.len(), |n| (*n).max(1)).min(rest.len());
        reader.push(&rest[..n], &mut |record| records.push(record)).ok()?;
        rest = &rest[n..];
    }
    reader.finish(&mut |record| records.push(record)).ok()?;
    Some(records)
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(text in prop::collection::vec(any::<u8>(), 0..600), size in 1usize..50) {
        let _ = in_pieces(&text, &[size]);
    }

    #[test]
    fn no_json_makes_reading_panic(text in "[\\[\\]{}\",:a-c@.0-9 \\n\\\\]{0,200}", size in 1usize..50) {
        let _ = in_pieces(format!("[{text}").as_bytes(), &[size]);
        let _ = in_pieces(format!("{{{text}").as_bytes(), &[size]);
    }

    /// Every line is entered, skipped with a reason, rejected with its number, or blank: none is lost or counted twice.
    #[test]
    fn every_line_is_accounted_for(
        lines in prop::collection::vec("([a-c]{1,3}@b\\.example|[a-c ,\"#]{0,8}|\"[a-c\",]{0,6})", 0..30),
        size in 1usize..40,
    ) {
        let text = format!("email,reason\n{}", lines.iter().map(|l| format!("{l}\n")).collect::<String>());
        let records = in_pieces(text.as_bytes(), &[size]).unwrap();
        let mut next = 1;
        for record in &records {
            prop_assert_eq!(record.line, next);
            next += record.lines;
        }
        prop_assert_eq!(next as usize, lines.len() + 2);
    }

    #[test]
    fn the_pieces_in_which_a_file_comes_do_not_matter(
        lines in prop::collection::vec("([a-c]{1,3}@b\\.example,x|[a-c,\"]{0,8}|\"a\n\",c@b\\.example)", 0..20),
        size in 1usize..40,
    ) {
        let text = format!("x,email\n{}", lines.join("\r\n"));
        prop_assert_eq!(in_pieces(text.as_bytes(), &[size]), in_pieces(text.as_bytes(), &[text.len()]));
    }
}
