//! Mailbox providers, hosters and sending services.

use super::Sign::{From, Header, NoText, Subject, Text};
use super::{Family, PLAIN, Place};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "googlegroups",
        signs: &[
            &[From("mailer-daemon@google"), Text("groups.google.com/"), NoText("final-recipient:")],
            &[From("mailer-daemon@google"), Text("google groups"), NoText("final-recipient:")],
        ],
        end: &["----- original message"],
        ..PLAIN
    },
    Family {
        name: "gmail",
        signs: &[
            &[From("mailer-daemon@google")],
            &[Text("technical details of permanent failure")],
            &[Text("technical details of temporary failure")],
        ],
        ..PLAIN
    },
    Family {
        name: "yahoo",
        signs: &[
            &[Text("unable to deliver message to the following address(es)")],
            &[Text("sorry, we were unable to deliver your message to the following address")],
            &[Text("unfortunately, we couldn't deliver your message")],
            &[From("mailer-daemon@yahoo")],
        ],
        ..PLAIN
    },
    Family { name: "mailru", signs: &[&[From("mail.ru"), Text("mail.ru")], &[From("@corp.mail.ru")]], ..PLAIN },
    Family {
        name: "zoho",
        signs: &[&[Header("x-mailer", "zoho mail")], &[From("zoho"), Text("error_code :")]],
        lines: &[
            "{rcpt} {*} ERROR_CODE :{code}, ERROR_CODE :{why}",
            "{rcpt}, ERROR CODE :{code} - {why}",
            "{rcpt}, ERROR CODE :{code}{why}",
            "{rcpt} {*} ERROR CODE :{code}{why}",
            "{rcpt}: {why}",
        ],
        ..PLAIN
    },
    Family { name: "workmail", signs: &[&[Header("x-mailer", "amazon workmail")]], ..PLAIN },
    Family { name: "sendgrid", signs: &[&[Text("this is an automatically generated message from sendgrid")]], ..PLAIN },
    Family {
        name: "postmark",
        signs: &[&[From("postmarkapp.com"), Subject("bounce")]],
        end: &["inactive:"],
        lines: &["Email: {rcpt}", "Details: {why}"],
        ..PLAIN
    },
    // Who forwards under another name tells his customer, not the sender.
    Family {
        name: "simplelogin",
        signs: &[&[Header("x-simplelogin-type", "bounce")], &[From("simplelogin"), Subject("bounced")]],
        end: &["you can find the original", "original email"],
        lines: &["An email sent from {*} to {rcpt} could not be delivered.", "The receiving mail server said:{why}"],
        ..PLAIN
    },
    Family {
        name: "usanet",
        signs: &[&[From("usa.net"), Text("intended recipient")]],
        end: &["returned mail follows"],
        lines: &["Intended recipient: {rcpt}", "{why}"],
        reason: Place::Below,
        ..PLAIN
    },
    Family {
        name: "hotpop",
        signs: &[&[Text("undeliverable address:")]],
        lines: &["Undeliverable Address: {rcpt}", "Reason: {why}"],
        ..PLAIN
    },
    Family {
        name: "prodigy",
        signs: &[&[Text("user's mailbox is full:"), Text("unable to deliver mail")]],
        lines: &["User's mailbox is full: <{rcpt}>", "User's mailbox is full: {rcpt}"],
        ..PLAIN
    },
    Family { name: "sina", signs: &[&[Header("x-mailer", "sinamail")], &[From("mailer-daemon@sina.com")]], ..PLAIN },
    Family {
        name: "tencent",
        signs: &[&[From("postmaster@qq.com")], &[From("postmaster@foxmail.com")], &[From("postmaster@exmail.")]],
        ..PLAIN
    },
    Family {
        name: "netease",
        signs: &[
            &[From("postmaster@163.com")],
            &[From("postmaster@126.com")],
            &[From("postmaster@188.com")],
            &[From("postmaster@yeah.net")],
        ],
        ..PLAIN
    },
    // Japanese hosters (Mail2000 and its kin): the reason stands in brackets behind the address.
    Family {
        name: "mail2000",
        signs: &[&[Text("---the following addresses had")], &[From("mail deliver system")]],
        begin: &["the following addresses had"],
        lines: &["{rcpt} [{why}]", "<{rcpt}> [{why}]", "{rcpt}{why}"],
        ..PLAIN
    },
    Family {
        name: "x3",
        signs: &[&[From("mail.delivery.system@"), Text("technical details:")]],
        lines: &["* {rcpt}", "SMTP:{*} host {host}: {why}", "Routing: {why}", "{*}:{*} host {host}: {why}"],
        ..PLAIN
    },
    Family {
        name: "x6",
        signs: &[&[Text("we had trouble delivering your message"), Text("error(s)")]],
        begin: &["error(s)"],
        end: &["the attachment contains"],
        lines: &[
            "The following recipients returned permanent errors: {rcpt}. {why}",
            "The following recipients returned {*} errors: {rcpt}{why}",
            "SMTP Server <{host}> rejected recipient <{rcpt}>{why}",
            "SMTP Server <{host}> {*} <{rcpt}>{why}",
        ],
        ..PLAIN
    },
    Family {
        name: "failed-recipient",
        signs: &[&[Text("failed recipient:"), Text("reason:")]],
        end: &["of the message follow"],
        lines: &["Failed Recipient: {rcpt}", "Reason: {why}"],
        ..PLAIN
    },
    Family {
        name: "trilingual",
        signs: &[&[Subject("failure notice"), Text("su mensaje no pudo ser entregado")]],
        ..PLAIN
    },
    Family {
        name: "list-of-failed",
        signs: &[&[Text("here is your list of failed recipients")]],
        begin: &["list of failed recipients"],
        end: &["here is your returned mail"],
        lines: &["<{rcpt}>{why}", "{rcpt}{why}"],
        reason: Place::Below,
    },
];
