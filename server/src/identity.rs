//! The key pair by which clients of the hello carrier know this server: made once, kept in the state
//! directory, and pinned in every invite. Never replaces a key that is there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use postern_shared::hello::HostName;
use rcgen::KeyPair;
use zeroize::Zeroizing;

use crate::certificate::self_signed;
use crate::complaint::Complaint;
use crate::gate::store::{Lock, replace};
use crate::tls::Identity;

/// Reads `identity.crt` and `identity.key`, or makes them; `name` is what the certificate calls itself,
/// which only clients get to see.
pub fn open(state: &Path, name: Option<&HostName>) -> Result<Identity, Complaint> {
    let files = Files { certificate: state.join("identity.crt"), key: state.join("identity.key") };
    let _lock = Lock::take(&files.key)?;
    if !files.certificate.exists() {
        files.make(name.map_or("posternd", HostName::as_str))?;
    }
    Identity::load(&files.certificate, &files.key).map_err(|error| {
        let what =
            format!("{error}; without the two files new ones are made, and clients must join anew");
        Complaint::file(&files.key, what)
    })
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn make(&self, name: &str) -> Result<(), Complaint> {
        let unmade = |what: String| Complaint::file(&self.key, format!("cannot be made: {what}"));
        // A key without its certificate is what a crash between the two leaves.
        let key = match std::fs::read_to_string(&self.key).map(Zeroizing::new) {
            Ok(pem) => KeyPair::from_pem(&pem),
            Err(error) if error.kind() == ErrorKind::NotFound => KeyPair::generate(),
            Err(error) => return Err(unmade(error.to_string())),
        };
        let key = key.map_err(|error| unmade(error.to_string()))?;
        let certificate =
            self_signed(&[name.to_owned()], &key).map_err(|error| unmade(error.to_string()))?;
        replace(&self.key, &Zeroizing::new(key.serialize_pem()))
            .and_then(|()| replace(&self.certificate, &certificate.pem()))
            .map_err(|error| unmade(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn made_once_and_for_its_owner_alone() {
        let state = tempfile::tempdir().expect("a directory");
        let pin = open(state.path(), None).expect("made").pin();
        assert_eq!(open(state.path(), None).expect("read").pin(), pin);
        let key = state.path().join("identity.key");
        assert_eq!(fs::metadata(&key).expect("there").mode() & 0o777, 0o600);
        fs::remove_file(state.path().join("identity.crt")).expect("removed");
        assert_eq!(open(state.path(), None).expect("made again").pin(), pin);
        fs::write(&key, "no key").expect("written");
        let complaint = open(state.path(), None).expect_err("unusable").to_string();
        assert!(complaint.contains("identity.key"), "{complaint}");
    }
}
