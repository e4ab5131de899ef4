//! The mail servers that came with Unix, and those made in their image.

use super::Sign::{Header, NoText, Subject, Text};
use super::{Family, PLAIN, Place};

/// Lines of a sendmail transcript, in which the answer stands above the result.
const TRANSCRIPT: &[&str] = &[
    "<<< {why}",
    "... while talking to {host}:",
    "While talking to {host}:",
    "Connected to {host}:",
    "{code} <{rcpt}>... {why}",
    "{code} {rcpt}... {why}",
    "<{rcpt}>... {why}",
    "{rcpt}... {why}",
    "{code} {*} (smtp)... {*}",
];

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "opensmtpd",
        signs: &[&[Text("this is the mailer-daemon, please do not reply")]],
        begin: &["list of recipients"],
        end: &["below is a copy of the original", "please note that this is only"],
        lines: &["{rcpt}: {why}"],
        ..PLAIN
    },
    Family {
        name: "dragonfly",
        signs: &[&[Text("this is the dragonfly mail agent")]],
        end: &["message headers follow", "original message follows"],
        lines: &[
            "There was an error delivering your mail to <{rcpt}>{why}",
            "Your message to <{rcpt}>{why}",
            "Message delivery to <{rcpt}>{why}",
        ],
        ..PLAIN
    },
    // What the servers of a hosting company write has the words of Exim, but its reasons in one line.
    Family {
        name: "kundenserver",
        signs: &[
            &[
                Text("sorry, we were unable to deliver your message to the following"),
                Header("received", "kundenserver"),
            ],
            &[Header("from", "kundenserver.de"), Text("this message was created automatically")],
            &[Header("from", "gmx."), Text("this message was created automatically")],
        ],
        ..PLAIN
    },
    Family {
        name: "exim",
        signs: &[
            &[Text("this message was created automatically by mail delivery software")],
            &[Text("this message was created automatically by the smtp relay")],
            &[Text("a message that you sent could not be delivered")],
            &[Text("a message that you sent has not yet been delivered")],
            &[Text("a message sent by"), Text("could not be delivered to one or more of its recipients")],
            &[Subject("frozen"), Text("the following address(es) have yet to be delivered")],
        ],
        ..PLAIN
    },
    Family {
        name: "smail",
        signs: &[&[Text("failed addresses follow")]],
        begin: &["failed addresses follow"],
        end: &["message text follows"],
        lines: &["<{rcpt}> ... {why}", "{rcpt} ... {why}", "{rcpt}"],
        ..PLAIN
    },
    Family {
        name: "courier",
        signs: &[
            &[Text("undeliverable mail"), Text("this is a delivery status notification from")],
            &[Text("delays in delivering your message"), Text("this is a delivery status notification from")],
        ],
        ..PLAIN
    },
    Family {
        name: "qmail",
        signs: &[
            &[Text("this is the qmail-send program")],
            &[Text("this is the qmail-run program")],
            &[Text("qmail")],
            &[Subject("failure notice"), Text("i'm afraid i wasn't able to deliver your message")],
            &[Text("this is the deliver program at")],
            &[Text("this is the email server at")],
        ],
        ..PLAIN
    },
    Family {
        name: "postfix",
        signs: &[
            &[Text("postfix program at host")],
            &[Text("this is the mail system at host")],
            &[Text("i'm sorry to have to inform you"), Text("could not")],
            &[Subject("postfix smtp server: errors from"), Text("transcript of session follows")],
        ],
        ..PLAIN
    },
    Family {
        name: "sendmail-5",
        signs: &[&[
            Text("transcript of session follows"),
            NoText("the following addresses had"),
            NoText("following recipients"),
        ]],
        begin: &["transcript of session follows"],
        end: &["unsent message follows", "message header follows", "no message was collected"],
        lines: TRANSCRIPT,
        reason: Place::Above,
    },
    Family {
        name: "sendmail",
        signs: &[
            &[Text("----- the following addresses had")],
            &[Text("the following addresses had permanent"), Text("transcript of")],
            &[Text("the following addresses had transient")],
            &[Text("transcript of session follows")],
        ],
        ..PLAIN
    },
    Family {
        name: "phquery",
        signs: &[&[Text("message not delivered to the following addresses"), Text("error detail")]],
        begin: &["message not delivered"],
        end: &["unsent message"],
        lines: &["---- {rcpt}{why}", "{rcpt}"],
        ..PLAIN
    },
    Family {
        name: "fml",
        signs: &[
            &[Header("x-mlserver", "fml"), Subject("loop alert")],
            &[Header("x-mlserver", "fml"), Subject("reject")],
            &[Header("x-mlserver", "fml"), Subject("multiple recipients")],
            &[Header("x-mlserver", "fml"), Subject("not member")],
        ],
        end: &["original mail as follows", "original mail is"],
        lines: &["{why} in <{rcpt}>", "{why} <{rcpt}>", "<{rcpt}>{why}"],
        reason: Place::Above,
        ..PLAIN
    },
];
