//! Whom an encrypted connection trusts.

use crate::{Error, Result};
use std::path::Path;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

/// The authorities of a file of PEM certificates, or without a file those that Mozilla trusts, which are compiled in.
/// A network that looks into encrypted connections has an authority of its own, which only the machine knows.
pub(crate) fn trusting(file: Option<&Path>) -> Result<TlsConfig> {
    let Some(file) = file else { return Ok(TlsConfig::default()) };
    let fail = |cause: String| Error::Setting {
        name: "SSL_CERT_FILE",
        cause: format!("{}: {cause}", file.display()),
        hint: "name a file of PEM certificates, such as /etc/ssl/certs/ca-certificates.crt, or unset it",
    };
    let bytes = std::fs::read(file).map_err(|cause| fail(latentrace_files::said(&cause)))?;
    let mut certificates: Vec<Certificate<'static>> = Vec::new();
    for item in parse_pem(&bytes) {
        if let PemItem::Certificate(certificate) = item.map_err(|cause| fail(cause.to_string()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(fail("no certificate in this file".into()));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(certificates))).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_is_told() {
        assert!(trusting(None).is_ok());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        let error = || trusting(Some(&file)).unwrap_err().to_string();
        assert!(error().contains("ca.pem: no such file\nhint: name a file of PEM certificates"), "{}", error());
        std::fs::write(&file, "something else\n").unwrap();
        assert!(
            error().starts_with("SSL_CERT_FILE: ") && error().contains("no certificate in this file"),
            "{}",
            error()
        );
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
        assert!(error().contains("\nhint: "), "{}", error());
        std::fs::write(&file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
        let tls = trusting(Some(&file)).unwrap();
        assert!(matches!(tls.root_certs(), RootCerts::Specific(all) if all.len() == 1));
    }
}
