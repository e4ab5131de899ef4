//! The command socket: a Unix socket beside the store, mode 0600. One request line, one answer line, then closed.
//!
//! A client that sends nothing, or too much, costs one task for ten seconds and is dropped. A command takes the time it
//! needs: a reload may have to compile rules and end files.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: the command socket")]

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::{Answer, Command};

/// Longest request line, in bytes: some thousand rows of an import.
const MAX_REQUEST: u64 = 4 << 20;
const CLIENT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long [`ask`] waits for the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// What answers; may block (it is called from a blocking thread).
pub type Handler = Arc<dyn Fn(Command) -> Answer + Send + Sync>;

/// A bound socket; the file is removed when it is dropped.
#[derive(Debug)]
pub struct CommandSocket {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl CommandSocket {
    /// Binds `path` (a file left by a dead server is replaced: the store's lock says that nobody else is alive) and
    /// answers with `handler`.
    pub fn bind(path: &Path, handler: Handler) -> io::Result<CommandSocket> {
        // It gets its name when its permissions are right, so that there is no moment in which others may connect.
        let mut unnamed = path.as_os_str().to_owned();
        unnamed.push(".new");
        match std::fs::remove_file(&unnamed) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let listener = UnixListener::bind(&unnamed)?;
        std::fs::set_permissions(&unnamed, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&unnamed, path)?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let handler = handler.clone();
                        tokio::spawn(async move {
                            if let Err(e) = serve(stream, handler).await {
                                tracing::debug!("command socket: {e}");
                            }
                        });
                    }
                    Err(e) => {
                        tracing::warn!("command socket: {e}");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                }
            }
        });
        Ok(CommandSocket { path: path.to_owned(), task })
    }
}

impl Drop for CommandSocket {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn serve(stream: UnixStream, handler: Handler) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut request = BufReader::new(read.take(MAX_REQUEST));
    tokio::time::timeout(CLIENT_TIMEOUT, request.read_line(&mut line)).await??;
    let answer = match serde_json::from_str::<Command>(&line) {
        Ok(command) => tokio::task::spawn_blocking(move || handler(command))
            .await
            .unwrap_or_else(|_| Answer::error("the command failed; the log says more")),
        Err(e) => Answer::error(format!("not understood: {e}")),
    };
    let mut out = serde_json::to_vec(&answer).map_err(io::Error::other)?;
    out.push(b'\n');
    tokio::time::timeout(CLIENT_TIMEOUT, write.write_all(&out)).await?
}

/// Whether a server listens at `path`.
pub fn answers(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// Asks the server behind `path`; blocking, for the command line.
pub fn ask(path: &Path, command: &Command) -> io::Result<Answer> {
    use std::io::{BufRead, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    let mut line = serde_json::to_vec(command).map_err(io::Error::other)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    if std::io::BufReader::new(stream).read_line(&mut answer)? == 0 {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it ended before it had answered"));
    }
    serde_json::from_str(&answer)
        .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("answer not understood: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_question_over_the_socket_gets_its_answer_and_the_file_goes_with_the_server() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("carom.sock");
        std::fs::write(&path, "left by a dead server").unwrap();
        let socket = CommandSocket::bind(&path, Arc::new(|c| Answer::done(format!("{c:?}")))).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let p = path.clone();
        let answer = tokio::task::spawn_blocking(move || ask(&p, &Command::Reload)).await.unwrap().unwrap();
        assert_eq!(answer, Answer::done("Reload"));
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nonsense_is_answered_and_a_flood_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let _socket = CommandSocket::bind(&path, Arc::new(|_| Answer::done("no"))).unwrap();
        for bytes in [b"hello\n".to_vec(), vec![b'x'; 5_000_000]] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let _ = stream.write_all(&bytes).await;
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            assert!(answer.is_empty() || answer.contains("not understood"), "{answer}");
        }
    }
}
