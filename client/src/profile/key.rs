//! Where a profile's key is: in the profile, behind an inherited descriptor, or with a helper
//! command. Never takes one from arguments or the environment, which other processes can read.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{OwnedFd, RawFd};
use std::process::Stdio;
use std::time::Duration;

use postern_shared::hex;
use postern_shared::knock::ClientKey;
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::text::Text;
use crate::error::Error;
use crate::process::FIRST_INHERITED;

/// A helper may have to ask an agent or a token, but ssh's user waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// 64 digits and some white space.
const MAX: u64 = 256;

const DESCRIPTOR: &str = "fd:";
const HELPER: &str = "command:";

/// The value of `key` in a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    Here(ClientKey),
    Descriptor(RawFd),
    /// What the shell runs, and which then prints the key.
    Helper(String),
}

impl KeySource {
    /// The inherited descriptor that [`get`](Self::get) will want.
    pub fn descriptor(&self) -> Option<RawFd> {
        match self {
            KeySource::Descriptor(fd) => Some(*fd),
            KeySource::Here(_) | KeySource::Helper(_) => None,
        }
    }

    pub async fn get(&self, inherited: Option<OwnedFd>) -> Result<ClientKey, Error> {
        let (origin, text) = match self {
            KeySource::Here(key) => return Ok(key.clone()),
            KeySource::Descriptor(fd) => {
                (format!("descriptor {fd}"), timeout(PATIENCE, drain(inherited)).await)
            }
            KeySource::Helper(command) => {
                ("its helper command".to_owned(), timeout(PATIENCE, run(command)).await)
            }
        };
        let refused =
            |why: &str| Error::Local(format!("cannot read the profile's key from {origin}: {why}"));
        let text = text
            .map_err(|_| refused(&format!("nothing within {} s", PATIENCE.as_secs())))?
            .map_err(|error| refused(&error.to_string()))?;
        let key = hex::decode(text.trim()).map(ClientKey::new);
        key.ok_or_else(|| refused("it is not 64 hex digits"))
    }
}

async fn drain(descriptor: Option<OwnedFd>) -> io::Result<Zeroizing<String>> {
    let descriptor = descriptor.ok_or_else(|| io::Error::other("it is not open"))?;
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = Zeroizing::new(String::new());
        File::from(descriptor).take(MAX).read_to_string(&mut text)?;
        Ok(text)
    });
    reading.await.map_err(io::Error::other)?
}

async fn run(command: &str) -> io::Result<Zeroizing<String>> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut text = Zeroizing::new(String::new());
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX).read_to_string(&mut text).await?;
    }
    let status = child.wait().await?;
    if !status.success() {
        return Err(io::Error::other(format!("it ended with {status}")));
    }
    Ok(text)
}

impl Text for KeySource {
    const FORM: &'static str = "64 hex digits, fd:N (N from 3), or command:…";

    fn read(text: &str) -> Option<KeySource> {
        if let Some(number) = text.strip_prefix(DESCRIPTOR) {
            let fd = number.parse().ok().filter(|fd| *fd >= FIRST_INHERITED);
            return fd.map(KeySource::Descriptor);
        }
        if let Some(command) = text.strip_prefix(HELPER) {
            return Some(KeySource::Helper(command.to_owned()));
        }
        hex::decode(text).map(ClientKey::new).map(KeySource::Here)
    }

    fn write(&self) -> Zeroizing<String> {
        match self {
            KeySource::Here(key) => hex::encode(key.expose()),
            KeySource::Descriptor(fd) => Zeroizing::new(format!("{DESCRIPTOR}{fd}")),
            KeySource::Helper(command) => Zeroizing::new(format!("{HELPER}{command}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const DIGITS: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn three_forms_and_nothing_else() {
        for good in [DIGITS, "fd:3", "fd:63", "command:pass show postern | head -1"] {
            let source = KeySource::read(good).expect(good);
            assert_eq!(*source.write(), good);
        }
        for bad in ["", "fd:", "fd:2", "fd:-1", "fd:x", &DIGITS[1..], "key"] {
            assert_eq!(KeySource::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", KeySource::read(DIGITS));
        assert_eq!(shown, "Some(Here(ClientKey(…)))");
    }

    #[tokio::test]
    async fn a_helper_prints_the_key() {
        let helper = KeySource::Helper(format!("echo {DIGITS}"));
        let key = helper.get(None).await.expect("a key");
        assert_eq!(*hex::encode(key.expose()), DIGITS);
    }

    #[tokio::test]
    async fn a_helper_that_fails_is_named_and_not_quoted() {
        for (command, why) in [
            ("echo secret; exit 3", "it ended with exit status: 3"),
            ("echo secret", "it is not 64 hex digits"),
            ("yes secret", "it ended with"),
        ] {
            let helper = KeySource::Helper(command.to_owned());
            let error = helper.get(None).await.expect_err(command).to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_descriptor_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().expect("a pipe");
        writeln!(writer, "{DIGITS}").expect("room");
        drop(writer);
        let source = KeySource::Descriptor(3);
        let key = source.get(Some(reader.into())).await.expect("a key");
        assert_eq!(*hex::encode(key.expose()), DIGITS);
        assert!(source.get(None).await.is_err());
    }
}
