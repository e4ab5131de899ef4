//! One MAIL with its RCPTs and content (RFC 5321, 3.3; PIPELINING: RFC 2920).

use crate::event::{Reply, Stage};

use crate::smtp::dsn::Dsn;
use crate::smtp::ehlo::Ehlo;
use crate::smtp::reply::RawReply;

/// Recipients whose RCPT are written before their replies are read. It keeps the replies within what the socket
/// buffers hold, so that both sides can't wait for each other (RFC 2920, 3.1).
const RCPT_WINDOW: usize = 100;

/// The envelope of one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Mail<'a> {
    /// Envelope sender without brackets; empty for the null sender.
    pub sender: &'a str,
    /// Octets of content, for SIZE.
    pub size: u64,
    /// The content has octets above 127.
    pub eight_bit: bool,
    /// An address has characters beyond ASCII; SMTPUTF8 is asked for, where offered (RFC 6531).
    pub utf8: bool,
    /// What is to be said of reports, where DSN is offered (RFC 3461).
    pub dsn: Option<Dsn<'a>>,
    /// Say RSET first: the transaction before was left unfinished.
    pub reset: bool,
}

/// What the transaction asks for next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write [`Transaction::output`].
    Send,
    /// Read the next reply.
    Read,
    /// Write the content and the final dot, then [`Transaction::content_sent`].
    Content,
    /// No recipient was taken, but the server waits for content: write the final dot alone, then [`Transaction::content_sent`].
    EmptyContent,
    /// Over: see [`Transaction::into_result`].
    Done,
}

/// What a transaction has come to so far. A reply that is `None` was not given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TransactionResult {
    /// The refusal of MAIL.
    pub mail: Option<Reply>,
    /// Per recipient, in order: `None` not answered, `Ok` taken, `Err` refused.
    pub rcpts: Vec<Option<Result<(), Reply>>>,
    /// The refusal of DATA.
    pub data: Option<Reply>,
    /// The reply after the final dot.
    pub end: Option<Reply>,
    /// The final dot was, at least in part, given to the network.
    pub dot_sent: bool,
    /// Some reply of this transaction was seen.
    pub answered: bool,
    /// The server still has a transaction open: the next begins with RSET.
    pub unfinished: bool,
    /// The server closes the connection (421).
    pub closing: Option<Reply>,
    /// How far the dialogue had come.
    pub stage: Option<Stage>,
}

