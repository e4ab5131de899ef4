//! What `carom report --json` prints of one mail.

use serde::Serialize;

use super::kind::Recognised;

/// One mail, as JSON: `{"kind", "format", "results": [...], "original": {...}}`. What is not known is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// `bounce`, `status`, `feedback`, `auto-reply`, `none`.
    pub kind: &'static str,
    /// The form that was understood.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub format: &'static str,
    /// One for each recipient.
    pub results: Vec<SummaryResult>,
    /// Recipients beyond those in `results`: at least so many.
    #[serde(skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// The mail it is about.
    pub original: SummaryOriginal,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SummaryResult {
    /// The address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rcpt: String,
    /// Original-Recipient with its type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub orcpt: String,
    /// `failed`, `delayed`, ...
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    /// Enhanced status code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// SMTP reply code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_code: Option<u16>,
    /// As `dsnDiag` will be.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub diag: String,
    /// Feedback-Type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub feedback_type: String,
    /// The remote MTA's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_mta: String,
}

/// The mail a report is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SummaryOriginal {
    /// Message-ID without brackets.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message_id: String,
    /// From.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// Subject.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub subject: String,
}

impl From<&Recognised> for Summary {
    fn from(r: &Recognised) -> Summary {
        let feedback_type = r.complaint.as_ref().map_or("", |c| &c.feedback_type);
        let result = |x: &super::RcptResult| SummaryResult {
            rcpt: x.rcpt.clone(),
            orcpt: x.orcpt.clone(),
            action: x.action.map(crate::event::Action::name),
            status: x.status.map(|s| s.to_string()),
            reply_code: x.reply_code(),
            diag: super::to_event::diag(x),
            feedback_type: feedback_type.to_owned(),
            remote_mta: x.remote_mta.clone(),
        };
        Summary {
            kind: r.kind.name(),
            format: r.format,
            results: r.results.iter().map(result).collect(),
            left_out: r.left_out,
            original: SummaryOriginal {
                message_id: r.original.message_id.clone(),
                from: r.original.from.clone(),
                subject: r.original.subject.clone(),
            },
        }
    }
}
