//! The mail that comes back later: delivery status notifications (RFC 3464) and abuse reports (RFC 5965).

use super::chance;
use crate::event::Time;

/// A report to be mailed to the sender of the original.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Not before this.
    pub due: Time,
    /// Envelope sender; empty for the null sender.
    pub from: String,
    /// Envelope recipient: the return path, or the feedback address.
    pub to: String,
    /// The whole message, lines ended by CRLF.
    pub content: Vec<u8>,
}

/// What a report is about.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The mail host that reports.
    pub host: &'a str,
    /// Envelope sender of the original.
    pub return_path: &'a str,
    /// Its recipient.
    pub rcpt: &'a str,
    /// Address it came from.
    pub peer: std::net::IpAddr,
    /// Its content, or as much as was kept.
    pub original: &'a [u8],
    /// For ids.
    pub n: u64,
    /// When the original arrived.
    pub arrived: Time,
}

/// A bounce (RFC 3464) that says the recipient does not exist, after all.
pub fn bounce(about: &About<'_>, diagnostic: &str) -> Vec<u8> {
    let About { host, return_path, rcpt, .. } = *about;
    let (id, boundary, date) = (chance::id(about.n, 16), chance::id(about.n ^ 2, 20), date(about.arrived));
    let headers = String::from_utf8_lossy(header_part(about.original));
    format!(
        "From: Mail Delivery System <mailer-daemon@{host}>\r\n\
         To: <{return_path}>\r\n\
         Subject: Undelivered mail returned to sender\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{host}>\r\n\
         Auto-Submitted: auto-replied\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=delivery-status; boundary=\"{boundary}\"\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         This is the mail system at {host}.\r\n\
         Your message to {rcpt} was accepted and could not be delivered after that.\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: message/delivery-status\r\n\
         \r\n\
         Reporting-MTA: dns; {host}\r\n\
         Arrival-Date: {date}\r\n\
         \r\n\
         Final-Recipient: rfc822; {rcpt}\r\n\
         Action: failed\r\n\
         Status: 5.1.1\r\n\
         Remote-MTA: dns; store.{host}\r\n\
         Diagnostic-Code: smtp; {diagnostic}\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/rfc822-headers\r\n\
         \r\n\
         {headers}\r\n\
         --{boundary}--\r\n"
    )
    .into_bytes()
}

/// A complaint (RFC 5965): the recipient pressed "this is spam".
pub fn complaint(about: &About<'_>, feedback_address: &str) -> Vec<u8> {
    let About { host, return_path, rcpt, peer, original, .. } = *about;
    let (id, boundary, date) = (chance::id(about.n, 16), chance::id(about.n ^ 2, 20), date(about.arrived));
    let domain = return_path.rsplit_once('@').map_or("", |(_, d)| d);
    let mut content = format!(
        "From: Feedback loop <fbl@{host}>\r\n\
         To: <{feedback_address}>\r\n\
         Subject: Complaint about a message from {peer}\r\n\
         Date: {date}\r\n\
         Message-ID: <{id}@{host}>\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: multipart/report; report-type=feedback-report; boundary=\"{boundary}\"\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: text/plain; charset=us-ascii\r\n\
         \r\n\
         One of our users has marked the attached message as spam.\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: message/feedback-report\r\n\
         \r\n\
         Feedback-Type: abuse\r\n\
         User-Agent: {user_agent}/2.1\r\n\
         Version: 1\r\n\
         Original-Mail-From: <{return_path}>\r\n\
         Original-Rcpt-To: <{rcpt}>\r\n\
         Received-Date: {date}\r\n\
         Reporting-MTA: dns; {host}\r\n\
         Source-IP: {peer}\r\n\
         Reported-Domain: {domain}\r\n\
         \r\n\
         --{boundary}\r\n\
         Content-Type: message/rfc822\r\n\
         \r\n\
         Return-Path: <{return_path}>\r\n",
        user_agent = "PostFeedback",
    )
    .into_bytes();
    content.extend_from_slice(original);
    if !content.ends_with(b"\r\n") {
        content.extend_from_slice(b"\r\n");
    }
    content.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    content
}

/// The header of a message without the empty line that ends it.
pub fn header_part(content: &[u8]) -> &[u8] {
    match memchr::memmem::find(content, b"\r\n\r\n") {
        Some(end) => &content[..end + 2],
        None => content,
    }
}

/// The value of the first header of this name, unfolded; `None` when there is none.
pub fn header_value(content: &[u8], name: &str) -> Option<String> {
    let header = String::from_utf8_lossy(header_part(content));
    let mut lines = header.split("\r\n").peekable();
    while let Some(line) = lines.next() {
        let Some((n, value)) = line.split_once(':') else { continue };
        if !n.eq_ignore_ascii_case(name) {
            continue;
        }
        let mut value = value.trim().to_owned();
        while let Some(more) = lines.next_if(|l| l.starts_with([' ', '\t'])) {
            value.push(' ');
            value.push_str(more.trim());
        }
        return Some(value.trim().to_owned());
    }
    None
}

fn date(time: Time) -> String {
    mail_builder::headers::date::Date::new(time.secs()).to_rfc822()
}

#[cfg(test)]
mod tests {
    use super::*;
    use mail_parser::{MessageParser, MimeHeaders};

    fn about() -> About<'static> {
        About {
            host: "mx.mailhost.example",
            return_path: "token@bounce.sender.example",
            rcpt: "ann@mailhost.example",
            peer: [127, 0, 0, 1].into(),
            original: b"Message-ID: <1.2@sender.example>\r\nSubject: News\r\n of the day\r\n\r\nHello\r\n",
            n: 9,
            arrived: Time::from_secs(1_800_000_000),
        }
    }

    fn parts(content: &[u8]) -> Vec<String> {
        let message = MessageParser::default().parse(content).unwrap();
        let kinds = message.parts.iter().filter_map(|p| p.content_type());
        kinds.map(|c| format!("{}/{}", c.ctype(), c.subtype().unwrap_or(""))).collect()
    }

    #[test]
    fn a_bounce_has_the_three_parts_of_rfc_3464_and_names_the_recipient() {
        let content = bounce(&about(), "550 5.1.1 no such user");
        let text = String::from_utf8(content.clone()).unwrap();
        assert_eq!(
            parts(&content),
            ["multipart/report", "text/plain", "message/delivery-status", "text/rfc822-headers"]
        );
        assert!(text.contains("Final-Recipient: rfc822; ann@mailhost.example\r\n"));
        assert!(text.contains("Message-ID: <1.2@sender.example>\r\n"));
        assert!(!text.contains("Hello"));
    }

    #[test]
    fn a_complaint_has_the_three_parts_of_rfc_5965_and_the_original() {
        let content = complaint(&about(), "fbl@feedback.sender.example");
        assert_eq!(&parts(&content)[..3], ["multipart/report", "text/plain", "message/feedback-report"]);
        let text = String::from_utf8(content).unwrap();
        assert!(text.contains("Feedback-Type: abuse\r\n") && text.contains("Hello\r\n"));
        assert!(text.contains("Return-Path: <token@bounce.sender.example>\r\n"));
    }

    #[test]
    fn a_folded_header_is_read_whole() {
        assert_eq!(header_value(about().original, "subject").as_deref(), Some("News of the day"));
        assert_eq!(header_value(about().original, "x-none"), None);
        assert_eq!(header_value(b"no header at all", "subject"), None);
    }
}
