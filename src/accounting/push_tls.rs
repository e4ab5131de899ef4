//! TLS towards webhooks and brokers: the certificate must verify, by the system's authorities or by those of
//! `tls-ca-file`.
#![expect(clippy::disallowed_methods, reason = "edge: CA files")]

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// The configuration, or why there is none. `needed`: without any authority nothing can be trusted.
pub(super) fn client(ca_file: Option<&Path>, needed: bool) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let fail = |why: &dyn std::fmt::Display| format!("tls-ca-file {}: {why}", path.display());
            let pem = std::fs::read(path).map_err(|e| fail(&e))?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                roots.add(certificate.map_err(|e| fail(&e))?).map_err(|e| fail(&e))?;
            }
            if roots.is_empty() {
                return Err(fail(&"no certificate in it"));
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            if roots.is_empty() && needed {
                let why = found.errors.first().map(ToString::to_string).unwrap_or_default();
                return Err(format!("this machine has no trusted certificates; name some with tls-ca-file {why}"));
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}
