//! TLS by rustls with ring: the system's roots or a pinned file, and a client certificate where one is configured.
//!
//! Files are read at every connection, so a renewed certificate is used without a restart. Verification cannot be
//! switched off. Certificates are judged by a time that is given: the latest that is known.

use crate::{config::uplink::Tls, model::WallMs, uplink::broker::NoLink};
use rumqttc::tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
        time_provider::TimeProvider,
    },
};
use std::{path::Path, sync::Arc, time::Duration};

/// The time by which certificates are judged.
#[derive(Debug)]
struct JudgedAt(WallMs);

impl TimeProvider for JudgedAt {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.0.0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

/// `judged_at`: the machine's own clock may stand in 2016 until it has heard from a time server.
pub fn connector(tls: &Tls, judged_at: WallMs) -> Result<TlsConnector, NoLink> {
    let config = ClientConfig::builder_with_details(Arc::new(ring::default_provider()), Arc::new(JudgedAt(judged_at)))
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
