#![expect(clippy::disallowed_methods, reason = "edge: reads certificate files")]
//! What a TLS server of ours shows: a certificate and key from a PEM file, or a self-signed pair made on the spot.
//!
//! TLS 1.2 and 1.3, `ring` as the provider, no process-wide default involved. A self-signed certificate is enough for
//! opportunistic TLS (RFC 7435), where clients do not verify; it lives as long as the process. Errors name the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// The file can't be read.
    #[error("{file}: can't be read: {cause}")]
    Read {
        /// Which one.
        file: PathBuf,
        /// What the system said.
        cause: std::io::Error,
    },
    /// The file is not what was expected.
    #[error("{file}: {what} (a PEM file with the certificate chain, own certificate first, and the private key)")]
    Content {
        /// Which one.
        file: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Certificate and key do not go together, or the key is of a kind that is not supported.
    #[error("{file}: certificate and key can't be used: {cause}")]
    Unusable {
        /// Which one.
        file: PathBuf,
        /// What rustls said.
        cause: rustls::Error,
    },
    /// A self-signed certificate could not be made.
    #[error("can't make a self-signed certificate for {names:?}: {cause}")]
    SelfSigned {
        /// For these names.
        names: Vec<String>,
        /// Why.
        cause: String,
    },
}

/// From the PEM file that is configured, or self-signed for `host_names`.
pub fn server_config(pem: Option<&Path>, host_names: &[String]) -> Result<Arc<ServerConfig>, ServerTlsError> {
    match pem {
        Some(file) => from_pem(file),
        None => self_signed(host_names),
    }
}

fn from_pem(file: &Path) -> Result<Arc<ServerConfig>, ServerTlsError> {
    let text = std::fs::read(file).map_err(|cause| ServerTlsError::Read { file: file.into(), cause })?;
    let bad = |what: &str, e: &dyn std::fmt::Display| ServerTlsError::Content {
        file: file.into(),
        what: format!("no {what} found: {e}"),
    };
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|e| bad("certificate", &e))?;
    if chain.is_empty() {
        return Err(bad("certificate", &"there is no such section"));
    }
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|e| bad("private key", &e))?;
    build(chain, key).map_err(|cause| ServerTlsError::Unusable { file: file.into(), cause })
}

fn self_signed(host_names: &[String]) -> Result<Arc<ServerConfig>, ServerTlsError> {
    let failed = |cause: String| ServerTlsError::SelfSigned { names: host_names.to_vec(), cause };
    let pair = rcgen::generate_simple_self_signed(host_names.to_vec()).map_err(|e| failed(e.to_string()))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.signing_key.serialize_der()));
    build(vec![pair.cert.der().clone()], key).map_err(|e| failed(e.to_string()))
}

fn build(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pem_file_with_certificate_and_key_is_taken_in_any_order() {
        let pair = rcgen::generate_simple_self_signed(["mx.example.com".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pair.signing_key.serialize_pem() + &pair.cert.pem()).unwrap();
        server_config(Some(file.path()), &[]).unwrap();
    }

    #[test]
    fn without_a_file_there_is_a_certificate_of_our_own() {
        server_config(None, &["mx.example.com".into()]).unwrap();
    }

    #[test]
    fn a_file_without_key_and_one_that_is_missing_are_named() {
        let pair = rcgen::generate_simple_self_signed(["mx.example.com".to_owned()]).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pair.cert.pem()).unwrap();
        let error = server_config(Some(file.path()), &[]).unwrap_err().to_string();
        assert!(error.contains("no private key found") && error.contains(file.path().to_str().unwrap()), "{error}");
        let error = server_config(Some(Path::new("/no/such.pem")), &[]).unwrap_err().to_string();
        assert!(error.starts_with("/no/such.pem: can't be read"), "{error}");
    }
}
