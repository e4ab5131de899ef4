//! Mail to telephones and fax machines: the operators' own systems.

use super::Sign::{From, Header, Subject, Text};
use super::{Family, PLAIN, Place};

pub(super) const FAMILIES: &[Family] = &[
    // Mail to fax machines.
    Family {
        name: "hylafax",
        signs: &[&[From("hylafax"), Subject("failed")], &[Subject("facsimile job"), Subject("failed")]],
        lines: &[
            "Your facsimile job to {rcpt} {*} because:{why}",
            "Your facsimile job to {rcpt}{*}",
            "Your facsimile job {*} to {rcpt} {*} because:{why}",
            "because:{why}",
            "completed because:{why}",
            "{*} was not sent because:{why}",
            "Status: {why}",
        ],
        ..PLAIN
    },
    Family {
        name: "kddi",
        signs: &[
            &[Text("your mail sent on:"), Text("could not be delivered to:")],
            &[From("dion.ne.jp"), Text("could not be delivered to")],
            &[From("auone-net.jp"), Text("could not be delivered to")],
            &[Header("reply-to", "auone-net.jp"), Text("could not be delivered to")],
            &[Text("your mail attempted to be delivered on:")],
        ],
        lines: &["Could not be delivered to: <{rcpt}>{why}", "Could not be delivered to: {rcpt}{why}"],
        ..PLAIN
    },
    Family {
        name: "ezweb",
        signs: &[
            &[From("ezweb.ne.jp"), Text("recipient")],
            &[From("ezweb.ne.jp"), Text("<")],
            &[Header("x-spasign", ""), Text("<")],
            &[From("@au.com"), Text("recipient")],
        ],
        lines: &["Recipient: <{rcpt}>{why}", ">>> RCPT TO:<{rcpt}>", "<<< {why}", "Reason:{why}", "<{rcpt}>{why}"],
        ..PLAIN
    },
    Family {
        name: "vtext",
        signs: &[
            &[From("@vtext.com"), Text("error")],
            &[From("vzwpix.com"), Text("undeliver")],
            &[From("vzwpix.com"), Text("could not be delivered")],
            &[From("post_master@vtext"), Text("recipient")],
        ],
        lines: &[
            "RCPT TO: {rcpt}",
            "To: {rcpt}",
            "Recipient: {rcpt}",
            "Reason: {why}",
            "Error:{why}",
            "Error message below:{why}",
            "Message could not be delivered to mobile{why}",
        ],
        reason: Place::Above,
        ..PLAIN
    },
    Family {
        name: "biglobe",
        signs: &[
            &[Text("had delivery problems -----"), Text("non-delivered information")],
            &[From("biglobe.ne.jp"), Text("delivery problems")],
        ],
        begin: &["had delivery problems"],
        end: &["original message", "message header"],
        lines: &["{rcpt}", "<{rcpt}>", "----- Non-delivered information -----{why}"],
        ..PLAIN
    },
];
