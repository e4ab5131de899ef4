//! Mail servers of offices: Microsoft's, IBM's, Novell's and the many for Windows.

use super::Sign::{From, Header, NoText, Subject, Text};
use super::{Family, PLAIN, Place};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "powermta",
        signs: &[&[Text("to inform you on the delivery status of a")]],
        begin: &["list of"],
        ..PLAIN
    },
    Family { name: "haraka", signs: &[&[Text("haraka mailer program")]], ..PLAIN },
    Family {
        name: "exchange",
        signs: &[
            &[Text("did not reach the following recipient(s)")],
            &[Text("msexch:")],
            &[Text("diagnostic information for administrators")],
            &[Text("diagnoseinformationen für administratoren")],
            &[Text("informations de diagnostic pour les administrateurs")],
            &[Text("información de diagnóstico para los administradores")],
            &[Text("informazioni di diagnostica per gli amministratori")],
            &[Text("informações de diagnóstico para administradores")],
            &[Text("diagnostische gegevens voor beheerders")],
            &[Text("diagnosinformation för administratörer")],
            &[Text("管理者向けの診断情報")],
            &[Text("管理员的诊断信息")],
        ],
        ..PLAIN
    },
    Family {
        name: "smtpsvc",
        signs: &[&[Text("the email below could not be delivered to the following user")]],
        begin: &["the email below could not"],
        end: &["old message:"],
        ..PLAIN
    },
    Family {
        name: "notes",
        signs: &[&[Text("failure reasons  ---")], &[Text("------- failure reasons")]],
        begin: &["failure reasons"],
        end: &["returned message"],
        lines: &["{rcpt}", "<{rcpt}>"],
        reason: Place::Prose,
    },
    Family {
        name: "domino",
        signs: &[
            &[Text("was not delivered to:"), Text("because:")],
            &[Subject("delivery failure: ")],
            &[Text("konnte nicht zugestellt werden an:"), Text("weil:")],
            &[Text("n'a pas été remis à"), Text("parce que")],
            &[Text("no se ha entregado a:"), Text("porque:")],
            &[Text("non è stato consegnato a:"), Text("perché:")],
        ],
        begin: &[
            "was not delivered to",
            "konnte nicht zugestellt werden an:",
            "n'a pas été remis à",
            "no se ha entregado a:",
            "non è stato consegnato a:",
        ],
        lines: &[
            "because:{why}",
            "weil:{why}",
            "parce que :{why}",
            "porque:{why}",
            "perché:{why}",
            "{rcpt}",
            "<{rcpt}>",
        ],
        ..PLAIN
    },
    Family {
        name: "xmail",
        signs: &[
            &[Header("x-mailerserver", "xmail"), Text("xmail bounce: rcpt=[")],
            &[Text("xmail bounce: rcpt=["), Text("the reason of the delivery failure was")],
        ],
        lines: &["[<{*}>] XMail bounce: Rcpt=[{rcpt}];Error=[{why}", "[<{*}>] {*}", "Rcpt To: {*}", "Mail From: {*}"],
        ..PLAIN
    },
    Family {
        name: "groupwise",
        signs: &[&[Header("x-mailer", "groupwise")], &[Text("groupwise")]],
        lines: &["The message that you sent was undeliverable to the following:{why}", "{rcpt} ({why})", "{rcpt}"],
        ..PLAIN
    },
    Family {
        name: "imail",
        signs: &[&[Header("x-mailer", "<smtp32 v")], &[Text("body of message generated response")]],
        end: &["original message follows"],
        lines: &[
            "Unknown user: {rcpt}",
            "Invalid final delivery userid: {rcpt}",
            "Unknown host: {rcpt}",
            "User mailbox exceeds allowed size: {rcpt}",
            "Delivery failed {*} attempts: {rcpt}",
            "Unable to deliver to {rcpt}",
            "undeliverable to {rcpt}",
            "Body of message generated response:{why}",
            "RCPT TO generated following response:{why}",
            "MAIL FROM generated following response:{why}",
            "DATA generated following response:{why}",
        ],
        ..PLAIN
    },
    Family {
        name: "mdaemon",
        signs: &[
            &[Text("did not receive a copy of"), Text("session transcript")],
            &[From("mdaemon"), Text("message")],
            &[Header("x-mdaemon-deliver-to", ""), Text("session transcript")],
        ],
        end: &["message contains [", "end transcript"],
        lines: &["> {rcpt}", "Failed address: {rcpt}", "{*} <-- {why}", "<-- {why}"],
        ..PLAIN
    },
    Family {
        name: "mailenable",
        signs: &[&[Text("message could not be delivered to some recipients"), Text("recipient: [")]],
        end: &["message headers follow"],
        lines: &["Recipient: [SMTP:{rcpt}]", "Recipient: [{rcpt}]", "Recipient: {rcpt}", "Reason: {why}"],
        ..PLAIN
    },
    Family {
        name: "hmailserver",
        signs: &[&[Text("hmailserver")], &[Text("did not reach some or all of the intended recipients")]],
        begin: &["could not be reached", "following recipient(s)"],
        lines: &["Remote server replied: {why}", "{rcpt} {why}", "{rcpt}"],
        ..PLAIN
    },
    Family {
        name: "communigate",
        signs: &[&[Text("failed to deliver to '")], &[Text("communigate pro")]],
        lines: &[
            "Failed to deliver to '{rcpt}'{why}",
            "Failed to deliver to {rcpt}{why}",
            "Delay in delivery to '{rcpt}'{why}",
        ],
        ..PLAIN
    },
    Family {
        name: "messagingserver",
        signs: &[&[Text("this report relates to a message you sent with the following header fields")]],
        begin: &["following recipients", "following header fields"],
        lines: &["Recipient address: {rcpt}", "Original address: {*}", "Reason: {why}", "Diagnostic code: {why}"],
        ..PLAIN
    },
    Family {
        name: "james",
        signs: &[
            &[Text("error message below:"), Text("message details:")],
            &[Text("this is the james mail server at"), Text("failed recipient")],
            // Its subject is that of an answer.
            &[From("postmaster"), Text("this is the james mail server at")],
            &[Header("x-mailer", "james"), Text("error message")],
            &[From("post_master@"), Text("error message below:")],
            &[Subject("re:"), From("post_master@vtext"), Text("error:")],
        ],
        lines: &[
            "Error message below:{why}",
            "Error message:{why}",
            "Failed recipient(s):",
            "{*} javax.mail.SendFailedException: {code} <{rcpt}>{why}",
            "RCPT TO: {rcpt}",
            "MAIL FROM: {*}",
            "From: {*}",
            "To: {rcpt}",
            "{rcpt}",
        ],
        reason: Place::Above,
        ..PLAIN
    },
    Family {
        name: "intermail",
        signs: &[&[Text("this message was undeliverable due to the following reason"), NoText("ezweb")]],
        begin: &["due to the following reason"],
        lines: &["Recipient: <{rcpt}>{why}", "Recipient: {rcpt}", "Reason:{why}", "<<< {why}", "<{rcpt}>", "{rcpt}"],
        reason: Place::Prose,
        ..PLAIN
    },
    Family {
        name: "lsmtp",
        signs: &[&[Text("error-for:"), Text("error-end:")]],
        begin: &["error description"],
        end: &["error-end:"],
        lines: &["Error-for: {rcpt}", "Error-Code: {*}", "Error-Text: {why}"],
        ..PLAIN
    },
    Family {
        name: "ntmail",
        signs: &[
            &[Header("x-mailer", "ntmail")],
            &[Text("your message was not delivered to"), Header("x-mailer", "mail")],
        ],
        begin: &["was not delivered to"],
        lines: &["{rcpt}{why}"],
        ..PLAIN
    },
    Family {
        name: "pmdf",
        signs: &[
            &[Text("your message cannot be delivered to the following recipients")],
            &[Text("pmdf")],
            &[From("pmdf")],
        ],
        lines: &["Recipient address: {rcpt}", "Addressee: {rcpt}", "Reason:{why}", "Diagnostic code: {why}"],
        ..PLAIN
    },
    Family {
        name: "vdelivermail",
        signs: &[&[Text("your message has encountered delivery problems")]],
        end: &["your message reads"],
        lines: &["(Originally addressed to {rcpt})", "Originally addressed to {rcpt}{why}", "to local user {*}."],
        ..PLAIN
    },
    Family {
        name: "sieve-reject",
        signs: &[&[Text("was automatically rejected"), Text("your message to")]],
        lines: &["Your message to <{rcpt}> was automatically rejected:{why}", "{rcpt}"],
        ..PLAIN
    },
];