impl TransactionResult {
    /// What the server said against the session rather than against one recipient or one message.
    pub fn session_failure(&self) -> Option<&str> {
        self.closing.as_ref().or(self.mail.as_ref()).map(|reply| &*reply.text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaiting {
    Reset,
    Mail,
    Rcpt,
    Data,
    Content,
    End,
    Nothing,
}

/// One MAIL with its RCPTs and content.
#[derive(Debug)]
pub struct Transaction<'a, R> {
    mail: Mail<'a>,
    rcpts: R,
    count: usize,
    pipelining: bool,
    size: bool,
    eight_bit: bool,
    utf8: bool,
    dsn: Option<Dsn<'a>>,
    awaiting: Awaiting,
    /// RCPTs written so far.
    written: usize,
    data_written: bool,
    output: Vec<u8>,
    sent: bool,
    result: TransactionResult,
}

impl<'a, R: Fn(usize) -> &'a str> Transaction<'a, R> {
    /// For `count` recipients, of which `rcpts` gives each by number, without brackets. `output` is the buffer to use.
    pub fn new(ehlo: &Ehlo, mail: Mail<'a>, count: usize, rcpts: R, mut output: Vec<u8>) -> Transaction<'a, R> {
        output.clear();
        let mut transaction = Transaction {
            mail,
            rcpts,
            count,
            pipelining: ehlo.pipelining,
            size: ehlo.size.is_some(),
            eight_bit: ehlo.eight_bit_mime,
            utf8: ehlo.smtp_utf8,
            dsn: mail.dsn.filter(|_| ehlo.dsn),
            awaiting: if mail.reset { Awaiting::Reset } else { Awaiting::Mail },
            written: 0,
            data_written: false,
            output,
            sent: false,
            result: TransactionResult { rcpts: vec![None; count], stage: Some(Stage::Mail), ..Default::default() },
        };
        if mail.reset {
            transaction.put(&["RSET\r\n"]);
        }
        if !mail.reset || transaction.pipelining {
            transaction.put_mail();
        }
        if transaction.pipelining {
            transaction.put_rcpts();
        }
        transaction
    }

    /// What is to be written now.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// What `output` gave has been written.
    pub fn output_sent(&mut self) {
        self.output.clear();
        self.sent = true;
    }

    /// What to do next.
    pub fn step(&self) -> Step {
        if !self.output.is_empty() {
            return Step::Send;
        }
        match self.awaiting {
            Awaiting::Nothing => Step::Done,
            // A server may take RCPT and DATA although it refused MAIL: the recipients are bounced, so nothing is sent.
            Awaiting::Content if self.result.mail.is_none() && self.any_taken() => Step::Content,
            Awaiting::Content => Step::EmptyContent,
            _ => Step::Read,
        }
    }

    /// How far it has come, for the timeout to apply.
    pub fn stage(&self) -> Stage {
        match self.awaiting {
            Awaiting::Reset | Awaiting::Mail => Stage::Mail,
            Awaiting::Rcpt => Stage::Rcpt,
            Awaiting::Data | Awaiting::Content => Stage::Data,
            Awaiting::End | Awaiting::Nothing => Stage::Eod,
        }
    }

    /// The content is about to be written; from here on it can't be known whether the server has it all.
    pub fn content_begins(&mut self) {
        self.result.stage = Some(Stage::Data);
    }

    /// The final dot is about to be written.
    pub fn dot_begins(&mut self) {
        self.result.dot_sent = true;
    }

    /// The content and the final dot have been written.
    pub fn content_sent(&mut self) {
        self.result.dot_sent = true;
        self.awaiting = Awaiting::End;
        self.result.stage = Some(Stage::Eod);
    }

    /// The next reply.
    pub fn reply(&mut self, reply: RawReply<'_>) {
        self.result.answered = true;
        let stage = self.stage();
        self.result.stage = Some(stage);
        let positive = (200..300).contains(&reply.code);
        match self.awaiting {
            Awaiting::Reset => {
                self.awaiting = Awaiting::Mail;
                if !self.pipelining {
                    self.put_mail();
                }
            }
            Awaiting::Mail if positive => {
                self.result.unfinished = true;
                self.awaiting = Awaiting::Rcpt;
                if !self.pipelining {
                    self.put_rcpts();
                }
            }
            Awaiting::Mail => {
                self.result.mail = Some(reply.to_reply());
                // With PIPELINING the replies to the commands already sent are still to come.
                self.awaiting = if self.pipelining { Awaiting::Rcpt } else { Awaiting::Nothing };
            }
            Awaiting::Rcpt => self.rcpt_reply(positive, reply),
            Awaiting::Data if reply.code / 100 == 3 => self.awaiting = Awaiting::Content,
            Awaiting::Data => {
                self.result.data = Some(reply.to_reply());
                self.awaiting = Awaiting::Nothing;
            }
            Awaiting::End => {
                self.result.unfinished = false;
                self.result.end = Some(reply.to_reply());
                self.awaiting = Awaiting::Nothing;
            }
            Awaiting::Content | Awaiting::Nothing => {}
        }
        // RFC 5321, 3.8: after 421 the server closes, whatever else was asked.
        if reply.code == 421 {
            self.result.closing = Some(reply.to_reply());
            self.awaiting = Awaiting::Nothing;
            self.output.clear();
        }
    }

    fn rcpt_reply(&mut self, positive: bool, reply: RawReply<'_>) {
        let Some(open) = self.result.rcpts.iter().position(Option::is_none) else { return };
        self.result.rcpts[open] = Some(if positive { Ok(()) } else { Err(reply.to_reply()) });
        let answered = open + 1;
        if answered < self.written {
            return;
        }
        if answered < self.count && self.result.mail.is_none() {
            self.put_rcpts();
        } else if self.data_written {
            self.awaiting = Awaiting::Data;
        } else if self.result.mail.is_none() && self.any_taken() {
            self.put(&["DATA\r\n"]);
            self.data_written = true;
            self.awaiting = Awaiting::Data;
        } else {
            self.awaiting = Awaiting::Nothing;
        }
    }

    fn any_taken(&self) -> bool {
        self.result.rcpts.iter().any(|r| matches!(r, Some(Ok(()))))
    }

    /// What came of it, and the buffer.
    pub fn into_result(self) -> (TransactionResult, Vec<u8>) {
        (self.result, self.output)
    }

    fn put(&mut self, parts: &[&str]) {
        for part in parts {
            self.output.extend_from_slice(part.as_bytes());
        }
    }

    fn put_mail(&mut self) {
        self.put(&["MAIL FROM:<", self.mail.sender, ">"]);
        if self.size {
            let size = self.mail.size.to_string();
            self.put(&[" SIZE=", &size]);
        }
        if self.eight_bit && self.mail.eight_bit {
            self.put(&[" BODY=8BITMIME"]);
        }
        if self.utf8 && self.mail.utf8 {
            self.put(&[" SMTPUTF8"]);
        }
        if let Some(dsn) = self.dsn {
            dsn.put_mail(&mut self.output);
        }
        self.put(&["\r\n"]);
    }

    /// The next RCPTs; with the last of them DATA, if it may be pipelined.
    fn put_rcpts(&mut self) {
        let window = if self.pipelining { RCPT_WINDOW } else { 1 };
        let end = self.count.min(self.written + window);
        while self.written < end {
            let rcpt = (self.rcpts)(self.written);
            self.put(&["RCPT TO:<", rcpt, ">"]);
            if let Some(dsn) = self.dsn {
                dsn.put_rcpt(&mut self.output, self.written, rcpt);
            }
            self.put(&["\r\n"]);
            self.written += 1;
        }
        if self.pipelining && self.written == self.count {
            self.put(&["DATA\r\n"]);
            self.data_written = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smtp::dsn::{self, RcptDsn, Return};
    use crate::smtp::reply::Replies;

    const ALL: &str = "250-mx\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 0\r\n";

    fn ehlo(text: &str) -> Ehlo {
        let mut replies = Replies::new();
        replies.buffer().extend_from_slice(text.as_bytes());
        Ehlo::parse(replies.take().unwrap().unwrap())
    }

    /// `C` lines joined are each one write, `S` lines replies; `content` and `dot` are what the machine asks for.
    fn transaction(ehlo: &Ehlo, mail: Mail<'_>, rcpts: &[&str], script: &str) -> TransactionResult {
        let mut t = Transaction::new(ehlo, mail, rcpts.len(), |i| rcpts[i], Vec::new());
        let mut replies = Replies::new();
        for line in script.lines().map(str::trim).filter(|l| !l.is_empty()) {
            match line.split_once(": ").unwrap_or((line, "")) {
                ("C", text) => {
                    assert_eq!(t.step(), Step::Send, "{line}");
                    assert_eq!(String::from_utf8_lossy(t.output()).replace("\r\n", "|"), format!("{text}|"));
                    t.output_sent();
                }
                ("S", text) => {
                    assert_eq!(t.step(), Step::Read, "{line}");
                    replies.buffer().extend_from_slice(format!("{text}\r\n").as_bytes());
                    t.reply(replies.take().unwrap().unwrap());
                }
                ("content", _) => {
                    assert_eq!(t.step(), Step::Content);
                    t.content_sent();
                }
                ("dot", _) => {
                    assert_eq!(t.step(), Step::EmptyContent);
                    t.content_sent();
                }
                ("done", _) => assert_eq!(t.step(), Step::Done),
                _ => panic!("{line}"),
            }
        }
        t.into_result().0
    }

    const MAIL: Mail<'static> = Mail { sender: "s@x", size: 9, eight_bit: true, utf8: false, dsn: None, reset: false };

    #[test]
    fn the_envelope_and_data_are_one_write() {
        let r = transaction(
            &ehlo(ALL),
            MAIL,
            &["a@y", "b@y"],
            "C: MAIL FROM:<s@x> SIZE=9 BODY=8BITMIME|RCPT TO:<a@y>|RCPT TO:<b@y>|DATA
             S: 250 ok\nS: 250 ok\nS: 550 5.1.1 no\nS: 354 go\ncontent\nS: 250 2.0.0 queued\ndone",
        );
        assert_eq!(r.rcpts[0], Some(Ok(())));
        assert!(matches!(&r.rcpts[1], Some(Err(e)) if e.code == 550));
        assert_eq!(r.end.unwrap().text, "250 2.0.0 queued");
        assert!(!r.unfinished);
    }

    #[test]
    fn what_the_sender_wants_to_hear_is_said_only_to_hosts_that_understand_it() {
        let rcpts = [RcptDsn { notify: dsn::NEVER, orcpt: "" }, RcptDsn { notify: 0, orcpt: "rfc822;o@z" }];
        let dsn = Some(Dsn { ret: Some(Return::Full), env_id: "e+1", rcpts: &rcpts });
        let end = "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\ncontent\nS: 250 2.0.0 queued\ndone";
        let said = "C: MAIL FROM:<s@x> RET=FULL ENVID=e+2B1|RCPT TO:<a@y> NOTIFY=NEVER ORCPT=rfc822;a@y|\
                    RCPT TO:<b@y> ORCPT=rfc822;o@z|DATA\n";
        transaction(
            &ehlo("250-mx\r\n250-PIPELINING\r\n250 DSN\r\n"),
            Mail { dsn, ..MAIL },
            &["a@y", "b@y"],
            &(said.to_owned() + end),
        );
        let said = "C: MAIL FROM:<s@x>|RCPT TO:<a@y>|RCPT TO:<b@y>|DATA\n";
        transaction(
            &ehlo("250-mx\r\n250 PIPELINING\r\n"),
            Mail { dsn, ..MAIL },
            &["a@y", "b@y"],
            &(said.to_owned() + end),
        );
    }

    #[test]
    fn without_pipelining_each_command_waits_for_its_reply() {
        let r = transaction(
            &Ehlo::default(),
            MAIL,
            &["a@y", "b@y"],
            "C: MAIL FROM:<s@x>\nS: 250 ok\nC: RCPT TO:<a@y>\nS: 250 ok\nC: RCPT TO:<b@y>\nS: 251 will forward\nC: DATA\nS: 354 go\ncontent\nS: 451 later\ndone",
        );
        assert_eq!(r.rcpts, [Some(Ok(())), Some(Ok(()))]);
        assert_eq!(r.end.unwrap().code, 451);
    }

    #[test]
    fn a_refused_sender_ends_the_transaction() {
        let r = transaction(&Ehlo::default(), MAIL, &["a@y"], "C: MAIL FROM:<s@x>\nS: 550 no\ndone");
        assert_eq!((r.mail.unwrap().code, r.unfinished), (550, false));
        let r = transaction(
            &ehlo(ALL),
            MAIL,
            &["a@y"],
            "C: MAIL FROM:<s@x> SIZE=9 BODY=8BITMIME|RCPT TO:<a@y>|DATA\nS: 550 no\nS: 503 order\nS: 503 order\ndone",
        );
        assert_eq!((r.mail.unwrap().code, r.unfinished), (550, false));
    }

    #[test]
    fn a_server_that_wants_content_for_nobody_gets_the_dot_alone() {
        let r = transaction(
            &ehlo(ALL),
            MAIL,
            &["a@y"],
            "C: MAIL FROM:<s@x> SIZE=9 BODY=8BITMIME|RCPT TO:<a@y>|DATA\nS: 250 ok\nS: 550 no\nS: 354 go\ndot\nS: 554 no valid recipients\ndone",
        );
        assert!(matches!(&r.rcpts[0], Some(Err(e)) if e.code == 550));
        assert!(!r.unfinished);
    }

    #[test]
    fn a_message_whose_sender_was_refused_is_not_sent_though_the_server_takes_the_rest() {
        let r = transaction(
            &ehlo(ALL),
            MAIL,
            &["a@y"],
            "C: MAIL FROM:<s@x> SIZE=9 BODY=8BITMIME|RCPT TO:<a@y>|DATA\nS: 550 no\nS: 250 ok\nS: 354 go\ndot\nS: 250 queued\ndone",
        );
        assert_eq!(r.mail.unwrap().code, 550);
    }

    #[test]
    fn a_transaction_left_open_asks_for_rset_and_rset_is_pipelined() {
        let r = transaction(
            &ehlo(ALL),
            MAIL,
            &["a@y"],
            "C: MAIL FROM:<s@x> SIZE=9 BODY=8BITMIME|RCPT TO:<a@y>|DATA\nS: 250 ok\nS: 550 no\nS: 554 none\ndone",
        );
        assert!(r.unfinished);
        let again = Mail { reset: true, ..MAIL };
        let r = transaction(
            &ehlo(ALL),
            again,
            &["a@y"],
            "C: RSET|MAIL FROM:<s@x> SIZE=9 BODY=8BITMIME|RCPT TO:<a@y>|DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\ncontent\nS: 250 ok\ndone",
        );
        assert!(!r.unfinished);
        transaction(
            &Ehlo::default(),
            again,
            &["a@y"],
            "C: RSET\nS: 250 ok\nC: MAIL FROM:<s@x>\nS: 250 ok\nC: RCPT TO:<a@y>",
        );
    }

    #[test]
    fn many_recipients_are_written_a_window_at_a_time() {
        let names: Vec<String> = (0..250).map(|i| format!("u{i}@y")).collect();
        let mut t = Transaction::new(&ehlo(ALL), MAIL, names.len(), |i| &names[i], Vec::new());
        let mut replies = Replies::new();
        let (mut writes, mut answers) = (0, 0);
        loop {
            match t.step() {
                Step::Send => {
                    writes += 1;
                    let rcpts = String::from_utf8_lossy(t.output()).matches("RCPT").count();
                    assert!(rcpts <= RCPT_WINDOW);
                    t.output_sent();
                }
                Step::Read => {
                    answers += 1;
                    let reply = if answers == 252 { "354 go\r\n" } else { "250 ok\r\n" };
                    replies.buffer().extend_from_slice(reply.as_bytes());
                    t.reply(replies.take().unwrap().unwrap());
                }
                Step::Content => t.content_sent(),
                Step::EmptyContent => panic!("all were taken"),
                Step::Done => break,
            }
        }
        assert_eq!((writes, answers), (3, 253));
    }

    #[test]
    fn after_421_nothing_more_is_read() {
        let r = transaction(
            &ehlo(ALL),
            MAIL,
            &["a@y", "b@y"],
            "C: MAIL FROM:<s@x> SIZE=9 BODY=8BITMIME|RCPT TO:<a@y>|RCPT TO:<b@y>|DATA\nS: 250 ok\nS: 421 4.3.2 closing\ndone",
        );
        assert_eq!(r.closing.unwrap().code, 421);
        assert!(matches!(&r.rcpts[0], Some(Err(e)) if e.code == 421));
        assert_eq!(r.rcpts[1], None);
    }
}
