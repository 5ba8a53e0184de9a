//! TLS by rustls with ring: the system's roots or a pinned file, and a client certificate where one is configured.
//!
//! Files are read at every connection, so a renewed certificate is used without a restart. Verification cannot be
//! switched off.

use crate::{config::uplink::Tls, uplink::broker::NoLink};
use rumqttc::tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    },
};
use std::{path::Path, sync::Arc};

pub fn connector(tls: &Tls) -> Result<TlsConnector, NoLink> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| NoLink::Tls(e.to_string()))?
        .with_root_certificates(roots(tls.ca.as_deref())?);
    let config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => config.with_client_auth_cert(certificates(cert)?, private_key(key)?).map_err(|e| bad(cert, e))?,
        _ => config.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

pub fn server_name(host: &str) -> Result<ServerName<'static>, NoLink> {
    ServerName::try_from(host.to_owned()).map_err(|_| NoLink::Tls(format!("{host} is neither a host name nor an address")))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, NoLink> {
    let mut roots = RootCertStore::empty();
    let (certificates, source) = match ca {
        Some(path) => (certificates(path)?, path.display().to_string()),
        None => (rustls_native_certs::load_native_certs().certs, "the system's certificates (package ca-certificates)".into()),
    };
    // Some of the system's roots may be unusable; a store without any cannot verify anything.
    let (usable, _) = roots.add_parsable_certificates(certificates);
    if usable == 0 { Err(NoLink::Tls(format!("no usable root certificate in {source}"))) } else { Ok(roots) }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, NoLink> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|e| bad(path, e))?;
    if found.is_empty() { Err(bad(path, "no certificate in it")) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, NoLink> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| bad(path, e))
}

fn bad(path: &Path, why: impl std::fmt::Display) -> NoLink {
    NoLink::Tls(format!("{}: {why}", path.display()))
}
