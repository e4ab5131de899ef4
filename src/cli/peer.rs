//! Who answers commands about what a store holds: the running server, or the store itself when no server has it open.

use std::process::ExitCode;

use super::{Failure, ServerArgs};
use crate::manage::{Answer, Command, socket};

/// Who answers: the server, or its store when no server has it open.
pub(super) enum Peer {
    Server(std::path::PathBuf),
    Store(Box<crate::node::Offline>),
}

impl Peer {
    pub(super) fn reach(server: &ServerArgs) -> Result<Result<Peer, ExitCode>, Failure> {
        let path = match server.socket()? {
            Ok(path) => path,
            Err(code) => return Ok(Err(code)),
        };
        if server.socket.is_some() || socket::answers(&path) {
            return Ok(Ok(Peer::Server(path)));
        }
        let config = match server.config.load()? {
            Ok(config) => config,
            Err(code) => return Ok(Err(code)),
        };
        // Looking at a list must not make a store.
        if !config.spool.exists() {
            return Err(format!("no server runs, and there is no store in {}", config.spool.display()).into());
        }
        Ok(Ok(Peer::Store(Box::new(crate::node::Offline::open(&config)?))))
    }

    pub(super) fn ask(&mut self, command: Command) -> Result<Answer, Failure> {
        match self {
            Peer::Server(path) => Ok(socket::ask(path, &command)?),
            Peer::Store(store) => Ok(store.answer(command)),
        }
    }

    pub(super) fn data(&mut self, command: Command) -> Result<serde_json::Value, Failure> {
        match self.ask(command)? {
            Answer::Success { data, .. } => Ok(data),
            Answer::Error { message } => Err(message.into()),
        }
    }
}
