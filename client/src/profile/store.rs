//! The directory of profiles. Never reads one that others could have read or written.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Profile;
use crate::error::Error;
use crate::files;
use crate::names::ProfileName;

const EXTENSION: &str = "toml";

/// All profiles of this user.
pub struct Store {
    dir: PathBuf,
}

impl Store {
    pub fn open() -> Result<Store, Error> {
        Ok(Store { dir: files::config_dir()? })
    }

    pub fn file(&self, name: &ProfileName) -> PathBuf {
        self.dir.join(format!("{name}.{EXTENSION}"))
    }

    pub fn load(&self, name: &ProfileName) -> Result<Profile, Error> {
        let file = self.file(name);
        match read(&file)? {
            Some(text) => {
                let profile = Profile::from_toml(&text, &file)?;
                // ssh runs us in any directory.
                let ca = profile.ca.map(|ca| self.dir.join(ca));
                Ok(Profile { ca, ..profile })
            }
            None => Err(Error::Local(format!(
                "no profile {name} ({} is not there); make it with: postern join {name} < invite",
                file.display()
            ))),
        }
    }

    /// Writes a profile; one that holds another key only if `force` says so.
    pub fn save(
        &self,
        name: &ProfileName,
        profile: &Profile,
        force: bool,
    ) -> Result<PathBuf, Error> {
        let file = self.file(name);
        if !force && file.exists() && !self.load(name).is_ok_and(|old| old.key == profile.key) {
            return Err(Error::Local(format!(
                "{} exists and holds another key; give another name, or --force to replace it",
                file.display()
            )));
        }
        files::make_dir(&self.dir)
            .and_then(|()| files::replace(&file, profile.to_toml().as_bytes(), files::PRIVATE))
            .map_err(|error| Error::Local(format!("cannot write {}: {error}", file.display())))?;
        Ok(file)
    }

    /// The names of all profiles, sorted.
    pub fn names(&self) -> Result<Vec<ProfileName>, Error> {
        let cannot = |error| Error::Local(format!("cannot read {}: {error}", self.dir.display()));
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(cannot)?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(cannot)?.path();
            let is_profile = path.extension().is_some_and(|extension| extension == EXTENSION);
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let Some(Ok(name)) = stem.filter(|_| is_profile).map(str::parse) {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }
}

/// `None` if there is no such file.
fn read(file: &Path) -> Result<Option<Zeroizing<String>>, Error> {
    let shown = file.display();
    let cannot = |error| Error::Local(format!("cannot read {shown}: {error}"));
    let mut opened = match File::open(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(cannot)?,
    };
    // Of what was opened, not of what the name may mean by now.
    let metadata = opened.metadata().map_err(cannot)?;
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        return Err(Error::Local(format!(
            "{shown} belongs to user {}, not to you; run: chown {me} {shown}",
            metadata.uid()
        )));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(Error::Local(format!(
            "{shown} holds a key and is open to others (mode {mode:04o}); run: chmod 600 {shown}"
        )));
    }
    let mut text = Zeroizing::new(String::new());
    opened.read_to_string(&mut text).map_err(cannot)?;
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use postern_shared::knock::ClientKey;

    use super::*;
    use crate::profile::KeySource;
    use crate::profile::tests::invite;

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().expect("a directory");
        let dir = temp.path().join("postern");
        (temp, Store { dir })
    }

    fn bob() -> (ProfileName, Profile) {
        let profile = Profile::from_invite(invite()).expect("a right invite");
        ("bob".parse().expect("a name"), profile)
    }

    #[test]
    fn what_is_saved_is_loaded_and_listed() {
        let (_temp, store) = store();
        let (name, profile) = bob();
        assert_eq!(store.names().expect("nothing yet"), []);
        let file = store.save(&name, &profile, false).expect("saved");
        assert_eq!(files::mode(&file), Some(0o600));
        assert_eq!(store.load(&name).expect("it is there"), profile);
        fs::write(file.with_extension("toml~"), "").expect("a stray file");
        assert_eq!(store.names().expect("one"), [name]);
    }

    #[test]
    fn a_profile_open_to_others_is_refused() {
        let (_temp, store) = store();
        let (name, profile) = bob();
        let file = store.save(&name, &profile, false).expect("saved");
        for mode in [0o640, 0o604, 0o620, 0o610] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).expect("ours");
            let error = store.load(&name).expect_err("too wide").to_string();
            assert!(error.contains(&format!("run: chmod 600 {}", file.display())), "{error}");
        }
        fs::set_permissions(&file, Permissions::from_mode(0o400)).expect("ours");
        assert!(store.load(&name).is_ok());
    }

    #[test]
    fn another_key_is_replaced_only_by_force() {
        let (_temp, store) = store();
        let (name, profile) = bob();
        let other = Profile { key: KeySource::Here(ClientKey::new([9; 32])), ..profile.clone() };
        let moved = Profile { port: profile.port.saturating_add(1), ..profile.clone() };
        store.save(&name, &profile, false).expect("saved");
        store.save(&name, &moved, false).expect("the same key may move");
        assert!(store.save(&name, &other, false).is_err());
        store.save(&name, &other, true).expect("forced");
        fs::write(store.file(&name), "not a profile").expect("ours");
        assert!(store.save(&name, &profile, false).is_err(), "who knows what this was");
    }

    #[test]
    fn a_profile_that_is_not_there_says_how_to_make_it() {
        let (_temp, store) = store();
        let error = store.load(&bob().0).expect_err("nothing there").to_string();
        assert!(error.contains("postern join bob < invite"), "{error}");
    }
}
