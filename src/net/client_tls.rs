#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "edge: sockets, CA files")]
//! STARTTLS on the way out, and the stream that is plain or encrypted.
//!
//! Promises: without `smtp-tls-ca-file` any certificate is taken, because opportunistic encryption against a passive
//! listener is better than none (RFC 7435); with it, chain and host name must verify. A host whose handshake failed is
//! remembered for [`REMEMBER`], so that the next connection begins in plaintext where that is allowed.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a failed handshake is remembered.
pub const REMEMBER: Duration = Duration::from_secs(600);

/// Hosts remembered at most.
const MAX_REMEMBERED: usize = 10_000;

/// How long a CA file is used before it is read again.
const CA_FRESH: Duration = Duration::from_secs(300);

/// No TLS with this host.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `smtp-tls-ca-file` can't be used.
    #[error("smtp-tls-ca-file {0}: {1}")]
    CaFile(PathBuf, String),
    /// The handshake failed, or the certificate was not accepted.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[from] io::Error),
    /// Nothing came in time.
    #[error("TLS handshake timed out")]
    Timeout,
}

/// The client's side of TLS: configurations and what is remembered of hosts.
#[derive(Debug)]
pub struct ClientTls {
    provider: Arc<CryptoProvider>,
    opportunistic: Arc<ClientConfig>,
    verified: Mutex<HashMap<PathBuf, (Instant, Arc<ClientConfig>)>>,
    failed: Mutex<HashMap<IpAddr, Instant>>,
}

impl Default for ClientTls {
    fn default() -> ClientTls {
        ClientTls::new()
    }
}

impl ClientTls {
    /// Nothing remembered.
    pub fn new() -> ClientTls {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let opportunistic = builder(&provider)
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        ClientTls {
            provider,
            opportunistic: Arc::new(opportunistic),
            verified: Mutex::default(),
            failed: Mutex::default(),
        }
    }

    fn config(&self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
        let Some(path) = ca_file else { return Ok(self.opportunistic.clone()) };
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, config)) = verified.get(path)
            && read.elapsed() < CA_FRESH
        {
            return Ok(config.clone());
        }
        let fail = |why: String| TlsError::CaFile(path.to_owned(), why);
        let pem = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.map_err(|e| fail(e.to_string()))?).map_err(|e| fail(e.to_string()))?;
        }
        if roots.is_empty() {
            return Err(fail("no certificate in it".into()));
        }
        let config = Arc::new(builder(&self.provider).with_root_certificates(roots).with_no_client_auth());
        verified.insert(path.to_owned(), (Instant::now(), config.clone()));
        Ok(config)
    }

    /// The handshake, with this host's name for SNI and, with a CA file, verification.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
        ca_file: Option<&Path>,
        timeout: Duration,
    ) -> Result<ClientStream, TlsError> {
        let config = self.config(ca_file)?;
        let name = ServerName::try_from(host.to_owned())
            .or_else(|_| stream.peer_addr().map(|peer| ServerName::from(peer.ip())))?;
        let connecting = tokio_rustls::TlsConnector::from(config).connect(name, stream);
        let stream = tokio::time::timeout(timeout, connecting).await.map_err(|_| TlsError::Timeout)??;
        Ok(ClientStream::Tls(Box::new(stream)))
    }

    /// Remembers that TLS with this address fails.
    pub fn remember_failure(&self, address: IpAddr) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        if failed.len() >= MAX_REMEMBERED {
            failed.retain(|_, at| at.elapsed() < REMEMBER);
            if failed.len() >= MAX_REMEMBERED {
                failed.clear();
            }
        }
        failed.insert(address, Instant::now());
    }

    /// Whether TLS with this address failed a while ago.
    pub fn failed_lately(&self, address: IpAddr) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.get(&address).is_some_and(|at| at.elapsed() < REMEMBER)
    }
}

fn builder(provider: &Arc<CryptoProvider>) -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        // The ring provider has suites for TLS 1.2 and 1.3; it fails only for a provider without any.
        .expect("the ring provider supports the default versions")
}

/// Takes any certificate: see the head of this file.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // Who does not ask whose certificate it is gains nothing by asking who signed with it.
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection to a server, plain or encrypted.
#[derive(Debug)]
pub enum ClientStream {
    /// As it was connected.
    Plain(TcpStream),
    /// After STARTTLS.
    Tls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl ClientStream {
    /// The negotiated version, as `TLSv1.3`, and cipher suite; empty for a plain stream.
    pub fn tls_names(&self) -> (&'static str, String) {
        let ClientStream::Tls(stream) = self else { return ("", String::new()) };
        let (_, session) = stream.get_ref();
        let version = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLS",
        };
        let cipher = session.negotiated_cipher_suite().and_then(|s| s.suite().as_str().map(str::to_owned));
        (version, cipher.unwrap_or_default().replacen("TLS13_", "TLS_", 1))
    }

    /// The socket under it.
    pub fn socket(&self) -> &TcpStream {
        match self {
            ClientStream::Plain(stream) => stream,
            ClientStream::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The socket, if nothing was encrypted yet.
    pub fn into_plain(self) -> Option<TcpStream> {
        match self {
            ClientStream::Plain(stream) => Some(stream),
            ClientStream::Tls(_) => None,
        }
    }

    /// Appends what has come to `into`; 0 when the server has closed.
    pub async fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        // More than a reply needs: a read that fills less than the buffer tells the runtime that the socket is empty.
        into.reserve(2048);
        match self {
            ClientStream::Plain(stream) => stream.read_buf(into).await,
            ClientStream::Tls(stream) => stream.read_buf(into).await,
        }
    }

    /// Writes all of `bytes`.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            ClientStream::Plain(stream) => stream.write_all(bytes).await,
            ClientStream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    /// Writes what it can of the slices, at least something; for as few system calls as possible.
    pub async fn write_some(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = match self {
            ClientStream::Plain(stream) => stream.write_vectored(slices).await?,
            ClientStream::Tls(stream) => stream.write_vectored(slices).await?,
        };
        if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
    }

    /// Gives the network what is still held back.
    pub async fn flush(&mut self) -> io::Result<()> {
        match self {
            ClientStream::Plain(_) => Ok(()),
            ClientStream::Tls(stream) => stream.flush().await,
        }
    }
}
