//! Gateways that filter mail on its way: virus and spam scanners, in a box or as a service.

use super::Sign::{From, Header, NoText, Subject, Text};
use super::{Family, PLAIN, Place};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "mxl",
        signs: &[&[Header("x-mxl-notehash", "")], &[From("mxlogic"), Text("created automatically")]],
        end: &["included is a copy"],
        lines: &["<{rcpt}>: {why}", "<{rcpt}>:{why}", "{rcpt}: {why}"],
        ..PLAIN
    },
    Family {
        name: "amavis",
        signs: &[&[Text("our content checker found"), Text("delivery of the email was stopped")]],
        lines: &["-> {rcpt}", "-> <{rcpt}>", "Our content checker found{why}"],
        reason: Place::Above,
        ..PLAIN
    },
    // Notes to the sender of a virus: the prose says it, the address stands among the fields of his mail.
    Family {
        name: "virus-alert",
        signs: &[
            &[From("interscan"), Text("detected virus")],
            &[From("virus"), Text("virus"), Text("in your e-mail")],
            &[From("virus"), Text("virus"), Text("you sent")],
        ],
        lines: &[
            "To: {rcpt}",
            "Recipient: {rcpt}",
            "Receiver: {rcpt}",
            "Recipients: {rcpt}",
            "{rcpt}",
            "From: {*}",
            "Sender: {*}",
            "Subject: {*}",
            "Date: {*}",
            "Time: {*}",
            "Method: {*}",
            "File: {*}",
            "Action: {*}",
            "Virus: {*}",
        ],
        reason: Place::Prose,
        ..PLAIN
    },
    Family {
        name: "interscan",
        signs: &[
            &[Text("message from interscan")],
            &[From("interscan")],
            &[Header("x-mailer", "interscan")],
            &[Subject("mail could not be delivered"), Text("sent <<<"), Text("received >>>")],
        ],
        end: &["end of message"],
        lines: &[
            "Sent <<< RCPT TO:<{rcpt}>",
            "RCPT TO: <{rcpt}>{why}",
            "Received >>> {why}",
            "Unable to deliver message to <{rcpt}>.{why}",
            "Unable to deliver message to <{rcpt}> {why}",
            "Unable to deliver message to {rcpt}{why}",
        ],
        ..PLAIN
    },
    Family {
        name: "brightmail",
        signs: &[
            &[From("brightmail"), Text("deliver")],
            &[Header("x-mailer", "brightmail")],
            &[Header("x-brightmail-tracker", ""), Text("was undeliverable")],
        ],
        lines: &["The following message to <{rcpt}> was undeliverable{why}", "<{rcpt}>{why}", "{rcpt}{why}"],
        ..PLAIN
    },
    Family {
        name: "symantec",
        signs: &[&[From("symantec"), Text("could not be delivered")], &[Text("symantec"), Text("undeliver")]],
        begin: &["following recipient"],
        lines: &["{rcpt}{why}", "<{rcpt}>{why}"],
        ..PLAIN
    },
    Family {
        name: "ironport",
        signs: &[&[Text("was undeliverable"), Text("the reason for the problem:")]],
        lines: &["The following message to <{rcpt}> was undeliverable.", "The reason for the problem:{why}"],
        ..PLAIN
    },
    Family {
        name: "mailmarshal",
        signs: &[
            &[Text("could not be delivered because of")],
            &[Text("the following recipients were affected")],
            &[From("mailmarshal"), Text("deliver")],
            &[Text("mailmarshal"), Text("has not delivered")],
            &[Text("mailmarshal"), Text("stopped the following")],
        ],
        begin: &["could not be delivered because of", "your message:"],
        end: &["additional information"],
        lines: &[
            "{rcpt}",
            "<{rcpt}>",
            "The following recipients were affected:",
            "To: {rcpt}",
            "Because {why}",
            "Message: {*}",
            "From: {*}",
            "Subject: {*}",
        ],
        reason: Place::Prose,
    },
    Family {
        name: "mcafee",
        signs: &[
            &[Header("x-nai-header", ""), Text("delivery problems")],
            &[Text("--- the following addresses had delivery problems ---"), NoText("transcript of session follows")],
        ],
        begin: &["had delivery problems"],
        end: &["returned message", "original-recipient:"],
        lines: &["<{rcpt}> ({why})", "<{rcpt}>{why}", "{rcpt} ({why})"],
        ..PLAIN
    },
    Family {
        name: "surfcontrol",
        signs: &[
            &[Header("x-sef-processed", ""), Text("your message could not be sent")],
            &[Text("your message could not be sent"), Text("transcript of the attempts")],
            &[From("surfcontrol"), Text("was rejected because")],
        ],
        lines: &[
            "Addressed To: {rcpt}",
            "to {rcpt}",
            "was rejected because{why}",
            "{rcpt}: [{host}], {why}",
            "{rcpt}: {why}",
            "Failed to send to identified host,",
        ],
        ..PLAIN
    },
    Family {
        name: "puremessage",
        signs: &[&[Text("stopped by sophos puremessage")], &[Header("x-pmx-version", ""), Text("was stopped")]],
        end: &["message id:"],
        lines: &["To: {rcpt},", "To: {rcpt}", "{rcpt},", "{rcpt}", "From: {*}", "Subject: {*}", "Attachment: {*}"],
        reason: Place::Prose,
        ..PLAIN
    },
    Family {
        name: "mailfoundry",
        signs: &[&[Text("delivery failed for the following reason"), Text("unable to deliver message to:")]],
        end: &["this has been a permanent failure", "this is a temporary"],
        lines: &[
            "Unable to deliver message to: <{rcpt}>",
            "Unable to deliver message to: {rcpt}",
            "Delivery failed for the following reason:{why}",
        ],
        ..PLAIN
    },
    Family {
        name: "messagelabs",
        signs: &[
            &[From("messagelabs"), Text("deliver")],
            &[Header("x-msg-ref", "messagelabs"), Text("deliver")],
            &[Text("messagelabs"), Text("your message was not delivered")],
        ],
        lines: &["{rcpt}:{why}", "<{rcpt}>:{why}", "{rcpt}", "Reason:{why}", "<<< {why}"],
        ..PLAIN
    },
    Family {
        name: "mimecast",
        signs: &[&[Text("this is a delivery failure notification message"), Text("the problem appears to be")]],
        lines: &["-- {rcpt}", "{rcpt}", "The problem appears to be :{why}", "Additional information follows :{why}"],
        ..PLAIN
    },
    Family {
        name: "mfilter",
        signs: &[&[Text("-------server message")], &[Header("x-mailer", "m-filter")]],
        end: &["-------original mail", "-------original message"],
        lines: &["{rcpt}", "-------server message{why}", "-------SMTP command{*}"],
        ..PLAIN
    },
    Family {
        name: "barracuda",
        signs: &[
            &[Subject("blocked by our bulk email filter"), Text("blocked by our spam firewall")],
            &[Text("your message to:"), Text("was blocked by our spam firewall")],
        ],
        lines: &["Your message to: {rcpt}{why}", "Your message to: <{rcpt}>{why}", "{rcpt}"],
        ..PLAIN
    },
    Family {
        name: "activehunter",
        signs: &[&[Header("x-ahmailid", "")]],
        begin: &["permanent fatal errors"],
        lines: &[
            ">>> {*} <{rcpt}>",
            ">>> {rcpt}",
            "<{rcpt}>",
            "----- Transcript of session follows ----- {why}",
            "----- Transcript of session follows -----{why}",
        ],
        ..PLAIN
    },
    Family {
        name: "bigfoot",
        signs: &[&[From("bigfoot"), Text("the following addresses had")]],
        begin: &["the following addresses had"],
        lines: &["----- Session transcript -----", "<<< {why}", ">>> {*}", "<{rcpt}>", "{rcpt}"],
        ..PLAIN
    },
    Family {
        name: "spamlion",
        signs: &[&[Header("x-mailer", "spamlion")], &[Text("did not reach the following recipient:")]],
        lines: &["Did not reach the following recipient: {rcpt}", "Did not reach the following recipient: <{rcpt}>"],
        ..PLAIN
    },
    Family {
        name: "e500",
        signs: &[
            &[From("e500_smtp"), Text("failed recipients")],
            &[Text("------ failed recipients ------")],
            &[Text("---- failed recipients ----")],
        ],
        begin: &["failed recipients"],
        end: &["returned mail", " mail ----"],
        lines: &["<{rcpt}>: {why} [SMTP Error Code {code}]", "<{rcpt}>: {why}", "<{rcpt}>:{why}"],
        ..PLAIN
    },
];
