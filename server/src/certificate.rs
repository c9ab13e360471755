//! Self-signed certificates, for pinning and for tests. Never overwrites a key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use postern_shared::hello::HostName;
use postern_shared::pin::Pin;
use rcgen::{Certificate, CertificateParams, DnType, KeyPair, PublicKeyData};
use zeroize::Zeroizing;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{0:?} is not a host name")]
    Name(String),
    #[error("{} exists already and is not overwritten{}", path.display(), hint(path))]
    Exists { path: PathBuf },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: not a usable key: {source}", path.display())]
    Key { path: PathBuf, source: rcgen::Error },
    #[error("no certificate could be made: {0}")]
    Make(#[from] rcgen::Error),
}

fn hint(path: &Path) -> &'static str {
    if path.extension().is_some_and(|extension| extension == "key") {
        "; --reuse-key makes a new certificate for it"
    } else {
        ""
    }
}

/// Makes `tls.crt` and `tls.key` in `out`; answers the pin of the public key. With `reuse_key` the key
/// that is there keeps its pin, and only the certificate is made anew.
pub fn make(names: &[String], out: &Path, reuse_key: bool) -> Result<Pin, CertificateError> {
    for name in names {
        HostName::parse(name.as_bytes()).ok_or_else(|| CertificateError::Name(name.clone()))?;
    }
    let (certificate_path, key_path) = (out.join("tls.crt"), out.join("tls.key"));
    fs::create_dir_all(out)
        .map_err(|source| CertificateError::File { path: out.to_owned(), source })?;
    let key = if reuse_key {
        let read = fs::read_to_string(&key_path).map(Zeroizing::new);
        let pem =
            read.map_err(|source| CertificateError::File { path: key_path.clone(), source })?;
        KeyPair::from_pem(&pem)
            .map_err(|source| CertificateError::Key { path: key_path.clone(), source })?
    } else {
        if certificate_path.exists() {
            return Err(CertificateError::Exists { path: certificate_path });
        }
        KeyPair::generate()?
    };
    let certificate = self_signed(names, &key)?;

    if reuse_key {
        write(&certificate_path, &certificate.pem(), 0o644, true)?;
    } else {
        write(&key_path, &Zeroizing::new(key.serialize_pem()), 0o600, false)?;
        write(&certificate_path, &certificate.pem(), 0o644, false)?;
    }
    Ok(Pin::of(&key.subject_public_key_info()))
}

/// A certificate for these names, which must be host names.
pub fn self_signed(names: &[String], key: &KeyPair) -> Result<Certificate, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    let subject = names.first().map_or("posternd", String::as_str);
    params.distinguished_name.push(DnType::CommonName, subject);
    params.self_signed(key)
}

fn write(path: &Path, text: &str, mode: u32, replace: bool) -> Result<(), CertificateError> {
    let mut options = OpenOptions::new();
    options.write(true).mode(mode);
    if replace {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let written = options.open(path).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    let path = path.to_owned();
    written.map_err(|source| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            CertificateError::Exists { path }
        } else {
            CertificateError::File { path, source }
        }
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::tls::Inward;

    #[test]
    fn made_once_and_renewed_under_the_same_pin() {
        let dir = tempfile::tempdir().expect("a directory");
        let names = ["ssh.example.com".to_owned()];
        let pin = make(&names, dir.path(), false).expect("made");
        let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
        assert_eq!(fs::metadata(&key).expect("there").mode() & 0o777, 0o600);
        assert!(matches!(make(&names, dir.path(), false), Err(CertificateError::Exists { .. })));

        let loaded = Inward::load(&certificate, &key, false).expect("usable");
        assert_eq!(loaded.pin_for_invites(), Some(pin), "self-signed, so pinned");
        let old = fs::read(&certificate).expect("read");
        assert_eq!(make(&names, dir.path(), true).expect("renewed"), pin);
        assert_ne!(fs::read(&certificate).expect("read"), old);
    }

    #[test]
    fn names_are_host_names() {
        let dir = tempfile::tempdir().expect("a directory");
        let bad = ["not a name".to_owned()];
        assert!(matches!(make(&bad, dir.path(), false), Err(CertificateError::Name(_))));
    }
}
